"""Parquet files of images, as the Hugging Face Hub holds most data sets: a column of encoded images, one of labels.

The image column is a struct with the field `bytes` (the Hub's) or binary; labels are a column of numbers or text. Names
of classes come from the Hub's metadata inside the file. Images are never held all at once: a row group is read in small
batches, of which the newest are kept, so that reading in order, by several threads too, reads everything once, and
reading out of order costs at most a walk through one row group.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ganzoo.data.images import ENCODED_LIMIT
from ganzoo.data.sources.base import Sample, SkippedImage, Source
from ganzoo.data.sources.labelling import LABEL_KEYS, Labels, number_labels
from ganzoo.data.sources.shards import shards_fingerprint
from ganzoo.errors import DataError, MissingDependencyError

_IMAGE_KEYS = ("image", "img", "images", "picture", "photo", "jpg", "jpeg", "png", "webp")
_FINE_LABEL_KEYS = ("fine_label", *LABEL_KEYS)  # CIFAR-100 on the Hub has fine and coarse ones
_BATCH_ROWS = 16
_BATCH_BYTES = 4 << 20
_KEPT_BYTES = 256 << 20
_LEAST_KEPT = 4  # batches
_CURSORS = max(4, (os.cpu_count() or 1) + 2)  # row groups that are open at once: each thread may stand in another
_BUFFER = 1 << 20


class ParquetSource(Source):
    """The images of parquet files, one after the other.

    Args:
        paths: of the files; they have the same columns.
        description: a few words.
        fingerprint: a text that changes when the files change; computed from them where it is None.
        class_names: column → names of its classes, where something beside the files tells them.

    Raises:
        DataError: they cannot be read, or have no column of images.
        MissingDependencyError: pyarrow is not installed.
    """

    parallel = True

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        description: str,
        fingerprint: str | None = None,
        class_names: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._parquet = _import_parquet()
        self.description = description
        self._paths = list(paths)
        self._fingerprint = fingerprint
        self._image, label = "", None
        groups: list[tuple[int, int, int, int]] = []  # file, row group, rows, bytes of its images
        names: dict[str, tuple[str, ...]] = {}
        for number, path in enumerate(self._paths):
            with self._open(path) as file:
                if number == 0:
                    self._image, label, names = _columns(file.schema_arrow, description)
                groups += [(number, *one) for one in _row_groups(file, self._image, path)]
        self._groups = groups
        self._starts = np.cumsum([0, *(rows for _, _, rows, _ in groups)], dtype=np.int64)
        self._lock = threading.Lock()
        self._cursors: OrderedDict[int, _Cursor] = OrderedDict()
        self._kept: OrderedDict[tuple[int, int], _Batch] = OrderedDict()
        if len(self) == 0:
            raise DataError(f"The {description} has no rows.")
        if label is not None and (found := self._read_labels(label)) is not None:
            classes, self.labels = found
            self.classes = classes or names.get(label) or (class_names or {}).get(label, ())
            self.labelled = True

    def fingerprint(self) -> str:
        """Return what was given, or a hash of the files (of sizes and times of change where they are large)."""
        if self._fingerprint is None:
            self._fingerprint = f"parquet {self._image} {shards_fingerprint(self._paths)}"
        return self._fingerprint

    def __len__(self) -> int:
        return int(self._starts[-1])

    def name(self, index: int) -> str:
        """Return the file's name and the number of the row group and of the row in it."""
        group = self._group(index)
        file, number, _, _ = self._groups[group]
        return f"{self._paths[file].name} row {index - int(self._starts[group])} of group {number}"

    def read(self, index: int) -> Sample:
        """Return the encoded image of a row and its class.

        Raises:
            SkippedImage: the row has no image, or too large a one.
            DataError: the file is broken.
        """
        group = self._group(index)
        row = index - int(self._starts[group])
        with self._lock:
            data = self._bytes(group, row)
        if data is None:
            raise SkippedImage("the row holds no image's bytes")
        if len(data) > ENCODED_LIMIT:
            raise SkippedImage(f"over {ENCODED_LIMIT >> 20} MiB")
        return Sample(data, None if self.labels is None else int(self.labels[index]))

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for cursor in self._cursors.values():
                cursor.close()
            self._cursors.clear()
            self._kept.clear()

    def _group(self, index: int) -> int:
        return int(np.searchsorted(self._starts, index, side="right")) - 1

    def _open(self, path: Path) -> Any:
        try:
            return self._parquet.ParquetFile(
                path, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
            )
        except (OSError, ValueError, MemoryError) as error:  # pyarrow's own errors are ValueErrors or OSErrors
            raise _broken(path, error) from error

    def _bytes(self, group: int, row: int) -> bytes | None:
        """Return a row's image; batches up to it are read where it is not among those that are kept."""
        rows = self._rows_a_batch(group)
        wanted = (group, row // rows)
        if wanted not in self._kept:
            cursor = self._cursors.pop(group, None)
            if cursor is None or cursor.next > wanted[1]:
                if cursor is not None:
                    cursor.close()
                cursor = self._cursor(group, rows)
            self._cursors[group] = cursor
            while len(self._cursors) > _CURSORS:
                self._cursors.popitem(last=False)[1].close()
            while cursor.next <= wanted[1]:
                number = cursor.next
                self._keep((group, number), cursor.read())
        batch = self._kept[wanted]
        place = row - wanted[1] * rows
        if place >= len(batch.images):
            raise self._short(group)
        batch.unread -= 1
        self._kept.move_to_end(wanted, last=batch.unread > 0)  # what has been read will hardly be asked for again
        return batch.images[place]

    def _keep(self, key: tuple[int, int], images: list[bytes | None]) -> None:
        total = sum(batch.bytes for batch in self._kept.values())
        batch = _Batch(images, sum(len(one) for one in images if one is not None), len(images))
        while total + batch.bytes > _KEPT_BYTES and len(self._kept) >= _LEAST_KEPT:
            total -= self._kept.popitem(last=False)[1].bytes
        self._kept[key] = batch

    def _rows_a_batch(self, group: int) -> int:
        _, _, rows, size = self._groups[group]
        return max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // max(size, 1)))

    def _cursor(self, group: int, rows: int) -> _Cursor:
        number, row_group, _, _ = self._groups[group]
        path = self._paths[number]
        return _Cursor(self._open(path), path, row_group, self._image, rows)

    def _short(self, group: int) -> DataError:
        file, number, rows, _ = self._groups[group]
        return _broken(self._paths[file], f"row group {number} has less than its {rows:,} rows")

    def _read_labels(self, column: str) -> Labels | None:
        values: list[int | str | None] = []
        for path in self._paths:
            with self._open(path) as file:
                try:
                    if column not in file.schema_arrow.names:
                        return None
                    for batch in file.iter_batches(columns=[column], use_threads=False):
                        values += batch.column(0).to_pylist()
                except (OSError, ValueError, MemoryError) as error:
                    raise _broken(path, error) from error
        if len(values) != len(self):
            raise DataError(f"The {self.description} has {len(self):,} rows but {len(values):,} labels.")
        return number_labels([int(one) if isinstance(one, bool) else one for one in values])


@dataclass
class _Batch:
    """Images that have been read ahead, their bytes, and how many of them have not been asked for yet."""

    images: list[bytes | None]
    bytes: int
    unread: int


class _Cursor:
    """A walk through a row group, batch by batch.

    Args:
        file: an open `pyarrow.parquet.ParquetFile`, its own.
        path: for messages.
        group: number of the row group.
        column: of the images.
        rows: of a batch.

    Attributes:
        next: number of the batch that is read next.
    """

    def __init__(self, file: Any, path: Path, group: int, column: str, rows: int) -> None:
        self._file, self._path, self._group = file, path, group
        self._images = _images(file, group, column, rows)
        self._rows = rows
        self._left: deque[bytes | None] = deque()
        self.next = 0

    def read(self) -> list[bytes | None]:
        """Return the next batch: of `rows` images, fewer only at the end of the row group, where it may be empty."""
        try:
            while len(self._left) < self._rows and (more := next(self._images, None)) is not None:
                self._left.append(more[0])
        except (OSError, ValueError, MemoryError, TypeError) as error:
            raise _broken(self._path, error) from error
        self.next += 1
        return [self._left.popleft() for _ in range(min(self._rows, len(self._left)))]

    def close(self) -> None:
        """Close the file."""
        self._images.close()
        self._file.close()


def _images(file: Any, group: int, column: str, rows: int) -> Any:
    """Yield the image of each row of a row group, in a tuple: (bytes or None,)."""

    def walk() -> Iterator[tuple[bytes | None]]:
        for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=[column], use_threads=False):
            values = batch.column(0)
            if _types().is_struct(values.type):  # a struct: the Hub's images have bytes and a path
                valid = values.is_valid().to_pylist()
                inner = values.field("bytes")
            else:
                valid, inner = [True] * len(values), values
            for there, value in zip(valid, inner, strict=True):
                data = value.as_py() if there else None
                yield (data if isinstance(data, bytes) else None,)

    return walk()


