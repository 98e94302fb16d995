"""From recipes to networks: `load_recipe` reads one and refuses what cannot work; `build_…` make what it names.

What cannot work is found by building both networks on torch's meta device (shapes without memory), before anything is
trained.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ganzoo import registry
from ganzoo.errors import PluginError, RecipeError
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
        name = reference.get("name")
        table, where = dict(reference), name if isinstance(name, str) and name else "recipe"
    else:
        table, where = read_table(reference)
    recipe = parse_recipe(apply_overrides(table, overrides, where), where)
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
    """Return the recipe's objective.

    Raises:
        RecipeError: it cannot be built with these settings; the reason is its own.
    """
    objective: Objective = _call(registry.objectives, recipe.objective, "objective", recipe)
    return objective


def build_penalties(recipe: Recipe) -> list[Penalty]:
    """Return the recipe's penalties, in its order; raises as `build_objective`."""
    return [
        _call(registry.penalties, section, f"penalty.{index}", recipe) for index, section in enumerate(recipe.penalty)
    ]


def _build(section: Component, known: registry.Registry[Any], recipe: Recipe, **more: Any) -> nn.Module:
    factory = known.get(section.name)
    data = recipe.data
    arguments: dict[str, Any] = {"image_size": data.image_size, "channels": data.channels, **more}
    if "num_classes" in inspect.signature(factory).parameters:
        arguments["num_classes"] = data.num_classes
    elif data.num_classes:
        raise RecipeError(
            f"{recipe.name}: the {known.kind} {section.name!r} knows no classes, "
            f"but data.num_classes is {data.num_classes}.",
            "Set data.num_classes = 0, or choose another.",
        )
    network: nn.Module = _call(known, section, known.kind, recipe, **arguments)
    return network


def _call(known: registry.Registry[Any], section: Component, place: str, recipe: Recipe, **arguments: Any) -> Any:
    try:
        return known.get(section.name)(**arguments, **section.options)
    except ValueError as error:
        raise RecipeError(f"{recipe.name}: {place}: {str(error).rstrip('.')}.") from error


def check(recipe: Recipe, where: str) -> None:
    """Refuse what cannot work, with the reason and what would.

    Args:
        recipe: with its options resolved.
        where: its name or file, for messages.

    Raises:
        RecipeError: networks that cannot be built at this size, penalties with a discriminator that judges batches, an
            objective that needs a penalty and has none.
        PluginError: a third party's class that breaks its contract.
    """
    from ganzoo.shapes import shapes_only  # imports torch

    try:
        with shapes_only():
            build_generator(recipe)
            discriminator = build_discriminator(recipe)
    except (
        ArithmeticError,
        RuntimeError,
        TypeError,
    ) as error:  # sizes whose product is too large for torch, and the like
        raise RecipeError(
            f"{where}: the networks cannot be built: {str(error).splitlines()[0].rstrip('.')}."
        ) from error
    name, options = recipe.discriminator.name, recipe.discriminator.options
    per_sample = getattr(discriminator, "per_sample", None)
    if not isinstance(per_sample, bool):
        raise PluginError(
            f"The discriminator {name!r} does not say whether it judges each image by itself: "
            f"its per_sample is {per_sample!r}.",
            "ganzoo.testing.check_discriminator holds a class to the contract.",
        )
    other_norm = 'Set discriminator.norm = "none" or "spectral".' if options.get("norm") == "batch" else None
    for index, penalty in enumerate(build_penalties(recipe)):
        if penalty.needs_per_sample and not per_sample:
            raise RecipeError(
                f"{where}: penalty.{index} needs a discriminator that judges each image by itself, "
                f"and with these settings {name!r} looks at the whole batch, as batch norm does.",
                other_norm or "Choose another discriminator, or leave the penalty out.",
            )
    if build_objective(recipe).needs_bounded_slope and not recipe.penalty and options.get("norm") != "spectral":
        raise RecipeError(
            f"{where}: the objective {recipe.objective.name!r} has no minimum while nothing bounds the "
            "discriminator's slope.",
            'Add a [[penalty]], e.g. where = "line", rule = "one_centered", weight = 10, '
            'or set discriminator.norm = "spectral".',
        )
