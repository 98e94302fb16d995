"""Run folders: what a run may go on with and what is refused, who may write where, and what a disk does."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_runs import (
    CONDITIONAL,
    WEIGHTS,
    Recorder,
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

import ganzoo
from ganzoo.errors import CheckpointError, DataError, GanzooError, RunError, UsageError
from ganzoo.files import locked
from ganzoo.pictures import save_png
from ganzoo.training import api, publishing, trainer
from ganzoo.training.api import plan
from ganzoo.training.checkpoints import find_checkpoint
from ganzoo.training.events import Checkpoint, Ended, Samples, Started, Tick
from ganzoo.training.run import next_run, open_run, reserve_run


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


def fail() -> None:
    raise LookupError("killed here")


def killed(out: Path, at: tuple[Any, int], recipe: Any = None, data: Any = None, **options: Any) -> None:
    """A run that ends at an event as though it had been killed there: nothing is tidied up, nothing written."""
    with pytest.raises(LookupError, match="killed here"):
        train(recipe or table(), out, data, reporters=[Recorder(at, fail)], **options)


@pytest.fixture(scope="module")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        train(table(), out)
    return out


@pytest.fixture
def finished(_finished: Path, tmp_path: Path) -> Path:
    """A finished run of one's own."""
    return Path(shutil.copytree(_finished, tmp_path / "finished"))


@pytest.fixture
def straight(_finished: Path) -> Path:
    """A finished run to compare with."""
    return _finished


# ---------------------------------------------------------------------------------------------------- going on


def everything(run: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(run)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in run.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.parametrize("how", ["the same command", "resume", "epochs", "other data given again", "a shorter length"])
def test_a_finished_run_says_so_and_does_nothing(how: str, finished: Path) -> None:
    before, recorder = everything(finished), Recorder()
    asked: dict[str, Any] = {
        "the same command": {"recipe": table(), "out": finished},
        "resume": {"recipe": None, "out": None, "resume": finished},
        "epochs": {"recipe": table(), "out": finished, "epochs": 2},
        "other data given again": {"recipe": table(), "out": finished, "data": images().copy()},
        "a shorter length": {"recipe": table(), "out": finished, "steps": 2},
    }[how]
    result = train(**asked, reporters=[recorder])
    assert result.already_done
    assert (result.step, result.kimg, result.model) == (6, 0.024, finished / "model")
    assert set(result.pictures) == {"samples", "evolution", "curves"}
    assert recorder.events == []
    assert everything(finished) == before


def test_a_finished_run_is_told_without_its_data(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images())
    train(table(), tmp_path / "run", tmp_path / "images.npy", steps=2)
    (tmp_path / "images.npy").unlink()
    assert ganzoo.train(resume=tmp_path / "run", device="cpu").already_done


def test_without_a_recipe_a_run_goes_on_with_its_own_and_its_own_data(tmp_path: Path, straight: Path) -> None:
    np.save(tmp_path / "images.npy", images())
    killed(tmp_path / "run", (Tick, 4), data=tmp_path / "images.npy", overrides=["optimizer.lr=1e-4"], seed=3)
    result = ganzoo.train(resume=tmp_path / "run", device="cpu")
    assert (result.step, result.already_done) == (6, False)
    train(table(optimizer__lr=1e-4, train__seed=3), tmp_path / "straight", tmp_path / "images.npy")
    assert_same(bytes_of(tmp_path / "straight"), bytes_of(tmp_path / "run"))


def test_a_recipe_by_name_goes_on_with_the_data_that_the_run_was_given(tmp_path: Path) -> None:
    """The same command with the same --out, but for --data."""
    np.save(tmp_path / "images.npy", images())
    killed(tmp_path / "run", (Tick, 4), data=tmp_path / "images.npy")
    assert ganzoo.train(table(), out=tmp_path / "run", device="cpu").step == 6


def test_data_from_python_have_to_be_given_again(tmp_path: Path) -> None:
    killed(tmp_path / "run", (Tick, 4))
    with pytest.raises(UsageError, match="data were given from Python") as error:
        ganzoo.train(resume=tmp_path / "run", device="cpu")
    assert error.value.remedy == "Give them again: ganzoo.train(..., data=...)"
    assert train(None, None, resume=tmp_path / "run").step == 6


@pytest.mark.parametrize("longer", [{"kimg": 0.04}, {"steps": 10}, {"epochs": 4}, {"overrides": ["train.kimg=0.04"]}])
def test_a_longer_training_goes_on(longer: dict[str, Any], finished: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    result = train(table(), finished, reporters=[recorder], **longer)
    assert (recorder.of(Started)[0].step, result.step, result.already_done) == (6, 10, False)
    train(table(), tmp_path / "straight", steps=10)
    assert_same(
        bytes_of(tmp_path / "straight", *WEIGHTS, "model/config.json"),
        bytes_of(finished, *WEIGHTS, "model/config.json"),
    )
    # The recipe in the folder is the one that holds now: going on without telling the length again is going on to it.
    assert ganzoo.train(resume=finished, data=images(), device="cpu").already_done


def test_intervals_may_change_and_change_nothing_in_the_weights(tmp_path: Path, straight: Path) -> None:
    killed(tmp_path / "run", (Tick, 4))
    changes = table(train__log_every=1, train__sample_every=1, train__checkpoint_every=1, train__keep=1)
    train(changes, tmp_path / "run")
    assert_same(weights(straight), weights(tmp_path / "run"))
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-00000006"]
    assert open_run(tmp_path / "run").recipe.train.sample_every == 1


def test_another_recipe_is_refused_with_every_difference(finished: Path) -> None:
    before = everything(finished)
    other = table(
        name="other",
        generator__widths=[6, 4],
        optimizer__lr={"schedule": "cosine", "start": 1e-3, "end": 1e-4, "kimg": 1.0},
        ema=None,
        penalty=[{"where": "real", "weight": 2.0}],
        discriminator__norm="none",
        train__seed=5,
        train__sample_every=1,
    )
    with pytest.raises(RunError) as error:
        train(other, finished)
    assert error.value.message.startswith(f"The run {finished} was begun with another recipe (")
    told = error.value.message.partition("(")[2].removesuffix(").").split("; ")
    assert 'name: "tiny" → "other"' in told
    assert "generator.widths: [8, 4] → [6, 4]" in told
    assert 'discriminator.norm: "batch" → "none"' in told
    assert "ema.half_life_kimg: 0.02 → 0.0" in told
    assert "train.seed: 0 → 5" in told
    assert "optimizer.lr: 0.002 → null" in told
    assert "optimizer.lr.start: null → 0.001" in told
    assert any(line.startswith("penalty.0.weight") or line.startswith("penalty") for line in told)
    assert not any("sample_every" in line for line in told)
    assert "--init" in str(error.value.remedy)
    assert everything(finished) == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"precision": "bf16"}, {"overrides": ["optimizer.lr=1e-4"]}])
