"""Images that look like something, and changed copies of them, for the tests of the search for duplicates."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance


def scenes(count: int, size: int = 48, seed: int = 0) -> list[Image.Image]:
    """Return smooth coloured pictures, no two alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return [Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC) for one in coarse]


def jpeg(image: Image.Image, quality: int = 60) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def middle(image: Image.Image) -> Image.Image:
    edge = image.width * 0.05
    return image.resize(image.size, Image.Resampling.LANCZOS, box=(edge, edge, image.width - edge, image.width - edge))


CHANGES = {
    "the same": lambda image: image,
    "jpeg": jpeg,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.85),
    "smaller": lambda image: image.resize((36, 36), Image.Resampling.BICUBIC),
    "mirrored": mirrored,
    "the middle": middle,
    "grey level": lambda image: Image.fromarray(np.clip(np.asarray(image).astype(int) + 6, 0, 255).astype(np.uint8)),
}


def stacked(images: list[Image.Image], size: int = 48) -> npt.NDArray[np.uint8]:
    return np.stack([np.asarray(image.resize((size, size)).convert("RGB")) for image in images])


def write_scenes(folder: Path, images: dict[str, Image.Image]) -> Path:
    """Write images as PNG files by their names and return the folder."""
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name, "PNG")
    return folder
