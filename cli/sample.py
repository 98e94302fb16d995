"""`ganzoo sample`: draw images from a trained model."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from ganzoo.errors import UsageError

from . import output
from .train import Device

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ganzoo.image_files import Seeds

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
    type=click.Choice(["auto", "torch", "onnx"]),
    default="auto",
    show_default=True,
    help="auto: ONNX Runtime for an .onnx file, else torch.",
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
    device: str,
    provider: str,
    as_json: bool,
) -> None:
    """Draw images from a trained model and print the path of what was written.

    MODEL is a zoo name (see `ganzoo list --pretrained`), the folder of a run or of a model, a .safetensors or .onnx
    file, or hf-hub:ORG/NAME; left out, it is the newest run. A seed names one image, its class too if no --labels are
    given. A folder gets a PNG a seed; a .npz holds the arrays images (uint8, N×H×W×C), seeds and labels; a .zip holds
    PNGs and is written in constant memory, whatever their number.

    \b
    Examples:
      ganzoo sample
      ganzoo sample dcgan-mnist --seeds 0-15 --out grid.png
      ganzoo sample runs/00000-dcgan-digits --labels each --seeds 0-7
      ganzoo sample model.onnx --seeds 7 --out seven.png
      ganzoo sample --seeds 0-49999 --out images.zip
    """
    from ganzoo.image_files import check_grid, kind_of, open_writer
    from ganzoo.references import resolve_model
    from ganzoo.sampling import open_sampler, parse_seeds

    from .terminal import TerminalReporter

    kind = kind_of(out)
    chosen = parse_seeds(seeds)
    with TerminalReporter() as terminal:
        location = resolve_model(model, progress=terminal.fetching)
        if location.said is not None:
            terminal.close()
            output.note(location.said)
        terminal.status("Loading the model ...")
        sampler = open_sampler(location, runtime=runtime, device=device, provider=provider)
        drawn_seeds, drawn_labels, columns = choose(chosen, labels, sampler.num_classes)
        count = len(drawn_seeds)
        if kind == "grid":
            check_grid(count, sampler.image_size)
        begun = time.perf_counter()
        with open_writer(out, count, columns) as writer:
            for first in range(0, count, batch_size):
                part = slice(first, first + batch_size)
                part_labels = None if drawn_labels is None else drawn_labels[part]
                images = sampler.pixels(drawn_seeds[part], part_labels, truncation=truncation, batch_size=batch_size)
                writer.add(images, drawn_seeds[part], part_labels)
                done = min(first + batch_size, count)
                rate = done / max(time.perf_counter() - begun, 1e-9)
                terminal.drawing(done, count, rate)
        seconds = time.perf_counter() - begun
    if as_json:
        output.result_json(
            {
                "model": location.path,
                "out": out,
                "kind": kind,
                "images": count,
                "image_size": sampler.image_size,
                "channels": sampler.channels,
                "num_classes": sampler.num_classes,
                "truncation": truncation,
                "seconds": seconds,
                "images_per_second": count / seconds if seconds > 0 else None,
            }
        )
        return
    output.result(out)
    took = f"{seconds:.1f} s" if seconds < 10 else output.duration(seconds)
    output.note(f"{count:,} image{'s' if count > 1 else ''} in {took}.")


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
