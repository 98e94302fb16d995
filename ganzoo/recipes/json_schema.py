"""The JSON Schema of a recipe (draft 2020-12), from which editors complete keys and mark mistakes.

The tables that name a registered class have the keys of all classes, for editors that complete from plain `properties`
only (taplo does: it knows neither `if` nor which of several branches holds), and an `if`/`then` for each name, by which
a validator says exactly what is wrong with the keys of the class that is named. What the schema cannot say, such as
that two entries do not go together, `ganzoo.load_recipe` says.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.errors import PydanticUserError

from ganzoo import registry
from ganzoo.errors import PluginError
from ganzoo.recipes.parsing import options_model
from ganzoo.recipes.schema import (
    NETWORK_ARGUMENTS,
    AugmentationSection,
    Component,
    DiscriminatorSection,
    GeneratorSection,
    ObjectiveSection,
    PenaltySection,
    Recipe,
    RegularizerSection,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAME_PATTERN = "^[a-z0-9][a-z0-9._-]*$"

_NETWORK = frozenset(NETWORK_ARGUMENTS)
_PATH_HINT = "; or a path"
_ARGUMENTS = re.compile(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", re.MULTILINE)
_ARGUMENT = re.compile(r"(\w+(?:, \w+)*): (.*)")


@dataclass(frozen=True)
class _Table:
    """A table of a recipe that names a registered class.

    Args:
        section: its pydantic model.
        known: the classes.
        given: arguments of theirs that are no keys.
    """

    section: type[Component]
    known: registry.Registry[Any]
    given: frozenset[str] = frozenset()


_TABLES = {
    "generator": _Table(GeneratorSection, registry.generators, _NETWORK),
    "discriminator": _Table(DiscriminatorSection, registry.discriminators, _NETWORK),
    "objective": _Table(ObjectiveSection, registry.objectives),
    "penalty": _Table(PenaltySection, registry.penalties),
    "regularizer": _Table(RegularizerSection, registry.regularizers),
    "augmentation": _Table(AugmentationSection, registry.augmentations),
}


def recipe_json_schema(
    *, plugins: bool = False, on_broken: Callable[[PluginError], None] | None = None
) -> dict[str, Any]:
    """Return the JSON Schema of a recipe.

    Args:
        plugins: whether classes that were registered in this process, or that installed packages offer, are in it
            beside ganzoo's own.
        on_broken: called with the error of a plug-in that cannot be loaded, which is then left out.

    Raises:
        PluginError: a plug-in cannot be loaded, and there is no `on_broken`.
    """
    schema = Recipe.model_json_schema()
    definitions: dict[str, Any] = schema.pop("$defs")
    for name, table in _TABLES.items():
        own = definitions[table.section.__name__]
        definitions[table.section.__name__] = _table_schema(name, table, own, definitions, plugins, on_broken)
    tidied = {name: _tidy(one) for name, one in definitions.items()}
    whole = {"$schema": DIALECT, "title": "A recipe of ganzoo", **_tidy(schema), "$defs": tidied}
    whole["properties"]["name"]["pattern"] = NAME_PATTERN
    source = whole["$defs"]["DataSection"]["properties"]["source"]
    source["description"] = f"{source['description']}: {_names(registry.sources, plugins)}{_PATH_HINT}"
    evaluate = whole["$defs"]["EvaluateSection"]["properties"]
    evaluate["metrics"]["description"] = _names(registry.metrics, plugins)
    features = evaluate["features"]
    features["description"] = f"{features['description']}; {_names(registry.feature_extractors, plugins)}"
    return whole


def _names(known: registry.Registry[Any], plugins: bool) -> str:
    return ", ".join(entry.name for entry in known.entries() if plugins or entry.origin == "ganzoo")


def schema_text(schema: Mapping[str, Any]) -> str:
    """Return a schema as the text of its file; equal schemas give equal text."""
    return json.dumps(schema, indent=2) + "\n"


def _table_schema(
    name: str,
    table: _Table,
    own: Mapping[str, Any],
    definitions: dict[str, Any],
    plugins: bool,
    on_broken: Callable[[PluginError], None] | None,
) -> dict[str, Any]:
    """Return the schema of a table; those of the classes it may name are added to the definitions."""
    classes: dict[str, dict[str, Any]] = {}
    for entry in table.known.entries():
        if entry.origin != "ganzoo" and not plugins:
            continue
        try:
            classes[entry.name] = _class_schema(table, entry.name, own, definitions)
        except PluginError as error:
            if on_broken is None:
                raise
            on_broken(error)
    for one, schema in classes.items():
        definitions[f"{name}-{one}"] = schema
    default = own["properties"]["name"].get("default")
    return {
        "type": "object",
        "description": own["description"],
        "properties": {**_all_keys(classes), "name": {**own["properties"]["name"], "enum": list(classes)}},
        "required": own.get("required", []),
        **_choice(name, list(classes), default),
    }


def _choice(table: str, names: list[str], default: str | None) -> dict[str, Any]:
    """Return the `if`/`then`/`else` that holds a table to the schema of the class that it names.

    A chain and not a list: taplo passes over a schema's own `properties` where it has an `allOf`.
    """
    if not names:
        return {}
    first, *rest = names
    named: dict[str, Any] = {"properties": {"name": {"const": first}}}
    if first != default:
        named["required"] = ["name"]
    chosen = {"if": named, "then": {"$ref": f"#/$defs/{table}-{first}"}}
    return {**chosen, "else": _choice(table, rest, default)} if rest else chosen


def _all_keys(classes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keys of all classes; one that several have may be what it is in any of them."""
    found: dict[str, list[Any]] = {}
    for schema in classes.values():
        for key, one in schema["properties"].items():
            if key != "name" and one not in found.setdefault(key, []):
                found[key].append(one)
    return {key: ones[0] if len(ones) == 1 else {"anyOf": ones} for key, ones in found.items()}


