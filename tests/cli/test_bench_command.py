"""`ganzoo bench sample`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx_files
import pytest
from click.testing import CliRunner, Result

from ganzoo.cli import bench
from ganzoo.cli.main import root
from ganzoo.export.benchmark.measuring import BatchResult, RuntimeResult, SamplingBenchmark


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return onnx_files.write(tmp_path / "model.onnx")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(root, ["bench", "sample", *map(str, arguments)])


def test_an_onnx_file_gives_a_table_on_standard_output(path: Path) -> None:
    done = run(path, "--seconds", "0.02", "--batch-sizes", "1,4", "--threads", "1")
    assert done.exit_code == 0, done.stderr
    header, first, second, empty, about, sizes = done.stdout.splitlines()
    assert header.split() == ["batch", "runtime", "images/s", "×", "onnx-fp32", "p50", "ms", "p99", "ms", "draws"]
    assert first.split()[:2] == ["1", "onnx-fp32"]
    assert second.split()[:2] == ["4", "onnx-fp32"]
    assert second.split()[3] == "1.00"
    assert empty == ""
    assert about.split() == ["runtime", "on", "file", "memory"]
    assert sizes.split()[:4] == ["onnx-fp32", "cpu,", "1", "thread"]
    assert done.stderr == ""


def test_json_is_one_object_with_the_numbers(path: Path) -> None:
    done = run(path, "--seconds", "0.02", "--batch-sizes", "2,2", "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["model"], said["seconds"], said["left_out"]) == (str(path), 0.02, {})
    (result,) = said["results"]
    (batch,) = result["batches"]
    assert (result["runtime"], result["file_bytes"], batch["batch_size"]) == ("onnx-fp32", path.stat().st_size, 2)
    assert batch["images_per_second"] > 0


def results(**more: Any) -> SamplingBenchmark:
    def of(name: str, rates: tuple[float, float], gpu: int | None) -> RuntimeResult:
        batches = tuple(
            BatchResult(size, 1234, rate, 1000 * size / rate, 2000 * size / rate)
            for size, rate in zip((1, 64), rates, strict=True)
        )
        return RuntimeResult(name, "cuda:0" if gpu else "cpu", 2, 3 << 20, None, gpu, batches)

    gpu = more.get("gpu")
    return SamplingBenchmark(
        (of("torch", (20.0, 150.0), gpu), of("onnx-int8", (1000.0, 3000.0), None)), more.get("left_out", {})
    )


def test_speeds_are_held_against_the_first_runtimes(capsys: pytest.CaptureFixture[str]) -> None:
    bench._show(results(gpu=5 << 30, left_out={"onnx-fp16": "Not here."}))
    printed = capsys.readouterr()
    assert [line.split() for line in printed.out.splitlines()] == [
        ["batch", "runtime", "images/s", "×", "torch", "p50", "ms", "p99", "ms", "draws"],
        ["1", "torch", "20.0", "1.00", "50.00", "100.00", "1,234"],
        ["onnx-int8", "1,000", "50.00", "1.00", "2.00", "1,234"],
        ["64", "torch", "150", "1.00", "426.67", "853.33", "1,234"],
        ["onnx-int8", "3,000", "20.00", "21.33", "42.67", "1,234"],
        [],
        ["runtime", "on", "file", "memory", "GPU", "memory"],
        ["torch", "cuda:0,", "2", "threads", "3.0", "MiB", "-", "5.0", "GiB"],
        ["onnx-int8", "cpu,", "2", "threads", "3.0", "MiB", "-", "-"],
    ]
    assert printed.err == "ganzoo: warning: onnx-fp16 was left out. Not here.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-sizes", "1,x"], "'1,x' is not understood: give sizes such as 1,8,64."),
        (["--batch-sizes", "0"], "0 is not from 1 to 65536."),
        (["--batch-sizes", "1,,2"], "'1,,2' is not understood"),
        (["--seconds", "0"], "--seconds"),
        (["--runtimes", "torch"], "is an ONNX file, which torch cannot draw."),
        (["--runtimes", "onnx-fp8"], "There is no runtime 'onnx-fp8' to measure."),
        (["--device", "gpu"], "'gpu' is none of auto, cpu, cuda, cuda:N."),
    ],
)
def test_wrong_usage_is_one_line(path: Path, arguments: list[str], message: str) -> None:
    done = run(path, *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_that_is_none_of_ours_is_one_line(tmp_path: Path) -> None:
    path = onnx_files.save(onnx_files.graph(), tmp_path / "model.onnx")
    done = run(path)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ganzoo: error: {path} was not exported by ganzoo")


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_ends_it_in_one_line_and_leaves_nothing(path: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "ganzoo", "bench", "sample", str(path), "--seconds", "3600"]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        patience = time.monotonic() + 60
        while not list(scratch.glob("*/onnx-fp32.log")) and time.monotonic() < patience:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        printed, told = running.communicate(timeout=60)
    finally:
        running.kill()
    assert (running.returncode, printed) == (1, "")
    assert told.strip() == "ganzoo: error: Stopped by Ctrl-C."
    assert list(scratch.iterdir()) == []
