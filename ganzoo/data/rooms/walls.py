"""The room itself: the back wall with a window and a picture, the side walls, the ceiling, and the floor's place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ganzoo.data.rooms.arithmetic import Floats, oklch, planes
from ganzoo.data.rooms.camera import ROOM_HEIGHT, ROOM_WIDTH, View
from ganzoo.data.rooms.factors import WINDOW_BOTTOM, WINDOW_TOP, Factors, window_edges
from ganzoo.data.rooms.floor import floor
from ganzoo.data.rooms.light import Light
from ganzoo.data.rooms.painting import Canvas, between, blend, half_plane, ramp

_SKIRTING = 0.10  # metres
_WHITE = np.float32(0.82)  # paint
_WALL_CHROMA = 0.055
_LEFT, _RIGHT = -ROOM_WIDTH / 2, ROOM_WIDTH / 2
_BAR, _CROSSING = 0.06, 1.7  # the window's bars: how wide, and how high the level one is; metres
_NEAR = 1.5  # metres from the back wall: a point on each seam that is in front of the camera
_PICTURE_X, _PICTURE_Y = (-1.78, -1.22), (1.3, 2.0)
_ALL = np.ones((1, 1, 1), dtype=np.float32)
_F = np.float32


def paint_room(canvas: Canvas, view: View, factors: Factors, light: Light) -> None:
    """Paint walls, ceiling and floor of rooms, and what lies or hangs flat on them.

    Args:
        canvas: painted over wholly.
        view: of whole images.
        factors: of the rooms, complete.
        light: of the rooms.
    """
    lightness = factors["wall_lightness"]
    wall = oklch(lightness, np.full_like(lightness, _WALL_CHROMA), factors["wall_hue"])
    _paint_back_wall(canvas, view, factors, light, wall)
    for x in (_LEFT, _RIGHT):
        _paint_side_wall(canvas, view, x, light, wall)
    _paint_level(canvas, view, 0.0, lambda part: floor(part, factors, light))
    _paint_level(canvas, view, ROOM_HEIGHT, lambda part: _ceiling(part, light))


def _paint_back_wall(canvas: Canvas, view: View, factors: Factors, light: Light, wall: Floats) -> None:
    corners = [view.project(x, y, 0.0) for x in (_LEFT, _RIGHT) for y in (0.0, ROOM_HEIGHT)]
    part = view.part(np.stack(corners))
    x, y, t = part.on_back_wall()
    pixel = part.footprint(t)
    bright = light.on_back_wall(x, y)
    surface = blend(wall, ramp(_F(_SKIRTING) - y, pixel), _WHITE) * bright
    surface = _with_picture(surface, x, y, pixel, factors, bright)
    surface = _with_window(surface, x, y, pixel, factors, light, bright)
    canvas.paint(part, _ALL, surface)


def _paint_side_wall(canvas: Canvas, view: View, x: float, light: Light, wall: Floats) -> None:
    edge = view.project(x, 0.0, 0.0)[:, 0]
    inner, outer, outwards = (edge.max(), -0.5, _F(-1)) if x < 0 else (edge.min(), 0.5, _F(1))
    part = view.part(np.array([[inner, 0.0], [outer, 1.0]]))
    y, z, t = part.on_side_wall(x)
    surface = blend(wall, ramp(_F(_SKIRTING) - y, part.footprint(t)), _WHITE) * light.on_side_wall(x, y, z)
    canvas.paint(part, ramp((part.u - planes(edge)) * outwards, _F(1 / view.size)), surface)


def _paint_level(canvas: Canvas, view: View, y: float, surface: Callable[[View], Floats]) -> None:
    """Paint the floor or the ceiling: what lies beyond its seams with the three walls."""
    left, right = view.project(_LEFT, y, 0.0), view.project(_RIGHT, y, 0.0)
    far = np.stack((left, right))[:, :, 1]
    rows = (far.min(), 1.0) if y == 0.0 else (0.0, far.max())
    part = view.part(np.array([[-0.5, rows[0]], [0.5, rows[1]]]))
    seams = ((left, right), (view.project(_LEFT, y, _NEAR), left), (right, view.project(_RIGHT, y, _NEAR)))
    inside = [half_plane(part, *(seam if y == 0.0 else seam[::-1])) for seam in seams]
    canvas.paint(part, np.minimum(np.minimum(inside[0], inside[1]), inside[2]), surface(part))


def _with_window(
    surface: Floats, x: Floats, y: Floats, pixel: Floats, factors: Factors, light: Light, bright: Floats
) -> Floats:
    """Return the wall with a window in it: sky over a line of trees, a white casing and a cross."""
    left, right, bottom, top = window_edges(factors)
    there = planes(factors["window"] * 1.0)
    casing = between(y, _F(bottom), _F(top), pixel) * between(x, planes(left), planes(right), pixel) * there
    middle, half = light.window_x, light.window_half
    glass = between(x, middle - half, middle + half, pixel) * between(y, _F(WINDOW_BOTTOM), _F(WINDOW_TOP), pixel)
    upright = between(x, middle - _F(_BAR / 2), middle + _F(_BAR / 2), pixel)
    crossing = between(y, _F(_CROSSING - _BAR / 2), _F(_CROSSING + _BAR / 2), pixel)
    glass = glass * (_F(1) - upright) * (_F(1) - crossing)
    frame = bright * _F(0.55) + _F(0.25) * (light.everywhere + light.window)
    surface = blend(surface, casing, frame)
    return blend(surface, glass * there, _outside(x, y, pixel, factors))


def _outside(x: Floats, y: Floats, pixel: Floats, factors: Factors) -> Floats:
    """Return what is seen through the window: (3, N, H, W), brighter and bluer by day."""
    day = planes(factors["daylight"])
    height = (y - _F(WINDOW_BOTTOM)) / _F(WINDOW_TOP - WINDOW_BOTTOM)
    zenith = np.stack([_F(0.02) + _F(0.24) * day, _F(0.035) + _F(0.50) * day, _F(0.11) + _F(0.93) * day])
    horizon = np.stack([_F(0.16) + _F(0.72) * day, _F(0.12) + _F(0.82) * day, _F(0.16) + _F(0.84) * day])
    sky = horizon + (zenith - horizon) * np.maximum(height, _F(0))
    trees = np.stack([_F(0.012) + _F(0.10) * day, _F(0.02) + _F(0.22) * day, _F(0.02) + _F(0.07) * day])
    hill = _F(0.24) + _F(0.05) * x - _F(0.03) * x * x
    return blend(sky, ramp((hill - height) * _F(WINDOW_TOP - WINDOW_BOTTOM), pixel + _F(0.03)), trees)


def _with_picture(surface: Floats, x: Floats, y: Floats, pixel: Floats, factors: Factors, bright: Floats) -> Floats:
    """Return the back wall with a framed picture: a mount, and a landscape of two tones."""
    there = planes(factors["picture"] * 1.0)
    (left, right), (low, high) = _PICTURE_X, _PICTURE_Y

    def inset(by: float) -> Floats:
        down = between(y, _F(low + by), _F(high - by), pixel) * there
        return between(x, _F(left + by), _F(right - by), pixel) * down

    surface = blend(surface, inset(0.0), _F(0.05) * bright)
    surface = blend(surface, inset(0.045), _F(0.85) * bright)
    hue, ones = factors["picture_hue"], np.ones(len(factors["picture_hue"]))
    above, below = oklch(0.84 * ones, 0.07 * ones, hue), oklch(0.5 * ones, 0.11 * ones, hue + 35.0)
    hills = ramp(_F((low + high) / 2 - 0.04) - y + _F(0.3) * (x - _F((left + right) / 2)), pixel)
    return blend(surface, inset(0.10), blend(above, hills, below) * bright)


def _ceiling(view: View, light: Light) -> Floats:
    x, z, _ = view.on_level(ROOM_HEIGHT)
    return light.on_level(ROOM_HEIGHT, x, z) * _F(0.86)
