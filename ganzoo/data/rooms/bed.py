"""The bed: head-board, mattress below a blanket, pillows."""

from __future__ import annotations

import numpy as np

from ganzoo.data.rooms.arithmetic import Doubles, Floats, oklch, planes
from ganzoo.data.rooms.camera import View
from ganzoo.data.rooms.factors import Factors
from ganzoo.data.rooms.floor import BED_LENGTH, bed_half_width
from ganzoo.data.rooms.light import Light
from ganzoo.data.rooms.painting import Canvas, blend, quad, ramp

_TOP, _DRAPE, _FRAME = 0.56, 0.2, 0.1  # heights of the blanket's top, its lower hem, and the frame's underside
_HEADBOARD, _HEADBOARD_Z = 1.0, 0.08
_SHEET = (0.52, 0.74)  # metres from the back wall: the folded sheet, where the blanket begins
_PILLOW_Z, _PILLOW = 0.33, (0.31, 0.15)  # half its width and height, metres
_F = np.float32


def paint_bed(canvas: Canvas, view: View, factors: Factors, light: Light) -> None:
    """Paint the bed: head-board, sides, foot, top, pillows, from back to front.

    Args:
        canvas: the room so far.
        view: of whole images.
        factors: of the rooms, complete.
        light: of the rooms.
    """
    middle, half = factors["bed_x"], bed_half_width(factors)
    left, right = middle - half, middle + half
    ones = np.ones(len(middle))
    wood = oklch(0.36 + 0.36 * factors["wood"], 0.05 * ones, 62.0 * ones)
    blanket = oklch(factors["blanket_lightness"], 0.10 * ones, factors["blanket_hue"])
    bounds = np.stack(
        [view.project(x, y, z) for x in (left - 0.1, right + 0.1) for y in (0.0, 1.2) for z in (0.0, 2.1)]
    )
    part = view.part(bounds)
    _paint_headboard(canvas, part, left - 0.05, right + 0.05, wood, light)
    for x, sign in ((left, -1.0), (right, 1.0)):
        _paint_side(canvas, part, x, sign, wood, blanket, light)
    _paint_foot(canvas, part, left, right, wood, blanket, light)
    _paint_top(canvas, part, left, right, blanket, light)
    _paint_pillows(canvas, part, factors, light)


def _box_front(view: View, left: Doubles, right: Doubles, low: float, high: float, z: float) -> Floats:
    corners = (view.project(left, high, z), view.project(right, high, z))
    return quad(view, (*corners, view.project(right, low, z), view.project(left, low, z)))


def _paint_headboard(canvas: Canvas, view: View, left: Doubles, right: Doubles, wood: Floats, light: Light) -> None:
    x, y, _ = view.on_back_wall(_HEADBOARD_Z)
    bright = light.on_back_wall(x, y)
    side = wood * _F(0.7) * bright
    for edge, sign in ((left, -1.0), (right, 1.0)):
        canvas.paint(view, _side(view, edge, sign, 0.0, _HEADBOARD, 0.0, _HEADBOARD_Z), side)
    top = [view.project(x_, _HEADBOARD, z) for x_, z in ((left, 0.0), (right, 0.0))]
    near = [view.project(x_, _HEADBOARD - 0.02, _HEADBOARD_Z) for x_ in (right, left)]
    canvas.paint(view, quad(view, (top[0], top[1], near[0], near[1])), wood * _F(1.25) * bright)
    canvas.paint(view, _box_front(view, left, right, 0.0, _HEADBOARD, _HEADBOARD_Z), wood * bright)
    inner = _box_front(view, left + 0.1, right - 0.1, 0.0, _HEADBOARD - 0.1, _HEADBOARD_Z)
    canvas.paint(view, inner, wood * _F(0.8) * bright)


def _side(view: View, x: Doubles, sign: float, low: float, high: float, back: float, front: float) -> Floats:
    """Return how much of each pixel a box's left (sign -1) or right side covers; 0 where it faces away."""
    first, last = (back, front) if sign < 0 else (front, back)  # from left to right in the image
    corners = (view.project(x, high, first), view.project(x, high, last))
    return quad(view, (*corners, view.project(x, low, last), view.project(x, low, first)))


