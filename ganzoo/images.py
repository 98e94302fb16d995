"""Generated images: a tensor that can also become pictures and files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ganzoo.errors import UsageError
from ganzoo.image_files import check_grid, kind_of, open_writer, picture
from ganzoo.pictures import to_uint8

if TYPE_CHECKING:
    from PIL import Image


class Images(torch.Tensor):
    """Images of a model: (n, channels, height, width), float32 in [-1, 1], on the CPU.

    It is a tensor in every way. Images that were selected or changed know their seeds no more, since a seed names the
    image that was drawn.

    Attributes:
        seeds: (n,) uint64, as they were drawn; None for images that were made of others.
        labels: (n,) int64, their classes; None where there are none.
    """

    seeds: npt.NDArray[np.uint64] | None = None
    labels: npt.NDArray[np.int64] | None = None

    if TYPE_CHECKING:  # what torch does with every subclass, and does not tell type checkers

        def __getitem__(self, index: Any) -> Images: ...

    @classmethod
    def of(
        cls, images: npt.NDArray[np.float32], seeds: npt.NDArray[np.uint64], labels: npt.NDArray[np.int64] | None
    ) -> Images:
        """Return images as a sampler drew them.

        Args:
            images: (n, channels, height, width); its memory is shared.
            seeds: (n,).
            labels: (n,), or None for a model without classes.
        """
        made = torch.from_numpy(images).as_subclass(cls)
        made.seeds, made.labels = seeds, labels
        return made

    def to_pil(self) -> list[Image.Image]:
        """Return each image as a picture: grey ("L") for one channel, RGB for three.

        Raises:
            UsageError: these are no images, but what was computed of some.
        """
        return [picture(one) for one in self._pixels()]

    def save(self, path: str | os.PathLike[str], columns: int | None = None) -> None:
        """Write the images: one .png with all of them in rows, a folder of PNGs, an .npz or a .zip.

        Args:
            path: missing parents are made; a folder is a path that ends with a slash or has no suffix.
            columns: images a row of a .png; None: near square.

        Raises:
            UsageError: another suffix, no image, too many for one picture, or what are no images.
            OSError: it cannot be written; nothing is left behind.
        """
        pixels = self._pixels()
        if len(pixels) == 0:
            raise UsageError("There is no image to save.", "Draw at least one.")
        target = os.fspath(path)
        if kind_of(target) == "grid":
            check_grid(len(pixels), max(pixels.shape[1:3]))
        with open_writer(target, len(pixels), columns) as writer:
            writer.add(pixels, self.seeds, self.labels)

    def _pixels(self) -> npt.NDArray[np.uint8]:
        """Return (n, H, W, C) uint8; a single image of three axes is taken for one of them."""
        plain: Any = self.as_subclass(torch.Tensor)
        four = plain[None] if plain.ndim == 3 else plain
        if four.ndim != 4 or four.shape[1] not in (1, 3) or 0 in four.shape[1:] or not four.is_floating_point():
            raise UsageError(
                f"A tensor of shape {tuple(self.shape)} and type {self.dtype} are no images.",
                "Images are (n, channels, height, width) floats in [-1, 1], with 1 or 3 channels.",
            )
        if bool(four.isnan().any()):
            raise UsageError("The images hold NaN.")
        return to_uint8(four)
