"""What the test kit shows a regularizer: views of two small random networks, as a training step gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, one_hot, softplus

from ganzoo.objectives.regularizers.contract import DiscriminatorView, GeneratorView, Regularizer, Surroundings
from ganzoo.randomness import Draws
from ganzoo.testing.holding import BrokenPromise, seeded

SURROUNDINGS = Surroundings(
    features={"layers.0": (4, 4, 4), "layers.1": (6, 2, 2)},
    image_shape=(3, 8, 8),
    latent_dim=5,
    prior="normal",
    num_classes=3,
    labelled=True,
    pairs_logits=False,
)
"""What a regularizer is tried beside where nothing else is asked for: small RGB images of three classes."""

BATCH = 6
LATE = 1e6  # thousands of images after which every schedule is over


class Painter(nn.Module):
    """A generator of one layer: (z, label or None) → images in (-1, 1)."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__()
        self.shape, self.classes = surroundings.image_shape, surroundings.num_classes
        self.layer = nn.Linear(surroundings.latent_dim + self.classes, prod(self.shape))

    def forward(self, z: Tensor, label: Tensor | None) -> Tensor:
        """Return images: (batch, C, H, W)."""
        if self.classes:
            assert label is not None
            z = torch.cat((z, one_hot(label, self.classes).to(z.dtype)), dim=1)
        return torch.tanh(self.layer(z)).view(-1, *self.shape)


class Judge(nn.Module):
    """A smooth discriminator with the features that are asked for: (image, label or None) → logits, features."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__()
        self.shapes = dict(surroundings.features) or {"only": (4,)}
        channels, *sides = surroundings.image_shape
        self.layers = nn.ModuleList(
            nn.Conv2d(channels, shape[0], 3, padding=1)
            if len(shape) == 3
            else nn.Linear(channels * prod(sides), prod(shape))
            for shape in self.shapes.values()
        )
        self.output = nn.Linear(sum(prod(shape) for shape in self.shapes.values()), 1)
        self.embedding = nn.Embedding(surroundings.num_classes, 1) if surroundings.labelled else None

    def forward(self, image: Tensor, label: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits (batch,), and name → activations."""
        found: dict[str, Tensor] = {}
        for layer, (name, shape) in zip(self.layers, self.shapes.items(), strict=True):
            x = layer(image) if len(shape) == 3 else layer(image.flatten(1)).view(-1, *shape)
            found[name] = softplus(adaptive_avg_pool2d(x, shape[1:]) if len(shape) == 3 else x)
        logits: Tensor = self.output(torch.cat([one.flatten(1) for one in found.values()], dim=1))
        if self.embedding is not None:
            assert label is not None
            logits = logits + self.embedding(label)
        return 4.0 * logits[:, 0], found


@dataclass
class Scene:
    """Two networks and a regularizer beside them.

    Args:
        regularizer: prepared for these surroundings.
        surroundings: what it was prepared for.
        dtype: of images and networks.
    """

    regularizer: Regularizer
    surroundings: Surroundings
    dtype: torch.dtype = torch.float32
    generator: Painter = field(init=False)
    discriminator: Judge = field(init=False)

    def __post_init__(self) -> None:
        with seeded(21):
            self.generator = Painter(self.surroundings).to(self.dtype)
            self.discriminator = Judge(self.surroundings).to(self.dtype)

    def discriminator_view(
        self, first: int = 0, kimg: float = LATE, mean: Callable[[Tensor], Tensor] = Tensor.detach
    ) -> DiscriminatorView:
        """Return what D's update shows of the samples from number `first` on."""
        z, label = self._code(first)
        with seeded(100 + first):
            real = 2.0 * torch.rand(BATCH, *self.surroundings.image_shape, dtype=self.dtype) - 1.0
        real_label = label if self.surroundings.labelled else None
        with torch.no_grad():
            fake = self.generator(z, label)
        real_logits, real_features = self.discriminator(real, real_label)
        fake_logits, fake_features = self.discriminator(fake, real_label)
        return DiscriminatorView(
            real=real,
            fake=fake,
            real_logits=real_logits,
            fake_logits=fake_logits,
            real_features=self._shown(real_features),
            fake_features=self._shown(fake_features),
            real_label=real_label,
            fake_label=label,
            z=z,
            judge=self._judge,
            generate=torch.no_grad()(self.generator),
            reals=self._draws(first),
            latents=self._draws(first),
            kimg=kimg,
            mean=_without_graph(mean),
        )

    def generator_view(
        self, first: int = 0, kimg: float = LATE, mean: Callable[[Tensor], Tensor] = Tensor.detach
    ) -> GeneratorView:
        """Return what G's update shows, likewise; D and the regularizer's own parameters are frozen."""
        z, label = self._code(first)
        self.discriminator.requires_grad_(False)
        self.regularizer.requires_grad_(False)
        fake = self.generator(z, label)
        logits, features = self.discriminator(fake, label if self.surroundings.labelled else None)
        return GeneratorView(
            fake=fake,
            fake_logits=logits,
            fake_features=self._shown(features),
            fake_label=label,
            z=z,
            judge=self._judge,
            generate=self.generator,
            latents=self._draws(first),
            kimg=kimg,
            mean=_without_graph(mean),
        )

    def thaw(self) -> None:
        """End a generator's update."""
        self.discriminator.requires_grad_()
        self.regularizer.requires_grad_()

    def _code(self, first: int) -> tuple[Tensor, Tensor | None]:
        with seeded(200 + first):
            z = torch.randn(BATCH, self.surroundings.latent_dim, dtype=self.dtype)
            if self.surroundings.prior == "uniform":
                z = 2.0 * torch.rand(z.shape, dtype=self.dtype) - 1.0
            classes = self.surroundings.num_classes
            return z, torch.randint(classes, (BATCH,)) if classes else None

    def _shown(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        wanted = self.regularizer.needs_features and self.surroundings.features
        return {name: values for name, values in features.items() if wanted}

    def _judge(self, image: Tensor, label: Tensor | None) -> Tensor:
        logits: Tensor = self.discriminator(image, label if self.surroundings.labelled else None)[0]
        return logits

    def _draws(self, first: int) -> Draws:
        return Draws(22, np.arange(first, first + BATCH, dtype=np.int64), torch.device("cpu"), self.dtype)


def _without_graph(mean: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def checked(tensor: Tensor) -> Tensor:
        if tensor.requires_grad:
            raise BrokenPromise("it takes the processes' mean of a tensor with a graph", "Detach it first.")
        return mean(tensor)

    return checked


def tensors_of(view: DiscriminatorView | GeneratorView) -> dict[str, Tensor]:
    """Return all tensors that a view holds, by name."""
    found: dict[str, Tensor] = {}
    for one in fields(view):
        value: Any = getattr(view, one.name)
        if isinstance(value, Tensor):
            found[one.name] = value
        elif isinstance(value, dict):
            found |= {f"{one.name}[{name!r}]": values for name, values in value.items()}
    return found


__all__ = ["BATCH", "LATE", "SURROUNDINGS", "Judge", "Painter", "Scene", "tensors_of"]
