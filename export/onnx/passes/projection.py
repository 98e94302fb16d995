"""The projection of z: a transposed convolution of a 1×1 image is a matrix product."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from ganzoo.export.onnx.passes.graph import Array, Graph, attribute
from ganzoo.export.onnx.passes.reshapes import merge_reshapes


def projection_to_gemm(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with every ConvTranspose of a 1×1 image written as Gemm and Reshape, which is exact.

    out[c, y, x] = sum_i in[i] · W[i, c, y + pad_y, x + pad_x] + b[c].

    Args:
        model: float32.
    """
    graph = Graph(model)
    for node in list(graph.nodes):
        shape = graph.shape(node.input[0]) if node.op_type == "ConvTranspose" else None
        if shape is not None and len(shape) == 4 and shape[2:] == (1, 1):
            _rewrite(graph, node)
    merge_reshapes(graph)
    return graph.to_model()


def _rewrite(graph: Graph, node: onnx.NodeProto) -> None:
    weight = graph.constant(node.input[1])
    bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    known = weight is not None and (bias is not None or len(node.input) < 3 or not node.input[2])
    if weight is None or not known or attribute(node, "group", 1) != 1:
        return
    if attribute(node, "auto_pad", "NOTSET") != "NOTSET" or attribute(node, "output_shape", None) is not None:
        return
    square = _square(node, weight)  # (in, out, height, width)
    into, channels, height, width = square.shape
    flat = graph.fresh("flat")
    steps = [
        onnx.helper.make_node("Reshape", [node.input[0], graph.add_constant("shape", np.array([-1, into]))], [flat])
    ]
    operands = [flat, graph.add_constant("weight", square.reshape(into, -1))]
    if bias is not None:
        operands.append(graph.add_constant("bias", np.repeat(bias, height * width)))
    units = graph.fresh("units")
    steps.append(onnx.helper.make_node("Gemm", operands, [units], node.name))
    sides = graph.add_constant("shape", np.array([-1, channels, height, width]))
    steps.append(onnx.helper.make_node("Reshape", [units, sides], [node.output[0]]))
    graph.replace(node, steps)


def _square(node: onnx.NodeProto, weight: Array) -> Array:
    """Return what each input paints: (in, out, height, width), the dilated kernel cut and padded to the output."""
    kernel = weight
    dilations: Sequence[int] = attribute(node, "dilations", (1, 1))
    pads: Sequence[int] = attribute(node, "pads", (0, 0, 0, 0))
    extra: Sequence[int] = attribute(node, "output_padding", (0, 0))
    for axis in (2, 3):
        step = dilations[axis - 2]
        sides = list(kernel.shape)
        sides[axis] = (sides[axis] - 1) * step + 1 + extra[axis - 2]
        dilated = np.zeros(sides, dtype=weight.dtype)
        np.moveaxis(dilated, axis, 0)[: sides[axis] - extra[axis - 2] : step] = np.moveaxis(kernel, axis, 0)
        begin, end = pads[axis - 2], sides[axis] - pads[axis]
        kernel = np.moveaxis(np.moveaxis(dilated, axis, 0)[begin:end], 0, axis)
    return np.ascontiguousarray(kernel)
