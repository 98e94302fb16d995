"""The maintainers' tool for published weights, run in a source checkout.

python -m ganzoo.weights add MODEL --name NAME --licence SPDX [options]
python -m ganzoo.weights judge NAME --evaluation FILE    numbers into a packaged model's card, the weights untouched
python -m ganzoo.weights verify        every packaged file against the manifest, and what it draws
python -m ganzoo.weights download      every address of the manifest; for a scheduled job
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo import weights
from ganzoo.errors import GanzooError, UsageError
from ganzoo.fetching import fetch_file, file_address
from ganzoo.weights.manifest import PublishedModel, read_manifest

if TYPE_CHECKING:
    from ganzoo.card import Metric
    from ganzoo.evaluation.results import Evaluation


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    asked = _parser().parse_args(arguments)
    try:
        asked.weights = asked.weights or _own_folder(writes=asked.command in ("add", "judge"))
        commands: dict[str, Callable[[argparse.Namespace], int]] = {"add": _add, "judge": _judge, "verify": _verify}
        return commands.get(asked.command, _download)(asked)
    except GanzooError as error:
        sys.stderr.write(f"ganzoo.weights: error: {error}\n")
        return error.exit_code
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"ganzoo.weights: error: {where}{error.strerror or error}\n")
        return 1


_EVALUATION: dict[str, Any] = {
    "type": Path,
    "metavar": "FILE",
    "help": "metrics.json that `ganzoo evaluate` wrote; may be given again",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ganzoo.weights", description="Published weights: for maintainers.")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="of manifest.toml (default: ganzoo's own)")
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="package a trained model, or replace it")
    add.add_argument("model", type=Path, metavar="MODEL", help="a model folder, or a run")
    add.add_argument("--name", required=True, help="by which it will be loaded")
    add.add_argument("--licence", required=True, metavar="SPDX", help="of the weights, e.g. Apache-2.0")
    add.add_argument("--data", metavar="TEXT", help="what it was trained on (default: as the model says)")
    add.add_argument("--dtype", choices=("fp16", "bf16", "fp32"), default="fp32", help="of the files (default: fp32)")
    add.add_argument("--discriminator", action=argparse.BooleanOptionalAction, default=True, help="publish it too")
    add.add_argument(
        "--metric", action="append", default=[], metavar="'NAME=VALUE: PROTOCOL'", help="what was measured, and how"
    )
    add.add_argument("--evaluation", action="append", default=[], **_EVALUATION)
    add.add_argument("--url", action="append", default=[], help="a folder on the web with the same files")
    add.add_argument("--torch", metavar="VERSION", help="that trained it (default: as the run says)")
    judge = commands.add_parser("judge", help="put measured numbers into the card of a packaged model")
    judge.add_argument("name", metavar="NAME", help="of the packaged model")
    judge.add_argument("--evaluation", action="append", required=True, **_EVALUATION)
    judge.add_argument("--anew", action="store_true", help="drop the numbers that it has")
    commands.add_parser("verify", help="check the packaged files and draw from them")
    download = commands.add_parser("download", help="fetch from every address and check")
    download.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="to wait for a silent server")
    return parser


def _own_folder(*, writes: bool) -> Path:
    if writes and not (weights.FOLDER.parents[1] / "pyproject.toml").is_file():
        raise UsageError(f"{weights.FOLDER} lies in no source checkout.", "Run this in one, or name --weights FOLDER.")
    return weights.FOLDER


def _add(asked: argparse.Namespace) -> int:
    from ganzoo.weights.adding import LARGEST_PACKAGE, add_model

    added = add_model(
        asked.model,
        asked.weights,
        name=asked.name,
        licence=asked.licence,
        data=asked.data,
        dtype=asked.dtype,
        discriminator=asked.discriminator,
        metrics=[parse_metric(text) for text in asked.metric],
        evaluations=_evaluations(asked.evaluation),
        urls=asked.url,
        trained_with=asked.torch,
    )
    _say(str(added.folder))
    _say(
        f"{len(added.model.files)} files, {added.model.bytes / 1e6:.1f} MB; images differ from the given model's by up "
        f"to {added.levels} of 256 levels, {added.mean_levels:.3f} on average."
    )
    _say(f"Packaged in all: {added.packaged_bytes / 1e6:.1f} MB of at most {LARGEST_PACKAGE / 1e6:.0f} MB.")
    return 0


def _judge(asked: argparse.Namespace) -> int:
    from ganzoo.weights.judging import judge_model

    _, metrics = judge_model(asked.name, asked.weights, _evaluations(asked.evaluation), anew=asked.anew)
    for metric in metrics:
        _say(f"{metric['name']} = {metric['value']:.4g}: {metric['protocol']}")
    return 0


def _evaluations(paths: Sequence[Path]) -> list[Evaluation]:
    from ganzoo.evaluation.results import read_evaluation

    return [read_evaluation(path) for path in paths]


def parse_metric(text: str) -> Metric:
    """Return the metric of a text like "FID=12.5: 10,000 images, InceptionV3, against the training images".

    Raises:
        UsageError: not such a text.
    """
    name, equals, rest = text.partition("=")
    value, colon, protocol = rest.partition(":")
    try:
        number = float(value)
    except ValueError:
        number = None
    if number is None or not (name.strip() and equals and colon and protocol.strip()):
        raise UsageError(f"--metric {text!r} is not NAME=VALUE: PROTOCOL.", "For example: 'FID=12.5: 10,000 images'")
    return {"name": name.strip(), "value": number, "protocol": protocol.strip()}


def _verify(asked: argparse.Namespace) -> int:
    from ganzoo.weights.checking import check_picture

    def check(model: PublishedModel) -> str:
        if not model.packaged:
            return "not packaged; `download` checks it"
        weights.verify(asked.weights / model.name, model)
        levels = check_picture(asked.weights / model.name)
        return (
            f"{len(model.files)} files, {model.bytes / 1e6:.1f} MB, draws what it shows (within {levels} of 256 levels)"
        )

    models = read_manifest(asked.weights / "manifest.toml").models
    failed = sum([not _checked(name, check, model) for name, model in models.items()])
    for path in sorted(asked.weights.iterdir()):
        if (path / "config.json").is_file() and not (path.name in models and models[path.name].packaged):
            _say(f"{path.name}: is here, but the manifest does not say that it is packaged")
            failed += 1
    return _summary(len(models), failed)


def _download(asked: argparse.Namespace) -> int:
    models = read_manifest(asked.weights / "manifest.toml").models.values()
    pairs = [(model, url) for model in models for url in model.urls]

    def check(url: str, model: PublishedModel) -> str:
        with tempfile.TemporaryDirectory(prefix="ganzoo-") as temporary:
            for name, file in model.files.items():
                addresses, target = [file_address(url, name)], Path(temporary, name)
                fetch_file(addresses, target, sha256=file.sha256, bytes=file.bytes, timeout=asked.timeout)
        return f"{len(model.files)} files, {model.bytes / 1e6:.1f} MB"

    failed = sum([not _checked(f"{model.name} from {url}", partial(check, url), model) for model, url in pairs])
    return _summary(len(pairs), failed)


def _checked(title: str, check: Callable[[PublishedModel], str], model: PublishedModel) -> bool:
    """Say what a check found, and return whether it found all in order."""
    try:
        _say(f"{title}: {check(model)}")
    except GanzooError as error:
        _say(f"{title}: FAILED: {error}")
        return False
    return True


def _summary(count: int, failed: int) -> int:
    _say(f"{count} checked, {failed} failed.")
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
