"""Geometric changes of images: quarter turns pixel by pixel, and affine maps, one composed of many."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Affine:
    """Where the pixels of changed images come from: source = matrix · place + shift, in pixels from the centre.

    Each method adds a change after those that there are.

    Args:
        matrix: (batch, 2, 2); the first coordinate is the column, to the right, the second the row, downwards.
        shift: (batch, 2).
    """

    matrix: Tensor
    shift: Tensor

    @classmethod
    def identity(cls, batch: int, dtype: torch.dtype, device: torch.device) -> Affine:
        """Return the map that leaves `batch` images as they are."""
        matrix = torch.eye(2, dtype=dtype, device=device).expand(batch, 2, 2)
        return cls(matrix, torch.zeros(batch, 2, dtype=dtype, device=device))

    def moved(self, right: Tensor, down: Tensor) -> Affine:
        """Move images by so many pixels, each (batch,)."""
        by = torch.stack((right, down), dim=-1)
        return Affine(self.matrix, self.shift - (self.matrix * by[:, None, :]).sum(dim=2))

    def scaled(self, width: Tensor, height: Tensor) -> Affine:
        """Enlarge images by factors, each (batch,)."""
        factors = torch.stack((width, height), dim=-1)
        return Affine(self.matrix / factors[:, None, :], self.shift)

    def rotated(self, angle: Tensor) -> Affine:
        """Rotate images counterclockwise by angles in radians: (batch,)."""
        cosine, sine = angle.cos(), angle.sin()
        # Rows grow downwards: seen so, the inverse of a counterclockwise turn is [[cos, -sin], [sin, cos]].
        columns, rows = self.matrix[:, :, 0], self.matrix[:, :, 1]  # (batch, 2)
        cosine, sine = cosine[:, None], sine[:, None]
        return Affine(torch.stack((columns * cosine + rows * sine, rows * cosine - columns * sine), dim=-1), self.shift)

    def to(self, dtype: torch.dtype) -> Affine:
        """Return the same in another precision."""
        return Affine(self.matrix.to(dtype), self.shift.to(dtype))


def turn(image: Tensor, quarters: Tensor) -> Tensor:
    """Return square images turned by quarters of a circle, counterclockwise, pixel by pixel.

    Args:
        image: (batch, channels, size, size).
        quarters: (batch,), int64 in [0, 3].
    """
    half = torch.where((quarters >= 2)[:, None, None, None], image.flip(-1, -2), image)
    return torch.where((quarters % 2 == 1)[:, None, None, None], half.rot90(1, (-2, -1)), half)
