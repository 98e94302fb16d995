"""An ONNX graph opened for editing: who makes and who reads each tensor, which are constants, which shapes they have.

The passes of `ganzoo.export.onnx.passes` are pure: they open a copy, change it, and build a new model from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Array = npt.NDArray[Any]
Shape = tuple[int | None, ...]


class Graph:
    """The main graph of a model, as lists and dictionaries.

    Args:
        model: is not changed.

    Attributes:
        nodes: in an order in which they can be computed; edited in place by the passes.
        constants: initializers and the values of Constant nodes, by name.
        outputs: names of the graph's outputs.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        graph = model.graph
        inputs = {value.name for value in graph.input}
        self.outputs = [value.name for value in graph.output]
        self.constants: dict[str, Array] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name not in inputs
        }
        self._defaults = [tensor for tensor in graph.initializer if tensor.name in inputs]  # may be fed: no constants
        self.nodes: list[onnx.NodeProto] = []
        for given in graph.node:
            value = _constant_value(given)
            if value is not None and given.output[0] not in self.outputs:
                self.constants[given.output[0]] = value
                continue
            node = onnx.NodeProto()
            node.CopyFrom(given)
            self.nodes.append(node)
        self._taken = inputs | set(self.outputs) | {tensor.name for tensor in graph.initializer}
        for node in graph.node:
            self._taken.update((*names_read(node), *node.output))
        self._shapes: dict[str, Shape] | None = None

    def producer(self, name: str) -> onnx.NodeProto | None:
        """Return the node that makes a tensor, or None for inputs and constants."""
        return next((node for node in self.nodes if name in node.output), None)

    def readers(self, name: str) -> int:
        """Return how often a tensor is read: by nodes, by graphs inside of them, and as an output of the graph."""
        return sum(list(names_read(node)).count(name) for node in self.nodes) + self.outputs.count(name)

    def sole_reader(self, name: str) -> onnx.NodeProto | None:
        """Return the node that reads a tensor, if exactly one does, once, and it is no output of the graph."""
        if self.readers(name) != 1 or name in self.outputs:
            return None
        return next(node for node in self.nodes if name in names_read(node))

    def constant(self, name: str) -> Array | None:
        """Return a constant's value, or None for what is computed."""
        return self.constants.get(name)

    def add_constant(self, base: str, value: Array) -> str:
        """Add a constant and return its name, which begins with `base`."""
        name = self.fresh(base)
        self.constants[name] = np.ascontiguousarray(value) if value.ndim else value
        return name

    def fresh(self, base: str) -> str:
        """Return a name that no tensor has, and that is not given out again."""
        name, number = base, 1
        while name in self._taken:
            name, number = f"{base}_{number}", number + 1
        self._taken.add(name)
        return name

    def shape(self, name: str) -> Shape | None:
        """Return a tensor's shape as it was when the graph was opened, None for unknown sides; None if not known."""
        if name in self.constants:
            return tuple(self.constants[name].shape)
        if self._shapes is None:
            self._shapes = _infer_shapes(self._model)
        return self._shapes.get(name)

    def replace(self, old: onnx.NodeProto, new: Sequence[onnx.NodeProto]) -> None:
        """Put nodes in the place of one."""
        at = next(index for index, node in enumerate(self.nodes) if node is old)
        self.nodes[at : at + 1] = new

    def remove(self, node: onnx.NodeProto) -> None:
        """Take a node of one output out; its readers read its first input instead.

        What makes the output of the graph keeps that name: then the first input is renamed.
        """
        self.nodes = [other for other in self.nodes if other is not node]
        before, after = node.input[0], node.output[0]
        if after in self.outputs:
            for other in self.nodes:
                _rename(other.output, before, after)
                rename_reads(other, before, after)
        else:
            for other in self.nodes:
                rename_reads(other, after, before)

    def to_model(self) -> onnx.ModelProto:
        """Return a new model of the nodes and those constants that are read, in the order in which they are read."""
        old = self._model.graph
        model = onnx.ModelProto()
        for field in ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"):
            if self._model.HasField(field):
                setattr(model, field, getattr(self._model, field))
        model.opset_import.extend(self._model.opset_import)
        model.metadata_props.extend(self._model.metadata_props)
        model.functions.extend(self._model.functions)
        graph = model.graph
        graph.name = old.name
        graph.input.extend(old.input)
        graph.output.extend(old.output)
        graph.node.extend(self.nodes)
        graph.initializer.extend(self._defaults)
        graph.sparse_initializer.extend(old.sparse_initializer)
        read = dict.fromkeys([name for node in self.nodes for name in names_read(node)] + self.outputs)
        graph.initializer.extend(
            numpy_helper.from_array(self.constants[name], name) for name in read if name in self.constants
        )
        return model


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of a node's attribute, or the default; texts are decoded."""
    for one in node.attribute:
        if one.name == name:
            value = onnx.helper.get_attribute_value(one)
            return value.decode() if isinstance(value, bytes) else value
    return default


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that a node holds (If, Loop, Scan), not those inside of them."""
    for one in node.attribute:
        if one.type == onnx.AttributeProto.GRAPH:
            yield one.g
        yield from one.graphs


def names_read(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the tensors that a node reads, also those that graphs inside of it take from outside."""
    yield from (name for name in node.input if name)
    for graph in subgraphs(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own.update(name for inner in graph.node for name in inner.output)
        read = [name for inner in graph.node for name in names_read(inner)] + [value.name for value in graph.output]
        yield from (name for name in read if name not in own)


def rename_reads(node: onnx.NodeProto, old: str, new: str) -> None:
    """Let a node, and the graphs inside of it, read `new` where they read `old`."""
    _rename(node.input, old, new)
    for graph in subgraphs(node):
        for inner in graph.node:
            rename_reads(inner, old, new)
        for value in graph.output:
            if value.name == old:
                value.name = new


def _rename(names: Any, old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def _constant_value(node: onnx.NodeProto) -> Array | None:
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    for kind, dtype in (
        ("value_int", np.int64),
        ("value_ints", np.int64),
        ("value_float", np.float32),
        ("value_floats", np.float32),
    ):
        value = attribute(node, kind, None)
        if value is not None:
            return np.asarray(value, dtype=dtype)
    tensor = attribute(node, "value", None)
    return None if tensor is None else numpy_helper.to_array(tensor)


def _infer_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values: Iterable[onnx.ValueInfoProto] = [*inferred.value_info, *inferred.input, *inferred.output]
    return {
        value.name: tuple(side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim)
        for value in values
        if (kind := value.type.tensor_type).HasField("shape")
    }
