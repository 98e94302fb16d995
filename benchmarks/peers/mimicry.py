"""The loop of torch-mimicry's trainer (Lee and Town, arXiv 2005.02494), one update of D for each of G.

A step takes one batch of real images. G is updated first, through a D whose weights get gradients nobody uses; then D,
with fakes of new z that are drawn with their graph and cut from it. Losses and mean probabilities are read back and
printed in every step, which is the trainer's default. Its networks are residual ones: here the loop trains the networks
under test.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from peers.contract import timed
from peers.loading import loader
from peers.networks import discriminator, generator, initialise


class Mimicry:
    """See `peers.contract.Peer`."""

    def __init__(self, recipe: Mapping[str, Any], batch_size: int, device: torch.device, _: Path) -> None:
        data = recipe["data"]
        self.generator, self.discriminator = generator(recipe).to(device), discriminator(recipe).to(device)
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
    loader: DataLoader[tuple[torch.Tensor, int]],
    latent_dim: int,
    device: torch.device,
) -> Iterator[None]:
    adam_d = torch.optim.Adam(net_d.parameters(), lr=2e-4, betas=(0.5, 0.999))
    adam_g = torch.optim.Adam(net_g.parameters(), lr=2e-4, betas=(0.5, 0.999))

    def draw(count: int) -> torch.Tensor:
        images: torch.Tensor = net_g(torch.randn(count, latent_dim, device=device))
        return images

    batches, number, before = iter(loader), 0, time.time()
    while True:
        try:
            images, labels = next(batches)
        except StopIteration:
            batches = iter(loader)
            images, labels = next(batches)
        real, _ = images.to(device), labels.to(device)

        net_g.zero_grad()
        loss_g = F.softplus(-net_d(draw(len(real)))).mean()
        loss_g.backward()  # type: ignore[no-untyped-call]
        adam_g.step()

        net_d.zero_grad()
        of_real = net_d(real)
        of_fake = net_d(draw(len(real)).detach())
        ones, zeros = torch.ones_like(of_real), torch.zeros_like(of_fake)
        loss_d = F.binary_cross_entropy_with_logits(of_real, ones)
        loss_d = loss_d + F.binary_cross_entropy_with_logits(of_fake, zeros)
        loss_d.backward()  # type: ignore[no-untyped-call]
        adam_d.step()
        on_real, on_fake = torch.sigmoid(of_real).mean().item(), torch.sigmoid(of_fake).mean().item()

        number += 1
        told = f"D {loss_d.item():.4f} G {loss_g.item():.4f} D(x) {on_real:.4f} D(G(z)) {on_fake:.4f}"
        now = time.time()
        print(f"{number} {told} {now - before:.4f} s")
        before = now
        yield
