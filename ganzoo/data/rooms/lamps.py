"""The lamp: one that stands beside the bed's head, or one that hangs from the ceiling."""

from __future__ import annotations

import numpy as np

from ganzoo.data.rooms.arithmetic import Doubles, Floats, planes
from ganzoo.data.rooms.camera import ROOM_HEIGHT, View
from ganzoo.data.rooms.factors import Factors
from ganzoo.data.rooms.light import HANGING_Y, HANGING_Z, LAMP_X, LAMP_Y, LAMP_Z, Light
from ganzoo.data.rooms.painting import Canvas, quad

_CREAM = np.array([0.80, 0.74, 0.62], dtype=np.float32)[:, None, None, None]
_GLOW = np.array([1.25, 0.92, 0.42], dtype=np.float32)[:, None, None, None]
_F = np.float32


def paint_floor_lamp(canvas: Canvas, view: View, factors: Factors, light: Light) -> None:
    """Paint a floor lamp beside the bed's head: foot, pole, shade."""
    x = np.where(factors["lamp_side"] > 0, LAMP_X, -LAMP_X)
    there = planes((factors["lamp"] == 1) * 1.0)
    bounds = np.stack([view.project(x + dx, y, LAMP_Z) for dx in (-0.3, 0.3) for y in (-0.05, 1.8)])
    part = view.part(bounds)
    metal = np.full((3, 1, 1, 1), 0.10, dtype=np.float32) * (light.everywhere + light.lamp * _F(0.3))
    canvas.paint(part, _frustum(part, x, LAMP_Z, 0.0, 0.03, 0.15, 0.14) * there, metal)
    canvas.paint(part, _frustum(part, x, LAMP_Z, 0.0, LAMP_Y, 0.015, 0.015) * there, metal)
    _paint_shade(canvas, part, x, LAMP_Z, (LAMP_Y - 0.14, LAMP_Y + 0.17), (0.21, 0.15), there, factors, light)


def paint_hanging_lamp(canvas: Canvas, view: View, factors: Factors, light: Light) -> None:
    """Paint a lamp that hangs from the ceiling in the middle of the room: cord and shade."""
    x = np.zeros(len(factors["lamp"]))
    there = planes((factors["lamp"] == 2) * 1.0)
    bounds = np.stack([view.project(x + dx, y, HANGING_Z) for dx in (-0.35, 0.35) for y in (1.7, ROOM_HEIGHT)])
    part = view.part(bounds)
    cord = np.full((3, 1, 1, 1), 0.05, dtype=np.float32)
    canvas.paint(part, _frustum(part, x, HANGING_Z, HANGING_Y, ROOM_HEIGHT, 0.008, 0.008) * there, cord)
    _paint_shade(canvas, part, x, HANGING_Z, (HANGING_Y - 0.1, HANGING_Y + 0.1), (0.24, 0.10), there, factors, light)


def _frustum(view: View, x: Doubles, z: float, low: float, high: float, below: float, above: float) -> Floats:
    """Return how much of each pixel an upright shape covers, of radius `below` at its foot and `above` at its top."""

    def at(side: float, height: float, radius: float) -> Doubles:
        aside_x, aside_z = view.cosine * radius * side, -view.sine * radius * side  # at right angles to the view
        return view.project(x + aside_x, height, z + aside_z)

    return quad(view, (at(-1, high, above), at(1, high, above), at(1, low, below), at(-1, low, below)))


def _paint_shade(
    canvas: Canvas,
    view: View,
    x: Doubles,
    z: float,
    heights: tuple[float, float],
    radii: tuple[float, float],
    there: Floats,
    factors: Factors,
    light: Light,
) -> None:
    """Paint a lamp's shade: a lit one glows, brightest in its middle; one that is off is cream cloth."""
    covered = _frustum(view, x, z, heights[0], heights[1], radii[0], radii[1]) * there
    middle = view.project(x, heights[0], z)[:, 0]
    reach = view.project(x + radii[0] * view.cosine, heights[0], z - radii[0] * view.sine)[:, 0] - middle
    across = (view.u - planes(middle)) / planes(reach)
    round_ = np.maximum(_F(1) - _F(0.45) * across * across, _F(0.3))
    shining = planes(factors["lamp_on"] * 1.0)
    canvas.paint(view, covered, (_CREAM * light.everywhere * (_F(1) - shining) + _GLOW * shining) * round_)