def test_what_arguments_change_of_a_recipe_is_refused_too(change: dict[str, Any], finished: Path) -> None:
    with pytest.raises(RunError, match="was begun with another recipe"):
        train(table(), finished, **change)
    with pytest.raises(RunError, match="was begun with another recipe"):
        train(None, None, resume=finished, **change)


def test_other_data_are_refused_and_the_same_data_elsewhere_are_not(tmp_path: Path) -> None:
    for name in ("one", "two/moved"):
        path = tmp_path / name / "images.npy"
        path.parent.mkdir(parents=True)
        np.save(path, images())
    np.save(tmp_path / "other.npy", images(11))
    killed(tmp_path / "run", (Tick, 4), data=tmp_path / "one/images.npy")
    for other in (tmp_path / "other.npy", images(9)):
        with pytest.raises(RunError, match=r"was begun with other data \(.*, 10 images\) than"):
            train(None, None, other, resume=tmp_path / "run")
    train(None, None, tmp_path / "two/moved/images.npy", resume=tmp_path / "run")
    train(table(), tmp_path / "straight", tmp_path / "one/images.npy")
    assert_same(bytes_of(tmp_path / "straight", "model/*"), bytes_of(tmp_path / "run", "model/*"))
    # A finished run looks at data of another name, too, before it says that it is finished.
    with pytest.raises(RunError, match="was begun with other data"):
        train(None, None, tmp_path / "other.npy", resume=tmp_path / "run")


def test_a_path_that_looks_like_a_name_stays_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "digits"
    folder.mkdir()
    for index, image in enumerate(images()):
        save_png(Image.fromarray(image[..., 0]), folder / f"{index}.png")
    killed(tmp_path / "run", (Tick, 4), data=Path("digits"))
    assert open_run(tmp_path / "run").recipe.data.source == os.path.join(".", "digits")  # noqa: PTH118
    assert ganzoo.train(resume=tmp_path / "run", device="cpu").step == 6


