"""`ganzoo inspect`: look into a model and at what it draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import output
from .train import Device

if TYPE_CHECKING:
    from ganzoo.inspection.copies import Copies, Found


@click.group("inspect")
def group() -> None:
    """Look into a model and at what it draws."""


@group.command("neighbours")
@click.argument("subject", required=False, metavar="[MODEL|IMAGES]")
@click.option("--data", metavar="SOURCE", help="What was trained on; left out, what the model's recipe names.")
@click.option("--test-data", metavar="SOURCE", help="Real images that were not trained on, to compare the shares with.")
@click.option("--seeds", metavar="SEEDS", help="Which images are shown, e.g. 7 or 0-63,100; 0-15 if left out.")
@click.option(
    "--k", "neighbours", type=click.IntRange(1), default=5, show_default=True, metavar="N", help="Neighbours of each."
)
@click.option(
    "--space",
    "spaces",
    default="pixels,auto",
    show_default=True,
    metavar="NAMES",
    help="Where nearness is measured: pixels, or features; auto: mnist-convnet for grey, cifar-convnet for colours.",
)
@click.option(
    "--count",
    "counted",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    metavar="N",
    help="How many images the shares rest on; 0: no shares.",
)
@click.option("--image-size", type=click.IntRange(1, 8192), metavar="N", help="Bring all images to this size.")
@click.option("--channels", type=click.Choice(["1", "3"]), help="Take all images as grey (1) or RGB (3).")
@click.option("--out", default="neighbours.png", show_default=True, metavar="PATH", help="The picture, a .png.")
@click.option(
    "--device", type=Device(), default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda or cuda:N."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def neighbours_command(
    subject: str | None,
    data: str | None,
    test_data: str | None,
    seeds: str | None,
    neighbours: int,
    spaces: str,
    counted: int,
    image_size: int | None,
    channels: str | None,
    out: str,
    device: str,
    as_json: bool,
) -> None:
    """Show images beside the training images that are nearest, and tell how many are copies.

    MODEL is a zoo name, the folder of a run or of a model, a .safetensors or .onnx file, or hf-hub:ORG/NAME; IMAGES are
    a folder or a zip of them; left out, it is the newest run. The picture has a row for each image: the image, then its
    neighbours, block by block for each space.

    Something is always nearest, so a share is told, too: of the images that are as near to a training image as that is
    to its nearest other one, or nearer. Images that nobody trained on (--test-data) have such a share as well; what is
    more than theirs is memorised.

    \b
    Examples:
      ganzoo inspect neighbours dcgan-mnist --data mnist --test-data mnist:test
      ganzoo inspect neighbours runs/00000-dcgan-digits --seeds 0-31 --k 3
      ganzoo inspect neighbours samples.zip --data my_images/ --space pixels
    """
    from pathlib import Path

    from ganzoo.errors import UsageError
    from ganzoo.evaluation.evaluating import Listeners
    from ganzoo.evaluation.judged import Choice
    from ganzoo.image_files import kind_of
    from ganzoo.inspection.copies import CopiesRequest, look_for_copies
    from ganzoo.seeds import parse_seeds

    from .terminal import TerminalReporter

    if kind_of(out) != "grid":
        raise UsageError(f"The picture cannot be written to {out!r}.", "Give --out a .png.")
    request = CopiesRequest(
        subject,
        data,
        test_data,
        None if seeds is None else parse_seeds(seeds),
        tuple(name.strip() for name in spaces.split(",") if name.strip()),
        neighbours,
        counted,
        Choice(device=device, image_size=image_size, channels=None if channels is None else int(channels)),
    )
    with TerminalReporter() as terminal:
        terminal.status("Reading what is judged ...")

        def note(line: str) -> None:
            terminal.close()
            output.note(line)

        found = look_for_copies(request, Listeners(terminal.measuring, terminal.packing, terminal.fetching, note))
    _write_picture(found, Path(out))
    if as_json:
        output.result_json(_as_json(found, out))
        return
    output.result(out)
    if counted:
        _print_shares(found)


def _write_picture(found: Copies, path: Any) -> None:
    from ganzoo.image_files import picture as as_image
    from ganzoo.inspection.neighbours import picture
    from ganzoo.pictures import save_png

    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(as_image(picture(*(one.rows for one in found.found))), path)


def _as_json(found: Copies, out: str) -> dict[str, Any]:
    return {"subject": found.subject, "out": out, "spaces": [_space(one, found) for one in found.found]} | {
        "protocol": found.protocol
    }


def _space(one: Found, found: Copies) -> dict[str, Any]:
    rows = one.rows
    return {
        "space": rows.space,
        "images": [
            {
                found.shown: number,
                "neighbours": [
                    {"image": image, "distance": distance} for image, distance in zip(images, distances, strict=True)
                ],
            }
            for number, images, distances in zip(
                found.numbers.tolist(), rows.indices.tolist(), rows.distances.tolist(), strict=True
            )
        ],
        "samples": None if one.samples is None else one.samples.to_dict(),
        "test": None if one.test is None else one.test.to_dict(),
        "copied": one.copied,
    }


def _print_shares(found: Copies) -> None:
    rows = []
    for one in found.found:
        for what, near in (("samples", one.samples), ("test", one.test)):
            if near is not None:
                share = f"{near.share:.1%} ± {near.error:.1%}"
                figures = (share, f"{near.median_ratio:.3f}", f"{near.near_copies():,}")
                rows.append((one.rows.space, what, f"{len(near.own):,}", *figures))
    header = ("space", "images", "count", "nearer", "median ratio", "near-copies")
    output.result()
    for line in output.table(rows, header=header, right=(2, 3, 4, 5)):
        output.result(line)
    output.result()
    output.result("nearer: as near to a training image as that is to its nearest other one, or nearer; ratio: of these")
    output.result("two distances; near-copy: a ratio of a third or less.")
    for one in found.found:
        if one.copied is not None and one.copied > 0:
            output.result(
                f"By {one.rows.space}, about {one.copied:.1%} of the samples are nearer than chance explains."
            )
        elif one.copied is not None:
            output.result(f"By {one.rows.space}, no more samples are so near than test images are by chance.")
    if all(one.test is None for one in found.found):
        output.note("Images that nobody trained on would show what is chance: --test-data SOURCE.")
