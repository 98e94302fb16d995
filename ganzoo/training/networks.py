"""The networks a training begins with: initialised as a function of the recipe's seed, or with a model's weights."""

from __future__ import annotations

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
from ganzoo.training.step import Step


def build_networks(recipe: Recipe, init: Path | None = None) -> tuple[nn.Module, nn.Module]:
    """Return a recipe's generator and discriminator on the CPU, initialised as a function of the recipe's seed.

    Args:
        recipe: what is trained.
        init: a model folder or weights file to begin with: its generator, and its discriminator if it has one.

    Raises:
        WeightsError: the model's weights do not fit the recipe's networks.
    """
    seed = int(words(recipe.train.seed, Stream.INITIALISATION, np.zeros(1, np.int64), 1)[0, 0])
    with torch.random.fork_rng(devices=[]):
        seed_generators(seed, torch.device("cpu"))
        generator, discriminator = build_generator(recipe), build_discriminator(recipe)
    if init is not None:
        model = load_model(init)
        load_strictly(generator, model.generator.state_dict(), str(init))
        if model.discriminator is not None:
            load_strictly(discriminator, model.discriminator.state_dict(), f"The discriminator of {init}")
    return generator, discriminator


def build_step(recipe: Recipe, device: torch.device, precision: Precision, init: Path | None = None) -> Step:
    """Return the step of a recipe with the networks of `build_networks` on a device.

    Args:
        recipe, init: as `build_networks`.
        device: where.
        precision: "fp32" or "bf16".
    """
    networks = build_networks(recipe, init)  # on the CPU first: the same weights for every device
    for network in networks:
        network.to(device).to(memory_format=torch.channels_last)
    return Step(recipe, *networks, precision)
