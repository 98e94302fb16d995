"""`ganzoo show`."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from ganzoo import weights
from ganzoo.building import load_recipe
from ganzoo.cli.main import root
from ganzoo.cli.show import toml
from ganzoo.errors import DownloadError
from ganzoo.recipes import list_recipes


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(root, ["show", *arguments])
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


def test_what_is_shown_is_the_recipe_as_toml_and_the_networks_as_comments(tmp_path: Path) -> None:
    text = shown("dcgan-digits", "--set", "optimizer.lr=1e-3")
    assert text.startswith("# The quick start")
    assert tomllib.loads(text) == load_recipe("dcgan-digits", ["optimizer.lr=1e-3"]).to_dict()
    assert "# Generator dcgan: 32 → 1×16×16" in text
    assert "# Discriminator dcgan: 1×16×16 → 1" in text
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    assert shown(str(tmp_path / "mine.toml")) == text


def test_the_rows_hold_shapes_parameters_and_operations() -> None:
    rows = {line.split()[1]: line.split()[2:] for line in shown("dcgan-lsun").splitlines() if line.startswith("#   ")}
    assert rows["layers.0.norm"] == ["BatchNorm2d", "256×16×16", "512"] or "layers.0.norm" in rows
    assert rows["output"] == ["Linear", "1", "16,384", "0.03"]  # the discriminator's comes last
    text = shown("dcgan-lsun")
    assert "layers.1.conv        ConvTranspose2d  256×16×16   3,276,800    419.43" in text
    assert "total                                            18,885,760  1,281.23" in text


@pytest.mark.parametrize("name", list_recipes())
def test_short_arrays_on_one_line_are_the_same_toml(name: str) -> None:
    recipe = load_recipe(name)
    assert tomllib.loads(toml(recipe)) == tomllib.loads(recipe.to_toml())
    assert re.search(r"^widths = \[\d.*\]$", toml(recipe), re.MULTILINE)


def test_json_is_one_object_with_recipe_and_networks() -> None:
    value = json.loads(shown("dcgan-mnist-cond", "--json"))
    assert value["recipe"] == load_recipe("dcgan-mnist-cond").to_dict()
    assert value["generator"]["output"] == [1, 28, 28]
    assert sum(layer["parameters"] for layer in value["generator"]["layers"]) == value["generator"]["parameters"]
    assert value["step_flops"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dcgan-lsn"], "There is no recipe or model named 'dcgan-lsn'. Did you mean 'dcgan-lsun'"),
        (["dcgan-lsun", "--set", "optimizer.learning=1"], "optimizer.learning is not a key"),
        (["dcgan-lsun", "--set", "optimizer"], "is not KEY=VALUE"),
        (["no/where"], "Write hf-hub:no/where for the Hub, ./no/where for a path"),
        (["nowhere.onnx"], "There is no file 'nowhere.onnx' here"),
        (["nowhere/recipe.toml"], "There is no recipe file nowhere/recipe.toml"),
        ([], "Missing argument 'RECIPE|MODEL'"),
    ],
)
def test_what_cannot_be_shown_is_told_in_a_line(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(root, ["show", *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


# ---------------------------------------------------------------------------------------------------- models


@pytest.fixture
def run(model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A finished run, named from its parent folder's parent."""
    monkeypatch.chdir(tmp_path)
    made = model(3)
    (made / "model" / "metrics.json").write_text(
        json.dumps({"metrics": [{"name": "FID", "value": 12.5, "protocol": "10,000 images of the test set"}]})
    )
    return made.relative_to(tmp_path)


def facts(text: str) -> dict[str, str]:
    """The lines of the table "Model"."""
    lines = text.split("# Model\n")[1].split("\n#\n")[0].splitlines()
    return {line[4:].split("  ")[0]: re.split(r"  +", line[4:], maxsplit=1)[1] for line in lines}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_model_is_shown_with_its_facts_and_its_recipe_as_toml(run: Path, tiny: Callable[..., Path]) -> None:
    file = run / "model" / "generator.safetensors"
    for reference, path in ((run, run / "model"), (run / "model", run / "model"), (file, file)):
        text = shown(str(reference))
        assert text.startswith(f"# The recipe of {reference}.\n#\n# Model\n")
        assert tomllib.loads(text) == load_recipe(tiny(3)).to_dict()
        said = facts(text)
        assert said["path"] == str(path)
        assert said["weights"] == "the generator itself, after 3 steps = 0.048 kimg"
        assert (said["licence"], said["trained on"]) == ("not stated", "not recorded")
        assert said["generator.safetensors"].endswith(f"sha256 {sha256(file)}")
        assert said.get("FID") == (None if path == file else "12.5 (10,000 images of the test set)")


def test_json_tells_the_models_facts(run: Path) -> None:
    value = json.loads(shown(str(run), "--json"))
    model = value["model"]
    assert model["sha256"] == {"generator.safetensors": sha256(run / "model" / "generator.safetensors")}
    assert model["bytes"] == {"generator.safetensors": (run / "model" / "generator.safetensors").stat().st_size}
    assert (model["weights"], model["step"], model["kimg"], model["licence"]) == ("raw", 3, 0.048, None)
    assert model["metrics"] == [{"name": "FID", "value": 12.5, "protocol": "10,000 images of the test set"}]
    assert json.loads(shown("dcgan-lsun", "--json"))["model"] is None


def test_a_recipe_with_published_weights_here_is_shown_with_them(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fetch(name: str, **options: object) -> Path:
        calls.append(options["local_files_only"])
        if len(calls) > 1:
            raise DownloadError("It is not here.")
        return run / "model"

    monkeypatch.setattr(weights, "published_models", lambda: {"dcgan-lsun": None})
    monkeypatch.setattr(weights, "fetch_published", fetch)
    text = shown("dcgan-lsun")
    assert tomllib.loads(text) == load_recipe("dcgan-lsun").to_dict()
    assert facts(text)["path"] == str(run / "model")
    assert "# Model" not in shown("dcgan-lsun")
    assert calls == [True, True]  # nothing is fetched for it


def test_a_damaged_model_is_told_in_a_line(run: Path) -> None:
    path = run / "model" / "generator.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    done = CliRunner().invoke(root, ["show", str(path)])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "cannot be read as safetensors" in done.stderr
    assert done.stderr.count("\n") == 1
