"""A map-style torch Dataset, or any sequence, of images or pairs (image, label)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ganzoo.data.sources.arrays import channels_last, to_bytes, to_numpy
from ganzoo.data.sources.base import Sample, Source
from ganzoo.errors import DataError

_ITEMS = "Items are an image or (image, label); an image is a Pillow image, an array H×W or H×W×C, or a tensor C×H×W."


class DatasetSource(Source):
    """A sequence of images or pairs (image, label). It is read in order by one thread, for few datasets are made for
    several.

    Args:
        dataset: has `__len__` and `__getitem__`. Labels are taken where the first item has a whole number as its second
            part.
        description: a few words; by default the class's name.
        fingerprint: a text that changes when the data change; None where only reading everything can tell.
        notice: licence or origin.

    Raises:
        DataError: it has no length, is empty, or its items are of no kind that can be read.
    """

    def __init__(
        self, dataset: Any, *, description: str | None = None, fingerprint: str | None = None, notice: str | None = None
    ) -> None:
        kind = type(dataset).__name__
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise DataError(
                f"A {kind} is no source of images.",
                "Give a name, a path, an array, or a dataset with __len__ and __getitem__.",
            )
        self._dataset = dataset
        self._fingerprint = fingerprint
        self.description = description or f"dataset {kind}"
        self.notice = notice
        if len(dataset) == 0:
            raise DataError(f"The {self.description} is empty.")
        self.labelled = _label(_parts(dataset[0])[1]) is not None
        classes = getattr(dataset, "classes", ())
        if isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes):
            self.classes = tuple(classes)

    def fingerprint(self) -> str | None:
        """Return what was given: a dataset cannot say what is in it."""
        return self._fingerprint

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, index: int) -> Sample:
        """Return the image and label of item `index`."""
        image, label = _parts(self._dataset[index])
        if not (_is_pillow(image) or isinstance(image, bytes)):
            image = _pixels(image, f"{self.description}'s item {index}")
        return Sample(image, _label(label) if self.labelled else None)


def _parts(item: Any) -> tuple[Any, Any]:
    if isinstance(item, tuple | list):
        return (item[0], item[1] if len(item) > 1 else None) if item else (None, None)
    return item, None


def _label(value: Any) -> int | None:
    """Return a label as a whole number; None for what is none."""
    if isinstance(value, bool | float | str | bytes) or value is None:
        return None
    try:
        number = value.item() if hasattr(value, "item") else value
    except (ValueError, RuntimeError):  # an array of several numbers
        return None
    return int(number) if isinstance(number, int | np.integer) and not isinstance(number, bool) else None


def _is_pillow(value: Any) -> bool:
    return hasattr(value, "getexif") and hasattr(value, "convert")


def _pixels(value: Any, what: str) -> Any:
    if not isinstance(value, np.ndarray) and not hasattr(value, "detach"):
        raise DataError(f"The {what} is a {type(value).__name__}.", _ITEMS)
    array = to_numpy(value)
    if array.ndim == 3:
        array = channels_last(array, axis=0, prefer_first=not isinstance(value, np.ndarray), what=what)
    elif array.ndim != 2:
        raise DataError(f"The {what} has {array.ndim} axes.", _ITEMS)
    return to_bytes(array, what=what)
