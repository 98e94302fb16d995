"""`ganzoo sample`: draw images from a trained model."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ganzoo.errors import UsageError
from ganzoo.torchrun import Place, place

from . import output
from .processes import one_voice
from .train import Device

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ganzoo.image_files import Seeds
    from ganzoo.references import ModelLocation
    from ganzoo.training.processes import World

    from .terminal import TerminalReporter

    Labels = npt.NDArray[np.int64]

_MOST_COLUMNS = 20


@click.command("sample")
@click.argument("model", required=False)
@click.option(
    "--seeds",
    default="0-63",
    show_default=True,
    metavar="SEEDS",
    help="Which images, e.g. 7 or 0-63,100: a seed names one.",
)
@click.option(
    "--labels", metavar="LABELS", help="Classes, in turn, e.g. 3 or 0,2,5-7; 'each': every seed with every class."
)
@click.option(
    "--out",
    default="samples.png",
    show_default=True,
    metavar="PATH",
    help="A .png (grid), a folder/, a .npz or a .zip.",
)
@click.option(
    "--truncation",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="PSI",
    help="Multiply z by PSI, above 0 and at most 1: more typical images, less varied ones.",
)
@click.option(
    "--batch-size", type=click.IntRange(1), default=64, show_default=True, metavar="N", help="Images drawn at once."
)
@click.option(
    "--runtime",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="torch, onnx, openvino or a plug-in's; auto: ONNX Runtime for an .onnx file, else torch.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="auto: fp32, or an .onnx file's own; bf16 (torch, openvino) is faster where the processor has it, and not "
    "the same to the last level.",
)
@click.option(
    "--device", type=Device(), default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda or cuda:N."
)
@click.option(
    "--provider", default="auto", show_default=True, metavar="NAME", help="Of ONNX Runtime: auto, cpu, cuda ..."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: str | None,
    seeds: str,
    labels: str | None,
    out: str,
    truncation: float | None,
    batch_size: int,
    runtime: str,
    precision: str,
    device: str,
    provider: str,
    as_json: bool,
) -> None:
    """Draw images from a trained model and print the path of what was written.

    MODEL is a zoo name (see `ganzoo list --pretrained`), the folder of a run or of a model, a .safetensors or .onnx
    file, or hf-hub:ORG/NAME; left out, it is the newest run. A seed names one image, its class too if no --labels are
    given. A folder gets a PNG a seed; a .npz holds the arrays images (uint8, N×H×W×C), seeds and labels; a .zip holds
    PNGs and is written in constant memory, whatever their number. Under torchrun the processes draw in turns, each on
    its own GPU, and one writes; into a folder each writes what it draws.

    \b
    Examples:
      ganzoo sample
      ganzoo sample dcgan-mnist --seeds 0-15 --out grid.png
      ganzoo sample runs/00000-dcgan-digits --labels each --seeds 0-7
      ganzoo sample model.onnx --seeds 7 --out seven.png
      ganzoo sample model.onnx --runtime openvino --precision bf16
      ganzoo sample --seeds 0-49999 --out images.zip
    """
    from ganzoo.image_files import kind_of
    from ganzoo.sampling import parse_seeds

    request = _Request(
        model,
        parse_seeds(seeds),
        labels,
        out,
        kind_of(out),
        truncation,
        batch_size,
        runtime,
        precision,
        device,
        provider,
    )
    with one_voice() as speaks, _world(here := place()) as world:
        drawn = _draw(request, here, world, speaks=speaks)
    if not speaks:
        return
    if as_json:
        output.result_json(drawn)
        return
    output.result(out)
    count, seconds = drawn["images"], drawn["seconds"]
    took = f"{seconds:.1f} s" if seconds < 10 else output.duration(seconds)
    output.note(f"{count:,} image{'s' if count > 1 else ''} in {took}.")


@dataclass(frozen=True)
class _Request:
    """The command's arguments."""

    model: str | None
    seeds: Seeds
    labels: str | None
    out: str
    kind: str
    truncation: float | None
    batch_size: int
    runtime: str
    precision: str
    device: str
    provider: str


@contextlib.contextmanager
def _world(here: Place) -> Iterator[World | None]:
    """Give the processes of torchrun; None where this one is alone, and torch need not be imported for that."""
    if here.size == 1:
        yield None
        return
    import torch

    from ganzoo.training.joining import join_world

    with join_world(torch.device("cpu"), here) as world:  # the images travel by the processors
        yield world


