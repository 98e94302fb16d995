"""`ganzoo list`: the recipes, what they can be made of, and the models with published weights."""

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

KINDS = (
    "recipe",
    "generator",
    "discriminator",
    "objective",
    "penalty",
    "regularizer",
    "augmentation",
    "source",
    "metric",
    "features",
)
_WILDCARDS = "*?["
_PLACES = {
    "packaged": "packaged",
    "cached": "in the cache",
    "remote": "to be fetched",
    "damaged": "damaged: install ganzoo again",
}


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
@click.option("--pretrained", is_flag=True, help="List the models with published weights.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(pattern: str | None, kind: str, pretrained: bool, as_json: bool) -> None:
    """List the recipes, what they can be made of, or the models with published weights.

    PATTERN is a part of the name, or a shell pattern such as 'dcgan-*'. What other installed packages add is listed
    with the package's name; what cannot be loaded is listed as broken, with the reason.
    """
    if pretrained:
        if kind != "recipe":
            raise click.UsageError(f"--pretrained lists models, so it cannot be given with --kind {kind}.")
        _list_pretrained(pattern, as_json)
        return
    lines = listing(kind)
    names = [line.name for line in lines]
    lines = [line for line in lines if _matches(line.name, pattern)]
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
        output.hint("ganzoo list --pretrained shows the models with published weights.")
    if kind == "source":
        output.hint(
            "\nA path is a source too: a folder of images, a zip, an LSUN folder, MNIST or CIFAR files, .npy, .npz."
        )
    if kind in ("metric", "features"):
        output.hint(f"\nganzoo evaluate MODEL --{'metrics' if kind == 'metric' else kind} NAME measures with it.")


def listing(kind: str) -> list[Line]:
    """Return everything of one kind, in natural order; nothing that is broken stops it."""
    from ganzoo import registry

    known: Registry[Any] = {
        "recipe": registry.recipes,
        "generator": registry.generators,
        "discriminator": registry.discriminators,
        "objective": registry.objectives,
        "penalty": registry.penalties,
        "regularizer": registry.regularizers,
        "augmentation": registry.augmentations,
        "source": registry.sources,
        "metric": registry.metrics,
        "features": registry.feature_extractors,
    }[kind]
    origins = {entry.name: entry.origin for entry in known.entries()}
    if kind == "recipe":
        from ganzoo.recipes import describe_recipe, list_recipes

        # A recipe that lies in ganzoo's own folder wins over a registered one.
        return [_line(name, origins.get(name, "ganzoo"), partial(describe_recipe, name)) for name in list_recipes()]
    return [_line(name, origin, partial(_describe, known, name)) for name, origin in origins.items()]


def _matches(name: str, pattern: str | None) -> bool:
    """Return whether a name is like a pattern: holds it, or fits it where it has wildcards."""
    if pattern is None:
        return True
    return fnmatch.fnmatchcase(name, pattern if any(sign in pattern for sign in _WILDCARDS) else f"*{pattern}*")


def _list_pretrained(pattern: str | None, as_json: bool) -> None:
    from ganzoo.zoo import describe_pretrained, list_pretrained

    names = list_pretrained()
    models = [describe_pretrained(name) for name in names if _matches(name, pattern)]
    if as_json:
        output.result_json({"kind": "pretrained", "entries": [asdict(model) for model in models]})
        return
    if pattern is not None and not models:
        raise GanzooError(f"No model with published weights is named like {pattern!r}.", suggest(pattern, names))
    if not models:
        output.note("There is no model with published weights.")
        return
    rows = [
        (one.name, one.images, output.size_of(one.bytes), _PLACES[one.place], one.licence, one.data) for one in models
    ]
    header = ("model", "images", "size", "where", "licence", "trained on")
    for row in output.table(rows, header=header, right=(2,)):
        output.result(row)
    output.hint("\nganzoo sample MODEL draws images, ganzoo show MODEL tells all of one.")


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
