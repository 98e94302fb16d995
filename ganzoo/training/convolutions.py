"""The three products of a convolution, each in the form that is fastest on a processor.

With y = x ∗ w a convolution without bias, and X, Y, W gradients by x, y and w:

    output            y = x ∗ w       (`convolve`)
    input gradient    X = Y ∗ᵀ w      (`input_gradient`); also what a transposed convolution computes
    weight gradient   W = x ⋆ Y       (`weight_gradient`)

torch gives all three to oneDNN, which is near the processor's limit for most of them. Measured on two Zen 4 cores, it
is far from it for some, which are computed otherwise here:

- weight gradients where the output is small: as a matrix product with the unfolded input (im2col; Chellapilla et al.
  2006), up to five times as fast;
- outputs of very large kernels: likewise;
- weight gradients of 4×4 kernels of stride 2 on few channels: as those of 2×2 kernels on squares of pixels;
- input gradients that end in an image of a few channels: as a convolution that gives all four phases of the image, and
  pixels put in their places (Shi et al., arXiv 1609.05158), twice as fast.

They take plain tensors and build no graph of their own; `fast_convolutions.py` has them with autograd. Which form is
taken depends on shapes and number format alone, never on a measurement, so that a training that goes on from a
checkpoint computes what it would have computed.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

Pair = tuple[int, int]

_FEW_CHANNELS = 4
"""Up to so many, an image's pixels are put together from phases."""
_UNFOLDED_CHANNELS = 16
"""From so many on, a row of an unfolded input is copied in long runs."""
_SMALL_OUTPUT = 64
"""Places of an output up to which oneDNN's bfloat16 weight gradient loses to a matrix product: 8×8."""
_NARROW = 64
"""Channels up to which a wide input's weight gradient is faster on squares of pixels."""
_LARGE_KERNEL = 10_000_000
"""Weights from which on oneDNN's output is slower than a matrix product, where it is small."""
_LARGE_KERNEL_IN_FLOAT32 = 3_000_000
"""Likewise its float32 weight gradient."""

DTYPES = (torch.bfloat16, torch.float32)
"""Number formats that have fast forms."""


# ------------------------------------------------------------------------------------------ the three products


def convolve(x: torch.Tensor, weight: torch.Tensor, stride: Pair, padding: Pair) -> torch.Tensor:
    """Return a convolution without bias: (batch, out, H', W').

    Args:
        x: (batch, in, H, W).
        weight: (out, in, kH, kW).
        stride: of the output's places in the input.
        padding: zeros around the input.
    """
    size = output_size(spatial(x.shape), spatial(weight.shape), stride, padding)
    if _unfolds(x) and weight.numel() >= _LARGE_KERNEL and size[0] * size[1] <= _SMALL_OUTPUT:
        flat = _unfold(x, spatial(weight.shape), stride, padding, size) @ _rows(weight).t()  # (batch · H' · W', out)
        return flat.view(len(x), *size, -1).permute(0, 3, 1, 2)
    out: torch.Tensor = torch.ops.aten.convolution(x, weight, None, stride, padding, (1, 1), False, (0, 0), 1)
    return out


def input_gradient(
    y_gradient: torch.Tensor, weight: torch.Tensor, size: Pair, stride: Pair, padding: Pair
) -> torch.Tensor:
    """Return the gradient by a convolution's input: (batch, in, H, W).

    Args:
        y_gradient: (batch, out, H', W'), by its output.
        weight: (out, in, kH, kW).
        size: (H, W) of the input.
        stride, padding: of the convolution.
    """
    if _has_phases(y_gradient, weight, size, stride, padding):
        return _joined_phases(y_gradient, weight, padding)
    like = _channels_last(y_gradient, len(y_gradient), weight.shape[1], *size)
    mask = (True, False, False)
    out: torch.Tensor = torch.ops.aten.convolution_backward(
        y_gradient, like, weight, None, stride, padding, (1, 1), False, (0, 0), 1, mask
    )[0]
    return out


