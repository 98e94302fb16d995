"""int8 for processors: static quantisation in QDQ form, laid out so that ONNX Runtime's int8 kernels take all of it.

    activations   uint8, one scale and zero point a tensor, so that they span what the calibration saw
    weights       int8, symmetric, one scale an output channel
    biases        int32, scale of the input × scale of the weights

Convolutions and dense layers run in int8, and so does what only moves elements between them (Concat, Reshape,
Transpose, DepthToSpace, Slice): all tensors around such an operator share one scale, so that nothing is converted. ONNX
Runtime has no int8 transposed convolution, and would convert back and forth around a float32 one: run `passes.subpixel`
first.

Images depend on z finely: 8 bits of it cost single images up to 13 dB of PSNR. So a layer that reads z reads it as the
sum of two uint8 tensors, 16 bits in all.

uint8 × int8 is the pair that x86 has instructions for; ONNX Runtime's kernels of other pairs take 2 to 6 times as long.
Without VNNI two such products are added in 16 bits, which overflow where both weights are large; weights are scaled so
that no two neighbours can overflow, so that a file draws the same images on older processors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx

from ganzoo.errors import GanzooError
from ganzoo.export.onnx.passes.graph import Array, Graph, attribute, rename_reads
from ganzoo.export.onnx.quantization.layout import channels_last
from ganzoo.export.onnx.quantization.ranges import Scale, measure_ranges, scale_of

_MOVES = ("Concat", "DepthToSpace", "Flatten", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_FUSED = ("Relu",)  # by runtimes into the layer before it
_PLAIN_GEMM = (("alpha", 1.0), ("beta", 1.0), ("transA", 0))
_WEIGHT_LEVELS = 127  # on either side of zero
_TANH_BOUND = 3.2  # tanh(3.2) = 0.9967, half a level of 255 below 1: nothing beyond can be seen
_MAX_BIAS = float(1 << 30)
_HEADROOM = 2.0  # of z beyond the calibration's: 16 bits are fine enough, and a normal z has no largest value


def quantize(model: onnx.ModelProto, calibration: Iterable[Mapping[str, Array]]) -> onnx.ModelProto:
    """Return the model in int8, with QuantizeLinear and DequantizeLinear around its layers.

    The same model and calibration give the same bytes after `passes.clean`.

    Args:
        model: float32, after `passes.fold_batch_norms` and `passes.subpixel`.
        calibration: inputs by name, in batches: latents (and labels) on which the ranges of activations are measured.

    Raises:
        GanzooError: the graph has no layer to quantise, the calibration is empty or does not fit its inputs, or
            it draws NaN or Inf.
    """
    graph = Graph(channels_last(model))
    layers = [node for node in graph.nodes if _is_layer(graph, node)]
    if not layers:
        raise GanzooError("The graph has no layer with constant weights, so that int8 would change nothing.")
    first = [node for node in layers if node.op_type == "Gemm" and _reads_inputs(graph, node)]
    later = [node for node in layers if node not in first]
    movers = _movers(graph, later)
    groups = _groups(graph, later, movers)
    names = [name for group in groups for name in group]
    ranges = measure_ranges(graph.to_model(), [*names, *(node.input[0] for node in first)], calibration)
    scales: dict[str, Scale] = {}
    for group in groups:
        scales.update(dict.fromkeys(group, _scale(graph, group, ranges)))
    made = [*(_result(graph, node) for node in later), *(node.output[0] for node in movers)]
    for node in first:
        bound = _HEADROOM * max(abs(side) for side in ranges[node.input[0]])
        _read_finely(graph, node, scale_of(-bound, bound))
    for node in later:
        _quantize_constants(graph, node, scales[node.input[0]].step)
    for name in names:
        _insert(graph, name, scales[name], None if name in made else [*later, *movers])
    return graph.to_model()


def _scale(graph: Graph, group: list[str], ranges: dict[str, tuple[float, float]]) -> Scale:
    """Return the scale that tensors share."""
    low, high = min(ranges[name][0] for name in group), max(ranges[name][1] for name in group)
    readers = [node.op_type for node in graph.nodes if any(name in group for name in node.input)]
    if "Tanh" in readers and all(kind == "Tanh" or kind in _MOVES for kind in readers):
        low, high = max(low, -_TANH_BOUND), min(high, _TANH_BOUND)
    scale = scale_of(low, high)
    if any(ranges[name] == (0.0, 1.0) for name in group) and scale.step < 1.0:  # classes stay exactly 0 and 1
        scale = Scale(1.0 / int(1.0 / scale.step), scale.zero_point)
    return scale


def _is_layer(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return whether a node is a convolution or dense layer with constant float32 weights, as kernels know it."""
    if node.op_type not in ("Conv", "Gemm") or node.input[0] in graph.constants:
        return False
    weight, *others = [graph.constant(name) for name in node.input[1:] if name]
    if any(value is None or value.dtype != np.float32 for value in (weight, *others)) or weight is None:
        return False
    if node.op_type == "Conv":
        return weight.ndim == 4
    plain = all(attribute(node, name, default) == default for name, default in _PLAIN_GEMM)
    units = weight.shape[_output_axis(node)]
    return plain and all(bias is not None and bias.shape == (units,) for bias in others)


