"""Checkpoints: whole or absent, the newest whole one found, all of the state in them, no more of them than asked."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import CONDITIONAL, Recorder, images, labelled, quick, recipe, table, train

from ganzoo.data import open_pack
from ganzoo.data.request import DataRequest
from ganzoo.errors import CheckpointError
from ganzoo.tensors import save_tensors
from ganzoo.training import checkpoints
from ganzoo.training.checkpoints import (
    Counters,
    find_checkpoint,
    first_not_finite,
    folder_of,
    load_checkpoint,
    remove_dead_writes,
    save_checkpoint,
    state_tensors,
)
from ganzoo.training.events import Checkpoint, Started
from ganzoo.training.feeder import Feeder
from ganzoo.training.networks import build_step
from ganzoo.training.step import Step

CPU = torch.device("cpu")
OPTIMIZERS = ["adam", "rmsprop"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


def trained(steps: int, first: int = 0, step: Step | None = None, **changes: Any) -> Step:
    """A step that was taken so often."""
    asked = recipe(**changes)
    step = step or build_step(asked, CPU, "fp32")
    with open_pack(images(), DataRequest(8, 1)) as pack:
        feeder = Feeder(asked, step.round, pack, CPU, step.dtype, resident=True)
        for number, batches in enumerate(feeder.rounds(first, first + steps), start=first):
            step(number, batches)
    return step


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_was_saved_is_loaded_and_goes_on_as_though_nothing_had_been(optimizer: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"optimizer__name": optimizer}
    step = trained(3, **changes)
    counters = Counters(3, 1.25, {"diversity": 0.1 + 0.2})
    folder, size = save_checkpoint(tmp_path, step, counters, keep=3)
    assert size == sum(path.stat().st_size for path in folder.iterdir())
    other = build_step(recipe(**changes, train__seed=9), CPU, "fp32")
    assert load_checkpoint(folder, other) == counters
    assert equal(state_tensors(step), state_tensors(other))
    trained(2, 3, step, **changes)
    trained(2, 3, other, **changes)
    assert equal(state_tensors(step), state_tensors(other))


def test_the_state_holds_both_networks_the_average_the_optimisers_and_the_statistics() -> None:
    step = trained(1)
    names = set(state_tensors(step))
    for group, module in (("generator", step.generator), ("discriminator", step.discriminator)):
        assert {f"{group}/{name}" for name in module.state_dict()} <= names
        for name, _ in module.named_parameters():
            assert {f"optimizer.{group}/{name}/{entry}" for entry in ("exp_avg", "exp_avg_sq", "step")} <= names
    assert {f"ema/{name}" for name in step.generator.state_dict()} <= names
    assert "statistics/sums" in names
    assert not any(name.startswith("ema/") for name in state_tensors(trained(1, ema=None)))


def test_saving_twice_gives_the_same_bytes_and_ordinary_permissions(tmp_path: Path) -> None:
    step = trained(1)
    one, _ = save_checkpoint(tmp_path / "one", step, Counters(1, 0.5), keep=1)
    other, _ = save_checkpoint(tmp_path / "other", step, Counters(1, 0.5), keep=1)
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes()
    plain = tmp_path / "plain"
    plain.write_text("")
    assert {path.stat().st_mode for path in one.iterdir()} == {plain.stat().st_mode}


def cut_short(folder: Path) -> None:
    path = folder / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(folder: Path) -> None:
    path = folder / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def change_counters(folder: Path) -> None:
    path = folder / "state.json"
    path.write_text(path.read_text().replace('"step": ', '"step": 1'))


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (cut_short, "state.safetensors is not what its manifest says"),
    "a bit flipped": (flip_a_bit, "state.safetensors is not what its manifest says"),
    "counters changed": (change_counters, "state.json is not what its manifest says"),
    "no tensors": (lambda folder: (folder / "state.safetensors").unlink(), "it has no state.safetensors"),
    "no counters": (lambda folder: (folder / "state.json").unlink(), "it has no state.json"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "it has no manifest.json"),
    "empty manifest": (
        lambda folder: (folder / "manifest.json").write_text(""),
        "manifest.json is damaged: it is not JSON",
    ),
    "a list as manifest": (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json is no manifest"),
    "manifest of another": (
        lambda folder: (folder / "manifest.json").write_text("{}"),
        "state.safetensors is not what its manifest says",
    ),
    "manifest without end": (
        lambda folder: (folder / "manifest.json").write_text("[" * 9_999),
        "manifest.json is damaged: it is nested too deep",
    ),
    "huge manifest": (
        lambda folder: (folder / "manifest.json").write_bytes(bytes(65_537)),
        "manifest.json is damaged: it is larger than 64 KiB",
    ),
    "binary manifest": (
        lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"),
        "manifest.json is damaged: it is not UTF-8 text",
    ),
    "a folder as tensors": (
        lambda folder: [(folder / "state.safetensors").unlink(), (folder / "state.safetensors").mkdir()],
        "state.safetensors cannot be read: it is a folder",
    ),
    "a pipe as tensors": (
        lambda folder: [(folder / "state.safetensors").unlink(), os.mkfifo(folder / "state.safetensors")],
        "state.safetensors cannot be read: it is a named pipe",
    ),
    "a pipe as manifest": (
        lambda folder: [(folder / "manifest.json").unlink(), os.mkfifo(folder / "manifest.json")],
        "manifest.json cannot be read: it is a named pipe",
    ),
    "empty": (lambda folder: [path.unlink() for path in folder.iterdir()], "it has no manifest.json"),
}


@pytest.mark.parametrize(
    "damage", [damage for damage in DAMAGES if not (damage.startswith("a pipe") and sys.platform == "win32")]
)
def test_a_damaged_checkpoint_is_passed_over_with_a_note(damage: str, tmp_path: Path) -> None:
    step = build_step(recipe(), CPU, "fp32")
    older, _ = save_checkpoint(tmp_path, step, Counters(4, 0.0), keep=3)
    newer, _ = save_checkpoint(tmp_path, step, Counters(8, 0.0), keep=3)
    assert find_checkpoint(tmp_path) == (newer, ())
    harm, reason = DAMAGES[damage]
    harm(newer)
    found, notes = find_checkpoint(tmp_path)
    assert found == older
    assert len(notes) == 1
    assert notes[0].startswith(f"The checkpoint step-00000008 is passed over: {reason}")
    assert "\n" not in notes[0]


def test_there_is_none_in_a_new_run_and_what_is_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path) == (None, ())
    for name in ("step-", "step-x", "step-²", ".step-00000009.0123456789ab.tmp", "other"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    (tmp_path / "checkpoints/step-00000001").write_text("a file")
    assert find_checkpoint(tmp_path) == (None, ())


def test_the_newest_is_the_highest_step_also_beyond_eight_digits(tmp_path: Path) -> None:
    step = build_step(recipe(), CPU, "fp32")
    for number in (99_999_999, 100_000_000, 5):
        save_checkpoint(tmp_path, step, Counters(number, 0.0), keep=9)
    assert find_checkpoint(tmp_path)[0] == tmp_path / "checkpoints/step-100000000"


@pytest.mark.parametrize("keep", [1, 2])
def test_only_so_many_are_kept(keep: int, tmp_path: Path) -> None:
    step = build_step(recipe(), CPU, "fp32")
    for number in (2, 4, 6):
        save_checkpoint(tmp_path, step, Counters(number, 0.0), keep=keep)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == [
        f"step-{number:08d}" for number in (2, 4, 6)[-keep:]
    ]


def test_a_damaged_later_one_never_drives_out_a_whole_one(tmp_path: Path) -> None:
    step = build_step(recipe(), CPU, "fp32")
    save_checkpoint(tmp_path, step, Counters(4, 0.0), keep=1)
    flip_a_bit(save_checkpoint(tmp_path, step, Counters(8, 0.0), keep=2)[0])
    written, _ = save_checkpoint(tmp_path, step, Counters(5, 0.0), keep=1)
    assert find_checkpoint(tmp_path)[0] == written
    again, _ = save_checkpoint(tmp_path, step, Counters(8, 0.0), keep=1)  # in the damaged one's place
    assert find_checkpoint(tmp_path) == (again, ())
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000008"]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    step = build_step(recipe(), CPU, "fp32")
    whole, _ = save_checkpoint(tmp_path, step, Counters(4, 0.0), keep=1)
    (tmp_path / "samples").mkdir()
    for name in (
        "checkpoints/.step-00000008.0123456789ab.tmp",
        "checkpoints/.step-123456789.0123456789ab.tmp",
        ".model.0123456789ab.tmp",
    ):
        shutil.copytree(whole, tmp_path / name)
    for name in (".metrics.jsonl.tmp", ".run.json.0123456789ab.tmp", "samples/.step-00000008.png.99.tmp"):
        (tmp_path / name).write_text("half")
    for name in (".lock", "samples/step-00000004.png", "notes.tmp"):
        (tmp_path / name).write_text("kept")
    remove_dead_writes(tmp_path)
    there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if whole not in path.parents}
    assert there == {
        ".lock",
        "notes.tmp",
        "checkpoints",
        "checkpoints/step-00000004",
        "samples",
        "samples/step-00000004.png",
    }


def fail_with(number: int) -> Callable[..., None]:
    def fail(path: Path, *_: Any, **__: Any) -> None:
        path.write_bytes(b"half of it")
        raise OSError(number, "No space left on device")

    return fail


def test_a_full_disk_leaves_nothing_half_written_and_the_ones_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = build_step(recipe(), CPU, "fp32")
    before, _ = save_checkpoint(tmp_path, step, Counters(4, 0.0), keep=1)
    monkeypatch.setattr(checkpoints, "save_tensors", fail_with(errno.ENOSPC))
    with pytest.raises(CheckpointError, match=r"step-00000008 cannot be written: .* No space left on device") as error:
        save_checkpoint(tmp_path, step, Counters(8, 0.0), keep=1)
    assert error.value.remedy == f"Free some room, then go on with: ganzoo train --resume {tmp_path}"
    assert list((tmp_path / "checkpoints").iterdir()) == [before]
    assert find_checkpoint(tmp_path) == (before, ())


def test_too_little_room_is_seen_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = build_step(recipe(), CPU, "fp32")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10_000))  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match=r"it needs 1 MB; 0 MB are free"):
        save_checkpoint(tmp_path, step, Counters(8, 0.0), keep=1)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def rewritten(folder: Path, **changes: Any) -> None:
    """Change a checkpoint's counters and let its manifest say so."""
    path, manifest = folder / "state.json", folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    files = json.loads(manifest.read_text()) | {"state.json": checkpoints._fingerprint(path)}
    manifest.write_text(json.dumps(files))


