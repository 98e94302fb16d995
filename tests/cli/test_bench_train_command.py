"""`ganzoo bench train`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ganzoo.benchmarking.measuring import ROUNDS, EngineResult, TrainingBenchmark
from ganzoo.benchmarking.roofs import Roofs
from ganzoo.building import load_recipe
from ganzoo.cli import bench
from ganzoo.cli.main import root
from ganzoo.summary import step_flops


def run(*arguments: object) -> Result:
    return CliRunner().invoke(root, ["bench", "train", *map(str, arguments)])


def test_json_tells_the_same_thing_everywhere(tiny: Callable[..., Path]) -> None:
    path = tiny(classes=3)
    overrides = ("--set", "train.precision=fp32", "--batch-size", 8, "--steps", 3, "--threads", 1)
    done = run(path, "--engine", "eager,auto,graph", "--json", "--device", "cpu", *overrides)
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["recipe"], said["image"], said["batch_size"]) == ("tiny", [1, 8, 8], 8)
    assert said["flops_per_image"] == pytest.approx(step_flops(load_recipe(path, ["train.batch_size=8"])))
    assert list(said["left_out"]) == ["graph"]
    assert "CUDA" in said["left_out"]["graph"]
    peak = said["roofs"]["flops_per_second"]
    assert set(peak) == {"fp32", "bf16"}
    assert said["limit"] == pytest.approx(peak["fp32"] / said["flops_per_image"])
    assert [(one["engine"], one["arithmetic"]) for one in said["results"]] == [("eager", "plain"), ("auto", "fast")]
    for one in said["results"]:
        assert (one["computed_on"], one["precision"], one["threads"], one["graph"]) == ("cpu", "fp32", 1, False)
        assert (one["images_per_step"], one["steps"]) == (8, 3)
        assert one["flops_per_second"] == pytest.approx(one["images_per_second"] * said["flops_per_image"])
        assert one["share_of_peak"] == pytest.approx(one["flops_per_second"] / peak["fp32"])
        assert one["slowest"] <= one["images_per_second"] <= one["fastest"]
        assert set(one["seconds"]) == {"data", "discriminator", "generator", "optimizers", "rest"}
        # The rounds' mean rate, from the parts, is within the rounds' rates.
        mean = one["images_per_step"] / sum(one["seconds"].values())
        assert 0.9 * one["slowest"] <= mean <= 1.5 * one["fastest"]


def result(**changes: Any) -> EngineResult:
    fields: dict[str, Any] = {
        "engine": "eager",
        "arithmetic": "plain",
        "graph": False,
        "computed_on": "cpu",
        "precision": "bf16",
        "threads": 2,
        "images_per_step": 128,
        "steps": 10,
        "images_per_second": 100.0,
        "slowest": 90.5,
        "fastest": 110.0,
        "flops_per_second": 2.5e11,
        "share_of_peak": 0.625,
        "seconds": {"data": 0.002, "discriminator": 0.7, "generator": 0.5, "optimizers": 0.01, "rest": 0.001},
        "memory_bytes": 3 << 30,
        "device_memory_bytes": None,
    }
    return EngineResult(**{**fields, **changes})


def benchmark(*results: EngineResult, **left_out: str) -> TrainingBenchmark:
    roofs = Roofs({"fp32": 2e11, "bf16": 4e11}, 3e10)
    return TrainingBenchmark("some", (3, 64, 64), 128, 2.5e9, 2e7, roofs, 160.0, results, left_out)


TABLE = """\
some: 3×64×64, batches of 128, on cpu, 2 threads

engine                     images/s  slowest  fastest  TFLOP/s  of peak   memory  GPU memory
eager   plain        bf16       100     90.5      110     0.25      62%  3.0 GiB           -
auto    fast, graph  bf16     1,234     90.5      110     0.25      90%  3.0 GiB     1.0 GiB

ms a step      all  data      D      G  optimisers   step  rest
eager      1,213.0   2.0  700.0  500.0        10.0      -   1.0
auto         101.0   1.0      -      -           -  100.0     -

peak here     0.4 TFLOP/s in bf16, 0.2 TFLOP/s in fp32
memory here   30.0 GB/s
a real image  2.5 GFLOP and 20 MB: at the peak in bf16 160 images/s
"""


def test_the_table_shows_rates_shares_parts_and_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    graph = result(
        engine="auto",
        arithmetic="fast",
        graph=True,
        images_per_second=1234.4,
        share_of_peak=0.9,
        seconds={"data": 0.001, "step": 0.1},
        device_memory_bytes=1 << 30,
    )
    bench._show_training(benchmark(result(), graph, graph="It cannot be."))
    printed = capsys.readouterr()
    assert printed.out == TABLE
    assert printed.err == "ganzoo: warning: graph was left out. It cannot be.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["no-such-recipe"], 2, "no-such-recipe"),
        (["dcgan-mnist", "--engine", "warp"], 2, "train.engine"),
        (["dcgan-mnist", "--set", "train.nonsense=1"], 2, "nonsense"),
        (["dcgan-mnist", "--set", "generator.kernel_size=7"], 2, "kernel_size"),
        (["dcgan-mnist", "--batch-size", "1"], 2, "--batch-size"),
        (["dcgan-mnist", "--seconds", "0"], 2, "--seconds"),
        (["dcgan-mnist", "--seconds", "nan"], 2, "seconds (=nan) must be greater than 0 and finite."),
        (["dcgan-mnist", "--steps", "0"], 2, "--steps"),
        (["dcgan-mnist", "--threads", "0"], 2, "--threads"),
        (["dcgan-mnist", "--precision", "fp8"], 2, "--precision"),
        (["dcgan-mnist", "--device", "gpu"], 2, "'gpu' is none of auto, cpu, cuda, cuda:N."),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], code: int, message: str) -> None:
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_where_no_engine_can_be_nothing_is_measured(tiny: Callable[..., Path]) -> None:
    done = run(tiny(), "--engine", "graph", "--device", "cpu")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith('ganzoo: error: train.engine = "graph" cannot be')
    assert done.stderr.count("\n") == 1


def test_steps_are_shared_out_among_the_rounds() -> None:
    from ganzoo.benchmarking.measuring import Contender, _take_turns

    class Process:
        def __init__(self) -> None:
            self.asked: list[int] = []

        def ask(self, command: dict[str, Any]) -> dict[str, Any]:
            if "open" in command:
                return {"images_per_step": 4, "seconds_per_step": 0.5}
            self.asked.append(command["train"])
            return {"seconds": 1.0, "parts": {"data": 0.25}}

    def asked(seconds: float, steps: int | None) -> list[int]:
        process = Process()
        contenders = {"one": Contender(process, {})}  # type: ignore[arg-type]
        for turn in range(ROUNDS):
            _take_turns(contenders, turn, ROUNDS, seconds, steps, {})
        return process.asked

    assert asked(1.0, 12) == [3, 3, 2, 2, 2]
    assert asked(10.0, None) == [4] * ROUNDS
    assert asked(1e-3, None) == [1] * ROUNDS
    assert math.isclose(sum(asked(10.0, 100)), 100)