def test_a_model_tells_nothing_of_the_machine(tmp_path: Path) -> None:
    secret = tmp_path / "a-secret-place"
    secret.mkdir()
    np.save(secret / "images.npy", images())
    train(table(), tmp_path / "run", secret / "images.npy")
    for path in (tmp_path / "run/model").iterdir():
        content = path.read_bytes()
        assert b"a-secret-place" not in content
        assert str(tmp_path).encode() not in content
    config = json.loads((tmp_path / "run/model/config.json").read_text())
    assert config["recipe"]["data"]["source"] == "./images.npy"
    assert config["data"]["images"] == 10


@pytest.mark.parametrize("moment", [(Started, 0), (Samples, 0)])
def test_a_run_killed_before_its_first_checkpoint_begins_anew(
    moment: tuple[Any, int], tmp_path: Path, straight: Path
) -> None:
    killed(tmp_path / "run", moment)
    assert find_checkpoint(tmp_path / "run") == (None, ())
    recorder = Recorder()
    train(table(), tmp_path / "run", reporters=[recorder])
    assert not recorder.of(Started)[0].resumed
    assert_same(bytes_of(straight), bytes_of(tmp_path / "run"))
    assert rows(straight) == rows(tmp_path / "run")


@pytest.mark.parametrize(
    "left", [[".lock"], [".lock", "recipe.toml"], [".lock", "recipe.toml", ".run.json.0a.tmp"], []]
)
def test_a_run_killed_while_its_folder_was_made_begins_anew(left: list[str], tmp_path: Path, straight: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).write_text("half")
    train(table(), tmp_path / "run")
    assert_same(bytes_of(straight), bytes_of(tmp_path / "run"))
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_metrics_after_kills_have_each_step_once(tmp_path: Path, straight: Path) -> None:
    for moment in ((Tick, 2), (Samples, 3), (Checkpoint, 4), (Samples, 6), (Checkpoint, 6), (Ended, 6)):
        killed(tmp_path / "run", moment)
        if moment == (Samples, 3):
            with (tmp_path / "run/metrics.jsonl").open("a") as file:
                file.write('{"schema_version": 1, "event": "tick", "st')
    train(table(), tmp_path / "run")
    assert rows(straight) == rows(tmp_path / "run")
    assert_same(bytes_of(straight), bytes_of(tmp_path / "run"))
    assert_same(states(straight), states(tmp_path / "run"))


