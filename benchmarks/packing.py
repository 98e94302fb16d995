"""How fast images on disk become a pack, beside torchvision: ImageFolder, Resize, CenterCrop, ToTensor, a DataLoader.

    python benchmarks/packing.py
    python benchmarks/packing.py --json packing.json --picture packing.png
    python benchmarks/packing.py --images FOLDER            # one's own images, in folders of classes

All read the same files, which the page cache holds, and give 64×64: ganzoo a whole pack, by Lanczos, written and
flushed to the disk with its checksum; torchvision tensors, by its default, bilinear. They take turns; told are medians.
torchvision begins every round with new worker processes, as every epoch does.

Without --images the files are rendered rooms, cut to sides of 256 to 500 pixels, with grain that gives JPEGs of quality
90 about three bits a pixel, as photographs have; large JPEGs of 1024; PNGs; and PNGs that have the wanted size.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from reporting import Row, in_turn, print_table, spread, write_json

from ganzoo.data import DataRequest, open_pack, open_source

SIZE = 64
RENDERED = 512  # pixels; larger ones are enlarged
GRAIN = 5.0  # standard deviation, in levels of 256
WORKERS = (0, 2)


def main() -> None:
    """Make the images, measure, print a table; write JSON and a picture where asked to."""
    arguments = _arguments()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for case, folder in _cases(Path(name), arguments):
            files = [path for path in folder.rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files) / len(files) / 1024
            taken = in_turn(_contenders(folder, Path(name)), arguments.rounds)
            rates = {one: spread([len(files) / seconds for seconds in of]) for one, of in taken.items()}
            rows += [
                {
                    "images": case,
                    "KiB each": size,
                    "by": one,
                    "images/s": rate["median"],
                    "least": rate["least"],
                    "greatest": rate["greatest"],
                    "ganzoo's": rates["ganzoo"]["median"] / rate["median"],
                }
                for one, rate in rates.items()
            ]
            print_table(f"{case}: {len(files):,} files to {SIZE}×{SIZE}", rows[-len(rates) :])
    write_json(arguments.json, {"rows": rows})
    if arguments.picture is not None:
        _draw(rows, arguments.picture)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, help="a folder of folders of images, instead of rendered ones")
    parser.add_argument("--count", type=int, default=1000, help="rendered images of 256 to 500 pixels as JPEG")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    parser.add_argument("--only", nargs="+", help="words: cases whose names hold one of them")
    parser.add_argument("--json", type=Path, help="a file for the results")
    parser.add_argument("--picture", type=Path, help="a PNG for the chart")
    return parser.parse_args()


# ---------------------------------------------------------------------------------------------------- who takes part


def _contenders(folder: Path, scratch: Path) -> dict[str, Callable[[], int]]:
    def ganzoo() -> int:
        with (
            tempfile.TemporaryDirectory(dir=scratch) as packs,
            open_pack(folder, DataRequest(SIZE), cache_dir=Path(packs)) as pack,
        ):
            return len(pack)

    def torchvision(workers: int) -> Callable[[], int]:
        from torch.utils.data import DataLoader
        from torchvision import datasets, transforms

        changes = transforms.Compose([transforms.Resize(SIZE), transforms.CenterCrop(SIZE), transforms.ToTensor()])

        def read() -> int:
            loader = DataLoader(datasets.ImageFolder(str(folder), changes), batch_size=64, num_workers=workers)
            return sum(len(images) for images, _ in loader)

        return read

    return {"ganzoo": ganzoo, **{f"torchvision, {workers} workers": torchvision(workers) for workers in WORKERS}}


# ---------------------------------------------------------------------------------------------------- the images


def _cases(scratch: Path, arguments: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Yield what is read, one after the other, each in a folder."""
    if arguments.images is not None:
        yield arguments.images.name, arguments.images
        return
    count = arguments.count
    cases: list[tuple[str, int, int, int, str]] = [
        ("JPEG, 256 to 500 pixels", count, 256, 500, "jpg"),
        ("JPEG, 1024 pixels", max(1, count // 5), 1024, 1024, "jpg"),
        ("PNG, 256 to 500 pixels", max(1, count // 4), 256, 500, "png"),
        ("PNG, 64 pixels", 2 * count, SIZE, SIZE, "png"),
    ]
    for number, (name, images, least, most, suffix) in enumerate(cases):
        if arguments.only is None or any(word in name for word in arguments.only):
            folder = scratch / str(number)
            _write_images(folder, images, least, most, suffix)
            yield name, folder


def _write_images(folder: Path, count: int, least: int, most: int, suffix: str) -> None:
    random = np.random.default_rng(0)
    rooms = itertools.cycle(_rooms(24, min(RENDERED, most) if most > SIZE else SIZE))
    for index in range(count):
        width, height = (int(side) for side in random.integers(least, most + 1, 2))
        room = Image.fromarray(next(rooms))
        scale = max(1.0, max(width, height) / room.width)
        room = room.resize((round(room.width * scale), round(room.height * scale)), Image.Resampling.BICUBIC)
        left, top = (int(random.integers(0, over + 1)) for over in (room.width - width, room.height - height))
        pixels = np.asarray(room.crop((left, top, left + width, top + height)), dtype=np.float64)
        pixels += random.normal(0, GRAIN, (height, width, 1))
        path = folder / f"class{index % 10}" / f"{index:06d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, **({"quality": 90} if suffix == "jpg" else {}))


def _rooms(count: int, size: int) -> list[npt.NDArray[np.uint8]]:
    source = open_source(f"rooms:count={count}")
    source.prefer(size)
    samples = source.read_batch(np.arange(count)) or [source.read(index) for index in range(count)]
    return [np.asarray(sample.image) for sample in samples]


# ---------------------------------------------------------------------------------------------------- the picture


def _draw(rows: list[Row], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(row["images"] for row in rows))
    names = list(dict.fromkeys(row["by"] for row in rows))
    figure = Figure(figsize=(3 + 2 * len(cases), 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, name in enumerate(names):
        of = [next(row for row in rows if row["images"] == case and row["by"] == name) for case in cases]
        at = np.arange(len(cases)) + (place - (len(names) - 1) / 2) * 0.27
        rates = np.array([row["images/s"] for row in of])
        around = [rates - [row["least"] for row in of], [row["greatest"] for row in of] - rates]
        axes.bar(
            at, rates, 0.25, yerr=around, label=name, capsize=3, color=("#2f6f9f", "#b8b8b8", "#888888")[place % 3]
        )
        for x, row in zip(at, of, strict=True):
            axes.annotate(
                f"{row['images/s']:,.0f}",
                (x, row["greatest"]),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    axes.set_yscale("log")
    axes.set_xticks(np.arange(len(cases)), cases)
    axes.set_ylabel("images a second")
    axes.set_title(f"Reading images to {SIZE}×{SIZE}: a whole pack, and torchvision's tensors")
    axes.legend(loc="upper left")
    axes.margins(y=0.25)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    print(path)


if __name__ == "__main__":
    main()
