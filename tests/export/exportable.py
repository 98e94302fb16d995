"""Models to export: small, with random weights, and with pictures that use the whole range.

Freshly initialised generators of the DCGAN family draw nearly nothing (1e-5 around zero), so that any export of them
would look right. `lively` gives them what training gives: batch norms with statistics, gains and offsets of their own,
and images from -1 to 1.
"""

from __future__ import annotations

import hashlib
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import nn

import ganzoo
from ganzoo.architectures.layers import ConditionalBatchNorm2d
from ganzoo.export.onnx import exporting, latency, tracing
from ganzoo.models import Model

_TRACES: dict[tuple[Any, ...], onnx.ModelProto] = {}
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def trace(generator: nn.Module, interface: tracing.Interface, opset: int) -> onnx.ModelProto:
    """Return a network's graph; the exporter takes seconds, so the same network is traced but once."""
    weights = hashlib.sha256(save(generator.state_dict())).hexdigest()
    key = (weights, str(generator), interface, opset)
    if key not in _TRACES:
        _TRACES[key] = tracing.to_graph(generator, interface, opset)
    graph = onnx.ModelProto()
    graph.CopyFrom(_TRACES[key])
    return graph


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an export trace the same network but once, and leave out the timing of files."""
    monkeypatch.setattr(exporting, "to_graph", trace)
    monkeypatch.setattr(latency, "_MOST", 1)


def lively(model: Model) -> Model:
    """Return the model with its generator changed so that it draws lively images."""
    generator, recipe = model.generator, model.config.recipe
    random = torch.Generator().manual_seed(1)
    z = torch.randn(32, recipe.generator.latent_dim, generator=random)
    classes = recipe.data.num_classes
    inputs = (z, torch.arange(32) % classes) if classes else (z,)
    norms = [module for module in generator.modules() if isinstance(module, _NORMS)]
    last = [module for module in generator.modules() if isinstance(module, nn.ConvTranspose2d | nn.Conv2d)][-1]
    seen: list[torch.Tensor] = []
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            if norm.affine:
                norm.weight.copy_(1 + 0.3 * torch.randn(norm.weight.shape, generator=random))
                norm.bias.copy_(0.3 * torch.randn(norm.bias.shape, generator=random))
        for module in generator.modules():
            if isinstance(module, ConditionalBatchNorm2d):
                module.gain.weight.copy_(1 + 0.3 * torch.randn(module.gain.weight.shape, generator=random))
                module.bias.weight.copy_(0.3 * torch.randn(module.bias.weight.shape, generator=random))
        generator.train()
        generator(*inputs)  # the norms take this batch's statistics
        generator.eval()
        for norm in norms:
            norm.momentum = 0.1
        hook = last.register_forward_hook(lambda module, given, out: seen.append(out))
        generator(*inputs)
        hook.remove()
        last.weight.mul_(1.0 / seen[0].std())
    assert model.sample(16).std() > 0.3
    return model


def small(recipe: str, **data: Any) -> Model:
    """Return a lively model of a recipe with eight channels everywhere."""
    asked = ganzoo.load_recipe(recipe)
    changes: dict[str, Any] = {}
    for role, options in (("generator", asked.generator.options), ("discriminator", asked.discriminator.options)):
        changes[role] = {"widths": [8] * len(options["widths"])}
        if role == "generator" and options.get("hidden"):
            changes[role]["hidden"] = [8] * len(options["hidden"])
        if "cardinality" in options:
            changes[role]["cardinality"] = 4
    return lively(ganzoo.create_model(recipe, **changes, **{f"data.{key}": value for key, value in data.items()}))


def of_generator(name: str, *, classes: int = 0, **options: Any) -> Model:
    """Return a model of a registered generator: 16×16 RGB, z of 8."""
    return ganzoo.create_model(
        {
            "schema_version": 1,
            "name": f"of-{name}",
            "data": {"source": "digits", "image_size": 16, "channels": 3, "num_classes": classes},
            "generator": {"name": name, "latent_dim": 8, **options},
            "discriminator": {"name": "dcgan", "widths": [8], "kernel_size": 4},
            "objective": {"name": "non_saturating"},
            "optimizer": {"lr": 2e-4},
            "train": {"batch_size": 4, "kimg": 1},
        }
    )


@ganzoo.register_generator("export-resnet")
class ResNetGenerator(nn.Module):
    """A third party's generator: upsampling, group norm, an embedding of classes, three ways to parametrise weights."""

    def __init__(self, *, image_size: int, channels: int, latent_dim: int, num_classes: int = 0, width: int = 8):
        super().__init__()
        self.base = (width, image_size // 4, image_size // 4)
        self.embed = nn.Embedding(num_classes, latent_dim) if num_classes else None
        self.project = nn.utils.parametrizations.spectral_norm(nn.Linear(latent_dim, width * (image_size // 4) ** 2))
        self.convs = nn.ModuleList(
            [
                nn.utils.spectral_norm(nn.Conv2d(width, width, 3, padding=1)),  # by hooks, as it was done of old
                nn.utils.parametrizations.weight_norm(nn.Conv2d(width, width, 3, padding=1)),
            ]
        )
        self.norms = nn.ModuleList([nn.GroupNorm(2, width), nn.BatchNorm2d(width)])
        self.output = nn.Conv2d(width, channels, 3, padding=1)
        for norm in self.norms:
            nn.init.normal_(norm.weight, 1, 0.2)
        self.norms[1].running_var.fill_(0.5)
        nn.init.normal_(self.output.weight, 0, 0.15)

    def forward(self, z: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        if self.embed is not None:
            z = z + self.embed(label)
        z = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
        x = self.project(z).view(-1, *self.base)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = x + conv(F.silu(norm(x)))
        return torch.tanh(self.output(F.interpolate(x, size=x.shape[2:], mode="bilinear")))


class _Broken(nn.Module):
    """Draws z's first number everywhere; each of its kinds breaks one promise."""

    def __init__(self, *, image_size: int, channels: int, latent_dim: int):
        super().__init__()
        self.shape = (channels, image_size, image_size)
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, z: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        return torch.tanh(self.weight * z[:, :1, None, None].expand(-1, *self.shape))


@ganzoo.register_generator("export-noisy")
class Noisy(_Broken):
    def forward(self, z: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        image = super().forward(z, label)
        return image + 0.1 * torch.randn_like(image)


@ganzoo.register_generator("export-silent-noise")
class SilentNoise(_Broken):
    """Noise with a weight that is still zero, as StyleGAN begins."""

    def __init__(self, *, image_size: int, channels: int, latent_dim: int):
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim)
        self.strength = nn.Parameter(torch.zeros(1))

    def forward(self, z: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        image = super().forward(z, label)
        return image + self.strength * torch.randn_like(image)


@ganzoo.register_generator("export-stuck")
class Stuck(_Broken):
    def __init__(self, *, image_size: int, channels: int, latent_dim: int):
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim)
        self.drop = nn.Dropout(0.5)

    def train(self, mode: bool = True) -> Stuck:
        super().train(mode)
        self.drop.training = True
        return self


@ganzoo.register_generator("export-batch")
class LooksAtTheBatch(_Broken):
    def forward(self, z: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(z - z.mean(dim=0), label)


@ganzoo.register_generator("export-fixed")
class FixesTheBatch(_Broken):
    def forward(self, z: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(torch.cat([z[i : i + 1] for i in range(len(z))]), label)


@ganzoo.register_generator("export-shape")
class AnotherShape(_Broken):
    def forward(self, z: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(z, label)[:, :, 1:]


@ganzoo.register_generator("export-fails")
class Fails(_Broken):
    def forward(self, z: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        raise KeyError("no such layer")


@ganzoo.register_generator("export-untranslatable")
class Untranslatable(_Broken):
    def forward(self, z: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(torch.special.bessel_j0(z), label)
