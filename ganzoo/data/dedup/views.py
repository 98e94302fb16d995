"""Views of a thumbnail: the whole image, its mirror image, its middle. A view is linear in the pixels, so that it costs
two small matrix products: view(image) = rows · image · columnsᵀ, channel by channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SIDE = 32  # pixels of a thumbnail's side: the paper's, and what pHash reduces an image to
CROP = 0.9  # the share of the side that is the image's middle


@dataclass(frozen=True)
class View:
    """A way to look at a thumbnail.

    Attributes:
        name: "whole", "mirrored", "middle" or "mirrored middle".
        rows: (32, 32) float64, acts on the image's columns of pixels (from the left).
        columns: (32, 32) float64, acts on its rows of pixels (from the right, transposed).
    """

    name: str
    rows: npt.NDArray[np.float64]
    columns: npt.NDArray[np.float64]


def views(*, flips: bool, crops: bool) -> list[View]:
    """Return the views that are asked for; the first is the whole image.

    Args:
        flips: the mirror images too.
        crops: the middle too.
    """
    whole = np.eye(SIDE)
    found = [View("whole", whole, whole)]
    if flips:
        found.append(View("mirrored", whole, whole[:, ::-1]))
    if crops:
        middle = _enlarging(CROP)
        found.append(View("middle", middle, middle))
        if flips:
            found.append(View("mirrored middle", middle, middle[:, ::-1]))
    return found


def _enlarging(share: float) -> npt.NDArray[np.float64]:
    """Return the matrix that enlarges the middle of a line of pixels to the whole line, by linear interpolation."""
    pixels = np.arange(SIDE)
    places = (pixels + 0.5 - SIDE / 2) * share + SIDE / 2 - 0.5
    return np.stack([np.interp(places, pixels, line) for line in np.eye(SIDE)], axis=1)
