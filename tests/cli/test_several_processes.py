"""Commands in several processes: one speaks, all work, and `--gpus` and `--processes` start them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sklearn.datasets
import torch
from click.testing import CliRunner
from several import captured, results, together
from tiny_runs import quick

from ganzoo.cli import processes
from ganzoo.cli.main import root
from ganzoo.errors import DataError
from ganzoo.training.run import open_run
from ganzoo.training.step import Step

sklearn.datasets.load_digits  # noqa: B018 - imported once here, not in every fork

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quick(monkeypatch)
    monkeypatch.chdir(tmp_path)


def ganzoo(*words: str, size: int = 2, before: Callable[[int], None] | None = None) -> list[tuple[Any, str, str]]:
    """Run a command in several processes; return each one's exit code, standard output and standard error."""

    def work(rank: int) -> tuple[Any, str, str]:
        if before is not None:
            before(rank)
        return captured(lambda: root.main(list(words)), Path.cwd(), rank)

    found: list[tuple[Any, str, str]] = results(work, size)
    return found


def assert_only_the_first_speaks(found: list[tuple[Any, str, str]]) -> None:
    assert [one[1:] for one in found[1:]] == [("", "")] * (len(found) - 1)


# ------------------------------------------------------------------ train


def test_of_a_training_only_the_first_process_speaks(tiny: Make) -> None:
    found = ganzoo("train", str(tiny()), "--out", "run", "--device", "cpu")
    assert [code for code, _, _ in found] == [0, 0]
    assert found[0][1].startswith("Done: 0.048 kimg, 3 steps in ")
    assert "device      cpu × 2 processes" in found[0][2]
    assert_only_the_first_speaks(found)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["no-such-recipe"], 2, "There is no recipe named"),
        (["dcgan-digits", "--no-such-option"], 2, "No such option"),
        (["dcgan-digits", "--set", "train.batch_size=31"], 2, "is not divisible by 2 processes. Use"),
        (["dcgan-digits", "--data", "no/such/folder"], 1, "no/such/folder"),
        (["dcgan-digits", "--device", "cuda:1"], 2, "cuda:1 cannot be the device of 2 processes"),
        (["dcgan-digits", "--gpus", "2"], 2, "--gpus and --processes cannot be given under torchrun"),
    ],
)
def test_a_refusal_is_told_once_and_writes_nothing(words: list[str], code: int, message: str, tmp_path: Path) -> None:
    found = ganzoo("train", *words, "--out", "run")
    assert found[0][0] == code, found
    assert found[1][0] in (1, 2)
    assert message in found[0][2]
    assert found[0][2].count("\n") == 1
    assert_only_the_first_speaks(found)
    assert not (tmp_path / "run").exists()


def test_an_error_that_only_another_process_knows_is_told_by_it(tiny: Make) -> None:
    def broken(rank: int) -> None:
        if rank == 1:
            from ganzoo.training import following

            def refuse(*_: Any) -> None:
                raise DataError("Process 1 has no disk.")

            following.pack_of_machine = refuse  # type: ignore[assignment]

    first, second = ganzoo("train", str(tiny()), "--out", "run", "--device", "cpu", before=broken)
    assert (first[0], second[0]) == (1, 1)
    assert "error" not in first[2]
    assert second[2] == "ganzoo: error: Process 1 has no disk.\n"


def test_a_signal_to_any_process_ends_all_with_one_message(tiny: Make) -> None:
    def stopping(rank: int) -> None:
        step = Step.__call__

        def interrupted(self: Step, number: int, batches: Any) -> None:
            if (rank, number) == (1, 3):
                signal.raise_signal(signal.SIGTERM)
            step(self, number, batches)

        Step.__call__ = interrupted  # type: ignore[method-assign]

    found = ganzoo("train", str(tiny()), "--out", "run", "--device", "cpu", "--steps", "50", before=stopping)
    assert [code for code, _, _ in found] == [1, 1]
    assert found[0][2].count("error") == 1
    assert "Stopped by SIGTERM after step" in found[0][2].splitlines()[-1]
    assert_only_the_first_speaks(found)


def test_a_killed_process_is_told_of_in_one_line_without_a_traceback(tiny: Make) -> None:
    recipe = tiny()

    def work(rank: int) -> Any:
        step = Step.__call__

        def dying(self: Step, number: int, batches: Any) -> None:
            if (rank, number) == (1, 2):
                os.kill(os.getpid(), signal.SIGKILL)
            step(self, number, batches)

        Step.__call__ = dying  # type: ignore[method-assign]
        return captured(
            lambda: root.main(["train", str(recipe), "--out", "run", "--device", "cpu"]), recipe.parent, rank
        )

    (code, out, err), killed = together(work)
    assert (code, out, killed) == (1, "", "exit code -9")
    last = err.splitlines()[-1]
    assert last.startswith("ganzoo: error: Another process of the same torchrun has died or cannot be reached")
    assert "--max-restarts 3" in last
    assert "Traceback" not in err


