"""`ganzoo data`: pack images for training, look into sources and packs, and leave out duplicates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import output
from .dedup import dedup

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from ganzoo.data import DataRequest, Pack, Source

_GRID_IMAGES = 64
_CLASSES_SHOWN = 20


@click.group("data")
def group() -> None:
    """Pack images for training, look into packs, and leave out duplicates.

    Training packs what it needs by itself; packing before shows what is in the data, and how fast it goes.

    \b
    A SOURCE is
      a name: digits, rooms, mnist, cifar10, flowers, lsun:bedroom_train, torchvision:NAME,
        hf:ORG/NAME[@REVISION][:SPLIT] of the Hugging Face Hub
      a path: a folder of images, a zip, parquet files (one, or a folder), WebDataset tars (one, a folder,
        shards/{000..099}.tar), an LSUN LMDB folder, MNIST's idx files, CIFAR's tar, .npy, .npz, a pack
    """


group.add_command(dedup)


@group.command("pack")
@click.argument("source")
@click.option(
    "--image-size", type=click.IntRange(1, 8192), default=64, show_default=True, help="Height and width in pixels."
)
@click.option("--channels", type=click.Choice(["1", "3"]), default="3", show_default=True, help="1 is grey, 3 is RGB.")
@click.option(
    "--crop",
    type=click.Choice(["center", "lsun", "celeba", "none"]),
    default="center",
    show_default=True,
    help="The part of an image that is kept; none stretches it.",
)
@click.option(
    "--resize", type=click.Choice(["lanczos", "box"]), default="lanczos", show_default=True, help="The filter."
)
@click.option("--max-images", type=click.IntRange(1), metavar="N", help="At most so many, taken evenly over all.")
@click.option(
    "--out", type=click.Path(file_okay=False), metavar="DIR", help="The pack's folder; in the cache if left out."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def pack(
    source: str,
    image_size: int,
    channels: str,
    crop: Any,
    resize: Any,
    max_images: int | None,
    out: str | None,
    as_json: bool,
) -> None:
    """Turn SOURCE into a pack: decoded, cropped and resized once, ready for training.

    A pack that exists already is found again. Images that cannot be used are left out and counted.

    \b
    Examples:
      ganzoo data pack my_images/ --image-size 64
      ganzoo data pack mnist --image-size 28 --channels 1 --out packs/mnist28
      ganzoo data pack hf:uoft-cs/cifar10 --image-size 32
      ganzoo data pack "shards/{000000..000099}.tar"
    """
    from pathlib import Path

    from ganzoo.data import DataRequest, open_pack, write_pack

    from .terminal import TerminalReporter

    request = DataRequest(image_size, int(channels), crop, resize, max_images)
    with TerminalReporter() as reporter:
        if out is None:
            opened = open_pack(source, request, progress=reporter.packing)
        else:
            opened = write_pack(source, request, Path(out), progress=reporter.packing)
    with opened:
        _print(_describe_pack(opened), as_json)
        output.hint(f"\nganzoo train RECIPE --data {opened.path} trains on it.")


@group.command("info")
@click.argument("source", metavar="SOURCE|PACK")
@click.option(
    "--grid", type=click.Path(dir_okay=False), metavar="FILE.png", help=f"Write a picture of {_GRID_IMAGES} images."
)
@click.option("--verify", is_flag=True, help="Read all of a pack and compare it with its checksum.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(source: str, grid: str | None, verify: bool, as_json: bool) -> None:
    """Tell what is in SOURCE, or in a pack (its folder); nothing is packed.

    The picture of --grid shows images taken evenly over all; a source's are cut to their middle square, 64×64.

    \b
    Examples:
      ganzoo data info my_images.zip --grid look.png
      ganzoo data info digits
      ganzoo data info hf:uoft-cs/cifar10:test
    """
    from ganzoo.data import DataRequest, open_source
    from ganzoo.data.specs import PackSource
    from ganzoo.errors import UsageError

    with open_source(source) as opened:
        if isinstance(opened, PackSource):
            if verify:
                opened.pack.verify()
            described = _describe_pack(opened.pack)
            request = DataRequest(opened.pack.image_size, opened.pack.channels, "none")
        elif verify:
            raise UsageError("Only a pack has a checksum to verify.", "Run `ganzoo data pack` first.")
        else:
            described = _describe_source(opened)
            request = DataRequest(64)
        if grid is not None:
            described["grid"] = _write_grid(opened, request, grid)
    _print(described, as_json)


def _describe_pack(pack: Pack) -> dict[str, Any]:
    manifest = pack.manifest
    return {
        "kind": "pack",
        "path": str(pack.path),
        "source": manifest.source,
        "images": pack.count,
        "image_size": pack.image_size,
        "channels": pack.channels,
        "bytes": pack.nbytes,
        "classes": _histogram(pack.classes, pack.labels),
        "factors": _ranges(pack.factors),
        "skipped": manifest.skipped,
        "skipped_examples": [{"name": name, "reason": reason} for name, reason in manifest.skipped_examples],
        "content_sha256": manifest.content_sha256,
        "notice": manifest.notice,
    }


def _describe_source(source: Source) -> dict[str, Any]:
    return {
        "kind": "source",
        "source": source.description,
        "images": len(source),
        "first_image": _first_size(source),
        "labelled": source.labelled,
        "classes": _histogram(source.classes, source.labels),
        "factors": _ranges(source.factors),
        "skipped": len(source.rejected),
        "skipped_examples": [{"name": name, "reason": reason} for name, reason in source.rejected[:10]],
        "notice": source.notice,
    }


def _first_size(source: Source) -> str | None:
    """Return the first image's width × height, or None where it cannot be read."""
    from ganzoo.data.images import size_of
    from ganzoo.data.sources.base import SkippedImage

    try:
        width, height = size_of(source.read(0).image)
    except (SkippedImage, OSError):
        return None
    return f"{width}×{height}"


