"""Folding of batch norms, and of other constant gains and offsets, into the linear layer before them.

In eval mode batch norm is y = g · (x − mean) / sqrt(variance + ε) + b, an affine map of each channel; the layer before
it is linear, so that gain and offset go into its weights and bias (in float64, rounded once).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from ganzoo.export.onnx.passes.graph import Array, Graph, attribute
from ganzoo.export.onnx.passes.reshapes import merge_reshapes

_SAME_ORDER = {"Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity"}  # the elements stay in their order
_EPSILON = 1e-5  # ONNX's default


@dataclass(frozen=True)
class Affine:
    """A map of each channel: y = gain · x + offset; both broadcast against x's shape without the batch, in float64."""

    gain: Array
    offset: Array


def fold_batch_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with every batch norm folded into the linear layer before it.

    Folded are BatchNormalization and Mul, Div, Add and Sub with a constant, where they follow Conv, ConvTranspose, Gemm
    or MatMul, also behind Reshape, Unsqueeze, Squeeze or Flatten: a norm per channel of a projection, or one per unit.
    What cannot be folded, because something else reads the layer's output too, stays as it is: `batch_norms` tells, and
    `fold_shared_batch_norms` goes on.

    Args:
        model: float32, its batch norms in inference mode.
    """
    graph = Graph(model)
    for node in list(graph.nodes):
        affine = affine_of(graph, node)
        if affine is not None and _fold(graph, node, affine):
            graph.remove(node)
    merge_reshapes(graph)
    return graph.to_model()


def batch_norms(model: onnx.ModelProto) -> list[str]:
    """Return the names of the batch norms that a model still has (or of what they make, where they have no name)."""
    return [node.name or node.output[0] for node in model.graph.node if node.op_type == "BatchNormalization"]


def affine_of(graph: Graph, node: onnx.NodeProto) -> Affine | None:
    """Return the gain and offset that a node is, or None for any other node."""
    if node.op_type == "BatchNormalization":
        return _batch_norm(graph, node)
    if node.op_type not in ("Mul", "Div", "Add", "Sub") or len(node.input) != 2:
        return None
    swapped = node.op_type in ("Mul", "Add") and graph.constant(node.input[0]) is not None
    if swapped:
        node.input[:] = [node.input[1], node.input[0]]
    given, shape = graph.constant(node.input[1]), graph.shape(node.input[0])
    if given is None or given.dtype != np.float32 or shape is None or given.ndim > len(shape):
        return None
    if given.ndim == len(shape):
        if given.shape[0] != 1:
            return None  # differs within the batch
        given = given[0]
    value, one, zero = given.astype(np.float64), np.float64(1.0), np.float64(0.0)
    if node.op_type == "Div" and not value.all():
        return None
    if node.op_type in ("Mul", "Div"):
        return Affine(value if node.op_type == "Mul" else one / value, np.asarray(zero))
    return Affine(np.asarray(one), value if node.op_type == "Add" else -value)


def _batch_norm(graph: Graph, node: onnx.NodeProto) -> Affine | None:
    values = [graph.constant(name) for name in node.input[1:5]]
    shape = graph.shape(node.input[0])
    if attribute(node, "training_mode", 0) or len(node.output) > 1 or shape is None:
        return None
    if any(value is None for value in values):
        return None
    gain, offset, mean, variance = (np.asarray(value, dtype=np.float64) for value in values)
    gain = gain / np.sqrt(variance + float(attribute(node, "epsilon", _EPSILON)))
    sides = (-1, *(1,) * (len(shape) - 2))
    return Affine(gain.reshape(sides), (offset - mean * gain).reshape(sides))


def _fold(graph: Graph, node: onnx.NodeProto, affine: Affine) -> bool:
    """Fold into the linear layer that `node` follows; return whether it could be done."""
    name = node.input[0]
    shape = graph.shape(name)
    while True:
        source = graph.producer(name)
        if source is None or graph.readers(name) != 1 or name in graph.outputs:
            return False
        if source.op_type not in _SAME_ORDER:
            break
        name = source.input[0]
    if shape is None or any(side is None for side in shape[1:]):
        sides = None
    else:
        sides = tuple(int(side or 0) for side in shape[1:])
    if source.op_type in ("Conv", "ConvTranspose"):
        return into_convolution(graph, source, affine, sides)
    if source.op_type in ("Gemm", "MatMul"):
        return into_dense(graph, source, affine, sides)
    return False


def into_dense(graph: Graph, node: onnx.NodeProto, affine: Affine, sides: tuple[int, ...] | None) -> bool:
    """Fold into a Gemm or MatMul whose output becomes images of these sides; return whether it could be done."""
    weight = graph.constant(node.input[1])
    inputs = graph.shape(node.input[0])
    if weight is None or weight.dtype != np.float32 or weight.ndim != 2:
        return False
    if node.op_type == "MatMul" and (inputs is None or len(inputs) != 2):
        return False
    units_last = not attribute(node, "transB", 0)  # (in, units), else (units, in)
    units = weight.shape[1 if units_last else 0]
    if sides is None or math.prod(sides) != units:  # so the batch stayed the first side
        return False
    bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1, dtype=np.float32)
    if bias is None or (bias.ndim == 2 and bias.shape[0] != 1):
        return False
    try:
        gain = np.broadcast_to(affine.gain, sides).reshape(units)
        offset = np.broadcast_to(affine.offset, sides).reshape(units)
    except ValueError:
        return False  # the node made its tensor larger
    scaled = weight.astype(np.float64) * (gain[None, :] if units_last else gain[:, None])
    old = bias.astype(np.float64).reshape(-1) * float(attribute(node, "beta", 1.0))
    dense = onnx.helper.make_node(
        "Gemm",
        [
            node.input[0],
            graph.add_constant("weight", scaled.astype(np.float32)),
            graph.add_constant("bias", (old * gain + offset).astype(np.float32)),
        ],
        [node.output[0]],
        node.name,
        alpha=float(attribute(node, "alpha", 1.0)),
        transA=int(attribute(node, "transA", 0)),
        transB=0 if units_last else 1,
    )
    graph.replace(node, [dense])
    return True


def into_convolution(graph: Graph, node: onnx.NodeProto, affine: Affine, sides: tuple[int, ...] | None) -> bool:
    """Fold into a convolution, transposed or not, whose output has these sides; return whether it could be done."""
    weight = graph.constant(node.input[1])
    if weight is None or weight.dtype != np.float32:
        return False
    group = int(attribute(node, "group", 1))
    transposed = node.op_type == "ConvTranspose"
    channels = weight.shape[1] * group if transposed else weight.shape[0]
    bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(channels)
    gain, offset = (_per_channel(value, channels, sides) for value in (affine.gain, affine.offset))
    if bias is None or gain is None or offset is None:
        return False
    wide = weight.astype(np.float64)
    if transposed:  # (in, out / group, …): the inputs of group g make its outputs
        wide = wide.reshape(group, weight.shape[0] // group, *weight.shape[1:])
        wide = wide * gain.reshape(group, 1, channels // group, *(1,) * (weight.ndim - 2))
    else:  # (out, in / group, …)
        wide = wide * gain.reshape(channels, *(1,) * (weight.ndim - 1))
    node.input[:] = [
        node.input[0],
        graph.add_constant("weight", wide.reshape(weight.shape).astype(np.float32)),
        graph.add_constant("bias", (bias.astype(np.float64) * gain + offset).astype(np.float32)),
    ]
    return True


def _per_channel(value: Array, channels: int, sides: tuple[int, ...] | None) -> Array | None:
    """Return a gain or offset as (channels,), or None where it is not one value a channel."""
    if value.size == 1:
        return np.full(channels, value.reshape(()), dtype=np.float64)
    if sides is None or sides[0] != channels or value.ndim != len(sides) or value.size != value.shape[0]:
        return None
    return value.reshape(-1) if value.size == channels else None
