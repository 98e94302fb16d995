"""Recipes: everything needed to train one model, in one TOML file.

`files` finds and reads them, `schema` says what may be in them, `parsing` turns a table into a checked `Recipe`.
`ganzoo.building` makes networks of one and refuses what cannot work. Names are looked up when they are asked for, so
that a list of recipes needs no pydantic.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganzoo.recipes.files import apply_changes as apply_changes
    from ganzoo.recipes.files import apply_overrides as apply_overrides
    from ganzoo.recipes.files import describe_recipe as describe_recipe
    from ganzoo.recipes.files import list_recipes as list_recipes
    from ganzoo.recipes.files import read_table as read_table
    from ganzoo.recipes.parsing import options_model as options_model
    from ganzoo.recipes.parsing import parse_recipe as parse_recipe
    from ganzoo.recipes.schema import NETWORK_ARGUMENTS as NETWORK_ARGUMENTS
    from ganzoo.recipes.schema import AdaptiveProbability as AdaptiveProbability
    from ganzoo.recipes.schema import AugmentationSection as AugmentationSection
    from ganzoo.recipes.schema import Component as Component
    from ganzoo.recipes.schema import DataSection as DataSection
    from ganzoo.recipes.schema import DiscriminatorSection as DiscriminatorSection
    from ganzoo.recipes.schema import EMASection as EMASection
    from ganzoo.recipes.schema import EvaluateSection as EvaluateSection
    from ganzoo.recipes.schema import GeneratorSection as GeneratorSection
    from ganzoo.recipes.schema import ObjectiveSection as ObjectiveSection
    from ganzoo.recipes.schema import OptimizerSection as OptimizerSection
    from ganzoo.recipes.schema import PenaltySection as PenaltySection
    from ganzoo.recipes.schema import Recipe as Recipe
    from ganzoo.recipes.schema import RegularizerSection as RegularizerSection
    from ganzoo.recipes.schema import Schedule as Schedule
    from ganzoo.recipes.schema import TrainSection as TrainSection
    from ganzoo.recipes.schema import value_at as value_at

_HOMES = {
    "RegularizerSection": "schema",
    "AugmentationSection": "schema",
    "AdaptiveProbability": "schema",
    "Component": "schema",
    "DataSection": "schema",
    "DiscriminatorSection": "schema",
    "EMASection": "schema",
    "EvaluateSection": "schema",
    "GeneratorSection": "schema",
    "NETWORK_ARGUMENTS": "schema",
    "ObjectiveSection": "schema",
    "OptimizerSection": "schema",
    "PenaltySection": "schema",
    "Recipe": "schema",
    "Schedule": "schema",
    "TrainSection": "schema",
    "apply_changes": "files",
    "apply_overrides": "files",
    "describe_recipe": "files",
    "list_recipes": "files",
    "options_model": "parsing",
    "parse_recipe": "parsing",
    "read_table": "files",
    "value_at": "schema",
}

__all__ = [
    "NETWORK_ARGUMENTS",
    "AdaptiveProbability",
    "AugmentationSection",
    "Component",
    "DataSection",
    "DiscriminatorSection",
    "EMASection",
    "EvaluateSection",
    "GeneratorSection",
    "ObjectiveSection",
    "OptimizerSection",
    "PenaltySection",
    "Recipe",
    "RegularizerSection",
    "Schedule",
    "TrainSection",
    "apply_changes",
    "apply_overrides",
    "describe_recipe",
    "list_recipes",
    "options_model",
    "parse_recipe",
    "read_table",
    "value_at",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ganzoo.recipes' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ganzoo.recipes.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