def test_a_checkpoint_that_was_not_told_of_is_told_of(
    tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the renaming of a checkpoint and the line about it."""
    with monkeypatch.context() as patch:
        save = trainer.save_checkpoint

        def save_and_die(run: Path, step: Any, counters: Any, keep: int) -> Any:
            written = save(run, step, counters, keep)
            return fail() if counters.step == 4 else written

        patch.setattr(trainer, "save_checkpoint", save_and_die)
        with pytest.raises(LookupError):
            train(table(), tmp_path / "run")
    train(table(), tmp_path / "run")
    assert rows(straight) == rows(tmp_path / "run")


@pytest.mark.parametrize("where", ["evolution", "curves", "model"])
def test_a_run_killed_at_its_very_end_gets_its_pictures_and_model(
    where: str, tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        fail()

    with monkeypatch.context() as patch:
        patch.setattr(
            publishing, {"evolution": "save_evolution", "curves": "save_curves", "model": "save_model"}[where], die
        )
        with pytest.raises(LookupError):
            train(table(), tmp_path / "run")
    assert not (tmp_path / "run/model").exists()
    recorder = Recorder()
    result = train(table(), tmp_path / "run", reporters=[recorder])
    assert recorder.seen == [("Started", 6), ("Ended", 6)]
    assert all(path.is_file() for path in result.pictures.values())
    assert_same(bytes_of(straight), bytes_of(tmp_path / "run"))
    assert rows(straight) == rows(tmp_path / "run")


def test_lost_sample_grids_do_not_keep_a_run_from_its_end(tmp_path: Path, straight: Path) -> None:
    killed(tmp_path / "run", (Checkpoint, 6))
    shutil.rmtree(tmp_path / "run/samples")
    result = train(table(), tmp_path / "run")
    assert result.pictures["evolution"].is_file()
    assert_same(
        bytes_of(straight, "model/*", "samples/step-00000006.png"), bytes_of(tmp_path / "run", "model/*", "samples/*")
    )


def test_sample_grids_of_steps_taken_again_are_forgotten(tmp_path: Path) -> None:
    killed(tmp_path / "run", (Tick, 6))
    (tmp_path / "run/samples/step-00000099.png").write_bytes(b"of a later step")
    train(table(train__sample_every=5), tmp_path / "run")
    there = sorted(path.name for path in (tmp_path / "run/samples").iterdir())
    assert there == ["step-00000000.png", "step-00000003.png", "step-00000005.png", "step-00000006.png"]


def test_another_torch_is_told_of(finished: Path) -> None:
    facts = json.loads((finished / "run.json").read_text())
    facts["versions"]["torch"] = "0.0.1"
    (finished / "run.json").write_text(json.dumps(facts))
    recorder = Recorder()
    train(table(), finished, steps=7, reporters=[recorder])
    assert "The run was begun with torch 0.0.1" in recorder.of(Started)[0].notes[0]


# ---------------------------------------------------------------------------------------------------- refused folders


@pytest.mark.parametrize("name", ["thesis.tex", "recipe.toml", "model"])
def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    for call in (train, plan_on_cpu):
        with pytest.raises(RunError, match=rf"is no run and is not empty \({name} is in it\)") as error:
            call(table(), tmp_path / "mine")
        assert error.value.remedy == "Choose another folder with --out."
    assert {path.name: path.read_text() for path in (tmp_path / "mine").iterdir()} == {name: "mine"}


def plan_on_cpu(recipe: Any, out: Path | None, data: Any = None, **options: Any) -> Any:
    return plan(recipe, out=out, data=images() if data is None else data, device="cpu", **options)


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(RunError, match=r"Not a directory|cannot be written"):
            train(table(), out)
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_folder_is_a_new_runs(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert train(table(), tmp_path / "new", steps=1).run == tmp_path / "new"


def test_two_processes_in_one_folder_are_refused(tmp_path: Path) -> None:
    killed(tmp_path / "run", (Tick, 4))
    before = everything(tmp_path / "run")
    with locked(tmp_path / "run/.lock", wait=False) as held:
        assert held
        with pytest.raises(RunError, match="Another process is training in"):
            train(table(), tmp_path / "run")
    assert everything(tmp_path / "run") == before
    train(table(), tmp_path / "run")


def test_a_run_that_began_meanwhile_is_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both saw an empty folder; the other one was first and is done by now."""
    create = api._create

    def late(*arguments: Any) -> Any:
        shutil.copytree(tmp_path / "first", tmp_path / "run", dirs_exist_ok=True)
        return create(*arguments)

    killed(tmp_path / "first", (Tick, 4))
    before = bytes_of(tmp_path / "first", "*.*")
    monkeypatch.setattr(api, "_create", late)
    with pytest.raises(RunError, match="is a run that another process has just begun"):
        train(table(), tmp_path / "run")
    assert_same(before, bytes_of(tmp_path / "run", "*.*"))


def test_resume_and_out_have_to_agree(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name two folders"):
        train(None, tmp_path / "other", resume=finished)
    assert train(None, finished.parent / "." / finished.name, resume=finished).already_done


def test_what_is_no_run_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is no run folder: it has no run\.json"):
        train(None, None, resume=tmp_path)
    with pytest.raises(UsageError, match="No recipe was named"):
        train(None, tmp_path / "new")


FACTS = b'{"schema_version": 1, "precision": "fp32", "data": {"content_sha256": ""}, "init": null, "versions": {}}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read: JSONDecodeError"),
        (b"[]", "cannot be read: TypeError"),
        (b'{"schema_version": 1}', "cannot be read: TypeError"),
        (b'{"schema_version": 2}', "was written by a newer ganzoo"),
        (FACTS.replace(b"fp32", b"fp8"), "run.json is not what it should be"),
        (FACTS.replace(b'{"content_sha256": ""}', b"7"), "cannot be read: TypeError"),
        (FACTS.replace(b'"content_sha256"', b'"sha"'), "cannot be read: KeyError"),
        (b"\xff", "cannot be read: UnicodeDecodeError"),
    ],
)
def test_a_damaged_run_is_answered_in_one_line(content: bytes, message: str, finished: Path) -> None:
    (finished / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=message) as error:
        train(None, None, resume=finished)
    assert "\n" not in str(error.value)


def test_a_damaged_recipe_of_a_run_is_answered_in_one_line(finished: Path) -> None:
    for content in ("", "x = [", 'schema_version = 1\nname = "tiny"'):
        (finished / "recipe.toml").write_text(content)
        with pytest.raises(RunError, match="has a recipe that cannot be used"):
            train(None, None, resume=finished)
    (finished / "recipe.toml").unlink()
    with pytest.raises(RunError, match="has a recipe that cannot be used"):
        train(None, None, resume=finished)


