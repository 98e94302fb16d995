"""Recipes by name and in files: reading them, changing single entries, and the list of those that exist."""

from __future__ import annotations

import fnmatch
import importlib.resources
import os
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from ganzoo import registry
from ganzoo.errors import PluginError, RecipeError, UnknownNameError


def read_table(reference: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """Return a recipe's table and where it comes from.

    Args:
        reference: a recipe's name, or the path of a TOML file.

    Raises:
        UnknownNameError: no recipe of that name; the nearest is offered.
        RecipeError: a file that is missing or is not TOML.
    """
    text = str(reference)
    if isinstance(reference, os.PathLike) or text.endswith(".toml") or "/" in text or os.sep in text:
        path = Path(reference)
        try:
            there = path.is_file()
        except (OSError, ValueError):  # a name that is too long for the disk, or holds a NUL
            there = False
        if not there:
            raise RecipeError(f"There is no recipe file {text}.", "`ganzoo list` shows the recipes by name.")
        return _read_toml(path, text), text
    found = _find(text)
    return _read_toml(found, text), text


def _find(name: str) -> Path | Traversable:
    if f"{name}.toml" in {entry.name for entry in _zoo().iterdir()}:
        return _zoo() / f"{name}.toml"
    if name not in registry.recipes:
        raise UnknownNameError("recipe", name, list_recipes())
    entry = registry.recipes.get(name)
    if not isinstance(entry, str | os.PathLike | Traversable):
        raise PluginError(f"The recipe {name!r} stands for a {type(entry).__name__}, not for the path of a TOML file.")
    return Path(entry) if isinstance(entry, str | os.PathLike) else entry


def _zoo() -> Traversable:
    return importlib.resources.files("ganzoo.zoo_configs")


_MAX_FILE_BYTES = 1 << 20


def _read_toml(path: Path | Traversable, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(_read_text(path, where))
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        raise RecipeError(f"{where} is not TOML: {str(error).splitlines()[0].rstrip('.')}.") from error


def _read_text(path: Path | Traversable, where: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{where} cannot be read: {error.strerror or type(error).__name__}.") from error
    if len(content) > _MAX_FILE_BYTES:
        raise RecipeError(f"{where} is larger than 1 MiB: it is no recipe.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{where} is not TOML: it is not UTF-8 text.") from error


def list_recipes(pattern: str = "*") -> list[str]:
    """Return the names of all recipes that match a shell pattern, ganzoo's own and those of installed packages, in
    natural order."""
    own = [entry.name.removesuffix(".toml") for entry in _zoo().iterdir() if entry.name.endswith(".toml")]
    names = {*own, *registry.recipes.names()}
    return sorted((name for name in names if fnmatch.fnmatchcase(name, pattern)), key=registry.natural_key)


def describe_recipe(name: str) -> str:
    """Return a recipe's one-line description: the first comment of its file.

    Raises:
        UnknownNameError: no such recipe.
        PluginError: a third party's recipe that cannot be loaded.
        RecipeError: its file cannot be read.
    """
    first = _read_text(_find(name), name).partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def apply_overrides(table: Mapping[str, Any], overrides: Iterable[str], where: str = "recipe") -> dict[str, Any]:
    """Return a copy of a recipe's table with changes like "optimizer.lr=1e-4" applied.

    A value is read as TOML, and as text where it is not TOML; "penalty.0.weight=1" reaches into the list of penalties.

    Args:
        table: as `tomllib` reads it; it is not changed.
        overrides: the changes, in order.
        where: the recipe's name or file, for messages.

    Raises:
        RecipeError: a change without "=", or a path through something that is not a table; values that no recipe can
            hold.
    """
    changed: dict[str, Any] = plain_table(table, where)
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals or not key:
            raise RecipeError(f"--set {override!r} is not KEY=VALUE.", "For example: --set optimizer.lr=1e-4")
        _set_entry(changed, key, _toml_value(text), f"--set {key}")
    return changed


def apply_changes(table: Mapping[str, Any], changes: Mapping[str, Any], where: str = "recipe") -> dict[str, Any]:
    """Return a copy of a recipe's table with entries changed.

    Args:
        table: as `tomllib` reads it; it is not changed.
        changes: dotted name → value; a table is laid over the one that is there, anything else takes its place.
        where: the recipe's name or file, for messages.

    Raises:
        RecipeError: a path through something that is not a table; values that no recipe can hold.
    """
    changed: dict[str, Any] = plain_table(table, where)
    for key, value in plain_table(changes, where).items():
        _lay_over(changed, key, value, f"{where}: {key}")
    return changed


def _lay_over(at: dict[str, Any], key: str, value: Any, said: str) -> None:
    if isinstance(value, dict):
        for inner, one in value.items():
            _lay_over(at, f"{key}.{inner}", one, f"{said}.{inner}")
    else:
        _set_entry(at, key, value, said)


def _set_entry(table: dict[str, Any], key: str, value: Any, said: str) -> None:
    """Set the entry of a dotted name; tables on the way that are missing are made.

    Args:
        table: what is changed.
        key: "optimizer.lr".
        value: what it becomes.
        said: what messages begin with.
    """
    *path, last = key.split(".")
    at: Any = table
    for part in path:
        at = _enter(at, part, said)
    if isinstance(at, list):
        at[_index(at, last, said)] = value
    else:
        at[last] = value


def _enter(at: Any, part: str, said: str) -> Any:
    if isinstance(at, list):
        inside = at[_index(at, part, said)]
    elif part in at or not part.isdecimal():
        inside = at.setdefault(part, {})
    else:
        raise RecipeError(f"{said}: there is no entry {part} yet.", "--set 'penalty=[{weight=10}]' sets all of them.")
    if not isinstance(inside, dict | list):
        raise RecipeError(f"{said}: {part!r} is a value, not a table.")
    return inside


def _index(entries: list[Any], part: str, said: str) -> int:
    if not (part.isascii() and part.isdecimal() and len(part) < 10 and int(part) < len(entries)):
        raise RecipeError(f"{said}: {part!r} is none of the {len(entries)} entries, which are numbered from 0.")
    return int(part)


def _toml_value(text: str) -> Any:
    try:
        table = tomllib.loads(f"v={text}")
    except (ValueError, RecursionError):
        return text.strip()
    return table["v"] if len(table) == 1 else text.strip()


def plain_table(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a copy of a table in which everything is what JSON and TOML can hold; keys that are None are left out.

    Raises:
        RecipeError: something else is in it, or it is nested too deep.
    """

    def plain(value: Any, place: str) -> Any:
        if isinstance(value, Mapping):
            if wrong := [key for key in value if not isinstance(key, str)]:
                raise RecipeError(f"{where}: {place or 'the recipe'} has the key {wrong[0]!r}, which is not text.")
            inside = {key: plain(one, f"{place}.{key}" if place else key) for key, one in value.items()}
            return {key: one for key, one in inside.items() if one is not None}
        if isinstance(value, list | tuple):
            return [plain(one, f"{place}.{index}") for index, one in enumerate(value)]
        if isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
            raise RecipeError(f"{where}: {place} = {value!r} is not Unicode text.")
        if value is None or isinstance(value, str | bool | int | float):
            return value
        raise RecipeError(
            f"{where}: {place} is a {type(value).__name__}.",
            "A recipe holds text, numbers, true and false, lists and tables.",
        )

    try:
        copied: dict[str, Any] = plain(table, "")
    except RecursionError as error:
        raise RecipeError(f"{where}: its tables are nested too deep.") from error
    return copied
