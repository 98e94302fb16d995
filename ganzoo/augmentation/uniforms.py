"""What the augmentations share: the check of what they are given, and a batch's random numbers turned into choices."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from torch import Tensor


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which autocast does nothing."""
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def touch(image: Tensor, changed: Tensor, touched: Tensor) -> Tensor:
    """Return changed images where they are touched, and elsewhere the images themselves, bit for bit.

    Args:
        image: (batch, channels, H, W).
        changed: likewise.
        touched: (batch,), bool.
    """
    return torch.where(touched[:, None, None, None], changed, image)


class Uniforms:
    """A batch's random numbers, one for each image from every call, in the order of the columns.

    Args:
        numbers: (batch, count), uniform on (0, 1).
        probability: 0-d, that of `happens`.
    """

    def __init__(self, numbers: Tensor, probability: Tensor) -> None:
        self.numbers, self.probability = numbers, probability
        self._next = 0
        self._happened: list[Tensor] = []

    def take(self) -> Tensor:
        """Return the next number of each image: (batch,), uniform on (0, 1)."""
        column = self.numbers[:, self._next]
        self._next += 1
        return column

    def happens(self, share: float = 1.0) -> Tensor:
        """Return whether something happens to each image: (batch,) bool, true with `share` times the probability."""
        return self._note(self.take() < share * self.probability)

    def happens_in_one_place(self, share: float = 1.0) -> Tensor:
        """Return whether something happens in one of two places where it may: (batch,) bool.

        With 1 - sqrt(1 - q), where q is `share` times the probability: so q is that of at least one of the two.
        """
        return self._note(self.take() < 1.0 - (1.0 - share * self.probability).clamp(min=0.0).sqrt())

    def start(self) -> None:
        """Begin to note what happens, for `happened`."""
        self._happened = []

    def happened(self) -> Tensor:
        """Return whether anything happens to each image of what was asked since `start`: (batch,) bool."""
        return torch.stack(self._happened).any(dim=0)

    def between(self, low: float, high: float) -> Tensor:
        """Return numbers uniform on (low, high): (batch,)."""
        return low + (high - low) * self.take()

    def integer(self, low: int, high: int) -> Tensor:
        """Return integers uniform on [low, high]: (batch,) int64."""
        # In float32 the number next to 1 is rounded to it: the highest integer is the limit.
        return (low + (high - low + 1) * self.take()).floor().clamp(max=high).long()

    def normal(self) -> Tensor:
        """Return standard normal numbers: (batch,), by the inverse of their distribution."""
        finest = torch.finfo(self.numbers.dtype).eps / 2
        return math.sqrt(2.0) * torch.erfinv(2.0 * self.take().clamp(finest, 1.0 - finest) - 1.0)

    def _note(self, happens: Tensor) -> Tensor:
        self._happened.append(happens)
        return happens
