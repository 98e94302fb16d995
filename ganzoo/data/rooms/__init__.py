"""Rooms: rendered bedrooms of which everything is known, drawn from a seed, the same bytes on any machine.

    factors = draw(np.arange(8))                       # of eight rooms
    pictures = render(factors, 64)                     # (8, 64, 64, 3) uint8
    turned = render({**factors, "camera_angle": 20.0}, 64)  # the same rooms seen from the right

So what is said of pictures of bedrooms (a direction that turns the camera, units that draw windows, arithmetic) can be
measured against the truth.
"""

from __future__ import annotations

from ganzoo.data.rooms.factors import FACTORS, Factor, Factors, complete, draw
from ganzoo.data.rooms.rendering import render

__all__ = ["FACTORS", "Factor", "Factors", "complete", "draw", "render"]
