"""Model folders: the same model gives the same bytes, strict loading, damage answered in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import recipe

from ganzoo.errors import GanzooError, WeightsError
from ganzoo.models import ModelConfig, load_model, published_recipe, read_config, save_model, weights_sha256
from ganzoo.tensors import read_tensors, save_tensors
from ganzoo.training.networks import build_networks

DATA = {"description": "ten images", "content_sha256": "0" * 64, "images": 10, "classes": []}


def write(folder: Path, *, discriminator: bool = True, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    networks = build_networks(recipe(**changes))
    config = ModelConfig(recipe(**changes), "ema", 6, 0.024, DATA)
    save_model(folder, config, networks[0], networks[1] if discriminator else None)
    return folder


@pytest.fixture(scope="module")
def _saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def saved(_saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(_saved, tmp_path / "model"))


def test_a_model_comes_back_as_it_was_ready_to_use(saved: Path) -> None:
    model = load_model(saved)
    generator, discriminator = build_networks(recipe())
    assert model.discriminator is not None
    for loaded, built in ((model.generator, generator), (model.discriminator, discriminator)):
        assert not loaded.training
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
        assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in built.state_dict().items())
    assert model.config == ModelConfig(recipe(), "ema", 6, 0.024, DATA)


def test_a_model_without_a_discriminator_is_one_too(tmp_path: Path) -> None:
    model = load_model(str(write(tmp_path / "model", discriminator=False)), "cpu")
    assert model.discriminator is None


@pytest.mark.parametrize("changes", [{}, {"discriminator__norm": "spectral", "generator__norm": "spectral"}])
def test_loading_and_saving_again_gives_the_same_bytes(changes: dict[str, Any], tmp_path: Path) -> None:
    first = write(tmp_path / "a place" / "one", **changes)
    model = load_model(first)
    second = tmp_path / "two"
    second.mkdir()
    save_model(second, model.config, model.generator, model.discriminator)
    files = {path.name: path.read_bytes() for path in first.iterdir()}
    assert files == {path.name: path.read_bytes() for path in second.iterdir()}
    assert sorted(files) == ["config.json", "discriminator.safetensors", "generator.safetensors"]
    assert not [name for name, content in files.items() if b"a place" in content or str(tmp_path).encode() in content]


def test_missing_unexpected_and_misshaped_tensors_are_listed(saved: Path) -> None:
    tensors, metadata = read_tensors(saved / "generator.safetensors")
    (first, *_, last) = sorted(tensors)
    del tensors[first]
    tensors["another"] = torch.zeros(1)
    tensors[last] = torch.zeros(7)
    save_tensors(saved / "generator.safetensors", tensors, metadata)
    with pytest.raises(WeightsError) as error:
        load_model(saved)
    assert f"missing: {first}; unexpected: another; of another shape: {last} (7,) instead of" in str(error.value)
    assert "generator.safetensors does not fit the network" in str(error.value)


def test_weights_of_another_recipe_are_refused(saved: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", generator__widths=[6, 4])
    shutil.copy(other / "generator.safetensors", saved)
    with pytest.raises(WeightsError, match="of another shape"):
        load_model(saved)


@pytest.mark.parametrize("name", ["generator.safetensors", "discriminator.safetensors"])
def test_damaged_weights_are_answered_in_one_line(name: str, saved: Path) -> None:
    (saved / name).write_bytes((saved / name).read_bytes()[:-10])
    with pytest.raises(WeightsError, match=f"{name} cannot be read as safetensors") as error:
        load_model(saved)
    assert "\n" not in str(error.value)


def test_a_missing_generator_is_answered(saved: Path) -> None:
    (saved / "generator.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"There is no file .*generator\.safetensors"):
        load_model(saved)
    with pytest.raises(WeightsError, match="cannot be read"):
        weights_sha256(saved)


def changed(folder: Path, **entries: Any) -> None:
    path = folder / "config.json"
    fields = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}))


DAMAGES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "cannot be read"),
    "no JSON": (b"{", "cannot be read"),
    "no text": (b"\xff\xfe\x00", "cannot be read"),
    "a list": (b"[]", "is not a model's config: it has no schema_version"),
    "no version": (b"{}", "is not a model's config: it has no schema_version"),
    "nested without end": (b"[" * 100_000, "cannot be read"),
    "too large": (b" " * (5 << 20), "is larger than 4 MiB"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_config_is_answered_in_one_line(damage: str, saved: Path) -> None:
    content, message = DAMAGES[damage]
    (saved / "config.json").write_bytes(content)
    with pytest.raises(WeightsError, match=message) as error:
        read_config(saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"schema_version": 2}, r"schema_version = 2 is newer than this ganzoo knows \(1\)"),
        ({"weights": None}, "these keys are missing or not known: weights"),
        ({"extra": 1}, "these keys are missing or not known: extra"),
        ({"weights": "best"}, "recipe, weights, step, kimg or data is not what it should be"),
        ({"step": "6"}, "recipe, weights, step, kimg or data is not what it should be"),
        ({"recipe": []}, "recipe, weights, step, kimg or data is not what it should be"),
        ({"recipe": {"schema_version": 1}}, "are missing"),
    ],
)
def test_a_config_of_other_entries_is_answered(entries: dict[str, Any], message: str, saved: Path) -> None:
    changed(saved, **entries)
    with pytest.raises(WeightsError, match=message):
        load_model(saved)


def test_networks_that_are_not_installed_are_named(saved: Path) -> None:
    table = recipe().to_dict()
    table["generator"]["name"] = "dcgam"
    changed(saved, recipe=table)
    with pytest.raises(GanzooError, match=r"There is no generator named 'dcgam'\. Did you mean 'dcgan'\?"):
        load_model(saved)


def test_networks_that_cannot_be_built_are_answered(saved: Path) -> None:
    table = recipe().to_dict()
    table["generator"]["strides"] = [2, 2, 2, 2]
    changed(saved, recipe=table)
    with pytest.raises(WeightsError, match="tiny: generator: "):
        load_model(saved)


def test_no_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"is no model folder: it has no config\.json"):
        load_model(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("source", "published"),
    [
        ("digits", "digits"),
        ("lsun:bedroom_train", "lsun:bedroom_train"),
        ("torchvision:SVHN", "torchvision:SVHN"),
        ("given from Python", "given from Python"),
        ("/home/someone/secret/cats.zip", "./cats.zip"),
        ("../secret/cats/", "./cats"),
        ("~/cats", "./cats"),
        ("C:\\Users\\someone\\cats", "./cats"),
        ("cats.zip", "cats.zip"),
    ],
)
def test_a_published_recipe_names_its_data_without_the_way_there(source: str, published: str) -> None:
    assert published_recipe(recipe(data__source=source)).data.source == published


def test_the_hash_of_weights_is_of_both_networks(saved: Path) -> None:
    both = weights_sha256(saved)
    (saved / "discriminator.safetensors").unlink()
    assert both.startswith(weights_sha256(saved))
    assert both != weights_sha256(saved)
