"""How well duplicates are found, and how time and memory grow with the number of images.

    python benchmarks/dedup.py planted cifar10_jpeg/train.zip noto_emoji64/all.zip --images 10000 --method phash
    python benchmarks/dedup.py planted cifar10_jpeg/train.zip --images 10000 --method autoencoder
    python benchmarks/dedup.py growth imagenet32_jpeg/train_{0,1}.zip --counts 1000 10000 50000 100000 --chart dedup.png

Sources below GANZOO_TEST_DATA, or anything that `ganzoo data` takes. `planted`: of the images that are looked at, some
are copied and changed (each copy by one of the changes below), and the search runs over all. Recall: the share of the
copies that are in one group with their original. Precision: of the pairs (kept image, duplicate) that hold a copy, the
share that are a copy and its original or two copies of one. Found besides: duplicates among the images themselves for
each 100 of them, which are true ones or not: look at them (--report). `growth`: each count runs in a process of its
own; the processor's time for the search, apart from that for the thumbnails, and the peak of its memory.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from ganzoo.data import DataRequest, PackProgress, open_pack
from ganzoo.data.dedup import DedupOptions, Duplicates, find_duplicates, write_report

Pixels = npt.NDArray[np.uint8]
_COPIES = 200  # of each change
_rng = np.random.default_rng(0)


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def _crop(image: Image.Image, share: float, *, central: bool) -> Image.Image:
    side = image.width * share
    left, top = (2 * [(image.width - side) / 2]) if central else _rng.uniform(0, image.width - side, 2)
    return image.resize(image.size, Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))


def _noise(image: Image.Image, deviation: float) -> Image.Image:
    pixels = np.asarray(image) + _rng.normal(0, deviation, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _resize(image: Image.Image, share: float) -> Image.Image:
    small = image.resize((round(image.width * share),) * 2, Image.Resampling.BICUBIC)
    return small.resize(image.size, Image.Resampling.BICUBIC)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "the same": lambda image: image,
    "JPEG 75": lambda image: _jpeg(image, 75),
    "JPEG 50": lambda image: _jpeg(image, 50),
    "15 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "15 % darker": lambda image: ImageEnhance.Brightness(image).enhance(0.85),
    "resized to 75 % and back": lambda image: _resize(image, 0.75),
    "noise of 5 levels": lambda image: _noise(image, 5.0),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "mirrored and JPEG 75": lambda image: _jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 75),
    "cropped to 95 %, anywhere": lambda image: _crop(image, 0.95, central=False),
    "cropped to 90 %, middle": lambda image: _crop(image, 0.9, central=True),
    "cropped to 90 %, anywhere": lambda image: _crop(image, 0.9, central=False),
}


def _source(text: str) -> str:
    below = Path(os.environ.get("GANZOO_TEST_DATA", "")) / text
    return str(below) if below.exists() else text


def _images(text: str, most: int) -> Pixels:
    size = 64 if "64" in text else 32
    with open_pack(_source(text), DataRequest(size, max_images=most)) as pack:
        return np.concatenate([images for _, images in pack.chunks()])


def plant(images: Pixels) -> tuple[Pixels, npt.NDArray[np.int64], list[str]]:
    """Return images with changed copies after them, the number of each one's original, and each copy's change."""
    copies = min(_COPIES, len(images) // len(CHANGES))
    originals = np.random.default_rng(1).permutation(len(images))[: copies * len(CHANGES)]
    names = [name for name in CHANGES for _ in range(copies)]
    changed = [
        np.asarray(CHANGES[name](Image.fromarray(images[one])))
        for name, one in zip(names, originals.tolist(), strict=True)
    ]
    return np.concatenate([images, np.stack(changed)]), np.concatenate([np.arange(len(images)), originals]), names


def score(found: Duplicates, origin: npt.NDArray[np.int64], names: list[str]) -> dict[str, Any]:
    """Return recall for each change, precision, and how many duplicates there are besides."""
    count = len(origin) - len(names)
    group = np.arange(len(origin))
    for one in found.groups:
        group[list(one.numbers)] = one.numbers[0]
    right = group[count:] == group[origin[count:]]
    recall = {name: float(right[[other == name for other in names]].mean()) for name in CHANGES}
    # A copy may rightly be in a group with a natural duplicate of its original: those join the original's group.
    natural = group[:count]
    pairs = [(one.numbers[0], other) for one in found.groups for other in one.numbers[1:]]
    planted = [(i, j) for i, j in pairs if max(i, j) >= count]
    same = [natural[origin[i]] == natural[origin[j]] for i, j in planted]
    besides = sum(1 for i, j in pairs if max(i, j) < count)
    return {
        "recall": recall,
        "precision": float(np.mean(same)) if same else None,
        "besides": 100.0 * besides / count,
        "groups": len(found.groups),
    }


def planted(asked: argparse.Namespace) -> None:
    """Plant copies, search, and print a table: a row for each change, a column for each source."""
    chosen = {key: value for key, value in vars(asked).items() if key in DedupOptions.__dataclass_fields__}
    options = DedupOptions(**{key: value for key, value in chosen.items() if value is not None})
    columns = {}
    for text in asked.sources:
        together, origin, names = plant(_images(text, asked.images))
        with tempfile.TemporaryDirectory() as cache:
            found = find_duplicates(together, options, cache_dir=Path(cache))
        columns[text] = score(found, origin, names)
        if asked.report is not None:
            write_report(found, asked.report / Path(text).parent.name)
    print(f"{options}\n")
    print("| |" + "|".join(asked.sources) + "|\n|---|" + "---|" * len(columns))
    for name in CHANGES:
        print(f"| {name} | " + " | ".join(f"{one['recall'][name]:.1%}" for one in columns.values()) + " |")
    shown = [f"{one['precision']:.1%}" if one["precision"] is not None else "" for one in columns.values()]
    print("| precision | " + " | ".join(shown) + " |")
    print("| found besides, of 100 images | " + " | ".join(f"{one['besides']:.2f}" for one in columns.values()) + " |")
    if asked.json is not None:
        asked.json.write_text(json.dumps(columns, indent=1) + "\n", encoding="utf-8")


def one_count(pack: str, cache: str, method: str) -> None:
    """Search in a pack and print seconds, seconds of the processor, and the peak of the memory in KiB as JSON."""
    begun = [time.monotonic(), time.process_time()]

    def watch(progress: Any) -> None:
        if isinstance(progress, PackProgress):
            begun[:] = time.monotonic(), time.process_time()

    found = find_duplicates(pack, DedupOptions(method=method), cache_dir=Path(cache), progress=watch)  # type: ignore[arg-type]
    took, used = time.monotonic() - begun[0], time.process_time() - begun[1]
    told = {
        "images": found.images,
        "duplicates": found.images - found.kept,
        "seconds": took,
        "cpu": used,
        "KiB": _peak(),
    }
    print(json.dumps(told))


def _peak() -> int:
    """Return the largest memory of this process so far in KiB; getrusage would count the parent's before exec."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def growth(asked: argparse.Namespace) -> None:
    """Search among more and more images, each number in a process of its own; print and draw what it takes."""
    rows = []
    whole = np.concatenate([_images(text, max(asked.counts)) for text in asked.sources])
    for count in asked.counts:
        chosen = np.arange(min(count, len(whole))) * len(whole) // min(count, len(whole))
        for method in asked.methods:
            with tempfile.TemporaryDirectory() as cache:
                open_pack(whole[chosen], DataRequest(whole.shape[1]), cache_dir=Path(cache)).close()
                (pack,) = (one for one in Path(cache).iterdir() if not one.name.startswith("."))
                command = [sys.executable, __file__, "one", str(pack), cache, method]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append({"method": method, **json.loads(done.stdout)})
            print(rows[-1], flush=True)
    if asked.chart is not None:
        _chart(rows, asked.chart)


