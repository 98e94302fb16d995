"""What the metrics cost: time and peak memory of each, for 50,000 images against 50,000.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --dimensions 224 --metrics fd pr --json costs.json

Features are random ones of the networks' dimensions (224: the packaged nets; 2,048: Inception), correlated and not
below zero, in files, as an evaluation writes them. Each metric runs in a process of its own, so that the peak of its
resident memory is its own; "nothing" is a process that does no more than load torch and open the tables. The networks'
own time, the generator's and the extractor's, is not in it. MS-SSIM needs no features and is measured on images.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ganzoo import registry
from ganzoo.evaluation.contract import Side, Subject
from ganzoo.evaluation.image_sets import ArrayImages
from ganzoo.evaluation.tables import BLOCK_ROWS, FeatureTable, FileRows, TableWriter
from ganzoo.features.contract import Extracted, FeatureExtractor, InputSpec

METRICS = ("nothing", "fd", "kd", "is", "pr", "dc")
SIDES = ("generated", "reference")
CLASSES = 10
IMAGE_METRIC, IMAGE_SIZE = "ms_ssim", 64


class Synthetic(FeatureExtractor):
    """What made the features: nothing."""

    name, sha256, dimension, num_classes, spec = "synthetic", "0" * 64, 1, CLASSES, InputSpec(0, 0, "none", 0.0, 1.0)

    def extract(self, images: torch.Tensor) -> Extracted:
        """Raise: there are no images."""
        raise NotImplementedError


def main() -> None:
    """Measure what the command line asks for; print a table, or write JSON where asked to."""
    arguments = _arguments()
    if arguments.child:
        print(json.dumps(_measure(arguments.child, arguments.folder, arguments.threads)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for dimension in arguments.dimensions:
            tables = Path(folder) / str(dimension)
            tables.mkdir()
            for number, side in enumerate(SIDES):
                _write(tables, side, arguments.count, dimension, seed=number)
            for metric in arguments.metrics:
                rows.append({"metric": metric, "dimension": dimension} | _in_a_process(metric, tables, arguments))
                print(json.dumps(rows[-1]), file=sys.stderr)
        if arguments.images:
            rows.append({"metric": IMAGE_METRIC, "dimension": None} | _in_a_process(IMAGE_METRIC, None, arguments))
    told = {"count": arguments.count, "machine": _machine(arguments), "costs": rows}
    if arguments.json is None:
        _print(told)
    else:
        arguments.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=50_000, help="images on each side")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[224, 2048], help="of the features")
    parser.add_argument("--metrics", nargs="*", default=list(METRICS), choices=METRICS)
    parser.add_argument("--no-images", dest="images", action="store_false", help="leave MS-SSIM out")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the processor")
    parser.add_argument("--json", type=Path, help="a file for the results")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _write(folder: Path, side: str, count: int, dimension: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    mixing = (np.random.default_rng(99).normal(size=(dimension, dimension)) / dimension**0.5).astype(np.float32)
    with (
        TableWriter(folder / f"{side}.npy", count, dimension) as features,
        TableWriter(folder / f"{side}-logits.npy", count, CLASSES) as logits,
    ):
        for first in range(0, count, BLOCK_ROWS):
            rows = min(BLOCK_ROWS, count - first)
            normal = random.standard_normal((rows, dimension), dtype=np.float32)
            features.add(np.maximum((1 + 0.05 * seed) * normal @ mixing, 0))
            logits.add(4 * random.standard_normal((rows, CLASSES), dtype=np.float32))


def _in_a_process(metric: str, folder: Path | None, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", metric, "--threads", str(arguments.threads)]
    command += ["--count", str(arguments.count)] + ([] if folder is None else ["--folder", str(folder)])
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(metric: str, folder: Path | None, threads: int) -> dict[str, Any]:
    """Return the cost of one metric in this process: seconds by the clock and of the processor, and MiB at the peak."""
    torch.set_num_threads(threads)
    sides = [_images_side(seed) if folder is None else _table_side(folder, side) for seed, side in enumerate(SIDES)]
    subject = Subject(sides[0], sides[1], extractor=Synthetic())
    wall, processor = time.perf_counter(), time.process_time()
    values = [] if metric == "nothing" else registry.metrics.get(metric)().measure(subject)
    return {
        "seconds": round(time.perf_counter() - wall, 2),
        "processor_seconds": round(time.process_time() - processor, 2),
        "peak_mib": _peak_mib(),
        "values": {value.name: value.value for value in values},
    }


def _table_side(folder: Path, side: str) -> Side:
    table = FeatureTable(FileRows(folder / f"{side}.npy"), FileRows(folder / f"{side}-logits.npy"))
    return Side(ArrayImages(np.zeros((1, 1, 1, 1), dtype=np.uint8)), table)


def _images_side(seed: int) -> Side:
    shape = (4000, IMAGE_SIZE, IMAGE_SIZE, 3)
    images = np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)
    return Side(ArrayImages(images), FeatureTable.of(np.zeros((len(images), 0))))


def _peak_mib() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


def _machine(arguments: argparse.Namespace) -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": arguments.threads,
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _print(told: dict[str, Any]) -> None:
    table = Table(title=f"{told['count']:,} images against {told['count']:,}")
    for title in ("metric", "dimension", "seconds", "processor seconds", "peak MiB"):
        table.add_column(title, justify="left" if title == "metric" else "right")
    for row in told["costs"]:
        dimension = f"{IMAGE_SIZE}×{IMAGE_SIZE}×3" if row["dimension"] is None else f"{row['dimension']:,}"
        costs = f"{row['seconds']:.1f}", f"{row['processor_seconds']:.1f}", f"{row['peak_mib']:,}"
        table.add_row(row["metric"], dimension, *costs)
    console = Console()
    console.print(table)
    machine = told["machine"]
    console.print(f"{machine['processor']}, {machine['threads']} threads, load {machine['load']}")


if __name__ == "__main__":
    main()
