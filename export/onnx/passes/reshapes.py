"""Reshapes: the passes around them leave chains of them behind, which are merged here."""

from __future__ import annotations

import onnx

from ganzoo.export.onnx.passes.graph import Graph

_RESHAPES = ("Reshape", "Unsqueeze", "Squeeze", "Flatten")
_ELEMENTWISE = ("Relu", "LeakyRelu", "Tanh", "Sigmoid")


def merge_reshapes(graph: Graph) -> None:
    """Move activations before reshapes, next to the layer that they can be fused with, and take out all reshapes of a
    chain but the last.

    Only reshapes to a constant shape (-1, …) are looked at, whose batch may vary and whose other sides are known: such
    a one gives the same whatever shape the elements came in.
    """
    for node in list(graph.nodes):
        source = graph.producer(node.input[0]) if node.op_type in _ELEMENTWISE else None
        while source is not None and source.op_type in _RESHAPES and graph.readers(source.output[0]) == 1:
            _swap(graph, source, node)
            source = graph.producer(node.input[0])
    for node in list(graph.nodes):
        if node.op_type != "Reshape" or not _is_known(graph, node.input[1]):
            continue
        source = graph.producer(node.input[0])
        while source is not None and source.op_type in _RESHAPES and graph.readers(source.output[0]) == 1:
            graph.remove(source)
            source = graph.producer(node.input[0])


def _swap(graph: Graph, reshape: onnx.NodeProto, activation: onnx.NodeProto) -> None:
    """Let an activation that reads a reshape be computed before it."""
    between, after = reshape.output[0], activation.output[0]
    activation.input[0], activation.output[0] = reshape.input[0], between
    reshape.input[0], reshape.output[0] = between, after
    graph.nodes = [node for node in graph.nodes if node is not activation]
    graph.replace(reshape, [activation, reshape])


def _is_known(graph: Graph, shape: str) -> bool:
    value = graph.constant(shape)
    return value is not None and value.ndim == 1 and value.size > 0 and value[0] == -1 and bool((value[1:] > 0).all())
