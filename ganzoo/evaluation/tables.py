"""Tables of features: one row an image, in memory or in a file that is read block by block.

50,000 rows of 2,048 numbers are 410 MB. A table that lies in a file is read by position, as packs are, so that the
process's memory stays what one block needs however many images are judged.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from ganzoo.errors import DataError
from ganzoo.files import flush_to_disk

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
BLOCK_ROWS = 4096
NEIGHBOURS = 5
"""How many of its nearest rows a table remembers the distances of: as many as precision and coverage look at."""
_ITEM = 4  # bytes of a float32
_ANEW = "Delete it; it is made anew."


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

    Raises:
        DataError: an array of another shape.
    """

    def __init__(self, array: npt.NDArray[np.floating]) -> None:
        self._array: Floats = np.ascontiguousarray(array, dtype=np.float32)
        if self._array.ndim != 2:
            raise DataError(f"A table of features has rows and columns; this has the shape {self._array.shape}.")
        self.shape = (self._array.shape[0], self._array.shape[1])

    def read(self, first: int, last: int) -> Floats:
        """Return rows `first` to `last`, exclusive."""
        return self._array[max(0, first) : max(0, last)]

    def gather(self, indices: Integers) -> Floats:
        """Return rows by number."""
        return self._array[_checked(indices, self.shape[0])]


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
                shape, fortran, dtype = _header(file)
                self._start = file.tell()
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
        except ValueError as error:
            raise DataError(f"{path} is no table of features: {error}.", _ANEW) from error
        whole = len(shape) == 2 and min(shape) >= 0 and size == self._start + _ITEM * math.prod(shape)
        if not whole or fortran or dtype != np.dtype("<f4"):
            raise DataError(f"{path} is not a whole table of features.", _ANEW)
        self.shape = (int(shape[0]), int(shape[1]))

    def read(self, first: int, last: int) -> Floats:
        """Return rows `first` to `last`, exclusive."""
        first, last = max(0, first), min(last, self.shape[0])
        with self._opened() as file:
            return self._read(file, first, max(first, last))

    def gather(self, indices: Integers) -> Floats:
        """Return rows by number; neighbouring ones are read together, each once."""
        wanted = _checked(indices, self.shape[0])
        different, places = np.unique(wanted, return_inverse=True)
        rows = np.empty((len(different), self.shape[1]), dtype=np.float32)
        with self._opened() as file:
            for part in _runs(different):
                rows[part] = self._read(file, int(different[part.start]), int(different[part.stop - 1]) + 1)
        return rows[places]

    def _opened(self) -> io.FileIO:
        try:
            return self._path.open("rb", buffering=0)
        except OSError as error:
            raise DataError(f"{self._path} cannot be read: {error.strerror or error}.") from error

    def _read(self, file: io.FileIO, first: int, last: int) -> Floats:
        rows = np.empty((last - first, self.shape[1]), dtype="<f4")
        into, done = rows.reshape(-1).view(np.uint8).data, 0
        try:
            file.seek(self._start + _ITEM * first * self.shape[1])
            while done < len(into) and (got := file.readinto(into[done:])):
                done += got
        except OSError as error:
            raise DataError(f"{self._path} cannot be read: {error.strerror or error}.") from error
        if done < len(into):
            raise DataError(f"{self._path} became shorter while it was read.", _ANEW)
        return rows


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order and dtype of an open .npy file; ValueError where it is none."""
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("it is of another version of NumPy's format")
    try:
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except ValueError:
        raise
    except Exception as error:  # NumPy's reader of old headers may raise what a tokeniser raises
        raise ValueError("its header is damaged") from error
    return shape, fortran, dtype


def _runs(numbers: Integers) -> Iterator[slice]:
    """Yield the parts of increasing numbers that follow one another without a gap, none longer than a block."""
    first = 0
    for stop in [*(np.flatnonzero(np.diff(numbers) > 1) + 1).tolist(), len(numbers)]:
        for start in range(first, stop, BLOCK_ROWS):
            yield slice(start, min(start + BLOCK_ROWS, stop))
        first = stop


def _checked(indices: npt.ArrayLike, count: int) -> Integers:
    """Return numbers of rows as they can be used.

    Raises:
        IndexError: they are no whole numbers, or there are no such rows.
    """
    given = np.asarray(indices)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise IndexError(f"rows are named by a list of whole numbers, not by {given.dtype} of shape {given.shape}")
    numbers = given.astype(np.int64)
    if numbers.size and (numbers.min() < 0 or numbers.max() >= count):
        raise IndexError(f"a row outside of the table's {count} is asked for")
    return numbers


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

    Raises:
        DataError: features, logits and labels are not of the same number of images.
    """

    def __init__(
        self,
        features: Rows,
        logits: Rows | None = None,
        labels: Integers | None = None,
        indices: Integers | None = None,
    ) -> None:
        for what, others in (("logits", logits), ("labels", labels)):
            if others is not None and others.shape[0] != features.shape[0]:
                raise DataError(f"{features.shape[0]} features come with {others.shape[0]} {what}.")
        self._features, self._logits, self._labels, self._indices = features, logits, labels, indices
        self._neighbour_distances: Floats | None = None

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
        return self._features.gather(self._rows(indices))

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[tuple[int, Floats]]:
        """Yield (number of the first row, features (n, dimension) float32) in order."""
        for first in range(0, len(self), rows):
            yield first, self.features(first, min(first + rows, len(self)))

    def subset(self, indices: Integers) -> FeatureTable:
        """Return a table of some rows; nothing is copied.

        Args:
            indices: (n,) numbers of this table's rows.
        """
        return FeatureTable(self._features, self._logits, self._labels, self._rows(indices))

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance in float64, in one pass.

        Numbers are taken relative to the first row, which float64 does without rounding, so that a large mean costs no
        precision; each block is centred by its own mean, and blocks are merged as Chan, Golub and LeVeque do ("Updating
        formulae and a pairwise algorithm for computing sample variances", 1979), so that an odd first row costs none.

        Raises:
            DataError: fewer than two rows.
        """
        if len(self) < 2:
            raise DataError(f"{len(self)} images have no covariance.", "Take at least two.")
        origin = self.features(0, 1)[0].astype(np.float64)
        count, mean = 0, np.zeros(self.dimension)
        scatter = np.zeros((self.dimension, self.dimension))
        for _, block in self.blocks():
            rows = block - origin
            own = rows.mean(axis=0)
            rows -= own
            scatter += rows.T @ rows
            away, both = own - mean, count + len(rows)
            scatter += np.outer(away, away) * (count * len(rows) / both)
            mean += away * (len(rows) / both)
            count = both
        return Moments(count, origin + mean, scatter / (count - 1))

    def neighbour_distances(self, progress: Callable[[str, int, int], None] | None = None) -> Floats:
        """Return the distances of every row from its nearest others: (N, n) float32, n the smaller of 5 and N - 1.

        They are computed once, which takes a time that grows as the square of N.

        Args:
            progress: is told how many rows are done.

        Raises:
            UsageError: a single row.
            DataError: features that are not finite.
        """
        if self._neighbour_distances is None:
            from ganzoo.evaluation.distances import nearest  # which stands on this module

            count = max(1, min(NEIGHBOURS, len(self) - 1))
            _, self._neighbour_distances = nearest(self, self, count, same=True, progress=progress)
        return self._neighbour_distances

    def _read(self, rows: Rows, first: int, last: int) -> Floats:
        first, last = max(0, first), max(0, last)
        return rows.read(first, last) if self._indices is None else rows.gather(self._indices[first:last])

    def _rows(self, indices: npt.ArrayLike) -> Integers:
        """Return where rows of this table lie in what it was made of."""
        chosen = _checked(indices, len(self))
        return chosen if self._indices is None else self._indices[chosen]


class TableWriter:
    """Writes rows of float32 into an .npy file as they come; a context manager.

    Args:
        path: the file.
        rows, columns: its final shape.
    """

    def __init__(self, path: Path, rows: int, columns: int) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)}
        self._file = path.open("wb")
        np.lib.format.write_array_header_1_0(self._file, header)

    def add(self, block: Floats) -> None:
        """Append rows: (n, columns) float32."""
        self._file.write(np.ascontiguousarray(block, dtype="<f4").data)

    def close(self) -> None:
        """Flush the file to disk and close it."""
        try:
            flush_to_disk(self._file)
        finally:
            self._file.close()

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
