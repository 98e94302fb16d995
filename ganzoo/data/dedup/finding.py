"""The search for duplicates, from a source to groups, and the pack without them.

Per image the memory holds the hashes (8 bytes for each view), a digest and the union-find: some 100 bytes, at the
peak of a sorting some 300. The thumbnails stay on the disk.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.data.dedup.comparing import LEAST_CONTRAST, Comparison, contrast
from ganzoo.data.dedup.grouping import Groups, divide
from ganzoo.data.dedup.hashing import perceptual_hashes
from ganzoo.data.dedup.near import near_pairs
from ganzoo.data.dedup.options import DedupOptions
from ganzoo.data.dedup.result import SHOWN_IMAGES, DuplicateGroup, Duplicates
from ganzoo.data.dedup.selecting import NUMBER, SelectedSource, chosen, open_thumbnails, square_crop
from ganzoo.data.dedup.views import View, views
from ganzoo.data.packing import open_pack, write_pack
from ganzoo.data.packs import Pack
from ganzoo.data.request import Crop, DataRequest
from ganzoo.data.sources.base import Source, digest_of
from ganzoo.data.specs import open_source
from ganzoo.data.writing import PackProgress
from ganzoo.errors import DataError, UsageError

Indices = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
_BLOCK = 4096  # images hashed at once
_REPORT_SECONDS = 0.1


@dataclass(frozen=True)
class DedupProgress:
    """How far a search is.

    Attributes:
        stage: "reading", "training", "hashing" or "comparing".
        done: images, steps, or sortings of the hashes.
        total: of them.
    """

    stage: str
    done: int
    total: int


Progress = Callable[[DedupProgress | PackProgress], None]


def find_duplicates(
    data: Any,
    options: DedupOptions | None = None,
    *,
    crop: Crop = "center",
    max_images: int | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Duplicates:
    """Return the duplicates in a source or pack; nothing in it is changed.

    Args:
        data: anything that `ganzoo.data.open_source` takes.
        options: the method and its parameters.
        crop: the part of an image that is looked at, as in `DataRequest`; a pack's images are looked at whole.
        max_images: at most so many, taken evenly over the source; None for all.
        cache_dir: the folder of packs, where the thumbnails are kept; by default `packs` in `cache_home()`.
        progress: called from time to time, with a `PackProgress` while thumbnails are made.

    Raises:
        DataError: the source cannot be read or holds nothing usable, or the disk is full.
        UsageError: `max_images` is below 1.
        UnknownNameError: no such source.
        MissingDataError: data that cannot be fetched by itself.
    """
    options = options or DedupOptions()
    if max_images is not None and max_images < 1:
        raise UsageError(f"`max_images` (={max_images}) must be at least 1.")
    with _opened(data) as source:
        numbers = chosen(source, max_images)
        with open_thumbnails(source, numbers, crop, cache_dir=cache_dir, progress=progress) as pack:
            groups = _Search(pack, options, progress).groups()
            return _result(source, pack, options, crop, len(numbers), groups)


def deduplicate(
    data: Any,
    request: DataRequest,
    path: str | Path | None = None,
    *,
    duplicates: Duplicates | None = None,
    options: DedupOptions | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Pack:
    """Return a pack of a source without its duplicates: of each group only the first image is in it.

    Labels, classes and factors are those of the images that are left. The source is not changed.

    Args:
        data: anything that `ganzoo.data.open_source` takes.
        request: what is asked of every image of the pack; duplicates are looked for in its crop, and among its
            `max_images`.
        path: the pack's folder; None: in the cache, as with `ganzoo.data.open_pack`.
        duplicates: what `find_duplicates` found in this source with the same `max_images`; None: they are looked for.
        options: the method and its parameters, where they are looked for.
        cache_dir: as in `find_duplicates`.
        progress: as in `find_duplicates`.

    Raises:
        DataError: as `find_duplicates`; `path` exists and is another thing; or `duplicates` are another source's.
    """
    with _opened(data) as source:
        if duplicates is None:
            found = find_duplicates(
                source,
                options,
                crop=request.crop,
                max_images=request.max_images,
                cache_dir=cache_dir,
                progress=progress,
            )
        else:
            found = duplicates
        clean = without(source, found, request.max_images)
        wanted = replace(request, crop=square_crop(source, request.crop), max_images=None)
        if path is None:
            return open_pack(clean, wanted, cache_dir=cache_dir, progress=progress)
        return write_pack(clean, wanted, Path(path), progress=progress)


def without(source: Source, duplicates: Duplicates, max_images: int | None = None) -> Source:
    """Return a source without its duplicates.

    Args:
        source: any; it stays the caller's.
        duplicates: what was found in it.
        max_images: as they were looked for.

    Raises:
        DataError: they were found in a source of another number of samples.
    """
    if duplicates.samples != len(source):
        raise DataError(
            f"The duplicates are of {duplicates.samples:,} samples; the {source.description} has {len(source):,}.",
            "Look for them anew.",
        )
    removed = duplicates.removed
    left = np.setdiff1d(chosen(source, max_images), removed, assume_unique=True)
    return SelectedSource(source, left, f"without {digest_of(map(str, left.tolist()))}")


def _opened(data: Any) -> AbstractContextManager[Source]:
    return nullcontext(data) if isinstance(data, Source) else open_source(data)


class _Search:
    """One search, over the thumbnails of a pack.

    Args:
        pack: 32×32 images of three channels.
        options: the method and its parameters.
        progress: called from time to time.
    """

    def __init__(self, pack: Pack, options: DedupOptions, progress: Progress | None) -> None:
        self._pack, self._options, self._progress = pack, options, progress
        self._reported = 0.0
        self._views = views(flips=options.flips, crops=options.crops and options.method != "autoencoder")
        self._comparison = Comparison(pack, self._views, options.correlation, options.difference)
        self._sets = Groups(len(pack))

    def groups(self) -> list[tuple[Indices, int]]:
        """Return the groups: the numbers of their images in order, and how many are equal to the first."""
        same, told = self._join_identical()
        if self._options.method in ("phash", "both"):
            self._join_by_phash(told)
        if self._options.method in ("autoencoder", "both"):
            self._join_by_codes(told)
        return self._divided(same)

    def _join_identical(self) -> tuple[Indices, Indices]:
        """Join images of equal pixels.

        Returns:
            The first image that is equal to each, (n,); and those that hashes can tell apart: the first of their
            kind, with content.
        """
        first_of: dict[bytes, int] = {}
        same = np.empty(len(self._pack), dtype=np.int64)
        plain = np.empty(len(self._pack), dtype=np.bool_)
        for start, images in self._blocks("reading"):
            plain[start : start + len(images)] = contrast(images) < LEAST_CONTRAST
            for place, image in enumerate(images, start):
                digest = hashlib.blake2b(image.data, digest_size=16).digest()
                same[place] = first_of.setdefault(digest, place)
        every = np.arange(len(same))
        repeated = np.flatnonzero(same != every)
        self._sets.join(same[repeated], repeated)
        return same, np.flatnonzero((same == every) & (~plain | (not self._options.compare)))

    def _join_by_phash(self, told: Indices) -> None:
        hashes = np.empty((len(self._views), len(self._pack)), dtype=np.uint64)
        for start, images in self._blocks("hashing"):
            hashes[:, start : start + len(images)] = perceptual_hashes(images, self._views)
        self._join_near(hashes[:, told], told, self._options.distance, range(len(self._views)))

    def _join_by_codes(self, told: Indices) -> None:
        from ganzoo.data.dedup.autoencoder import train_autoencoder

        model = train_autoencoder(
            self._pack, self._options.seed, report=lambda done, total: self._report("training", done, total)
        )
        seen = [number for number, view in enumerate(self._views) if view.name in ("whole", "mirrored")]
        codes = np.empty((len(seen), len(self._pack), 2), dtype=np.uint64)
        for start, images in self._blocks("hashing"):
            for place, number in enumerate(seen):
                looked = np.ascontiguousarray(_flipped(images, self._views[number]))
                codes[place, start : start + len(images)] = model.codes(looked).view(np.uint64)
        _, numbered = np.unique(codes[:, told].reshape(-1, 2), axis=0, return_inverse=True)
        self._join_near(numbered.reshape(len(seen), -1).astype(np.uint64), told, 0, seen)

    def _join_near(self, hashes: Hashes, told: Indices, distance: int, seen: Any) -> None:
        """Join images whose hashes under some view are near to those of others seen whole."""
        for place, view in enumerate(seen):
            pairs = near_pairs(hashes[0], None if place == 0 else hashes[place], distance)
            for whole, other in pairs:
                i, j = told[other], told[whole]  # image i under the view, image j whole
                if self._options.compare:
                    apart = self._sets.apart(i, j)
                    i, j = _once(i[apart], j[apart], len(self._pack))
                    alike = self._comparison.alike(i, j, view)
                    i, j = i[alike], j[alike]
                self._sets.join(i, j)
            self._report("comparing", place + 1, len(hashes))

    def _divided(self, same: Indices) -> list[tuple[Indices, int]]:
        groups = []
        for members in self._sets.members():
            parts = [members]
            if self._options.compare:
                different = members[same[members] == members]  # equal ones follow the first of their kind
                parts = [
                    members[np.isin(same[members], part)]
                    for part in _whole(different, divide(different, self._comparison.alike_somehow))
                ]
            groups += [(part, int((same[part[1:]] == same[part[0]]).sum())) for part in parts if len(part) > 1]
        return sorted(groups, key=lambda group: int(group[0][0]))

    def _blocks(self, stage: str) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        for first, images in self._pack.chunks():
            for start in range(0, len(images), _BLOCK):
                yield first + start, images[start : start + _BLOCK]
                self._report(stage, min(first + start + _BLOCK, len(self._pack)), len(self._pack))

    def _report(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self._progress is not None and (done == total or now - self._reported >= _REPORT_SECONDS):
            self._reported = now
            self._progress(DedupProgress(stage, done, total))


def _once(i: Indices, j: Indices, count: int) -> tuple[Indices, Indices]:
    """Return pairs without repeats."""
    _, places = np.unique(i * count + j, return_index=True)
    return i[places], j[places]


def _whole(members: Indices, groups: list[Indices]) -> list[Indices]:
    """Return the groups, and the members that are in none of them, each alone."""
    grouped = np.concatenate(groups) if groups else members[:0]
    return [*groups, *(one[None] for one in np.setdiff1d(members, grouped))]


def _flipped(images: npt.NDArray[np.uint8], view: View) -> npt.NDArray[np.uint8]:
    return images[:, :, ::-1] if view.name == "mirrored" else images


def _result(
    source: Source, pack: Pack, options: DedupOptions, crop: Crop, wanted: int, groups: list[tuple[Indices, int]]
) -> Duplicates:
    assert pack.factors is not None  # open_thumbnails gave it its numbers
    numbers = pack.factors[NUMBER]
    labels = pack.labels
    listed = []
    for members, identical in groups:
        theirs = numbers[members].tolist()
        mixed = labels is not None and len(np.unique(labels[members])) > 1
        listed.append(DuplicateGroup(tuple(theirs), tuple(map(source.name, theirs)), identical, mixed))
    found = Duplicates(
        source=source.description,
        samples=len(source),
        images=len(pack),
        skipped=len(source.rejected) + wanted - len(pack),
        method=options.method,
        parameters={**options.parameters(), "crop": square_crop(source, crop)},
        groups=tuple(listed),
    )
    pictures = {
        number: np.stack([pack.image(int(one)) for one in groups[number][0][:SHOWN_IMAGES]])
        for number in found.largest()
    }
    return replace(found, pictures=pictures)
