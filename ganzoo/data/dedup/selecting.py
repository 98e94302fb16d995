"""Sources of some of another source's samples: those that are looked at, and those that are left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ganzoo.data.dedup.views import SIDE
from ganzoo.data.packing import open_pack
from ganzoo.data.packs import Pack
from ganzoo.data.request import Crop, DataRequest
from ganzoo.data.sources.base import Sample, Source
from ganzoo.data.specs import PackSource
from ganzoo.data.writing import Progress

NUMBER = "number"  # the factor of a pack of thumbnails that tells which samples its images are


class SelectedSource(Source):
    """Some samples of a source, with their labels, factors and names; the source stays the caller's.

    Args:
        source: where they are from.
        numbers: (n,) of the samples.
        told_by: what becomes part of the fingerprint: a text that tells which samples these are.
    """

    def __init__(self, source: Source, numbers: npt.NDArray[np.int64], told_by: str) -> None:
        self._source, self._numbers, self._told_by = source, numbers, told_by
        self.description = source.description
        self.classes, self.labelled = source.classes, source.labelled
        self.labels = None if source.labels is None else source.labels[numbers]
        self.rejected, self.parallel, self.notice = source.rejected, source.parallel, source.notice
        if source.factors is not None:
            self.factors = {name: np.asarray(values)[numbers] for name, values in source.factors.items()}

    def fingerprint(self) -> str | None:
        """Return the source's with what tells the selection; None where the source cannot tell."""
        whole = self._source.fingerprint()
        return None if whole is None else f"{whole} {self._told_by}"

    def __len__(self) -> int:
        return len(self._numbers)

    def read(self, index: int) -> Sample:
        """Return the sample as the source gives it."""
        return self._source.read(int(self._numbers[index]))

    def read_batch(self, indices: npt.NDArray[np.int64]) -> Sequence[Sample] | None:
        """Return several as the source gives them."""
        return self._source.read_batch(self._numbers[indices])

    def prefer(self, image_size: int) -> None:
        """Tell the source."""
        self._source.prefer(image_size)

    def name(self, index: int) -> str:
        """Return what the source calls the sample."""
        return self._source.name(int(self._numbers[index]))


def chosen(source: Source, most: int | None) -> npt.NDArray[np.int64]:
    """Return the numbers of at most so many samples, taken evenly over the source: (n,).

    Args:
        source: any.
        most: how many, at least 1; None for all.
    """
    available = len(source)
    if most is None or available <= most:
        return np.arange(available, dtype=np.int64)
    return np.arange(most, dtype=np.int64) * available // most


def square_crop(source: Source, crop: Crop) -> Crop:
    """Return the crop to be asked for: a pack's images were cropped before, and are taken whole."""
    return "none" if isinstance(source, PackSource) else crop


def open_thumbnails(
    source: Source,
    numbers: npt.NDArray[np.int64],
    crop: Crop,
    *,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Pack:
    """Return the pack of a source's thumbnails, 32×32 in three channels; its factor `number` tells the samples.

    It lies in the cache of packs, 3 kB an image, so a second search reads no image again.

    Args:
        source: any.
        numbers: (n,) of the samples that are looked at.
        crop: the part of an image that training would see.
        cache_dir: as in `ganzoo.data.open_pack`.
        progress: called from time to time while the pack is made.

    Raises:
        DataError: as `ganzoo.data.open_pack`.
    """
    counted = SelectedSource(source, numbers, f"thumbnails of {len(numbers)}")
    counted.factors = {NUMBER: numbers}
    request = DataRequest(SIDE, 3, square_crop(source, crop))
    return open_pack(counted, request, cache_dir=cache_dir, progress=progress)
