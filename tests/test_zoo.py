"""The zoo by name: lists, new models from recipes, published ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import recipe, table

import ganzoo
from ganzoo import weights
from ganzoo.errors import ModelReferenceError, RecipeError, UnknownNameError
from ganzoo.recipes import list_recipes
from ganzoo.training.networks import build_networks
from ganzoo.weights import PublishedFile, PublishedModel
from ganzoo.zoo import describe_pretrained


def model_of(name: str, folder: Path, **changes: Any) -> PublishedModel:
    """The manifest's entry for what lies in a folder."""
    files = {one.name: PublishedFile("0" * 64, one.stat().st_size) for one in sorted(folder.iterdir())}
    entry = {"recipe": "dcgan-mnist-cond", "licence": "MIT", "data": "MNIST", "torch": "2.10.0", "files": files}
    return PublishedModel(name=name, **(entry | changes))


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, PublishedModel]:
    """A zoo of models, all with the files of a tiny one: packaged, cached, to be fetched, and damaged."""
    monkeypatch.setenv("GANZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "package")
    made = ganzoo.create_model(table()).save(tmp_path / "made")
    known = {
        "tiny-10": model_of("tiny-10", made, packaged=True),
        "tiny-9": model_of("tiny-9", made, urls=("https://example.org/models",)),
        "far": model_of("far", made, urls=("https://example.org/models",)),
        "broken": model_of("broken", made, packaged=True),
    }
    monkeypatch.setattr(weights, "published_models", lambda: dict(known))
    shutil.copytree(made, tmp_path / "package" / "tiny-10")
    shutil.copytree(made, weights.cached_folder(known["tiny-9"]))
    shutil.copytree(made, tmp_path / "package" / "broken")
    (tmp_path / "package" / "broken" / "generator.safetensors").write_bytes(b"")
    return known


# ---------------------------------------------------------------------------------------------------- lists


@pytest.mark.usefixtures("zoo")
def test_models_are_recipes_and_published_ones_in_natural_order() -> None:
    assert ganzoo.list_pretrained() == ["broken", "far", "tiny-9", "tiny-10"]
    assert ganzoo.list_pretrained("tiny-*") == ["tiny-9", "tiny-10"]
    assert ganzoo.list_models("tiny-*") == ["tiny-9", "tiny-10"]
    assert ganzoo.list_models(pretrained=True) == ganzoo.list_pretrained()
    assert set(ganzoo.list_models()) == {*list_recipes(), *ganzoo.list_pretrained()}
    assert ganzoo.list_models("no-such-*") == []


def test_every_published_model_is_listed_and_lists_need_no_torch() -> None:
    code = (
        "import sys, ganzoo; published = set(ganzoo.list_models(pretrained=True)); "
        "print(published <= set(ganzoo.list_models()), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("name", "images", "place"),
    [
        ("tiny-10", "8×8 grey", "packaged"),
        ("tiny-9", "8×8 grey", "cached"),
        ("far", "28×28 grey, 10 classes", "remote"),
        ("broken", "28×28 grey, 10 classes", "damaged"),
    ],
)
def test_what_a_list_says_of_a_model(name: str, images: str, place: str, zoo: dict[str, PublishedModel]) -> None:
    said = describe_pretrained(name)
    assert (said.name, said.images, said.place) == (name, images, place)
    assert (said.recipe, said.data, said.licence, said.bytes) == ("dcgan-mnist-cond", "MNIST", "MIT", zoo[name].bytes)


def test_a_recipe_that_is_not_here_is_no_obstacle(zoo: dict[str, PublishedModel]) -> None:
    zoo["far"] = PublishedModel(**{**vars(zoo["far"]), "recipe": "somebodys-own"})
    assert describe_pretrained("far").images == ""


@pytest.mark.usefixtures("zoo")
def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny-9'"):
        describe_pretrained("tiny-8")


# ---------------------------------------------------------------------------------------------------- new models


def test_a_new_model_has_the_weights_that_a_training_begins_with() -> None:
    made = ganzoo.create_model(table())
    for own, built in zip((made.generator, made.discriminator), build_networks(recipe()), strict=True):
        assert own is not None
        assert not own.training
        assert not any(parameter.requires_grad for parameter in own.parameters())
        assert all(torch.equal(tensor, own.state_dict()[name]) for name, tensor in built.state_dict().items())
    assert (made.config.weights, made.config.step, made.config.kimg, made.path) == ("raw", 0, 0.0, None)
    assert made.config.recipe == recipe()


def test_a_seed_names_the_weights() -> None:
    one, same, other = (ganzoo.create_model(table(), seed=seed) for seed in (5, 5, 6))
    assert torch.equal(one.sample(2), same.sample(2))
    assert not torch.equal(one.sample(2), other.sample(2))
    assert one.config.recipe.train.seed == 5
    assert torch.equal(ganzoo.create_model(table(train__seed=5)).sample(2), one.sample(2))


@pytest.mark.parametrize(
    "overrides",
    [
        {"generator": {"widths": [6, 4]}, "data": {"image_size": 16}},
        {"generator.widths": [6, 4], "data.image_size": 16},
        {"generator.widths": (6, 4), "data": {"image_size": 16}, "ema": {}},
    ],
)
def test_overrides_are_tables_or_dotted_names_and_leave_the_rest(overrides: dict[str, Any]) -> None:
    made = ganzoo.create_model(table(), **overrides)
    assert made.config.recipe == recipe(generator__widths=[6, 4], data__image_size=16)
    assert made.sample(1).shape == (1, 1, 16, 16)


def test_lists_of_tables_are_replaced_and_entered() -> None:
    made = ganzoo.create_model(
        table(), penalty=[{"weight": 2.0, "where": "real", "rule": "zero_centered"}], discriminator={"norm": "none"}
    )
    assert [one.weight for one in made.config.recipe.penalty] == [2.0]
    again = ganzoo.create_model(made.config.recipe, **{"penalty.0.weight": 3.0, "name": "heavier"})
    assert ([one.weight for one in again.config.recipe.penalty], again.config.recipe.name) == ([3.0], "heavier")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"generator": {"widht": [4]}}, r"generator\.widht is not a key \(did you mean 'widths'\?\)"),
        ({"generator.widht": [4]}, r"generator\.widht is not a key"),
        ({"genrator": {"widths": [4]}}, r"genrator is not a key \(did you mean 'generator'"),
        ({"generator": {"widths": "4"}}, r"generator\.widths.* should be a list"),
        ({"generator": 3}, "generator = 3 should be a table"),
        ({"data.image_size.x": 3}, r"data\.image_size\.x: 'image_size' is a value, not a table"),
        ({"penalty.0.weight": 3.0}, r"penalty\.0\.weight: '0' is none of the 0 entries"),
        ({"data.image_size": 2}, r"data\.image_size = 2 should be at least 4"),
        ({"data.image_size": torch.zeros(1)}, r"data\.image_size is a Tensor"),
        ({"seed": -1}, r"train\.seed = -1 should be at least 0"),
        ({"seed": 1.5}, r"train\.seed = 1\.5 should be a whole number"),
    ],
)
def test_overrides_that_cannot_be_are_answered_in_a_line(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        ganzoo.create_model(table(), **overrides)
    assert "\n" not in str(error.value)
    assert "--set" not in error.value.message


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'dcgan-digits'"):
        ganzoo.create_model("dcgan-digts")


def test_a_new_model_says_nothing_of_where_its_data_lie() -> None:
    made = ganzoo.create_model(table(data__source="/home/someone/cats.zip"))
    assert made.config.recipe.data.source == "./cats.zip"


# ---------------------------------------------------------------------------------------------------- published ones


def test_a_reference_is_loaded_as_it_is_asked_for(tmp_path: Path) -> None:
    made = ganzoo.create_model(table(data__num_classes=3))
    folder = made.save(tmp_path / "mine")
    loaded = ganzoo.load_pretrained(folder, device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in loaded.generator.parameters()} == {torch.bfloat16}
    assert loaded.path == folder
    assert loaded.discriminator is not None
    for reference in (folder, str(folder), folder / "generator.safetensors"):
        assert torch.equal(ganzoo.load_pretrained(reference).sample(3, labels=1), made.sample(3, labels=1))


def test_a_name_is_fetched_with_what_the_call_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ganzoo.create_model(table())
    made.save(tmp_path / "mine")
    calls: list[Any] = []

    def fetch(name: str, **options: Any) -> Path:
        calls.append((name, options))
        return tmp_path / "mine"

    monkeypatch.setattr(weights, "published_models", lambda: {"tiny": None})
    monkeypatch.setattr(weights, "fetch_published", fetch)
    loaded = ganzoo.load_pretrained("tiny", cache_dir="there", local_files_only=True, force_download=True)
    assert torch.equal(loaded.sample(2), made.sample(2))
    ((name, options),) = calls
    assert name == "tiny"
    assert options == {"cache_dir": "there", "local_files_only": True, "force_download": True, "progress": None}
    with pytest.raises(ModelReferenceError, match=r"A revision \(='v1'\) is of models on the Hub"):
        ganzoo.load_pretrained("tiny", revision="v1")


def test_an_onnx_file_is_answered_with_what_draws_it(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelReferenceError, match="is an ONNX file, which holds no torch weights") as error:
        ganzoo.load_pretrained(tmp_path / "model.onnx")
    assert f"ganzoo.export.OnnxSampler({str(tmp_path / 'model.onnx')!r})" in (error.value.remedy or "")
