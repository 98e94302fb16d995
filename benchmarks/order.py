"""Whether the metrics rank what everybody ranks alike: real digits, a trained generator, a beginner, noise.

    python benchmarks/order.py --data MNIST_FOLDER --test-data MNIST_FOLDER/t10k-images-idx3-ubyte.gz

All four are compared with MNIST's training images: its test images (the floor), dcgan-mnist as it is published,
dcgan-mnist after a few steps, and uniform noise. A metric that puts two of them the other way round is named at the
end, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np

import ganzoo
from ganzoo.evaluation.contract import Value

METRICS = ("fd", "kd", "is", "pr", "dc", "modes", "ms_ssim")
SUBJECTS = ("test images", "trained", "beginner", "noise")
SAME = 0.02  # share of the whole range within which two count as equal: both may be perfect


def worse(one: Value, other: Value, spread: float) -> bool:
    """Return whether the first of two is worse by more than can be overlooked."""

    def badness(value: Value) -> float:
        if value.better == "reference":
            return abs(value.value - (value.reference or 0.0))
        return value.value if value.better == "lower" else -value.value

    return badness(one) > badness(other) + SAME * spread


def main() -> int:
    """Judge all four, print a table, and return whether the order is wrong anywhere."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--data", default="mnist", help="MNIST's training images")
    parser.add_argument("--test-data", default="mnist:test", help="its test images")
    parser.add_argument("--count", type=int, default=10_000, help="images of each")
    parser.add_argument("--kimg", type=float, default=8.0, help="training of the beginner")
    parser.add_argument("--out", type=Path, default=Path("order"), help="folder of the beginner's run and of results")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    run = ganzoo.train("dcgan-mnist", data=asked.data, kimg=asked.kimg, out=asked.out / f"beginner-{asked.kimg:g}")
    noise = np.random.default_rng(0).integers(0, 256, (asked.count, 28, 28, 1), dtype=np.uint8)
    judged = dict(zip(SUBJECTS, (asked.test_data, "dcgan-mnist", str(run.model), noise), strict=True))
    found = {
        name: {
            value.name: value
            for value in ganzoo.evaluate(what, asked.data, metrics=METRICS, count=asked.count).values
            if not value.name.startswith("label-accuracy")
        }
        for name, what in judged.items()
    }
    wrong = []
    names = list(found["trained"])
    print(f"{'':<28}" + "".join(f"{name:>14}" for name in SUBJECTS))
    for name in names:
        row = [found[subject][name] for subject in SUBJECTS]
        spread = max(value.value for value in row) - min(value.value for value in row)
        print(f"{name:<28}" + "".join(f"{value.value:>14.4f}" for value in row))
        pairs = list(zip(SUBJECTS, row, strict=True))
        wrong += [
            f"{name}: {better} is worse than {other}"
            for (better, one), (other, two) in itertools.pairwise(pairs)
            if worse(one, two, spread)
        ]
    results = {subject: {name: value.value for name, value in values.items()} for subject, values in found.items()}
    (asked.out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print("\n" + ("\n".join(wrong) if wrong else "Every metric has them in this order."))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
