"""What `ganzoo bench sample` measures, and that nothing of it is left behind, however it ends."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_files
import pytest
from tiny_runs import table

from ganzoo.benchmarking.serving import peak_memory, serve
from ganzoo.errors import GanzooError, UsageError
from ganzoo.export.benchmark import measuring, worker
from ganzoo.export.benchmark.measuring import ROUNDS, RUNTIMES, benchmark_sampling, gpu_memory, summarise
from ganzoo.export.benchmark.process import WorkerProcess
from ganzoo.models import GENERATOR, Model
from ganzoo.references import ModelLocation
from ganzoo.zoo import create_model


@pytest.fixture
def onnx_file(tmp_path: Path) -> ModelLocation:
    return ModelLocation(onnx_files.write(tmp_path / "model.onnx", classes=onnx_files.CLASSES), "onnx")


@pytest.fixture
def folder(tmp_path: Path) -> ModelLocation:
    create_model(table()).save(tmp_path / "model")
    return ModelLocation(tmp_path / "model")


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files, in which nothing of ganzoo's may be left."""
    made = tmp_path / "scratch"
    made.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    return made


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[WorkerProcess]:
    """The processes that are started."""
    made: list[WorkerProcess] = []

    class Noted(WorkerProcess):
        def __init__(self, name: str, log: Path) -> None:
            super().__init__(name, log)
            made.append(self)

    monkeypatch.setattr(measuring, "WorkerProcess", Noted)
    return made


def assert_gone(processes: list[WorkerProcess], scratch: Path) -> None:
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)
    assert list(scratch.glob("ganzoo-*")) == []


# ------------------------------------------------------------------ numbers


def test_a_rate_is_images_over_seconds_and_percentiles_are_of_the_draws() -> None:
    found = summarise(8, [0.001] * 98 + [0.002, 0.1])
    assert (found.batch_size, found.draws) == (8, 100)
    assert found.images_per_second == pytest.approx(8 * 100 / 0.2)
    assert found.p50_ms == pytest.approx(1.0)
    assert found.p99_ms == pytest.approx(np.percentile([1.0] * 98 + [2.0, 100.0], 99))


def test_an_onnx_file_is_measured_alone(onnx_file: ModelLocation, started: list[WorkerProcess], scratch: Path) -> None:
    said: list[str] = []
    done = benchmark_sampling(onnx_file, batch_sizes=(3, 1), seconds=0.05, threads=1, progress=said.append)
    (result,) = done.results
    assert (result.runtime, result.computed_on, result.threads, done.left_out) == ("onnx-fp32", "cpu", 1, {})
    assert result.file_bytes == onnx_file.path.stat().st_size
    assert result.memory_bytes is None or 10 << 20 < result.memory_bytes < 1 << 30
    assert result.device_memory_bytes is None
    assert [batch.batch_size for batch in result.batches] == [3, 1]
    for batch in result.batches:
        assert batch.draws >= ROUNDS
        assert 0 < batch.p50_ms <= batch.p99_ms < 1000
        assert batch.images_per_second >= batch.batch_size * 1000 / batch.p99_ms / 10
    assert said[0] == "Starting onnx-fp32 ..."
    assert said[-1] == f"Batches of 1: round {ROUNDS} of {ROUNDS} ..."
    assert len(started) == 1
    assert_gone(started, scratch)


def test_an_onnx_file_is_measured_by_the_runtimes_that_read_it_if_asked(onnx_file: ModelLocation) -> None:
    asked = ("openvino-bf16", "onnx-fp32", "openvino-fp32")
    done = benchmark_sampling(onnx_file, runtimes=asked, batch_sizes=(2,), seconds=0.02, threads=1)
    assert done.left_out == {}
    assert tuple(result.runtime for result in done.results) == asked
    assert {result.file_bytes for result in done.results} == {onnx_file.path.stat().st_size}
    assert {(result.computed_on, result.threads) for result in done.results} == {("cpu", 1)}


def test_each_onnx_file_is_exported_once(folder: ModelLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    exported: list[str] = []

    def export_onnx(model: Model, path: Path, *, precision: str, timing: bool) -> None:
        exported.append(precision)
        onnx_files.write(path)

    monkeypatch.setattr("ganzoo.export.onnx.exporting.export_onnx", export_onnx)
    runtimes = ("onnx-fp32", "openvino-fp32", "openvino-bf16", "openvino-int8")
    done = benchmark_sampling(folder, runtimes=runtimes, batch_sizes=(1,), seconds=0.01, threads=1)
    assert tuple(result.runtime for result in done.results) == runtimes
    assert exported == ["fp32", "int8"]


@pytest.mark.parametrize("there", [True, False])
def test_openvino_is_measured_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if there else None)
    left = [name for name in RUNTIMES if name not in measuring._installed()]
    assert left == ["torch-compile", *([] if there else ["openvino-fp32", "openvino-bf16", "openvino-int8"])]


