"""Tables of features: one row an image, in memory or in a file that is read block by block.

50,000 rows of 2,048 numbers are 410 MB. A table that lies in a file is read by position, as packs are, so that the
process's memory stays what one block needs however many images are judged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ganzoo.errors import DataError

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
BLOCK_ROWS = 4096


class Rows(Protocol):
    """Numbers in rows, read in blocks."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""

    def read(self, first: int, last: int) -> Floats:
        """Return rows `first` to `last`, exclusive: (last - first, columns) float32."""

    def gather(self, indices: Integers) -> Floats:
        """Return rows by number: (len(indices), columns) float32."""


class ArrayRows:
    """Rows that lie in memory.

    Args:
        array: (rows, columns) float32.
    """

    def __init__(self, array: npt.NDArray[np.floating]) -> None:
        self._array: Floats = np.ascontiguousarray(array, dtype=np.float32)
        self.shape = (self._array.shape[0], self._array.shape[1])

    def read(self, first: int, last: int) -> Floats:
        """Return rows `first` to `last`, exclusive."""
        return self._array[first:last]

    def gather(self, indices: Integers) -> Floats:
        """Return rows by number."""
        return self._array[indices]


class FileRows:
    """Rows that lie in a NumPy file of float32, read by position.

    Args:
        path: an .npy file of shape (rows, columns).

    Raises:
        DataError: it is not such a file, or shorter than its header tells.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as file:
                np.lib.format.read_magic(file)
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
                self._start = file.tell()
            size = path.stat().st_size
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is no table of features: {error}.", "Delete it; it is made anew.") from error
        wanted = self._start + 4 * int(np.prod(shape, dtype=np.int64))
        if len(shape) != 2 or fortran or dtype != np.float32 or size != wanted:
            raise DataError(f"{path} is not a whole table of features.", "Delete it; it is made anew.")
        self.shape = (int(shape[0]), int(shape[1]))

    def read(self, first: int, last: int) -> Floats:
        """Return rows `first` to `last`, exclusive."""
        first, last = max(0, first), min(last, self.shape[0])
        columns = self.shape[1]
        count = max(0, last - first) * columns
        with self._path.open("rb", buffering=0) as file:
            rows = np.fromfile(file, dtype=np.float32, count=count, offset=self._start + 4 * first * columns)
        if len(rows) != count:
            raise DataError(f"{self._path} became shorter while it was read.", "Delete it; it is made anew.")
        return rows.reshape(-1, columns)

    def gather(self, indices: Integers) -> Floats:
        """Return rows by number; neighbouring ones are read together."""
        gathered = np.empty((len(indices), self.shape[1]), dtype=np.float32)
        order = np.argsort(indices, kind="stable")
        wanted = np.asarray(indices)[order]
        breaks = np.flatnonzero(np.diff(wanted) > 1) + 1
        for part in np.split(np.arange(len(wanted)), breaks):
            if len(part):
                first = int(wanted[part[0]])
                block = self.read(first, int(wanted[part[-1]]) + 1)
                gathered[order[part]] = block[wanted[part] - first]
        return gathered


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of features.

    Attributes:
        count: of images.
        mean: (dimension,) float64.
        covariance: (dimension, dimension) float64, normalised by count - 1.
    """

    count: int
    mean: npt.NDArray[np.float64]
    covariance: npt.NDArray[np.float64]


