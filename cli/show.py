"""`ganzoo show`: a recipe as it would be trained, with the networks layer by layer, and what a model's weights are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ganzoo.errors import DownloadError, UnknownNameError

from . import output

if TYPE_CHECKING:
    from ganzoo.model_facts import ModelFacts
    from ganzoo.recipes import Recipe
    from ganzoo.summary import NetworkSummary, RecipeSummary

_LONGEST_ARRAY = 100


_WEIGHTS = {"ema": "the generator's moving average", "raw": "the generator itself"}


@dataclass(frozen=True)
class Found:
    """What a reference names.

    Args:
        recipe: what `load_recipe` reads.
        description: a line.
        model: facts of the model, where it is one.
        path: where the model is.
    """

    recipe: Any
    description: str
    model: ModelFacts | None = None
    path: Path | None = None


@click.command("show")
@click.argument("reference", metavar="RECIPE|MODEL")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change an entry, e.g. optimizer.lr=1e-4; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(reference: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show a recipe or a model: all settings, and the networks layer by layer with their parameters and FLOPs; of a
    model also what its weights are.

    RECIPE is a name (see `ganzoo list`), a TOML file, or a run's folder; MODEL is a model's folder, a .safetensors or
    .onnx file, or hf-hub:ORG/NAME. What is printed is a TOML file itself:

    \b
      ganzoo show dcgan-digits > mine.toml
      ganzoo train mine.toml

    FLOPs are those of convolutions and matrix products; a multiplication with its addition counts as two.
    """
    from ganzoo.building import load_recipe
    from ganzoo.summary import summarize

    found = find(reference)
    if overrides:  # a recipe with other settings is not that of the weights
        found = replace(found, model=None)
    resolved = load_recipe(found.recipe, overrides)
    summary = summarize(resolved)
    if as_json:
        model = None if found.model is None else {"path": found.path, **_model_json(found.model)}
        shown = {"recipe": resolved.to_dict(), "description": found.description, "model": model, **asdict(summary)}
        output.result_json(shown)
        return
    if found.description:
        output.result(f"# {found.description}")
    for line in _model_lines(found):
        output.result(f"# {line}".rstrip())
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


def find(reference: str) -> Found:
    """Return what a name, a file, a folder or a model reference names.

    Raises:
        UnknownNameError: a bare name that names nothing; the nearest is offered.
        ModelReferenceError: another reference that names nothing.
    """
    from ganzoo.recipes import describe_recipe, list_recipes
    from ganzoo.training.run import is_run, open_run

    if reference in list_recipes():
        return Found(reference, describe_recipe(reference), *_published(reference))
    path = Path(reference)
    if reference.endswith(".toml"):
        return Found(path, _first_comment(path))
    if path.is_dir() and is_run(path) and not (path / "model").is_dir():  # it need not be finished
        return Found(open_run(path).recipe, f"The recipe of {reference}.")
    return _model(reference, list_recipes())


def _model(reference: str, recipes: list[str]) -> Found:
    from ganzoo.model_facts import model_facts
    from ganzoo.references import resolve_model
    from ganzoo.zoo import list_pretrained

    bare = not any(sign in reference for sign in "/\\:.") and not Path(reference).exists()
    if bare and reference not in (published := list_pretrained()):
        raise UnknownNameError("recipe or model", reference, {*recipes, *published})
    location = resolve_model(reference)
    if location.said is not None:
        output.note(location.said)
    facts = model_facts(location)
    return Found(facts.config.recipe, f"The recipe of {reference}.", facts, location.path)


def _published(name: str) -> tuple[ModelFacts | None, Path | None]:
    """Return what can be said of a recipe's published weights where they are here; nothing is fetched."""
    from ganzoo.model_facts import model_facts
    from ganzoo.references import resolve_model
    from ganzoo.zoo import list_pretrained

    if name not in list_pretrained():
        return None, None
    try:
        location = resolve_model(name, local_files_only=True)
    except DownloadError:
        return None, None
    return model_facts(location), location.path


def _model_json(facts: ModelFacts) -> dict[str, Any]:
    config = facts.config
    return {
        "weights": config.weights,
        "step": config.step,
        "kimg": config.kimg,
        "licence": config.licence,
        "data": config.data,
        "sha256": facts.sha256,
        "bytes": facts.bytes,
        "form": facts.form,
        "metrics": list(facts.metrics),
    }


def _model_lines(found: Found) -> list[str]:
    if found.model is None:
        return []
    facts, config = found.model, found.model.config
    rows = [
        ("path", str(found.path)),
        ("weights", f"{_WEIGHTS[config.weights]}, after {config.step:,} steps = {config.kimg:,.6g} kimg"),
        ("trained on", _data(config.data)),
        ("licence", config.licence or "not stated"),
        *facts.form.items(),
        *((one["name"], f"{one['value']:g} ({one['protocol']})") for one in facts.metrics),
        *((name, f"{output.size_of(facts.bytes[name])}, sha256 {digest}") for name, digest in facts.sha256.items()),
    ]
    return ["", "Model", *output.table(rows, indent="  "), ""]


def _data(data: Mapping[str, Any]) -> str:
    images = data.get("images")
    count = f", {images:,} images" if isinstance(images, int) else ""
    return f"{data.get('description') or 'not recorded'}{count}"


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
