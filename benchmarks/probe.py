"""What a GAN's training put into its discriminator: the DCGAN paper's probe beside its baselines.

    python benchmarks/probe.py runs/00000-dcgan-imagenet32 --json probe.json
    python benchmarks/probe.py MODEL --images 10000 --draws 3         # a quick look

Section 5.1 of arXiv 1511.06434: a linear support vector machine on the max-pooled features of all convolutional layers
names images of CIFAR-10, once with all labels, once with a few of each class over several draws. Beside it stand random
weights of the same recipe and the pixels themselves. The data are those of GANZOO_TEST_DATA (CIFAR-10 as JPEG of
quality 75) or two sources of one's own with labels.

With all 50,000 labels the features take 5.7 GB on the disk of GANZOO_HOME; memory stays far below.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import ganzoo
from ganzoo.data import DataRequest, open_pack
from ganzoo.evaluation.image_sets import PackImages
from ganzoo.evaluation.probe.probing import (
    DRAWS,
    PER_CLASS,
    ProbeResult,
    ProbeSettings,
    discriminator_extractor,
    probe_images,
)
from ganzoo.features.pixels import Pixels

SOURCES = ("train.zip", "test.zip")  # of cifar10_jpeg in GANZOO_TEST_DATA
NAMES = ("pixels", "random weights", "discriminator")


def main() -> None:
    """Measure what the command line asks for; print a table, and write JSON where asked to."""
    asked = _arguments()
    torch.set_num_threads(asked.threads)
    model = ganzoo.load_pretrained(asked.model)
    data = model.config.recipe.data
    request = DataRequest(data.image_size, data.channels, max_images=asked.images, labels=True)
    folder = Path(os.environ.get("GANZOO_TEST_DATA", "")) / "cifar10_jpeg"
    sources = [given or str(folder / name) for given, name in zip((asked.data, asked.test_data), SOURCES, strict=True)]
    train, test = (PackImages(open_pack(source, request)) for source in sources)
    settings = ProbeSettings(
        all_labels=asked.only != "few",
        per_class=0 if asked.only == "all" else asked.per_class,
        draws=asked.draws,
    )
    rows: dict[str, dict[str, Any]] = {}
    print(f"{'features':<18}{'numbers':>9}{'all labels':>13}{f'{asked.per_class} a class':>18}{'C':>10}{'minutes':>9}")
    for name, extractor in _contenders(model, train, asked.seed):
        if asked.features and name not in asked.features:
            continue
        begun = time.monotonic()
        result = probe_images(extractor(), train, test, settings, seed=asked.seed, progress=_tell)
        minutes = (time.monotonic() - begun) / 60
        rows[name] = result.to_dict() | {"minutes": minutes}
        print(_row(name, result, minutes), flush=True)
    if asked.json is not None:
        told = {
            "model": model.config.recipe.name,
            "step": model.config.step,
            "kimg": model.config.kimg,
            "train": train.to_dict(),
            "test": test.to_dict(),
            "seed": asked.seed,
            "threads": asked.threads,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "probe": rows,
        }
        asked.json.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("model", help="a run, a model folder or a zoo name, with its discriminator")
    parser.add_argument("--data", help="labelled training images; default: CIFAR-10 of GANZOO_TEST_DATA")
    parser.add_argument("--test-data", help="labelled test images, likewise")
    parser.add_argument("--images", type=int, help="at most so many of either, taken evenly; default: all")
    parser.add_argument("--only", choices=("all", "few"), help="all labels, or a few a class; default: both")
    parser.add_argument("--per-class", type=int, default=PER_CLASS, help="labels of each class in a draw")
    parser.add_argument("--draws", type=int, default=DRAWS, help="how often so many are drawn")
    parser.add_argument("--features", nargs="+", choices=NAMES, help="default: all three")
    parser.add_argument("--seed", type=int, default=0, help="of random weights, draws and folds")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the processor")
    parser.add_argument("--json", type=Path, help="a file for the results")
    return parser.parse_args()


def _contenders(model: ganzoo.Model, train: PackImages, seed: int) -> Iterator[tuple[str, Any]]:
    """Yield names and what makes their extractors, the quickest first."""
    untrained = ganzoo.create_model(model.config.recipe, seed=seed)
    channels = model.config.recipe.data.channels
    makers = (
        lambda: Pixels(image_size=train.image_size, channels=1 if channels == 1 else 3),
        lambda: discriminator_extractor(untrained, train, progress=_tell),
        lambda: discriminator_extractor(model, train, progress=_tell),
    )
    yield from zip(NAMES, makers, strict=True)


def _row(name: str, result: ProbeResult, minutes: float) -> str:
    whole, few, costs = "", "", []
    if result.all_labels is not None:
        whole = f"{result.all_labels.accuracy:.2%}"
        costs.append(result.all_labels.choice.cost)
    if result.draws:
        mean, deviation = result.few
        few = f"{mean:.2%}" + ("" if deviation is None else f" ± {deviation:.2%}")
        costs.append(sorted(one.choice.cost for one in result.draws)[len(result.draws) // 2])
    shown = ", ".join(f"{cost:g}" for cost in costs)
    return f"{name:<18}{result.dimension:>9,}{whole:>13}{few:>18}{shown:>10}{minutes:>9.1f}"


def _tell(what: str, done: int, of: int) -> None:
    """Show on standard error how far it is, where someone is looking."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}: {done:,} of {of:,}", end="\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