def _import_parquet() -> ModuleType:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(
            f"Parquet files need the package pyarrow: {error}.", "Install it: pip install 'ganzoo[parquet]'"
        ) from error
    module: ModuleType = pyarrow.parquet
    return module


def _row_groups(file: Any, column: str, path: Path) -> Iterator[tuple[int, int, int]]:
    """Yield (number, rows, bytes of the images) of each row group that has rows.

    Raises:
        DataError: the file lacks the column of images, or declares more images than it can hold.
    """
    if column not in file.schema_arrow.names:
        raise DataError(f"{path.name!r} has no column {column!r}, as the files before it have.")
    about, size = file.metadata, path.stat().st_size
    if not 0 <= about.num_rows <= size:  # an image has a byte at least
        raise DataError(f"{path.name!r} declares {about.num_rows:,} rows in {size:,} bytes.", _GET_AGAIN)
    for number in range(about.num_row_groups):
        group = about.row_group(number)
        chunks = (group.column(place) for place in range(group.num_columns))
        held = sum(one.total_uncompressed_size for one in chunks if one.path_in_schema.split(".")[0] == column)
        if group.num_rows > 0:
            yield number, group.num_rows, held


def _columns(schema: Any, what: str) -> tuple[str, str | None, dict[str, tuple[str, ...]]]:
    """Return (column of images, column of labels or None, column → names of its classes).

    Raises:
        DataError: no column can hold images.
    """
    features = _features(schema)
    images = [field.name for field in schema if _can_hold_images(field.type)]
    marked = [name for name in images if features.get(name, {}).get("_type") == "Image"]
    if not images:
        shown = ", ".join(f"{field.name} ({str(field.type)[:40]})" for field in list(schema)[:8])
        raise DataError(
            f"The {what} has no column of images; it has {shown}.",
            "Images are encoded files: a column of binary, or of structs with the field `bytes`.",
        )
    names = {name: found for name, one in features.items() if (found := _class_names(one))}
    kinds = _types()
    fits = [
        field.name
        for field in schema
        if kinds.is_integer(field.type) or kinds.is_string(field.type) or kinds.is_large_string(field.type)
    ]
    classes = [name for name in fits if name in names]
    label = _first(_FINE_LABEL_KEYS, classes) or _first(_FINE_LABEL_KEYS, fits) or (classes[0] if classes else None)
    return _first(_IMAGE_KEYS, marked) or (marked or [_first(_IMAGE_KEYS, images) or images[0]])[0], label, names


def _types() -> ModuleType:
    import pyarrow.types

    module: ModuleType = pyarrow.types
    return module


def _first(wanted: Sequence[str], there: Sequence[str]) -> str | None:
    """Return the first wanted name that is there, whatever its case."""
    lower = {name.lower(): name for name in reversed(there)}
    return next((lower[name] for name in wanted if name in lower), None)


def _can_hold_images(kind: Any) -> bool:
    types = _types()
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _can_hold_images(kind.field(index).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Return what the Hub's metadata in a file tell of its columns; nothing where there are none that can be read."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {str(name): one for name, one in features.items() if isinstance(one, dict)}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _class_names(feature: Mapping[str, Any]) -> tuple[str, ...]:
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    return tuple(names) if isinstance(names, list) and all(isinstance(one, str) for one in names) else ()


_GET_AGAIN = "Get or write the file again."


def _broken(path: Path, error: Exception | str) -> DataError:
    reason = (str(error).strip().splitlines() or ["no reason is told"])[0].rstrip(".")
    if len(reason) > 300:
        reason = reason[:299] + "…"
    return DataError(f"The parquet file {path.name!r} cannot be read: {reason}.", _GET_AGAIN)
