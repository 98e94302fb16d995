"""Light in a room, linear and in three colours: what is everywhere, what a lamp gives, and what comes in at the window.

    lamp      E = I cos(a) / (r² + s²)              a: between the surface's normal and the way to the lamp
    window    E = I cos(a) cos(b) / (r² + s²)       b: between the window's normal and the way to the surface

so both fall off as they do in a room; s keeps them finite close by. Corners are darker, for less of the room is seen
from them; the sun lays the window's shape on what is level, with edges that blur with the distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ganzoo.data.rooms.arithmetic import Floats, Values, planes
from ganzoo.data.rooms.camera import ROOM_HEIGHT, ROOM_WIDTH
from ganzoo.data.rooms.factors import WINDOW_BOTTOM, WINDOW_TOP, Factors
from ganzoo.data.rooms.painting import between

LAMP_X, LAMP_Z, LAMP_Y = 1.6, 0.4, 1.5  # of a floor lamp's bulb
HANGING_Y, HANGING_Z = 1.98, 1.5
_SOFT_LAMP, _SOFT_WINDOW = 0.10, 0.6  # m²
_SUN_ACROSS, _SUN_DOWN = 0.28, 0.8  # metres in x and y for every metre into the room
_WARM = np.array([1.0, 0.72, 0.42])
_COOL = np.array([0.92, 0.98, 1.06])
_SUN = np.array([1.0, 0.9, 0.7])


@dataclass(frozen=True)
class Light:
    """The light of each room of a chunk; all arrays are (N, 1, 1), colours (3, N, 1, 1).

    Attributes:
        everywhere: without shadows.
        lamp: of the lamp, 0 where it does not shine.
        lamp_x, lamp_y, lamp_z: where its bulb is.
        window: of the sky in the window, 0 where there is none.
        sun: of the sun that falls through it.
        window_x, window_half: the window's middle and half its width.
    """

    everywhere: Floats
    lamp: Floats
    lamp_x: Floats
    lamp_y: Floats
    lamp_z: Floats
    window: Floats
    sun: Floats
    window_x: Floats
    window_half: Floats

    @classmethod
    def of(cls, factors: Factors) -> Light:
        """Return the light that the factors tell of."""
        strength = factors["light"]
        day = factors["daylight"] * factors["window"]
        shining = factors["lamp_on"] * 1.0
        hangs = factors["lamp"] == 2
        side = np.where(factors["lamp_side"] > 0, LAMP_X, -LAMP_X)
        fill = strength * (0.92 + 0.24 * day + 0.14 * shining)
        tint = np.ones((3, 1)) + (0.10 * shining * (1.0 - 0.6 * day)) * (_WARM - 0.75)[:, None]
        return cls(
            everywhere=planes(tint * fill),
            lamp=planes(_WARM[:, None] * (strength * shining * np.where(hangs, 0.8, 0.5))),
            lamp_x=planes(np.where(hangs, 0.0, side)),
            lamp_y=planes(np.where(hangs, HANGING_Y, LAMP_Y)),
            lamp_z=planes(np.where(hangs, HANGING_Z, LAMP_Z)),
            window=planes(_COOL[:, None] * (strength * day * factors["window_width"])),
            sun=planes(_SUN[:, None] * (strength * np.maximum(day - 0.25, 0.0) * 0.9)),
            window_x=planes(factors["window_x"]),
            window_half=planes(factors["window_width"] / 2),
        )

    def on_back_wall(self, x: Floats, y: Floats) -> Floats:
        """Return the light on the back wall: (3, N, H, W), at x (N, 1, W) and y (N, H, W)."""
        corners = _open(half_width(x)) * _open(np.minimum(y, np.float32(ROOM_HEIGHT) - y))
        light: Floats = self.everywhere * corners + self.lamp * self._from_lamp(x, y, np.float32(0), self.lamp_z)
        return light

    def on_side_wall(self, wall: float, y: Floats, z: Floats) -> Floats:
        """Return the light on the wall at x = `wall`: (3, N, H, W), at y (N, H, W) and z (N, 1, W)."""
        z = np.maximum(z, np.float32(0))
        corners = _open(z) * _open(np.minimum(y, np.float32(ROOM_HEIGHT) - y))
        place = np.float32(wall)
        light = self.everywhere * (corners * np.float32(0.9))
        light = light + self.lamp * self._from_lamp(place, y, z, np.abs(place - self.lamp_x))
        whole: Floats = light + self.window * self._from_window(place, y, z, np.abs(place - self.window_x))
        return whole

    def on_level(self, level: float, x: Floats, z: Floats, *, bounce: float = 0.95) -> Floats:
        """Return the light on a level plane, from above: (3, N, H, W), at x and z (N, H, W)."""
        place = np.float32(level)
        z = np.maximum(z, np.float32(0))
        light: Floats = self.everywhere * (_open(half_width(x)) * _open(z) * np.float32(bounce))
        if level < ROOM_HEIGHT:
            light = light + self.lamp * self._from_lamp(x, place, z, self.lamp_y - place)
            middle = np.float32((WINDOW_BOTTOM + WINDOW_TOP) / 2)
            light = light + self.window * self._from_window(x, place, z, middle - place)
            light = light + self.sun * self._from_sun(x, place, z)
        else:
            light = light + self.lamp * self._from_lamp(x, place, z, place - self.lamp_y)
        return light

    def _from_lamp(self, x: Values, y: Values, z: Values, height: Values) -> Floats:
        """Return the lamp's cos(a) / (r² + s²); `height` is the bulb's above the surface."""
        across, up, along = x - self.lamp_x, y - self.lamp_y, z - self.lamp_z
        square: Any = (across * across + along * along) + up * up + np.float32(_SOFT_LAMP)
        falloff: Floats = np.maximum(height, np.float32(0)) / (square * np.sqrt(square))
        return falloff

    def _from_window(self, x: Values, y: Values, z: Values, height: Values) -> Floats:
        """Return the window's cos(a) cos(b) / (r² + s²); `height` is its middle's above the surface."""
        across, up = x - self.window_x, y - np.float32((WINDOW_BOTTOM + WINDOW_TOP) / 2)
        square: Any = (across * across + z * z) + up * up + np.float32(_SOFT_WINDOW)
        falloff: Floats = np.maximum(height, np.float32(0)) * z / (square * square)
        return falloff

    def _from_sun(self, x: Floats, y: Values, z: Floats) -> Floats:
        """Return how much of the sun reaches a place: traced back along its ray to the window."""
        window_y = y + np.float32(_SUN_DOWN) * z
        window_x = x - np.float32(_SUN_ACROSS) * z - self.window_x
        blur = np.float32(0.05) + np.float32(0.07) * z
        inside = between(window_x, -self.window_half, self.window_half, blur)
        inside *= between(window_y, np.float32(WINDOW_BOTTOM), np.float32(WINDOW_TOP), blur)
        return inside


def half_width(x: Floats) -> Floats:
    """Return the distance from the nearer side wall."""
    distance: Floats = np.maximum(np.float32(ROOM_WIDTH / 2) - np.abs(x), np.float32(0))
    return distance


def _open(distance: Floats) -> Floats:
    """Return how open the room is at a distance from a corner: 0.62 in it, 1 far away."""
    distance = np.maximum(distance, np.float32(0))
    openness: Floats = (distance + np.float32(0.13)) / (distance + np.float32(0.21))
    return openness
