"""`ganzoo convert`: turn weights of any source into a model of ganzoo's, without running what is in them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from . import output

if TYPE_CHECKING:
    from ganzoo.export.conversion.converting import ConversionReport, Precision
    from ganzoo.export.conversion.planning import Network


@click.command("convert")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--recipe", metavar="NAME|FILE", help="What the networks are, if they are not to be recognised.")
@click.option(
    "--dtype", type=click.Choice(["fp32", "fp16", "bf16"]), help="Numbers of the weights; left out: as they are."
)
@click.option("--discriminator", metavar="FILE", help="A second checkpoint, to take the discriminator from.")
@click.option("--licence", metavar="TEXT", help="Of the weights, e.g. MIT; left out: as the source says.")
@click.option("--force", is_flag=True, help="Replace the model that is at DST.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    source: str,
    target: str,
    recipe: str | None,
    dtype: Precision | None,
    discriminator: str | None,
    licence: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Turn weights into a model and print its path and what was recognised.

    SRC is a checkpoint (.pt, .pth, .ckpt, .bin, .safetensors) of the PyTorch tutorial's DCGAN, torchgan's, ganzoo's own
    or a net like them, however it is wrapped, or a model (see `ganzoo sample --help`). DST is a new folder, or a file
    whose name ends in .safetensors. Nothing that is in SRC is run: a file that would have to be is refused.

    \b
    Examples:
      ganzoo convert netG.pth my-dcgan --discriminator netD.pth
      ganzoo convert epoch=99.ckpt my-dcgan --licence MIT
      ganzoo convert weights.pt my-dcgan --recipe dcgan-tutorial64
      ganzoo convert dcgan-mnist small.safetensors --dtype fp16
    """
    from .terminal import TerminalReporter

    with TerminalReporter() as terminal:
        terminal.status("Loading PyTorch ...")
        from ganzoo.export.conversion.converting import convert

        terminal.status(f"Converting {source} ...")
        report = convert(
            source, target, recipe=recipe, dtype=dtype, licence=licence, discriminator=discriminator, force=force
        )
    named = shlex.quote(_as_path(str(report.target)))
    following = [f"ganzoo sample {named}", f"ganzoo export {named} --onnx"]
    if as_json:
        output.result_json({**report.to_dict(), "next": following})
        return
    output.result(str(report.target))
    for line in _lines(report):
        output.result(line)
    output.result("\n".join(("Next:", *(f"  {line}" for line in following))))


def _as_path(text: str) -> str:
    """Return a path as a model reference that cannot be taken for a zoo name."""
    return text if text.startswith(("/", "./", "../", "~")) or "/" in text else f"./{text}"


def _lines(report: ConversionReport) -> list[str]:
    classes = f", {report.num_classes} classes" if report.num_classes else ""
    colour = "grey" if report.channels == 1 else "RGB"
    images = f"{report.image_size}×{report.image_size} {colour}{classes}, z of {report.latent_dim}"
    facts = [("images", images), ("recipe", report.recipe)]
    for network in report.networks:
        facts.append((network.role, _described(network)))
    facts.append(("numbers", ", ".join(report.dtype)))
    rows = [(name, output.size_of(entry["bytes"]), entry["sha256"]) for name, entry in sorted(report.files.items())]
    return [
        *output.table(facts, indent="  "),
        "",
        *(f"- {note}" for note in report.notes),
        *([""] if report.notes else []),
        *output.table(rows, header=("file", "size", "sha256"), right=(1,), indent="  "),
        "",
    ]


def _described(network: Network) -> str:
    parts = [network.architecture, f"{output.count(network.parameters)} parameters"]
    if network.place:
        parts.append(f"at {' → '.join(network.place)}")
    if network.prefix:
        parts.append(f"without the prefix {network.prefix}")
    if network.ema:
        parts.append("moving average")
    return ", ".join(parts)
