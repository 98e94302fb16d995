"""`ganzoo evaluate`: measure how good a model's images are, or anybody's, and say by which protocol."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from . import output
from .train import Device

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ganzoo.evaluation.evaluating import Conducted, EvaluationRequest
    from ganzoo.evaluation.judged import Judged
    from ganzoo.evaluation.results import Evaluation

_SHA_SHOWN = 12
_NOT_TYPED = ("out", "no_report", "card", "as_json", "device")
_BETTER = {"lower": "lower", "higher": "higher", "reference": "as real"}


class Options(click.Command):
    """A command whose help shows its options in groups."""

    groups: Mapping[str, Sequence[str]] = {
        "What is judged": ("count", "seeds", "checkpoint", "weights", "runtime", "image_size", "channels"),
        "What it is compared with": ("data", "test_data", "reference_count"),
        "What is measured": ("metrics", "features", "feature_weights", "by_class", "seed"),
        "The result": ("out", "no_report", "card", "as_json"),
    }

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        left = {one.name or "": one for one in self.get_params(ctx) if isinstance(one, click.Option)}
        for title, names in self.groups.items():
            with formatter.section(title):
                records = (left.pop(name).get_help_record(ctx) for name in names)
                formatter.write_dl([record for record in records if record is not None])
        with formatter.section("Other options"):
            records = (one.get_help_record(ctx) for one in left.values())
            formatter.write_dl([record for record in records if record is not None])


@click.command("evaluate", cls=Options)
@click.argument("model", metavar="[MODEL|IMAGES]", required=False)
@click.option("--data", metavar="SOURCE", help="Real images; left out, those that the model was trained on.")
@click.option("--test-data", metavar="SOURCE", help="Real images that were not trained on, e.g. mnist:test.")
@click.option(
    "--reference-count",
    type=click.IntRange(1),
    metavar="N",
    help="At most so many real images, taken evenly; else all.",
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="Images judged; 50,000 of a model, else all.")
@click.option("--seeds", metavar="SEEDS", help="A model's images by their seeds, e.g. 0-9999, in place of --count.")
@click.option("--checkpoint", metavar="STEP|last", help="Of a run, in place of its published model.")
@click.option("--weights", type=click.Choice(["ema", "raw"]), help="Of a run; those that are published if left out.")
@click.option(
    "--runtime",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="torch, onnx, openvino or a plug-in's; auto: ONNX Runtime for an .onnx file, else torch.",
)
@click.option("--image-size", type=click.IntRange(1, 8192), metavar="N", help="Bring images to it; else their own.")
@click.option("--channels", type=click.Choice(["1", "3"]), help="Compare in grey (1) or RGB (3); else the images' own.")
@click.option("--metrics", metavar="NAMES", help="Separated by commas, or all; see `ganzoo list --kind metric`.")
@click.option(
    "--features",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="What features are made by; see `ganzoo list --kind features`. auto: mnist-convnet or cifar-convnet.",
)
@click.option(
    "--feature-weights",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Inception's weights, where they cannot be fetched.",
)
@click.option("--by-class", is_flag=True, help="Measure each class too.")
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 63) - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="Of a metric's random choices; it does not change the images.",
)
@click.option(
    "--device", type=Device(), default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda ..."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Of the report; else RUN/evaluation of a run, or the next number under evaluations/.",
)
@click.option("--no-report", is_flag=True, help="Print the numbers only.")
@click.option("--card", is_flag=True, help="Write the numbers into the model's card too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Measure how good a model's images are, or anybody's, beside real images.

    MODEL is a zoo name, the folder of a run or of a model, a .safetensors or .onnx file, or hf-hub:ORG/NAME; left out,
    it is the newest run. IMAGES is what any other program has drawn: a folder, a zip, an .npz, or the name of data.

    Every number is printed with its protocol, and means something only beside numbers of the same one: as many
    images, the same features, the same data. Nothing is resized unless it is asked for.

    \b
    Metrics, unless --metrics names others:
      fd       lower   Fréchet distance of features; on Inception's it is FID
      kd       lower   kernel distance of features; on Inception's it is KID
      is       higher  inception score
      pr       higher  precision (are images good), recall (are all kinds there)
      dc       higher  density and coverage, likewise
      ms_ssim  as real images have it: how alike two images are

    \b
    Examples:
      ganzoo evaluate dcgan-mnist --data mnist --test-data mnist:test
      ganzoo evaluate runs/00000-dcgan-digits --count 5000
      ganzoo evaluate my_samples/ --data my_images/ --metrics fid,kid
      ganzoo evaluate mnist:test --data mnist       the floor: real beside real
      ganzoo evaluate RUN --checkpoint 20000 --weights raw
    """
    request, card = _request(options), options["card"]
    out: Path | None = options["out"]
    if options["no_report"] and out is not None:
        raise click.UsageError("--no-report writes nothing; leave out --out.")
    conducted = _conduct(request, out, card=card)
    if (typed := _typed(ctx)) is not None:
        protocol = {**conducted.evaluation.protocol, "command": typed}
        conducted = replace(conducted, evaluation=replace(conducted.evaluation, protocol=protocol))
    if options["as_json"]:
        output.result_json(conducted.evaluation.to_dict())
    else:
        _show(conducted.evaluation)
    if request.pictures:
        _write_report(conducted, out)
    if card:
        _write_card(conducted)


