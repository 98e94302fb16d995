"""Transposed convolutions as convolutions: each of the s × s phases of the output is a convolution of the input.

Along one axis a transposed convolution of stride s, kernel k and padding p is out[o] = sum of in[i] · W[t] over all
i, t with s·i + t = o + p. Of o = s·q + r − c (phase r, crop c) the taps are t = r + p − c − s·d with i = q + d, so that
phase r is a convolution over few neighbours d, with weights W[r + p − c − s·d] (compare Shi et al., arXiv 1609.05158).

Two forms. *Phases*: one convolution for each of the s² phases, each with just its own taps: as many multiplications as
the transposed convolution, k² for s² pixels, in dense kernels; Concat and DepthToSpace put them side by side. *Joined*:
one convolution with s² times the channels, whose kernels hold zeros where a phase has no tap; the crop c is chosen so
that they are smallest (2 × 2 for kernels of 3 and 4, 3 × 3 for 5), and a Slice takes away what is too much. Phases are
faster where there are enough channels to fill a matrix product, joined where there are few, as in an image.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx

from ganzoo.export.onnx.passes.graph import Array, Graph, attribute

_TO_THE_END = np.iinfo(np.int64).max
_NARROW = 16  # output channels below which the joined form is faster
_WIDE, _LARGE_KERNEL = 64, 5  # output channels, and with a stride the kernel, from which phases are faster in float32
_BLOCK = 16  # channels that ONNX Runtime's fast float32 convolution takes at once; others go a way twice as slow
_ACTIVATIONS = ("Relu", "LeakyRelu")


class Axis(NamedTuple):
    """One axis of a transposed convolution.

    Args:
        kernel: size of the kernel.
        stride: how far apart neighbouring inputs are painted.
        begin, end: padding, which cuts off the output.
        extra: output padding.
    """

    kernel: int
    stride: int
    begin: int
    end: int
    extra: int

    @property
    def longer(self) -> int:
        """Of n pixels come stride · n + longer."""
        return self.kernel - self.stride - self.begin - self.end + self.extra


@dataclass(frozen=True)
class AxisPlan:
    """How one axis of a transposed convolution becomes a convolution.

    Args:
        stride: of the transposed convolution.
        taps: (stride, size) of kernel positions, −1 where a phase has no tap: row r is the kernel of phase r.
        begin, end: padding of the convolution.
        crop: pixels to cut off before and after, once the phases are side by side.
    """

    stride: int
    taps: Array
    begin: int
    end: int
    crop: tuple[int, int]


@dataclass(frozen=True)
class _Transposed:
    """A transposed convolution that can be rewritten.

    Args:
        node: in the graph.
        weight: (in, out, kernel, kernel).
        bias: (out,), or None.
        plans: of the joined form, along y and x.
        activation: what follows it and nothing else does, and can as well be done before the phases are put together.
    """

    node: onnx.NodeProto
    weight: Array
    bias: Array | None
    plans: tuple[AxisPlan, AxisPlan]
    activation: onnx.NodeProto | None


def plan_axis(axis: Axis) -> AxisPlan | None:
    """Return the joined plan of an axis with the fewest taps, or None if it would need a negative padding."""
    plans = [plan for crop in range(axis.stride) if (plan := _plan(axis, crop)) is not None]
    return min(plans, key=lambda plan: (plan.taps.shape[1], sum(plan.crop)), default=None)


def _plan(axis: Axis, crop: int) -> AxisPlan | None:
    starts = [phase + axis.begin - crop for phase in range(axis.stride)]  # the tap that meets the neighbour 0
    first = min(math.ceil((start - axis.kernel + 1) / axis.stride) for start in starts)
    last = max(math.floor(start / axis.stride) for start in starts)
    taps = np.array([[start - axis.stride * d for d in range(first, last + 1)] for start in starts])
    taps[(taps < 0) | (taps >= axis.kernel)] = -1
    rows = max(math.ceil((axis.longer + crop) / axis.stride), -last)  # the convolution makes n + rows
    too_many = axis.stride * rows - axis.longer - crop
    return AxisPlan(axis.stride, taps, -first, rows + last, (crop, too_many)) if first <= 0 else None


def plan_phase(axis: Axis, phase: int) -> AxisPlan | None:
    """Return the plan of one phase alone, with just its own taps; None if it has none or would need a negative padding.

    All phases of an axis get the same size and the same crop.

    Args:
        axis: of the transposed convolution.
        phase: in [0, stride).
    """
    start = phase + axis.begin
    neighbours = [d for d in range(-axis.kernel, start + 1) if 0 <= start - axis.stride * d < axis.kernel]
    if not neighbours:
        return None
    rows = math.ceil(axis.longer / axis.stride)  # each phase has n + rows
    before, after = -neighbours[0], rows + neighbours[-1]
    taps = np.array([[start - axis.stride * d for d in neighbours]])
    crop = (0, axis.stride * rows - axis.longer)
    return AxisPlan(axis.stride, taps, before, after, crop) if min(before, after) >= 0 else None


def subpixel(model: onnx.ModelProto, *, only_where_faster: bool = False) -> onnx.ModelProto:
    """Return the model with its transposed convolutions written exactly as Conv, Concat, DepthToSpace and Slice.

    An activation that follows is moved before the phases are put together, where runtimes fuse it into the convolution.
    Left as they are: grouped and dilated ones, those of one axis or three, of unequal strides, weights that are no
    constants, `auto_pad` and `output_shape`.

    Args:
        model: float32.
        only_where_faster: leave those as they are that are faster so in float32 in ONNX Runtime on processors: fewer
            than 64 output channels, channels that are no multiple of 16, as where classes are appended to them, or
            kernels below 5 with a stride. In int8 all are faster as convolutions.
    """
    graph = Graph(model)
    for node in list(graph.nodes):
        found = _transposed(graph, node) if node.op_type == "ConvTranspose" else None
        if found is None or (only_where_faster and not _is_faster(found)):
            continue
        if found.activation is not None:
            graph.remove(found.activation)
        phases = None if found.weight.shape[1] < _NARROW else _phases(graph, found)
        graph.replace(node, phases or _joined(graph, found))
    return graph.to_model()


def _is_faster(found: _Transposed) -> bool:
    into, out, *kernel = found.weight.shape
    large = found.plans[0].stride == 1 or min(kernel) >= _LARGE_KERNEL
    return bool(out >= _WIDE and large and into % _BLOCK == 0 and out % _BLOCK == 0)


def _transposed(graph: Graph, node: onnx.NodeProto) -> _Transposed | None:
    weight = graph.constant(node.input[1])
    bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    strides: Sequence[int] = attribute(node, "strides", (1, 1))
    plain = (
        attribute(node, "group", 1) == 1
        and all(step == 1 for step in attribute(node, "dilations", (1, 1)))
        and attribute(node, "auto_pad", "NOTSET") == "NOTSET"
        and attribute(node, "output_shape", None) is None
    )
    if weight is None or weight.ndim != 4 or not plain or strides[0] != strides[1]:
        return None
    if bias is None and len(node.input) > 2 and node.input[2]:
        return None
    y, x = (plan_axis(axis) for axis in _axes(node, weight))
    if y is None or x is None:
        return None
    reader = graph.sole_reader(node.output[0])
    activation = reader if reader is not None and reader.op_type in _ACTIVATIONS else None
    return _Transposed(node, weight, bias, (y, x), activation)


def _axes(node: onnx.NodeProto, weight: Array) -> tuple[Axis, Axis]:
    strides: Sequence[int] = attribute(node, "strides", (1, 1))
    pads: Sequence[int] = attribute(node, "pads", (0, 0, 0, 0))
    extra: Sequence[int] = attribute(node, "output_padding", (0, 0))
    y, x = (Axis(weight.shape[2 + i], strides[i], pads[i], pads[2 + i], extra[i]) for i in (0, 1))
    return y, x


def _phases(graph: Graph, found: _Transposed) -> list[onnx.NodeProto] | None:
    """Return one convolution for each phase and what puts them together, or None where a phase cannot be one."""
    node, stride = found.node, found.plans[0].stride
    axes = [[plan_phase(axis, phase) for phase in range(stride)] for axis in _axes(node, found.weight)]
    bias = [] if found.bias is None else [graph.add_constant("bias", found.bias)]
    nodes: list[onnx.NodeProto] = []
    results = []
    for y, x in itertools.product(*axes):
        if y is None or x is None:
            return None
        kernel = np.ascontiguousarray(found.weight[:, :, y.taps[0]][:, :, :, x.taps[0]].swapaxes(0, 1))
        operands = [node.input[0], graph.add_constant("weight", kernel), *bias]
        made, result = _activated_convolution(graph, found, operands, kernel, y, x)
        nodes.extend(made)
        results.append(result)
    if stride > 1:
        joined = graph.fresh("phases")
        nodes.append(onnx.helper.make_node("Concat", results, [joined], axis=1))
        whole = graph.fresh("whole")
        nodes.append(onnx.helper.make_node("DepthToSpace", [joined], [whole], blocksize=stride, mode="DCR"))
    return _cropped(graph, nodes, node.output[0], axes[0][0], axes[1][0])


def _joined(graph: Graph, found: _Transposed) -> list[onnx.NodeProto]:
    """Return one convolution of all phases, those of a channel beside each other."""
    node, (y, x) = found.node, found.plans
    kernel = phase_kernels(found.weight, y, x)
    operands = [node.input[0], graph.add_constant("weight", kernel)]
    if found.bias is not None:
        operands.append(graph.add_constant("bias", np.repeat(found.bias, y.stride**2)))
    nodes, result = _activated_convolution(graph, found, operands, kernel, y, x)
    if y.stride > 1:
        whole = graph.fresh("whole")
        nodes.append(onnx.helper.make_node("DepthToSpace", [result], [whole], blocksize=y.stride, mode="CRD"))
    return _cropped(graph, nodes, node.output[0], y, x)


def _activated_convolution(
    graph: Graph, found: _Transposed, operands: list[str], kernel: Array, y: AxisPlan, x: AxisPlan
) -> tuple[list[onnx.NodeProto], str]:
    """Return a convolution with its activation, and the name of the result."""
    result = graph.fresh("convolved")
    nodes = [
        onnx.helper.make_node(
            "Conv",
            operands,
            [result],
            found.node.name,
            kernel_shape=list(kernel.shape[2:]),
            pads=[y.begin, x.begin, y.end, x.end],
            strides=[1, 1],
        )
    ]
    if found.activation is not None:
        active = onnx.NodeProto()
        active.CopyFrom(found.activation)
        active.input[0], active.output[0] = result, graph.fresh("active")
        nodes.append(active)
        result = active.output[0]
    return nodes, result


def phase_kernels(weight: Array, y: AxisPlan, x: AxisPlan) -> Array:
    """Return the kernels of the joined form: (out · stride², in, taps, taps), the phases of a channel side by side.

    Args:
        weight: of the transposed convolution, (in, out, kernel, kernel).
        y, x: the plans of both axes.
    """
    into, out = weight.shape[:2]
    padded = np.pad(weight, ((0, 0), (0, 0), (0, 1), (0, 1)))  # position −1 is zero
    # (in, out, phase y, phase x, taps, taps)
    kernels = padded[:, :, y.taps[:, None, :, None], x.taps[None, :, None, :]]
    return np.ascontiguousarray(
        kernels.transpose(1, 2, 3, 0, 4, 5).reshape(out * y.stride * x.stride, into, y.taps.shape[1], x.taps.shape[1])
    )


def _cropped(
    graph: Graph, nodes: list[onnx.NodeProto], name: str, y: AxisPlan | None, x: AxisPlan | None
) -> list[onnx.NodeProto]:
    """Return the nodes with what crops their result, if it must be, and with the name of the result."""
    plans = [plan for plan in (y, x) if plan is not None]
    if any(any(plan.crop) for plan in plans):
        bounds = [
            graph.add_constant("starts", np.array([plan.crop[0] for plan in plans])),
            graph.add_constant("ends", np.array([-plan.crop[1] if plan.crop[1] else _TO_THE_END for plan in plans])),
            graph.add_constant("axes", np.array([2, 3])),
        ]
        nodes.append(onnx.helper.make_node("Slice", [nodes[-1].output[0], *bounds], [name]))
    nodes[-1].output[0] = name
    return nodes
