"""What a trained generator's batch norms tell about how it was made: the prior of its z and its activation.

Neither has a tensor. But a batch norm keeps the mean and variance of what came into it in training, and these depend on
both: z that is uniform on (-1, 1) has a third of a normal z's variance, and what a rectifier lets through below zero
shifts every mean after it. So the network is run with each candidate, and the one whose statistics agree with the kept
ones is taken, if it agrees well and no other nearly as well. A net that was never trained, or has no batch norm, tells
nothing.

Measured on nets trained here (MNIST, CIFAR-10, digits, emoji), disagreement as `_distance` defines it: 0.02 to 0.10 for
the prior that they had, above 0.5 for the other; 0.02 to 0.05 for their activation, 2.5 to 16 times that for the other
of ReLU and leaky ReLU of slope 0.2. Slopes below 0.05 cannot be told from ReLU, and hardly change an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from ganzoo.building import build_generator
from ganzoo.recipes import Recipe
from ganzoo.seeds import labels_of, latents

Prior = Literal["uniform", "normal"]

_AGREES = 0.3
_CLEARLY = 0.6  # the other must disagree by 1 / 0.6 as much
_FINE_CLEARLY = 0.5
_COMMON = ("relu", "leaky_relu_0.2")
_RARE = ("leaky_relu_0.1", "leaky_relu_0.3")
_MOST_SEEDS, _LEAST_SEEDS, _PIXELS = 256, 8, 1 << 18  # 256 images of 32×32, 64 of 64×64


@dataclass(frozen=True)
class Evidence:
    """What the statistics say; None where they say nothing.

    Args:
        prior: of z.
        activation: between the layers.
    """

    prior: Prior | None = None
    activation: str | None = None


def look(recipe: Recipe, state: Mapping[str, torch.Tensor]) -> Evidence:
    """Return what the kept statistics of a generator's batch norms say.

    Args:
        recipe: whose generator it is; of its activation and prior nothing is used.
        state: the generator's tensors, in float32.
    """
    norms = [name.removesuffix(".running_var") for name in state if name.endswith(".running_var")]
    if recipe.generator.name != "dcgan" or not norms or any(_is_fresh(state, norm) for norm in norms):
        return Evidence()
    normal, uniform = (_disagreements(recipe, state, _COMMON[0], prior, first=True)[0] for prior in _PRIORS)
    if min(normal, uniform) > min(_AGREES, _CLEARLY * max(normal, uniform)):
        return Evidence()
    prior = _PRIORS[int(uniform < normal)]
    if len(norms) < 2:
        return Evidence(prior)
    errors = {one: _after_first(recipe, state, one, prior) for one in _COMMON}
    best, other = sorted(errors, key=lambda one: errors[one])
    if errors[best] > min(_AGREES, _CLEARLY * errors[other]):
        return Evidence(prior)
    rare = {one: _after_first(recipe, state, one, prior) for one in _RARE}
    better = min(rare, key=lambda one: rare[one])
    return Evidence(prior, better if rare[better] < _FINE_CLEARLY * errors[best] else best)


_PRIORS: tuple[Prior, Prior] = ("normal", "uniform")


def _is_fresh(state: Mapping[str, torch.Tensor], norm: str) -> bool:
    """Whether a batch norm's statistics are as they were made: mean 0 and variance 1."""
    mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
    return bool((mean == 0).all()) and bool((var == 1).all())


def _after_first(recipe: Recipe, state: Mapping[str, torch.Tensor], activation: str, prior: Prior) -> float:
    """Return the mean disagreement of the batch norms after the first, before which there is no activation."""
    errors = _disagreements(recipe, state, activation, prior)[1:]
    return sum(errors) / len(errors)


@torch.no_grad()
def _disagreements(
    recipe: Recipe, state: Mapping[str, torch.Tensor], activation: str, prior: Prior, *, first: bool = False
) -> list[float]:
    """Return for each batch norm, in order, how far what comes into it is from what it keeps.

    Args:
        recipe, state: as for `look`.
        activation, prior: the candidates.
        first: whether only the first batch norm is wanted.
    """
    generator = recipe.generator.model_copy(update={"activation": activation, "prior": prior})
    network = build_generator(recipe.model_copy(update={"generator": generator})).eval()
    network.load_state_dict(dict(state))
    network.output = nn.Identity()  # the image itself tells nothing, and takes longest
    if first:
        network.layers = nn.ModuleList()
    errors: list[float] = []

    def compare(norm: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        errors.append(_distance(norm, inputs[0]))

    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.register_forward_pre_hook(compare)
    seeds = list(range(max(_LEAST_SEEDS, min(_MOST_SEEDS, _PIXELS // recipe.data.image_size**2))))
    z = torch.from_numpy(latents(seeds, recipe.generator.latent_dim, prior))
    classes = recipe.data.num_classes
    network(z, *([torch.from_numpy(labels_of(seeds, classes))] if classes else []))
    return errors


def _distance(norm: nn.Module, x: torch.Tensor) -> float:
    """Return the median over channels of |log(s / s')| + |m - m'| / s': m and s are mean and standard deviation of x,
    m' and s' those that the norm keeps."""
    over = [0, *range(2, x.dim())]
    mean, deviation = x.mean(over), x.std(over, correction=0)
    kept_mean, kept = norm.get_buffer("running_mean"), norm.get_buffer("running_var").add(1e-12).sqrt()
    off = torch.log(deviation.add(1e-12) / kept).abs() + (mean - kept_mean).abs() / kept
    return float(off.median())