def _output_axis(node: onnx.NodeProto) -> int:
    """Return the axis of a layer's weights that its output channels lie along."""
    return 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1


def _reads_inputs(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return whether no layer lies between a node and the inputs of the graph."""
    names, seen = [node.input[0]], {""}
    while names:
        name = names.pop()
        source = graph.producer(name)
        if name in seen or source is None:
            continue
        if source.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            return False
        seen.add(name)
        names.extend(source.input)
    return True


def _movers(graph: Graph, layers: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return the nodes that only move elements on their way to layers, or of nothing but what layers made."""
    found: list[onnx.NodeProto] = []
    names = [node.input[0] for node in layers]
    while names:
        source = graph.producer(names.pop())
        if source is not None and source.op_type in _MOVES and source not in found:
            found.append(source)
            names.extend(_moved(source))
    made = {_result(graph, node) for node in layers} | {node.output[0] for node in found}
    for node in graph.nodes:
        if node.op_type in _MOVES and node not in found and made.issuperset(_moved(node)):
            found.append(node)
            made.add(node.output[0])
    return found


def _moved(node: onnx.NodeProto) -> list[str]:
    return list(node.input if node.op_type == "Concat" else node.input[:1])


def _groups(graph: Graph, layers: list[onnx.NodeProto], movers: list[onnx.NodeProto]) -> list[list[str]]:
    """Return the tensors that become uint8; those around an operator that only moves elements are together."""
    leader: dict[str, str] = {}

    def group_of(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for node in movers:
        for name in _moved(node):
            leader[group_of(name)] = group_of(node.output[0])
    wanted = {group_of(name) for node in layers for name in (node.input[0], _result(graph, node))}
    members: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for node in graph.nodes for name in (*node.input, *node.output)):
        if name not in graph.constants and group_of(name) in wanted:
            members.setdefault(group_of(name), []).append(name)
    return list(members.values())


def _result(graph: Graph, node: onnx.NodeProto) -> str:
    """Return the name of what a layer gives in the end: with the activation that is fused into it."""
    reader = graph.sole_reader(node.output[0])
    return str(reader.output[0] if reader is not None and reader.op_type in _FUSED else node.output[0])


def _quantize_constants(graph: Graph, node: onnx.NodeProto, input_step: float) -> None:
    """Let a layer read its weights and bias from integers."""
    weight = graph.constants[node.input[1]].astype(np.float64)  # (out, in / group, height, width), or a matrix
    bias = graph.constants[node.input[2]].astype(np.float64) if len(node.input) > 2 and node.input[2] else None
    axis = _output_axis(node)
    rows = np.moveaxis(weight, axis, 0)
    steps = weight_steps(rows)
    if bias is not None:
        steps = np.maximum(steps, np.abs(bias) / (_MAX_BIAS * input_step))
    steps = steps.astype(np.float32)
    levels = np.rint(rows / steps.astype(np.float64).reshape(-1, *(1,) * (rows.ndim - 1)))
    levels = np.moveaxis(np.clip(levels, -_WEIGHT_LEVELS, _WEIGHT_LEVELS).astype(np.int8), 0, axis)
    operands = [node.input[0], _dequantized(graph, node, "weight", levels, steps, axis)]
    if bias is not None:
        bias_steps = steps * np.float32(input_step)
        bias_levels = np.rint(bias / bias_steps.astype(np.float64)).astype(np.int32)
        operands.append(_dequantized(graph, node, "bias", bias_levels, bias_steps, 0))
    node.input[:] = operands


def weight_steps(weight: Array) -> Array:
    """Return what one level of each output channel's weights stands for: (out,), float64.

    The largest weight has 127 levels, and so have two neighbours of the same sign together: then two products with 255
    stay below 2^15. Neighbours are elements 2i and 2i + 1 with the input channels last, as kernels read them.

    Args:
        weight: (out, in, height, width), or (out, in).
    """
    rows = np.moveaxis(weight.astype(np.float64), 1, -1).reshape(len(weight), -1)
    pairs = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).reshape(len(rows), -1, 2)
    together = np.where(pairs[..., 0] * pairs[..., 1] > 0, np.abs(pairs.sum(axis=-1)), 0.0)
    largest = np.maximum(np.abs(rows).max(axis=1), together.max(axis=1))
    return np.where(largest > 0, largest, _WEIGHT_LEVELS) / _WEIGHT_LEVELS


