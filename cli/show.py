"""`ganzoo show`: a recipe as it would be trained, with the networks layer by layer."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import output

if TYPE_CHECKING:
    from ganzoo.recipes import Recipe
    from ganzoo.summary import NetworkSummary, RecipeSummary

_LONGEST_ARRAY = 100


@click.command("show")
@click.argument("recipe", metavar="RECIPE")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change an entry, e.g. optimizer.lr=1e-4; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show a recipe: all its settings, and the networks layer by layer with their parameters and FLOPs.

    RECIPE is a name (see `ganzoo list`), a TOML file, or the folder of a run or a model. What is printed is a TOML file
    itself:

    \b
      ganzoo show dcgan-digits > mine.toml
      ganzoo train mine.toml

    FLOPs are those of convolutions and matrix products; a multiplication with its addition counts as two.
    """
    from ganzoo.building import load_recipe
    from ganzoo.summary import summarize

    where, description = _find(recipe)
    resolved = load_recipe(where, overrides)
    summary = summarize(resolved)
    if as_json:
        output.result_json({"recipe": resolved.to_dict(), "description": description, **asdict(summary)})
        return
    if description:
        output.result(f"# {description}")
    output.result(toml(resolved).rstrip("\n"))
    for line in _tables(summary):
        output.result(f"# {line}".rstrip())


def toml(recipe: Recipe) -> str:
    """Return the recipe as TOML, with short arrays on one line."""

    def on_one_line(match: re.Match[str]) -> str:
        entries = [entry.strip().removesuffix(",") for entry in match[1].splitlines() if entry.strip()]
        line = f"[{', '.join(entries)}]"
        return line if len(line) <= _LONGEST_ARRAY else match[0]

    return re.sub(r"\[\n((?:[^\[\]{}\n]+,\n)+)\]", on_one_line, recipe.to_toml())


def _find(reference: str) -> tuple[Any, str]:
    """Return what `load_recipe` reads for a name, a file or a folder, and a line that describes it."""
    from ganzoo.recipes import describe_recipe

    if Path(reference).is_dir():
        from ganzoo.models import read_config
        from ganzoo.references import resolve_model
        from ganzoo.training.run import is_run, open_run

        if is_run(Path(reference)):  # it need not be finished
            return open_run(reference).recipe, f"The recipe of {reference}."
        return read_config(resolve_model(reference).path).recipe, f"The recipe of {reference}."
    if reference.endswith(".toml") or "/" in reference or "\\" in reference:
        return Path(reference), _first_comment(Path(reference))
    return reference, describe_recipe(reference)


def _first_comment(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline(1000)
    except (OSError, UnicodeDecodeError):  # reading the recipe tells what is wrong
        return ""
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _tables(summary: RecipeSummary) -> list[str]:
    generator, discriminator = summary.generator, summary.discriminator
    return [
        "",
        *_network("Generator", generator),
        "",
        *_network("Discriminator", discriminator),
        "",
        "Operations for one image",
        *output.table(
            [
                ("generator, forward", f"{generator.flops / 1e6:,.2f}"),
                ("discriminator, forward", f"{discriminator.flops / 1e6:,.2f}"),
                ("training, for each real image", f"{summary.step_flops / 1e6:,.2f}"),
            ],
            header=("", "MFLOP"),
            right=(1,),
            indent="  ",
        ),
    ]


def _network(title: str, network: NetworkSummary) -> list[str]:
    rows = [
        (
            layer.path or "(itself)",
            layer.type + (f" ×{layer.calls}" if layer.calls > 1 else ""),
            ", ".join(_shape(shape) for shape in layer.output) or "not used",
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.flops / 1e6:,.2f}" if layer.flops else "",
        )
        for layer in network.layers
    ]
    total = ("total", "", "", f"{network.parameters:,}", f"{network.flops / 1e6:,.2f}")
    lines = output.table(
        [*rows, total], header=("layer", "type", "output", "parameters", "MFLOP"), right=(3, 4), indent="  "
    )
    return [f"{title} {network.name}: {_shape(network.input)} → {_shape(network.output)}", *lines]


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) if shape else "1"
