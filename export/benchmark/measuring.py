"""How fast a model draws in each runtime: torch, ONNX Runtime and OpenVINO, in several precisions and batch sizes.

Each runtime has a process of its own (`worker.py`). They take turns, round by round and in changing order, so
that what else the machine does strikes all alike. A draw is timed from z on the host to images on the host.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ganzoo.errors import GanzooError, UsageError, suggest
from ganzoo.export.benchmark.process import WorkerProcess

if TYPE_CHECKING:
    from ganzoo.references import ModelLocation

RUNTIMES = (
    "torch",
    "torch-bf16",
    "torch-compile",
    "onnx-fp32",
    "onnx-fp16",
    "onnx-int8",
    "openvino-fp32",
    "openvino-bf16",
    "openvino-int8",
)
_ONLY_IF_ASKED = ("torch-compile",)  # it compiles for each batch size, which takes minutes
_FILE_OF = {"openvino-bf16": "fp32"}  # the precision of the file that a runtime reads, where it is not in its name
BATCH_SIZES = (1, 8, 64)
ROUNDS = 5


@dataclass(frozen=True)
class BatchResult:
    """One batch size in one runtime.

    Args:
        batch_size: images a draw.
        draws: how many were timed.
        images_per_second: over all draws together.
        p50_ms, p99_ms: milliseconds that 50 % and 99 % of the draws stayed below; of fewer than 100 draws the second is
            the slowest, or near to it.
    """

    batch_size: int
    draws: int
    images_per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class RuntimeResult:
    """One runtime.

    Args:
        runtime: a name of `RUNTIMES`.
        computed_on: "cpu", "cuda:0" …, as the runtime says.
        threads: of the processor.
        file_bytes: size of the file that it reads the generator from.
        memory_bytes: the most memory that its process had after it drew a batch of every size, Python and the runtime's
            own code included; None where the system does not tell.
        device_memory_bytes: by how much the GPUs' memory in use grew by that; None without a GPU.
        batches: in the order asked for.
    """

    runtime: str
    computed_on: str
    threads: int
    file_bytes: int
    memory_bytes: int | None
    device_memory_bytes: int | None
    batches: tuple[BatchResult, ...]


@dataclass(frozen=True)
class SamplingBenchmark:
    """What was measured of a model.

    Args:
        results: of the runtimes that could be measured, at least one.
        left_out: runtime → why it could not be measured.
    """

    results: tuple[RuntimeResult, ...]
    left_out: dict[str, str]


Progress = Callable[[str], None]


def benchmark_sampling(
    location: ModelLocation,
    *,
    runtimes: Sequence[str] | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    seconds: float = 2.0,
    threads: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> SamplingBenchmark:
    """Return how fast a model draws.

    Args:
        location: of a model folder or weights file, which is exported into a temporary folder for the runtimes that
            read such files; or of an ONNX file, which is measured alone.
        runtimes: names of `RUNTIMES`; None for all that are installed but torch-compile, or of an ONNX file for ONNX
            Runtime.
        batch_sizes: images a draw.
        seconds: how long each runtime is timed at each batch size, in all; one draw a round at least.
        threads: of the processor; None for `OMP_NUM_THREADS` where it is set, else one a core.
        device: "auto", "cpu", "cuda" or "cuda:N".
        progress: is told in words what is being done.

    Raises:
        UsageError: what cannot be asked for.
        WeightsError: the model cannot be read.
        GanzooError: no runtime could be measured.
    """
    say = progress or _say_nothing
    asked = _check(location, runtimes, batch_sizes, seconds)
    left_out: dict[str, str] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ganzoo-bench-")))
        files = _files(location, asked, folder, left_out, say)
        candidates = {}
        for runtime, file in files.items():
            say(f"Starting {runtime} ...")
            process = stack.enter_context(WorkerProcess(runtime, folder / f"{runtime}.log"))
            try:
                candidates[runtime] = _candidate(process, runtime, file, device, threads, batch_sizes)
            except GanzooError as error:
                left_out[runtime] = str(error)
        for size in batch_sizes:
            _take_turns(candidates, size, seconds, left_out, say)
    if not candidates:
        raise GanzooError(f"No runtime could be measured. {next(iter(left_out.values()))}")
    return SamplingBenchmark(tuple(one.result(batch_sizes) for one in candidates.values()), left_out)


def _say_nothing(_: str) -> None:
    pass


def _check(
    location: ModelLocation, runtimes: Sequence[str] | None, batch_sizes: Sequence[int], seconds: float
) -> tuple[str, ...]:
    """Return the runtimes that are to be measured."""
    if not batch_sizes or any(type(size) is not int or size < 1 for size in batch_sizes):
        raise UsageError(f"Batch sizes (={list(batch_sizes)}) must be whole numbers, at least 1.")
    if not 0 < seconds < math.inf:
        raise UsageError(f"`seconds` (={seconds}) must be above 0.")
    for name in runtimes or ():
        if name not in RUNTIMES:
            raise UsageError(f"There is no runtime {name!r} to measure.", suggest(name, RUNTIMES))
    if location.kind != "onnx":
        return tuple(dict.fromkeys(runtimes)) if runtimes else _installed()
    from ganzoo.export.runtime.sampler import OnnxSampler

    precision = OnnxSampler(location.path, provider="cpu").metadata.precision
    able = [name for name in RUNTIMES if _precision_of_file(name) == precision]
    if wrong := [name for name in runtimes or () if name not in able]:
        raise UsageError(
            f"{location.path} is an ONNX file, which {', '.join(wrong)} cannot draw.",
            f"Leave it out, or say {', '.join(able)}.",
        )
    return tuple(dict.fromkeys(runtimes)) if runtimes else (f"onnx-{precision}",)


def _installed() -> tuple[str, ...]:
    """Return the runtimes that are here and take no minutes; what is broken is told of when it is opened."""
    has_openvino = importlib.util.find_spec("openvino") is not None
    able = (name for name in RUNTIMES if has_openvino or not name.startswith("openvino"))
    return tuple(name for name in able if name not in _ONLY_IF_ASKED)


def _precision_of_file(runtime: str) -> str | None:
    """Return the precision of the ONNX file that a runtime reads; None for torch, which reads none."""
    engine, _, precision = runtime.partition("-")
    return None if engine == "torch" else _FILE_OF.get(runtime, precision)


@dataclass(frozen=True)
class _File:
    """What a runtime opens, and the file that its weights are in."""

    path: Path
    weights: Path


def _files(
    location: ModelLocation, runtimes: Sequence[str], folder: Path, left_out: dict[str, str], progress: Progress
) -> dict[str, _File]:
    """Return what each runtime opens; the ONNX files are exported into a folder, each once."""
    path = location.path.absolute()
    if location.kind == "onnx":
        return {runtime: _File(path, path) for runtime in runtimes}
    from ganzoo.models import GENERATOR, load_model

    progress("Loading the model ...")
    model = load_model(path)
    weights = path / GENERATOR if path.is_dir() else path
    files = {}
    for runtime in runtimes:
        if (precision := _precision_of_file(runtime)) is None:
            files[runtime] = _File(path, weights)
            continue
        from ganzoo.export.onnx.exporting import export_onnx

        target = folder / f"{precision}.onnx"
        try:
            if not target.exists():
                progress(f"Exporting {precision} ...")
                export_onnx(model, target, precision=cast(Any, precision), timing=False)
        except GanzooError as error:
            left_out[runtime] = str(error)
        else:
            files[runtime] = _File(target, target)
    return files


class _Candidate:
    """A runtime that has opened its model and drawn a batch of every size, and the times that are taken of it."""

    def __init__(self, process: WorkerProcess, runtime: str, file: _File, told: dict[str, Any], grown: int | None):
        self._process, self._runtime, self._told, self._grown = process, runtime, told, grown
        self._file_bytes = file.weights.stat().st_size
        self._seconds: dict[int, list[float]] = {}

    def draw(self, batch_size: int, seconds: float) -> None:
        """Draw batches for some seconds, once at least, and keep the time of each."""
        answer = self._process.ask({"draw": batch_size, "seconds": seconds})
        self._seconds.setdefault(batch_size, []).extend(answer["seconds"])

    def result(self, batch_sizes: Sequence[int]) -> RuntimeResult:
        """Return what was measured."""
        return RuntimeResult(
            runtime=self._runtime,
            computed_on=self._told["computed_on"],
            threads=self._told["threads"],
            file_bytes=self._file_bytes,
            memory_bytes=self._told["memory_bytes"],
            device_memory_bytes=self._grown,
            batches=tuple(summarise(size, self._seconds[size]) for size in batch_sizes),
        )


def _candidate(
    process: WorkerProcess, runtime: str, file: _File, device: str, threads: int | None, batch_sizes: Sequence[int]
) -> _Candidate:
    before = gpu_memory()
    told = process.ask(
        {
            "open": {
                "runtime": runtime,
                "path": str(file.path),
                "device": device,
                "threads": threads,
                "batch_sizes": list(batch_sizes),
            }
        }
    )
    after = gpu_memory() if before is not None else None
    grown = after - before if before is not None and after is not None and told["computed_on"] != "cpu" else None
    return _Candidate(process, runtime, file, told, grown)


def _take_turns(
    candidates: dict[str, _Candidate], size: int, seconds: float, left_out: dict[str, str], progress: Progress
) -> None:
    """Draw batches of one size with all candidates, in rounds; each round begins with another of them."""
    for turn in range(ROUNDS):
        progress(f"Batches of {size}: round {turn + 1} of {ROUNDS} ...")
        names = list(candidates)
        first = turn % max(len(names), 1)
        for name in names[first:] + names[:first]:
            try:
                candidates[name].draw(size, seconds / ROUNDS)
            except GanzooError as error:
                left_out[name] = str(error)
                del candidates[name]


def summarise(batch_size: int, seconds: Sequence[float]) -> BatchResult:
    """Return the rate and the percentiles of draws.

    Args:
        batch_size: images a draw.
        seconds: of each draw, one at least.
    """
    p50, p99 = np.percentile(seconds, [50, 99])
    rate = batch_size * len(seconds) / sum(seconds)
    return BatchResult(batch_size, len(seconds), rate, float(p50) * 1e3, float(p99) * 1e3)


def gpu_memory() -> int | None:
    """Return the bytes of memory in use on all NVIDIA GPUs together, by whom ever; None where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return sum(int(line) for line in done.stdout.split("\n") if line.strip()) << 20  # MiB
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
