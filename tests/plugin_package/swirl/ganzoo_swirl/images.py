"""Images of coloured rings, drawn from a seed."""

from __future__ import annotations

import numpy as np

from ganzoo.data.sources.base import ArraySource, Source


def open_rings(spec: str = "") -> Source:
    """Return rings of random size and colour, 16×16.

    Args:
        spec: how many; 64 if empty.
    """
    count = int(spec or 64)
    generator = np.random.default_rng(0)
    line = np.linspace(-1, 1, 16)
    radius = np.hypot(line[None, :], line[:, None])[None, :, :, None]
    wanted = generator.uniform(0.3, 0.9, size=(count, 1, 1, 1))
    colour = generator.uniform(0.3, 1.0, size=(count, 1, 1, 3))
    pixels = 255 * colour * np.exp(-((radius - wanted) ** 2) / 0.02)
    return ArraySource(pixels.astype(np.uint8), description="rings")
