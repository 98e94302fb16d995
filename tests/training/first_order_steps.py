"""What the tests of first-order penalties share: steps of both engines whose gradients can be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from tiny_runs import table
from torch import Tensor, nn

from ganzoo.building import build_discriminator, build_generator, load_recipe
from ganzoo.devices import Precision
from ganzoo.training.engines import Engine
from ganzoo.training.feeder import Feeder
from ganzoo.training.processes import ALONE, World
from ganzoo.training.step import Step

CPU = torch.device("cpu")
FAST = Engine("eager", fast=True)
EXACT = 1e-10
Seen = dict[str, Tensor]


class MadeUpPack:
    """Random pictures and labels, with as much of a pack as a feeder needs."""

    def __init__(self, size: int, channels: int, classes: int) -> None:
        random = np.random.default_rng(5)
        self.pixels = random.integers(0, 256, (12, size, size, channels), dtype=np.uint8)
        self.labels = random.integers(0, classes, 12) if classes else None

    def __len__(self) -> int:
        return len(self.pixels)

    def to_tensor(self, device: torch.device) -> Tensor:
        return torch.from_numpy(self.pixels).to(device)


def shaken(network: nn.Module, seed: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return a network whose signals keep their size, with biases, so that no derivative is next to nothing."""
    random = torch.Generator().manual_seed(seed)
    network.to(dtype)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 9
            parameter.copy_(torch.randn(parameter.shape, generator=random, dtype=torch.float64) * 1.5 / fan_in**0.5)
    return network


def changed(**changes: Any) -> dict[str, Any]:
    """A recipe whose discriminator has no norm, biases, and whatever else."""
    # Where gradients are all but nothing, Adam would make steps of their rounding.
    plain = {"discriminator__norm": "none", "discriminator__bias": True, "optimizer__eps": 1e-3}
    made: dict[str, Any] = table(**plain | {key: value for key, value in changes.items() if value is not None})
    return made


def step_of(
    changes: Mapping[str, Any],
    engine: Engine,
    dtype: torch.dtype = torch.float64,
    world: World = ALONE,
    precision: Precision = "fp32",
) -> tuple[Step, Feeder]:
    made = load_recipe(changed(**changes))
    torch.manual_seed(0)  # of spectral norm's first vectors
    networks = shaken(build_generator(made), 1, dtype), shaken(build_discriminator(made), 2, dtype)
    step = Step(made, *networks, precision, world, engine)
    data = made.data
    pack: Any = MadeUpPack(data.image_size, data.channels, data.num_classes if data.labelled else 0)
    return step, Feeder(made, step.round, pack, CPU, dtype, resident=True, world=world)


class Watched:
    """A step whose discriminator's gradients are kept, at each of its updates, before its optimiser uses them."""

    def __init__(
        self,
        changes: Mapping[str, Any],
        engine: Engine,
        dtype: torch.dtype = torch.float64,
        world: World = ALONE,
        precision: Precision = "fp32",
    ) -> None:
        self.step, self.feeder = step_of(changes, engine, dtype, world, precision)
        self.gradients: list[Seen] = []
        apply = self.step._apply

        def watch(network: str) -> None:
            if network == "discriminator":
                trained = self.step.trained("discriminator").items()
                self.gradients.append({name: one.grad.clone() for name, one in trained if one.grad is not None})
            apply(network)

        self.step._apply = watch  # type: ignore[method-assign]

    def run(self, *numbers: int) -> dict[str, float]:
        for number in numbers:
            (batches,) = self.feeder.rounds(number, number + 1)
            self.step(number, batches)
        return self.step.statistics.read()


def assert_exact(one: Mapping[str, Tensor], other: Mapping[str, Tensor], within: float = EXACT) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        scale = max(float(tensor.norm()), 1e-5)  # a sum of numbers may cancel to nothing
        assert float((other[name] - tensor).norm()) <= within * scale, name
