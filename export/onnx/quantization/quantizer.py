"""A float32 graph made an int8 one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import onnx

from ganzoo.errors import GanzooError
from ganzoo.export.onnx.passes.graph import Array, Graph
from ganzoo.export.onnx.quantization.activations import insert, read_finely
from ganzoo.export.onnx.quantization.groups import groups_of, is_layer, movers_of, moves, reads_inputs, result_of
from ganzoo.export.onnx.quantization.layout import channels_last
from ganzoo.export.onnx.quantization.ranges import Scale, measure_ranges, scale_of
from ganzoo.export.onnx.quantization.weights import quantize_constants, quantize_weights

_TANH_BOUND = 3.2  # tanh(3.2) = 0.9967, half a level of 255 below 1: nothing beyond can be seen
_HEADROOM = 2.0  # of z beyond the calibration's: 16 bits are fine enough, and a normal z has no largest value

Nodes = list[onnx.NodeProto]


class Quantizer:
    """A float32 model, and how large its activations become.

    Args:
        model: float32, after `passes.fold_batch_norms` and `passes.subpixel`; not changed.
        calibration: inputs by name, in batches: latents (and labels) on which the ranges of activations are measured.

    Raises:
        GanzooError: the graph has no layer to quantise, the calibration is empty or does not fit its inputs, or
            it draws NaN or Inf.
    """

    def __init__(self, model: onnx.ModelProto, calibration: Iterable[Mapping[str, Array]]) -> None:
        self._model = channels_last(model)
        graph = Graph(self._model)
        first, later = _layers(graph)
        if not first and not later:
            raise GanzooError("The graph has no layer with constant weights, so that int8 would change nothing.")
        groups = groups_of(graph, later, movers_of(graph, later))
        names = [*(name for group in groups for name in group), *(node.input[0] for node in first)]
        self._ranges = measure_ranges(self._model, names, calibration)
        self._work = [_work(graph, node) for node in later]

    def most_in_float(self, share: float) -> int:
        """Return how many layers from z on do together no more than a share of all multiplications."""
        done, whole = 0, sum(self._work)
        for count, work in enumerate(self._work):
            done += work
            if done > share * whole:
                return count
        return len(self._work)

    def quantized(self, in_float: int = 0) -> onnx.ModelProto:
        """Return the model in int8, with QuantizeLinear and DequantizeLinear around its layers.

        The same model and calibration give the same bytes after `passes.clean`.

        Args:
            in_float: how many layers after those that read z compute in float32, their weights alone in int8.
        """
        graph = Graph(self._model)
        first, layers = _layers(graph)
        for node in layers[:in_float]:
            quantize_weights(graph, node)
        later = layers[in_float:]
        movers = movers_of(graph, later)
        scales: dict[str, Scale] = {}
        for group in groups_of(graph, later, movers):
            scales.update(dict.fromkeys(group, self._scale(graph, group)))
        made = [*(result_of(graph, node) for node in later), *(node.output[0] for node in movers)]
        for node in first:
            bound = _HEADROOM * max(abs(side) for side in self._ranges[node.input[0]])
            read_finely(graph, node, scale_of(-bound, bound))
        for node in later:
            quantize_constants(graph, node, scales[node.input[0]].step)
        for name, scale in scales.items():
            insert(graph, name, scale, None if name in made else [*later, *movers])
        return graph.to_model()

    def _scale(self, graph: Graph, group: list[str]) -> Scale:
        """Return the scale that tensors share."""
        ranges = [self._ranges[name] for name in group]
        low, high = min(one[0] for one in ranges), max(one[1] for one in ranges)
        readers = [node for node in graph.nodes if any(name in group for name in node.input)]
        seen = {"mover" if moves(node) else node.op_type for node in readers}
        if "Tanh" in seen and seen <= {"Tanh", "mover"}:
            low, high = max(low, -_TANH_BOUND), min(high, _TANH_BOUND)
        scale = scale_of(low, high)
        if (0.0, 1.0) in ranges and scale.step < 1.0:  # classes stay exactly 0 and 1
            scale = Scale(1.0 / int(1.0 / scale.step), scale.zero_point)
        return scale


def _layers(graph: Graph) -> tuple[Nodes, Nodes]:
    """Return the dense layers that read the graph's inputs, and all other layers."""
    layers = [node for node in graph.nodes if is_layer(graph, node)]
    first = [node for node in layers if node.op_type == "Gemm" and reads_inputs(graph, node)]
    return first, [node for node in layers if node not in first]


def _work(graph: Graph, node: onnx.NodeProto) -> int:
    """Return how many multiplications a layer does for an image."""
    shape = graph.shape(node.output[0]) or ()
    return graph.constants[node.input[1]].size * math.prod(side or 1 for side in shape[2:])
