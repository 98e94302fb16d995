"""What a written file must not hold: names that depend on the process, texts about the machine, random operators."""

from __future__ import annotations

from collections import Counter

import onnx

from ganzoo.errors import GanzooError
from ganzoo.export.onnx.passes.graph import Graph, names_read, rename_reads, subgraphs

_RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
_ROLES = {
    "Conv": ("", "weight", "bias"),
    "ConvTranspose": ("", "weight", "bias"),
    "Gemm": ("", "weight", "bias"),
    "MatMul": ("", "weight"),
    "BatchNormalization": ("", "gain", "offset", "mean", "variance"),
    "Reshape": ("", "shape"),
    "Expand": ("", "shape"),
    "Unsqueeze": ("", "axes"),
    "Squeeze": ("", "axes"),
    "Slice": ("", "starts", "ends", "axes", "steps"),
    "QuantizeLinear": ("input", "scale", "zero_point"),
    "DequantizeLinear": ("input", "scale", "zero_point"),
}
_OPERANDS = ("a", "b", "c", "d", "e", "f")
GRAPH_NAME = "generator"


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with nothing in it but what computes: the same function, and the same bytes in any process.

    Doc strings, metadata, inferred shapes, dead nodes and unread constants are dropped; nodes stand in the order in
    which a walk back from the outputs needs them; nodes, tensors and constants are named after operators and their
    number. Names of inputs and outputs stay.

    Args:
        model: any.
    """
    graph = Graph(model)
    graph.nodes = _in_order_of_need(graph)
    _name(graph, {value.name for value in model.graph.input})
    bare = graph.to_model()
    bare.graph.name = GRAPH_NAME
    bare.doc_string = ""
    del bare.metadata_props[:]
    _strip(bare.graph)
    for function in bare.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        _strip_nodes(function.node)
    for field in ("doc_string", "domain"):
        if not getattr(bare, field):
            bare.ClearField(field)
    return bare


def check_no_random(model: onnx.ModelProto) -> None:
    """Refuse a model that draws random numbers itself: its images would not be functions of z.

    Raises:
        GanzooError: it holds a random operator, or dropout in training mode; the message names it.
    """
    nodes = [*_all_nodes(model.graph), *(node for function in model.functions for node in function.node)]
    found = sorted({node.op_type for node in nodes if node.op_type in _RANDOM or _drops(model, node)})
    if found:
        raise GanzooError(
            f"The graph draws random numbers itself ({', '.join(found)}): its images would not depend on z alone.",
            "Let the generator take all its randomness from z.",
        )


def _drops(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    if node.op_type != "Dropout" or len(node.input) < 3 or not node.input[2]:
        return False
    training = Graph(model).constant(node.input[2])
    return training is None or bool(training)


def _all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    inner = [deep for node in graph.node for sub in subgraphs(node) for deep in _all_nodes(sub)]
    return [*graph.node, *inner]


def _in_order_of_need(graph: Graph) -> list[onnx.NodeProto]:
    """Return the nodes that the outputs need, each after what it reads: an order that depends on the graph alone."""
    makers = {name: node for node in graph.nodes for name in node.output if name}
    ordered: list[onnx.NodeProto] = []
    seen: set[int] = set()
    stack = [(makers[name], False) for name in reversed(graph.outputs) if name in makers]
    while stack:
        node, ready = stack.pop()
        if ready:
            ordered.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((makers[name], False) for name in reversed(list(names_read(node))) if name in makers)
    return ordered


def _name(graph: Graph, inputs: set[str]) -> None:
    """Name nodes Conv_0, Conv_1 …; their results likewise; constants Conv_0.weight, after who reads them first."""
    kept = inputs | set(graph.outputs)
    names: dict[str, str] = {}
    numbers: Counter[str] = Counter()
    for node in graph.nodes:
        node.name = f"{node.op_type}_{numbers[node.op_type]}"
        numbers[node.op_type] += 1
        roles = _ROLES.get(node.op_type, _OPERANDS)
        for index, name in enumerate(node.input):
            if name in graph.constants and name not in names:
                role = roles[index] if index < len(roles) else f"operand{index}"
                names[name] = f"{node.name}.{role or _OPERANDS[index]}"
        for index, name in enumerate(node.output):
            if name and name not in kept:
                names[name] = node.name if index == 0 else f"{node.name}.{index}"
    graph.constants = {names.get(name, name): value for name, value in graph.constants.items()}
    for node in graph.nodes:
        for name in dict.fromkeys(names_read(node)):
            if name in names:
                rename_reads(node, name, f"\0{names[name]}")  # in two steps: an old name may be another's new one
        node.output[:] = [names.get(name, name) for name in node.output]
    for node in graph.nodes:
        for name in dict.fromkeys(names_read(node)):
            if name.startswith("\0"):
                rename_reads(node, name, name[1:])


def _strip(graph: onnx.GraphProto) -> None:
    graph.ClearField("doc_string")
    del graph.metadata_props[:]
    del graph.value_info[:]
    for value in [*graph.input, *graph.output]:
        value.ClearField("doc_string")
        del value.metadata_props[:]
    for tensor in graph.initializer:
        tensor.ClearField("doc_string")
        del tensor.metadata_props[:]
    _strip_nodes(graph.node)


def _strip_nodes(nodes: object) -> None:
    for node in nodes:  # type: ignore[attr-defined]
        node.ClearField("doc_string")
        del node.metadata_props[:]
        attributes = sorted(node.attribute, key=lambda one: str(one.name))
        del node.attribute[:]
        node.attribute.extend(attributes)
        for sub in subgraphs(node):
            _strip(sub)