def _histogram(classes: tuple[str, ...], labels: npt.NDArray[np.int64] | None) -> dict[str, int] | None:
    """Return the number of images of each class; None where that is not known."""
    import numpy as np

    if labels is None or len(labels) == 0:
        return None
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    names = classes if len(classes) >= len(counts) else tuple(str(number) for number in range(len(counts)))
    return dict(zip(names, counts, strict=True))


def _ranges(factors: Mapping[str, npt.NDArray[Any]] | None) -> dict[str, dict[str, Any]] | None:
    """Return what can be said of each factor in a line: the shape of its values, their type and range."""
    if not factors:
        return None
    return {
        name: {
            "shape": list(values.shape[1:]),
            "type": str(values.dtype),
            "low": values.min().item() if values.size else None,
            "high": values.max().item() if values.size else None,
        }
        for name, values in factors.items()
    }


def _range(factor: dict[str, Any]) -> str:
    several = f"{'×'.join(map(str, factor['shape']))} values " if factor["shape"] else ""
    return f"{several}{factor['low']:.6g} to {factor['high']:.6g}" if factor["low"] is not None else "no values"


def _write_grid(source: Source, request: DataRequest, path: str) -> str:
    import numpy as np

    from ganzoo.data.images import quiet_decoders, render
    from ganzoo.data.sources.base import SkippedImage
    from ganzoo.errors import DataError
    from ganzoo.pictures import grid, save_png

    count = min(len(source), _GRID_IMAGES)
    images = []
    with quiet_decoders():
        for number in range(count):
            try:
                images.append(render(source.read(number * len(source) // count).image, request))
            except (SkippedImage, OSError):
                continue
    if not images:
        raise DataError(f"None of {count} images of the {source.description} can be read.")
    save_png(grid(np.stack(images)), path)
    return path


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _print(described: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.result_json(described)
        return
    apart = ("kind", "classes", "factors")
    shown = {key: value for key, value in described.items() if value is not None and key not in apart}
    if (size := shown.pop("image_size", None)) is not None:
        shown["size"] = f"{size}×{size}×{shown.pop('channels')}, {output.size_of(shown.pop('bytes'))}"
    examples = shown.pop("skipped_examples")
    rows = [(key.replace("_", " "), _cell(value)) for key, value in shown.items()]
    rows += [("", f"{one['name']}: {one['reason']}") for one in examples]
    classes = described["classes"] or {}
    rows += [("classes", f"{len(classes):,}")] if classes else []
    rows += [("", f"{name}: {count:,}") for name, count in list(classes.items())[:_CLASSES_SHOWN]]
    rows += [("", f"and {len(classes) - _CLASSES_SHOWN:,} more")] if len(classes) > _CLASSES_SHOWN else []
    factors = described["factors"] or {}
    rows += [("factors", f"{len(factors):,}")] if factors else []
    rows += [("", f"{name}: {_range(factor)}") for name, factor in factors.items()]
    for line in output.table(rows):
        output.result(line)
