"""Tiny image files for the data tests."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image


def noise(*shape: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(seed: int = 0, size: int = 8) -> bytes:
    """The PNG of `noise(size, size, 3, seed=seed)`."""
    return encode(Image.fromarray(noise(size, size, 3, seed=seed)))


def write_images(folder: Path, *names: str) -> Path:
    """Write PNG number i under the i-th name and return the folder."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))
    return folder
