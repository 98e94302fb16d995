"""From recipes to networks: `load_recipe` reads one and refuses what cannot work; `build_generator` and `build_discriminator` make them.

What cannot work is found by building both networks on torch's meta device (shapes without memory), before anything is trained.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ganzoo import registry
from ganzoo.errors import RecipeError
from ganzoo.recipes import Component, Recipe, apply_overrides, parse_recipe, read_table

if TYPE_CHECKING:
    from torch import nn

    from ganzoo.objectives.contract import Objective, Penalty


def load_recipe(
    reference: str | os.PathLike[str] | Mapping[str, Any] | Recipe, overrides: Iterable[str] = ()
) -> Recipe:
    """Return a recipe, resolved and checked: it can be trained.

    Args:
        reference: a recipe's name, the path of a TOML file, a table as `tomllib` reads it, or a `Recipe`.
        overrides: changes like "optimizer.lr=1e-4".

    Raises:
        RecipeError: keys, types, ranges or combinations that cannot be, with the reason.
        UnknownNameError: a name that is not registered, with the nearest.
    """
    if isinstance(reference, Recipe):
        table, where = reference.to_dict(), reference.name
    elif isinstance(reference, Mapping):
        table, where = dict(reference), str(reference.get("name", "recipe"))
    else:
        table, where = read_table(reference)
    recipe = parse_recipe(apply_overrides(table, overrides), where)
    check(recipe, where)
    return recipe


def build_generator(recipe: Recipe) -> nn.Module:
    """Return the recipe's generator, freshly initialised from torch's current random state.

    Raises:
        RecipeError: it cannot be built with these settings; the reason is the network's own.
    """
    return _build(recipe.generator, registry.generators, recipe, latent_dim=recipe.generator.latent_dim)


def build_discriminator(recipe: Recipe) -> nn.Module:
    """Return the recipe's discriminator, likewise."""
    return _build(recipe.discriminator, registry.discriminators, recipe)


def build_objective(recipe: Recipe) -> Objective:
    """Return the recipe's objective."""
    objective: Objective = registry.objectives.get(recipe.objective.name)(**recipe.objective.options)
    return objective


def build_penalties(recipe: Recipe) -> list[Penalty]:
    """Return the recipe's penalties, in its order."""
    return [registry.penalties.get(section.name)(**section.options) for section in recipe.penalty]


def _build(section: Component, known: registry.Registry[Any], recipe: Recipe, **more: Any) -> nn.Module:
    factory = known.get(section.name)
    data = recipe.data
    arguments: dict[str, Any] = {"image_size": data.image_size, "channels": data.channels, **more}
    if "num_classes" in inspect.signature(factory).parameters:
        arguments["num_classes"] = data.num_classes
    elif data.num_classes:
        raise RecipeError(
            f"{recipe.name}: the {known.kind} {section.name!r} knows no classes, but data.num_classes is {data.num_classes}.",
            "Set data.num_classes = 0, or choose another.",
        )
    try:
        network: nn.Module = factory(**arguments, **section.options)
    except ValueError as error:
        raise RecipeError(f"{recipe.name}: [{known.kind}] {error}") from error
    return network


def check(recipe: Recipe, where: str) -> None:
    """Refuse what cannot work, with the reason and what would.

    Raises:
        RecipeError: networks that cannot be built at this size, penalties with a discriminator that judges batches, and the like.
    """
    import torch

    with torch.device("meta"):
        build_generator(recipe)
        discriminator = build_discriminator(recipe)
    objective = build_objective(recipe)
    penalties = build_penalties(recipe)
    per_sample = bool(discriminator.per_sample)
    for index, penalty in enumerate(penalties):
        if penalty.needs_per_sample and not per_sample:
            raise RecipeError(
                f"{where}: penalty.{index} needs a discriminator that judges each image by itself, and this one has batch norm.",
                'Set discriminator.norm = "none" or "spectral".',
            )
    if objective.needs_bounded_slope and not penalties and recipe.discriminator.options.get("norm") != "spectral":
        raise RecipeError(
            f"{where}: the objective {recipe.objective.name!r} has no minimum while nothing bounds the discriminator's slope.",
            'Add [[penalty]] where = "line", rule = "one_centered", weight = 10, or set discriminator.norm = "spectral".',
        )
