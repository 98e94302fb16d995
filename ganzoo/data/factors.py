"""Factors of a pack: what is known of each image beside its class, as `factors.safetensors`.

The pack's manifest keeps their names in the source's order and the file's SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.errors import DataError, WeightsError
from ganzoo.files import sha256_of
from ganzoo.tensor_headers import read_header

FACTORS = "factors.safetensors"
_KINDS = {"I64": np.dtype("<i8"), "F64": np.dtype("<f8")}

Factors = Mapping[str, npt.NDArray[Any]]


def write_factors(folder: Path, factors: Factors, kept: npt.NDArray[np.int64], described: str) -> str:
    """Write the factors of the images that a pack keeps, and return the file's SHA-256; equal factors, equal bytes.

    Args:
        folder: the pack's.
        factors: of all of the source's samples: name → (N,) or (N, k), int64 or float64.
        kept: (images,) numbers of the samples that became images, in order.
        described: the source's description, for messages.

    Raises:
        DataError: a factor has another shape or type, or none for some sample.
    """
    from safetensors.numpy import save

    chosen = {name: _checked(name, np.asarray(values), kept, described) for name, values in factors.items()}
    data = save(chosen)
    (folder / FACTORS).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def check_factors(folder: Path, names: tuple[str, ...], count: int) -> None:
    """Look at the header of a pack's factors, as a pack is opened.

    Args:
        folder: the pack's.
        names: of the factors, from the manifest.
        count: of the images.

    Raises:
        ValueError: the file is missing or not whole, or holds other factors than the manifest tells.
    """
    try:
        entries = read_header(folder / FACTORS).tensors
    except WeightsError as error:
        raise ValueError(f"{FACTORS} cannot be read: {error.message.rstrip('.')}") from error
    if set(entries) != set(names):
        raise ValueError(f"{FACTORS} holds {', '.join(sorted(entries))}, the manifest tells {', '.join(sorted(names))}")
    for name, entry in entries.items():
        if entry.dtype not in _KINDS or len(entry.shape) not in (1, 2) or entry.shape[0] != count:
            raise ValueError(f"{FACTORS} holds {name!r} as {entry.dtype} {entry.shape}, for {count} images")


def read_factors(folder: Path, names: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    """Return a pack's factors in the manifest's order: name → (N,) or (N, k), int64 or float64.

    Args:
        folder: the pack's; `check_factors` has passed.
        names: of the factors.

    Raises:
        DataError: the file changed since the pack was opened.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(folder / FACTORS)
        return {name: found[name] for name in names}
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"The factors of {folder} cannot be read: {error}.", "Delete it, then pack again.") from error


def factors_sha256(folder: Path) -> str:
    """Return the SHA-256 of a pack's factors as they lie on the disk."""
    return sha256_of(folder / FACTORS)


def _checked(
    name: str, values: npt.NDArray[Any], kept: npt.NDArray[np.int64], described: str
) -> npt.NDArray[np.int64] | npt.NDArray[np.float64]:
    fitting = values.ndim in (1, 2) and values.dtype in (np.dtype(np.int64), np.dtype(np.float64))
    if not fitting or (len(kept) and len(values) <= kept.max()):
        raise DataError(
            f"The factor {name!r} of the {described} is {values.dtype} {values.shape}.",
            "A factor is int64 or float64, (N,) or (N, k), with a row for each of the source's samples.",
        )
    return np.ascontiguousarray(values[kept].astype(values.dtype.newbyteorder("<"), copy=False))
