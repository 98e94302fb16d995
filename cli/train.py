"""`ganzoo train`: train a GAN, watch it, and be told where everything is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import output
from .processes import launch, one_voice

if TYPE_CHECKING:
    from pathlib import Path

    from ganzoo.training.api import TrainingPlan
    from ganzoo.training.trainer import TrainingResult


class Device(click.ParamType[str]):
    """auto, cpu, cuda or cuda:N."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the device's name."""
        text = str(value)
        kind, colon, number = text.partition(":")
        if text in ("auto", "cpu", "cuda") or (kind == "cuda" and colon and number.isascii() and number.isdigit()):
            return text
        raise click.BadParameter(f"{text!r} is none of auto, cpu, cuda, cuda:N.", ctx, param)


@click.command("train")
@click.argument("recipe", required=False)
@click.option(
    "--data", metavar="SOURCE", help="Images to train on, instead of the recipe's: a name, a folder, a zip ..."
)
@click.option("--kimg", type=click.FloatRange(0, min_open=True), metavar="N", help="Length in thousands of images.")
@click.option("--epochs", type=click.FloatRange(0, min_open=True), metavar="N", help="Length in passes over the data.")
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Length in rounds of updates.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change an entry, e.g. optimizer.lr=1e-4; may be repeated.",
)
@click.option(
    "--init",
    metavar="MODEL",
    help="Begin with this model's weights: a zoo name, a run or model folder, a .safetensors file, hf-hub:ORG/NAME.",
)
@click.option(
    "--device", type=Device(), default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda or cuda:N."
)
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16"]), help="Of the arithmetic; the recipe's if left out."
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "eager", "graph"]),
    help="How steps are carried out: the fastest way, the plain one, or as a CUDA graph; the recipe's if left out.",
)
@click.option(
    "--seed",
    type=int,
    metavar="N",
    help="Of all random numbers; the recipe's if left out.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="The run's folder; the next number under runs/ if left out.",
)
@click.option(
    "--resume", type=click.Path(file_okay=False), metavar="RUN", help="Go on with this run; RECIPE may be left out."
)
@click.option(
    "--gpus", type=click.IntRange(1), metavar="N", help="Train on N GPUs of this machine, a process each; see below."
)
@click.option("--processes", type=click.IntRange(1), metavar="N", help="Likewise, in N processes on the CPU.")
@click.option(
    "--dry-run", is_flag=True, help="Check everything and say what would be done; read no images, write nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    recipe: str | None,
    as_json: bool,
    dry_run: bool,
    gpus: int | None,
    processes: int | None,
    **options: Any,
) -> None:
    """Train a GAN by a recipe: a name (see `ganzoo list`) or a TOML file.

    Ctrl-C stops after the current step and writes a checkpoint; --resume RUN goes on from it, exactly.

    Several GPUs share every batch: --gpus N on this machine, torchrun ... -m ganzoo train ... on several. The numbers
    drawn are those of one process. Processes that die are started again and go on from the newest checkpoint.

    \b
    Examples:
      ganzoo train dcgan-digits
      ganzoo train dcgan-tutorial64 --data my_images/ --kimg 500
      ganzoo train dcgan-mnist --set optimizer.lr=1e-4 --set train.batch_size=64
      ganzoo train --resume runs/00000-dcgan-digits --kimg 400
      ganzoo train dcgan-lsun --gpus 4
    """
    _check(recipe, options)
    several = _several(options, gpus, processes)
    with one_voice() as speaks:
        if several and not dry_run:
            ctx.exit(launch(["train", *_as_typed(ctx, options)], several, on_gpus=gpus is not None))
        if dry_run:
            from ganzoo.training.api import plan

            planned = plan(recipe, processes=several, **options)
            if speaks:
                _show_plan(planned, as_json)
        elif speaks:
            _show(_train(recipe, options), as_json)
        else:
            from ganzoo.training.api import train

            train(recipe, **options)


def _several(options: dict[str, Any], gpus: int | None, processes: int | None) -> int | None:
    """Return how many processes are to be started, or None; the device that this means is put into the options."""
    if gpus is None and processes is None:
        return None
    if gpus is not None and processes is not None:
        raise click.UsageError("--gpus is a number of processes already; leave out --processes.")
    name, device = ("--gpus", "cuda") if gpus is not None else ("--processes", "cpu")
    if options["device"] not in ("auto", device):
        raise click.UsageError(f"{name} means --device {device}, not {options['device']}.")
    options["device"] = device
    return gpus or processes


def _as_typed(ctx: click.Context, options: dict[str, Any]) -> list[str]:
    """Return the arguments of this command as they can be given to the processes that it starts."""
    words: list[str] = []
    recipe = None
    for parameter in ctx.command.params:
        value = options.get(parameter.name or "", ctx.params.get(parameter.name or ""))
        if parameter.name in ("gpus", "processes") or value in (None, False, ()):
            continue
        if isinstance(parameter, click.Argument):
            recipe = value
        elif value is True:
            words.append(parameter.opts[0])
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"{parameter.opts[0]}={one}" for one in values]
    return words if recipe is None else [*words, "--", recipe]