def test_damaged_metrics_are_answered_in_one_line(tmp_path: Path) -> None:
    killed(tmp_path / "run", (Tick, 4))
    with (tmp_path / "run/metrics.jsonl").open("a") as file:
        file.write("no row\n{}\n")
    with pytest.raises(RunError, match=r"Line \d of .*metrics.jsonl is no row of metrics"):
        train(table(), tmp_path / "run")


# ---------------------------------------------------------------------------------------------------- numbers and plans


def test_runs_are_numbered(tmp_path: Path) -> None:
    runs = tmp_path / "new" / "runs"
    assert next_run(runs, "tiny") == runs / "00000-tiny"
    assert not runs.exists()
    assert [reserve_run(runs, "tiny").name for _ in range(3)] == ["00000-tiny", "00001-tiny", "00002-tiny"]
    (runs / "00041-other").mkdir()
    (runs / "99-mine").mkdir()
    (runs / "123456-long").mkdir()
    assert reserve_run(runs, "tiny").name == "123457-tiny"


def test_runs_that_cannot_be_made_are_answered(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RunError, match="No run folder can be made under"):
        train(table(), None, runs=tmp_path / "runs")


def test_a_plan_is_what_training_then_does_and_writes_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images())
    before = sorted(tmp_path.rglob("*"))
    for length in ({}, {"steps": 5}, {"epochs": 2}, {"kimg": 0.013}):
        planned = plan_on_cpu(table(), None, tmp_path / "images.npy", runs=tmp_path / "runs", **length)
        assert sorted(tmp_path.rglob("*")) == before
        recorder = Recorder()
        result = train(table(), None, tmp_path / "images.npy", runs=tmp_path / "runs", reporters=[recorder], **length)
        started = recorder.of(Started)[0]
        assert (planned.run, planned.total_steps, planned.total_kimg) == (
            result.run,
            started.total_steps,
            started.total_kimg,
        )
        assert planned.parameters == started.parameters
        assert (planned.device, planned.precision, planned.images_per_step) == ("cpu", "fp32", 4)
        assert planned.data == str(tmp_path / "images.npy")
        assert planned.resumes_from is None
        assert planned.recipe == open_run(result.run).recipe
        before = sorted(tmp_path.rglob("*"))


def test_a_plan_knows_of_max_images(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images())
    few = table(data__max_images=6)
    assert plan_on_cpu(few, None, tmp_path / "images.npy", epochs=2).total_steps == 3
    assert train(few, tmp_path / "run", tmp_path / "images.npy", epochs=2).step == 3


def test_a_plan_to_go_on_says_from_where(finished: Path) -> None:
    planned = plan_on_cpu(None, None, resume=finished, steps=9)
    assert (planned.run, planned.total_steps) == (finished, 9)
    assert planned.resumes_from == finished / "checkpoints/step-00000006"
    with pytest.raises(RunError, match="was begun with another recipe"):
        plan_on_cpu(table(train__seed=4), finished)


def test_a_change_given_as_one_text_is_one_change(tmp_path: Path) -> None:
    assert plan_on_cpu(table(), None, overrides="train.batch_size=2").images_per_step == 2


# ---------------------------------------------------------------------------------------------------- disks


def assert_refused_and_then_goes_on(error: GanzooError, run: Path, straight: Path, **options: Any) -> None:
    """Nothing half-written is in the way, and with the cause gone the run comes to the same end."""
    assert "\n" not in str(error)
    assert error.remedy
    for path in run.glob("checkpoints/step-*"):
        assert {one.name for one in path.iterdir()} == {"state.safetensors", "state.json", "manifest.json"}
    assert not (run / "model").exists()
    train(table(), run, **options)
    assert_same(
        bytes_of(straight, "model/*", "samples/*", "evolution.gif"),
        bytes_of(run, "model/*", "samples/*", "evolution.gif"),
    )
    assert rows(straight) == rows(run)
    assert not [path for path in run.rglob(".*") if path.name.endswith(".tmp")]


