"""Weights and biases of layers as integers, one scale an output channel.

Without VNNI two products of uint8 × int8 are added in 16 bits, which overflow where both weights are large; weights are
scaled so that no two neighbours can overflow, so that a file draws the same images on older processors.
"""

from __future__ import annotations

import numpy as np
import onnx

from ganzoo.export.onnx.passes.graph import Array, Graph, attribute

_WEIGHT_LEVELS = 127  # on either side of zero
_MAX_BIAS = float(1 << 30)


def output_axis(node: onnx.NodeProto) -> int:
    """Return the axis of a layer's weights that its output channels lie along."""
    return 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1


def quantize_constants(graph: Graph, node: onnx.NodeProto, input_step: float) -> None:
    """Let a layer read its weights and bias from integers."""
    weight = graph.constants[node.input[1]].astype(np.float64)  # (out, in / group, height, width), or a matrix
    bias = graph.constants[node.input[2]].astype(np.float64) if len(node.input) > 2 and node.input[2] else None
    axis = output_axis(node)
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


def quantize_weights(graph: Graph, node: onnx.NodeProto) -> None:
    """Let a layer that computes in float32 read its weights from int8: nothing overflows there, so that each channel's
    largest has all levels."""
    weight, axis = graph.constants[node.input[1]].astype(np.float64), output_axis(node)
    rows = np.moveaxis(weight, axis, 0)
    largest = np.abs(rows).reshape(len(rows), -1).max(axis=1)
    steps = (np.where(largest > 0, largest, _WEIGHT_LEVELS) / _WEIGHT_LEVELS).astype(np.float32)
    levels = np.rint(rows / steps.astype(np.float64).reshape(-1, *(1,) * (rows.ndim - 1)))
    levels = np.moveaxis(np.clip(levels, -_WEIGHT_LEVELS, _WEIGHT_LEVELS).astype(np.int8), 0, axis)
    node.input[1] = _dequantized(graph, node, "weight", levels, steps, axis)


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
