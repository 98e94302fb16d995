"""Affine maps of images, carried out as Karras et al. do it (arXiv 2006.06676, appendix B.2): at twice the resolution,
reached and left again by the wavelet filter sym6, with bilinear interpolation between, the image continued by
reflection.

Differences from the authors' code:

- They pad a batch by as much as its widest map needs, at most an image's width, and show black beyond. So batch-mates
  matter, and the size of the work must be read from the device. Here the reflected image is taken as what it is,
  periodic: one period is made at twice the resolution and coordinates wrap around it. So shapes are constant, there is
  no margin to choose, and no black.
- They take the filter's middle for its centre, which is a fifth of a pixel away: their mirrors and turns also move the
  image a little. Here coordinates are counted from the filter's centre of gravity.
- The whole map is linear in the image: its derivative is its adjoint, whose derivative is the map again. It is written
  so (and not left to `grid_sample`, which has no second derivative in torch 2.11), and nothing is kept between forward
  and backward but the maps' few numbers.

On CUDA the adjoint adds up in no fixed order, unless torch is set to be deterministic: then gathers and scatters take
`grid_sample`'s place, which torch sums in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from ganzoo.augmentation.geometry import Affine
from ganzoo.augmentation.uniforms import full_precision
from ganzoo.augmentation.wavelets import FIRST, ORIGIN, downsampling, fine_count, fine_period, upsampling

Places = tuple[Tensor, Tensor]
"""Columns and rows."""

_PART_BYTES = 1 << 21  # of fine images worked on at once by a processor: they should stay in its cache
_BILINEAR, _ZEROS = 0, 0  # grid_sampler_2d's names of interpolation and padding


def resample(image: Tensor, affine: Affine) -> Tensor:
    """Return images changed by affine maps; linear in the image, with derivatives of every order.

    The identity and shifts by whole pixels give the pixels themselves, reflected ones at the border (to rounding).

    Args:
        image: (batch, channels, H, W), both sides at least 2, float32 or float64.
        affine: of each image, in the image's dtype; taken as constant.

    Raises:
        ValueError: smaller images.
    """
    height, width = image.shape[2:]
    if min(height, width) < 2:
        raise ValueError(f"images of {height}×{width} are too small to be resampled: both sides must be at least 2")
    resampled: Tensor = _Map.apply(image, affine.matrix.detach(), affine.shift.detach())
    return resampled


class _Map(torch.autograd.Function):
    """The resampling; `_Adjoint` is its derivative."""

    @staticmethod
    def forward(image: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
        up, down = _filters(image)
        with full_precision(image.device):
            parts = [
                down[0] @ _interpolate(up[0] @ image[part] @ up[1].T, places) @ down[1].T
                for part, places in _parts(image, Affine(matrix, shift))
            ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Adjoint.apply(gradient, *ctx.saved_tensors), None, None


class _Adjoint(torch.autograd.Function):
    """The resampling's adjoint; `_Map` is its derivative."""

    @staticmethod
    def forward(gradient: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
        up, down = _filters(gradient)
        sides = (len(up[0]), len(up[1]))
        with full_precision(gradient.device):
            parts = [
                up[0].T @ _spread(down[0].T @ gradient[part] @ down[1], places, sides) @ up[1]
                for part, places in _parts(gradient, Affine(matrix, shift))
            ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Map.apply(gradient, *ctx.saved_tensors), None, None


def _filters(image: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the matrices up and down, each for rows and for columns."""
    height, width = image.shape[2:]
    up = upsampling(height, image.dtype, image.device), upsampling(width, image.dtype, image.device)
    return up, (downsampling(height, image.dtype, image.device), downsampling(width, image.dtype, image.device))


def _parts(image: Tensor, affine: Affine) -> Iterator[tuple[slice, Places]]:
    """Yield which images to work on at once, and their places; a GPU works on all."""
    batch, channels, height, width = image.shape
    fine = channels * (fine_period(height) + 1) * (fine_period(width) + 1) * image.element_size()
    size = max(1, _PART_BYTES // fine) if image.device.type == "cpu" else batch
    for first in range(0, max(batch, 1), size):
        part = slice(first, first + size)
        yield part, _places(Affine(affine.matrix[part], affine.shift[part]), height, width)


def _places(affine: Affine, height: int, width: int) -> Places:
    """Return from which column and row of the period each fine pixel comes: each (batch, fine H, fine W)."""
    device, dtype = affine.matrix.device, affine.matrix.dtype
    matrix, places = affine.matrix, []
    columns, rows = (
        torch.arange(fine_count(side), device=device, dtype=dtype) + (FIRST + 1 - side - ORIGIN)
        for side in (width, height)
    )  # from the centre, which lies at side - 1 + ORIGIN
    for axis, side in enumerate((width, height)):
        centre = 2.0 * affine.shift[:, axis] + (side - 1 + ORIGIN)
        along_columns = matrix[:, axis, 0, None] * columns + centre[:, None]  # (batch, fine W)
        along_rows = matrix[:, axis, 1, None] * rows  # (batch, fine H)
        places.append((along_columns[:, None, :] + along_rows[:, :, None]).remainder(fine_period(side)))
    return places[0], places[1]


# -------------------------------------------------------------------------------------------------- interpolation


def _interpolate(image: Tensor, places: Places) -> Tensor:
    """Return values between pixels, bilinearly.

    Args:
        image: (batch, channels, H + 1, W + 1).
        places: columns in [0, W] and rows in [0, H], each (batch, h, w).

    Returns:
        (batch, channels, h, w).
    """
    if not _in_fixed_order(image):
        return grid_sample(image, _grid(places, *image.shape[2:]), align_corners=True)
    index, weights = _corners(places, *image.shape[2:])
    values = image.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, image.shape[1], -1))
    return (values.view(*image.shape[:2], *weights.shape[1:]) * weights[:, None]).sum(dim=2)


def _spread(gradient: Tensor, places: Places, sides: tuple[int, int]) -> Tensor:
    """Return the adjoint of `_interpolate`.

    Args:
        gradient: (batch, channels, h, w).
        places: columns and rows, each (batch, h, w).
        sides: H + 1, W + 1.

    Returns:
        (batch, channels, H + 1, W + 1).
    """
    shape = (*gradient.shape[:2], *sides)
    if not _in_fixed_order(gradient):
        like = gradient.new_empty(()).expand(shape)  # only its shape matters where its own derivative is asked for
        spread: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            gradient, like, _grid(places, *sides), _BILINEAR, _ZEROS, True, [True, False]
        )[0]
        return spread
    index, weights = _corners(places, *sides)
    shares = (gradient[:, :, None] * weights[:, None]).flatten(2)  # (batch, channels, 4·h·w)
    flat = gradient.new_zeros(*shape[:2], sides[0] * sides[1])
    return flat.scatter_add(2, index.flatten(1)[:, None].expand(-1, shape[1], -1), shares).view(shape)


def _in_fixed_order(image: Tensor) -> bool:
    """Return whether `grid_sample` must be avoided: its adjoint on CUDA, where torch is set to be deterministic."""
    return image.is_cuda and torch.are_deterministic_algorithms_enabled()


def _grid(places: Places, height: int, width: int) -> Tensor:
    """Return places as `grid_sample` has them: (batch, h, w, 2), from -1 at the first pixel to 1 at the last."""
    columns, rows = places
    return torch.stack((columns * (2.0 / (width - 1)) - 1.0, rows * (2.0 / (height - 1)) - 1.0), dim=-1)


def _corners(places: Places, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the four pixels around each place and their weights.

    Args:
        places: columns and rows, each (batch, h, w).
        height: rows of the image that they are in.
        width: its columns.

    Returns:
        Indices into the flattened image, (batch, 4, h·w) int64; weights, (batch, 4, h, w).
    """
    columns, rows = places
    left, top = columns.floor().clamp(max=width - 2), rows.floor().clamp(max=height - 2)
    right, below = columns - left, rows - top
    corner = (top.long() * width + left.long()).flatten(1)  # (batch, h·w)
    index = torch.stack((corner, corner + 1, corner + width, corner + width + 1), dim=1)
    before, above = 1.0 - right, 1.0 - below
    return index, torch.stack((above * before, above * right, below * before, below * right), dim=1)
