"""Whether a published model draws what its own picture shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ganzoo.errors import WeightsError
from ganzoo.model_config import SAMPLES
from ganzoo.models import Model, load_model
from ganzoo.pictures import to_uint8

SEEDS_SHOWN = 64
"""`samples.png` shows the images of seeds 0 to 63; with classes, their labels are the seeds modulo the classes."""

_PADDING = 2  # white pixels around each image of a grid


def first_images(model: Model, count: int) -> torch.Tensor:
    """Return the first images that `samples.png` shows: (count, C, H, W), float32 in [-1, 1].

    Raises:
        WeightsError: they are not finite.
    """
    seeds = np.arange(count)
    classes = model.config.recipe.data.num_classes
    images = model.sample(seeds=seeds, labels=seeds % classes if classes else None)
    if not bool(images.isfinite().all()):
        raise WeightsError(f"{model.path} draws NaN.")
    return images


def check_picture(folder: Path, count: int = 4, tolerance: int = 1) -> int:
    """Return by how many of 256 levels a model's first images differ from its `samples.png`, at most.

    Args:
        folder: a model folder.
        count: images to draw.
        tolerance: levels that they may differ: sums are rounded differently from machine to machine.

    Raises:
        WeightsError: it cannot be loaded, draws nothing but one colour, or draws other images.
    """
    drawn = to_uint8(first_images(load_model(folder), count))  # (count, H, W, C)
    if np.ptp(drawn.reshape(count, -1), axis=1).min() == 0:
        raise WeightsError(f"{folder} draws images of a single colour.")
    shown = tiles(folder / SAMPLES, drawn.shape[1], drawn.shape[3])[:count]
    levels = int(np.abs(drawn.astype(np.int16) - shown).max())
    if levels > tolerance:
        raise WeightsError(
            f"{folder} draws other images than its {SAMPLES} shows: they differ by up to {levels} of 256 levels."
        )
    return levels


def tiles(path: Path, image_size: int, channels: int) -> npt.NDArray[np.uint8]:
    """Return the images of a grid as `ganzoo.pictures.grid` makes it: (64, image_size, image_size, channels).

    Args:
        path: a PNG of 64 square images.
        image_size: of one of them, in pixels; the grid may show each pixel enlarged.
        channels: 1 or 3.

    Raises:
        WeightsError: it is no such picture.
    """
    try:
        with Image.open(path) as file:
            pixels = np.asarray(file.convert("L" if channels == 1 else "RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise WeightsError(f"{path} cannot be read: {' '.join(str(error).split())}.") from error
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    for columns in range(1, SEEDS_SHOWN + 1):
        scale, rest = divmod((pixels.shape[1] - _PADDING) // columns - _PADDING, image_size)
        pitch = image_size * scale + _PADDING
        shape = (-(-SEEDS_SHOWN // columns) * pitch + _PADDING, columns * pitch + _PADDING)
        if scale >= 1 and rest == 0 and shape == pixels.shape[:2]:
            corners = [divmod(index, columns) for index in range(SEEDS_SHOWN)]
            return np.stack([_tile(pixels, row * pitch, column * pitch, pitch, scale) for row, column in corners])
    raise WeightsError(f"{path} is no grid of {SEEDS_SHOWN} images of {image_size}×{image_size}.")


def _tile(pixels: npt.NDArray[np.uint8], top: int, left: int, pitch: int, scale: int) -> npt.NDArray[np.uint8]:
    return pixels[top + _PADDING : top + pitch : scale, left + _PADDING : left + pitch : scale]