def test_one_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    step = build_step(recipe(), CPU, "fp32")
    folder, _ = save_checkpoint(tmp_path, step, Counters(4, 0.0), keep=1)
    rewritten(folder, schema_version=2)
    with pytest.raises(CheckpointError, match="schema_version = 2 is newer than this ganzoo knows") as error:
        load_checkpoint(folder, step)
    assert error.value.remedy == "Update ganzoo."


@pytest.mark.parametrize(
    "changes",
    [
        {"generator__widths": [6, 4]},
        {"discriminator__norm": "spectral"},
        {"optimizer__name": "rmsprop"},
        {"ema": None},
        {"discriminator__norm": "none", "penalty": [{"weight": 1.0}]},
    ],
    ids=["widths", "norm", "optimiser", "average", "statistics"],
)
def test_one_that_does_not_fit_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    folder, _ = save_checkpoint(tmp_path, trained(1, **changes), Counters(1, 0.0), keep=1)
    with pytest.raises(CheckpointError, match="does not fit the run"):
        load_checkpoint(folder, build_step(recipe(), CPU, "fp32"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"step": "4"}, "step, seconds or alarms is not what it should be"),
        ({"step": -1}, "step, seconds or alarms is not what it should be"),
        ({"step": True}, "step, seconds or alarms is not what it should be"),
        ({"step": 1 << 62}, "step, seconds or alarms is not what it should be"),
        ({"seconds": None}, "step, seconds or alarms is not what it should be"),
        ({"seconds": float("nan")}, "it holds NaN, which is no number"),
        ({"alarms": [1]}, "step, seconds or alarms is not what it should be"),
        ({"alarms": {"diversity": "much"}}, "step, seconds or alarms is not what it should be"),
        ({"more": 1}, "state.json holds alarms, more, schema_version, seconds, step"),
        ({"schema_version": "1"}, "state.json has no schema_version"),
    ],
)
def test_counters_that_cannot_be_are_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    step = build_step(recipe(), CPU, "fp32")
    folder, _ = save_checkpoint(tmp_path, step, Counters(4, 0.0, {"diversity": 0.5}), keep=1)
    rewritten(folder, **changes)
    with pytest.raises(CheckpointError, match="does not fit the run: ") as error:
        load_checkpoint(folder, step)
    assert reason in error.value.message


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        ("another/x", torch.ones(1), "holds what the run does not have: another"),
        ("statistics/more", torch.ones(1), "statistics does not fit the network: unexpected: more"),
        ("statistics/sums", torch.ones(1), "of another shape: sums"),
        ("optimizer.generator/x/step", torch.ones(()), "does not fit the optimiser of the generator: x is none of its"),
        ("optimizer.generator/output.weight/step", torch.ones(2), r"step is torch.float32 of shape \(2,\)"),
        ("optimizer.generator/output.weight/exp_avg", torch.ones(()), r"exp_avg has shape \(\), its parameter"),
    ],
)
def test_tensors_that_the_state_does_not_have_are_refused(
    name: str, tensor: torch.Tensor, reason: str, tmp_path: Path
) -> None:
    step = trained(1)
    folder, _ = save_checkpoint(tmp_path, step, Counters(1, 0.0), keep=1)
    save_tensors(folder / "state.safetensors", state_tensors(step) | {name: tensor}, {})
    with pytest.raises(CheckpointError, match=f"does not fit the run: .*{reason}"):
        load_checkpoint(folder, build_step(recipe(), CPU, "fp32"))


