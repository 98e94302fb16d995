"""Trainings of several processes: one run folder, exact resume after a kill, signals, refusals, other machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from several import results, together
from tiny_runs import (
    CONDITIONAL,
    assert_same,
    bytes_of,
    images,
    labelled,
    quick,
    recipe,
    rows,
    states,
    table,
    train,
    weights,
)
from torch import nn

from ganzoo.data import packing
from ganzoo.errors import DataError, InterruptedTraining, NotFiniteError, RunError, UsageError
from ganzoo.torchrun import Place
from ganzoo.training.api import plan
from ganzoo.training.networks import build_step, synchronised
from ganzoo.training.publishing import standing_generator
from ganzoo.training.run import LAUNCH, begun_before, mark_launch
from ganzoo.training.step import Step
from ganzoo.training.trainer import TrainingResult

# All that differs between processes, or could: batch norm in both networks, dropout, sums, running averages.
EVERYTHING = CONDITIONAL | {
    "generator__norm": "batch",
    "discriminator__norm": "batch",
    "train__batch_size": 8,
    "train__kimg": 0.064,  # eight steps
    "train__checkpoint_every": 3,
    "regularizer": [{"name": "lecam", "weight": 0.3}],
    "augmentation": {"name": "flip", "probability": {"every": 2, "kimg": 0.05}},
}
STEPS = 8


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quick(monkeypatch)
    monkeypatch.setenv("GANZOO_HOME", str(tmp_path / "home"))


def at_step(number: int, action: Callable[[], None]) -> None:
    """Do something right before a step, in this process."""
    step = Step.__call__

    def acting(self: Step, at: int, batches: Any) -> None:
        if at == number:
            action()
        step(self, at, batches)

    Step.__call__ = acting  # type: ignore[method-assign]


def training(out: Path, changes: dict[str, Any] | None = None, **options: Any) -> Callable[[int], TrainingResult]:
    return lambda _: train(table(**EVERYTHING | (changes or {})), out, labelled(30), **options)


def test_one_run_folder_comes_of_it_and_every_process_returns_the_result(tmp_path: Path) -> None:
    first, second = results(training(tmp_path / "run"))
    assert first == second
    assert (first.run, first.step, first.kimg) == (tmp_path / "run", STEPS, 0.064)
    assert first.model is not None
    assert {path.name for path in first.model.iterdir()} >= {"generator.safetensors", "config.json", "samples.png"}
    assert all(path.is_file() for path in first.pictures.values())
    assert [row["step"] for row in rows(first.run) if row["event"] == "checkpoint"] == [0, 3, 6, STEPS]
    assert (first.run / "log.txt").read_text().count("× 2 processes") == 1
    assert json.loads((first.run / "run.json").read_text())["processes"] == 2
    assert not list(first.run.rglob("*.tmp"))


def test_reporters_listen_in_the_first_process_only(tmp_path: Path) -> None:
    def work(rank: int) -> list[str]:
        heard: list[str] = []
        training(tmp_path / "run", reporters=[lambda event: heard.append(type(event).__name__)])(rank)
        return heard

    first, second = results(work)
    assert {"Started", "Tick", "Samples", "Checkpoint", "Ended"} <= set(first)
    assert second == []


def test_numbered_run_folders_are_chosen_by_the_first(tmp_path: Path) -> None:
    (tmp_path / "runs/00004-other").mkdir(parents=True)
    found = results(lambda rank: train(table(**EVERYTHING), None, labelled(30), runs=tmp_path / "runs").run.name)
    assert found == ["00005-tiny"] * 2
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    """Without batch norm and in float32 to the rounding of sums; the grids show it too."""
    changes = {"generator__norm": "none", "discriminator__norm": "none", "train__log_every": 1}
    results(training(tmp_path / "two", changes))
    training(tmp_path / "one", changes)(0)
    ours, theirs = (
        [row["statistics"] for row in rows(tmp_path / name) if row["event"] == "tick"] for name in ("one", "two")
    )
    assert len(ours) == STEPS
    for one, two in zip(ours, theirs, strict=True):
        for name, value in one.items():
            if "std" not in name:
                assert two[name] == pytest.approx(value, abs=1e-5), name


def test_a_pack_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = packing.write_files

    def noting(*arguments: Any, **options: Any) -> Any:
        with (tmp_path / "written").open("a") as file:
            file.write(os.environ["RANK"])
        return write(*arguments, **options)

    monkeypatch.setattr(packing, "write_files", noting)
    progress: list[int] = []
    results(training(tmp_path / "run", pack_progress=lambda _: progress.append(1)))
    assert (tmp_path / "written").read_text() == "0"
    assert len([one for one in (tmp_path / "home/packs").iterdir() if not one.name.startswith(".")]) == 1


def machines(work: Callable[[int], Any], homes: Path) -> list[Any]:
    """Two machines of one process each, with disks of their own."""

    def on_its_own(rank: int) -> Any:
        os.environ |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GANZOO_HOME": str(homes / str(rank))}
        return work(rank)

    return together(on_its_own)


def test_machines_without_a_shared_disk_pack_for_themselves(tmp_path: Path) -> None:
    def work(rank: int) -> TrainingResult:
        os.chdir(tmp_path / "home" / str(rank))
        return train(table(**EVERYTHING), Path("run"), labelled(30))

    for rank in range(2):
        (tmp_path / "home" / str(rank)).mkdir(parents=True)
    found = machines(work, tmp_path / "home")
    assert [one.step for one in found] == [STEPS] * 2
    assert [len(list((tmp_path / "home" / str(rank) / "packs").glob("[0-9a-f]*"))) for rank in range(2)] == [1, 1]
    assert not (tmp_path / "home/1/run").exists()
    results(training(tmp_path / "same"))
    assert_same(weights(tmp_path / "same"), weights(tmp_path / "home/0/run"))
    again = machines(lambda rank: (os.chdir(tmp_path / "home" / str(rank)), resume(rank))[1], tmp_path / "home")
    assert [one.step for one in again] == [10] * 2  # the second machine has no checkpoint to read


def resume(_: int) -> TrainingResult:
    return train(table(**EVERYTHING), Path("run"), labelled(30), steps=10)


def test_other_data_on_another_machine_are_refused(tmp_path: Path) -> None:
    def work(rank: int) -> TrainingResult:
        return train(table(train__batch_size=8), tmp_path / "run", images(10 + rank))

    first, second = machines(work, tmp_path)
    refused = next(one for one in (first, second) if isinstance(one, DataError))
    assert "Process 1 found other data" in str(refused)


# ------------------------------------------------------------------ ends and new beginnings


def test_a_run_goes_on_bit_for_bit_after_all_were_killed(tmp_path: Path) -> None:
    def work(rank: int) -> TrainingResult:
        at_step(5, lambda: os.kill(os.getpid(), signal.SIGKILL))
        return training(tmp_path / "run")(rank)

    assert together(work) == ["exit code -9"] * 2
    results(training(tmp_path / "run"))
    results(training(tmp_path / "straight"))
    assert_same(bytes_of(tmp_path / "straight"), bytes_of(tmp_path / "run"))
    assert_same(states(tmp_path / "straight"), states(tmp_path / "run"))
    assert rows(tmp_path / "straight") == rows(tmp_path / "run")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_stops_all_after_the_same_step(rank: int, tmp_path: Path) -> None:
    def work(here: int) -> TrainingResult:
        if here == rank:
            at_step(4, lambda: signal.raise_signal(signal.SIGTERM))
        return training(tmp_path / "run")(here)

    found = together(work)
    assert [type(one) for one in found] == [InterruptedTraining] * 2
    assert [str(one) for one in found] == [str(found[0])] * 2
    done = max(row["step"] for row in rows(tmp_path / "run") if row["event"] == "checkpoint")
    assert done in (5, 6)
    assert f"Stopped by SIGTERM after step {done}; a checkpoint was written. Go on with:" in str(found[0])
    assert not (tmp_path / "run/model").exists()
    results(training(tmp_path / "run"))
    results(training(tmp_path / "straight"))
    ours, theirs = weights(tmp_path / "straight"), weights(tmp_path / "run")
    # Running statistics are averaged once more, which no training looks at: they may differ in the last bit.
    same = [name for name in ours if "running" not in name]
    assert [name for name in same if ours[name] != theirs[name]] == []
    assert any("running" in name for name in ours)


def test_nan_in_one_process_stops_all_and_names_the_first_loss(tmp_path: Path) -> None:
    def work(rank: int) -> TrainingResult:
        if rank == 1:
            note = Step._note

            def noting(self: Step, name: str, value: torch.Tensor) -> None:
                note(self, name, value * torch.nan if (int(self._number), name) == (4, "loss/generator") else value)

            Step._note = noting  # type: ignore[method-assign]
        return training(tmp_path / "run")(rank)

    found = together(work)
    assert [type(one) for one in found] == [NotFiniteError] * 2
    assert all("NaN or Inf in step 5: loss/generator is not finite" in str(one) for one in found)
    assert "step-00000003, is kept" in str(found[0])


def test_what_stops_the_first_alone_ends_the_others(tmp_path: Path) -> None:
    def work(rank: int) -> TrainingResult:
        at_step(4, lambda: signal.raise_signal(signal.SIGALRM) if rank == 0 else None)
        signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(RunError("The disk is full.")))
        return training(tmp_path / "run")(rank)

    first, second = together(work)
    assert (type(first).__name__, str(first)) == ("RunError", "The disk is full.")
    assert type(second).__name__ == "ProcessesError"
    results(training(tmp_path / "run"))


def test_a_finished_run_is_said_to_be_finished_in_every_process(tmp_path: Path) -> None:
    results(training(tmp_path / "run"))
    before = bytes_of(tmp_path / "run")
    assert [one.already_done for one in results(training(tmp_path / "run"))] == [True, True]
    assert_same(before, bytes_of(tmp_path / "run"))


def test_another_number_of_processes_goes_on_with_a_note(tmp_path: Path) -> None:
    def work(rank: int) -> TrainingResult:
        at_step(4, lambda: signal.raise_signal(signal.SIGTERM))
        return training(tmp_path / "run")(rank)

    assert [type(one) for one in together(work)] == [InterruptedTraining] * 2
    results(training(tmp_path / "run"), 4)
    log = (tmp_path / "run/log.txt").read_text()
    assert "note: The run was begun with 2 processes; with 4 it may not go on bit for bit as it would." in log


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train__batch_size": 8},
            "train.batch_size (=8) is not divisible by 3 processes. Use --set train.batch_size=9.",
        ),
        (
            {"train__batch_size": 12, "train__generator_batch_size": 8},
            "train.generator_batch_size (=8) is not divisible by 3 processes.",
        ),
        ({"train__batch_size": 24, "train__accumulate": 4}, ""),
        (
            {"train__batch_size": 8, "train__accumulate": 2},
            "3 processes × accumulate (=2). Use --set train.batch_size=12.",
        ),
        ({"train__batch_size": 3}, "leaves less than 2 images for each of 3 processes. Use --set train.batch_size=6."),
        ({"train__batch_size": 6, "train__sync_batch_norm": True}, "train.sync_batch_norm needs CUDA"),
    ],
)
def test_what_they_cannot_share_is_refused_before_anything_is_written(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    asked = table(**changes)
    if not message:
        assert plan(asked, out=tmp_path / "run", device="cpu", processes=3).processes == 3
        return
    with pytest.raises(UsageError) as refused:
        plan(asked, out=tmp_path / "run", device="cpu", processes=3)
    assert message in str(refused.value)
    found = together(lambda _: train(asked, tmp_path / "run"), 3)
    assert isinstance(found[0], UsageError)
    assert message in str(found[0])
    assert not (tmp_path / "run").exists()


def test_synchronised_batch_norm_asks_nothing_of_one_process(tmp_path: Path) -> None:
    assert train(table(train__sync_batch_norm=True), tmp_path / "run").step == 6


# ------------------------------------------------------------------ restarts


def test_restarts_find_the_run_that_their_launch_began(tmp_path: Path) -> None:
    for number, launch in enumerate(("a", "b", "a", "")):
        path = tmp_path / f"{number:05d}-tiny"
        path.mkdir()
        if launch:
            mark_launch(path, Place(launch=launch))
    assert begun_before(tmp_path, Place(launch="a", restarts=1)) == tmp_path / "00002-tiny"
    assert begun_before(tmp_path, Place(launch="b", restarts=3)) == tmp_path / "00001-tiny"
    assert begun_before(tmp_path, Place(launch="a")) is None
    assert begun_before(tmp_path, Place(launch="c", restarts=1)) is None
    assert begun_before(tmp_path, Place(restarts=1)) is None
    assert begun_before(tmp_path / "nothing", Place(launch="a", restarts=1)) is None
    assert not (tmp_path / "00003-tiny" / LAUNCH).exists()


CHILD = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import pytest, torch, ganzoo
from tiny_runs import labelled, quick
from ganzoo.training.step import Step

step = Step.__call__
def dying(self, number, batches):
    if (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"], number) == ("1", "0", 5):
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, number, batches)

Step.__call__ = dying
quick(pytest.MonkeyPatch())
ganzoo.train({recipe!r}, data=labelled(30), runs={runs!r}, device="cpu")
"""