def _draw(request: _Request, here: Place, world: World | None, *, speaks: bool) -> dict[str, Any]:
    """Draw and write all images, and return what there is to tell."""
    from rich.console import Console

    from ganzoo.drawing import draw_batches
    from ganzoo.image_files import check_grid, open_writer
    from ganzoo.sampling import open_sampler

    from .terminal import TerminalReporter

    with TerminalReporter(None if speaks else Console(quiet=True)) as terminal:
        location = _locate(request.model, world, terminal)
        if location.said is not None and speaks:
            terminal.close()
            output.note(location.said)
        terminal.status("Loading the model ...")
        device = _device(request.device, here) if request.provider == "auto" else request.device
        sampler = open_sampler(
            location, runtime=request.runtime, device=device, provider=request.provider, precision=request.precision
        )
        seeds, labels, columns = choose(request.seeds, request.labels, sampler.num_classes)
        count = len(seeds)
        if request.kind == "grid":
            check_grid(count, sampler.image_size)
        gathered = request.kind != "folder"
        begun = time.perf_counter()
        with open_writer(request.out, count, columns) if speaks or not gathered else nullcontext() as writer:
            for first, images, of_seeds, of_labels in draw_batches(
                sampler,
                seeds,
                labels,
                world,
                truncation=request.truncation,
                batch_size=request.batch_size,
                gathered=gathered,
            ):
                assert writer is not None
                writer.add(images, of_seeds, of_labels)
                done = first + len(images)
                terminal.drawing(done, count, done / max(time.perf_counter() - begun, 1e-9))
        if world is not None:
            world.exchange(None)  # all parts of a folder are there
        seconds = time.perf_counter() - begun
    return {
        "model": location.path,
        "out": request.out,
        "kind": request.kind,
        "images": count,
        "image_size": sampler.image_size,
        "channels": sampler.channels,
        "num_classes": sampler.num_classes,
        "truncation": request.truncation,
        "seconds": seconds,
        "images_per_second": count / seconds if seconds > 0 else None,
    }


def _locate(model: str | None, world: World | None, terminal: TerminalReporter) -> ModelLocation:
    """Return where the model is: one process fetches it, and says which run is the newest."""
    from ganzoo.references import resolve_model

    if world is None:
        return resolve_model(model, progress=terminal.fetching)
    if not world.is_first:
        newest = world.tell()
        return resolve_model(model if model is not None else Path(newest))
    location = resolve_model(model, progress=terminal.fetching)
    world.tell(str(location.path))
    return location


def _device(name: str, here: Place) -> str:
    """Return the device of this process: with several on a machine, each has its own GPU."""
    if here.size == 1:
        return name
    from ganzoo.training.joining import device_here

    return str(device_here(name, here))


def choose(seeds: Seeds, labels: str | None, num_classes: int) -> tuple[Seeds, Labels | None, int | None]:
    """Return the seed and the label of every image, and the columns of a grid that show them best.

    Args:
        seeds: (n,) as asked for.
        labels: as asked for: None, "each", or classes, which are taken in turn.
        num_classes: of the model; 0 for none.

    Returns:
        seeds (m,), labels (m,) or None, columns or None.

    Raises:
        UsageError: labels for a model without classes, or out of range.
    """
    import numpy as np

    from ganzoo.sampling import labels_of

    if not num_classes:
        if labels is not None:
            raise UsageError("This model knows no classes.", "Leave out --labels.")
        return seeds, None, None
    if labels is None:
        return seeds, labels_of(seeds, num_classes), None  # as the library does: a seed names its class too
    classes = np.arange(num_classes) if labels == "each" else parse_labels(labels, num_classes)
    columns = len(classes) if 1 < len(classes) <= _MOST_COLUMNS else None
    if labels == "each":
        return np.repeat(seeds, num_classes), np.tile(classes, len(seeds)), columns
    return seeds, classes[np.arange(len(seeds)) % len(classes)], columns


def parse_labels(text: str, num_classes: int) -> Labels:
    """Return classes from text such as "0,2,5-7".

    Raises:
        UsageError: not of that form, reversed, or beyond the model's classes.
    """
    import numpy as np

    found: list[int] = []
    for part in text.split(","):
        first, dash, last = (one.strip() for one in part.partition("-"))
        ends = [first, last] if dash else [first]
        if not all(end.isascii() and end.isdigit() and len(end) < 10 for end in ends):
            raise UsageError(f"--labels {text!r} is not understood.", "Give classes such as 3 or 0,2,5-7, or 'each'.")
        low, high = int(ends[0]), int(ends[-1])
        if low > high:
            raise UsageError(f"--labels {part.strip()!r} runs backwards.", f"Write {high}-{low}.")
        if high >= num_classes:
            raise UsageError(f"--labels: there is no class {high}.", f"The classes are 0 to {num_classes - 1}.")
        found.extend(range(low, high + 1))
    return np.asarray(found, dtype=np.int64)