# ------------------------------------------------------------------ sample


@pytest.mark.parametrize("out", ["grid.png", "images.npz", "images.zip", "folder/"])
@pytest.mark.parametrize("classes", [0, 3])
def test_samples_of_two_processes_are_the_bytes_of_one(out: str, classes: int, model: Make, tmp_path: Path) -> None:
    run = model(classes)
    words = ["sample", str(run), "--seeds", "0-10", "--batch-size", "3", "--device", "cpu"]
    assert CliRunner().invoke(root, [*words, "--out", f"one-{out}"]).exit_code == 0
    found = ganzoo(*words, "--out", f"two-{out}")
    assert [code for code, _, _ in found] == [0, 0], found
    assert found[0][1] == f"two-{out}\n"
    assert found[0][2].startswith("11 images in ")
    assert_only_the_first_speaks(found)
    one, two = tmp_path / f"one-{out}", tmp_path / f"two-{out}"
    if out == "folder/":
        names = sorted(path.name for path in one.iterdir())
        assert len(names) == 11
        assert sorted(path.name for path in two.iterdir()) == names
        assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)
    else:
        assert one.read_bytes() == two.read_bytes()


def test_more_processes_than_batches_draw_too(model: Make, tmp_path: Path) -> None:
    words = ["sample", "--seeds", "5", "--device", "cpu"]
    model()
    assert CliRunner().invoke(root, [*words, "--out", "one.npz"]).exit_code == 0
    found = ganzoo(*words, "--out", "three.npz", size=3)
    assert [code for code, _, _ in found] == [0, 0, 0]
    assert "newest run" in found[0][2]
    assert_only_the_first_speaks(found)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "three.npz").read_bytes()


def test_json_of_samples_is_one_object(model: Make) -> None:
    found = ganzoo("sample", str(model()), "--seeds", "0-5", "--out", "s.npz", "--device", "cpu", "--json")
    assert json.loads(found[0][1])["images"] == 6
    assert_only_the_first_speaks(found)


def test_a_model_that_cannot_draw_in_one_process_leaves_no_file(model: Make, tmp_path: Path) -> None:
    from ganzoo.sampling import TorchSampler

    def breaking(rank: int) -> None:
        if rank == 1:

            def fail(*_: Any, **__: Any) -> None:
                raise DataError("Out of luck.")

            TorchSampler.pixels = fail  # type: ignore[method-assign]

    words = ("sample", str(model()), "--seeds", "0-20", "--batch-size", "2", "--out", "s.npz", "--device", "cpu")
    first, second = ganzoo(*words, before=breaking)
    assert (first[0], second[0]) == (1, 1)
    assert "Out of luck." in second[2]
    assert "error" not in first[2]
    assert not list(tmp_path.glob("*s.npz*"))


