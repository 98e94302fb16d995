"""Files that generated images are written to: a grid, a folder of PNGs, an .npz, a zip of PNGs.

    .png          one picture: all images in rows
    folder/       a PNG an image: seed00000012.png, with the class where there are classes: seed00000012_label3.png
                  images that have no seed are image00000012.png
    .npz          arrays: images (n, H, W, C) uint8, seeds (n,) int64 (uint64 where one needs it) where they have seeds,
                  and, where there are classes, labels (n,) int64
    .zip          PNGs, stored: 00000/img00000000.png …, with dataset.json where there are classes (StyleGAN's layout)

Images are given batch by batch; the .npz and the zip are written as they come, in constant memory. Every file is made
under a temporary name and renamed when it is whole, so that an interruption leaves nothing that could be taken for it.
The same images give the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from ganzoo.errors import UsageError
from ganzoo.files import flush_to_disk, temporary_sibling
from ganzoo.pictures import grid, save_png

Pixels = npt.NDArray[np.uint8]
Seeds = npt.NDArray[np.uint64]
Labels = npt.NDArray[np.int64]

MOST_GRID_PIXELS = 1 << 27
_FOLDER_OF = 1000  # images a folder of the zip
_NO_DATE = (1980, 1, 1, 0, 0, 0)  # the zip format's first, so that the same images give the same bytes


class ImageWriter(Protocol):
    """Takes images batch by batch."""

    def add(self, images: Pixels, seeds: Seeds | None, labels: Labels | None) -> None:
        """Take a batch.

        Args:
            images: (batch, H, W, C) uint8.
            seeds: (batch,) uint64, or None where images have none.
            labels: (batch,) int64, or None where there are no classes.
        """


def kind_of(path: Path | str) -> str:
    """Return what a path asks for: "grid", "folder", "npz" or "zip".

    A folder is one that exists, a path that ends with a slash, or one without a suffix.

    Raises:
        UsageError: another suffix.
    """
    text = str(path)
    target = Path(path)
    if target.is_dir() or text.endswith(("/", "\\")):
        return "folder"
    kinds = {".png": "grid", ".npz": "npz", ".zip": "zip", "": "folder"}
    if target.suffix.lower() not in kinds:
        raise UsageError(
            f"Images cannot be written to {text!r}: {target.suffix!r} is not known.",
            "Use a .png (a grid), .npz or .zip file, or a folder (with a slash at the end).",
        )
    return kinds[target.suffix.lower()]


def check_grid(count: int, image_size: int) -> None:
    """Refuse a grid that would be too large to look at.

    Raises:
        UsageError: more than `MOST_GRID_PIXELS`.
    """
    if count * image_size**2 > MOST_GRID_PIXELS:
        raise UsageError(
            f"{count:,} images of {image_size}×{image_size} are too many for one picture.",
            "Write a .zip, a .npz or a folder instead.",
        )


@contextlib.contextmanager
def open_writer(path: Path | str, count: int, columns: int | None = None) -> Iterator[ImageWriter]:
    """Give a writer for a path of any kind; when the block ends well the file is there, when it raises nothing is.

    In a folder, images that were written before it raised stay: each is whole.

    Args:
        path: see `kind_of`; missing parents are made.
        count: how many images there will be.
        columns: images a row of a grid; None: near square.

    Raises:
        UsageError: an unknown suffix.
        OSError: it cannot be written.
    """
    kind, target = kind_of(path), Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        target.mkdir(exist_ok=True)
        yield _FolderWriter(target)
        return
    if kind == "grid":
        gathered = _GridWriter()
        yield gathered
        save_png(grid(np.concatenate(gathered.batches), columns=columns), target)
        return
    temporary = temporary_sibling(target)
    try:
        with temporary.open("wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                writer: _NpzWriter | _ZipWriter = _NpzWriter(archive, count) if kind == "npz" else _ZipWriter(archive)
                try:
                    yield writer
                    writer.finish()
                except BaseException:
                    writer.abandon()
                    raise
            flush_to_disk(file)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


class _GridWriter:
    def __init__(self) -> None:
        self.batches: list[Pixels] = []

    def add(self, images: Pixels, seeds: Seeds | None, labels: Labels | None) -> None:  # noqa: ARG002 - a grid shows no names
        self.batches.append(images)


class _FolderWriter:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written = 0

    def add(self, images: Pixels, seeds: Seeds | None, labels: Labels | None) -> None:
        for index, image in enumerate(images):
            label = "" if labels is None else f"_label{labels[index]}"
            name = f"image{self._written:08d}" if seeds is None else f"seed{seeds[index]:08d}"
            save_png(picture(image), self.folder / f"{name}{label}.png")
            self._written += 1


class _NpzWriter:
    """Writes the array of images as it comes: its header needs only the final shape."""

    def __init__(self, archive: zipfile.ZipFile, count: int) -> None:
        self._archive, self._count = archive, count
        self._images: Any = None
        self._written = 0
        self._seeds: list[Seeds] = []
        self._labels: list[Labels] = []

    def add(self, images: Pixels, seeds: Seeds | None, labels: Labels | None) -> None:
        if self._images is None:
            self._images = self._archive.open(_entry("images.npy"), "w", force_zip64=True)
            shape = (self._count, *images.shape[1:])
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._images, header)
        self._images.write(np.ascontiguousarray(images).data)
        self._written += len(images)
        if seeds is not None:
            self._seeds.append(seeds)
        if labels is not None:
            self._labels.append(labels)

    def abandon(self) -> None:
        """Close the open entry, without which the archive cannot be closed and would hide what went wrong."""
        if self._images is not None:
            with contextlib.suppress(OSError, ValueError):
                self._images.close()

    def finish(self) -> None:
        if self._images is None:
            raise ValueError("no image was given")
        self._images.close()
        if self._written != self._count:
            raise ValueError(f"{self._count} images were announced and {self._written} given")
        if self._seeds:
            seeds = np.concatenate(self._seeds)
            self._write("seeds", seeds.astype(np.int64) if seeds.max() < 1 << 63 else seeds)
        if self._labels:
            self._write("labels", np.concatenate(self._labels))

    def _write(self, name: str, array: npt.NDArray[np.generic]) -> None:
        with self._archive.open(_entry(f"{name}.npy"), "w", force_zip64=True) as file:
            np.lib.format.write_array(file, array, allow_pickle=False)


class _ZipWriter:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._written = 0
        self._labels: list[Labels] = []

    def add(self, images: Pixels, seeds: Seeds | None, labels: Labels | None) -> None:  # noqa: ARG002 - named by position
        for image in images:
            buffer = io.BytesIO()
            picture(image).save(buffer, format="PNG")
            self._archive.writestr(_entry(_zip_name(self._written)), buffer.getvalue())
            self._written += 1
        if labels is not None:
            self._labels.append(labels)

    def abandon(self) -> None:
        """Nothing is open between images."""

    def finish(self) -> None:
        if not self._labels:
            return
        with self._archive.open(_entry("dataset.json"), "w", force_zip64=True) as file:
            file.write(b'{"labels": [')
            for index, label in enumerate(np.concatenate(self._labels)):
                file.write((", " if index else "").encode() + json.dumps([_zip_name(index), int(label)]).encode())
            file.write(b"]}\n")


def _zip_name(index: int) -> str:
    return f"{index // _FOLDER_OF:05d}/img{index:08d}.png"


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _NO_DATE)
    entry.create_system = 3  # Unix everywhere, for the same bytes on every system
    entry.external_attr = 0o644 << 16
    return entry


def picture(image: Pixels) -> Image.Image:
    """Return (H, W, C) uint8 as a picture: grey for one channel, RGB for three."""
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
