"""How many of StackedMNIST's 1,000 modes recipes cover after the same number of real images.

    python benchmarks/stacked_mnist.py dcgan-mnist dcgan-mnist-modern --kimg 64 --data stackedmnist:MNIST_FOLDER

The figures are those of `ganzoo evaluate --metrics modes` (`ganzoo/evaluation/metrics/modes.py`): PacGAN's protocol of
26,000 samples, beside as many real triples: what a perfect generator would get. Each recipe is trained as it is, but
with three channels, on the CPU or GPU at hand. Runs are kept under --out, so that a second call goes on.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import ganzoo
from ganzoo.data import DataRequest, open_pack
from ganzoo.evaluation.contract import ImageSet
from ganzoo.evaluation.image_sets import PackImages, SampledImages
from ganzoo.evaluation.measuring import evaluate_images
from ganzoo.evaluation.metrics.modes import STACKED_SAMPLES
from ganzoo.evaluation.results import Evaluation
from ganzoo.sampling import TorchSampler


def evaluate(model: ganzoo.Model, real: ImageSet) -> Evaluation:
    """Return the modes of a model's images beside those of real triples."""
    return evaluate_images(SampledImages(TorchSampler(model), range(STACKED_SAMPLES)), real, metrics="modes")


def figures(evaluation: Evaluation) -> tuple[list[float], list[float]]:
    """Return (modes, divergence in nats) of the samples, and of the real triples beside them."""
    values = [value for stem in ("modes", "kl") for value in evaluation.values if value.name.startswith(f"{stem}-")]
    return [one.value for one in values], [one.reference or 0.0 for one in values]


def main() -> None:
    """Train, count, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("recipes", nargs="+", help="names or TOML files of 28×28 recipes")
    parser.add_argument("--kimg", type=float, default=64.0, help="length of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings; one run for each")
    parser.add_argument("--data", default="stackedmnist", help="stackedmnist, or stackedmnist:PATH")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="changes for all recipes")
    parser.add_argument("--out", type=Path, default=Path("stacked-mnist"), help="folder of runs and results")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    real = PackImages(open_pack(asked.data, DataRequest(28, 3, labels=True)))
    changes = ["data.channels=3", *asked.overrides]
    rows: list[tuple[Any, ...]] = []
    for recipe in asked.recipes:
        for seed in asked.seeds:
            name = re.sub(r"\W+", "-", f"{Path(recipe).stem}-{asked.kimg:g}-{seed}")
            result = ganzoo.train(
                recipe, data=asked.data, kimg=asked.kimg, seed=seed, overrides=changes, out=asked.out / name
            )
            generated, beside = figures(evaluate(ganzoo.load_pretrained(str(result.model)), real))
            rows = rows or [("real triples", "", *beside)]
            rows.append((Path(recipe).stem, str(seed), *generated))
            print(*rows[-1], flush=True)
    (asked.out / "results.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"\n{'recipe':<28}{'seed':>5}{'modes':>7}{'KL':>8}   after {asked.kimg:g} kimg")
    for label, seed, found, divergence in rows:
        print(f"{label:<28}{seed:>5}{found:>7.0f}{divergence:>8.3f}")


if __name__ == "__main__":
    main()