def _read_finely(graph: Graph, node: onnx.NodeProto, scale: Scale) -> None:
    """Quantise a dense layer whose input becomes the sum of two uint8 tensors: W·x + b = (W·coarse + b) + W·rest."""
    x, result = node.input[0], node.output[0]
    coarse, rest = graph.fresh("coarse"), graph.fresh("rest")
    fine = Scale(float(np.float32(scale.step / 127)), 128)  # spans a step to either side
    _quantize_constants(graph, node, scale.step)
    second = onnx.NodeProto()
    second.CopyFrom(node)
    second.input[:] = [graph.fresh("rest_after"), node.input[1]]
    second.output[0], node.output[0] = graph.fresh("of_rest"), graph.fresh("of_coarse")
    node.input[0] = coarse
    split = [
        *_round_trip(graph, x, coarse, scale),
        onnx.helper.make_node("Sub", [x, coarse], [rest]),
        *_round_trip(graph, rest, second.input[0], fine),
    ]
    total = onnx.helper.make_node("Add", [node.output[0], second.output[0]], [result])
    graph.replace(node, [*split, node, second, total])


def _round_trip(graph: Graph, before: str, after: str, scale: Scale) -> list[onnx.NodeProto]:
    """Return QuantizeLinear and DequantizeLinear between two tensors."""
    constants = [
        graph.add_constant("scale", np.array(scale.step, dtype=np.float32)),
        graph.add_constant("zero_point", np.array(scale.zero_point, dtype=np.uint8)),
    ]
    levels = graph.fresh("levels")
    return [
        onnx.helper.make_node("QuantizeLinear", [before, *constants], [levels]),
        onnx.helper.make_node("DequantizeLinear", [levels, *constants], [after]),
    ]


def _dequantized(graph: Graph, node: onnx.NodeProto, role: str, levels: Array, steps: Array, axis: int) -> str:
    """Add a constant and its DequantizeLinear before a node; return the name of the result."""
    operands = [
        graph.add_constant(role, levels),
        graph.add_constant(f"{role}_scale", steps),
        graph.add_constant(f"{role}_zero_point", np.zeros(steps.shape, dtype=levels.dtype)),
    ]
    made = onnx.helper.make_node("DequantizeLinear", operands, [graph.fresh(f"{role}_float")], axis=axis)
    graph.replace(node, [made, node])
    return str(made.output[0])


def _insert(graph: Graph, name: str, scale: Scale, readers: list[onnx.NodeProto] | None) -> None:
    """Put QuantizeLinear and DequantizeLinear between a tensor and what reads it.

    Args:
        readers: nodes that are to read it in int8, where others go on reading the tensor itself; None: all.
    """
    source = graph.producer(name)
    if readers is None and source is not None:
        before = graph.fresh(f"{name}_exact")
        source.output[list(source.output).index(name)] = before
        pair = _round_trip(graph, before, name, scale)
    else:
        after = graph.fresh(f"{name}_rounded")
        for node in readers or ():
            rename_reads(node, name, after)
        pair = _round_trip(graph, name, after, scale)
    if source is None:  # an input of the graph
        graph.nodes[:0] = pair
    else:
        graph.replace(source, [source, *pair])
