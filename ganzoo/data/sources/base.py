"""What a source is: numbered samples that can be read in any order, and a fingerprint of what would be read.

A source of one's own derives from `Source` and is registered as a function of the text after the colon:

    @ganzoo.registry.register_source("my-data")
    def open_my_data(spec: str) -> Source: ...      # --data my-data:anything
"""

from __future__ import annotations

import abc
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ganzoo.errors import DataError
from ganzoo.files import sha256_of

if TYPE_CHECKING:
    from PIL import Image

HASHED_UP_TO = (
    1 << 30
)  # bytes; a larger file is known by its size and time of change, for reading it takes longer than a person waits


class SkippedImage(Exception):
    """Raised by a source's `read` for one sample that cannot be used; the message is the reason, a few words."""


@dataclass(frozen=True)
class Sample:
    """One image as its source holds it.

    Args:
        image: an encoded file (bytes), a Pillow image, or pixels: uint8, (H, W) or (H, W, C) with C of 1, 3 or 4.
        label: the number of its class, or None.
    """

    image: bytes | npt.NDArray[np.uint8] | Image.Image
    label: int | None = None


class Source(abc.ABC):
    """Numbered samples.

    Attributes:
        description: a few words, without paths: "folder 'cats'".
        classes: names of the classes, may be empty.
        labelled: whether every sample has a label.
        labels: all labels, (N,) int64, where they are known without reading the images; else None.
        factors: what is known of each sample beside its class, name → (N,) or (N, k), int64 or float64; None where
            nothing is. Packs keep them.
        rejected: what is there but is not taken, (name, reason).
        parallel: whether `read` may be called from several threads at once.
        notice: the licence or origin, where known.
    """

    description: str = "images"
    classes: tuple[str, ...] = ()
    labelled: bool = False
    labels: npt.NDArray[np.int64] | None = None
    factors: Mapping[str, npt.NDArray[Any]] | None = None
    rejected: Sequence[tuple[str, str]] = ()
    parallel: bool = False
    notice: str | None = None

    @abc.abstractmethod
    def fingerprint(self) -> str | None:
        """Return a text that changes when what would be read changes; None where only reading everything could tell."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """Return the number of samples."""

    @abc.abstractmethod
    def read(self, index: int) -> Sample:
        """Return sample `index`, 0 ≤ index < len(self).

        Raises:
            SkippedImage: this one cannot be used, the others can.
        """

    def read_batch(self, indices: npt.NDArray[np.int64]) -> Sequence[Sample] | None:
        """Return several samples at once, in order, where that is faster than one by one; None where it is not.

        Args:
            indices: (batch,) 0 ≤ index < len(self).
        """
        del indices
        return None

    def prefer(self, image_size: int) -> None:
        """Take note of the height and width in pixels that images are wanted in, before they are read.

        A source that draws its images gives them in this size; others ignore it, and what they give is resized.
        """
        del image_size

    def name(self, index: int) -> str:
        """Return what sample `index` is called, for messages."""
        return f"number {index}"

    def close(self) -> None:
        """Free what is held open."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ArraySource(Source):
    """Pixels that lie in memory (or in a memory map).

    Args:
        images: (N, H, W) or (N, H, W, C) uint8, C of 1, 3 or 4.
        labels: (N,) integers, or None.
        description: a few words.
        fingerprint: of the bytes; computed from them where it is None.
        classes: names of the classes.
        notice: licence or origin.

    Raises:
        DataError: the shapes do not fit each other.
    """

    parallel = True

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64] | None = None,
        *,
        description: str,
        fingerprint: str | None = None,
        classes: tuple[str, ...] = (),
        notice: str | None = None,
    ) -> None:
        if labels is not None and len(labels) != len(images):
            raise DataError(f"The {description} holds {len(images):,} images but {len(labels):,} labels.")
        self.images = images
        self.labels = labels
        self.labelled = labels is not None
        self.classes = classes
        self.description = description
        self.notice = notice
        self._fingerprint = fingerprint

    def fingerprint(self) -> str:
        """Return the SHA-256 of shape, pixels and labels, or what was given."""
        if self._fingerprint is None:
            digest = hashlib.sha256(repr(self.images.shape).encode())
            for first in range(0, len(self.images), 4096):
                digest.update(np.ascontiguousarray(self.images[first : first + 4096]).data)
            if self.labels is not None:
                digest.update(b"labels")
                digest.update(np.ascontiguousarray(self.labels).data)
            self._fingerprint = f"array {digest.hexdigest()}"
        return self._fingerprint

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Sample:
        """Return the pixels of sample `index` and its label."""
        return Sample(self.images[index], None if self.labels is None else int(self.labels[index]))


def file_fingerprint(*paths: Path) -> str:
    """Return a text that changes when one of the files changes: SHA-256 of each.

    Or its size and time where it is over 1 GiB.
    """
    parts = []
    for path in paths:
        status = path.stat()
        if status.st_size <= HASHED_UP_TO:
            parts.append(sha256_of(path))
        else:
            parts.append(f"{status.st_size} bytes at {status.st_mtime_ns}")
    return " ".join(parts)


def digest_of(parts: Iterable[str]) -> str:
    """Return the SHA-256 of texts, each ended by a zero byte, which no path holds."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogateescape"))
        digest.update(b"\0")
    return digest.hexdigest()


def first_reason(skipped: Sequence[tuple[str, str]]) -> str | None:
    """Return a sentence about the first of (name, reason); None where there is none."""
    return f"The first of {len(skipped):,} left out, {skipped[0][0]!r}: {skipped[0][1]}." if skipped else None


def natural_order(path: str) -> list[list[tuple[int, int, str]]]:
    """Return a sort key that puts "2.png" before "10.png", folder by folder, and tells "01" from "1"."""
    return [
        [(0, int(piece), piece) if piece.isdecimal() else (1, 0, piece) for piece in re.split(r"(\d+)", part)]
        for part in path.split("/")
    ]


def _shared_start(lists: Sequence[list[str]]) -> int:
    """Return how many first items all lists share; the first and the last list in order differ as early as any two."""
    if not lists:
        return 0
    first, last = min(lists), max(lists)
    differing = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return next(differing, min(len(first), len(last)))


def class_labels(paths: Sequence[str]) -> tuple[tuple[str, ...], npt.NDArray[np.int64]] | None:
    """Return (names of the classes, labels) as told by the folders of `/`-separated paths, or None where the folders
    are no classes.

    Folders that all paths have in common do not count. The folders below them are the classes where every image lies in
    one and there are at least two.

    Args:
        paths: of the images.
    """
    parts = [path.split("/") for path in paths]
    common = _shared_start([one[:-1] for one in parts])
    if not parts or any(len(one) < common + 2 for one in parts):
        return None
    names = tuple(sorted({one[common] for one in parts}, key=natural_order))
    number = {name: index for index, name in enumerate(names)}
    return names, np.array([number[one[common]] for one in parts], dtype=np.int64)
