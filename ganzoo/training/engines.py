"""Engines: how the steps of a training are carried out.

    train.engine   arithmetic   steps
    "eager"        plain        operation by operation: the reference that the others are held against
    "auto"         fast         captured in a CUDA graph and replayed, where that can be; else operation by operation
    "graph"        fast         captured and replayed, or not at all

The fast arithmetic computes the same numbers in other forms, which round differently (penalties at first-order cost,
convolutions on a processor). A replayed step computes to the bit what it computes operation by operation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ganzoo import registry
from ganzoo.errors import UsageError
from ganzoo.objectives.regularizers.contract import Regularizer
from ganzoo.recipes import Recipe
from ganzoo.training.processes import ALONE, World

SEVERAL_CHOOSE = "two regularizers choose among generated images, and how many the second one keeps hangs on the first"
"""Why such a training is not captured: `Regularizer.variant` knows its own choice only."""


@dataclass(frozen=True)
class Engine:
    """How the steps of a training are carried out.

    Args:
        name: "eager": operation by operation; "graph": captured in a CUDA graph and replayed.
        fast: whether the fast forms of the arithmetic are used.
        why: why it is no graph, where one could be hoped for.
    """

    name: Literal["eager", "graph"] = "eager"
    fast: bool = False
    why: str | None = None


PLAIN = Engine()
"""Step by step, in plain arithmetic."""


def choose_engine(recipe: Recipe, device: torch.device, world: World = ALONE, *, fast: bool | None = None) -> Engine:
    """Return the engine of a training.

    Args:
        recipe: what is trained; its `train.engine` says what is asked for.
        device: where.
        world: the processes that train together.
        fast: whether the run was begun with the fast arithmetic; by default as the recipe asks.

    Raises:
        UsageError: a graph is demanded and cannot be, with the reason.
    """
    asked = recipe.train.engine
    if asked == "eager":
        return PLAIN
    if fast is False:
        return Engine("eager", fast=False, why="the run was begun in plain arithmetic" if _hoped(device) else None)
    why = _why_not(recipe, device, world)
    if why is None:
        return Engine("graph", fast=True)
    if asked == "graph":
        raise UsageError(f'train.engine = "graph" cannot be: {why}.', 'Use "auto" or "eager".')
    return Engine("eager", fast=True, why=why if _hoped(device) else None)


def asks_for_fast(recipe: Recipe) -> bool:
    """Return whether a run that begins with this recipe uses the fast arithmetic."""
    return recipe.train.engine != "eager"


def is_capturable(part: type) -> bool:
    """Return whether a class says of itself that a step with it can be captured; its parents' word does not count."""
    return vars(part).get("capturable", False) is True


def _hoped(device: torch.device) -> bool:
    return device.type == "cuda"


def _why_not(recipe: Recipe, device: torch.device, world: World) -> str | None:
    """Return why the steps cannot be captured, or None where they can."""
    if device.type != "cuda":
        return f"a CUDA graph needs CUDA, not {device.type}"
    if world.size > 1:
        return f"{world.size} processes exchange their gradients within a step"
    return why_not_captured(recipe)


def why_not_captured(recipe: Recipe) -> str | None:
    """Return what in a recipe stands against capturing its steps, on any device; None for nothing."""
    choosers = 0
    for kind, name, part in _parts(recipe):
        if not is_capturable(part):
            return f"the {kind} {name!r} does not say that it can be captured (`capturable = True`)"
        choosers += getattr(part, "keep", Regularizer.keep) is not Regularizer.keep
    return SEVERAL_CHOOSE if choosers > 1 else None


def _parts(recipe: Recipe) -> Iterator[tuple[str, str, Any]]:
    """Yield (kind, name, class) of everything that a step runs."""
    sections = [
        (registry.generators, recipe.generator),
        (registry.discriminators, recipe.discriminator),
        (registry.objectives, recipe.objective),
        *((registry.penalties, section) for section in recipe.penalty),
        *((registry.regularizers, section) for section in recipe.regularizer),
    ]
    if recipe.augmentation is not None:
        sections.append((registry.augmentations, recipe.augmentation))
    for known, section in sections:
        yield known.kind, section.name, known.get(section.name)


__all__ = ["PLAIN", "Engine", "asks_for_fast", "choose_engine", "is_capturable", "why_not_captured"]
