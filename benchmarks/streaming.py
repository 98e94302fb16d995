"""How fast training is fed: images read from a pack, and what the feeder takes of every recipe's step.

    python benchmarks/streaming.py
    python benchmarks/streaming.py --json streaming.json

The pack is of random 64×64×3 images and lies in the page cache, as a pack that fits the memory does after one epoch.
"gathered" is `Pack.gather` alone, "prefetched" what comes out of the thread that reads ahead, "copied" the same indices
from an array in memory by NumPy. The second table is of all recipes, with a pack of noise on the device: milliseconds a
step that the host spends on indices, z, flips and pixels, and the images a second at which that would be all there is.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from reporting import Row, in_turn, print_table, spread, write_json

from ganzoo.building import load_recipe
from ganzoo.data import DataRequest, Pack, Prefetcher, open_pack
from ganzoo.processor import kept_memory
from ganzoo.randomness import permutation
from ganzoo.recipes import Recipe, list_recipes
from ganzoo.training.feeder import Feeder
from ganzoo.training.rounds import make_round

CPU = torch.device("cpu")


def main() -> None:
    """Measure, print the tables, write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=20_000, help="of the pack")
    parser.add_argument("--batch", type=int, default=128, help="images read at once")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    parser.add_argument("--json", type=Path, help="a file for the results")
    arguments = parser.parse_args()
    reading = _reading(arguments.images, arguments.batch, arguments.rounds)
    print_table(f"{arguments.images:,} images of 64×64×3 in random order, batches of {arguments.batch}", reading)
    with kept_memory():
        feeding = [_feeding(load_recipe(name)) for name in list_recipes()]
    print_table("Feeding a step, the pack on the device", feeding)
    write_json(arguments.json, {"reading": reading, "feeding": feeding})


def _reading(count: int, batch: int, rounds: int) -> list[Row]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    order = permutation(count, 0, 0)
    batches = [order[first : first + batch] for first in range(0, count, batch)]
    with (
        tempfile.TemporaryDirectory() as folder,
        open_pack(pixels, DataRequest(64), cache_dir=Path(folder)) as pack,
    ):

        def every(read: Callable[[Any], Any]) -> Callable[[], None]:
            def contender() -> None:
                for indices in batches:  # each forgotten before the next, as training does
                    read(indices)

            return contender

        def prefetched() -> None:
            with Prefetcher(pack, batches) as images:
                for _ in images:
                    pass

        contenders = {
            "gathered": every(pack.gather),
            "prefetched": prefetched,
            "copied": every(pixels.__getitem__),
        }
        taken = in_turn(contenders, rounds)
    rates = {name: spread([count / seconds for seconds in of]) for name, of in taken.items()}
    return [
        {"how": name, "images/s": rate["median"], **{key: rate[key] for key in ("least", "greatest")}}
        for name, rate in rates.items()
    ]


class _Noise:
    """As much of a pack as a feeder needs."""

    def __init__(self, recipe: Recipe) -> None:
        data = recipe.data
        self._pixels = torch.randint(0, 256, (2000, data.image_size, data.image_size, data.channels), dtype=torch.uint8)
        self.labels = np.arange(2000) % max(1, data.num_classes)

    def __len__(self) -> int:
        return len(self._pixels)

    def to_tensor(self, _: Any) -> torch.Tensor:
        return self._pixels


def _feeding(recipe: Recipe) -> Row:
    round_ = make_round(recipe.train, True)
    feeder = Feeder(recipe, round_, cast(Pack, _Noise(recipe)), CPU, torch.float32, resident=True)
    rounds = feeder.rounds(0, 10**9)
    seconds = []
    for _ in range(23):
        begun = time.perf_counter()
        next(rounds)
        seconds.append(time.perf_counter() - begun)
    middle = statistics.median(seconds[3:])
    return {
        "recipe": recipe.name,
        "size": recipe.data.image_size,
        "real images a step": round_.reals,
        "ms a step": middle * 1e3,
        "images/s": round_.reals / middle,
    }


if __name__ == "__main__":
    main()
