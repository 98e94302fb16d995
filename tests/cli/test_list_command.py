"""`ganzoo list`."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ganzoo import registry, weights
from ganzoo.cli.main import root
from ganzoo.recipes import describe_recipe, list_recipes
from ganzoo.weights import PublishedFile, PublishedModel


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two entry points of a package that is not ganzoo's: a recipe and an objective that cannot be loaded."""
    recipe = tmp_path / "their-recipe.toml"
    recipe.write_text("# Their recipe.\nschema_version = 1\n", encoding="utf-8")
    (tmp_path / "their_package.py").write_text(f"recipe = {str(recipe)!r}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    points = {
        "ganzoo.recipes": [("their-recipe", "their_package:recipe"), ("their-lost-recipe", "their_package:lost")],
        "ganzoo.objectives": [("their-objective", "their_absent_package:Objective")],
    }
    monkeypatch.setattr(
        registry,
        "_entry_points",
        lambda group: tuple(importlib.metadata.EntryPoint(name, at, group) for name, at in points.get(group, [])),
    )


def listed(*arguments: str) -> list[str]:
    done = CliRunner().invoke(root, ["list", *arguments])
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_recipes_are_listed_with_their_descriptions() -> None:
    header, *lines = listed()
    assert header.split() == ["recipe", "what", "it", "is"]
    assert [line.split()[0] for line in lines] == list_recipes()
    assert any(line.endswith(describe_recipe("dcgan-lsun")) for line in lines)


def test_a_pattern_is_a_part_of_the_name_or_a_shell_pattern() -> None:
    def names(*arguments: str) -> list[str]:
        return [line.split()[0] for line in listed(*arguments)[1:]]

    assert names("mnist") == [name for name in list_recipes() if "mnist" in name]
    assert names("*mnist") == [name for name in list_recipes() if name.endswith("mnist")]
    assert 0 < len(names("*mnist")) < len(names("mnist"))


def test_nothing_alike_is_an_error_with_the_nearest() -> None:
    done = CliRunner().invoke(root, ["list", "dcgan-digts"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("ganzoo: error: No recipe is named like 'dcgan-digts'. Did you mean 'dcgan-digits'")


@pytest.mark.parametrize("kind", ["generator", "discriminator", "objective", "penalty", "source", "metric", "features"])
def test_every_kind_is_listed_with_what_it_is(kind: str) -> None:
    value = json.loads("\n".join(listed("--kind", kind, "--json")))
    assert value["kind"] == kind
    known = getattr(registry, {"penalty": "penalties", "features": "feature_extractors"}.get(kind, f"{kind}s"))
    own = [entry for entry in value["entries"] if entry["origin"] == "ganzoo"]
    assert [entry["name"] for entry in own] == [entry.name for entry in known.entries() if entry.origin == "ganzoo"]
    assert all(entry["description"] and entry["broken"] is None for entry in own)


@pytest.mark.usefixtures("plugins")
def test_what_other_packages_add_is_listed_with_their_name() -> None:
    header, *lines = listed()
    assert header.split()[:2] == ["recipe", "from"]
    line = next(line for line in lines if line.startswith("their-recipe"))
    assert line.split() == ["their-recipe", "their_package", "Their", "recipe."]
    assert next(line for line in lines if line.startswith("dcgan-lsun")).split()[1] == "ganzoo"


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(("kind", "name"), [("recipe", "their-lost-recipe"), ("objective", "their-objective")])
def test_what_is_broken_is_listed_with_the_reason_and_breaks_nothing(kind: str, name: str) -> None:
    entries = json.loads("\n".join(listed("--kind", kind, "--json")))["entries"]
    broken = {entry["name"]: entry["broken"] for entry in entries if entry["broken"] is not None}
    assert list(broken) == [name]
    assert "cannot be loaded" in broken[name]
    assert len(entries) > 1
    assert any("broken: The" in line for line in listed("--kind", kind))


@pytest.mark.parametrize("arguments", ["'list'", "'list', '--pretrained'"])
def test_listing_does_not_import_torch(arguments: str) -> None:
    import subprocess
    import sys

    script = f"import sys\nfrom ganzoo.cli.main import root\ntry: root.main([{arguments}])\nexcept SystemExit: pass\n"
    script += "print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stderr.splitlines()[-1] == "False"


# ---------------------------------------------------------------------------------------------------- --pretrained


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three models with published weights, of which one lies in the cache."""
    monkeypatch.setenv("GANZOO_HOME", str(tmp_path / "home"))
    config = b'{"recipe": {"data": {"image_size": 48, "channels": 1}}}'
    files = {
        "config.json": PublishedFile("0" * 64, len(config)),
        "generator.safetensors": PublishedFile("1" * 64, 3 << 20),
    }

    def model(name: str, recipe: str, **more: Any) -> PublishedModel:
        return PublishedModel(name, recipe, "CC0-1.0", f"data of {name}", "2.10.0", files, **more)

    known = {
        "far": model("far", "dcgan-mnist-cond", urls=("https://example.org/far",)),
        "near": model("near", "dcgan-lsun", urls=("https://example.org/near",)),
        "lost": model("lost", "dcgan-lsun", packaged=True),
    }
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "package")
    monkeypatch.setattr(weights, "published_models", lambda: known)
    near = weights.cached_folder(known["near"])
    near.mkdir(parents=True)
    (near / "config.json").write_bytes(config)
    (near / "generator.safetensors").write_bytes(bytes(3 << 20))


@pytest.mark.usefixtures("zoo")
def test_models_with_published_weights_are_listed_with_what_matters() -> None:
    header, *rows = [line.split("  ") for line in listed("--pretrained")]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in (header, *rows)]
    assert cells == [
        ["model", "images", "size", "where", "licence", "trained on"],
        ["far", "28×28 grey, 10 classes", "3.0 MiB", "to be fetched", "CC0-1.0", "data of far"],
        ["lost", "64×64 RGB", "3.0 MiB", "damaged: install ganzoo again", "CC0-1.0", "data of lost"],
        ["near", "48×48 grey", "3.0 MiB", "in the cache", "CC0-1.0", "data of near"],
    ]


@pytest.mark.usefixtures("zoo")
def test_models_with_published_weights_as_json() -> None:
    value = json.loads("\n".join(listed("--pretrained", "near", "--json")))
    assert value["kind"] == "pretrained"
    assert value["entries"] == [
        {
            "name": "near",
            "recipe": "dcgan-lsun",
            "images": "48×48 grey",
            "data": "data of near",
            "licence": "CC0-1.0",
            "bytes": (3 << 20) + 55,
            "place": "cached",
        }
    ]


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nearr"], 1, "No model with published weights is named like 'nearr'. Did you mean 'near'"),
        (["--kind", "objective"], 2, "--pretrained lists models, so it cannot be given with --kind objective"),
    ],
)
def test_what_cannot_be_listed_is_told_in_a_line(arguments: list[str], code: int, said: str) -> None:
    done = CliRunner().invoke(root, ["list", "--pretrained", *arguments])
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr


def test_an_empty_zoo_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "published_models", dict)
    done = CliRunner().invoke(root, ["list", "--pretrained"])
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "There is no model with published weights.\n"
