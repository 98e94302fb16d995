"""Model references: how calls and commands name a model, and what is answered where they name none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ganzoo.errors import ModelReferenceError
from ganzoo.references import ModelLocation, resolve_model


def model(folder: Path, age: int = 0) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    os.utime(folder / "config.json", ns=(10**18 - age, 10**18 - age))
    return folder


def run(folder: Path, *, finished: bool, age: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text("{}")
    if finished:
        model(folder / "model", age)
    return folder


def test_a_model_folder_and_a_run_folder_are_named_by_their_paths(tmp_path: Path) -> None:
    assert resolve_model(model(tmp_path / "published")) == ModelLocation(tmp_path / "published")
    there = run(tmp_path / "run", finished=True)
    assert resolve_model(there) == ModelLocation(there / "model")
    assert resolve_model(str(there)) == ModelLocation(there / "model")
    assert resolve_model(there / "model") == ModelLocation(there / "model")


def test_nothing_is_the_newest_finished_run_and_it_is_said_which(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run(runs / "00000-a", finished=True, age=50)
    newest = run(runs / "00001-b", finished=True, age=10)
    run(runs / "00002-c", finished=True, age=90)
    run(runs / "00003-d", finished=False)
    assert resolve_model(None, runs) == ModelLocation(newest / "model", f"Using the newest run, {newest}.")


def test_runs_are_looked_for_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "runs/00000-a", finished=True)
    assert resolve_model(None).path == Path("runs/00000-a/model")


@pytest.mark.parametrize("there", [False, True])
def test_without_any_run_it_is_said_what_to_do(there: bool, tmp_path: Path) -> None:
    if there:
        run(tmp_path / "runs/00000-a", finished=False)
    with pytest.raises(ModelReferenceError, match="No model was named, and there is no finished run in") as error:
        resolve_model(None, tmp_path / "runs")
    assert error.value.remedy == "Name one, or train: ganzoo train dcgan-digits"


def test_an_unfinished_run_is_told_from_other_folders(tmp_path: Path) -> None:
    unfinished = run(tmp_path / "run", finished=False)
    with pytest.raises(ModelReferenceError, match="has no model yet") as error:
        resolve_model(unfinished)
    assert error.value.remedy == f"Let it go on to its end: ganzoo train --resume {unfinished}"
    with pytest.raises(ModelReferenceError, match=r"is neither a run nor a model: it has no config\.json"):
        resolve_model(tmp_path)


def test_recipes_files_and_nothing_are_answered(tmp_path: Path) -> None:
    with pytest.raises(ModelReferenceError, match="The recipe 'dcgan-digits' has no published weights") as error:
        resolve_model("dcgan-digits")
    assert error.value.remedy == "Train it: ganzoo train dcgan-digits"
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ModelReferenceError, match="is a file; a model is a folder"):
        resolve_model(tmp_path / "weights.safetensors")
    with pytest.raises(ModelReferenceError, match="There is no run or model folder no-such-thing"):
        resolve_model("no-such-thing")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_what_can_be_no_path_is_answered_in_one_line(name: str) -> None:
    with pytest.raises(ModelReferenceError, match="is no path") as error:
        resolve_model(name)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
