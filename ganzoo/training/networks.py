"""The networks a training begins with: initialised as a function of the recipe's seed, or with a model's weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ganzoo.building import build_discriminator, build_generator
from ganzoo.devices import Precision, seed_generators
from ganzoo.models import load_model
from ganzoo.randomness import Stream, words
from ganzoo.recipes import Recipe
from ganzoo.tensors import load_strictly
from ganzoo.training.engines import PLAIN, Engine
from ganzoo.training.processes import ALONE, World
from ganzoo.training.step import Step


def build_networks(recipe: Recipe, init: Path | None = None) -> tuple[nn.Module, nn.Module]:
    """Return a recipe's generator and discriminator on the CPU, initialised as a function of the recipe's seed.

    Args:
        recipe: what is trained.
        init: a model folder or weights file to begin with: its generator, and its discriminator if it has one.

    Raises:
        WeightsError: the model's weights do not fit the recipe's networks.
    """
    with _initial_random_state(recipe, 0):
        generator, discriminator = build_generator(recipe), build_discriminator(recipe)
    if init is not None:
        model = load_model(init)
        load_strictly(generator, model.generator.state_dict(), str(init))
        if model.discriminator is not None:
            load_strictly(discriminator, model.discriminator.state_dict(), f"The discriminator of {init}")
    return generator, discriminator


@contextmanager
def _initial_random_state(recipe: Recipe, number: int) -> Iterator[None]:
    """Within it, torch's random state on the CPU is a function of the recipe's seed and a number."""
    seed = int(words(recipe.train.seed, Stream.INITIALISATION, np.array([number]), 1)[0, 0])
    with torch.random.fork_rng(devices=[]):
        seed_generators(seed, torch.device("cpu"))
        yield


def build_step(
    recipe: Recipe,
    device: torch.device,
    precision: Precision,
    init: Path | None = None,
    world: World = ALONE,
    engine: Engine = PLAIN,
) -> Step:
    """Return the step of a recipe with the networks of `build_networks` on a device.

    Args:
        recipe, init: as `build_networks`.
        device: where.
        precision: "fp32" or "bf16".
        world: the processes that train together.
        engine: how its steps are carried out.
    """
    networks = build_networks(recipe, init)  # on the CPU first: the same weights for every device
    if recipe.train.sync_batch_norm and world.size > 1:
        networks = synchronised(networks[0]), synchronised(networks[1])
    for network in networks:
        network.to(device).to(memory_format=torch.channels_last)
    with _initial_random_state(recipe, 1):  # of the regularizers' heads
        return Step(recipe, *networks, precision, world, engine)


def synchronised(network: nn.Module) -> nn.Module:
    """Return a network whose batch norms take their statistics over the batches of all processes; CUDA only.

    Its state has the same names. Outside of the step it must not be run in training mode, for every process would have
    to: `desynchronised` returns one that can be.
    """
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return converted


def desynchronised(generator: nn.Module, recipe: Recipe) -> nn.Module:
    """Return a copy of a recipe's generator whose batch norms, if it has any, are this process's own affair.

    Args:
        generator: trained; on any device.
        recipe: what it was built from.
    """
    if not any(isinstance(module, nn.SyncBatchNorm) for module in generator.modules()):
        return copy.deepcopy(generator)
    first = next(generator.parameters())
    with _initial_random_state(recipe, 0):
        plain = build_generator(recipe).to(first.device, first.dtype).to(memory_format=torch.channels_last)
    load_strictly(plain, generator.state_dict(), "The trained generator")
    return plain
