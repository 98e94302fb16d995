"""What it costs as the work grows: more images, larger batches, larger images, more processes.

    python benchmarks/scaling.py --json scaling.json --picture scaling.png
    python benchmarks/scaling.py --only pack batch
    python benchmarks/scaling.py --only processes --device cuda --processes 1 2 4 8      # NCCL, on one machine's GPUs

pack        images read in an epoch's random order from packs of 64×64×3 that differ only in how many images they hold,
            with the memory that this takes. The packs' files are sparse: the kernel makes up the zeros that it would
            else have from the disk or its cache.
batch       images a second of a training by the batch (`ganzoo bench train`), and its memory.
resolution  the same by the side of the images, one layer more in both networks for each doubling.
processes   whole trainings (`ganzoo train --processes N`, or --gpus N on CUDA); on a processor every process has an
            equal share of the cores, so what is lost is what the exchange of gradients costs. Memory is all processes'.

Every figure is of processes of its own, on random images.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from reporting import Row, print_table, write_json

from ganzoo.data import DataRequest, Pack, Prefetcher, open_pack
from ganzoo.data.packs import IMAGES, MANIFEST, images_header

RECIPE = "dcgan-tutorial64"
WIDEST, NARROWEST = 1024, 64
KINDS = ("pack", "batch", "resolution", "processes")
SHOWN = {
    "pack": "Packs by their number of images: read at random, epochs' orders",
    "batch": "A training by its batch",
    "resolution": "A training by the side of its images",
    "processes": "A training by its processes",
}
_READ, _BATCH = 20_480, 128


def main() -> None:
    """Measure what is asked for, print tables; write JSON and a picture where asked to."""
    arguments = _arguments()
    if arguments.one_pack is not None:
        print(json.dumps(_read_pack(arguments.one_pack)))
        return
    results: dict[str, list[Row]] = {}
    for kind in KINDS:
        if kind in arguments.only:
            results[kind] = _measure(kind, arguments)
            print_table(SHOWN[kind], results[kind])
    write_json(arguments.json, {"recipe": arguments.recipe, **results})
    if arguments.picture is not None:
        _draw(results, arguments.recipe, arguments.picture)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--recipe", default=RECIPE, help="of the DCGAN family")
    parser.add_argument("--counts", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256, 512])
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 64, 128, 256], help="powers of two, 8 or more")
    parser.add_argument("--side-batch", type=int, default=16, help="images a batch where the side grows")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=30, help="of the trainings in several processes")
    parser.add_argument("--seconds", type=float, default=4.0, help="that a training is timed for")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="a file for the results")
    parser.add_argument("--picture", type=Path, help="a PNG for the chart")
    parser.add_argument("--one-pack", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(kind: str, arguments: argparse.Namespace) -> list[Row]:
    if kind == "pack":
        return _packs(arguments.counts)
    if kind == "batch":
        return [{"batch": batch, **_train(arguments, batch, [])} for batch in arguments.batches]
    if kind == "resolution":
        return [{"side": side, **_train(arguments, arguments.side_batch, _grown(side))} for side in arguments.sides]
    return [_together(arguments, count) for count in arguments.processes]


# ---------------------------------------------------------------------------------------------------- packs


def _packs(counts: Sequence[int]) -> list[Row]:
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = _sparse_pack(Path(name), count)
            command = [sys.executable, __file__, "--one-pack", str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append({"images": count, "GiB": count * 64 * 64 * 3 / 2**30, **json.loads(done.stdout)})
    return rows


def _sparse_pack(scratch: Path, count: int) -> Path:
    """Return the folder of a pack whose pixels are a hole in its file: all black, and they take no disk."""
    request, folder = DataRequest(64), scratch / "pack"
    with open_pack(np.zeros((2, 64, 64, 3), np.uint8), request, cache_dir=scratch) as small:
        manifest = dataclasses.replace(small.manifest, count=count, bytes=count * request.image_bytes)
    folder.mkdir()
    header = images_header(request, count)
    with (folder / IMAGES).open("wb") as file:
        file.write(header)
        file.truncate(len(header) + manifest.bytes)
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return folder


def _read_pack(folder: Path) -> Row:
    """Return what reading a pack at random costs, in a process that does nothing else."""
    from ganzoo.randomness import permutation

    with Pack(folder) as pack:
        pack.gather(np.arange(_BATCH) % len(pack))  # torch is imported, and its memory counted as begun
        before = _resident()
        begun = time.perf_counter()
        order = permutation(len(pack), 0, 0)
        ordered = time.perf_counter() - begun
        with_order = _resident()
        wanted = (order[first : first + _BATCH] for first in range(0, min(_READ, len(pack)), _BATCH))
        begun, images = time.perf_counter(), 0
        with Prefetcher(pack, wanted) as batches:
            for batch in batches:
                images += len(batch)
        seconds = time.perf_counter() - begun
        return {
            "images/s": images / seconds,
            "MiB of reading": max(0.0, (_resident() - with_order) / 2**20),
            "MiB of the order": (with_order - before) / 2**20,
            "seconds of the order": ordered,
            "MiB at most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def _resident() -> float:
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))


# ---------------------------------------------------------------------------------------------------- trainings


def _train(arguments: argparse.Namespace, batch: int, overrides: list[str]) -> Row:
    from ganzoo.benchmarking.measuring import benchmark_training

    done = benchmark_training(
        arguments.recipe,
        overrides=overrides,
        batch_size=batch,
        device=arguments.device,
        seconds=arguments.seconds,
    )
    result = done.results[0]
    memory = result.device_memory_bytes or result.memory_bytes
    return {
        "images/s": result.images_per_second,
        "GFLOP an image": done.flops_per_image / 1e9,
        "GFLOP/s": result.flops_per_second / 1e9,
        "share of peak": result.share_of_peak,
        "MiB": None if memory is None else memory / 2**20,
    }


def _grown(side: int) -> list[str]:
    """Return the changes that make a net of the DCGAN family one of another side: widths double towards 4×4."""
    layers = side.bit_length() - 3  # from 4×4
    widths = [min(WIDEST, NARROWEST << layer) for layer in range(layers)]
    return [
        f"data.image_size={side}",
        f"discriminator.widths={widths}",
        f"generator.widths={widths[::-1]}",
    ]


def _together(arguments: argparse.Namespace, count: int) -> Row:
    """Train in several processes, each with its share of the cores or a GPU; the batch is shared out among them."""
    flag = "--processes" if arguments.device == "cpu" else "--gpus"
    cores = len(os.sched_getaffinity(0))
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, cores // count))}
    with tempfile.TemporaryDirectory() as name:
        pack = Path(name) / "noise.npy"
        side = _side_of(arguments.recipe)
        np.save(pack, np.random.default_rng(0).integers(0, 256, (2048, side, side, 3), dtype=np.uint8))
        begin = [sys.executable, "-m", "ganzoo", "train", arguments.recipe, "--data", str(pack), flag, str(count)]
        quiet = ["--steps", str(arguments.steps), "--set", "train.sample_every=100000"]
        quiet += ["--set", "train.checkpoint_every=100000", "--out", f"{name}/run", "--json"]
        done = subprocess.run([*begin, *quiet], check=False, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        told = json.loads(done.stdout)
    return {"processes": count, "threads each": max(1, cores // count), "images/s": told["images_per_second"]}


def _side_of(recipe: str) -> int:
    from ganzoo.building import load_recipe

    return load_recipe(recipe).data.image_size


# ---------------------------------------------------------------------------------------------------- the picture


def _draw(results: dict[str, list[Row]], recipe: str, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(results), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(results), squeeze=False)[0]
    titles = {
        "pack": ("images", "reading a pack"),
        "batch": ("batch", f"training {recipe}"),
        "resolution": ("side", "training larger images, log scale"),
        "processes": ("processes", f"training {recipe}"),
    }
    memory = {"pack": "MiB of reading", "batch": "MiB", "resolution": "MiB"}
    handles: dict[str, Any] = {}
    for axes, (kind, rows) in zip(panels, results.items(), strict=True):
        key, title = titles[kind]
        places = [row["images" if kind == "pack" else key] for row in rows]
        axes.plot(places, [row["images/s"] for row in rows], "o-", color="#2f6f9f", label="images/s")
        axes.set_xscale("log", base=10 if kind == "pack" else 2)
        axes.set_xticks(places, [f"{place:,}" if kind != "pack" else f"$10^{len(str(place)) - 1}$" for place in places])
        axes.minorticks_off()
        axes.set_xlabel(
            {"pack": "images in the pack", "batch": "images a batch", "resolution": "pixels a side"}.get(kind, key)
        )
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        if kind == "resolution":
            axes.set_yscale("log")
        else:
            axes.set_ylim(0, 1.15 * max(row["images/s"] for row in rows))
        if kind in memory and all(row[memory[kind]] is not None for row in rows):
            right = axes.twinx()
            right.plot(places, [row[memory[kind]] for row in rows], "s--", color="#c06020", label="memory, MiB")
            right.set_ylim(0, max(64.0, 1.3 * max(row[memory[kind]] for row in rows)))
            right.tick_params(axis="y", labelcolor="#c06020")
            handles |= {"memory, MiB": right.lines[0]}
        handles |= {"images/s": axes.lines[0]}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, fontsize=9)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    print(path)


if __name__ == "__main__":
    main()
