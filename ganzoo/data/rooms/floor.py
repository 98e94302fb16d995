"""The floor: planks, carpet or tiles, the shadow below the bed, and a rug.

A pattern is seen through a box as wide as a pixel's reach on the floor, so that far planks melt into each other as they
do in a photograph, at every size.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ganzoo.data.rooms.arithmetic import Doubles, Floats, oklch, planes, sine_cosine
from ganzoo.data.rooms.camera import ROOM_WIDTH, View
from ganzoo.data.rooms.factors import Factors
from ganzoo.data.rooms.light import Light
from ganzoo.data.rooms.painting import between, blend

BED_LENGTH = 2.05  # metres
_PLANKS = (0.93, 1.05, 0.98, 1.08, 0.9, 1.02, 0.95, 1.06, 0.99, 0.92, 1.04, 0.97)  # tones of neighbouring planks
_PLANK, _TILE, _JOINT = 0.18, 0.42, 0.02  # metres
_IN_JOINT = 0.72  # its tone
_CELL = 0.02  # metres: the grain of a pattern
_DEEP = 6.0  # metres of floor, more than any camera sees
_F = np.float32


def floor(view: View, factors: Factors, light: Light) -> Floats:
    """Return what is seen of the floor: (3, N, H, W), linear sRGB.

    Args:
        view: the part of the images.
        factors: of the rooms, complete.
        light: of the rooms.
    """
    x, z, t = view.on_level(0.0)
    across = view.footprint(t)
    along = across * t * _F(0.5)  # a pixel reaches farther along a level plane than across: t / eye height, about
    across = across + along * np.abs(planes(view.sine))
    surface = _material(factors) * _pattern(x, z, across, along, factors["floor"])
    surface = _with_rug(surface, x, z, across, along, factors)
    surface *= light.on_level(0.0, x, z)
    surface *= _bed_shadow(x, z, factors)
    return surface


def bed_half_width(factors: Factors) -> Doubles:
    """Return half the bed's width in metres: (N,)."""
    half: Doubles = np.where(factors["bed"] > 0, 0.85, 0.55)
    return half


def _material(factors: Factors) -> Floats:
    """Return the floor's colour: any hue for carpet and tiles, the browns for wood."""
    sine, cosine = sine_cosine(factors["floor_hue"] / 360.0)
    kind = factors["floor"]
    wood, carpet = kind == 0, kind == 1
    hue = np.where(wood, 62.0 + 14.0 * sine, factors["floor_hue"])
    lightness = np.where(wood, 0.60 + 0.12 * cosine, np.where(carpet, 0.62, 0.78))
    chroma = np.where(wood, 0.075, np.where(carpet, 0.06, 0.025))
    return oklch(lightness, chroma, hue)


def _pattern(x: Floats, z: Floats, across: Floats, along: Floats, kind: npt.NDArray[np.int64]) -> Floats:
    """Return the tone of planks (along z), of carpet (even) or of tiles (squares with joints): (N, H, W)."""
    row = kind[:, None, None]
    tone = _filtered(_TONES_X, row, x + _F(ROOM_WIDTH / 2), across)
    return tone * _filtered(_TONES_Z, row, z, along)


def _filtered(sums: Floats, row: npt.NDArray[np.int64], place: Floats, width: Floats) -> Floats:
    """Return a pattern's mean over [place - width / 2, place + width / 2], from its integral: (N, H, W).

    Args:
        sums: (kinds, cells + 1) the integral at multiples of the cell.
        row: (N, 1, 1) the kind.
        place, width: in metres.
    """
    cells = _F(sums.shape[1] - 1)
    half = np.maximum(width / _F(2 * _CELL), _F(0.5))
    middle = place * _F(1 / _CELL)

    def integral(at: Floats) -> Floats:
        cell = np.minimum(np.floor(at), cells - _F(1))
        below = cell.astype(np.int64)
        start = sums[row, below]
        value: Floats = start + (sums[row, below + 1] - start) * (at - cell)
        return value

    low = np.minimum(np.maximum(middle - half, _F(0)), cells - _F(1))
    high = np.maximum(np.minimum(middle + half, cells), low + _F(1))
    mean: Floats = (integral(high) - integral(low)) / (high - low)
    return mean


def _stripes(metres: float, tones: tuple[float, ...] = (1.0,), width: float = 1.0, joint: float = 0.0) -> list[float]:
    """Return the integral of a pattern of stripes with darker joints, at multiples of the cell."""
    total, sums = 0.0, [0.0]
    stripe, gap = round(width / _CELL), round(joint / _CELL)
    for cell in range(round(metres / _CELL)):
        number, place = divmod(cell, stripe)
        total += tones[number % len(tones)] * (_IN_JOINT if place < gap else 1.0)
        sums.append(total)
    return sums


_TONES_X = np.array(
    [
        _stripes(ROOM_WIDTH, _PLANKS, _PLANK, _JOINT),
        _stripes(ROOM_WIDTH),
        _stripes(ROOM_WIDTH, width=_TILE, joint=_JOINT),
    ],
    dtype=np.float32,
)
_TONES_Z = np.array([_stripes(_DEEP), _stripes(_DEEP), _stripes(_DEEP, width=_TILE, joint=_JOINT)], dtype=np.float32)


def _bed_shadow(x: Floats, z: Floats, factors: Factors) -> Floats:
    """Return the dimming of the floor near the bed: (N, H, W)."""
    half = planes(bed_half_width(factors))
    aside = np.maximum(np.abs(x - planes(factors["bed_x"])) - half, _F(0))
    before = np.maximum(z - _F(BED_LENGTH), _F(0))
    square = aside * aside + before * before
    dimming: Floats = _F(1) - _F(0.55) * (_F(0.05) / (square + _F(0.05)))
    return dimming


def _with_rug(surface: Floats, x: Floats, z: Floats, across: Floats, along: Floats, factors: Factors) -> Floats:
    """Return the floor with a rug that lies below the bed's foot, and its border."""
    there = planes(factors["rug"] * 1.0)
    half = planes(bed_half_width(factors) + 0.45)
    from_middle = x - planes(factors["bed_x"])

    def inset(by: float) -> Floats:
        wide = half - _F(by)
        return between(from_middle, -wide, wide, across) * (between(z, _F(1.1 + by), _F(2.65 - by), along) * there)

    hue, ones = factors["rug_hue"], np.ones(len(factors["rug_hue"]))
    surface = blend(surface, inset(0.0), oklch(0.45 * ones, 0.09 * ones, hue))
    surface = blend(surface, inset(0.1), oklch(0.83 * ones, 0.04 * ones, hue))
    return blend(surface, inset(0.17), oklch(0.6 * ones, 0.09 * ones, hue))