def _typed(ctx: click.Context) -> str | None:
    """Return the command as it can be typed again, without where its results go; None where it names a place on this
    machine, which is nobody else's business."""
    words = ["ganzoo", "evaluate"]
    for parameter in ctx.command.params:
        name, value = parameter.name or "", ctx.params.get(parameter.name or "")
        if ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE or name in _NOT_TYPED:
            continue
        if isinstance(parameter, click.Option):
            words.append(parameter.opts[0])
        if value is not True:
            words.append(str(value))
    if any(Path(word).is_absolute() or word.startswith("~") for word in words):
        return None
    return shlex.join(words)


def _request(options: Mapping[str, Any]) -> EvaluationRequest:
    from ganzoo.evaluation.evaluating import EvaluationRequest
    from ganzoo.evaluation.judged import Choice
    from ganzoo.sampling import parse_seeds

    listed = options["metrics"]
    metrics = None if listed is None else [name.strip() for name in listed.split(",") if name.strip()]
    if metrics is not None and not metrics:
        raise click.UsageError("--metrics names none. For example: --metrics fd,pr")
    channels = options["channels"]
    choice = Choice(
        count=options["count"],
        seeds=None if options["seeds"] is None else parse_seeds(options["seeds"]),
        checkpoint=options["checkpoint"],
        weights=options["weights"],
        runtime=options["runtime"],
        device=options["device"],
        image_size=options["image_size"],
        channels=None if channels is None else int(channels),
    )
    return EvaluationRequest(
        options["model"],
        options["data"],
        options["test_data"],
        metrics if metrics != ["all"] else "all",
        options["features"],
        options["feature_weights"],
        choice,
        options["reference_count"],
        options["seed"],
        options["by_class"],
        pictures=not options["no_report"],
    )


def _conduct(request: EvaluationRequest, out: Path | None, *, card: bool) -> Conducted:
    """Evaluate, and show how far it is."""
    from ganzoo.evaluation.evaluating import Listeners, conduct
    from ganzoo.evaluation.reporting import check_folder

    from .terminal import TerminalReporter

    if out is not None:
        check_folder(out)
    with TerminalReporter() as terminal:
        terminal.status("Reading what is judged ...")

        def note(line: str) -> None:
            terminal.close()
            output.note(line)

        def opened(judged: Judged) -> None:
            """Refuse what would fail at the end, before hours are spent."""
            if card:
                _check_card(judged)

        listeners = Listeners(terminal.measuring, terminal.packing, terminal.fetching, note, opened)
        begun = time.perf_counter()
        conducted = conduct(request, listeners)
    output.note(f"Measured in {output.duration(time.perf_counter() - begun)}.")
    return conducted


