"""From a table, as TOML gives it, to a checked `Recipe`.


The tables `[generator]`, `[discriminator]`, `[objective]`, `[[penalty]]`, `[[regularizer]]` and `[augmentation]` hold a
registered name and the arguments of its constructor: their schema is derived from the constructor's signature, so a
plug-in's keys are checked like ganzoo's own.
"""

from __future__ import annotations

import functools
import inspect
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, create_model
from pydantic.errors import PydanticUserError

from ganzoo import registry
from ganzoo.errors import PluginError, RecipeError
from ganzoo.recipes.files import plain_table
from ganzoo.recipes.messages import validate
from ganzoo.recipes.schema import NETWORK_ARGUMENTS, SCHEMA_VERSION, STRICT, Component, Recipe


def parse_recipe(table: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Return a recipe from nested dictionaries, all defaults filled in and all names looked up.

    Args:
        table: as `tomllib` reads it.
        where: the recipe's name or file, for messages.

    Raises:
        RecipeError: an unknown key, a wrong type, a value out of range, a combination that cannot be; one line that
            names all of them.
        UnknownNameError: a component that is not registered.
        PluginError: a third party's class that breaks its contract.
    """
    version = table.get("schema_version")
    if isinstance(version, int) and not isinstance(version, bool) and version > SCHEMA_VERSION:
        raise RecipeError(
            f"{where}: schema_version = {version} is newer than this ganzoo knows ({SCHEMA_VERSION}).", "Update ganzoo."
        )
    recipe = validate(Recipe, plain_table(table, where), where, ())
    given = set(NETWORK_ARGUMENTS)
    sections: dict[str, Any] = {
        "generator": _resolve(recipe.generator, registry.generators, given | {"latent_dim"}, where, ("generator",)),
        "discriminator": _resolve(recipe.discriminator, registry.discriminators, given, where, ("discriminator",)),
        "objective": _resolve(recipe.objective, registry.objectives, set(), where, ("objective",)),
        "penalty": tuple(
            _resolve(penalty, registry.penalties, set(), where, ("penalty", index))
            for index, penalty in enumerate(recipe.penalty)
        ),
        "regularizer": tuple(
            _resolve(regularizer, registry.regularizers, set(), where, ("regularizer", index))
            for index, regularizer in enumerate(recipe.regularizer)
        ),
    }
    if recipe.augmentation is not None:
        sections["augmentation"] = _resolve(
            recipe.augmentation, registry.augmentations, set(), where, ("augmentation",)
        )
    return recipe.model_copy(update=sections)


def options_model(factory: Callable[..., Any], given: Iterable[str], kind: str) -> type[BaseModel]:
    """Return the schema of a component's keys, derived from the signature of its constructor.

    Args:
        factory: a class or function with named arguments.
        given: arguments that are not keys, as the trainer gives them.
        kind: for messages: "generator".

    Raises:
        PluginError: positional-only arguments, *args or **kwargs, or annotations that cannot be read.
    """
    title = f"The {kind} {getattr(factory, '__qualname__', repr(factory))}"
    function = factory.__init__ if inspect.isclass(factory) else factory
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        raise PluginError(f"{title} is no class or function with a signature.") from error
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError) as error:
        raise PluginError(f"{title} has an annotation that cannot be read: {error}.") from error
    fields: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise PluginError(
                f"{title} takes {parameter}, so its keys cannot be known.", "Name every argument of its constructor."
            )
        if name in given:
            continue
        if name.startswith("_"):
            raise PluginError(f"{title} has an argument {name!r} that no recipe can hold.", "Give it a public name.")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
    try:
        return _make_model(fields)
    except (PydanticUserError, NameError, TypeError) as error:
        name, reason = next(_that_cannot_be(fields), ("?", str(error)))
        raise PluginError(
            f"{title} has an argument {name!r} that no recipe can hold: {reason.splitlines()[0].rstrip('.')}.",
            "Use numbers, text, true and false, lists and tables of them.",
        ) from error


def _that_cannot_be(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each field of which no schema can be made, and the reason."""
    for name, field in fields.items():
        try:
            _make_model({name: field})
        except (PydanticUserError, NameError, TypeError) as error:
            yield name, str(error)


@functools.cache
def _options_model(factory: Callable[..., Any], given: frozenset[str], kind: str) -> type[BaseModel]:
    """Return `options_model`, which takes a hundredth of a second, at once for what was asked for before."""
    return options_model(factory, given, kind)


def _make_model(fields: dict[str, Any]) -> type[BaseModel]:
    with warnings.catch_warnings():
        # A key may be called like a method of pydantic's ("copy", "schema"): nothing here calls those.
        warnings.filterwarnings("ignore", message="Field name .* shadows an attribute", category=UserWarning)
        return create_model("Options", __config__=STRICT, **fields)


ComponentT = typing.TypeVar("ComponentT", bound=Component)


def _resolve(
    section: ComponentT, known: registry.Registry[Any], given: set[str], where: str, path: tuple[str | int, ...]
) -> ComponentT:
    """Return a component with its options checked against the signature and their defaults filled in."""
    schema = _options_model(known.get(section.name), frozenset(given | set(type(section).model_fields)), known.kind)
    options = validate(schema, section.options, where, path, also=type(section).model_fields)
    own = {key: getattr(section, key) for key in type(section).model_fields}
    return typing.cast(ComponentT, type(section).model_construct(**own, **options.model_dump()))
