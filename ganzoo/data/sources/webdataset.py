"""WebDataset: images in plain tars, one or many (shards). Nothing is unpacked to the disk.

Members with the same path up to the first dot of their name are one sample: `0001.jpg` is its image, `0001.cls` its
label as text, `0001.json` may hold it under "label"; anything else is passed over. Where no sample has a label the
folders inside of the tar are the classes, so that a tar of a folder of images is read like that folder.

The headers are read once, from one to the next without the data between them; of each image its place is kept.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import tarfile
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ganzoo.data.images import ENCODED_LIMIT, EXTENSIONS
from ganzoo.data.sources.base import Sample, SkippedImage, Source, class_labels, first_reason
from ganzoo.data.sources.labelling import label_of, number_labels
from ganzoo.data.sources.shards import shards_fingerprint
from ganzoo.errors import DataError

_IMAGE_SUFFIXES = {suffix[1:]: rank for rank, suffix in enumerate((".jpg", ".jpeg", ".png", ".webp", *EXTENSIONS))}
_LABEL_SUFFIXES = ("cls", "json")  # the first wins
_LABEL_LIMIT = 1 << 20
_HEADER_LIMIT = 1 << 20
_BLOCK = 512
_PEEKED_FILES = 32
_PEEKED_BYTES = 1 << 30
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_TAR_ERRORS = (
    *(tarfile.TarError, OSError, EOFError, ValueError, OverflowError, RecursionError, MemoryError),
    *(zlib.error, lzma.LZMAError),
)
_OPENERS: dict[str, Callable[[Path], Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
_REJECTED_SHOWN = 1000


class WebDatasetSource(Source):
    """The images in plain tars, in the order in which they lie in them.

    Args:
        paths: of the tars.
        description: a few words.
        fingerprint: a text that changes when the files change; computed from them where it is None.

    Raises:
        DataError: one of them is no whole plain tar, or they hold no images.
    """

    parallel = True

    def __init__(self, paths: Sequence[Path], *, description: str, fingerprint: str | None = None) -> None:
        self.description = description
        self._paths = list(paths)
        self._fingerprint = fingerprint
        rejected: list[tuple[str, str]] = []
        self.rejected = rejected
        self._index = index = _Index()
        for number, path in enumerate(self._paths):
            index.add_shard(number, _members(path, rejected))
        if len(self) == 0:
            raise DataError(
                f"The {description} holds no images.",
                first_reason(rejected) or "Images in a tar are called like 0001.jpg, with one dot in their names.",
            )
        if index.labelled:
            labels = number_labels(index.labels)
        else:
            labels = class_labels([index.name(number) for number in range(len(self))])
        if labels is not None:
            self.classes, self.labels = labels
            self.labelled = True
        index.labels.clear()

    def fingerprint(self) -> str:
        """Return what was given, or a hash of the tars (of sizes and times of change where they are large)."""
        if self._fingerprint is None:
            self._fingerprint = f"tar {shards_fingerprint(self._paths)}"
        return self._fingerprint

    def __len__(self) -> int:
        return len(self._index)

    def name(self, index: int) -> str:
        """Return the image's path inside its tar, after the tar's name where there are several."""
        shard, _, _ = self._index.place(index)
        inside = self._index.name(index)
        return inside if len(self._paths) == 1 else f"{self._paths[shard].name}: {inside}"

    def read(self, index: int) -> Sample:
        """Return the image's bytes and its class.

        Raises:
            SkippedImage: the tar has become shorter.
        """
        shard, offset, size = self._index.place(index)
        with self._paths[shard].open("rb", buffering=0) as file:
            file.seek(offset)
            data = _read_all(file, size)
        if len(data) != size:
            raise SkippedImage("the tar ends before it")
        return Sample(data, None if self.labels is None else int(self.labels[index]))


def _read_all(file: IO[bytes], size: int) -> bytes:
    """Return `size` bytes, or what there is up to the end; one unbuffered read may give less than is there."""
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


class _Member:
    """A member of a tar that matters: an image, or what tells a label.

    Args:
        path: inside the tar.
        key: the path up to the first dot of the name.
        suffix: what comes after that dot, in small letters.
        offset, size: of the data in the tar, in bytes.
        label: what it tells; None for an image.
    """

    __slots__ = ("key", "label", "offset", "path", "size", "suffix")

    def __init__(
        self, path: str, key: str, suffix: str, offset: int, size: int, label: int | str | None = None
    ) -> None:
        self.path, self.key, self.suffix = path, key, suffix
        self.offset, self.size, self.label = offset, size, label


class _Index:
    """Where the images lie: some twenty bytes each, and their paths as one string, so that millions fit in memory."""

    def __init__(self) -> None:
        self._shards = array("i")
        self._offsets = array("q")
        self._sizes = array("q")
        self._names = bytearray()
        self._ends = array("q", [0])
        self.labels: list[int | str | None] = []
        self.labelled = False

    def __len__(self) -> int:
        return len(self._shards)

    def place(self, index: int) -> tuple[int, int, int]:
        """Return (number of the shard, offset, size) of an image."""
        return self._shards[index], self._offsets[index], self._sizes[index]

    def name(self, index: int) -> str:
        """Return an image's path inside its tar."""
        return self._names[self._ends[index] : self._ends[index + 1]].decode("utf-8", "replace")

    def add_shard(self, shard: int, members: Iterator[_Member]) -> None:
        """Take the images of a shard, of several of one sample the likeliest, and find their labels.

        Labels mostly stand beside their image but need not, so keys are kept as hashes until the shard's end.
        """
        first = len(self)
        keys, ranks = array("q"), array("i")
        told: tuple[dict[int, int | str | None], ...] = ({}, {})
        for one in members:
            key = hash(one.key)
            if one.suffix in _LABEL_SUFFIXES:
                told[_LABEL_SUFFIXES.index(one.suffix)][key] = one.label
                continue
            keys.append(key)
            ranks.append(_IMAGE_SUFFIXES[one.suffix])
            self._shards.append(shard)
            self._offsets.append(one.offset)
            self._sizes.append(one.size)
            self._names += one.path.encode("utf-8", "replace")
            self._ends.append(len(self._names))
        if (kept := _one_a_key(keys, ranks)) is not None:
            self._keep(first, kept)
            keys = array("q", np.frombuffer(keys, dtype=np.int64)[kept].tobytes())
        cls, described = told
        self.labelled = self.labelled or any(label is not None for label in (*cls.values(), *described.values()))
        self.labels += [cls.get(key, described.get(key)) for key in keys]

    def _keep(self, first: int, kept: npt.NDArray[np.int64]) -> None:
        """Drop all images from number `first` on but those of these numbers, counted from it."""
        names = [self.name(first + int(number)) for number in kept]
        places = [self.place(first + int(number)) for number in kept]
        del self._shards[first:], self._offsets[first:], self._sizes[first:]
        del self._names[self._ends[first] :], self._ends[first + 1 :]
        for (shard, offset, size), name in zip(places, names, strict=True):
            self._shards.append(shard)
            self._offsets.append(offset)
            self._sizes.append(size)
            self._names += name.encode("utf-8", "replace")
            self._ends.append(len(self._names))


