"""Arrays and tensors of images, from Python or from `.npy` and `.npz` files.

Layouts: N × H × W, N × H × W × C, or N × C × H × W, with C of 1, 3 or 4. Values: bytes; or floats from 0 to 1, which
become bytes by rounding 255 times the value. Any float outside of that range is refused and never guessed at.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.data.sources.base import ArraySource, file_fingerprint
from ganzoo.errors import DataError

_IMAGE_KEYS = ("images", "arr_0")
_LABEL_KEYS = ("labels", "arr_1")
_BOMB_BYTES = 1 << 30
_BOMB_RATIO = 300
_FLOAT_REMEDY = "Give bytes (uint8, 0 to 255) or floats from 0 to 1; images in [-1, 1] become such by (x + 1) / 2."


def open_arrays(
    images: Any, labels: Any = None, *, description: str | None = None, fingerprint: str | None = None
) -> ArraySource:
    """Return the source of an array or tensor of images, and of labels.

    Args:
        images: NumPy array or torch tensor, see the module's layouts and values. A tensor is N × C × H × W where both
            layouts fit.
        labels: (N,) integers, or None.
        description: a few words.
        fingerprint: of the values; computed from them where it is None.

    Raises:
        DataError: shape, type or values are not such.
    """
    channels_first = not isinstance(images, np.ndarray)
    array = to_numpy(images)
    what = description or f"array of shape {tuple(array.shape)}"
    if array.ndim not in (3, 4):
        raise DataError(f"The {what} has {array.ndim} axes.", "Images are N×H×W, N×H×W×C or N×C×H×W.")
    if array.ndim == 4:
        array = channels_last(array, axis=1, prefer_first=channels_first, what=what)
    return ArraySource(
        to_bytes(array, what=what),
        None if labels is None else _integer_labels(to_numpy(labels), what),
        description=what,
        fingerprint=fingerprint,
    )


def open_array_file(path: Path) -> ArraySource:
    """Return the source of a `.npy` or `.npz` file. Files that hold Python objects are refused.

    Args:
        path: `.npy` of images; or `.npz` of `images` (or `arr_0`) and, where they are known, `labels` (or `arr_1`) and
            `classes`.

    Raises:
        DataError: it holds no such arrays.
    """
    kind = path.suffix.lower()[1:]
    what = f"{kind} file {path.name!r}"
    try:
        if kind == "npy":
            return open_arrays(_load_npy(path), description=what, fingerprint=f"npy {file_fingerprint(path)}")
        _refuse_bomb(path, what)
        with np.load(path, allow_pickle=False) as file:
            images, labels = _find(file, _IMAGE_KEYS), _find(file, _LABEL_KEYS)
            if images is None:
                raise DataError(f"The {what} holds {', '.join(file.files)}.", "Images are called `images` or `arr_0`.")
            if images.ndim == 3 and labels is None and images.shape[2] in (3, 4):
                raise DataError(
                    f"The {what} holds one image of shape {images.shape}.", "Stack images along the first axis."
                )
        return open_arrays(images, labels, description=what, fingerprint=f"npz {file_fingerprint(path)}")
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"The {what} cannot be read: {error}.") from error


def to_numpy(value: Any) -> npt.NDArray[Any]:
    """Return a NumPy array, or a torch tensor from any device, as a NumPy array."""
    if isinstance(value, np.ndarray):
        return value
    array: npt.NDArray[Any] = value.detach().cpu().numpy()
    return array


def channels_last(array: npt.NDArray[Any], *, axis: int, prefer_first: bool, what: str) -> npt.NDArray[Any]:
    """Return an array with its channels on the last axis.

    Args:
        array: with channels on `axis` or on the last axis.
        axis: where channels are when they come first.
        prefer_first: which layout holds where both fit.
        what: description, for messages.

    Raises:
        DataError: neither axis has 1, 3 or 4 channels.
    """
    first, last = array.shape[axis] in (1, 3, 4), array.shape[-1] in (1, 3, 4)
    if not first and not last:
        raise DataError(f"The {what} has no axis of 1, 3 or 4 channels.", "Images are N×H×W, N×H×W×C or N×C×H×W.")
    return np.moveaxis(array, axis, -1) if first and (prefer_first or not last) else array


def to_bytes(array: npt.NDArray[Any], *, what: str) -> npt.NDArray[np.uint8]:
    """Return values as bytes: uint8 as it is, floats in [0, 1] times 255 and rounded.

    Raises:
        DataError: floats outside of [0, 1] or not finite, or another type.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise DataError(f"The {what} has values of type {array.dtype}.", _FLOAT_REMEDY)
    if array.size == 0:
        return array.astype(np.uint8)
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 1.0):  # false for NaN too
        raise DataError(f"The {what} has floats from {low:.4g} to {high:.4g}.", _FLOAT_REMEDY)
    converted = np.empty(array.shape, dtype=np.uint8)
    for first in range(0, len(array), 1024):
        converted[first : first + 1024] = np.rint(array[first : first + 1024].astype(np.float64) * 255.0)
    return converted


def _load_npy(path: Path) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _find(file: Any, keys: tuple[str, ...]) -> npt.NDArray[Any] | None:
    return next((file[key] for key in keys if key in file.files), None)


def _refuse_bomb(path: Path, what: str) -> None:
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            if info.file_size > _BOMB_BYTES and info.file_size > _BOMB_RATIO * info.compress_size:
                raise DataError(f"The {what} unpacks to over {_BOMB_RATIO} times its size: a zip bomb.")


def _integer_labels(labels: npt.NDArray[Any], what: str) -> npt.NDArray[np.int64]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"The labels of the {what} have shape {labels.shape} and type {labels.dtype}.",
            "Labels are one whole number an image; of one-hot labels take argmax(axis=1).",
        )
    return labels.astype(np.int64)
