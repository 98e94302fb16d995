"""What a recipe asks of its data: size, channels, crop and resampling of every image."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ganzoo.errors import UsageError

Crop = Literal["none", "center", "lsun", "celeba"]
Resize = Literal["lanczos", "box"]

LARGEST_IMAGE_SIZE = 8192


@dataclass(frozen=True)
class DataRequest:
    """What is asked of every image of a pack.

    Args:
        image_size: height and width in pixels, 1 to 8192.
        channels: 1 (grey, ITU-R 601 luma) or 3 (RGB).
        crop: the part of an image that is kept.
            `center`: the largest centred square.
            `lsun`: the whole image is resized until its shorter side is `image_size`, then its middle is cut out; so
                the resampling
            sees the pixels just outside of the cut, as in experiments that resize first and crop after.
            `celeba`: the face of an aligned CelebA picture (178×218): the centred square of 108 pixels; in other sizes
                the centred
            square of 108/178 of the width.
            `none`: the whole image, stretched to a square.
        resize: `lanczos` (antialiased, three lobes) or `box` (the mean of what a pixel covers; enlarged images keep
            square pixels).
        max_images: at most so many, taken evenly over the whole source so that all classes stay; None for all.
        labels: whether labels are needed. They are packed wherever the source has them; with true their absence is an
            error.

    Raises:
        UsageError: a value that is not one of these.
    """

    image_size: int
    channels: int = 3
    crop: Crop = "center"
    resize: Resize = "lanczos"
    max_images: int | None = None
    labels: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.image_size <= LARGEST_IMAGE_SIZE:
            raise UsageError(f"`image_size` (={self.image_size}) must be from 1 to {LARGEST_IMAGE_SIZE}.")
        if self.channels not in (1, 3):
            raise UsageError(f"`channels` (={self.channels}) must be 1 (grey) or 3 (RGB).")
        if self.crop not in get_args(Crop):
            raise UsageError(f"`crop` (={self.crop!r}) must be one of {', '.join(get_args(Crop))}.")
        if self.resize not in get_args(Resize):
            raise UsageError(f"`resize` (={self.resize!r}) must be one of {', '.join(get_args(Resize))}.")
        if self.max_images is not None and self.max_images < 1:
            raise UsageError(f"`max_images` (={self.max_images}) must be at least 1.")

    @property
    def image_bytes(self) -> int:
        """Bytes of one packed image."""
        return self.image_size * self.image_size * self.channels

    def identity(self) -> dict[str, Any]:
        """Return what makes two packs of one source differ: everything but `labels`, which are packed in any case."""
        return {key: value for key, value in asdict(self).items() if key != "labels"}