def test_a_disk_that_is_too_full_for_a_checkpoint(
    tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([10**9, 1000])
    with monkeypatch.context() as patch:
        patch.setattr(
            "ganzoo.training.checkpoints.shutil.disk_usage",
            lambda path: type("Usage", (), {"free": next(free)}),
        )
        with pytest.raises(CheckpointError, match="it needs 1 MB; 0 MB are free") as error:
            train(table(), tmp_path / "run")
    assert find_checkpoint(tmp_path / "run")[0] == tmp_path / "run/checkpoints/step-00000000"
    assert_refused_and_then_goes_on(error.value, tmp_path / "run", straight)


@contextlib.contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Within it, the operating system lets no file grow beyond so many bytes: a disk that is full, for this process."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 300, 4_000, 12_000])
@pytest.mark.parametrize("at", [(Started, 0), (Samples, 3), (Checkpoint, 6)])
def test_files_that_cannot_be_written_end_a_run_in_one_line(
    at: tuple[Any, int], size: int, tmp_path: Path, straight: Path
) -> None:
    """From an event on something fails within: rows, grids, checkpoints, pictures, the model."""
    with contextlib.ExitStack() as stack:
        recorder = Recorder(at, lambda: stack.enter_context(no_file_larger_than(size)))
        with pytest.raises((RunError, CheckpointError), match="cannot be written") as error:
            train(table(), tmp_path / "run", reporters=[recorder])
        stack.close()
    assert "ganzoo train --resume" in str(error.value.remedy)
    assert_refused_and_then_goes_on(error.value, tmp_path / "run", straight)


def test_a_run_that_cannot_be_begun_for_want_of_room_is_answered(tmp_path: Path) -> None:
    train(table(), tmp_path / "packed", steps=1)  # so that the data lie in the cache
    with no_file_larger_than(0), pytest.raises(RunError, match="cannot be written: File too large"):
        train(table(), tmp_path / "run")
    assert train(table(), tmp_path / "run", steps=1).step == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 KB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = shutil.which("mount") and sys.platform == "linux" and os.geteuid() == 0
    if (
        not made
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_disk_that_fills_up_while_training_runs(small_disk: Path, straight: Path) -> None:
    room = small_disk / "ballast"

    def fill() -> None:
        with room.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1024))

    with pytest.raises((RunError, CheckpointError), match=r"needs \d MB|No space left on device") as error:
        train(table(), small_disk / "run", reporters=[Recorder((Samples, 0), fill)])
    assert error.value.remedy
    room.unlink()
    with pytest.MonkeyPatch.context() as patch:  # 300 KB are less than the margin that a checkpoint wants to see free
        patch.setattr("ganzoo.training.checkpoints.shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**9}))
        assert_refused_and_then_goes_on(error.value, small_disk / "run", straight)


def test_a_folder_that_may_not_be_written_is_answered(small_disk: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ganzoo.training.checkpoints.shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**9}))
        killed(small_disk / "run", (Tick, 2))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for out in (small_disk / "run", small_disk / "new"):
        with pytest.raises(RunError, match="cannot be written: Read-only file system"):
            train(table(), out)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_without_permission_is_answered(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(RunError, match="Permission denied"):
        train(table(), tmp_path / "closed")


def test_an_error_that_is_no_disks_is_not_taken_for_one(tmp_path: Path) -> None:
    """An OSError of a user's reporter stays what it is."""

    def lose() -> None:
        raise ConnectionResetError(errno.ECONNRESET, "the dashboard is gone")

    with pytest.raises(ConnectionResetError):
        train(table(), tmp_path / "run", reporters=[Recorder((Tick, 2), lose)])


def test_data_that_are_not_there_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is nothing at"):
        train(table(), tmp_path / "run", tmp_path / "nothing.npy")
    assert not (tmp_path / "run").exists()


def test_the_recipe_that_lies_in_a_run_is_the_resolved_one(finished: Path) -> None:
    assert ganzoo.load_recipe(finished / "recipe.toml", ["data.source=digits"]) == recipe()
    assert open_run(finished).recipe.data.source == "given from Python"


def test_conditional_runs_resume_their_grids(tmp_path: Path) -> None:
    """The same z and classes in all grids, before and after."""
    recorder = Recorder()
    train(table(**CONDITIONAL), tmp_path / "straight", labelled(), reporters=[recorder])
    killed(tmp_path / "run", (Tick, 4), table(**CONDITIONAL), labelled())
    again = Recorder()
    train(table(**CONDITIONAL), tmp_path / "run", labelled(), reporters=[again])
    assert np.array_equal(recorder.of(Samples)[-1].images, again.of(Samples)[-1].images)
    assert_same(bytes_of(tmp_path / "straight", "samples/*"), bytes_of(tmp_path / "run", "samples/*"))
