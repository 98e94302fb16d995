"""Labels from where they are written beside images: values of any kind as numbers, and files called `metadata`.

`metadata.jsonl` and `metadata.csv` are how image folders on the Hugging Face Hub tell more of their images: a line or
row each, with the image's path relative to that file under `file_name`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ganzoo.data.sources.base import natural_order
from ganzoo.errors import DataError

METADATA_FILES = ("metadata.jsonl", "metadata.csv")
LABEL_KEYS = ("label", "labels", "class", "cls", "category", "target")
"""What a label is called, the likeliest first."""

Labels = tuple[tuple[str, ...], npt.NDArray[np.int64]]
"""Names of the classes (may be empty), and the number of each image's class, (N,)."""

_LINE_LIMIT = 1 << 20
_LARGEST = 1 << 31


def number_labels(values: Sequence[int | str | None]) -> Labels | None:
    """Return labels as numbers of classes; None where an image has none, or a negative one (as unlabelled parts have).

    Values that are all whole numbers, or text of such, are those numbers. Other text is the names of the classes, which
    are numbered in natural order.

    Args:
        values: one an image.
    """
    if not values or any(value is None for value in values):
        return None
    texts = {value for value in values if isinstance(value, str)}
    if not all(text.isascii() and text.isdecimal() and len(text) <= 10 for text in texts):
        names = tuple(sorted({str(value) for value in values}, key=natural_order))
        number = {name: index for index, name in enumerate(names)}
        return names, np.array([number[str(value)] for value in values], dtype=np.int64)
    if any(not 0 <= int(value or 0) < _LARGEST for value in set(values)):
        return None
    return (), np.array([int(value or 0) for value in values], dtype=np.int64)


def label_of(value: Any) -> int | str | None:
    """Return a value of JSON as a label: a whole number or text; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return value.strip() or None if isinstance(value, str) and len(value) <= 200 else None


def read_metadata(path: str, file: IO[bytes]) -> dict[str, int | str | None]:
    """Return the labels that a metadata file tells: path of the image → its label; empty where it tells none.

    Args:
        path: the file's, `/`-separated, which paths in it are relative to; images' paths are given likewise.
        file: its bytes.

    Raises:
        DataError: it cannot be read.
    """
    folder = PurePosixPath(path).parent
    labels: dict[str, int | str | None] = {}
    try:
        for number, row in enumerate(_rows(path, file), 1):
            if not isinstance(row, dict) or not isinstance(name := row.get("file_name"), str):
                raise DataError(f"Entry {number} of {path} has no file_name.", "It is the path of an image, as text.")
            key = next((one for one in LABEL_KEYS if one in row), None)
            if key is not None:
                labels[(folder / name.replace("\\", "/")).as_posix()] = label_of(row[key])
    except (ValueError, csv.Error, RecursionError) as error:  # JSON's and UTF-8's errors are ValueErrors
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}.") from error
    return labels


def _rows(path: str, file: IO[bytes]) -> Iterator[Any]:
    lines = _lines(path, file)
    if path.endswith(".csv"):
        yield from csv.DictReader(lines)
    else:
        yield from (json.loads(line) for line in lines if line.strip())


def _lines(path: str, file: IO[bytes]) -> Iterator[str]:
    first = True
    while line := file.readline(_LINE_LIMIT):
        if len(line) >= _LINE_LIMIT:
            raise DataError(f"{path} has a line of over {_LINE_LIMIT >> 20} MiB.")
        yield line.decode("utf-8-sig" if first else "utf-8")
        first = False


def labels_told(paths: Sequence[str], told: Iterable[dict[str, int | str | None]]) -> Labels | None:
    """Return the labels of images that metadata files tell; None where one of the images has none.

    Args:
        paths: of the images.
        told: what `read_metadata` returns for each file.
    """
    every: dict[str, int | str | None] = {}
    for one in told:
        every.update(one)
    return number_labels([every.get(path) for path in paths]) if every else None
