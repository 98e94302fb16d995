"""Images and random numbers that the tests of augmentation share."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.augmentation.ada import ADA


def random_images(batch: int, channels: int, height: int, width: int | None = None, seed: int = 1) -> Tensor:
    """Uniform noise in [-1, 1], float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, height, width or height, generator=generator, dtype=torch.float64) * 2.0 - 1.0


def random_numbers(batch: int, count: int, seed: int = 2) -> Tensor:
    """Numbers on (0, 1), float64."""
    return torch.rand(batch, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def even_numbers(batch: int, count: int, seed: int = 3) -> Tensor:
    """Numbers of which every column holds (i + 1/2) / batch, each in an order of its own, float64."""
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randperm(batch, generator=generator) for _ in range(count)]
    return (torch.stack(columns, dim=1).double() + 0.5) / batch


def always() -> Tensor:
    """The probability 1."""
    return torch.ones((), dtype=torch.float64)


GEOMETRY = ("xflip", "rot90", "xint", "scale", "rotate", "aniso", "xfrac")
COLOR = ("brightness", "contrast", "lumaflip", "hue", "saturation")
CORRUPTION = ("filter", "noise", "cutout")


def only(*changes: str, share: float = 1.0) -> ADA:
    """ADA with these changes alone."""
    return ADA(**dict.fromkeys((*GEOMETRY, *COLOR), 0.0) | dict.fromkeys(changes, share))