def check_folder(location: ModelLocation, runtimes: tuple[str, ...]) -> None:
    done = benchmark_sampling(location, runtimes=runtimes, batch_sizes=(2,), seconds=0.05, threads=1, device="cpu")
    assert done.left_out == {}
    assert tuple(result.runtime for result in done.results) == runtimes
    assert {result.computed_on for result in done.results} == {"cpu"}
    assert {result.threads for result in done.results} == {1}
    sizes = {result.runtime: result.file_bytes for result in done.results}
    assert sizes["torch"] == (location.path / GENERATOR).stat().st_size
    assert sizes["onnx-fp32"] != sizes["torch"]
    memory = {result.runtime: result.memory_bytes for result in done.results}
    if memory["torch"] is not None:  # torch itself is hundreds of megabytes
        assert memory["torch"] > 2 * (memory["onnx-fp32"] or 0)


def test_a_model_is_measured_in_torch_and_exported_for_onnx_runtime(folder: ModelLocation, scratch: Path) -> None:
    check_folder(folder, ("torch", "onnx-fp32"))
    assert list(scratch.glob("ganzoo-*")) == []


@pytest.mark.slow
def test_a_model_is_measured_in_all_runtimes(folder: ModelLocation) -> None:
    check_folder(folder, RUNTIMES)


class Clock:
    """A worker that keeps what it was told to draw."""

    def __init__(self, name: str, log: list[tuple[str, int]], fails_at: int = 99) -> None:
        self._name, self._log, self._fails_at = name, log, fails_at

    def draw(self, size: int, seconds: float) -> None:
        assert seconds == pytest.approx(2.0 / ROUNDS)
        self._log.append((self._name, size))
        if len(self._log) > self._fails_at:
            raise GanzooError("It is gone.")


def test_runtimes_take_turns_and_each_is_first_in_turn() -> None:
    log: list[tuple[str, int]] = []
    left_out: dict[str, str] = {}
    candidates: Any = {name: Clock(name, log) for name in "abc"}
    measuring._take_turns(candidates, 64, 2.0, left_out, lambda text: None)
    assert "".join(name for name, _ in log) == "abcbcacababcbca"
    assert left_out == {}


def test_a_runtime_that_fails_is_left_out_and_the_others_go_on() -> None:
    log: list[tuple[str, int]] = []
    left_out: dict[str, str] = {}
    candidates: Any = {"a": Clock("a", log), "b": Clock("b", log, fails_at=3)}
    measuring._take_turns(candidates, 1, 2.0, left_out, lambda text: None)
    assert left_out == {"b": "It is gone."}
    assert list(candidates) == ["a"]
    assert [name for name, _ in log].count("a") == ROUNDS


# ------------------------------------------------------------------ what cannot be measured


