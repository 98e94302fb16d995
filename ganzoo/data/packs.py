"""Packs: the one form of all data, a folder of `images.npy`, `labels.npy`, `factors.safetensors` and `manifest.json`.

`images.npy` is uint8, N × H × W × C, in NumPy's own format, so that anything can map it. Batches are read from it by
position, not through a memory map: pages of a map count as the process's memory once touched, reads do not, and a
random read of a cold file brings in what was asked for and nothing around it. Labels and factors are there where the
source has them.
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ganzoo.data.factors import check_factors, factors_sha256, read_factors
from ganzoo.data.request import DataRequest
from ganzoo.errors import DataError

if TYPE_CHECKING:
    import torch

SCHEMA_VERSION = 2
WITHOUT_FACTORS = 1  # the schema of a pack without factors, which versions that know of none can read
IMAGES, LABELS, MANIFEST = "images.npy", "labels.npy", "manifest.json"
_READ_BYTES = 64 << 20


@dataclass(frozen=True)
class PackManifest:
    """What a pack holds and where it is from.

    Attributes:
        schema_version: of this manifest.
        key: hash of what was asked and what was read.
        source: description of the source.
        request: what was asked (without `labels`).
        count: number of images.
        image_size, channels: of each image.
        bytes: of all pixels.
        classes: names of the classes, may be empty.
        labelled: whether there is a `labels.npy`.
        skipped: number of images that were left out.
        skipped_examples: the first few of them, (name, reason).
        content_sha256: SHA-256 over the pixels in order, then the labels as little-endian int64.
        notice: licence or origin, where known.
        factors: names of what is known of each image beside its class, may be empty.
        factors_sha256: of `factors.safetensors`, where there are any.
    """

    schema_version: int
    key: str
    source: str
    request: dict[str, Any]
    count: int
    image_size: int
    channels: int
    bytes: int
    classes: tuple[str, ...]
    labelled: bool
    skipped: int
    skipped_examples: tuple[tuple[str, str], ...]
    content_sha256: str
    notice: str | None = None
    factors: tuple[str, ...] = ()
    factors_sha256: str | None = None

    def to_json(self) -> str:
        """Return the manifest as JSON text; equal manifests give equal text."""
        fields = asdict(self)
        if not self.factors:
            del fields["factors"], fields["factors_sha256"]
        return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> PackManifest:
        """Return the manifest that a JSON text holds.

        Raises:
            ValueError: it is not one, or of a later schema.
        """
        fields = json.loads(text)
        if not isinstance(fields, dict) or not isinstance(fields.get("schema_version"), int):
            raise ValueError("not a manifest of a pack")
        if fields["schema_version"] > SCHEMA_VERSION:
            raise ValueError(f"written by a later version of ganzoo (schema {fields['schema_version']})")
        fields["classes"] = tuple(fields.get("classes", ()))
        fields["factors"] = tuple(fields.get("factors", ()))
        fields["skipped_examples"] = tuple((name, reason) for name, reason in fields.get("skipped_examples", ()))
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(f"not a manifest of a pack: {error}") from error


class Pack:
    """A pack on disk, opened for reading. Safe to use from several threads; `with pack:` or `close()` frees its file.

    Args:
        path: the pack's folder.

    Attributes:
        path: the pack's folder.
        manifest: what it holds.
        labels: (N,) int64, or None.

    Raises:
        DataError: it is no pack, or its files do not have the sizes that its manifest tells.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.manifest = PackManifest.from_json((self.path / MANIFEST).read_text(encoding="utf-8"))
            self.labels = _read_labels(self.path / LABELS, self.manifest) if self.manifest.labelled else None
            if self.manifest.factors:
                check_factors(self.path, self.manifest.factors, self.manifest.count)
            self._file = (self.path / IMAGES).open("rb", buffering=0)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} is not a whole pack: {error}.", "Delete it, then pack again.") from error
        self._finalizer = weakref.finalize(self, self._file.close)
        try:
            self._start = _check_images(self._file, self.manifest)
        except (OSError, ValueError) as error:
            self.close()
            raise DataError(f"{self.path} is not a whole pack: {error}.", "Delete it, then pack again.") from error

    @property
    def count(self) -> int:
        """Number of images."""
        return self.manifest.count

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return self.manifest.image_size

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self.manifest.channels

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty where there are no labels."""
        return self.manifest.classes

    @cached_property
    def factors(self) -> Mapping[str, npt.NDArray[Any]] | None:
        """What is known of each image beside its class: name → (N,) or (N, k), int64 or float64; None where nothing is.

        Raises:
            DataError: the file cannot be read any more.
        """
        return read_factors(self.path, self.manifest.factors) if self.manifest.factors else None

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return self.manifest.bytes

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        return (self.count, self.image_size, self.image_size, self.channels)

    @cached_property
    def _row(self) -> int:
        return self.image_size * self.image_size * self.channels

    def gather(self, indices: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return images by number: (batch, H, W, C), uint8, contiguous, on the CPU.

        What is read does not stay in the process's memory.

        Args:
            indices: (batch,) integers, 0 ≤ index < len(self), in any order, repeats allowed.

        Raises:
            IndexError: an index outside of the pack.
            DataError: the file became shorter since it was opened.
        """
        import torch

        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= self.count):
            raise IndexError(f"an index is outside of the pack's {self.count} images")
        batch = torch.empty(len(wanted), *self.shape[1:], dtype=torch.uint8)
        self._read_rows(wanted, batch.numpy().reshape(-1).data)
        return batch

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        """Return one image: (H, W, C), uint8.

        Args:
            index: 0 ≤ index < len(self).
        """
        if not 0 <= index < self.count:
            raise IndexError(f"image {index} is outside of the pack's {self.count}")
        pixels = np.empty(self.shape[1:], dtype=np.uint8)
        self._read_at(pixels.reshape(-1).data, self._start + index * self._row)
        return pixels

    def to_tensor(self, device: torch.device | str) -> torch.Tensor:
        """Return the whole pack on a device: (N, H, W, C), uint8; copied in parts of 64 MiB.

        Args:
            device: where it is wanted.
        """
        import torch

        whole = torch.empty(self.shape, dtype=torch.uint8, device=device)
        for first, rows in self.chunks():
            whole[first : first + len(rows)].copy_(torch.from_numpy(rows))
        return whole

    def chunks(self) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Yield (number of the first image, images (n, H, W, C) uint8) in order, about 64 MiB at a time."""
        step = max(1, _READ_BYTES // self._row)
        for first in range(0, self.count, step):
            rows = np.empty((min(step, self.count - first), *self.shape[1:]), dtype=np.uint8)
            self._read_at(rows.reshape(-1).data, self._start + first * self._row)
            yield first, rows

    def verify(self) -> None:
        """Read everything and compare it with the manifest's SHA-256.

        Raises:
            DataError: the bytes are not those that were packed.
        """
        digest = hashlib.sha256()
        for _, rows in self.chunks():
            digest.update(rows.reshape(-1).data)
        digest.update(label_bytes(self.labels))
        right = digest.hexdigest() == self.manifest.content_sha256
        if not right or (self.manifest.factors and factors_sha256(self.path) != self.manifest.factors_sha256):
            raise DataError(f"The bytes of {self.path} are not those that were packed.", "Delete it, then pack again.")

    def close(self) -> None:
        """Close the file; the pack cannot be read afterwards."""
        self._finalizer()

    def __enter__(self) -> Pack:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Pack({str(self.path)!r}, {self.count} images of {self.image_size}×{self.image_size}×{self.channels})"

    def _read_rows(self, wanted: npt.NDArray[np.int64], into: memoryview) -> None:
        row = self._row
        offsets: list[int] = (wanted * row + self._start).tolist()
        if not hasattr(os, "preadv"):
            self._copy_rows(wanted, into)
            return
        descriptor = self._file.fileno()
        for place, offset in enumerate(offsets):
            target = into[place * row : (place + 1) * row]
            if os.preadv(descriptor, [target], offset) != row:
                self._read_at(target, offset)

    def _copy_rows(self, wanted: npt.NDArray[np.int64], into: memoryview) -> None:
        """Copy through a memory map that lives for this batch only: for systems without positional reads."""
        mapped = np.memmap(
            self.path / IMAGES, dtype=np.uint8, mode="r", offset=self._start, shape=(self.count, self._row)
        )
        np.take(mapped, wanted, axis=0, out=np.frombuffer(into, dtype=np.uint8).reshape(len(wanted), self._row))

    def _read_at(self, target: memoryview, offset: int) -> None:
        done = 0
        while done < len(target):
            if hasattr(os, "preadv"):
                got = os.preadv(self._file.fileno(), [target[done:]], offset + done)
            else:
                with (self.path / IMAGES).open("rb", buffering=0) as file:
                    file.seek(offset + done)
                    got = file.readinto(target[done:]) or 0
            if got <= 0:
                raise DataError(f"{self.path} became shorter while it was read.", "Delete it, then pack again.")
            done += got


def is_pack(path: Path) -> bool:
    """Return whether a folder looks like a pack."""
    return (path / MANIFEST).is_file() and (path / IMAGES).is_file()


def images_header(request: DataRequest, count: int) -> bytes:
    """Return the header of `images.npy`; its length does not depend on `count`.

    So it can be written first and set right at the end.
    """
    import io

    shape = (count, request.image_size, request.image_size, request.channels)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def label_bytes(labels: npt.NDArray[np.int64] | None) -> bytes:
    """Return labels as they enter the content's hash: little-endian int64, nothing where there are none."""
    return b"" if labels is None else labels.astype("<i8").tobytes()


def _read_labels(path: Path, manifest: PackManifest) -> npt.NDArray[np.int64]:
    labels = np.load(path, allow_pickle=False)
    if labels.shape != (manifest.count,) or labels.dtype.kind not in "iu":
        raise ValueError(f"{LABELS} has shape {labels.shape}, not ({manifest.count},)")
    converted: npt.NDArray[np.int64] = labels.astype(np.int64)
    return converted


def _check_images(file: IO[bytes], manifest: PackManifest) -> int:
    """Return where the pixels begin; ValueError where header, size and manifest do not agree."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"{IMAGES} is of NumPy's format {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    expected = (manifest.count, manifest.image_size, manifest.image_size, manifest.channels)
    if shape != expected or fortran or dtype != np.uint8:
        raise ValueError(f"{IMAGES} holds {shape} of {dtype}, the manifest tells {expected} of uint8")
    start = file.tell()
    size = os.fstat(file.fileno()).st_size
    if manifest.bytes != int(np.prod(expected, dtype=np.int64)) or size != start + manifest.bytes:
        raise ValueError(f"{IMAGES} has {size} bytes, not {start + manifest.bytes}")
    return start