# ------------------------------------------------------------------ the launcher


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace the processes by what they would end with; the list also remembers what they were started with."""
    found: list[Any] = []

    def attempt(arguments: list[str], count: int, run_id: str) -> int | str:
        found.append((arguments, count, run_id, os.environ["GANZOO_RESTARTS"]))
        ends = getattr(attempt, "ends", [0])
        return ends.pop(0) if len(ends) > 1 else ends[0]

    monkeypatch.setenv("GANZOO_RESTARTS", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(processes, "_attempt", attempt)
    found.append(attempt)
    return found


def test_the_processes_are_given_the_same_arguments(attempts: list[Any]) -> None:
    words = (
        "train tiny --data digits --kimg 2.5 --set a.b=1 --set c=2 --init m --precision bf16 --seed 7 --out o --json "
        "--processes 3"
    )
    assert CliRunner().invoke(root, words.split()).exit_code == 0
    _, (arguments, count, _, restarts) = attempts
    assert (count, restarts) == (3, "0")
    assert arguments == [
        "train", "--data=digits", "--kimg=2.5", "--set=a.b=1", "--set=c=2", "--init=m", "--device=cpu",
        "--precision=bf16", "--seed=7", "--out=o", "--json", "--", "tiny",
    ]  # fmt: skip


def test_gpus_mean_cuda(attempts: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert CliRunner().invoke(root, ["train", "--resume", "run", "--gpus", "2"]).exit_code == 0
    assert attempts[1][:2] == (["train", "--device=cuda", "--resume=run"], 2)
    done = CliRunner().invoke(root, ["train", "tiny", "--gpus", "3"])
    assert (done.exit_code, len(attempts)) == (2, 2)
    assert "--gpus 3: only 2 GPUs are here" in done.stderr
    assert "torchrun --nproc-per-node 3 -m ganzoo" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gpus", "2", "--processes", "2"], "leave out --processes"),
        (["--gpus", "2", "--device", "cpu"], "--gpus means --device cuda, not cpu"),
        (["--processes", "2", "--device", "cuda"], "--processes means --device cpu, not cuda"),
        (["--gpus", "0"], "Invalid value for '--gpus'"),
    ],
)
def test_what_contradicts_itself_is_refused(words: list[str], message: str, attempts: list[Any]) -> None:
    done = CliRunner().invoke(root, ["train", "tiny", *words])
    assert (done.exit_code, len(attempts)) == (2, 1)
    assert message in done.stderr


def test_killed_processes_are_started_again_with_the_same_run_and_errors_are_final(attempts: list[Any]) -> None:
    attempts[0].ends = ["Process 1 was killed by SIGKILL", "Process 0 was killed by SIGSEGV", 2]
    done = CliRunner().invoke(root, ["train", "tiny", "--processes", "2"])
    assert done.exit_code == 2
    assert [one[3] for one in attempts[1:]] == ["0", "1", "2"]
    assert len({one[2] for one in attempts[1:]}) == 1
    assert done.stderr.splitlines() == [
        "Process 1 was killed by SIGKILL; going on from the newest checkpoint (restart 1 of 3).",
        "Process 0 was killed by SIGSEGV; going on from the newest checkpoint (restart 2 of 3).",
    ]


def test_after_three_restarts_it_gives_up(attempts: list[Any]) -> None:
    attempts[0].ends = ["Process 1 was killed by SIGKILL"]
    done = CliRunner().invoke(root, ["train", "tiny", "--processes", "2"])
    assert (done.exit_code, len(attempts)) == (1, 5)
    assert "Process 1 was killed by SIGKILL, and so it went 4 times." in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ({0: 2, 1: -15}, 2),
        ({0: -15, 1: 1}, 1),
        ({0: 2, 1: 1}, 2),
        ({0: -15, 1: -9}, "Process 1 was killed by SIGKILL"),
        ({0: 1, 1: -11}, "Process 1 was killed by SIGSEGV"),
        ({0: -15}, 1),
    ],
)
def test_what_ended_them_is_told_from_what_ended_by_it(codes: dict[int, int], expected: int | str) -> None:
    failures = {rank: SimpleNamespace(exitcode=code) for rank, code in codes.items()}
    assert processes._what_failed(SimpleNamespace(failures=failures)) == expected  # type: ignore[arg-type]


def test_a_dry_run_starts_nothing_and_checks_the_batches(tiny: Make, attempts: list[Any]) -> None:
    done = CliRunner().invoke(root, ["train", str(tiny()), "--processes", "4", "--dry-run"])
    assert (done.exit_code, len(attempts)) == (0, 1), done.stderr
    assert "cpu × 4 processes" in done.stdout
    done = CliRunner().invoke(root, ["train", str(tiny()), "--processes", "3", "--dry-run"])
    assert done.exit_code == 2
    assert "train.batch_size (=16) is not divisible by 3 processes. Use --set train.batch_size=18." in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_started_processes_survive_a_kill_and_ctrl_c_ends_them_with_a_checkpoint(tiny: Make, tmp_path: Path) -> None:
    """All in one launch, without --out: a worker is killed, all go on in the same run, and Ctrl-C ends them."""
    command = [sys.executable, "-m", "ganzoo", "train", str(tiny()), "--processes", "2", "--steps", "1000000"]
    settings = ["--set", "train.checkpoint_every=20", "--set", "train.sample_every=100000", "--set", "train.keep=2"]
    with subprocess.Popen(
        [*command, *settings], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        (run,) = wait_for(lambda: list(tmp_path.glob("runs/*/metrics.jsonl")), process)
        wait_for(lambda: "step-00000020" in run.read_text(), process)
        _, worker = sorted(children(process.pid))[-2:]
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: "resumed" in (run.parent / "log.txt").read_text(), process)
        wait_for(lambda: len(run.read_text().splitlines()) > 60, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (1, ""), err
    assert len(list(tmp_path.glob("runs/*"))) == 1
    assert "was killed by SIGKILL; going on from the newest checkpoint (restart 1 of 3)." in err
    last = err.splitlines()[-1]
    assert last.startswith("ganzoo: error: Stopped by SIGINT after step ")
    assert "Go on with: ganzoo train --resume" in last
    assert err.count("Stopped by") == 1
    assert "Traceback" not in err
    assert open_run(run.parent).facts.processes == 2


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    end = time.monotonic() + 100
    while not (found := what()):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)
    return found


def children(parent: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=True)
    return [int(line) for line in listed.stdout.split()]
