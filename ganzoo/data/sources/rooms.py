"""The source `rooms`: rendered bedrooms, as many as wanted, with nothing to download and everything known.

    rooms
    rooms:count=5000,seed=1
    rooms:class=lamp            the lamp's kind becomes the class, for conditional networks
    rooms:size=128              drawn at 128×128, whatever is asked for, and resized from there

A room is a function of the seed and of its number: the first 1,000 of 50,000 are the 1,000.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.data.rooms import FACTORS, draw, render
from ganzoo.data.sources.base import Sample, Source
from ganzoo.data.sources.options import one_of, parse_options, whole_number

_VERSION = 1  # part of the fingerprint: raised when a room begins to look otherwise
_COUNT, _SIZE, _CLASS = 50_000, 256, "window"
_MOST = 10_000_000
_CHUNK = 1 << 16  # rooms whose factors are drawn at once

_CLASSES = tuple(name for name, factor in FACTORS.items() if factor.values)


def open_rooms(argument: str = "") -> RoomsSource:
    """Return rendered bedrooms with their factors; the class is whether there is a window, or another discrete factor.

    Args:
        argument: options, separated by commas: `count` (50,000), `seed` (0), `class` (a discrete factor, or none) and
            `size` (in which the rooms are drawn; the size that a pack is asked for, where it is not given).

    Raises:
        UsageError: an option that there is not, or a value that it cannot have.
    """
    readers = {
        "count": whole_number(1, _MOST),
        "seed": whole_number(0, 2**64 - 1),
        "class": one_of(*_CLASSES, "none"),
        "size": whole_number(8, 4096),
    }
    options = parse_options("rooms", argument, readers)
    return RoomsSource(
        options.get("count", _COUNT),
        seed=options.get("seed", 0),
        class_factor=options.get("class", _CLASS),
        size=options.get("size"),
    )


class RoomsSource(Source):
    """Rendered bedrooms.

    Args:
        count: how many.
        seed: of their factors, in [0, 2^64).
        class_factor: name of the discrete factor that is the class; "none" for no classes.
        size: height and width in pixels that they are drawn in; None: what is preferred (`prefer`), else 256.
    """

    parallel = True
    notice = "rendered by ganzoo; no rights reserved"

    def __init__(self, count: int, *, seed: int, class_factor: str, size: int | None) -> None:
        self._count, self._seed, self._class, self._size = count, seed, class_factor, size
        self._preferred = _SIZE
        self.description = "rendered rooms"
        if class_factor != "none":
            self.labelled = True
            self.classes = FACTORS[class_factor].values

    @cached_property
    def factors(self) -> Mapping[str, npt.NDArray[Any]]:  # type: ignore[override]
        """Of all rooms: name → (N,), and `window_box` (N, 4)."""
        parts = [
            draw(np.arange(first, min(first + _CHUNK, self._count), dtype=np.int64), seed=self._seed)
            for first in range(0, self._count, _CHUNK)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @cached_property
    def labels(self) -> npt.NDArray[np.int64] | None:  # type: ignore[override]
        """The class of all rooms: (N,) int64, or None."""
        return self.factors[self._class] if self.labelled else None

    def fingerprint(self) -> str:
        """Return the options, and the number of this version's manner of drawing."""
        return f"rooms {_VERSION} {self._count} {self._seed} {self._class} {self._size}"

    def __len__(self) -> int:
        return self._count

    def prefer(self, image_size: int) -> None:
        """Draw in this size, where no other was given and it is not too small to draw."""
        self._preferred = min(max(image_size, 8), 4096)

    def read(self, index: int) -> Sample:
        """Return room `index` and its class."""
        return self.read_batch(np.array([index], dtype=np.int64))[0]

    def read_batch(self, indices: npt.NDArray[np.int64]) -> list[Sample]:
        """Return several rooms and their classes, drawn together."""
        factors = draw(indices, seed=self._seed)
        pictures = render(factors, self._size or self._preferred)
        labels = factors[self._class].tolist() if self.labelled else [None] * len(indices)
        return [Sample(picture, label) for picture, label in zip(pictures, labels, strict=True)]