def _chart(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for method in dict.fromkeys(row["method"] for row in rows):
        points = [row for row in rows if row["method"] == method]
        counts = [row["images"] / 1000 for row in points]
        left.plot(counts, [row["cpu"] for row in points], "o-", label=method)
        right.plot(counts, [row["KiB"] / 1024 for row in points], "o-", label=method)
    for panel, title in ((left, "processor seconds of the search"), (right, "peak memory of the process, MiB")):
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("thousand images")
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Read what is asked for and measure it."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("planted", help="precision and recall on changed copies")
    one.add_argument("sources", nargs="+")
    one.add_argument("--images", type=int, default=10_000, help="at most so many of a source")
    one.add_argument("--method", choices=["phash", "autoencoder", "both"])
    one.add_argument("--distance", type=int)
    one.add_argument("--difference", type=float)
    one.add_argument("--correlation", type=float)
    one.add_argument("--no-compare", dest="compare", action="store_false", default=None)
    one.add_argument("--no-crops", dest="crops", action="store_false", default=None)
    one.add_argument("--json", type=Path)
    one.add_argument("--report", type=Path, help="a folder for a report of each source")
    one.set_defaults(run=planted)
    more = commands.add_parser("growth", help="time and memory for more and more images")
    more.add_argument("sources", nargs="+", help="of images of one size; their images together")
    more.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 50_000])
    more.add_argument("--methods", nargs="+", default=["phash"])
    more.add_argument("--chart", type=Path)
    more.set_defaults(run=growth)
    single = commands.add_parser("one")
    for name in ("pack", "cache", "method"):
        single.add_argument(name)
    single.set_defaults(run=lambda asked: one_count(asked.pack, asked.cache, asked.method))
    asked = parser.parse_args()
    asked.run(asked)


if __name__ == "__main__":
    main()
