"""torchgan's trainer with its minimax losses (Pal and Das, arXiv 1909.03410), as its documentation shows its use.

The networks under test stand in its base classes, for its own have other sizes. What its trainer does at the end of an
epoch (a checkpoint, sample images, schedulers) is not timed; what it does in every iteration is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchgan.losses import MinimaxDiscriminatorLoss, MinimaxGeneratorLoss
from torchgan.models import Discriminator, Generator
from torchgan.trainer import Trainer

from peers.loading import loader
from peers.networks import discriminator, generator, initialise


class _Generator(Generator):  # type: ignore[misc]
    def __init__(self, recipe: Mapping[str, Any]) -> None:
        super().__init__(recipe["generator"]["latent_dim"])
        self.model = generator(recipe)
        initialise(self)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Return images: (batch, C, H, W)."""
        images: torch.Tensor = self.model(z)
        return images


class _Discriminator(Discriminator):  # type: ignore[misc]
    def __init__(self, recipe: Mapping[str, Any]) -> None:
        super().__init__(recipe["data"]["channels"])
        self.model = discriminator(recipe)
        initialise(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits: (batch,)."""
        logits: torch.Tensor = self.model(image).view(-1)
        return logits


class _Steps:
    """Some batches of a loader, as an epoch that tells how long it was.

    Args:
        batches: goes on for ever.
        batch_size: of each.
        steps: how many.
        device: where they are used.
    """

    def __init__(self, batches: Iterator[list[torch.Tensor]], batch_size: int, steps: int, device: torch.device):
        self.batch_size = batch_size  # the trainer asks for it
        self.seconds = 0.0
        self._batches, self._steps, self._device = batches, steps, device

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        begun = time.perf_counter()
        for _ in range(self._steps):
            yield next(self._batches)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.seconds = time.perf_counter() - begun


class _Trainer(Trainer):  # type: ignore[misc]
    def save_model(self, *_: object) -> None:
        """Write no checkpoint: every round would end with one."""


class TorchGAN:
    """See `peers.contract.Peer`."""

    generator: nn.Module
    discriminator: nn.Module

    def __init__(self, recipe: Mapping[str, Any], batch_size: int, device: torch.device, folder: Path) -> None:
        data = recipe["data"]
        adam = {"name": torch.optim.Adam, "args": {"lr": 2e-4, "betas": (0.5, 0.999)}}
        networks = {
            "generator": {"name": _Generator, "args": {"recipe": recipe}, "optimizer": adam},
            "discriminator": {"name": _Discriminator, "args": {"recipe": recipe}, "optimizer": adam},
        }
        self._trainer = _Trainer(
            networks,
            [MinimaxGeneratorLoss(), MinimaxDiscriminatorLoss()],
            device=device,
            epochs=1,
            retain_checkpoints=1,
            checkpoints=str(folder / "checkpoints" / "gan"),
            recon=str(folder / "images"),
        )
        # Its sample images, drawn at the end of an epoch, fail with torchvision from 0.15 on.
        self._trainer.logger.logger_end_epoch.clear()
        self.generator, self.discriminator = self._trainer.generator, self._trainer.discriminator
        self._batch_size, self._device = batch_size, device
        self._batches = _for_ever(loader(data["channels"], data["image_size"], batch_size))

    def train(self, steps: int) -> float:
        """Take steps and return the seconds."""
        epoch = _Steps(self._batches, self._batch_size, steps, self._device)
        self._trainer(epoch)
        return epoch.seconds


def _for_ever(batches: DataLoader[Any]) -> Iterator[list[torch.Tensor]]:
    while True:
        yield from batches