def _train(recipe: str | None, options: dict[str, Any]) -> TrainingResult:
    """Train, and show it."""
    from .terminal import TerminalReporter

    with TerminalReporter() as reporter:
        reporter.status("Loading PyTorch ...")
        from ganzoo.training.api import train

        reporter.status("Reading the recipe and the data ...")
        return train(recipe, reporters=[reporter], pack_progress=reporter.packing, **options)


def _show(result: TrainingResult, as_json: bool) -> None:
    if as_json:
        output.result_json(
            {
                "run": result.run,
                "model": result.model,
                "step": result.step,
                "kimg": result.kimg,
                "seconds": result.seconds,
                "images_per_second": _rate(result),
                "pictures": result.pictures,
                "already_done": result.already_done,
            }
        )
        return
    _show_result(result)


def _check(recipe: str | None, options: dict[str, Any]) -> None:
    if recipe is None and options["resume"] is None:
        raise click.UsageError("Name a recipe, such as dcgan-digits, or a run to go on with (--resume RUN).")
    lengths = [f"--{name}" for name in ("kimg", "epochs", "steps") if options[name] is not None]
    if len(lengths) > 1:
        raise click.UsageError(f"{' and '.join(lengths)} are several lengths; give one.")
    if options["seed"] is not None and not 0 <= options["seed"] < 1 << 63:
        raise click.UsageError(f"--seed {options['seed']} is not between 0 and 2^63 - 1.")
    if options["resume"] is not None:
        for name in ("out", "init"):
            if options[name] is not None:
                raise click.UsageError(f"--{name} cannot be given with --resume, for a run has its own.")


def _show_plan(plan: TrainingPlan, as_json: bool) -> None:
    if as_json:
        output.result_json(
            {
                "recipe": plan.recipe.to_dict(),
                "run": plan.run,
                "device": plan.device,
                "processes": plan.processes,
                "precision": plan.precision,
                "engine": {"name": plan.engine.name, "fast": plan.engine.fast, "why": plan.engine.why},
                "data": plan.data,
                "total_steps": plan.total_steps,
                "total_kimg": plan.total_kimg,
                "images_per_step": plan.images_per_step,
                "parameters": plan.parameters,
                "resumes_from": plan.resumes_from,
            }
        )
        return
    size = plan.recipe.data
    _table(
        ("recipe", plan.recipe.name),
        ("run", str(plan.run) + (f", going on from {plan.resumes_from.name}" if plan.resumes_from else ", new")),
        ("device", f"{plan.device}{output.times(plan.processes)}, {plan.precision}{_engine_of(plan)}"),
        ("data", f"{plan.data}, as {size.channels}×{size.image_size}×{size.image_size}"),
        ("parameters", ", ".join(f"{name} {output.count(number)}" for name, number in plan.parameters.items())),
        ("length", f"{plan.total_kimg:,.6g} kimg = {plan.total_steps:,} steps of {plan.images_per_step:,} images"),
    )
    output.note("Nothing was read or written: this was a dry run.")


def _engine_of(plan: TrainingPlan) -> str:
    """Return what there is to say of how steps would be carried out; on a processor there is no choice."""
    if plan.engine.name == "graph":
        return ", CUDA graph"
    return f", no CUDA graph: {plan.engine.why}" if plan.engine.why else ""


def _show_result(result: TrainingResult) -> None:
    if result.already_done:
        output.result(f"This run is finished already: {result.kimg:,.6g} kimg, {result.step:,} steps.")
    else:
        output.result(
            f"Done: {result.kimg:,.6g} kimg, {result.step:,} steps in {output.duration(result.seconds)} "
            f"({_rate(result):,.0f} images/s)."
        )
    _table(
        ("run", str(result.run)),
        *([("model", str(result.model))] if result.model else []),
        *((name, str(path)) for name, path in sorted(result.pictures.items(), key=lambda item: item[0] != "samples")),
    )
    longer = max(1, round(2 * result.kimg, 1 if result.kimg < 10 else None))
    output.note("\nNext:")
    for line in output.table(
        [
            (f"ganzoo sample {_quoted(result.run)}", "draw images"),
            (f"ganzoo show {_quoted(result.run)}", "its recipe and networks"),
            (f"ganzoo train --resume {_quoted(result.run)} --kimg {longer:g}", "train on"),
        ],
        indent="  ",
    ):
        output.note(line)


def _table(*rows: tuple[str, str]) -> None:
    for line in output.table(rows, indent="  "):
        output.result(line)


def _rate(result: TrainingResult) -> float:
    return result.kimg * 1000 / result.seconds if result.seconds > 0 else 0.0


def _quoted(path: Path) -> str:
    """Return a path as it can be typed."""
    text = str(path)
    return f'"{text}"' if any(sign.isspace() for sign in text) else text
