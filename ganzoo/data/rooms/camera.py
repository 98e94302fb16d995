"""The camera: it stands on a circle around the room's middle, looks at it, and is held level, so that verticals stay
vertical in the image; the horizon is moved up instead, as an architect's photographer does by shifting the lens.

World coordinates, in metres: x to the right, y up, z from the back wall (z = 0) towards the camera. Image coordinates,
in units of the image's side: u to the right from the middle, v down from the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.data.rooms.arithmetic import Doubles, Floats, planes, sine_cosine

ROOM_WIDTH, ROOM_HEIGHT = 4.2, 2.55
_PIVOT_Z, _RADIUS, _EYE = 1.2, 3.4, 1.5
_FOCAL = 0.86  # in units of the image's side
_HORIZON = 0.34  # of the image's height
_FAR = 100.0  # metres, instead of infinity where a ray runs beside a plane


@dataclass
class View:
    """A part of the images of one chunk, and the rays of its pixels.

    Attributes:
        size: height and width of the whole images, in pixels.
        sine, cosine: of the camera's angle, (N,).
        u: of the pixels' middles, (1, 1, W).
        v: (1, H, 1).
        ray_x, ray_z: what a ray gains in x and z with every metre of depth, (N, 1, W).
        rows, columns: which part of the images this is.
    """

    size: int
    sine: Doubles
    cosine: Doubles
    u: Floats
    v: Floats
    ray_x: Floats
    ray_z: Floats
    rows: slice
    columns: slice

    @classmethod
    def of(cls, degrees: Doubles, size: int) -> View:
        """Return the view of whole images.

        Args:
            degrees: (N,) the camera's angle; negative: it stands on the left, and looks to the right.
            size: height and width in pixels.
        """
        sine, cosine = sine_cosine(degrees / 360.0)
        middles = (np.arange(size, dtype=np.float64) + 0.5) / size
        u = middles - 0.5
        ray_x = -sine[:, None] + cosine[:, None] * (u / _FOCAL)
        ray_z = -cosine[:, None] - sine[:, None] * (u / _FOCAL)
        return cls(
            size,
            sine,
            cosine,
            u.astype(np.float32)[None, None, :],
            middles.astype(np.float32)[None, :, None],
            ray_x.astype(np.float32)[:, None, :],
            ray_z.astype(np.float32)[:, None, :],
            slice(0, size),
            slice(0, size),
        )

    @property
    def camera(self) -> tuple[Doubles, float, Doubles]:
        """Where the camera stands: (x, y, z), x and z (N,)."""
        return _RADIUS * self.sine, _EYE, _PIVOT_Z + _RADIUS * self.cosine

    def project(self, x: Any, y: Any, z: Any) -> Doubles:
        """Return where points appear: (N, 2), u and v.

        Args:
            x, y, z: (N,) or numbers; in front of the camera.
        """
        eye_x, eye_y, eye_z = self.camera
        from_x, from_z = x - eye_x, z - eye_z
        depth = -self.sine * from_x - self.cosine * from_z
        side = self.cosine * from_x - self.sine * from_z
        return np.stack((_FOCAL * side / depth, _HORIZON + _FOCAL * (eye_y - y) / depth), axis=-1)

    def part(self, points: npt.NDArray[np.float64]) -> View:
        """Return the smallest part of the view that holds the points of all images, and a pixel around them.

        Args:
            points: (..., 2) as `project` gives them.
        """
        flat = points.reshape(-1, 2)
        low, high = flat.min(axis=0), flat.max(axis=0)
        columns = _clipped(low[0] + 0.5, high[0] + 0.5, self.size)
        rows = _clipped(low[1], high[1], self.size)
        return View(
            self.size,
            self.sine,
            self.cosine,
            self.u[:, :, columns],
            self.v[:, rows, :],
            self.ray_x[:, :, columns],
            self.ray_z[:, :, columns],
            rows,
            columns,
        )

    # -------------------------------------------------- where the rays meet planes; t is the depth there, in metres

    def on_back_wall(self, z: float = 0.0) -> tuple[Floats, Floats, Floats]:
        """Return (x (N, 1, W), y (N, H, W), t (N, 1, W)) on a plane parallel to the back wall."""
        eye_x, eye_y, eye_z = self.camera
        t = (planes(eye_z) - np.float32(z)) / -self.ray_z
        return planes(eye_x) + self.ray_x * t, np.float32(eye_y) - self._rise() * t, t

    def on_side_wall(self, x: float | Doubles) -> tuple[Floats, Floats, Floats]:
        """Return (y (N, H, W), z (N, 1, W), t (N, 1, W)) on the plane at `x`, a number or (N,); t is 100 m where a ray
        runs beside it."""
        eye_x, eye_y, eye_z = self.camera
        t = _quotient(planes(x - eye_x), self.ray_x)
        return np.float32(eye_y) - self._rise() * t, planes(eye_z) + self.ray_z * t, t

    def on_level(self, y: float) -> tuple[Floats, Floats, Floats]:
        """Return (x (N, H, W), z (N, H, W), t (1, H, 1)) on a level plane; t is 100 m beyond the horizon."""
        eye_x, eye_y, eye_z = self.camera
        t = _quotient(np.full((1, 1, 1), eye_y - y, dtype=np.float32), self._rise())
        return planes(eye_x) + self.ray_x * t, planes(eye_z) + self.ray_z * t, t

    def _rise(self) -> Floats:
        """What a ray loses in height with every metre of depth: (1, H, 1)."""
        return (self.v - np.float32(_HORIZON)) / np.float32(_FOCAL)

    def footprint(self, t: Floats) -> Floats:
        """Return the width of a pixel in metres, at depth t and across the ray."""
        return t * np.float32(1.0 / (_FOCAL * self.size))


def _quotient(distance: Floats, speed: Floats) -> Floats:
    """Return distance / speed, or 100 where the plane is behind the camera or farther than that."""
    ahead = distance * speed > np.abs(distance) * np.abs(distance) * np.float32(1.0 / _FAR)
    t: Floats = np.where(ahead, distance / np.where(ahead, speed, np.float32(1.0)), np.float32(_FAR))
    return t


def _clipped(low: float, high: float, size: int) -> slice:
    first = min(max(int(np.floor(low * size)) - 1, 0), size - 1)
    last = max(min(int(np.floor(high * size)) + 2, size), first + 1)
    return slice(first, last)
