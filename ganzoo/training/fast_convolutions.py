"""The fast products of a convolution inside any network, differentiable as often as one likes.

Output, input gradient and weight gradient of a convolution are each linear in two factors, and the gradients of each
are the other two: so three autograd functions that know each other suffice for gradients of any order. A gradient
penalty costs no more than its multiplications then. (torch computes the weight gradient of an input gradient as a
convolution with a larger kernel, and cuts off what it does not need.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ganzoo.training.convolutions import DTYPES, Pair, convolve, input_gradient, spatial, weight_gradient


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: Pair, padding: Pair) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding
        return convolve(x, weight, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _InputGradient.apply(gradient, weight, spatial(x.shape), *ctx.geometry)
        if ctx.needs_input_grad[1]:
            of_weight = _WeightGradient.apply(x, gradient, spatial(weight.shape), *ctx.geometry)
        return of_x, of_weight, None, None


class _InputGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, y: torch.Tensor, weight: torch.Tensor, size: Pair, stride: Pair, padding: Pair
    ) -> torch.Tensor:
        ctx.save_for_backward(y, weight)
        ctx.geometry = stride, padding
        return input_gradient(y, weight, size, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,), (y, weight) = gradients, ctx.saved_tensors
        of_y = of_weight = None
        if ctx.needs_input_grad[0]:
            of_y = _Convolve.apply(gradient, weight, *ctx.geometry)
        if ctx.needs_input_grad[1]:
            of_weight = _WeightGradient.apply(gradient, y, spatial(weight.shape), *ctx.geometry)
        return of_y, of_weight, None, None, None


class _WeightGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor, kernel: Pair, stride: Pair, padding: Pair) -> torch.Tensor:
        ctx.save_for_backward(x, y)
        ctx.geometry = stride, padding
        return weight_gradient(x, y, kernel, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,), (x, y) = gradients, ctx.saved_tensors
        of_x = of_y = None
        if ctx.needs_input_grad[0]:
            of_x = _InputGradient.apply(y, gradient, spatial(x.shape), *ctx.geometry)
        if ctx.needs_input_grad[1]:
            of_y = _Convolve.apply(x, gradient, *ctx.geometry)
        return of_x, of_y, None, None, None


class _Flatten(torch.autograd.Function):
    """(batch, C, H, W) → (batch, C · H · W), whose gradient comes back with its channels last."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.shape = x.shape
        return x.flatten(1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0].view(ctx.shape).contiguous(memory_format=torch.channels_last)


class fast_convolutions(TorchFunctionMode):
    """Within it, two-dimensional convolutions of any network on a CPU are computed by the products above.

    Under bfloat16 autocast they compute in bfloat16, as torch's own do there. Convolutions in groups, dilated ones, and
    those of other devices or number formats stay torch's.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute what torch calls this for each function that is called inside of the context."""
        if func is torch.Tensor.flatten or func is torch.Tensor.view:
            return _in_batch_layout(args[0], func(*args, **(kwargs or {})))
        if func is torch.conv2d:
            out = _conv2d(*args, **(kwargs or {}))
        elif func is torch.conv_transpose2d:
            out = _conv_transpose2d(*args, **(kwargs or {}))
        else:
            return func(*args, **(kwargs or {}))
        return out if out is not None else func(*args, **(kwargs or {}))


def _conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> torch.Tensor | None:
    if isinstance(padding, str) or not _is_plain(x, weight, dilation, groups):
        return None
    x, weight = _cast(x), _cast(weight)
    out: torch.Tensor = _Convolve.apply(x, weight, _two(stride), _two(padding))
    return _with_bias(out, bias)


def _conv_transpose2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
) -> torch.Tensor | None:
    if not _is_plain(x, weight, dilation, groups):
        return None
    strides, paddings, extra = _two(stride), _two(padding), _two(output_padding)
    size = tuple((x.shape[2 + i] - 1) * strides[i] - 2 * paddings[i] + weight.shape[2 + i] + extra[i] for i in (0, 1))
    x, weight = _cast(x), _cast(weight)
    out: torch.Tensor = _InputGradient.apply(x, weight, size, strides, paddings)
    return _with_bias(out, bias)


def _in_batch_layout(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Return a change between images and rows so that images, and their gradients, have their channels last.

    Else an image that comes from a dense layer, or a gradient that does, has them first, and every operation that
    meets both orders is ten times as slow.
    """
    if before.device.type != "cpu" or before.dtype not in DTYPES:
        return after
    if after.dim() == 4 and before.dim() == 2:
        return after.contiguous(memory_format=torch.channels_last)
    if before.dim() == 4 and after.dim() == 2 and len(after) == len(before):
        rows: torch.Tensor = _Flatten.apply(before)
        return rows
    return after


def _is_plain(x: torch.Tensor, weight: torch.Tensor, dilation: int | Pair, groups: int) -> bool:
    return (
        x.dim() == 4
        and len(x) > 0
        and x.device.type == "cpu"
        and groups == 1
        and _two(dilation) == (1, 1)
        and _compute_dtype(x) in DTYPES
        and _compute_dtype(x) == _compute_dtype(weight)
    )


def _two(value: int | Pair) -> Pair:
    if isinstance(value, int):
        return value, value
    first, *rest = value
    return first, rest[0] if rest else first


def _compute_dtype(x: torch.Tensor) -> torch.dtype:
    """Return the number format in which torch would convolve it: autocast's for float32 and half precision."""
    if torch.is_autocast_enabled("cpu") and x.dtype is not torch.float64:
        return torch.get_autocast_dtype("cpu")
    return x.dtype


def _cast(x: torch.Tensor) -> torch.Tensor:
    return x.to(_compute_dtype(x))


def _with_bias(x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return x if bias is None else x + _cast(bias)[:, None, None]


__all__ = ["fast_convolutions"]
