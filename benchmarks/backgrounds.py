"""How the variety of backgrounds lowers what a generator makes of the very same objects.

    python benchmarks/backgrounds.py

Rooms are rendered with one bed in three sets: before one plain wall; before walls and floors of every colour; and with
windows, pictures and rugs besides. The beds, drawn from the same factors, have the same pixels in all three. The same
recipe is trained on each for the same number of images, and judged twice: on the whole picture, and on those pixels
alone that belong to the bed in every room and do not depend on anything else. Real rooms of other numbers stand beside
them: what a perfect generator would get. Needs nothing to download. Runs are kept under --out; a second call goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import ganzoo
from ganzoo.data.rooms import complete, draw, render
from ganzoo.evaluation import evaluate_images
from ganzoo.evaluation.image_sets import ArrayImages
from ganzoo.evaluation.metrics.frechet import frechet_distance
from ganzoo.evaluation.tables import FeatureTable
from ganzoo.pictures import grid, save_png, to_uint8

Pixels = npt.NDArray[np.uint8]

RECIPE, SIZE = "dcgan-cifar10", 32
FEATURES = "cifar-convnet"
ROW = 16  # images of each kind in the picture
OBJECT = ("bed", "wood", "blanket_hue", "blanket_lightness")
COLOURS = ("wall_hue", "wall_lightness", "floor", "floor_hue")
THINGS = ("window", "window_x", "window_width", "picture", "picture_hue", "rug", "rug_hue")
SETS = {"plain": (), "colours": COLOURS, "furnished": COLOURS + THINGS}
# What would shade, hide or move the bed stays as it is in all sets: lamps, daylight, the bed's place, the camera.
FIXED = {"bed_x": 0.0, "window": 0, "lamp": 0, "lamp_on": 0, "picture": 0, "rug": 0, "daylight": 0.0}
SAME_LEVELS = 8  # of 256: by so much a pixel of the bed may change with what is around it


def rooms(numbers: npt.NDArray[np.int64], varied: tuple[str, ...]) -> Pixels:
    """Return rooms of numbers in which the bed and some factors vary: (n, SIZE, SIZE, 3)."""
    drawn = draw(numbers)
    given: dict[str, Any] = {**FIXED, **{name: drawn[name] for name in (*OBJECT, *varied)}}
    parts = [
        render(
            complete({name: value[part] if np.ndim(value) else value for name, value in given.items()}), image_size=SIZE
        )
        for part in np.array_split(np.arange(len(numbers)), max(1, len(numbers) // 500))
    ]
    return np.concatenate(parts)


def object_pixels() -> npt.NDArray[np.bool_]:
    """Return which pixels show the bed in every room, whatever is around it: (SIZE, SIZE)."""
    numbers = np.arange(1000)
    plain = rooms(numbers, ()).astype(np.int64)
    same = np.ones((SIZE, SIZE), dtype=bool)
    for varied in SETS.values():
        same &= (np.abs(rooms(numbers, varied) - plain).max(-1) <= SAME_LEVELS).all(0)
    return same & (plain.std(0).max(-1) > 1)


def object_table(pixels: Pixels, inside: npt.NDArray[np.bool_]) -> FeatureTable:
    """Return the bed's pixels of images, in [0, 1] each, as features."""
    return FeatureTable.of(pixels[:, inside].reshape(len(pixels), -1) / 255.0)


def judge(pixels: Pixels, real: Pixels, inside: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return the numbers of images beside real ones: on the whole picture, and on the bed alone."""
    whole = evaluate_images(ArrayImages(pixels), ArrayImages(real), metrics=["fd", "pr", "dc"], features=FEATURES)
    numbers = {value.name.removesuffix(f"-{FEATURES}"): value.value for value in whole.values}
    numbers["bed-fd"] = frechet_distance(object_table(pixels, inside).moments, object_table(real, inside).moments)
    return numbers


def main() -> None:
    """Render, train, judge, print a table; write it as JSON, with a picture of all sets."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--kimg", type=float, default=96.0, help="length of each training")
    parser.add_argument("--images", type=int, default=20_000, help="rooms of each training")
    parser.add_argument("--judged", type=int, default=5_000, help="samples that are judged, and rooms beside them")
    parser.add_argument("--seed", type=int, default=0, help="of the trainings")
    parser.add_argument("--out", type=Path, default=Path("backgrounds"), help="folder of runs and results")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    inside, rows, pictures = object_pixels(), {}, []
    for name, varied in SETS.items():
        images = rooms(np.arange(asked.images), varied)
        run = ganzoo.train(
            RECIPE,
            data=images,
            kimg=asked.kimg,
            seed=asked.seed,
            overrides=["data.mirror=false", 'data.crop="none"'],
            out=asked.out / f"{name}-{asked.kimg:g}-{asked.seed}",
        )
        model = ganzoo.load_pretrained(str(run.model))
        drawn = np.concatenate([to_uint8(model.sample(500, seed=first)) for first in range(0, asked.judged, 500)])
        unseen = rooms(np.arange(asked.images, asked.images + asked.judged), varied)
        real = images[: asked.judged]
        rows[name] = {"generated": judge(drawn, real, inside), "real": judge(unseen, real, inside)}
        pictures += [real[:ROW], drawn[:ROW]]
        print(name, rows[name], flush=True)
    (asked.out / "results.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    sheet = grid(np.concatenate(pictures), columns=ROW)
    save_png(sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST), asked.out / "backgrounds.png")
    names = list(rows["plain"]["generated"])
    print(f"\n{'set':<12}{'images':<12}" + "".join(f"{name:>12}" for name in names) + f"   after {asked.kimg:g} kimg")
    for name, sides in rows.items():
        for side, numbers in sides.items():
            print(f"{name:<12}{side:<12}" + "".join(f"{numbers[one]:>12.4g}" for one in names))


if __name__ == "__main__":
    main()