def _cloth(view: View, y: Floats, t: Floats, wood: Floats, blanket: Floats) -> Floats:
    """Return the colours of an upright side of the bed: blanket down to its hem, darker towards it, then the frame."""
    pixel = view.footprint(t)
    up = np.minimum(np.maximum((y - _F(_DRAPE)) / _F(_TOP - _DRAPE), _F(0)), _F(1))
    shadow: Floats = np.minimum(np.maximum(y / _F(_FRAME), _F(0.25)), _F(1))
    return shadow * blend(wood * _F(0.8), ramp(y - _F(_DRAPE), pixel), blanket * (_F(0.74) + _F(0.26) * up))


def _paint_side(
    canvas: Canvas, view: View, x: Doubles, sign: float, wood: Floats, blanket: Floats, light: Light
) -> None:
    covered = _side(view, x, sign, 0.0, _TOP + 0.03, 0.0, BED_LENGTH)
    y, _, t = view.on_side_wall(x)
    bright = light.everywhere * _F(0.8) + light.lamp * _F(0.12) + light.window * _F(0.05)
    canvas.paint(view, covered, _cloth(view, y, t, wood, blanket) * bright)


def _paint_foot(
    canvas: Canvas, view: View, left: Doubles, right: Doubles, wood: Floats, blanket: Floats, light: Light
) -> None:
    covered = _box_front(view, left, right, 0.0, _TOP + 0.03, BED_LENGTH)
    _, y, t = view.on_back_wall(BED_LENGTH)
    bright = light.everywhere * _F(0.88) + light.lamp * _F(0.05)
    canvas.paint(view, covered, _cloth(view, y, t, wood, blanket) * bright)


def _paint_top(canvas: Canvas, view: View, left: Doubles, right: Doubles, blanket: Floats, light: Light) -> None:
    corners = (view.project(left, _TOP, 0.05), view.project(right, _TOP, 0.05))
    covered = quad(view, (*corners, view.project(right, _TOP, BED_LENGTH), view.project(left, _TOP, BED_LENGTH)))
    x, z, t = view.on_level(_TOP)
    along = view.footprint(t) * t
    begin, end = _SHEET
    white = np.full((3, 1, 1, 1), 0.80, dtype=np.float32)
    cloth = blend(white, ramp(z - _F(begin), along), white * _F(1.08))
    cloth = blend(cloth, ramp(z - _F(end), along), blanket)
    middle, half = planes((left + right) / 2), planes((right - left) / 2)
    aside = (x - middle) / half
    square = aside * aside
    round_ = _F(1.04) - _F(0.20) * square * square  # the blanket falls off towards its edges
    soft = _F(1) - _F(0.12) * (_F(0.02) / ((z - _F(end)) * (z - _F(end)) + _F(0.02)))  # below the fold
    canvas.paint(view, covered, cloth * light.on_level(_TOP, x, z, bounce=1.1) * (round_ * soft))


def _paint_pillows(canvas: Canvas, view: View, factors: Factors, light: Light) -> None:
    """Paint one pillow, or two side by side on a double bed."""
    double = factors["bed"] > 0
    for sign in (-1.0, 1.0):
        away = np.where(double, sign * 0.38, 0.0)
        x = factors["bed_x"] + away
        there = planes(np.where(double | (sign < 0), 1.0, 0.0))
        middle = view.project(x, _TOP + _PILLOW[1] * 0.85, _PILLOW_Z)
        aside_x, aside_z = view.cosine * _PILLOW[0], -view.sine * _PILLOW[0]  # at right angles to the view
        wide = view.project(x + aside_x, _TOP, _PILLOW_Z + aside_z)[:, 0] - middle[:, 0]
        high = view.project(x, _TOP, _PILLOW_Z)[:, 1] - view.project(x, _TOP + _PILLOW[1], _PILLOW_Z)[:, 1]
        across = (view.u - planes(middle[:, 0])) / planes(wide)
        down = (view.v - planes(middle[:, 1])) / planes(high)
        across2, down2 = across * across, down * down
        inside = _F(1) - (across2 * across2 + down2 * down2)
        covered = ramp(inside, planes(4.0 / (view.size * high))) * there
        level = light.everywhere * _F(1.0) + light.lamp * _F(0.28) + light.window * _F(0.10)
        tone = _F(0.86) - _F(0.22) * down - _F(0.07) * across2
        canvas.paint(view, covered, level * tone * _F(0.92))
