"""What a peer is: a training that takes some steps when it is told to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn


class Peer(Protocol):
    """A training; one step is one update of D and one of G from one batch of real images."""

    generator: nn.Module
    discriminator: nn.Module

    def __init__(self, recipe: Mapping[str, Any], batch_size: int, device: torch.device, folder: Path) -> None:
        """Build it.

        Args:
            recipe: the tables of the recipe whose networks are trained.
            batch_size: images of a batch.
            device: where.
            folder: for files that it cannot do without.
        """

    def train(self, steps: int) -> float:
        """Take steps and return the seconds that they took."""


def timed(loop: Iterator[None], steps: int, device: torch.device) -> float:
    """Take steps of a loop that yields after each, and return the seconds."""
    begun = time.perf_counter()
    for _ in range(steps):
        next(loop)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun
