"""MNIST's idx files: a big-endian header (two zero bytes, type, number of axes, sizes), then the values. Plain or
gzipped.

The format is told at the foot of the MNIST page; files of EMNIST, KMNIST and Fashion-MNIST are alike.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from ganzoo.data.sources.base import ArraySource, file_fingerprint
from ganzoo.errors import DataError

_UNSIGNED_BYTE = 0x08
_IMAGES_NAME = re.compile(r"(?P<start>.*)images(?P<middle>[-.]idx)3(?P<end>-ubyte(?:\.gz)?)$")
_LARGEST = 1 << 34  # bytes: a header that declares more is broken
_GZIP_MAGIC = b"\x1f\x8b"


def is_images_file(path: Path) -> bool:
    """Return whether a file's name is that of images in idx format, or its first bytes are (gzipped or not)."""
    if _IMAGES_NAME.fullmatch(path.name):
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == bytes((0, 0, _UNSIGNED_BYTE, 3))
    except OSError:
        return False


def find_images_file(folder: Path) -> Path | None:
    """Return the images file of a folder, the training images before others; None where there is none."""
    found = sorted(one for one in folder.iterdir() if _IMAGES_NAME.fullmatch(one.name) and one.is_file())
    training = [one for one in found if "train" in one.name]
    return next(iter(training or found), None)


def open_idx_file(path: Path) -> ArraySource:
    """Return the source of an images file; its labels are read from the labels file beside it, where there is one.

    Args:
        path: such as `train-images-idx3-ubyte.gz`.

    Raises:
        DataError: a file is broken, or images and labels differ in number.
    """
    images = read_idx(path)
    if images.ndim != 3:
        raise DataError(f"{path.name!r} holds an array of {images.ndim} axes, not images × rows × columns.")
    beside = _labels_file(path)
    labels = None if beside is None else read_idx(beside)
    if labels is not None and labels.ndim != 1:
        raise DataError(f"{beside.name if beside else ''!r} holds an array of {labels.ndim} axes, not labels.")
    return ArraySource(
        images,
        None if labels is None else labels.astype(np.int64),
        description=f"idx file {path.name!r}",
        fingerprint=f"idx {file_fingerprint(path, *((beside,) if beside else ()))}",
    )


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Return the array of an idx file of bytes.

    Args:
        path: plain or gzipped.

    Raises:
        DataError: it is no such file, or not whole.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not packed:
                return _parse(raw, path.name)
            with gzip.GzipFile(fileobj=raw) as file:
                return _parse(cast(IO[bytes], file), path.name)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name!r} cannot be read: {error}.") from error


def _parse(file: IO[bytes], name: str) -> npt.NDArray[np.uint8]:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] != _UNSIGNED_BYTE or not 1 <= head[3] <= 4:
        raise DataError(f"{name!r} is not an idx file of bytes.")
    sizes = file.read(4 * head[3])
    if len(sizes) != 4 * head[3]:
        raise DataError(f"{name!r} is truncated.")
    shape = struct.unpack(f">{head[3]}I", sizes)
    count = math.prod(shape)
    if not 0 < count <= _LARGEST:
        raise DataError(f"{name!r} declares the impossible size {shape}.")
    data = file.read(count)
    if len(data) != count or file.read(1):
        raise DataError(f"{name!r} does not have the {count:,} bytes that its header declares.")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _labels_file(path: Path) -> Path | None:
    match = _IMAGES_NAME.fullmatch(path.name)
    if match is None:
        return None
    end = match["end"].removesuffix(".gz")
    names = (f"{match['start']}labels{match['middle']}1{end}{packed}" for packed in ("", ".gz"))
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
