"""Networks of other programs, for the tests of conversion: written as people write them, saved as they save them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

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


class _ClassNorm(nn.Module):
    """Batch norm with gains and biases for each class side by side in one embedding, as torch-mimicry keeps them."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(width, affine=False)
        self.embed = nn.Embedding(classes, 2 * width)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        gain, bias = self.embed(label)[:, :, None, None].chunk(2, dim=1)
        return self.bn(x) * gain + bias


class _UpBlock(nn.Module):
    def __init__(self, into: int, out: int, classes: int) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(into, out, 3, 1, 1), nn.Conv2d(out, out, 3, 1, 1)
        self.c_sc = nn.Conv2d(into, out, 1)
        norms = [_ClassNorm(width, classes) if classes else nn.BatchNorm2d(width) for width in (into, out)]
        self.b1, self.b2 = norms

    def forward(self, x: Tensor, *label: Tensor) -> Tensor:
        def double(x: Tensor) -> Tensor:
            return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

        inner = self.c1(double(F.relu(self.b1(x, *label))))
        return self.c2(F.relu(self.b2(inner, *label))) + self.c_sc(double(x))


class MimicryGenerator(nn.Module):
    """A ResNet named and computing as torch-mimicry's do: `l1`, `block2` …, then `b5` and `c5` after `block4`."""

    def __init__(
        self, *, widths: tuple[int, ...] = (4, 3, 2), side: int = 4, latent_dim: int = 5, classes: int = 0
    ) -> None:
        super().__init__()
        self.side, last = side, len(widths)
        self.l1 = nn.Linear(latent_dim, widths[0] * side * side)
        for index in range(2, last + 1):
            setattr(self, f"block{index}", _UpBlock(widths[index - 2], widths[index - 1], classes))
        setattr(self, f"b{last + 1}", nn.BatchNorm2d(widths[-1]))
        setattr(self, f"c{last + 1}", nn.Conv2d(widths[-1], 3, 3, 1, 1))
        self.last = last

    def forward(self, z: Tensor, *label: Tensor) -> Tensor:
        x = self.l1(z).view(len(z), -1, self.side, self.side)
        for index in range(2, self.last + 1):
            x = getattr(self, f"block{index}")(x, *label)
        x = F.relu(getattr(self, f"b{self.last + 1}")(x))
        return torch.tanh(getattr(self, f"c{self.last + 1}")(x))


class OwnSpectralLinear(nn.Linear):
    """torch-mimicry's own spectral norm: it iterates once more whenever it runs, and keeps `sn_u` and `sn_sigma`."""

    def __init__(self, into: int, out: int, bias: bool = True) -> None:
        super().__init__(into, out, bias)
        self.register_buffer("sn_u", torch.ones(1, out))
        self.register_buffer("sn_sigma", torch.ones(1))

    def normed(self) -> Tensor:
        v = F.normalize(self.sn_u @ self.weight)
        u = F.normalize(v @ self.weight.t())
        return self.weight / (u @ self.weight @ v.t())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.normed(), self.bias)


class _DownBlock(nn.Module):
    def __init__(self, into: int, out: int, *, first: bool, halves: bool, spectral: bool) -> None:
        super().__init__()
        self.first, self.halves = first, halves
        hidden = out if first else into

        def made(conv: nn.Module) -> nn.Module:
            return spectral_norm(conv) if spectral else conv

        self.c1, self.c2 = made(nn.Conv2d(into, hidden, 3, 1, 1)), made(nn.Conv2d(hidden, out, 3, 1, 1))
        if first or halves or into != out:
            self.c_sc = made(nn.Conv2d(into, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.first else F.relu(x)  # its activation works in place: the shortcut sees what it made
        inner = self.c2(F.relu(self.c1(x)))
        beside = self.c_sc(x) if hasattr(self, "c_sc") else x
        return F.avg_pool2d(inner + beside, 2) if self.halves else inner + beside


class MimicryDiscriminator(nn.Module):
    """A ResNet named as torch-mimicry's and computing as they do: `block1` …, then `l5` after `block4`, and `l_y`."""

    def __init__(
        self,
        *,
        widths: tuple[int, ...] = (4, 4, 4, 4),
        halves: tuple[bool, ...] = (True, True, False, False),
        classes: int = 0,
        rotations: int = 0,
        spectral: bool = True,
        own: bool = False,
    ) -> None:
        super().__init__()
        self.last = len(widths)
        for index, (into, out) in enumerate(zip((3, *widths), widths, strict=False)):
            block = _DownBlock(into, out, first=index == 0, halves=halves[index], spectral=spectral)
            setattr(self, f"block{index + 1}", block)
        self.logit = f"l{self.last + 1}"
        linear = OwnSpectralLinear(widths[-1], 1) if own else nn.Linear(widths[-1], 1)
        setattr(self, self.logit, spectral_norm(linear) if spectral and not own else linear)
        if classes:
            embedding = nn.Embedding(classes, widths[-1])
            self.l_y = spectral_norm(embedding) if spectral else embedding
        elif rotations:
            self.l_y = nn.Linear(widths[-1], rotations)

    def forward(self, image: Tensor, *label: Tensor) -> Tensor:
        x = image
        for index in range(self.last):
            x = getattr(self, f"block{index + 1}")(x)
        pooled = F.relu(x).sum(dim=(2, 3))
        logit: Tensor = getattr(self, self.logit)(pooled)
        if label:
            logit = logit + (self.l_y(*label) * pooled).sum(dim=1, keepdim=True)
        return logit.flatten()


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network in eval mode with nothing left at its start: weights, norms and their statistics all at random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not tensor.is_floating_point():
                tensor.fill_(7)
            elif name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif not name.endswith(("_u", "_v", "sn_sigma")):
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
