"""Model references: how calls and commands name a model, and what is answered where they name none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganzoo import weights
from ganzoo.errors import DownloadError, ModelReferenceError
from ganzoo.recipes import list_recipes
from ganzoo.references import ModelLocation, resolve_model


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """A zoo with one model, "dcgan-lsun", and the calls that asked for it."""
    calls: list[Any] = []

    def fetch(name: str, **options: Any) -> Path:
        calls.append((name, options))
        return tmp_path / "cache" / name

    monkeypatch.setattr(weights, "published_models", lambda: {"dcgan-lsun": None})
    monkeypatch.setattr(weights, "fetch_published", fetch)
    return calls


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """A Hub that has everything, and the calls that asked for it."""
    from ganzoo import hub

    calls: list[Any] = []

    def download(repo: str, revision: str | None, **options: Any) -> Path:
        calls.append((repo, revision, options))
        return tmp_path / "hub"

    monkeypatch.setattr(hub, "download_model", download)
    return calls


@pytest.fixture
def empty_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "published_models", dict)


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


# ---------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("written", [Path, str, lambda path: os.path.relpath(path), lambda path: f"{path}{os.sep}"])
def test_folders_and_files_are_named_by_their_paths(written: Callable[[Path], Any], tmp_path: Path) -> None:
    published, there = model(tmp_path / "some" / "published"), run(tmp_path / "some" / "run", finished=True)
    for found, expected in (
        (resolve_model(written(published)), ("published", "folder", "folder")),
        (resolve_model(written(there)), ("run/model", "folder", "run")),
        (resolve_model(written(there / "model")), ("run/model", "folder", "folder")),
    ):
        name, kind, origin = expected
        assert found.path.resolve() == tmp_path / "some" / name
        assert (found.kind, found.origin, found.said) == (kind, origin, None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.safetensors", "safetensors"), ("a.onnx", "onnx"), ("A.ONNX", "onnx"), ("x.SafeTensors", "safetensors")],
)
def test_weights_and_onnx_files_are_models(name: str, kind: str) -> None:
    Path("sub").mkdir()
    for place in ("", "./", "sub/"):
        Path(place + name).write_bytes(b"")
        assert resolve_model(place + name) == ModelLocation(Path(place + name), kind, None, "file")  # type: ignore[arg-type]


def test_the_home_folder_is_meant_by_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    model(tmp_path / "mine")
    assert resolve_model("~/mine").path == tmp_path / "mine"
    with pytest.raises(ModelReferenceError, match="There is no ~/yours"):
        resolve_model("~/yours")
    with pytest.raises(ModelReferenceError, match="is no path"):
        resolve_model("~nobody-of-that-name/mine")


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.ckpt", "a.bin", "a.pkl", "A.PT"])
def test_checkpoints_of_others_are_to_be_converted(name: str) -> None:
    Path(name).write_bytes(b"")
    for reference in (name, f"./{name}", Path(name)):
        with pytest.raises(ModelReferenceError, match="is a checkpoint in another form") as error:
            resolve_model(reference)
        assert error.value.remedy == f"Convert it first: ganzoo convert {name} DST"


def test_what_is_no_model_is_told_apart() -> None:
    model(Path("m"))
    for name in ("m/generator.safetensors", "m/README.md", "recipe.toml", "picture.png"):
        Path(name).write_bytes(b"")
    for reference, message, remedy in (
        ("m/README.md", "m/README.md is no model", "Name the folder: m"),
        ("./recipe.toml", "recipe.toml is a recipe, which has no weights", "Train it: ganzoo train recipe.toml"),
        ("./picture.png", "picture.png is no model: that is a folder with config.json and weights", None),
        ("./nothing", "There is no ./nothing.", "A model is a run or model folder, or a weights or ONNX file."),
        ("/nothing/here", "There is no /nothing/here.", "A model is a run or model folder, or a weights or ONNX file."),
        ("recipe.toml/x", "'recipe.toml/x' is not here, and could be", "Write hf-hub:recipe.toml/x for the Hub"),
        ("a/b/c", "There is no 'a/b/c' here.", "A model is a run or model folder"),
        ("  ", "The model's name is empty.", "Leave it out for the newest run."),
    ):
        with pytest.raises(ModelReferenceError) as error:
            resolve_model(reference)
        assert message.replace("/", os.sep) in error.value.message.replace("/", os.sep)
        assert (error.value.remedy or "").startswith(remedy or "")
        assert "\n" not in str(error.value)


def test_an_unfinished_run_and_folders_of_other_things_are_told_apart(tmp_path: Path) -> None:
    unfinished = run(tmp_path / "run", finished=False)
    with pytest.raises(ModelReferenceError, match="has no model yet") as error:
        resolve_model(unfinished)
    assert error.value.remedy == f"Let it go on to its end: ganzoo train --resume {unfinished}"
    with pytest.raises(ModelReferenceError, match=r"is neither a run nor a model: it has no config\.json"):
        resolve_model(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ModelReferenceError) as error:
        resolve_model(tmp_path)
    assert error.value.remedy == f"Name the file: {tmp_path / 'weights.safetensors'}"


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "y/" + "x" * 5000])
@pytest.mark.usefixtures("empty_zoo")
def test_what_can_be_no_path_is_answered_in_one_line(name: str) -> None:
    for reference in (name, Path(name)):
        with pytest.raises(ModelReferenceError, match="is no path") as error:
            resolve_model(reference)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 300


# ---------------------------------------------------------------------------------------------------- the newest run


def test_nothing_is_the_newest_finished_run_and_it_is_said_which(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run(runs / "00000-a", finished=True, age=50)
    newest = run(runs / "00001-b", finished=True, age=10)
    run(runs / "00002-c", finished=True, age=90)
    run(runs / "00003-d", finished=False)
    expected = ModelLocation(newest / "model", "folder", f"Using the newest run, {newest}.", "run")
    assert resolve_model(None, runs=runs) == expected
    assert resolve_model(None).path == Path("runs/00001-b/model")


@pytest.mark.parametrize("there", [False, True])
def test_without_any_run_it_is_said_what_to_do(there: bool, tmp_path: Path) -> None:
    if there:
        run(tmp_path / "runs/00000-a", finished=False)
    with pytest.raises(ModelReferenceError, match="No model was named, and there is no finished run in") as error:
        resolve_model(None, runs=tmp_path / "runs")
    assert error.value.remedy == "Name one, or train: ganzoo train dcgan-digits"


# ---------------------------------------------------------------------------------------------------- the zoo


def test_a_zoo_name_is_fetched_with_what_the_call_asks(zoo: list[Any], tmp_path: Path) -> None:
    found = resolve_model("dcgan-lsun")
    assert found == ModelLocation(tmp_path / "cache" / "dcgan-lsun", "folder", None, "zoo")
    resolve_model("dcgan-lsun", cache_dir=tmp_path, local_files_only=True, force_download=True)
    nothing = {"cache_dir": None, "local_files_only": False, "force_download": False, "progress": None}
    asked = {"cache_dir": tmp_path, "local_files_only": True, "force_download": True, "progress": None}
    assert zoo == [("dcgan-lsun", nothing), ("dcgan-lsun", asked)]


def test_the_zoo_wins_over_a_folder_of_its_name_and_says_so(zoo: list[Any]) -> None:
    model(Path("dcgan-lsun"))
    found = resolve_model("dcgan-lsun")
    assert found.origin == "zoo"
    assert found.said == "Using the zoo's model dcgan-lsun; what is called so here is ./dcgan-lsun."
    assert resolve_model("./dcgan-lsun") == ModelLocation(Path("dcgan-lsun"))
    assert resolve_model(Path("dcgan-lsun")) == ModelLocation(Path("dcgan-lsun"))
    assert len(zoo) == 1


@pytest.mark.usefixtures("zoo")
def test_a_bare_name_that_is_not_the_zoos_is_what_lies_here() -> None:
    model(Path("dcgan-mnist"))
    assert resolve_model("dcgan-mnist") == ModelLocation(Path("dcgan-mnist"))
    run(Path("digits"), finished=True)
    assert resolve_model("digits") == ModelLocation(Path("digits/model"), "folder", None, "run")


@pytest.mark.usefixtures("zoo")
def test_a_name_without_published_weights_is_answered_with_how_to_train_it() -> None:
    unpublished = [name for name in list_recipes() if name != "dcgan-lsun"]
    for name in unpublished:
        with pytest.raises(ModelReferenceError, match=f"The recipe '{name}' has no published weights") as error:
            resolve_model(name)
        assert error.value.remedy is not None
        assert error.value.remedy.startswith(f"Train it: ganzoo train {name} (ganzoo list --pretrained shows")


@pytest.mark.usefixtures("zoo")
def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelReferenceError, match="There is no model 'dcgan-lsn'") as error:
        resolve_model("dcgan-lsn")
    assert error.value.remedy == "Did you mean 'dcgan-lsun'?"
    with pytest.raises(ModelReferenceError, match=r"There is no file 'model\.onnx' here"):
        resolve_model("model.onnx")


@pytest.mark.usefixtures("empty_zoo")
def test_without_published_weights_the_recipes_are_named() -> None:
    with pytest.raises(ModelReferenceError) as error:
        resolve_model("dcgan-lsun")
    assert error.value.remedy == "Train it: ganzoo train dcgan-lsun"
    with pytest.raises(ModelReferenceError) as error:
        resolve_model("no-such-thing")
    assert error.value.remedy == "`ganzoo list` shows the recipes to train."


def test_what_is_said_of_a_failed_fetch_gets_through(monkeypatch: pytest.MonkeyPatch, zoo: list[Any]) -> None:
    def fail(name: str, **_: Any) -> Path:
        raise DownloadError(f"{name} cannot be fetched.")

    monkeypatch.setattr(weights, "fetch_published", fail)
    model(Path("dcgan-lsun"))  # is not taken in its place
    with pytest.raises(DownloadError, match="dcgan-lsun cannot be fetched"):
        resolve_model("dcgan-lsun")
    assert zoo == []


# ---------------------------------------------------------------------------------------------------- the Hub


@pytest.mark.parametrize(
    ("reference", "revision", "expected"),
    [
        ("hf-hub:org/name", None, ("org/name", None)),
        ("hf-hub:org/name@v1", None, ("org/name", "v1")),
        ("hf-hub:org/name@refs/pr/1", None, ("org/name", "refs/pr/1")),
        ("hf-hub:org/name", "main", ("org/name", "main")),
        ("hf-hub:org/name@main", "main", ("org/name", "main")),
        ("hf-hub:Org-1/na.me_2", None, ("Org-1/na.me_2", None)),
    ],
)
def test_a_model_of_the_hub_is_fetched_at_its_revision(
    reference: str, revision: str | None, expected: tuple[str, str | None], hub: list[Any], tmp_path: Path
) -> None:
    found = resolve_model(reference, revision=revision, local_files_only=True)
    assert found == ModelLocation(tmp_path / "hub", "folder", None, "hub")
    ((repo, asked, options),) = hub
    assert (repo, asked) == expected
    assert options == {"cache_dir": None, "local_files_only": True, "force_download": False}


@pytest.mark.parametrize(
    ("reference", "message", "remedy"),
    [
        ("hf-hub:name", "'hf-hub:name' names no model on the Hub", "Write hf-hub:ORG/NAME"),
        ("hf-hub:", "'hf-hub:' names no model on the Hub", "Write hf-hub:ORG/NAME"),
        ("hf-hub:org/name@", "names no model on the Hub", "or hf-hub:ORG/NAME@REVISION"),
        ("hf-hub:a/b/c", "names no model on the Hub", "Write hf-hub:ORG/NAME"),
        ("hf-hub:../../etc", "names no model on the Hub", "Write hf-hub:ORG/NAME"),
        ("hf-hub:" + "x" * 5000, "names no model on the Hub", "Write hf-hub:ORG/NAME"),
        ("hf:org/name", "has the prefix 'hf', which is not known", "Write hf-hub:org/name"),
        ("hf_hub:org/name", "has the prefix 'hf_hub', which is not known", "Write hf-hub:org/name"),
        ("timm:resnet", "has the prefix 'timm', which is not known", "The only one is hf-hub:ORG/NAME"),
        ("https://huggingface.co/org/name", "is an address", "Write hf-hub:org/name"),
        ("https://example.org/a.safetensors", "is an address", "Download the file and name its path"),
        ("foo/bar", "could be a path or a model on the Hub", "Write hf-hub:foo/bar for the Hub, ./foo/bar for a path"),
        ("foo/bar@v1", "could be a path or a model on the Hub", "Write hf-hub:foo/bar@v1 for the Hub"),
    ],
)
def test_what_could_be_meant_otherwise_is_refused_with_what_to_write(
    reference: str, message: str, remedy: str, hub: list[Any]
) -> None:
    with pytest.raises(ModelReferenceError) as error:
        resolve_model(reference)
    assert message in error.value.message
    assert remedy in (error.value.remedy or "")
    assert len(str(error.value)) < 400
    assert hub == []


def test_foo_bar_is_a_path_where_it_is_one(hub: list[Any]) -> None:
    model(Path("foo/bar"))
    assert resolve_model("foo/bar") == ModelLocation(Path("foo/bar"))
    assert hub == []


def test_a_drive_is_no_prefix() -> None:
    """On other systems than Windows it is just a name that nothing has."""
    with pytest.raises(ModelReferenceError) as error:
        resolve_model("C:\\models\\mine")
    assert "prefix" not in str(error.value)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
def test_a_file_whose_name_holds_a_colon_is_a_file() -> None:
    Path("a:b.onnx").write_bytes(b"")
    Path("timm:x.onnx").write_bytes(b"")
    assert resolve_model("a:b.onnx").kind == "onnx"
    assert resolve_model("timm:x.onnx").kind == "onnx"


@pytest.mark.parametrize("reference", [None, "dcgan-lsun", "./here", Path("here")])
def test_a_revision_of_what_has_none_is_refused(reference: Any) -> None:
    with pytest.raises(ModelReferenceError, match=r"A revision \(='v1'\) is of models on the Hub, and"):
        resolve_model(reference, revision="v1")


def test_two_revisions_are_one_too_many(hub: list[Any]) -> None:
    with pytest.raises(ModelReferenceError, match="names the revision 'v1', and the call 'v2'"):
        resolve_model("hf-hub:org/name@v1", revision="v2")
    assert hub == []


def test_resolving_a_file_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    script = (
        "import sys; from ganzoo.references import resolve_model; print(resolve_model('model.onnx').kind, "
        "[name for name in ('torch', 'numpy', 'pydantic', 'huggingface_hub', 'ganzoo.weights') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "onnx []"