def test_a_tensor_that_is_not_finite_is_named() -> None:
    step = trained(1)
    assert first_not_finite(step) is None
    name, tensor = next(item for item in state_tensors(step).items() if item[0].startswith("optimizer.discriminator/"))
    tensor.fill_(float("inf"))
    assert first_not_finite(step) == name


# ---------------------------------------------------------------------------------------------------- in a run


@pytest.mark.parametrize("damage", ["truncated", "no manifest"])
def test_training_goes_on_from_the_next_older_one_and_says_so(damage: str, tmp_path: Path) -> None:
    train(table(**CONDITIONAL, train__checkpoint_every=2), tmp_path / "run", labelled(), steps=5)
    DAMAGES[damage][0](folder_of(tmp_path / "run", 5))
    recorder = Recorder()
    train(table(**CONDITIONAL, train__checkpoint_every=2), tmp_path / "run", labelled(), steps=7, reporters=[recorder])
    started = recorder.of(Started)[0]
    assert (started.step, started.resumed) == (4, True)
    assert "The checkpoint step-00000005 is passed over" in started.notes[0]
    train(table(**CONDITIONAL, train__checkpoint_every=2), tmp_path / "straight", labelled(), steps=7)
    for name in ("generator", "discriminator"):
        path = f"model/{name}.safetensors"
        assert (tmp_path / "run" / path).read_bytes() == (tmp_path / "straight" / path).read_bytes()


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew_in_silence(tmp_path: Path) -> None:
    train(table(), tmp_path / "run")
    for path in (tmp_path / "run/checkpoints").iterdir():
        cut_short(path)
    with pytest.raises(CheckpointError, match=r"left to go on from\. The checkpoint step-00000006"):
        train(table(), tmp_path / "run", steps=8)
    shutil.rmtree(tmp_path / "run/checkpoints")
    with pytest.raises(CheckpointError, match="has no whole checkpoint left to go on from") as error:
        train(table(), tmp_path / "run", steps=8)
    assert error.value.remedy == "Bring one back from a copy, or begin a new run with --out."


def test_damage_to_the_first_checkpoint_alone_is_no_loss(tmp_path: Path) -> None:
    def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        train(table(), tmp_path / "run", reporters=[Recorder((Checkpoint, 0), fail)])
    cut_short(folder_of(tmp_path / "run", 0))
    recorder = Recorder()
    assert train(table(), tmp_path / "run", reporters=[recorder]).step == 6
    assert "step-00000000 is passed over" in recorder.of(Started)[0].notes[0]
