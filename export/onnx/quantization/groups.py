"""Which nodes are layers, which only move elements between them, and which tensors share a scale because of that."""

from __future__ import annotations

import numpy as np
import onnx

from ganzoo.export.onnx.passes.graph import Graph, attribute
from ganzoo.export.onnx.quantization.weights import output_axis

_MOVES = ("Concat", "DepthToSpace", "Flatten", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_FUSED = ("Relu",)  # by runtimes into the layer before it
_PLAIN_GEMM = (("alpha", 1.0), ("beta", 1.0), ("transA", 0))


def moves(node: onnx.NodeProto) -> bool:
    """Return whether a node only moves elements, or repeats them."""
    return node.op_type in _MOVES or (node.op_type == "Resize" and attribute(node, "mode", "nearest") == "nearest")


def is_layer(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return whether a node is a convolution or dense layer with constant float32 weights, as kernels know it."""
    if node.op_type not in ("Conv", "Gemm") or node.input[0] in graph.constants:
        return False
    weight, *others = [graph.constant(name) for name in node.input[1:] if name]
    if any(value is None or value.dtype != np.float32 for value in (weight, *others)) or weight is None:
        return False
    if node.op_type == "Conv":
        return weight.ndim == 4
    plain = all(attribute(node, name, default) == default for name, default in _PLAIN_GEMM)
    units = weight.shape[output_axis(node)]
    return plain and all(bias is not None and bias.shape == (units,) for bias in others)


def reads_inputs(graph: Graph, node: onnx.NodeProto) -> bool:
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


def movers_of(graph: Graph, layers: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return the nodes that only move elements on their way to layers, or of nothing but what layers made."""
    found: list[onnx.NodeProto] = []
    names = [node.input[0] for node in layers]
    while names:
        source = graph.producer(names.pop())
        if source is not None and moves(source) and source not in found:
            found.append(source)
            names.extend(_moved(source))
    made = {result_of(graph, node) for node in layers} | {node.output[0] for node in found}
    for node in graph.nodes:
        if moves(node) and node not in found and made.issuperset(_moved(node)):
            found.append(node)
            made.add(node.output[0])
    return found


def _moved(node: onnx.NodeProto) -> list[str]:
    return list(node.input if node.op_type == "Concat" else node.input[:1])


def groups_of(graph: Graph, layers: list[onnx.NodeProto], movers: list[onnx.NodeProto]) -> list[list[str]]:
    """Return the tensors that become uint8; those around an operator that only moves elements are together."""
    leader: dict[str, str] = {}

    def group_of(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for node in movers:
        for name in _moved(node):
            leader[group_of(name)] = group_of(node.output[0])
    wanted = {group_of(name) for node in layers for name in (node.input[0], result_of(graph, node))}
    members: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for node in graph.nodes for name in (*node.input, *node.output)):
        if name not in graph.constants and group_of(name) in wanted:
            members.setdefault(group_of(name), []).append(name)
    return list(members.values())


def result_of(graph: Graph, node: onnx.NodeProto) -> str:
    """Return the name of what a layer gives in the end: with the activation that is fused into it."""
    reader = graph.sole_reader(node.output[0])
    return str(reader.output[0] if reader is not None and reader.op_type in _FUSED else node.output[0])
