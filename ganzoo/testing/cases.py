"""What the test kit's promises of networks are measured on: a network in one setting, built and fed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.testing.holding import name_of, seeded

_CLASSES = 3  # what a network that knows classes is tried with


def class_counts(factory: Callable[..., nn.Module], wanted: int | None) -> tuple[int, ...]:
    """Return what `num_classes` a network is tried with."""
    if wanted is not None:
        return (wanted,)
    return (0, _CLASSES) if "num_classes" in inspect.signature(factory).parameters else (0,)


@dataclass(frozen=True)
class NetworkCase:
    """A network in one setting: how it is built, what it is fed, what it must give.

    Args:
        kind: "generator" or "discriminator".
        factory: the class.
        given: what ganzoo hands every network of this kind, `num_classes` apart.
        options: the other arguments.
        num_classes: 0, or how many there are.
        batch_size: at least 2.
        input_shape: of one z or image.
        output_shape: of one image; () for a logit.
    """

    kind: str
    factory: Callable[..., nn.Module]
    given: Mapping[str, Any]
    options: Mapping[str, Any]
    num_classes: int
    batch_size: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ValueError(f"batch_size (={self.batch_size}) must be at least 2, so that an image has batch-mates")

    @property
    def title(self) -> str:
        """The first words of every message."""
        classes = f" with num_classes = {self.num_classes}" if self.num_classes else ""
        return f"The {self.kind} {name_of(self.factory)}{classes}"

    @property
    def ignores_labels(self) -> bool:
        """Whether this is a discriminator that was asked to know no classes, though labels are handed to it."""
        return self.kind == "discriminator" and self.options.get("conditioning") == "none"

    def build(self, seed: int = 0) -> nn.Module:
        """Return a network, its parameters drawn from a seed."""
        known = inspect.signature(self.factory).parameters
        classes = {"num_classes": self.num_classes} if "num_classes" in known else {}
        with seeded(seed):
            return self.factory(**self.given, **classes, **self.options)

    def stirred(self, training: bool) -> nn.Module:
        """Return a network with all parameters moved a little, so that what begins at zero hides nothing."""
        network = self.build()
        with seeded(1), torch.no_grad():
            for parameter in network.parameters():
                size = float(parameter.square().mean().sqrt())
                parameter.add_(torch.randn_like(parameter), alpha=0.25 * size or 0.05)
        return network.train(training)

    def wild(self, seed: int) -> nn.Module:
        """Return a network in eval mode with standard normal parameters, which make it large where it has no bounds."""
        network = self.build().eval()
        with seeded(seed), torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_()
        return network

    def inputs(self, seed: int = 2) -> list[Tensor]:
        """Return what the network is fed: z or images, and labels where there are classes."""
        with seeded(seed):
            first = torch.randn(self.batch_size, *self.input_shape)
        if self.kind == "discriminator":
            first = first.clamp(-1.0, 1.0)
        return [first, torch.arange(self.batch_size) % self.num_classes] if self.num_classes else [first]
