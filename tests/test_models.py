"""Models: the same model gives the same bytes, strict loading, damage answered in one line; drawing with them."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_runs import recipe

from ganzoo.errors import GanzooError, ModelReferenceError, UsageError, WeightsError
from ganzoo.models import (
    Model,
    ModelConfig,
    load_model,
    parse_config,
    published_recipe,
    read_config,
    save_model,
    weights_sha256,
)
from ganzoo.recipes import list_recipes, read_table
from ganzoo.sampling import TorchSampler, labels_of, latents
from ganzoo.tensors import read_tensors, save_tensors
from ganzoo.training.networks import build_networks
from ganzoo.zoo import create_model

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
    "too large": (b" " * (5 << 20), "is larger than 4,096 KiB"),
    "a key twice": (b'{"schema_version": 1, "schema_version": 1}', "holds the key 'schema_version' twice"),
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
        ({"weights": "best"}, "weights is not what it should be"),
        ({"step": "6"}, "step is not what it should be"),
        ({"recipe": []}, "recipe is not what it should be"),
        ({"step": True, "kimg": -1.0, "data": []}, "step, kimg, data are not what it should be"),
        ({"step": -1}, "step is not what it should be"),
        ({"licence": 3}, "licence is not what it should be"),
        ({"schema_version": True}, "it has no schema_version"),
        ({f"key{index}": 1 for index in range(20)}, "key0, key1, .* and 12 more"),
        ({"k" * 5000: 1}, "not known: kkkk"),
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


def test_a_config_says_the_licence_and_one_of_the_first_models_needs_none(saved: Path) -> None:
    config = read_config(saved)
    assert config.licence is None
    assert json.loads((saved / "config.json").read_text())["licence"] is None
    changed(saved, licence="MIT")
    assert read_config(saved).licence == "MIT"
    assert parse_config(json.loads(read_config(saved).to_json()), "there") == read_config(saved)
    fields = json.loads((saved / "config.json").read_text())
    del fields["licence"]
    assert parse_config(fields, "there") == config


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
    assert weights_sha256(saved / "generator.safetensors") == weights_sha256(saved)


# ---------------------------------------------------------------------------------------------------- single files


def test_a_weights_file_is_a_model_without_its_folder(saved: Path, tmp_path: Path) -> None:
    alone = tmp_path / "elsewhere" / "any name.safetensors"
    alone.parent.mkdir()
    shutil.copy(saved / "generator.safetensors", alone)
    model, whole = load_model(alone), load_model(saved)
    assert (model.config, model.discriminator, model.path, model.card) == (whole.config, None, alone, "")
    assert torch.equal(model.sample(4), whole.sample(4))


def test_each_weights_file_says_its_network_and_its_config(saved: Path) -> None:
    for network in ("generator", "discriminator"):
        metadata = read_tensors(saved / f"{network}.safetensors")[1]
        config = json.loads((saved / "config.json").read_text())
        assert metadata == {"schema_version": 1, "network": network, "config": config}


def without_metadata(path: Path, target: Path) -> Path:
    target.parent.mkdir(exist_ok=True)
    save_file(read_tensors(path)[0], target)
    return target


def test_a_file_of_others_is_a_model_where_a_config_lies_beside_it(saved: Path, tmp_path: Path) -> None:
    bare = without_metadata(saved / "generator.safetensors", tmp_path / "other" / "weights.safetensors")
    with pytest.raises(WeightsError, match="does not say what network it is") as error:
        load_model(bare)
    assert error.value.remedy == f"Recognise it by its tensors: ganzoo convert {bare} DST"
    shutil.copy(saved / "config.json", bare.parent)
    assert torch.equal(load_model(bare).sample(2), load_model(saved).sample(2))


def test_a_discriminator_a_damaged_config_and_other_files_are_no_models(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds a discriminator, and images are drawn with a generator"):
        load_model(saved / "discriminator.safetensors")
    tensors, metadata = read_tensors(saved / "generator.safetensors")
    newer = metadata | {"config": metadata["config"] | {"schema_version": 9}}
    save_tensors(tmp_path / "newer.safetensors", tensors, newer)
    with pytest.raises(WeightsError, match=r"newer.safetensors: schema_version = 9 is newer than this ganzoo knows"):
        load_model(tmp_path / "newer.safetensors")
    for name, message in (
        ("model.onnx", r"holds no torch weights.*ganzoo\.export\.OnnxSampler\("),
        ("model.pth", "ganzoo convert .*model.pth DST"),
        ("model.txt", "is no model"),
    ):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ModelReferenceError, match=message):
            load_model(tmp_path / name)


def test_weights_of_half_precision_are_read_as_what_is_asked_for(saved: Path, tmp_path: Path) -> None:
    model = load_model(saved, dtype="fp16")
    model.save(tmp_path / "half")
    tensors = read_tensors(tmp_path / "half" / "generator.safetensors")[0]
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float16}
    back = load_model(tmp_path / "half")
    assert {parameter.dtype for parameter in back.generator.parameters()} == {torch.float32}
    for name, tensor in back.generator.state_dict().items():
        assert torch.equal(tensor, tensors[name].to(tensor.dtype))


@pytest.mark.parametrize("dtype", ["float64", "int8", torch.float64, torch.int64, "", 3])
def test_other_dtypes_are_refused(dtype: Any, saved: Path) -> None:
    with pytest.raises(UsageError, match="A model cannot be of the dtype"):
        load_model(saved, dtype=dtype)


# ---------------------------------------------------------------------------------------------------- saving


def test_saving_writes_a_whole_folder_that_says_the_same(saved: Path, tmp_path: Path) -> None:
    (saved / "README.md").write_text("# Mine\n\nWhat I did.\n", encoding="utf-8")
    (saved / "metrics.json").write_text('{"training": {"loss": 1.5}}', encoding="utf-8")
    model = load_model(saved)
    assert model.save(tmp_path / "a") == tmp_path / "a"
    load_model(tmp_path / "a").save(tmp_path / "deep" / "b")
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert sorted(files) == [
        "README.md",
        "config.json",
        "discriminator.safetensors",
        "generator.safetensors",
        "metrics.json",
        "samples.png",
    ]
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "deep" / "b").iterdir()}
    assert files["README.md"] == (saved / "README.md").read_bytes()
    assert json.loads(files["metrics.json"]) == {"training": {"loss": 1.5}}
    for name in ("config.json", "generator.safetensors", "discriminator.safetensors"):
        assert files[name] == (saved / name).read_bytes()


def test_saving_replaces_a_model_and_nothing_else(saved: Path, tmp_path: Path) -> None:
    model = load_model(saved)
    model.save(tmp_path / "a")
    (tmp_path / "a" / "old.txt").write_text("")
    model.save(tmp_path / "a")
    assert not (tmp_path / "a" / "old.txt").exists()
    (tmp_path / "empty").mkdir()
    model.save(tmp_path / "empty")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    for there in ("mine", "mine/thesis.tex"):
        with pytest.raises(UsageError, match="exists and is no model folder"):
            model.save(tmp_path / there)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_model_without_a_card_is_given_one(saved: Path, tmp_path: Path) -> None:
    model = load_model(saved)
    assert (model.card, dict(model.metrics)) == ("", {})
    model.save(tmp_path / "a")
    assert "# tiny" in load_model(tmp_path / "a").card
    assert not (tmp_path / "a" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("name", "content"), [("README.md", b"\xff\xfe"), ("metrics.json", b"{"), ("metrics.json", b"[]")]
)
def test_a_damaged_card_and_metrics_are_answered(name: str, content: bytes, saved: Path) -> None:
    (saved / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name} (cannot be read|holds no metrics)"):
        load_model(saved)


def test_publishing_hands_over_a_whole_folder_and_leaves_none(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganzoo import hub

    calls: list[Any] = []

    def push(folder: Path, repo: str, **options: Any) -> str:
        calls.append((sorted(path.name for path in folder.iterdir()), folder, repo, options))
        return "the address"

    monkeypatch.setattr(hub, "push_model", push)
    model = load_model(saved)
    assert model.push_to_hub("org/name") == "the address"
    model.push_to_hub("org/name", private=True, token="t", revision="r", message="m", licence="MIT")
    (names, folder, repo, options), (_, _, _, all_options) = calls
    assert {"README.md", "config.json", "generator.safetensors", "samples.png"} < set(names)
    assert (repo, options) == ("org/name", {"private": False, "token": None, "revision": None, "licence": None})
    assert all_options == {"private": True, "token": "t", "revision": "r", "licence": "MIT", "message": "m"}
    assert not folder.exists()


# ---------------------------------------------------------------------------------------------------- drawing


@pytest.fixture(scope="module")
def model(_saved: Path) -> Model:
    return load_model(_saved)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(write(tmp_path_factory.mktemp("models") / "conditional", data__num_classes=3))


def test_a_number_of_images_are_those_of_the_seeds_from_the_first(model: Model) -> None:
    images = model.sample(5, seed=7)
    assert (tuple(images.shape), images.dtype, images.device.type) == ((5, 1, 8, 8), torch.float32, "cpu")
    assert not images.requires_grad
    assert images.abs().max() <= 1.0
    assert torch.equal(images, model.sample(seeds=range(7, 12)))
    assert torch.equal(model.sample(5), model.sample(5, seed=0))
    assert images.seeds is not None
    assert images.seeds.tolist() == [7, 8, 9, 10, 11]
    assert model.sample(0).shape == (0, 1, 8, 8)
    assert model.sample(1, seed=2**64 - 1).shape == (1, 1, 8, 8)


def test_a_model_draws_what_its_sampler_draws(model: Model, conditional: Model) -> None:
    for one in (model, conditional):
        expected = TorchSampler(one, "cpu").sample([3, 9, 2**50], truncation=0.6)
        assert np.array_equal(one.sample(seeds=[3, 9, 2**50], truncation=0.6).numpy(), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Neither `n` nor `seeds` is given"),
        ({"n": 3, "seeds": [1]}, "Both `n` and `seeds` are given"),
        ({"seeds": [1], "seed": 4}, r"`seed` \(=4\) is the first of `n` seeds"),
        ({"n": -1}, r"`n` \(=-1\) images from `seed` \(=0\) cannot be drawn"),
        ({"n": 2.0}, r"`n` \(=2.0\) images"),
        ({"n": True}, r"`n` \(=True\) images"),
        ({"n": 1, "seed": -1}, r"`seed` \(=-1\) cannot be drawn"),
        ({"n": 2, "seed": 2**64 - 1}, "cannot be drawn"),
        ({"n": 10**9}, "is a whole number up to 100,000,000"),
        ({"seeds": [-1]}, "Seeds are a list of whole numbers"),
        ({"seeds": 5}, "Seeds are a list of whole numbers"),
        ({"n": 1, "labels": 0}, "This model knows no classes"),
        ({"n": 1, "truncation": 0}, r"`truncation` \(=0\) must be a number above 0 and at most 1"),
        ({"n": 1, "truncation": 1.01}, "must be a number above 0"),
        ({"n": 1, "truncation": float("nan")}, "must be a number above 0"),
        ({"n": 1, "truncation": "0.5"}, "must be a number above 0"),
        ({"n": 1, "truncation": True}, "must be a number above 0"),
        ({"n": 1, "batch_size": 0}, r"`batch_size` \(=0\) must be a whole number, at least 1"),
        ({"n": 1, "batch_size": 1.5}, "must be a whole number, at least 1"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, Any], message: str, model: Model) -> None:
    with pytest.raises(UsageError, match=message) as error:
        model.sample(**arguments)
    assert "\n" not in str(error.value)


def test_labels_are_one_for_all_or_one_for_each_or_the_seeds_own(conditional: Model) -> None:
    assert torch.equal(conditional.sample(4, labels=2), conditional.sample(4, labels=[2, 2, 2, 2]))
    own = labels_of(range(4), 3)
    drawn = conditional.sample(4)
    assert torch.equal(drawn, conditional.sample(4, labels=own))
    assert drawn.labels is not None
    assert drawn.labels.tolist() == own.tolist()
    assert not torch.equal(conditional.sample(4, labels=1), conditional.sample(4, labels=2))
    mixed = conditional.sample(4, labels=torch.tensor([0, 1, 2, 0]))
    assert torch.allclose(mixed[1:2], conditional.sample(1, seed=1, labels=1), atol=1e-6)
    for labels in (3, -1, 1.0, "1", [0, 1], [[0, 1, 2, 0]], [0, 1, 2, 3], [0, [1], 2, 0], True):
        with pytest.raises(UsageError, match="label"):
            conditional.sample(4, labels=labels)


def test_truncation_scales_z_and_one_is_none(model: Model) -> None:
    plain = model.sample(4)
    assert torch.equal(model.sample(4, truncation=1.0), plain)
    assert torch.equal(model.sample(4, truncation=1), plain)
    z = torch.from_numpy((0.5 * latents(range(4), 4, "normal").astype(np.float64)).astype(np.float32))
    with torch.no_grad():
        assert torch.allclose(model.sample(4, truncation=0.5), model.generator(z), atol=1e-6)
    spread = [float(model.sample(64, truncation=psi).std(0).mean()) for psi in (1.0, 0.5, 0.1)]
    assert spread[0] > 1.5 * spread[1] > 1.5 * spread[2] > 0.0


@pytest.mark.parametrize("name", list_recipes())
def test_an_image_is_its_seeds_own_with_every_recipes_generator(name: str) -> None:
    """Narrow networks in the recipe's form and size: in batches of any size, and in half precision nearly so."""
    drawn = narrow(name)
    # Sums of a residual net's random branches are some times larger than what tanh sees of a trained one's.
    more = 4 if drawn.config.recipe.generator.name == "resnet" else 1
    images = drawn.sample(6, batch_size=6)
    for batch_size in (1, 4):
        assert float((drawn.sample(6, batch_size=batch_size) - images).abs().max()) <= more * 1e-6
    assert float((drawn.sample(seeds=[2**40, 4])[1] - images[4]).abs().max()) <= more * 1e-6
    assert float(images.std(0).mean()) > 1e-4  # that they differ at all
    for dtype, bound in ((torch.bfloat16, 0.05), (torch.float16, 0.01)):
        half = dataclasses.replace(drawn, generator=copy.deepcopy(drawn.generator).to(dtype))
        coarse = half.sample(6)
        assert coarse.dtype == torch.float32
        assert 0.0 < float((coarse - images).abs().max()) <= more * bound


def narrow(name: str) -> Model:
    """A recipe's model with few channels, its weights stirred so that images differ as a trained model's do."""
    table = read_table(name)[0]
    widths = {network: {"widths": [4] * len(table[network]["widths"])} for network in ("generator", "discriminator")}
    for network, changes in widths.items():
        if "cardinality" in table[network]:
            changes["cardinality"] = [2] * len(changes["widths"])
    made = create_model(name, **widths)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.generator.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def test_a_model_says_in_a_line_what_it_is(model: Model, conditional: Model) -> None:
    assert repr(model) == "<Model tiny: z of 4, normal → 1×8×8>"
    assert repr(conditional) == "<Model tiny: z of 4, normal → 1×8×8, 3 classes>"