def test_what_cannot_be_exported_is_left_out_with_the_reason(
    folder: ModelLocation, monkeypatch: pytest.MonkeyPatch, scratch: Path
) -> None:
    def export_onnx(model: Model, path: Path, *, precision: str, timing: bool) -> None:
        if precision == "int8":
            raise GanzooError("It would not draw the same images.", "Use fp16.")
        onnx_files.write(path)

    monkeypatch.setattr("ganzoo.export.onnx.exporting.export_onnx", export_onnx)
    done = benchmark_sampling(folder, runtimes=("onnx-int8", "onnx-fp32"), batch_sizes=(1,), seconds=0.01)
    assert [result.runtime for result in done.results] == ["onnx-fp32"]
    assert done.left_out == {"onnx-int8": "It would not draw the same images. Use fp16."}
    with pytest.raises(GanzooError, match=r"No runtime could be measured\. It would not draw the same images\."):
        benchmark_sampling(folder, runtimes=("onnx-int8",), batch_sizes=(1,), seconds=0.01)
    assert list(scratch.glob("ganzoo-*")) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"batch_sizes": ()}, r"Batch sizes \(=\[\]\) must be whole numbers"),
        ({"batch_sizes": (1, 0)}, r"Batch sizes \(=\[1, 0\]\) must be whole numbers"),
        ({"seconds": 0.0}, r"`seconds` \(=0\.0\) must be above 0"),
        ({"seconds": float("nan")}, r"`seconds` \(=nan\) must be above 0"),
        ({"runtimes": ["onx-int8"]}, r"There is no runtime 'onx-int8' to measure\. Did you mean 'onnx-int8'"),
        (
            {"runtimes": ["torch"]},
            r"is an ONNX file, which torch cannot draw\. Leave it out, or say onnx-fp32, openvino-fp32,",
        ),
        ({"runtimes": ["onnx-int8"]}, r"is an ONNX file, which onnx-int8 cannot draw\."),
    ],
)
def test_what_cannot_be_asked_for_is_answered(onnx_file: ModelLocation, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        benchmark_sampling(onnx_file, **asked)


# ------------------------------------------------------------------ processes


def test_ctrl_c_ends_the_processes_and_clears_up(
    onnx_file: ModelLocation, started: list[WorkerProcess], scratch: Path
) -> None:
    def interrupt(text: str) -> None:
        if text.startswith("Batches of 1: round 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        benchmark_sampling(onnx_file, seconds=0.05, progress=interrupt)
    assert len(started) == 1
    assert_gone(started, scratch)


def test_a_process_that_dies_is_told_with_its_exit_code_and_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with WorkerProcess("onnx-fp32", log) as process:
        with pytest.raises(GanzooError, match=r"no-such\.onnx cannot be read"):
            process.ask(opening(tmp_path / "no-such.onnx"))
        os.kill(process.pid, 9)
        log.write_text("Out of memory\n\n")
        with pytest.raises(GanzooError, match=r"The process of onnx-fp32 ended with exit code -9: Out of memory"):
            process.ask({"draw": 1, "seconds": 0.01})


def test_a_process_reads_the_packages_of_this_one_and_none_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, onnx_file: ModelLocation
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong NumPy')")
    monkeypatch.chdir(tmp_path)
    with WorkerProcess("onnx-fp32", tmp_path / "log") as process:
        assert process.ask(opening(onnx_file.path))["computed_on"] == "cpu"


def opening(path: Path) -> dict[str, Any]:
    return {"open": {"runtime": "onnx-fp32", "path": str(path), "device": "cpu", "threads": 1, "batch_sizes": [1]}}


def test_a_worker_answers_every_line_and_tells_of_any_error_in_one(onnx_file: ModelLocation) -> None:
    commands = [opening(onnx_file.path), {"draw": 1, "seconds": 0.0}, {"draw": 5, "seconds": 0.0}, {"what": 1}]
    answers = io.StringIO()
    serve(worker.answering(), io.StringIO("\n".join(map(json.dumps, commands))), answers)
    opened, drawn, never_warmed, unknown = map(json.loads, answers.getvalue().splitlines())
    assert (opened["computed_on"], opened["threads"]) == ("cpu", 1)
    assert len(drawn["seconds"]) == 1
    assert 0 < drawn["seconds"][0] < 10
    assert (never_warmed, unknown) == ({"error": "KeyError: 5"}, {"error": "KeyError: 'draw'"})


def test_a_worker_ends_with_its_standard_input_in_the_middle_of_a_draw(
    onnx_file: ModelLocation, tmp_path: Path
) -> None:
    with WorkerProcess("onnx-fp32", tmp_path / "log") as process:
        process.ask(opening(onnx_file.path))
        running = process._process
        assert running.stdin is not None
        running.stdin.write(json.dumps({"draw": 1, "seconds": 600.0}) + "\n")
        running.stdin.flush()
        time.sleep(0.2)
        assert running.poll() is None
        running.stdin.close()
        assert running.wait(30) == 0


# ------------------------------------------------------------------ memory


ALLOCATE = """
from ganzoo.benchmarking.serving import peak_memory
before = peak_memory()
held = bytearray(200 << 20)
during = peak_memory()
del held
print(before, during, peak_memory())
"""


def test_a_processs_memory_is_its_own_and_holds_what_it_allocates() -> None:
    """The process that starts it has more than that, which on Linux it would seem to inherit."""
    if peak_memory() is None:
        pytest.skip("this system does not tell")
    done = subprocess.run([sys.executable, "-c", ALLOCATE], capture_output=True, text=True, check=True)
    before, during, after = map(int, done.stdout.split())
    assert 1 << 20 < before < 100 << 20
    assert 190 << 20 < during - before < 300 << 20
    assert after == pytest.approx(during, rel=0.01)  # the most that it had, not what it has


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that makes the program which tells of GPUs' memory run a line of shell."""
    if os.name != "posix":
        pytest.skip("needs a shell")

    def make(line: str) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return make


def test_the_memory_of_all_gpus_is_counted_where_there_are_any(
    nvidia_smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi("echo 512; echo 3")
    assert gpu_memory() == 515 << 20
    nvidia_smi("echo 'NVIDIA-SMI has failed'; exit 9")
    assert gpu_memory() is None
    nvidia_smi("echo N/A")
    assert gpu_memory() is None
    monkeypatch.setenv("PATH", "")
    assert gpu_memory() is None
