"""What `[evaluate]` may ask for: metrics and features that are here, and that mean something in a training.

A training has its own images and a generator, no more: what needs images that were not trained on, or looks into the
discriminator, is for `ganzoo evaluate` afterwards.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from ganzoo.errors import RecipeError

if TYPE_CHECKING:
    from ganzoo.evaluation.choosing import Asked
    from ganzoo.recipes.schema import EvaluateSection, Recipe

_PACKAGES = {"inception": ("torch_fidelity", "torch-fidelity")}  # extractor → module, and the package that has it
_AFTERWARDS = "Use `ganzoo evaluate` after the training."
OFF = "--set evaluate.every=0 turns the evaluation off."


def asked_metrics(recipe: Recipe) -> list[Asked]:
    """Return the metrics of a recipe's `[evaluate]`, in its order, each with the name of its features; none where it is
    off.

    Raises:
        UnknownNameError: a metric or an extractor that is not registered, with the nearest.
        PluginError: a third party's metric that breaks the contract.
    """
    section = recipe.evaluate
    if section is None or not section.every:
        return []
    from ganzoo.evaluation.choosing import choose_metrics, main_features

    features = main_features(section.features, recipe.data.channels)
    return choose_metrics(section.metrics, features if isinstance(features, str) else features.name)


def check_evaluation(recipe: Recipe, where: str) -> None:
    """Refuse an `[evaluate]` that could not work; one that is off is not looked at.

    Args:
        recipe: with its options resolved.
        where: its name or file, for messages.

    Raises:
        RecipeError: a metric that means nothing in this training, too few images for it, features that are not
            installed; with what would work.
        UnknownNameError, PluginError: as `asked_metrics`.
    """
    for asked in asked_metrics(recipe):
        assert recipe.evaluate is not None
        _check_metric(asked, recipe.evaluate, recipe, f"{where}: evaluate.metrics: {asked.name!r}")
        module, package = _PACKAGES.get(asked.extractor or "", ("", ""))
        if module and importlib.util.find_spec(module) is None:
            raise RecipeError(
                f"{where}: evaluate.metrics: {asked.name!r} needs the features {asked.extractor!r}, and {package} is "
                "not installed.",
                f'pip install {package}, or measure on features that need nothing: evaluate.metrics = ["fd"].',
            )


def _check_metric(asked: Asked, section: EvaluateSection, recipe: Recipe, said: str) -> None:
    metric = asked.metric
    if "test" in metric.needs:
        raise RecipeError(f"{said} needs images that were not trained on.", _AFTERWARDS)
    if "discriminator" in metric.needs:
        raise RecipeError(f"{said} looks into the discriminator.", _AFTERWARDS)
    if "labels" in metric.needs and not recipe.data.labelled:
        reason = "the data's labels are not used" if recipe.data.num_classes else "data.num_classes is 0"
        raise RecipeError(f"{said} needs labels, and {reason}.", f"Leave it out; {OFF}")
    for key, count in (("images", section.images), ("reference", section.reference)):
        needed = key == "images" or "reference" in metric.needs
        if needed and count is not None and count < metric.fewest:
            raise RecipeError(
                f"{said} needs at least {metric.fewest:,} images, and evaluate.{key} is {count:,}.",
                f"Use --set evaluate.{key}={metric.fewest}.",
            )