def _one_a_key(keys: array[int], ranks: array[int]) -> npt.NDArray[np.int64] | None:
    """Return the places, in order, of the image of lowest rank of each key; None where no key has two."""
    hashes, order = np.frombuffer(keys, dtype=np.int64), np.frombuffer(ranks, dtype=np.int32)
    ranked = np.lexsort((np.arange(len(hashes)), order, hashes))
    first = np.ones(len(ranked), dtype=bool)
    first[1:] = hashes[ranked][1:] != hashes[ranked][:-1]
    return None if first.all() else np.sort(ranked[first])


class _Headers:
    """A tar's file as `tarfile` is given it: reads of more than a header's size are refused, for a broken header may
    announce one of any size.

    Args:
        file: opened for reading.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        if not 0 <= size <= _HEADER_LIMIT:
            raise tarfile.ReadError(f"a header announces {size:,} bytes")
        return self._file.read(size)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what reading a tar raises into one line."""
    try:
        yield
    except _TAR_ERRORS as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(
            f"The tar {path.name!r} cannot be read: {reason[:300]}.", "Get or write the file again."
        ) from error


def _infos(file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of a plain tar's members, to its end."""
    source: Any = _Headers(file)
    with tarfile.open(fileobj=source, mode="r:") as tar:
        kept: list[tarfile.TarInfo] = vars(tar)["members"]
        while (info := tar.next()) is not None:
            kept.clear()  # or it holds the headers of all
            if info.size < 0:  # the next header would be looked for before this one
                raise tarfile.ReadError(f"a header announces {info.size:,} bytes")
            yield info
        file.seek(tar.offset)  # it takes a broken header for the end
        if file.read(_BLOCK).strip(b"\0"):
            raise tarfile.ReadError(f"there is no header at byte {tar.offset:,}, where one belongs")


def _members(path: Path, rejected: list[tuple[str, str]]) -> Iterator[_Member]:
    """Yield the members of a plain tar that matter; `rejected` takes images that cannot be used, with the reason."""
    _refuse_compressed(path)
    with _reading(path), path.open("rb") as file:
        size = path.stat().st_size
        for info in _infos(file):
            folder, _, name = info.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            suffix = suffix.lower()
            if not stem or "__MACOSX" in folder:  # hidden ones, too, begin with a dot
                continue
            key = f"{folder}/{stem}"
            if suffix in _LABEL_SUFFIXES:
                if info.isfile() and not info.issparse() and info.size <= _LABEL_LIMIT:
                    file.seek(info.offset_data)
                    label = _label(suffix, _read_all(file, info.size))
                    yield _Member(info.name, key, suffix, info.offset_data, info.size, label)
            elif suffix in _IMAGE_SUFFIXES:
                if (reason := _reason_against(info, size)) is None:
                    yield _Member(info.name, key, suffix, info.offset_data, info.size)
                elif len(rejected) < _REJECTED_SHOWN:
                    rejected.append((info.name, reason))


def _reason_against(info: tarfile.TarInfo, size: int) -> str | None:
    if not info.isfile():
        return "link" if info.issym() or info.islnk() else "not a file"
    if info.issparse():
        return "sparse file"
    if info.size > ENCODED_LIMIT:
        return f"over {ENCODED_LIMIT >> 20} MiB"
    return "the tar ends before it" if info.offset_data + info.size > size else None


def _label(suffix: str, data: bytes) -> int | str | None:
    """Return the label that a `.cls` or `.json` member holds, or None."""
    try:
        if suffix == "cls":
            return label_of(data.decode("utf-8"))
        content = json.loads(data)
        return label_of(content.get("label")) if isinstance(content, dict) else None
    except (ValueError, RecursionError):
        return None


def compression_of(path: Path) -> str | None:
    """Return what a file is compressed with: "gzip", "bzip2", "xz" or "zstd"; None where it is not."""
    with path.open("rb") as file:
        start = file.read(8)
    return next((name for magic, name in _COMPRESSIONS.items() if start.startswith(magic)), None)


def _refuse_compressed(path: Path) -> None:
    if (kind := compression_of(path)) is not None:
        raise DataError(
            f"The tar {path.name!r} is compressed ({kind}), so that its images cannot be read in any order.",
            "Unpack it (`tar -xf FILE -C FOLDER`) and give the folder, or uncompress it and give the plain tar.",
        )


def first_names(path: Path) -> list[str]:
    """Return the names, without folders, of a tar's first files; the tar may be compressed by gzip, bzip2 or xz.

    Raises:
        DataError: it is no tar.
    """
    kind = compression_of(path)
    names: list[str] = []
    if kind is not None and kind not in _OPENERS:
        return names
    with _reading(path), path.open("rb") if kind is None else _OPENERS[kind](path) as file:
        for info in _infos(file):
            if info.isfile():
                names.append(info.name.rpartition("/")[2])
            if len(names) == _PEEKED_FILES or info.offset_data + info.size > _PEEKED_BYTES:
                break
    return names