def test_workers_that_die_under_torchrun_are_restarted_and_end_with_the_same_bytes(tmp_path: Path) -> None:
    """From Python, with no --out: a worker is killed, all are started again, and find the run that they began."""
    script = tmp_path / "child.py"
    tests = str(Path(__file__).parent.parent)
    script.write_text(
        textwrap.dedent(CHILD).format(tests=tests, recipe=table(**EVERYTHING), runs=str(tmp_path / "runs"))
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=3"]
    done = subprocess.run(
        [*command, f"--master-port={29000 + os.getpid() % 900}", str(script)],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    results(training(tmp_path / "straight"))
    assert_same(bytes_of(tmp_path / "straight"), bytes_of(run))
    assert_same(states(tmp_path / "straight"), states(run))
    assert (run / "log.txt").read_text().count("resumed tiny") == 1


def test_a_generator_with_synchronised_batch_norm_is_drawn_with_by_one_process() -> None:
    """Its grid needs training mode for a moment, in which synchronised batch norm would wait for the others."""
    asked = recipe(generator__norm="batch", discriminator__norm="batch", ema__half_life_kimg=0)
    step = build_step(asked, torch.device("cpu"), "fp32")
    plain = standing_generator(step)
    step.generator = synchronised(step.generator)
    kinds = [type(module) for module in step.generator.modules()]
    assert nn.SyncBatchNorm in kinds
    assert nn.BatchNorm2d not in kinds
    ours = standing_generator(step)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in ours.modules())
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), name
    assert not ours.training
