"""Phases side by side in the layout of int8 kernels.

ONNX Runtime runs int8 convolutions with the channels last and puts transposes around them. Here Concat and
DepthToSpace are written between two transposes of their own, which cancel with those, so that images stay channels-last
from the first convolution to the last: then a row of phases is one long copy instead of a scattering of bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from ganzoo.export.onnx.passes.graph import Graph, attribute

_LAST, _FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def channels_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with each Concat and DepthToSpace of phases (DCR) written for channels-last tensors; exact.

    Args:
        model: with phases of known size; others are left as they are.
    """
    graph = Graph(model)
    for node in list(graph.nodes):
        if node.op_type == "DepthToSpace" and attribute(node, "mode", "DCR") == "DCR":
            _rewrite(graph, node)
    return graph.to_model()


def _rewrite(graph: Graph, node: onnx.NodeProto) -> None:
    phases = graph.producer(node.input[0])
    stride = int(attribute(node, "blocksize", 1))
    if phases is None or phases.op_type != "Concat" or attribute(phases, "axis", 0) != 1:
        return
    shapes = {graph.shape(name) for name in phases.input}
    shape = shapes.pop()
    if shapes or shape is None or len(shape) != 4 or len(phases.input) != stride**2:
        return
    channels, height, width = shape[1:]
    if channels is None or height is None or width is None or graph.readers(node.input[0]) != 1:
        return
    nodes: list[onnx.NodeProto] = []

    def add(operator: str, operands: list[str], **attributes: Any) -> str:
        nodes.append(onnx.helper.make_node(operator, operands, [graph.fresh(operator.lower())], **attributes))
        return str(nodes[-1].output[0])

    row_shape = graph.add_constant("shape", np.array([-1, height, width * stride * channels]))
    rows = []
    for first in range(0, stride**2, stride):
        turned = [add("Transpose", [name], perm=_LAST) for name in phases.input[first : first + stride]]
        rows.append(add("Reshape", [add("Concat", turned, axis=3), row_shape]))
    whole = graph.add_constant("shape", np.array([-1, height * stride, width * stride, channels]))
    image = add("Reshape", [add("Concat", rows, axis=2), whole])
    add("Transpose", [image], perm=_FIRST)
    nodes[-1].output[0] = node.output[0]
    graph.nodes = [other for other in graph.nodes if other is not phases]
    graph.replace(node, nodes)
