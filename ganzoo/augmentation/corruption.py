"""Corruptions of images: frequency bands amplified, noise, a square cut out (Karras et al., arXiv 2006.06676, appendix
B.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ganzoo.augmentation.wavelets import band_filters
from ganzoo.randomness import philox

_EXPECTED_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # of natural images (1 / f) in each band
_KEY_BITS = 24  # of a number on (0, 1) that float32 keeps


def amplify_bands(image: Tensor, gains: Tensor) -> Tensor:
    """Return images with frequency bands amplified, along rows and along columns alike.

    Args:
        image: (batch, channels, H, W), both sides at least 2.
        gains: (batch, BANDS), the lowest band first, in the image's dtype.
    """
    rows, columns = (
        (gains[:, :, None, None] * band_filters(side, image.dtype, image.device)).sum(dim=1)[:, None]
        for side in image.shape[2:]
    )  # (batch, 1, H, H), (batch, 1, W, W)
    return rows @ image @ columns.transpose(-1, -2)


def balanced_gains(amplitudes: Tensor) -> Tensor:
    """Return the bands' gains when each amplitude is applied in turn and the expected power is then restored.

    Args:
        amplitudes: (batch, BANDS), each that of its own band alone; 1 changes nothing.

    Returns:
        (batch, BANDS).
    """
    gains = torch.ones_like(amplitudes)
    for band, share in enumerate(_EXPECTED_POWER):
        amplitude = amplitudes[:, band : band + 1]
        power = 1.0 + share * (amplitude.square() - 1.0)
        factor = torch.ones_like(gains)
        factor[:, band : band + 1] = amplitude
        gains = gains * factor / power.sqrt()
    return gains


def add_noise(image: Tensor, sigma: Tensor, key: tuple[Tensor, Tensor]) -> Tensor:
    """Return images with normal noise, the same for the same key.

    Pixels j and j + 1 (j even) take Box and Muller's pair from the words j mod 4 and j + 1 mod 4 of block j div 4 of
    Philox4x32-10.

    Args:
        image: (batch, channels, H, W).
        sigma: (batch,), the noise's standard deviation, in the image's dtype.
        key: two tensors (batch,), uniform on (0, 1).
    """
    pixels = math.prod(image.shape[1:])
    block = torch.arange(-(-pixels // 4), device=image.device)[None, :]
    low, high = ((half * (1 << _KEY_BITS)).long()[:, None] for half in key)
    zero = torch.zeros_like(block + low)
    words = philox((low, high), (block + zero, zero, zero, zero))  # each (batch, blocks)
    word = torch.stack(words, dim=-1).view(len(image), -1, 2)
    uniform = (word.to(torch.float64) + 0.5) * 2.0**-32  # (batch, pairs, 2)
    radius, angle = (-2.0 * uniform[..., 0].log()).sqrt(), 2.0 * math.pi * uniform[..., 1]
    noise = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).flatten(1)[:, :pixels]
    return image + sigma[:, None, None, None] * noise.to(image.dtype).view(image.shape)


def cut_square(image: Tensor, centre: Tensor, side: Tensor) -> Tensor:
    """Return images in which a square is 0: the pixels whose centre lies in it.

    Args:
        image: (batch, channels, H, W).
        centre: (batch, 2), its row and column as shares of the image's sides.
        side: (batch,), as a share of the image's sides; 0 cuts nothing.
    """
    rows, columns = (
        ((torch.arange(size, device=image.device) + 0.5) / size - centre[:, axis : axis + 1]).abs()
        < side[:, None] / 2.0
        for axis, size in enumerate(image.shape[2:])
    )  # (batch, H), (batch, W)
    return image.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)
