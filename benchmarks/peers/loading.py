"""The peers' images: in memory, normalised already, through torch's DataLoader with two workers."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, Dataset

_IMAGES = 2048  # that differ
_EPOCH = 200_000  # a long one: that the workers start anew is not what is measured
_WORKERS = 2  # as the tutorial has it


class Images(Dataset[tuple[torch.Tensor, int]]):
    """Random images in [-1, 1], the same ones again and again; their class is 0.

    Args:
        channels, image_size: of each image.
    """

    def __init__(self, channels: int, image_size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._images = torch.rand(_IMAGES, channels, image_size, image_size, generator=generator).mul_(2).sub_(1)

    def __len__(self) -> int:
        return _EPOCH

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return self._images[number % _IMAGES], 0


def loader(channels: int, image_size: int, batch_size: int) -> DataLoader[tuple[torch.Tensor, int]]:
    """Return the loader of shuffled batches: (batch, C, H, W) and (batch,)."""
    return DataLoader(
        Images(channels, image_size), batch_size=batch_size, shuffle=True, num_workers=_WORKERS, drop_last=True
    )
