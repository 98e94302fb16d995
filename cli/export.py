"""`ganzoo export`: take a generator out of PyTorch, as a file that is proven to draw the same images."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ganzoo.errors import GanzooError, UsageError

from . import output

if TYPE_CHECKING:
    from ganzoo.export.onnx.exporting import ExportReport, Layout, Pixels, Precision
    from ganzoo.references import ModelLocation


@click.command("export")
@click.argument("model", required=False)
@click.option("--onnx", is_flag=True, help="Write an ONNX file: the one form that there is, so it is asked for.")
@click.option(
    "--out", metavar="PATH", help="The file; left out: model.onnx beside the model's weights, or NAME.onnx here."
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Of weights and arithmetic; z and images stay as they are.",
)
@click.option(
    "--pixels",
    type=click.Choice(["float", "uint8"]),
    default="float",
    show_default=True,
    help="Images as numbers in [-1, 1], or as 0 to 255.",
)
@click.option(
    "--layout",
    type=click.Choice(["nchw", "nhwc"]),
    default="nchw",
    show_default=True,
    help="Of the images; nhwc with uint8 only.",
)
@click.option("--opset", type=int, default=18, show_default=True, metavar="N", help="Version of ONNX's operators.")
@click.option("--force", is_flag=True, help="Replace a file that is no export of ganzoo.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: str | None,
    onnx: bool,
    out: str | None,
    precision: Precision,
    pixels: Pixels,
    layout: Layout,
    opset: int,
    force: bool,
    as_json: bool,
) -> None:
    """Write a model's generator as one ONNX file, and print how near its images are to torch's.

    MODEL is a zoo name, the folder of a run or of a model, a .safetensors file or hf-hub:ORG/NAME; left out, it is the
    newest run. The file takes z (batch, latent_dim), and label (batch,) of a conditional model, and gives image. Before
    it appears it is held against torch, batch by batch: a file that does not draw the same images is not written.

    \b
    Examples:
      ganzoo export --onnx
      ganzoo export dcgan-mnist --onnx --precision int8
      ganzoo export runs/00000-dcgan-digits --onnx --pixels uint8 --out digits.onnx
    """
    if not onnx:
        raise UsageError("Nothing says what to export to.", "Add --onnx: ganzoo export --onnx")
    from .terminal import TerminalReporter

    with TerminalReporter() as terminal:
        terminal.status("Loading PyTorch ...")
        from ganzoo.export.onnx.exporting import export_onnx
        from ganzoo.models import load_model
        from ganzoo.references import resolve_model

        location = resolve_model(model, progress=terminal.fetching)
        if location.said is not None:
            terminal.close()
            output.note(location.said)
        if location.kind == "onnx":
            raise UsageError(f"{location.path} is an ONNX file already.", "Name the model that it was made of.")
        path = Path(out) if out is not None else default_path(location, model, suffix_of(precision, pixels, layout))
        report = export_onnx(
            load_model(location.path),
            path,
            precision=precision,
            pixels=pixels,
            layout=layout,
            opset=opset,
            force=force,
            progress=terminal.status,
        )
    if as_json:
        output.result_json({"model": location.path, **report.to_dict()})
        return
    for line in _lines(report):
        output.result(line)


def suffix_of(precision: str, pixels: str, layout: str) -> str:
    """Return what the settings add to a file's name: "" for the defaults, "-fp16", "-int8-uint8" …"""
    parts = [value for value, default in ((precision, "fp32"), (pixels, "float"), (layout, "nchw")) if value != default]
    return "".join(f"-{part}" for part in parts)


def default_path(location: ModelLocation, reference: str | None, suffix: str) -> Path:
    """Return where an export goes if nobody says: beside the weights, or, of the zoo and the Hub, the current folder.

    Args:
        location: of the model.
        reference: as it was named.
        suffix: of the settings.

    Raises:
        GanzooError: the model's folder cannot be written to.
    """
    if location.origin in ("zoo", "hub"):
        name = (reference or "model").rpartition("/")[2].rpartition(":")[2].partition("@")[0]
        return Path(f"{name}{suffix}.onnx")
    folder = location.path if location.kind == "folder" else location.path.parent
    if not os.access(folder, os.W_OK):
        raise GanzooError(f"{folder} cannot be written to.", "Say where the file shall be: --out PATH")
    return folder / f"{'model' if location.kind == 'folder' else location.path.stem}{suffix}.onnx"


def _lines(report: ExportReport) -> list[str]:
    unit = "levels" if report.pixels == "uint8" else "of the range"
    parity = [
        (str(row.batch), f"{row.max_error:.2g}", f"{row.mean_error:.2g}", _decibels(row.psnr)) for row in report.parity
    ]
    latency = [
        (str(row.batch), f"{row.onnx_ms:.2f} ms", f"{row.torch_ms:.2f} ms", f"{row.torch_ms / row.onnx_ms:.1f}×")
        for row in report.latency
    ]
    threads = f"{report.threads} thread{'s' if report.threads > 1 else ''}"
    first = f" but for {_layers(report.float_layers)} in float32" if report.float_layers else ""
    what = [report.precision + first, f"{report.pixels} {report.layout}", f"opset {report.opset}"]
    return [
        str(report.path),
        f"{output.size_of(report.bytes)}, {', '.join(what)}, sha256 {report.sha256}",
        "",
        f"Difference from torch, held to a {report.bound}",
        *output.table(
            parity,
            header=("batch", f"largest ({unit})", f"mean ({unit})", "PSNR"),
            right=(0, 1, 2, 3),
            indent="  ",
        ),
        "",
        f"One batch on the CPU, {threads}",
        *output.table(
            latency, header=("batch", "ONNX Runtime", "eager torch", "faster by"), right=(0, 1, 2, 3), indent="  "
        ),
        "",
        f"Next: {report.next_command}",
    ]


def _decibels(psnr: float) -> str:
    return f"{psnr:.1f} dB" if math.isfinite(psnr) else "equal"


def _layers(count: int) -> str:
    return "the first layer" if count == 1 else f"the first {count} layers"