def _show(evaluation: Evaluation) -> None:
    """Print the numbers, those of each class, and the protocol that all share."""
    from ganzoo.evaluation.report import table_rows

    output.result(evaluation.subject)
    rows = [
        [name, text, _BETTER[value.better], real]
        for value, (name, text, _, real, _) in zip(evaluation.values, table_rows(evaluation), strict=True)
    ]
    header = ["metric", "value", "better", "real images"]
    if not any(row[3] for row in rows):
        rows, header = [row[:3] for row in rows], header[:3]
    for line in output.table(rows, header, right=(1, 3), indent="  "):
        output.result(line)
    for line in _classes(evaluation):
        output.result(line)
    output.result()
    for line in output.table(_protocol_rows(evaluation), indent="  "):
        output.result(line)


def _classes(evaluation: Evaluation) -> list[str]:
    """Return the lines of a table of the numbers of each class; none where classes were not measured."""
    measured = {value.name: value.details["by_class"] for value in evaluation.values if "by_class" in value.details}
    if not measured:
        return []
    names = list(next(iter(measured.values())))
    rows = [(name, *(f"{numbers[name]:.4g}" for numbers in measured.values())) for name in names]
    return ["", *output.table(rows, ("class", *measured), right=range(1, len(measured) + 1), indent="  ")]


def _protocol_rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what a reader needs to compare the numbers with others: (what, text)."""
    protocol = evaluation.protocol
    rows = [("judged", _images_line(protocol["generated"]))]
    for key, name in (("reference", "against"), ("test", "test")):
        if key in protocol:
            rows.append((name, _images_line(protocol[key])))
    for one in protocol["features"].values():
        spec = one["input"]
        size = f"resized to {spec['image_size']} ({spec['resize']})" if spec["image_size"] else "images as they are"
        rows.append(("features", f"{one['name']}, sha256 {one['sha256'][:_SHA_SHOWN]}, {size}"))
    versions = ", ".join(f"{name} {version}" for name, version in protocol["versions"].items())
    rows.append(("seed", f"{protocol['seed']}, {protocol['device']}, {versions}"))
    return rows


def _images_line(side: Mapping[str, Any]) -> str:
    """Return one side of the protocol in a line."""
    colours = "grey" if side["channels"] == 1 else "RGB"
    parts = [f"{side['count']:,} images of {side['description']}, {side['image_size']}×{side['image_size']} {colours}"]
    if "seeds" in side:
        parts.append(f"seeds {side['seeds']}")
    if (weights := side.get("weights")) is not None:
        parts.append(
            f"{'EMA' if weights == 'ema' else 'raw weights'} at {side['kimg']:,.6g} kimg (step {side['step']:,})"
        )
    for key in ("generator_sha256", "content_sha256"):
        if key in side:
            parts.append(f"sha256 {side[key][:_SHA_SHOWN]}")
    if "split" in side:
        parts.append(f"split {side['split'] or 'not known'}")
    if "crop" in side:
        parts.append(f"crop {side['crop']}, {side['resize']}")
    if side.get("chosen", "all") != "all":
        parts.append(str(side["chosen"]))
    if side.get("skipped"):
        parts.append(f"{side['skipped']:,} left out")
    return ", ".join(parts)


def _write_report(conducted: Conducted, out: Path | None) -> None:
    from ganzoo.evaluation.reporting import save_report

    files = save_report(conducted, out)
    page = next(path for path in files if path.suffix == ".html")
    output.note(f"\nThe report is {page}; {', '.join(path.name for path in files if path != page)} lie beside it.")


def _check_card(judged: Judged) -> None:
    """Refuse to write a card where there is none of one's own.

    Raises:
        click.UsageError: what is judged is no model folder of one's own.
    """
    if judged.folder is None:
        raise click.UsageError(
            f"--card writes into a model's folder of one's own, and {judged.subject} is none. Leave it out."
        )


def _write_card(conducted: Conducted) -> None:
    from ganzoo.evaluation.report import save_to_card

    folder = conducted.judged.folder
    assert folder is not None
    save_to_card(conducted.evaluation, folder)
    output.note(f"The numbers are in the card, {folder / 'README.md'}.")