def _class_schema(table: _Table, name: str, own: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a table that names this class: the table's own keys and the constructor's.

    Raises:
        PluginError: it cannot be loaded, or breaks its contract.
    """
    factory = table.known.get(name)
    fields = set(table.section.model_fields)
    model = options_model(factory, table.given | fields, table.known.kind)
    try:
        options = model.model_json_schema()
    except PydanticUserError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise PluginError(
            f"The {table.known.kind} {name!r} has a key of which there is no JSON Schema: {reason}.",
            "Use numbers, text, true and false, lists and tables of them.",
        ) from error
    for key, definition in options.pop("$defs", {}).items():
        definitions.setdefault(key, definition)
    summary, described = _told(factory)
    keys = {
        key: one if "description" in one or key not in described else {**one, "description": described[key]}
        for key, one in options["properties"].items()
    }
    about = {"description": summary} if summary else {}
    named = {"const": name, **about}
    return {
        "type": "object",
        **about,
        "properties": {"name": named, **{key: one for key, one in own["properties"].items() if key != "name"}, **keys},
        "required": [*own.get("required", []), *options.get("required", [])],
        "additionalProperties": False,
    }


def _told(factory: Any) -> tuple[str, dict[str, str]]:
    """Return (first paragraph, argument → what it is) of a class's docstring."""
    text = inspect.getdoc(factory) or ""
    summary = " ".join(text.partition("\n\n")[0].split())
    match = _ARGUMENTS.search(text)
    described: dict[str, str] = {}
    names: list[str] = []
    lines = inspect.cleandoc(match.group(1)).splitlines() if match else []
    for line in lines:
        if (found := _ARGUMENT.fullmatch(line)) is not None:
            names = found.group(1).split(", ")
            described.update(dict.fromkeys(names, found.group(2)))
        elif line.strip():
            described.update({name: f"{described[name]} {line.strip()}" for name in names})
    return summary, described


def _tidy(schema: Any) -> Any:
    """Return a schema without pydantic's titles, which repeat the keys, and without null, which TOML does not have."""
    if isinstance(schema, list):
        return [_tidy(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {key: _entry(key, value) for key, value in schema.items() if not _is_noise(key, value)}
    branches = tidy.get("anyOf")
    if isinstance(branches, list) and {"type": "null"} in branches:
        left = [one for one in branches if one != {"type": "null"}]
        del tidy["anyOf"]
        tidy = {**(left[0] if len(left) == 1 else {"anyOf": left}), **tidy}
    return tidy


def _entry(key: str, value: Any) -> Any:
    """Return an entry of a schema tidied; tables of names are not schemas, whatever the names are."""
    if key in ("properties", "$defs") and isinstance(value, dict):
        return {name: _tidy(one) for name, one in value.items()}
    return value if key in ("default", "enum", "const", "required") else _tidy(value)


def _is_noise(key: str, value: Any) -> bool:
    return (
        (key == "title" and isinstance(value, str))
        or (key == "default" and (value is None or isinstance(value, dict)))
        or (key == "additionalProperties" and value is True)
    )