class FeatureTable:
    """Features of a row of images, with the logits and labels that belong to them.

    Args:
        features: (N, dimension).
        logits: (N, num_classes), or None.
        labels: (N,) int64, classes of the images as their source or seed tells; None where there are none.
        indices: the rows that count, in order; None for all.
    """

    def __init__(
        self, features: Rows, logits: Rows | None = None, labels: Integers | None = None, indices: Integers | None = None
    ) -> None:
        self._features, self._logits, self._labels, self._indices = features, logits, labels, indices

    @classmethod
    def of(
        cls,
        features: npt.NDArray[np.floating],
        logits: npt.NDArray[np.floating] | None = None,
        labels: npt.ArrayLike | None = None,
    ) -> FeatureTable:
        """Return a table that lies in memory.

        Args:
            features: (N, dimension).
            logits: (N, num_classes).
            labels: (N,).
        """
        return cls(
            ArrayRows(features),
            None if logits is None else ArrayRows(logits),
            None if labels is None else np.asarray(labels, dtype=np.int64),
        )

    def __len__(self) -> int:
        return self._features.shape[0] if self._indices is None else len(self._indices)

    @property
    def dimension(self) -> int:
        """Length of a feature vector."""
        return self._features.shape[1]

    @property
    def num_classes(self) -> int:
        """Length of the logits; 0 where there are none."""
        return 0 if self._logits is None else self._logits.shape[1]

    @property
    def labels(self) -> Integers | None:
        """(N,) int64, or None."""
        return self._labels if self._labels is None or self._indices is None else self._labels[self._indices]

    def features(self, first: int = 0, last: int | None = None) -> Floats:
        """Return features `first` to `last`, exclusive: (n, dimension) float32."""
        return self._read(self._features, first, len(self) if last is None else last)

    def logits(self, first: int = 0, last: int | None = None) -> Floats:
        """Return logits `first` to `last`, exclusive: (n, num_classes) float32.

        Raises:
            DataError: the extractor gave none.
        """
        if self._logits is None:
            raise DataError("These features come without logits.", "Use an extractor that names classes.")
        return self._read(self._logits, first, len(self) if last is None else last)

    def gather(self, indices: Integers) -> Floats:
        """Return features by number: (len(indices), dimension) float32."""
        return self._features.gather(indices if self._indices is None else self._indices[indices])

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[tuple[int, Floats]]:
        """Yield (number of the first row, features (n, dimension) float32) in order."""
        for first in range(0, len(self), rows):
            yield first, self.features(first, min(first + rows, len(self)))

    def subset(self, indices: Integers) -> FeatureTable:
        """Return a table of some rows; nothing is copied.

        Args:
            indices: (n,) numbers of this table's rows.
        """
        chosen = indices if self._indices is None else self._indices[indices]
        return FeatureTable(self._features, self._logits, self._labels, np.asarray(chosen, dtype=np.int64))

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance, summed in float64 about the first row, in one pass.

        Raises:
            DataError: fewer than two rows.
        """
        if len(self) < 2:
            raise DataError(f"{len(self)} images have no covariance.", "Take at least two.")
        shift = self.features(0, 1)[0].astype(np.float64)
        total = np.zeros(self.dimension)
        products = np.zeros((self.dimension, self.dimension))
        for _, block in self.blocks():
            centred = block.astype(np.float64) - shift
            total += centred.sum(axis=0)
            products += centred.T @ centred
        count = len(self)
        offset = total / count
        covariance = (products - count * np.outer(offset, offset)) / (count - 1)
        return Moments(count, shift + offset, covariance)

    def _read(self, rows: Rows, first: int, last: int) -> Floats:
        return rows.read(first, last) if self._indices is None else rows.gather(self._indices[first:last])


def table_writer(path: Path, rows: int, columns: int) -> TableWriter:
    """Return a writer of an .npy file of float32 that takes its rows in order.

    Args:
        path: the file; atomicity is the caller's.
        rows, columns: its shape.
    """
    return TableWriter(path, rows, columns)


class TableWriter:
    """Writes rows of float32 into an .npy file as they come; a context manager.

    Args:
        path: the file.
        rows, columns: its final shape.
    """

    def __init__(self, path: Path, rows: int, columns: int) -> None:
        self._file = path.open("wb")
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def add(self, block: Floats) -> None:
        """Append rows: (n, columns) float32."""
        self._file.write(np.ascontiguousarray(block, dtype="<f4").data)

    def close(self) -> None:
        """Flush the file to disk and close it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
