"""Networks of other programs, for the tests of conversion: written as people write them, saved as they save them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.sampling import latents


class TutorialGenerator(nn.Module):
    """`main` as in PyTorch's DCGAN example: a transposed convolution of z to 4×4, then doublings."""

    def __init__(
        self,
        *,
        size: int = 16,
        width: int = 3,
        channels: int = 3,
        latent_dim: int = 7,
        bias: bool = False,
        norm: bool = True,
        base: int = 4,
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        doublings = (size // base).bit_length() - 1
        widths = [width << index for index in reversed(range(doublings))]
        act = nn.LeakyReLU(slope) if slope else nn.ReLU()
        layers: list[nn.Module] = []
        for index, (into, out) in enumerate(zip([latent_dim, *widths], widths, strict=False)):
            kernel = (base, 1, 0) if index == 0 else (4, 2, 1)
            layers += [nn.ConvTranspose2d(into, out, *kernel, bias=bias)]
            layers += [nn.BatchNorm2d(out)] if norm else []
            layers += [act]
        self.main = nn.Sequential(*layers, nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=bias), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.main(z[:, :, None, None])
        return images


class TutorialDiscriminator(nn.Module):
    """`main` as in PyTorch's DCGAN example; with `sigmoid` false it gives the logits before its last layer."""

    def __init__(self, *, size: int = 16, width: int = 3, channels: int = 3, bias: bool = False) -> None:
        super().__init__()
        widths = [width << index for index in range((size // 4).bit_length() - 1)]
        layers: list[nn.Module] = []
        for index, (into, out) in enumerate(zip([channels, *widths], widths, strict=False)):
            layers += [nn.Conv2d(into, out, 4, 2, 1, bias=bias), *([nn.BatchNorm2d(out)] if index else [])]
            layers += [nn.LeakyReLU(0.2)]
        self.main = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=bias), nn.Sigmoid())

    def forward(self, image: Tensor, sigmoid: bool = True) -> Tensor:
        out: Tensor = self.main(image) if sigmoid else self.main[:-1](image)
        return out.flatten()


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network in eval mode with nothing left at its start: weights, norms and their statistics all at random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not tensor.is_floating_point():
                tensor.fill_(7)
            elif name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif not name.endswith(("_u", "_v")):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return network.eval()


@torch.no_grad()
def seasoned(network: nn.Module, latent_dim: int, prior: str, steps: int = 8) -> nn.Module:
    """The network in eval mode with the statistics that its batch norms gather over batches of z, as in training."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
    network.train()
    for step in range(steps):
        z = latents([*range(32 * step, 32 * step + 32)], latent_dim, prior)
        network(torch.from_numpy(z))
    return network.eval()


def z_of(seeds: int, latent_dim: int) -> Tensor:
    """The z of seeds 0 to `seeds` - 1 from a normal prior."""
    return torch.from_numpy(latents([*range(seeds)], latent_dim, "normal"))


def save(value: Any, path: Path, *, legacy: bool = False) -> Path:
    """Save as torch does now, or as it did until 1.6."""
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


class Runs:
    """An object whose unpickling calls a function: what a hostile file is made of."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def touches(path: Path) -> Runs:
    """Makes a file when it is unpickled."""
    return Runs(os.system, f"touch {path}")


def evaluates(path: Path) -> Runs:
    """Likewise, by the built-in eval."""
    return Runs(eval, f"open({str(path)!r}, 'w').close()")


def plain_pickle(value: Any, path: Path, protocol: int = 4) -> Path:
    """Write a pickle that torch did not make."""
    path.write_bytes(pickle.dumps(value, protocol))
    return path
