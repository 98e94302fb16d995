"""The loop of PyTorch's DCGAN tutorial: float32, step by step, with every loss and mean output read back at once.

D ends in a sigmoid and is judged by the binary cross-entropy of probabilities. Its real and fake batches go backward
one after the other; then G goes back through the same fakes and through a D whose weights get gradients nobody uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from peers.contract import timed
from peers.loading import loader
from peers.networks import discriminator, generator, initialise

_REAL, _FAKE = 1.0, 0.0
_PRINT_EVERY = 50


class Tutorial:
    """See `peers.contract.Peer`."""

    def __init__(self, recipe: Mapping[str, Any], batch_size: int, device: torch.device, _: Path) -> None:
        data = recipe["data"]
        self.generator = generator(recipe).to(device)
        self.discriminator = nn.Sequential(*discriminator(recipe), nn.Sigmoid()).to(device)
        initialise(self.generator)
        initialise(self.discriminator)
        self._device = device
        batches = loader(data["channels"], data["image_size"], batch_size)
        self._loop = _train(self.generator, self.discriminator, batches, recipe["generator"]["latent_dim"], device)

    def train(self, steps: int) -> float:
        """Take steps and return the seconds."""
        return timed(self._loop, steps, self._device)


def _train(
    net_g: nn.Module,
    net_d: nn.Module,
    batches: DataLoader[tuple[torch.Tensor, int]],
    latent_dim: int,
    device: torch.device,
) -> Iterator[None]:
    criterion = nn.BCELoss()
    adam_d = torch.optim.Adam(net_d.parameters(), lr=2e-4, betas=(0.5, 0.999))
    adam_g = torch.optim.Adam(net_g.parameters(), lr=2e-4, betas=(0.5, 0.999))
    losses_g: list[float] = []
    losses_d: list[float] = []
    while True:
        for number, (images, _) in enumerate(batches):
            net_d.zero_grad()
            real = images.to(device)  # (batch, C, H, W)
            target = torch.full((len(real),), _REAL, device=device)
            said = net_d(real).view(-1)  # (batch,)
            loss_real = criterion(said, target)
            loss_real.backward()
            on_real = said.mean().item()

            z = torch.randn(len(real), latent_dim, device=device)
            fake = net_g(z)
            target.fill_(_FAKE)
            said = net_d(fake.detach()).view(-1)
            loss_fake = criterion(said, target)
            loss_fake.backward()
            on_fake = said.mean().item()
            adam_d.step()

            net_g.zero_grad()
            target.fill_(_REAL)
            said = net_d(fake).view(-1)
            loss_g = criterion(said, target)
            loss_g.backward()
            after = said.mean().item()
            adam_g.step()

            loss_d = loss_real + loss_fake
            if number % _PRINT_EVERY == 0:
                print(f"{number} D {loss_d.item():.4f} G {loss_g.item():.4f} {on_real:.4f} {on_fake:.4f} {after:.4f}")
            losses_g.append(loss_g.item())
            losses_d.append(loss_d.item())
            yield
