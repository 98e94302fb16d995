"""The pictures of a report: bounded in number, in pixels and in bytes, whatever images they show."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from ganzoo.pictures import grid

if TYPE_CHECKING:
    from ganzoo.inspection.neighbours import NeighbourRows

Uint8Images = npt.NDArray[np.uint8]

MOST_IMAGES = 64
MOST_BYTES = 420_000
"""Of one picture: a page of three has less than 2 MB, for base64 makes four bytes of three."""

_SQUARES = (49, 36, 25, 16, 9, 4, 1)
_WIDEST = 1600  # pixels: more than any screen shows of a picture in a page


@dataclass(frozen=True)
class ReportPictures:
    """What a report shows beside its numbers.

    Attributes:
        generated: (n, H, W, C) uint8, the first ones; 64 at most are shown.
        reference: (n, H, W, C) uint8, real images; None where there are none.
        neighbours: generated images with the training images nearest to them; None for none.
        curves: name of a number → (kimg, value) through training; None where there was none.
    """

    generated: Uint8Images
    reference: Uint8Images | None = None
    neighbours: NeighbourRows | None = None
    curves: Mapping[str, Sequence[tuple[float, float]]] | None = None


@dataclass(frozen=True)
class Picture:
    """A picture as a page holds it.

    Attributes:
        png: its file.
        width, height: in pixels.
        images: how many images it shows.
        reduced: how many pixels of an image became one.
    """

    png: bytes
    width: int
    height: int
    images: int
    reduced: int = 1

    @property
    def address(self) -> str:
        """The whole picture as an address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def grid_picture(images: Uint8Images) -> Picture:
    """Return a grid of the first images; fewer, and at last smaller ones, where its file would be too large.

    Args:
        images: (n, H, W, C) uint8, C of 1 or 3.

    Raises:
        ValueError: no image, or another shape.
    """
    most = min(len(images), MOST_IMAGES)
    for count in (most, *(square for square in _SQUARES if square < most)):
        if count <= most:
            picture = _picture(grid(images[:count]), count)
            if _fits(picture):
                return picture
            most = min(count - 1, count * MOST_BYTES // len(picture.png))  # what is likely to fit
    return bounded(images[0])


def bounded(image: Uint8Images) -> Picture:
    """Return a picture, reduced by whole numbers until its file is small enough.

    Args:
        image: (H, W, C) uint8.
    """
    whole = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    factor = max(1, -(-whole.width // _WIDEST))
    while True:
        picture = _picture(whole if factor == 1 else whole.reduce(factor), 1, factor)
        if _fits(picture) or factor >= min(whole.size):
            return picture
        factor = max(factor + 1, math.floor(factor * math.sqrt(len(picture.png) / MOST_BYTES)))


def _fits(picture: Picture) -> bool:
    return len(picture.png) <= MOST_BYTES and picture.width <= _WIDEST


def _picture(image: Image.Image, images: int, reduced: int = 1) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return Picture(buffer.getvalue(), image.width, image.height, images, reduced)
