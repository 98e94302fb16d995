"""Wavelet filters as matrices that act on one axis of an image, the image continued by reflection without end.

Rows and columns are filtered by themselves: with L a matrix for the rows and R one for the columns, the filtered image
is L x Rᵀ. So an up- or downsampling, its reflected border included, is two matrix products, on any device and with
derivatives of every order.

Reflection is about the centres of the outermost pixels (… 2 1 0 1 2 …): the continued image has a period of 2 (size -
1) pixels. Coefficients: Daubechies, "Ten lectures on wavelets", 1992, tables 6.1 and 8.3.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]

# Low-pass filters of the symlets with six and with two vanishing moments; energy 1, sum √2.
SYM6 = np.array(
    [
        0.015404109327027373,
        0.0034907120842174702,
        -0.11799011114819057,
        -0.048311742585633,
        0.4910559419267466,
        0.787641141030194,
        0.3379294217276218,
        -0.07263752278646252,
        -0.021060292512300564,
        0.04472490177066578,
        0.0017677118642428036,
        -0.007800708325034148,
    ]
)
ORIGIN = float(SYM6 @ np.arange(len(SYM6)) / SYM6.sum()) - 5.0
"""Where pixel 0 lies among fine pixels: a symlet is not quite symmetric, its centre of gravity is not in its middle."""

SYM2 = np.array([-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025])

FIRST = -5
"""The first of the fine positions that `downsampling` reads: its filter's reach beyond the image."""
BANDS = 4
"""Of `band_filters`: three octaves and what is below them."""


def fine_period(size: int) -> int:
    """Return after how many fine pixels, two to a pixel, the reflected image repeats itself."""
    return 4 * (size - 1)


def fine_count(size: int) -> int:
    """Return how many fine pixels `downsampling` reads."""
    return 2 * (size - 1) + len(SYM6)


@functools.cache
def upsampling(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix that gives one period of the image at twice the resolution, and its first pixel once more.

    Fine pixel n lies at (n - ORIGIN) / 2 in pixels, as is seen of a ramp.

    Args:
        size: of the axis, at least 2.
        dtype: of the matrix.
        device: likewise.

    Returns:
        (fine_period(size) + 1, size).
    """
    rows = range(fine_period(size) + 1)
    taps = (
        (row, centre, SYM6[row + 5 - 2 * centre]) for row in rows for centre in range((row - 5) // 2, (row + 7) // 2)
    )
    return _tensor(np.sqrt(2.0) * _reflected(taps, len(rows), size), dtype, device)


@functools.cache
def downsampling(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix that brings fine pixels back to the image's resolution: after `upsampling` the identity.

    Args:
        size: of the axis.
        dtype: of the matrix.
        device: likewise.

    Returns:
        (size, fine_count(size)), to be applied to the fine pixels FIRST, FIRST + 1, …
    """
    matrix = np.zeros((size, fine_count(size)))
    for row in range(size):
        matrix[row, 2 * row : 2 * row + len(SYM6)] = SYM6 / np.sqrt(2.0)
    return _tensor(matrix, dtype, device)


@functools.cache
def band_filters(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return matrices that split an axis into frequency bands: below π/8, π/8 to π/4, π/4 to π/2, above π/2.

    The filters have no phase, and the bands add up to the image.

    Args:
        size: of the axis, at least 2.
        dtype: of the matrices.
        device: likewise.

    Returns:
        (BANDS, size, size).
    """
    bands = []
    for taps in _band_taps():
        reach = len(taps) // 2
        of_rows = ((row, row + at - reach, tap) for row in range(size) for at, tap in enumerate(taps))
        bands.append(_reflected(of_rows, size, size))
    return _tensor(np.stack(bands), dtype, device)


def _band_taps() -> list[Array]:
    """Return the filters of `band_filters`, each of odd length, by the octave: the lower half of a band is split on."""
    low = np.convolve(SYM2, SYM2[::-1]) / 2.0
    high = low * (-1.0) ** (np.arange(len(low)) - len(low) // 2)
    below, bands = np.ones(1), []
    for octave in range(BANDS - 1):
        stretch = 1 << octave
        bands.append(np.convolve(below, _stretched(high, stretch)))
        below = np.convolve(below, _stretched(low, stretch))
    return [below, *reversed(bands)]


def _stretched(taps: Array, factor: int) -> Array:
    stretched = np.zeros((len(taps) - 1) * factor + 1)
    stretched[::factor] = taps
    return stretched


def _reflected(taps: Iterable[tuple[int, int, float]], rows: int, size: int) -> Array:
    """Return the matrix of (row, position, coefficient), positions outside of the image reflected into it."""
    matrix = np.zeros((rows, size))
    period = 2 * (size - 1)
    for row, position, coefficient in taps:
        place = position % period
        matrix[row, min(place, period - place)] += coefficient
    return matrix


def _tensor(matrix: Array, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Made at the first call, for good: a step that is captured in a CUDA graph after others finds them on the device.
    with torch.inference_mode(False):
        return torch.from_numpy(matrix).to(device, dtype)
