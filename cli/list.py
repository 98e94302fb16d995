"""`ganzoo list`: the recipes, or what they can be made of."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ganzoo.errors import GanzooError, suggest

from . import output

if TYPE_CHECKING:
    from ganzoo.registry import Registry

KINDS = ("recipe", "generator", "discriminator", "objective", "penalty", "source")
_WILDCARDS = "*?["


@dataclass(frozen=True)
class Line:
    """One thing of the list; `broken` says why it cannot be used, where it cannot."""

    name: str
    origin: str
    description: str
    broken: str | None = None


@click.command("list")
@click.argument("pattern", required=False)
@click.option("--kind", type=click.Choice(KINDS), default="recipe", show_default=True, help="What to list.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(pattern: str | None, kind: str, as_json: bool) -> None:
    """List the recipes, or what they can be made of.

    PATTERN is a part of the name, or a shell pattern such as 'dcgan-*'. What other installed packages add is listed
    with the package's name; what cannot be loaded is listed as broken, with the reason.
    """
    lines = listing(kind)
    names = [line.name for line in lines]
    if pattern is not None:
        shell_pattern = pattern if any(sign in pattern for sign in _WILDCARDS) else f"*{pattern}*"
        lines = [line for line in lines if fnmatch.fnmatchcase(line.name, shell_pattern)]
    if as_json:
        output.result_json({"kind": kind, "entries": [asdict(line) for line in lines]})
        return
    if pattern is not None and not lines:
        raise GanzooError(f"No {kind} is named like {pattern!r}.", suggest(pattern, names))
    if not lines:
        output.note(f"There is no {kind}.")
        return
    several_origins = any(line.origin != "ganzoo" for line in lines)
    for row in output.table(
        [(line.name, *([line.origin] if several_origins else []), _told(line)) for line in lines],
        header=(kind, *(["from"] if several_origins else []), "what it is"),
    ):
        output.result(row)
    if kind == "recipe":
        output.hint("\nganzoo show RECIPE tells all of one, ganzoo train RECIPE trains it.")
    if kind == "source":
        output.hint(
            "\nA path is a source too: a folder of images, a zip, an LSUN folder, MNIST or CIFAR files, .npy, .npz."
        )


def listing(kind: str) -> list[Line]:
    """Return everything of one kind, in natural order; nothing that is broken stops it."""
    from ganzoo import registry

    known: Registry[Any] = {
        "recipe": registry.recipes,
        "generator": registry.generators,
        "discriminator": registry.discriminators,
        "objective": registry.objectives,
        "penalty": registry.penalties,
        "source": registry.sources,
    }[kind]
    origins = {entry.name: entry.origin for entry in known.entries()}
    if kind == "recipe":
        from ganzoo.recipes import describe_recipe, list_recipes

        # A recipe that lies in ganzoo's own folder wins over a registered one.
        return [_line(name, origins.get(name, "ganzoo"), partial(describe_recipe, name)) for name in list_recipes()]
    return [_line(name, origin, partial(_describe, known, name)) for name, origin in origins.items()]


def _line(name: str, origin: str, describe: Callable[[], str]) -> Line:
    try:
        return Line(name, origin, describe())
    except Exception as error:  # a third party's package may raise anything
        reason = str(error) if isinstance(error, GanzooError) else f"{type(error).__name__}: {error}"
        return Line(name, origin, "", " ".join(reason.split()))


def _describe(known: Registry[Any], name: str) -> str:
    """Return the first paragraph of the docstring of what a name stands for, on one line; it is imported now."""
    text = inspect.getdoc(known.get(name)) or ""
    return " ".join(text.split("\n\n")[0].split())


def _told(line: Line) -> str:
    return line.description if line.broken is None else f"broken: {line.broken}"
