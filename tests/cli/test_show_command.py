"""`ganzoo show`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from ganzoo.cli.main import root
from ganzoo.cli.show import toml

from ganzoo.building import load_recipe
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
    assert "betas = [0." in toml(recipe)


def test_json_is_one_object_with_recipe_and_networks() -> None:
    value = json.loads(shown("dcgan-mnist-cond", "--json"))
    assert value["recipe"] == load_recipe("dcgan-mnist-cond").to_dict()
    assert value["generator"]["output"] == [1, 28, 28]
    assert sum(layer["parameters"] for layer in value["generator"]["layers"]) == value["generator"]["parameters"]
    assert value["step_flops"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dcgan-lsn"], "There is no recipe named 'dcgan-lsn'. Did you mean 'dcgan-lsun'"),
        (["dcgan-lsun", "--set", "optimizer.learning=1"], "optimizer.learning is not a key"),
        (["dcgan-lsun", "--set", "optimizer"], "is not KEY=VALUE"),
        (["nowhere/recipe.toml"], "There is no recipe file nowhere/recipe.toml"),
        ([], "Missing argument 'RECIPE'"),
    ],
)
def test_what_cannot_be_shown_is_told_in_a_line(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(root, ["show", *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