def weight_gradient(
    x: torch.Tensor, y_gradient: torch.Tensor, kernel: Pair, stride: Pair, padding: Pair
) -> torch.Tensor:
    """Return the gradient by a convolution's weight: (out, in, kH, kW).

    Args:
        x: (batch, in, H, W).
        y_gradient: (batch, out, H', W'), by its output.
        kernel: (kH, kW).
        stride, padding: of the convolution.
    """
    size = spatial(y_gradient.shape)
    if _unfolds(x) and _is_even(x, y_gradient, kernel, stride, padding):
        return _even_weight_gradient(x, y_gradient)
    if _unfolds(x) and _is_slow_weight_gradient(x, y_gradient, kernel):
        columns = _unfold(x, kernel, stride, padding, size)
        flat = y_gradient.permute(0, 2, 3, 1).reshape(len(columns), -1)  # (batch · H' · W', out)
        return (flat.t() @ columns).view(-1, *kernel, x.shape[1]).permute(0, 3, 1, 2)
    return _direct_weight_gradient(x, y_gradient, kernel, stride, padding)


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return (H', W') of a convolution's output.

    Args:
        size: (H, W) of its input.
        kernel, stride, padding: of the convolution.
    """
    return (
        (size[0] + 2 * padding[0] - kernel[0]) // stride[0] + 1,
        (size[1] + 2 * padding[1] - kernel[1]) // stride[1] + 1,
    )


# ------------------------------------------------------------------------------------------ forms


def spatial(shape: Iterable[int]) -> Pair:
    """Return the last two sizes of a shape."""
    *_, height, width = shape
    return height, width


def _channels_last(like: torch.Tensor, *shape: int) -> torch.Tensor:
    """Return a tensor for its shape and layout alone; its memory is never touched."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _unfolds(x: torch.Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in DTYPES and x.shape[1] >= _UNFOLDED_CHANNELS


def _is_slow_weight_gradient(x: torch.Tensor, y_gradient: torch.Tensor, kernel: Pair) -> bool:
    _, out, height, width = y_gradient.shape
    if height * width > _SMALL_OUTPUT:
        return False
    weights = out * x.shape[1] * kernel[0] * kernel[1]
    return x.dtype is torch.bfloat16 or weights >= _LARGE_KERNEL_IN_FLOAT32


def _direct_weight_gradient(
    x: torch.Tensor, y_gradient: torch.Tensor, kernel: Pair, stride: Pair, padding: Pair
) -> torch.Tensor:
    like = _channels_last(x, y_gradient.shape[1], x.shape[1], *kernel)
    mask = (False, True, False)
    out: torch.Tensor = torch.ops.aten.convolution_backward(
        y_gradient, x, like, None, stride, padding, (1, 1), False, (0, 0), 1, mask
    )[1]
    return out


def _is_even(x: torch.Tensor, y: torch.Tensor, kernel: Pair, stride: Pair, padding: Pair) -> bool:
    """Return whether a convolution halves an even input by 4×4 kernels, and is one whose weights torch is slow with."""
    return (
        x.dtype is torch.bfloat16
        and (kernel, stride, padding) == ((4, 4), (2, 2), (1, 1))
        and x.shape[2:] == (2 * y.shape[2], 2 * y.shape[3])
        and x.shape[1] <= _NARROW
        and y.shape[2] * y.shape[3] >= _SMALL_OUTPUT
    )


