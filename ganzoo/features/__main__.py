"""The maintainers' tool for the packaged feature extractors, run in a source checkout.

python -m ganzoo.features train NAME --data SOURCE --test-data SOURCE [options]
python -m ganzoo.features verify [--data NAME=SOURCE]     every packaged file against SHA256SUMS, and what it names
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ganzoo.errors import GanzooError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from ganzoo.data.packs import Pack

_TOLERANCE = 0.001  # of the accuracy: processors round differently, and an image or two lies between two classes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    asked = _parser().parse_args(arguments)
    try:
        return _train(asked) if asked.command == "train" else _verify(asked)
    except GanzooError as error:
        sys.stderr.write(f"ganzoo.features: error: {error}\n")
        return error.exit_code
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"ganzoo.features: error: {where}{error.strerror or error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ganzoo.features", description="Packaged feature extractors: for maintainers."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a classifier and write its file")
    train.add_argument("name", metavar="NAME", help="mnist-convnet or cifar-convnet")
    train.add_argument("--data", required=True, metavar="SOURCE", help="labelled images to train on")
    train.add_argument("--test-data", required=True, metavar="SOURCE", help="labelled images to measure it on")
    train.add_argument("--out", type=Path, metavar="FILE", help="what is written (default: ganzoo's own)")
    train.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation (default: 0)")
    train.add_argument("--device", default="auto", help="auto, cpu, cuda … (default: auto)")
    train.add_argument(
        "--epochs", type=int, help="passes over the images, in one cycle (default: the classifier's own)"
    )
    verify = commands.add_parser("verify", help="check the packaged files")
    verify.add_argument(
        "--data", action="append", default=[], metavar="NAME=SOURCE", help="labelled test images of a classifier"
    )
    return parser


def _train(asked: argparse.Namespace) -> int:
    from ganzoo.features.packaged import FOLDER
    from ganzoo.features.publishing import publish_classifier
    from ganzoo.features.training import TRAININGS, train_classifier

    _check_name(asked.name)
    if asked.out is None and not (FOLDER.parents[2] / "pyproject.toml").is_file():
        raise UsageError(f"{FOLDER} lies in no source checkout.", "Run this in one, or name --out FILE.")
    if asked.epochs is not None and asked.epochs < 1:
        raise UsageError(f"--epochs must be at least 1, not {asked.epochs}.")
    if not 0 <= asked.seed < 1 << 63:
        raise UsageError(f"--seed must be from 0 to 2^63 - 1, not {asked.seed}.")
    training = TRAININGS[asked.name]
    training = training if asked.epochs is None else replace(training, epochs=asked.epochs, second_epochs=0)
    with _images(asked.name, asked.data) as images, _images(asked.name, asked.test_data) as test_images:
        network = train_classifier(training, images, seed=asked.seed, device=asked.device, say=_say)
        made = publish_classifier(asked.name, network, images, test_images, path=asked.out)
    _say(f"{made.path}: {made.bytes / 1e6:.2f} MB, sha256 {made.sha256}")
    _say(f"{made.accuracy:.2%} right: {made.protocol}.")
    return 0


def _verify(asked: argparse.Namespace) -> int:
    from ganzoo.features.packaged import NAMES

    data = dict(_named_source(text) for text in asked.data)
    failed = 0
    for name in NAMES:
        try:
            _say(f"{name}: {_checked(name, data.get(name))}")
        except GanzooError as error:
            _say(f"{name}: FAILED: {error}")
            failed += 1
    _say(f"{len(NAMES)} checked, {failed} failed.")
    return 1 if failed else 0


def _checked(name: str, source: str | None) -> str:
    """Return what is to be said of a packaged file that is in order.

    Raises:
        GanzooError: it is not.
    """
    from ganzoo.errors import WeightsError
    from ganzoo.features.contract import open_extractor
    from ganzoo.features.packaged import FOLDER, packaged_file
    from ganzoo.features.publishing import LARGEST_FILE, SUMS, measured_accuracy, read_sums
    from ganzoo.features.training import TRAININGS

    extractor = open_extractor(name, device="cpu")
    path = packaged_file(name)
    if (listed := read_sums(FOLDER).get(path.name)) != extractor.sha256:
        raise WeightsError(f"{path} has the sha256 {extractor.sha256}, {SUMS} tells {listed or 'nothing of it'}.")
    wanted = TRAININGS[name].network["widths"][-1]
    size = path.stat().st_size
    if (extractor.name, extractor.dimension) != (name, wanted) or size > LARGEST_FILE:
        raise WeightsError(f"{path} gives {extractor.dimension} numbers as {extractor.name}, in {size:,} bytes.")
    told = f"{size / 1e6:.2f} MB, {extractor.dimension} features, {extractor.num_classes} classes"
    if source is None:
        return f"{told}; accuracy not measured"
    with _images(name, source) as images:
        share, facts = measured_accuracy(path, images)
    if facts.accuracy is None or share < facts.accuracy - _TOLERANCE:
        raise WeightsError(
            f"{path} names {share:.2%} of {images.count:,} images rightly, not {facts.accuracy or 0:.2%}."
        )
    return f"{told}; {share:.2%} of {images.count:,} images right, as it says ({facts.accuracy:.2%})"


def _images(name: str, source: str) -> Pack:
    from ganzoo.data import DataRequest, open_pack
    from ganzoo.features.training import TRAININGS

    training = TRAININGS[name]
    request = DataRequest(image_size=training.image_size, channels=training.network["channels"], labels=True)
    return open_pack(source, request)


def _named_source(text: str) -> tuple[str, str]:
    name, equals, source = text.partition("=")
    if not equals or not source:
        raise UsageError(f"--data {text!r} is not NAME=SOURCE.", "For example: mnist-convnet=t10k-images-idx3-ubyte.gz")
    _check_name(name)
    return name, source


def _check_name(name: str) -> None:
    from ganzoo.features.training import TRAININGS

    if name not in TRAININGS:
        raise UnknownNameError("packaged feature extractor", name, TRAININGS)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
