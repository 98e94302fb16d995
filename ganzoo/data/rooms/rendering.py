"""From factors to pictures, a few rooms at a time so that what is worked on stays in the processor's cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.data.rooms.bed import paint_bed
from ganzoo.data.rooms.camera import View
from ganzoo.data.rooms.factors import Factors, complete
from ganzoo.data.rooms.lamps import paint_floor_lamp, paint_hanging_lamp
from ganzoo.data.rooms.light import Light
from ganzoo.data.rooms.painting import Canvas
from ganzoo.data.rooms.walls import paint_room
from ganzoo.errors import UsageError

_PIXELS = 1 << 15  # of a chunk
_LARGEST = 4096


def render(factors: Mapping[str, Any], image_size: int) -> npt.NDArray[np.uint8]:
    """Return pictures of rooms: (N, image_size, image_size, 3), uint8. Equal factors give equal bytes, on any machine
    and in any company.

    Args:
        factors: by name (`ganzoo.data.rooms.FACTORS`), each a number or (N,); one that is not given has its default.
        image_size: height and width in pixels, 8 to 4096. Every size shows the same room.

    Raises:
        UsageError: there is no factor of a name, a value is outside of its range, or the size is.
    """
    if not 8 <= image_size <= _LARGEST:
        raise UsageError(f"`image_size` (={image_size}) of rooms must be from 8 to {_LARGEST}.")
    full = complete(factors)
    count = len(full["window"])
    pictures = np.empty((count, image_size, image_size, 3), dtype=np.uint8)
    step = max(1, _PIXELS // image_size**2)
    for first in range(0, count, step):
        part = {name: values[first : first + step] for name, values in full.items()}
        pictures[first : first + step] = _render_chunk(part, image_size)
    return pictures


def _render_chunk(factors: Factors, size: int) -> npt.NDArray[np.uint8]:
    count = len(factors["window"])
    canvas = Canvas(np.zeros((3, count, size, size), dtype=np.float32))
    view = View.of(factors["camera_angle"], size)
    light = Light.of(factors)
    paint_room(canvas, view, factors, light)
    if (factors["lamp"] == 1).any():
        paint_floor_lamp(canvas, view, factors, light)
    paint_bed(canvas, view, factors, light)
    if (factors["lamp"] == 2).any():
        paint_hanging_lamp(canvas, view, factors, light)
    return _developed(canvas.radiance)


def _developed(radiance: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return linear light (3, N, H, W) as bytes (N, H, W, 3), gamma 2; what is above 0.6 rolls off towards white."""
    knee, one = np.float32(0.6), np.float32(1)
    over = np.maximum(radiance - knee, np.float32(0))
    rolled = np.minimum(radiance, knee) + over * (one - knee) / (over + (one - knee))
    encoded = np.floor(np.sqrt(np.maximum(rolled, np.float32(0))) * np.float32(255) + np.float32(0.5))
    return np.ascontiguousarray(np.moveaxis(encoded.astype(np.uint8), 0, -1))
