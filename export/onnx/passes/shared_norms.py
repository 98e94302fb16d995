"""Folding of the batch norms of residual nets: those of sums, which the next block's shortcut reads too.

    x ─┬─ batch norm ─ activation ─ …           x′ ─┬─ activation ─ …
       └─ 1×1 convolution ─ …                       └─ 1×1 convolution of another weight ─ …

Whatever makes x, a layer or the sum of two, makes x′ = g · x + b instead, gain and offset in its weights and biases; a
1×1 convolution that reads x takes the way back, x = (x′ − b) / g, into its own. It has no padding, whose zeros would
have to become b.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx

from ganzoo.export.onnx.passes.batch_norm import Affine, affine_of, into_convolution, into_dense
from ganzoo.export.onnx.passes.graph import Array, Graph, Shape, attribute
from ganzoo.export.onnx.passes.reshapes import merge_reshapes

_FLAT = ("Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity")  # the elements stay in their order
_LARGEST_SHIFT = 64.0


def fold_shared_batch_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with batch norms folded also where their input is a sum, and where 1×1 convolutions read it too.

    A batch norm stays where another kind of node reads its input, where a gain is zero, and where an offset is so large
    beside the tensor that taking it off again would cost digits.

    Args:
        model: float32, after `fold_batch_norms`.
    """
    graph = Graph(model)
    for node in list(graph.nodes):
        if node.op_type == "BatchNormalization":
            _fold(graph, node)
    merge_reshapes(graph)
    return graph.to_model()


def _fold(graph: Graph, norm: onnx.NodeProto) -> None:
    name, affine = norm.input[0], affine_of(graph, norm)
    shape = graph.shape(name)
    if affine is None or shape is None or len(shape) != 4 or name in graph.outputs:
        return
    readers = [node for node in graph.nodes if name in node.input and node is not norm]
    makers = list(_makers(graph, name, 1 + len(readers)))
    if not makers or None in makers or not all(_goes_back(graph, node, name) for node in readers):
        return
    gain, offset = affine.gain.reshape(-1), affine.offset.reshape(-1)
    if readers and not _is_reversible(graph, norm, gain, offset):
        return
    saved, nodes = dict(graph.constants), [_copy(node) for node in graph.nodes]
    still = Affine(affine.gain, np.zeros_like(affine.offset))
    for index, maker in enumerate(makers):
        if maker is None or not _into(graph, maker, affine if index == 0 else still, shape):
            graph.constants, graph.nodes = saved, nodes
            return
    for node in readers:
        _take_back(graph, node, gain, offset)
    graph.remove(norm)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied


def _makers(graph: Graph, name: str, readers: int) -> Iterator[onnx.NodeProto | None]:
    """Yield the linear layers whose sum a tensor is; None for what is none, or is read elsewhere too."""
    source = graph.producer(name)
    if source is None or graph.readers(name) != readers or name in graph.outputs:
        yield None
    elif source.op_type == "Add" and not any(one in graph.constants for one in source.input):
        for one in source.input:
            yield from _makers(graph, one, 1)
    elif source.op_type in _FLAT or (source.op_type == "Resize" and _is_average(source)):
        yield from _makers(graph, source.input[0], 1)
    else:
        yield source if source.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") else None


def _is_average(resize: onnx.NodeProto) -> bool:
    """Whether every pixel is an average of given ones, so that gains and offsets go through."""
    mode = attribute(resize, "coordinate_transformation_mode", "half_pixel")
    return mode != "tf_crop_and_resize" and attribute(resize, "mode", "nearest") in ("nearest", "linear")


def _into(graph: Graph, node: onnx.NodeProto, affine: Affine, shape: Shape) -> bool:
    channels = affine.gain.size
    if node.op_type in ("Conv", "ConvTranspose"):
        return into_convolution(graph, node, affine, (channels, 1, 1))
    sides = tuple(int(side or 0) for side in shape[1:])
    made = graph.shape(node.output[0])
    if made is None or made[-1] != math.prod(sides):
        return False
    return into_dense(graph, node, affine, sides)


def _goes_back(graph: Graph, node: onnx.NodeProto, name: str) -> bool:
    """Whether a node is a 1×1 convolution of a tensor that can take the way back."""
    weight = graph.constant(node.input[1]) if node.op_type == "Conv" and len(node.input) > 1 else None
    biased = len(node.input) > 2 and bool(node.input[2])
    if weight is None or weight.dtype != np.float32 or node.input[0] != name:
        return False
    if biased and graph.constant(node.input[2]) is None:
        return False
    plain = attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID") and not any(attribute(node, "pads", ()))
    return plain and weight.shape[2:] == (1, 1) and attribute(node, "group", 1) == 1


def _is_reversible(graph: Graph, norm: onnx.NodeProto, gain: Array, offset: Array) -> bool:
    """Whether x can be had back from g · x + b to its own digits: b / g is not far beyond what x is."""
    mean, variance = (graph.constants[one].astype(np.float64) for one in norm.input[3:5])
    usual = np.abs(mean) + np.sqrt(variance + float(attribute(norm, "epsilon", 1e-5)))
    return bool((np.abs(offset) <= _LARGEST_SHIFT * usual * np.abs(gain)).all() and gain.all())


def _take_back(graph: Graph, node: onnx.NodeProto, gain: Array, offset: Array) -> None:
    """Let a 1×1 convolution read x′ = g · x + b and give what it gave of x."""
    weight = graph.constants[node.input[1]].astype(np.float64) / gain[None, :, None, None]
    bias = graph.constants[node.input[2]].astype(np.float64) if len(node.input) > 2 and node.input[2] else 0.0
    bias = bias - weight[:, :, 0, 0] @ offset
    node.input[:] = [
        node.input[0],
        graph.add_constant("weight", weight.astype(np.float32)),
        graph.add_constant("bias", bias.astype(np.float32)),
    ]
