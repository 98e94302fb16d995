"""What every extractor does to images first: channels, size and range, as its `InputSpec` tells.

Luma is Pillow's, to the bit (ITU-R 601 in 16-bit fixed point). "bilinear" is torch's antialiased filter, as Pillow's
but for Pillow's rounding to bytes. "tf1_bilinear" is the resize of TensorFlow 1 on which FID's published numbers rest:
pixel i of the result is read at i · old / new, with no half-pixel offset and no antialiasing
(`tf.image.resize_bilinear`, `align_corners=False`).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch.nn import functional

from ganzoo.errors import UsageError
from ganzoo.features.contract import InputSpec

_LUMA = (19595, 38470, 7471)  # 0.299, 0.587, 0.114 of 2^16
_PIXELS = 255.0


def prepare(images: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """Return images as a network takes them: (batch, channels, height, width) float32 in [spec.low, spec.high].

    Images that have the wanted size are not resampled.

    Args:
        images: (batch, height, width, channels) uint8, 1 or 3 channels; the result is on their device.
        spec: what is wanted.

    Raises:
        UsageError: they are not such images.
    """
    pixels = with_channels(images, spec.channels).permute(0, 3, 1, 2).float()
    if spec.resize == "bilinear" and pixels.shape[-2:] != (spec.image_size, spec.image_size):
        pixels = functional.interpolate(
            pixels, size=(spec.image_size, spec.image_size), mode="bilinear", antialias=True, align_corners=False
        )
    elif spec.resize == "tf1_bilinear":
        pixels = resize_like_tensorflow1(pixels, spec.image_size)
    # Divided rather than multiplied: for [-1, 1] by 127.5, for FID's range by 128, both of which floats hold exactly.
    return (pixels / (_PIXELS / (spec.high - spec.low)) + spec.low).contiguous()


def with_channels(images: torch.Tensor, channels: Literal[0, 1, 3]) -> torch.Tensor:
    """Return images with 1 channel (luma) or 3 (grey repeated), or as they are for 0: (batch, height, width, channels).

    Args:
        images: (batch, height, width, channels) uint8, 1 or 3 channels.
        channels: how many are wanted.

    Raises:
        UsageError: they are not such images.
    """
    check_images(images)
    if channels in (0, images.shape[3]):
        return images
    if channels == 3:
        return images.expand(-1, -1, -1, 3)
    red, green, blue = images.int().unbind(dim=3)
    luma = (red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2] + 0x8000) >> 16
    return luma.to(torch.uint8)[..., None]


def resize_like_tensorflow1(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Return images resized as FID's network resizes them: (batch, channels, size, size) float32.

    Args:
        pixels: (batch, channels, height, width) float32.
        size: side of the result.
    """
    upper, lower, down = _neighbours(pixels.shape[2], size, pixels.device)
    left, right, along = _neighbours(pixels.shape[3], size, pixels.device)
    above, below = pixels[:, :, upper], pixels[:, :, lower]  # (batch, channels, size, width)
    top = above[..., left] + (above[..., right] - above[..., left]) * along
    bottom = below[..., left] + (below[..., right] - below[..., left]) * along
    return top + (bottom - top) * down[:, None]


def check_images(images: Any) -> None:
    """Refuse what is not a batch of images.

    Args:
        images: what was handed to an extractor.

    Raises:
        UsageError: no tensor, another shape, or not bytes.
    """
    if not isinstance(images, torch.Tensor):
        raise UsageError(f"Features are made of a torch tensor of images, not of a {type(images).__name__}.")
    if images.dtype != torch.uint8:
        raise UsageError(
            f"Features are made of images of bytes (uint8), not of {str(images.dtype).removeprefix('torch.')}.",
            "ganzoo.pictures.to_uint8 turns images in [-1, 1] into bytes.",
        )
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:]:
        raise UsageError(
            f"Features are made of images of shape (batch, height, width, 1 or 3), not of {tuple(images.shape)}."
        )


def _neighbours(old: int, new: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return for each pixel of the result the two that it lies between, and how far it is from the first."""
    place = torch.arange(new, dtype=torch.float32, device=device) * torch.tensor(old / new, dtype=torch.float32)
    first = place.long()
    return first, (first + 1).clamp_max(old - 1), place - first
