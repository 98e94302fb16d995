"""Arithmetic that gives the same bits on every machine: sums, products, quotients, square roots, comparisons and
floors, each of them rounded as IEEE 754 says, and nothing else. Sines come from a Taylor polynomial, for the last bits
of a library's differ from one to the next.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Values = Floats | np.float32

_TWO_PI = 6.283185307179586
_HALVINGS = 3  # of the angle, so that the series below is exact to double precision
_TERMS = 9


def sine_cosine(turns: Doubles) -> tuple[Doubles, Doubles]:
    """Return (sin 2πt, cos 2πt) of angles in turns, to about 1e-15.

    The angle is reduced to half a turn, halved three times, and doubled again after the Taylor series:
    sin 2x = 2 sin x cos x, cos 2x = 1 - 2 sin² x.

    Args:
        turns: any shape.
    """
    x = (turns - np.floor(turns + 0.5)) * (_TWO_PI / 2**_HALVINGS)
    square = x * x
    sine, cosine = np.ones_like(x), np.ones_like(x)
    for k in range(_TERMS, 0, -1):
        sine = 1.0 - square / (2 * k * (2 * k + 1)) * sine
        cosine = 1.0 - square / ((2 * k - 1) * 2 * k) * cosine
    sine = sine * x
    for _ in range(_HALVINGS):
        sine, cosine = 2.0 * sine * cosine, 1.0 - 2.0 * sine * sine
    return sine, cosine


def oklch(lightness: Doubles, chroma: Doubles, degrees: Doubles) -> Floats:
    """Return colours given in OKLCh as linear sRGB: (3, N, 1, 1), float32, not below 0.

    Equal steps of hue look equally far in it, at one lightness (B. Ottosson, "A perceptual color space for image
    processing", 2020).

    Args:
        lightness: (N,) in [0, 1].
        chroma: (N,), about 0 to 0.2.
        degrees: (N,), the hue.
    """
    sine, cosine = sine_cosine(degrees / 360.0)
    a, b = chroma * cosine, chroma * sine
    roots = (
        lightness + 0.3963377774 * a + 0.2158037573 * b,
        lightness - 0.1055613458 * a - 0.0638541728 * b,
        lightness - 0.0894841775 * a - 1.2914855480 * b,
    )
    long, medium, short = (root * root * root for root in roots)
    linear = np.stack(
        (
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        )
    )
    return planes(np.maximum(linear, 0.0))


def planes(values: Doubles) -> Floats:
    """Return values per image as float32 with two axes for rows and columns: (..., N) gives (..., N, 1, 1)."""
    return np.asarray(values, dtype=np.float64).astype(np.float32)[..., None, None]
