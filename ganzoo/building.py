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
from ganzoo.recipes.evaluation import check_evaluation

if TYPE_CHECKING:
    from torch import nn

    from ganzoo.augmentation.contract import Augmentation
    from ganzoo.objectives.contract import Objective, Penalty
    from ganzoo.objectives.regularizers.contract import Regularizer, Surroundings


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


def build_augmentation(recipe: Recipe) -> Augmentation | None:
    """Return the recipe's augmentation, or None where it has none; raises as `build_objective`."""
    if recipe.augmentation is None:
        return None
    augmentation: Augmentation = _call(registry.augmentations, recipe.augmentation, "augmentation", recipe)
    return augmentation


def build_regularizers(recipe: Recipe) -> tuple[list[Regularizer], tuple[str, ...]]:
    """Return the recipe's regularizers, in its order, and the names of the discriminator's features that they look at.

    Their heads are freshly initialised from torch's current random state.

    Raises:
        RecipeError: one cannot be built with these settings or beside these networks; the reason is its own.
        PluginError: the discriminator's features cannot be recorded.
    """
    parts: list[Regularizer] = [
        _call(registry.regularizers, section, f"regularizer.{index}", recipe)
        for index, section in enumerate(recipe.regularizer)
    ]
    features = _feature_shapes(recipe) if any(part.needs_features for part in parts) else {}
    surroundings = _surroundings(recipe, features)
    for index, part in enumerate(parts):
        try:
            part.prepare(surroundings)
        except ValueError as error:
            raise RecipeError(f"{recipe.name}: regularizer.{index}: {str(error).rstrip('.')}.") from error
    return parts, tuple(features)


def _surroundings(recipe: Recipe, features: Mapping[str, tuple[int, ...]]) -> Surroundings:
    from ganzoo.objectives.regularizers.contract import Surroundings

    data = recipe.data
    return Surroundings(
        features=features,
        image_shape=(data.channels, data.image_size, data.image_size),
        latent_dim=recipe.generator.latent_dim,
        prior=recipe.generator.prior,
        num_classes=data.num_classes,
        labelled=data.labelled,
        pairs_logits=build_objective(recipe).paired,
    )


def _feature_shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """Return name → shape of one image's features of the recipe's discriminator, from the image on.

    Raises:
        PluginError: a name is not the path of a submodule.
    """
    import torch

    from ganzoo.shapes import shapes_only

    data = recipe.data
    with shapes_only(), torch.no_grad():
        discriminator: Any = build_discriminator(recipe).eval()
        image = torch.zeros(2, data.channels, data.image_size, data.image_size)
        label = torch.zeros(2, dtype=torch.int64) if data.labelled else None
        features = discriminator.features(image) if label is None else discriminator.features(image, label)
    known = dict(discriminator.named_modules())
    for name in features:
        if name not in known:
            raise PluginError(
                f"The discriminator {recipe.discriminator.name!r} calls a feature {name!r}, no path of a submodule.",
                "ganzoo.testing.check_discriminator holds a class to the contract.",
            )
    return {name: tuple(values.shape[1:]) for name, values in features.items()}


def _build(section: Component, known: registry.Registry[Any], recipe: Recipe, **more: Any) -> nn.Module:
    factory = known.get(section.name)
    data = recipe.data
    arguments: dict[str, Any] = {"image_size": data.image_size, "channels": data.channels, **more}
    classes = data.num_classes if known is registry.generators or data.labelled else 0
    if "num_classes" in inspect.signature(factory).parameters:
        arguments["num_classes"] = classes
    elif classes:
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
            objective that needs a penalty and has none, an evaluation that means nothing here.
        UnknownNameError: a metric or features that are not registered.
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
    with shapes_only():
        regularizers, _ = build_regularizers(recipe)
    parts: list[tuple[str, Penalty | Regularizer]] = [
        (f"penalty.{index}", one) for index, one in enumerate(build_penalties(recipe))
    ]
    parts += [(f"regularizer.{index}", one) for index, one in enumerate(regularizers)]
    for place, part in parts:
        if part.needs_per_sample and not per_sample:
            raise RecipeError(
                f"{where}: {place} needs a discriminator that judges each image by itself, "
                f"and with these settings {name!r} looks at the whole batch, as batch norm does.",
                other_norm or "Choose another discriminator, or leave it out.",
            )
    _check_regularizers(recipe, regularizers, where)
    objective = build_objective(recipe)
    bounded = bool(recipe.penalty) or options.get("norm") == "spectral" or any(one.bounds_slope for one in regularizers)
    if objective.needs_bounded_slope and not bounded:
        raise RecipeError(
            f"{where}: the objective {recipe.objective.name!r} has no minimum while nothing bounds the "
            "discriminator's slope.",
            'Add a [[penalty]], e.g. where = "line", rule = "one_centered", weight = 10, '
            'or set discriminator.norm = "spectral", or add a [[regularizer]] with name = "weight_clipping".',
        )
    if recipe.augmentation is not None:
        _check_augmentation(recipe, objective, where)
    check_evaluation(recipe, where)


def _check_regularizers(recipe: Recipe, regularizers: Iterable[Regularizer], where: str) -> None:
    options = recipe.discriminator.options
    for index, (section, regularizer) in enumerate(zip(recipe.regularizer, regularizers, strict=True)):
        place = f"{where}: regularizer.{index} ({section.name!r})"
        if regularizer.weighted and section.weight is None:
            raise RecipeError(f"{place} needs a weight.")
        if not regularizer.weighted and section.weight is not None:
            raise RecipeError(
                f"{place} adds nothing to a loss that a weight could multiply.",
                f"Leave regularizer.{index}.weight out.",
            )
        if regularizer.names_classes and options.get("conditioning") == "concat":
            raise RecipeError(
                f"{place} is to read the class off the discriminator's features, which are told it.",
                'Set discriminator.conditioning = "none".',
            )
        if regularizer.bounds_slope and options.get("norm") == "spectral":
            raise RecipeError(
                f"{place} bounds the discriminator's weights, and so does its spectral norm.",
                'Set discriminator.norm = "none", or leave it out.',
            )


def _check_augmentation(recipe: Recipe, objective: Objective, where: str) -> None:
    import torch

    from ganzoo.augmentation.probability import ProbabilityControl

    build_augmentation(recipe)
    assert recipe.augmentation is not None
    try:
        ProbabilityControl(recipe.augmentation.probability, objective.boundary, torch.device("cpu"))
    except ValueError as error:
        raise RecipeError(f"{where}: augmentation.probability: {error}.") from error