def _even_weight_gradient(x: torch.Tensor, y_gradient: torch.Tensor) -> torch.Tensor:
    """Return the weight gradient of a 4×4 convolution of stride 2 from that of a 2×2 one on squares of 2×2 pixels."""
    batch, into, height, width = x.shape
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # (batch, H + 2, W + 2, in)
    squares = padded.view(batch, height // 2 + 1, 2, width // 2 + 1, 2, into).transpose(2, 3)
    squares = squares.reshape(batch, height // 2 + 1, width // 2 + 1, 4 * into).permute(0, 3, 1, 2)
    small = _direct_weight_gradient(squares, y_gradient, (2, 2), (1, 1), (0, 0))  # (out, 4 · in, 2, 2)
    split = small.permute(0, 2, 3, 1).reshape(-1, 2, 2, 2, 2, into)  # (out, square's y, x, pixel's y, x, in)
    return split.transpose(2, 3).reshape(-1, 4, 4, into).permute(0, 3, 1, 2)


def _rows(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight as (out, kH · kW · in)."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _unfold(x: torch.Tensor, kernel: Pair, stride: Pair, padding: Pair, size: Pair) -> torch.Tensor:
    """Return what each of a convolution's outputs sees of its input: (batch · H' · W', kH · kW · in)."""
    (bottom, right) = ((size[i] - 1) * stride[i] + kernel[i] - x.shape[2 + i] - padding[i] for i in (0, 1))
    around = (0, 0, padding[1], max(right, 0), padding[0], max(bottom, 0))
    padded = F.pad(x.permute(0, 2, 3, 1), around)  # (batch, H, W, in)
    of_batch, of_row, of_column, _ = padded.stride()
    row = kernel[1] * x.shape[1]  # of a window: its pixels lie side by side
    windows = padded.as_strided(
        (len(x), *size, kernel[0], row), (of_batch, stride[0] * of_row, stride[1] * of_column, of_row, 1)
    )
    return windows.reshape(len(x) * size[0] * size[1], -1)


def _has_phases(y: torch.Tensor, weight: torch.Tensor, size: Pair, stride: Pair, padding: Pair) -> bool:
    """Return whether an input gradient is put together from phases: few channels, twice as many pixels a side."""
    kernel = spatial(weight.shape)
    return (
        y.device.type == "cpu"
        and y.dtype in DTYPES
        and weight.shape[1] <= _FEW_CHANNELS
        and stride == (2, 2)
        and size == (2 * y.shape[2], 2 * y.shape[3])
        and all((kernel[i], padding[i]) in ((3, 1), (4, 1), (5, 2)) for i in (0, 1))
    )


def _joined_phases(y: torch.Tensor, weight: torch.Tensor, padding: Pair) -> torch.Tensor:
    """Return an input gradient of stride 2 as one 3×3 convolution and a shuffle of pixels: (batch, in, 2H', 2W').

    Pixel 2i + phase meets tap t of the kernel in y's place i + d where 2d = phase + padding - t; d is -1, 0 or 1.
    """
    out, into, *kernel = weight.shape
    spare = F.pad(weight, (0, 1, 0, 1))  # a row and a column of zeros for places without a tap
    for axis in (0, 1):
        spare = spare.index_select(2 + axis, torch.tensor(_taps(kernel[axis], padding[axis])))
    # (out, in, 2, 3, 2, 3): phase and place of both axes; to (in · 2 · 2, out, 3, 3)
    phases = spare.view(out, into, 2, 3, 2, 3).permute(1, 2, 4, 0, 3, 5).reshape(into * 4, out, 3, 3)
    phases = phases.contiguous(memory_format=torch.channels_last)
    image = torch.ops.aten.convolution(y, phases, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1)
    return F.pixel_shuffle(image, 2).contiguous(memory_format=torch.channels_last)


def _taps(kernel: int, padding: int) -> list[int]:
    """Return the tap of each phase in each place d = -1, 0, 1; `kernel`, where there is none."""
    taps = [phase + padding - 2 * d for phase in (0, 1) for d in (-1, 0, 1)]
    return [tap if 0 <= tap < kernel else kernel for tap in taps]


__all__ = ["DTYPES", "Pair", "convolve", "input_gradient", "output_size", "spatial", "weight_gradient"]
