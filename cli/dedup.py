"""`ganzoo data dedup`: find duplicates in images, show them, and write a pack without them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import output

if TYPE_CHECKING:
    from ganzoo.data.dedup import Duplicates

_GROUPS_SHOWN = 8
_NAMES_SHOWN = 3


@click.command("dedup")
@click.argument("source", metavar="SOURCE|PACK")
@click.option(
    "--method",
    type=click.Choice(["phash", "autoencoder", "both"]),
    default="phash",
    show_default=True,
    help="Perceptual hashes, or the DCGAN paper's auto-encoder, trained on the images.",
)
@click.option(
    "--distance",
    type=click.IntRange(0, 16),
    default=6,
    show_default=True,
    help="Perceptual hashes may differ in so many of 64 bits.",
)
@click.option(
    "--difference",
    type=float,
    default=0.8,
    show_default=True,
    help="Contrasts by which a patch of two duplicates may differ; less is stricter.",
)
@click.option("--flips/--no-flips", default=True, show_default=True, help="Whether mirror images are duplicates.")
@click.option("--crops/--no-crops", default=True, show_default=True, help="Whether an image's middle is one (phash).")
@click.option(
    "--compare/--no-compare",
    default=True,
    show_default=True,
    help="Compare the pixels of what the hashes find; without it they decide alone, as in the paper.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the auto-encoder.")
@click.option("--out", type=click.Path(file_okay=False), metavar="DIR", help="Write a pack without duplicates there.")
@click.option("--report", type=click.Path(file_okay=False), metavar="DIR", help="Write the list and pictures there.")
@click.option("--image-size", type=click.IntRange(1, 8192), help="Of the pack of --out; default 64, or the pack's.")
@click.option("--channels", type=click.Choice(["1", "3"]), help="Of the pack of --out; default 3, or the pack's.")
@click.option(
    "--crop",
    type=click.Choice(["center", "lsun", "celeba", "none"]),
    default="center",
    show_default=True,
    help="The part of an image that is looked at and kept.",
)
@click.option("--max-images", type=click.IntRange(1), metavar="N", help="At most so many, taken evenly over all.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def dedup(
    source: str,
    out: str | None,
    report: str | None,
    image_size: int | None,
    channels: str | None,
    crop: Any,
    max_images: int | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Find duplicates in SOURCE, and write a pack without them with --out; nothing is deleted in SOURCE.

    Without --out it only tells. Of each group of duplicates the first image is kept. Thumbnails are kept in the
    cache, 3 kB an image.

    \b
    Examples:
      ganzoo data dedup photos/ --report look/
      ganzoo data dedup photos/ --out packs/clean --image-size 64
      ganzoo data dedup lsun:bedroom_train --method both --no-flips
    """
    from pathlib import Path

    from ganzoo.data import DataRequest, open_source
    from ganzoo.data.dedup import DedupOptions, deduplicate, find_duplicates, write_report
    from ganzoo.data.specs import PackSource
    from ganzoo.errors import UsageError

    from .terminal import TerminalReporter

    options = DedupOptions(**asked)
    for option, path in (("--out", out), ("--report", report)):
        if path is not None and Path(path).exists():
            raise UsageError(f"{option} {path!r} exists already.", "Choose another folder.")
    if out is None and (image_size is not None or channels is not None):
        raise UsageError("--image-size and --channels are of the pack that --out writes.", "Give --out DIR.")
    with TerminalReporter() as reporter, open_source(source) as opened:
        show = _SearchProgress(reporter)
        found = find_duplicates(opened, options, crop=crop, max_images=max_images, progress=show)
        told = {**found.summary(), "pack": out, "report": report}
        if report is not None:
            write_report(found, report)
        if out is not None:
            own = (opened.pack.image_size, opened.pack.channels) if isinstance(opened, PackSource) else (64, 3)
            request = DataRequest(image_size or own[0], int(channels or own[1]), crop, max_images=max_images)
            deduplicate(opened, request, out, duplicates=found, progress=show).close()
    if as_json:
        output.result_json({**told, "largest_groups": _largest_groups(found)})
        return
    _print_duplicates(told, found)
    if out is not None:
        output.hint(f"\nganzoo train RECIPE --data {out} trains without the duplicates.")
    elif report is None and found.groups:
        output.hint("\n--report DIR shows them; --out DIR writes a pack without them.")


class _SearchProgress:
    """Shows how far a search for duplicates is."""

    def __init__(self, reporter: Any) -> None:
        self._reporter = reporter

    def __call__(self, progress: Any) -> None:
        from ganzoo.data import PackProgress

        if isinstance(progress, PackProgress):
            self._reporter.packing(progress)
        else:
            self._reporter.status(f"{progress.stage} {progress.done:,}/{progress.total:,}")


def _largest_groups(found: Duplicates) -> list[dict[str, Any]]:
    groups = [found.groups[number] for number in found.largest(_GROUPS_SHOWN)]
    return [{"kept": one.names[0], "removed": list(one.names[1:])} for one in groups]


def _print_duplicates(told: dict[str, Any], found: Duplicates) -> None:
    parameters = ", ".join(f"{name} {_cell(value)}" for name, value in told.pop("parameters").items())
    rows = [(name.replace("_", " "), _cell(value)) for name, value in told.items() if value is not None]
    rows.append(("parameters", parameters))
    for place, group in enumerate(_largest_groups(found)):
        names = ", ".join(group["removed"][:_NAMES_SHOWN])
        more = f" and {len(group['removed']) - _NAMES_SHOWN:,} more" if len(group["removed"]) > _NAMES_SHOWN else ""
        rows.append(("largest groups" if place == 0 else "", f"{group['kept']} = {names}{more}"))
    for line in output.table(rows):
        output.result(line)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
