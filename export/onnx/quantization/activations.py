"""QuantizeLinear and DequantizeLinear around activations."""

from __future__ import annotations

import numpy as np
import onnx

from ganzoo.export.onnx.passes.graph import Graph, rename_reads
from ganzoo.export.onnx.quantization.ranges import Scale
from ganzoo.export.onnx.quantization.weights import quantize_constants


def read_finely(graph: Graph, node: onnx.NodeProto, scale: Scale) -> None:
    """Quantise a dense layer whose input becomes the sum of two uint8 tensors: W·x + b = (W·coarse + b) + W·rest."""
    x, result = node.input[0], node.output[0]
    coarse, rest = graph.fresh("coarse"), graph.fresh("rest")
    fine = Scale(float(np.float32(scale.step / 127)), 128)  # spans a step to either side
    quantize_constants(graph, node, scale.step)
    second = onnx.NodeProto()
    second.CopyFrom(node)
    second.input[:] = [graph.fresh("rest_after"), node.input[1]]
    second.output[0], node.output[0] = graph.fresh("of_rest"), graph.fresh("of_coarse")
    node.input[0] = coarse
    split = [
        *round_trip(graph, x, coarse, scale),
        onnx.helper.make_node("Sub", [x, coarse], [rest]),
        *round_trip(graph, rest, second.input[0], fine),
    ]
    total = onnx.helper.make_node("Add", [node.output[0], second.output[0]], [result])
    graph.replace(node, [*split, node, second, total])


def round_trip(graph: Graph, before: str, after: str, scale: Scale) -> list[onnx.NodeProto]:
    """Return QuantizeLinear and DequantizeLinear between two tensors; their constants are added to the graph."""
    constants = [
        graph.add_constant("scale", np.array(scale.step, dtype=np.float32)),
        graph.add_constant("zero_point", np.array(scale.zero_point, dtype=np.uint8)),
    ]
    levels = graph.fresh("levels")
    return [
        onnx.helper.make_node("QuantizeLinear", [before, *constants], [levels]),
        onnx.helper.make_node("DequantizeLinear", [levels, *constants], [after]),
    ]


def insert(graph: Graph, name: str, scale: Scale, readers: list[onnx.NodeProto] | None) -> None:
    """Put QuantizeLinear and DequantizeLinear between a tensor and what reads it.

    Args:
        graph: is changed.
        name: of the tensor.
        scale: of the levels.
        readers: nodes that are to read it in int8, where others go on reading the tensor itself; None: all.
    """
    source = graph.producer(name)
    if readers is None and source is not None:
        before = graph.fresh(f"{name}_exact")
        source.output[list(source.output).index(name)] = before
        pair = round_trip(graph, before, name, scale)
    else:
        after = graph.fresh(f"{name}_rounded")
        for node in readers or ():
            rename_reads(node, name, after)
        pair = round_trip(graph, name, after, scale)
    if source is None:  # an input of the graph
        graph.nodes[:0] = pair
    else:
        graph.replace(source, [source, *pair])
