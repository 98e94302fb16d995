"""Conversion: the images of the original, files that are whole or absent and the same twice."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_nets import (
    TutorialDiscriminator,
    TutorialGenerator,
    lively,
    prefixed,
    save,
    touches,
    z_of,
)
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_runs import recipe as tiny_recipe
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

from ganzoo import registry
from ganzoo.building import build_discriminator, build_generator
from ganzoo.errors import ModelReferenceError, UnknownNameError, UsageError, WeightsError
from ganzoo.export.conversion.converting import ConversionReport, convert
from ganzoo.files import sha256_of
from ganzoo.models import ModelConfig, load_model, save_model
from ganzoo.tensors import read_tensors


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # it takes longer than all the rest


def pair(**arguments: Any) -> tuple[TutorialGenerator, TutorialDiscriminator]:
    drawing = TutorialGenerator(**arguments)
    judged = {key: value for key, value in arguments.items() if key in ("size", "width", "channels", "bias")}
    lively(drawing)
    judging = TutorialDiscriminator(**judged)
    lively(judging, 1)
    return drawing, judging


def assert_draws_the_same(folder: Path, original: nn.Module, latent_dim: int = 7, tolerance: float = 1e-6) -> None:
    z = z_of(5, latent_dim)
    with torch.no_grad():
        difference = (load_model(folder).generator(z) - original(z)).abs().max()
    assert float(difference) <= tolerance


def files(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


# ------------------------------------------------------------------------------------------------ the same images


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"size": 16},
        {"size": 32, "width": 2, "channels": 1, "bias": True},
        {"size": 64, "width": 1, "latent_dim": 3},
        {"size": 28, "base": 7, "channels": 1},
        {"size": 16, "norm": False, "bias": True},
    ],
    ids=str,
)
def test_a_tutorial_net_draws_what_it_drew_before(arguments: dict[str, Any], legacy: bool, tmp_path: Path) -> None:
    drawing = TutorialGenerator(**arguments)
    lively(drawing)
    source = save({"G": drawing.state_dict()}, tmp_path / "a.pt", legacy=legacy)
    report = convert(source, tmp_path / "model")
    assert (report.image_size, report.channels) == (arguments["size"], arguments.get("channels", 3))
    assert_draws_the_same(tmp_path / "model", drawing, arguments.get("latent_dim", 7))
    assert report.difference is None


def test_a_generator_and_its_discriminator_go_together(tmp_path: Path) -> None:
    drawing, judging = pair()
    nested = {"state_dict": {**prefixed(drawing.state_dict(), "netG."), **prefixed(judging.state_dict(), "netD.")}}
    report = convert(save(nested, tmp_path / "last.ckpt"), tmp_path / "model")
    model = load_model(tmp_path / "model")
    assert_draws_the_same(tmp_path / "model", drawing)
    assert model.discriminator is not None
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(model.discriminator(images), judging(images, sigmoid=False), rtol=0, atol=1e-5)
    assert [(one.role, one.place, one.prefix) for one in report.networks] == [
        ("generator", ("state_dict",), "netG."),
        ("discriminator", ("state_dict",), "netD."),
    ]
    assert any("The discriminator's last sigmoid, if it had one, is left out" in note for note in report.notes)


def test_a_discriminator_comes_from_a_second_file(tmp_path: Path) -> None:
    drawing, judging = pair()
    save(drawing.state_dict(), tmp_path / "netG.pth")
    save(judging.state_dict(), tmp_path / "netD.pth")
    convert(tmp_path / "netG.pth", tmp_path / "model", discriminator=tmp_path / "netD.pth")
    model = load_model(tmp_path / "model")
    assert model.discriminator is not None
    assert torch.equal(model.discriminator.state_dict()["output.weight"], judging.main[-2].weight)
    with pytest.raises(WeightsError, match=r"netG\.pth holds no discriminator that is known"):
        convert(tmp_path / "netG.pth", tmp_path / "other", discriminator=tmp_path / "netG.pth")


@pytest.mark.parametrize("averaged", [False, True])
def test_the_average_is_converted_where_there_is_one(averaged: bool, tmp_path: Path) -> None:
    raw, average = TutorialGenerator(), TutorialGenerator()
    lively(raw, 1)
    lively(average, 2)
    nets = {"g": raw.state_dict()} | ({"g_ema": average.state_dict()} if averaged else {})
    report = convert(save(nets, tmp_path / "a.pt"), tmp_path / "model")
    assert_draws_the_same(tmp_path / "model", average if averaged else raw)
    assert load_model(tmp_path / "model").config.weights == ("ema" if averaged else "raw")
    assert report.networks[0].ema is averaged


def test_counters_of_batches_may_be_missing(tmp_path: Path) -> None:
    drawing = TutorialGenerator()
    lively(drawing)
    state = {name: one for name, one in drawing.state_dict().items() if not name.endswith("num_batches_tracked")}
    convert(save(state, tmp_path / "old.pt"), tmp_path / "model")
    assert_draws_the_same(tmp_path / "model", drawing)


# ------------------------------------------------------------------------------------------------ norms of weights


def with_spectral_norm(kind: str, only: int | None = None, norm: bool = False) -> TutorialGenerator:
    drawing = TutorialGenerator(norm=norm, width=4)
    for index, module in enumerate(drawing.main):
        if isinstance(module, nn.ConvTranspose2d) and only in (None, index):
            old_spectral_norm(module) if kind == "old" else parametrizations.spectral_norm(module)
    lively(drawing.train())
    drawing.train()
    with torch.no_grad():
        for _ in range(3):
            drawing(z_of(2, 7))  # power iterations
    return drawing.eval()


@pytest.mark.filterwarnings("ignore")  # torch's on its old spectral norm
@pytest.mark.parametrize("kind", ["old", "new"])
def test_spectral_norm_of_all_layers_is_kept_under_its_new_names(kind: str, tmp_path: Path) -> None:
    drawing = with_spectral_norm(kind)
    convert(save(drawing.state_dict(), tmp_path / "a.pt"), tmp_path / "model")
    names = read_tensors(tmp_path / "model" / "generator.safetensors")[0].keys()
    assert {"project.parametrizations.weight.original", "output.parametrizations.weight.0._u"} < names
    assert_draws_the_same(tmp_path / "model", drawing)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["old", "new"])
@pytest.mark.parametrize("norm", [False, True])
def test_spectral_norm_of_some_layers_is_carried_out_in_the_weights(kind: str, norm: bool, tmp_path: Path) -> None:
    drawing = with_spectral_norm(kind, only=0, norm=norm)
    report = convert(save(drawing.state_dict(), tmp_path / "a.pt"), tmp_path / "model")
    assert_draws_the_same(tmp_path / "model", drawing)
    assert any("Spectral norm of 1 of 3 layers was carried out in the weights" in note for note in report.notes)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["old", "new"])
def test_weight_norm_is_carried_out_in_the_weights(kind: str, tmp_path: Path) -> None:
    drawing = TutorialGenerator()
    lively(drawing)
    for module in drawing.main:
        if isinstance(module, nn.ConvTranspose2d):
            old_weight_norm(module) if kind == "old" else parametrizations.weight_norm(module)
    convert(save(drawing.state_dict(), tmp_path / "a.pt"), tmp_path / "model")
    assert_draws_the_same(tmp_path / "model", drawing)


def test_the_spectral_norm_from_before_torch_had_one_is_carried_out(tmp_path: Path) -> None:
    drawing = TutorialGenerator(norm=False)
    lively(drawing)
    state: dict[str, Tensor] = {}
    for name, tensor in drawing.state_dict().items():
        module = name.removesuffix(".weight")
        rows = tensor.flatten(1)  # its rows are always those of the first dimension
        u, v = torch.randn(rows.shape[0]), torch.randn(rows.shape[1])
        state |= {f"{module}.module.weight_bar": tensor.clone()}
        state |= {f"{module}.module.weight_u": u, f"{module}.module.weight_v": v}
        tensor /= torch.dot(u, rows @ v)  # what the original draws with
    convert(save(state, tmp_path / "a.pt"), tmp_path / "model")
    assert_draws_the_same(tmp_path / "model", drawing)


def test_batch_norm_where_the_family_has_none_is_folded_and_the_images_stay(tmp_path: Path) -> None:
    class Odd(nn.Module):
        """Norm at the end and none in the middle."""

        def __init__(self) -> None:
            super().__init__()
            self.main = nn.Sequential(
                *(
                    nn.ConvTranspose2d(7, 5, 4),
                    nn.BatchNorm2d(5),
                    nn.ReLU(),
                    nn.ConvTranspose2d(5, 4, 4, 2, 1),
                    nn.ReLU(),
                ),
                *(nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.BatchNorm2d(3), nn.Tanh()),
            )

        def forward(self, z: Tensor) -> Tensor:
            out: Tensor = self.main(z[:, :, None, None])
            return out

    drawing = lively(Odd())
    report = convert(save(drawing.state_dict(), tmp_path / "a.pt"), tmp_path / "model")
    assert_draws_the_same(tmp_path / "model", drawing)
    assert any(note.startswith("Batch norm after 0, 5 was folded") for note in report.notes)


# ------------------------------------------------------------------------------------------------ kinds of numbers


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_kept_bit_by_bit(kind: torch.dtype, tmp_path: Path) -> None:
    drawing = TutorialGenerator()
    lively(drawing)
    state = {name: one.to(kind) if one.is_floating_point() else one for name, one in drawing.state_dict().items()}
    report = convert(save(state, tmp_path / "a.pt"), tmp_path / "model")
    tensors = read_tensors(tmp_path / "model" / "generator.safetensors")[0]
    assert torch.equal(tensors["project.weight"], state["main.0.weight"])
    assert tensors["project.weight"].dtype == kind
    assert report.dtype == (str(kind).removeprefix("torch."),)


def test_double_precision_becomes_single_and_that_is_said(tmp_path: Path) -> None:
    drawing = TutorialGenerator()
    lively(drawing)
    report = convert(save(drawing.double().state_dict(), tmp_path / "a.pt"), tmp_path / "model")
    assert report.dtype == ("float32",)
    assert "float64 became float32, as ganzoo's networks compute." in report.notes
    assert_draws_the_same(tmp_path / "model", drawing.float())


@pytest.mark.parametrize(("dtype", "bound"), [("fp16", 5e-3), ("bf16", 5e-2)])
def test_fewer_digits_say_what_they_cost(dtype: Any, bound: float, tmp_path: Path) -> None:
    drawing, _ = pair()
    save(drawing.state_dict(), tmp_path / "a.pt")
    convert(tmp_path / "a.pt", tmp_path / "whole")
    report = convert(tmp_path / "whole", tmp_path / "half.safetensors", dtype=dtype)
    assert report.difference is not None
    seeds = range(8)
    drawn = [load_model(tmp_path / name).sample(seeds=seeds) for name in ("whole", "half.safetensors")]
    assert float((drawn[0] - drawn[1]).abs().max()) == pytest.approx(report.difference)
    assert 0 < report.difference < bound
    back = convert(tmp_path / "half.safetensors", tmp_path / "back.safetensors", dtype="fp32")
    assert (back.difference, back.dtype) == (None, ("float32",))


def test_numbers_beyond_fp16_are_refused_by_name(tmp_path: Path) -> None:
    drawing, _ = pair()
    drawing.main[1].running_var.fill_(1e6)
    source = save(drawing.state_dict(), tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"project_norm\.running_var holds numbers up to 1e\+06, and fp16 ends at"):
        convert(source, tmp_path / "model", dtype="fp16")
    assert not (tmp_path / "model").exists()


# ------------------------------------------------------------------------------------------------ our own


def own(folder: Path, *, licence: str | None = None, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    recipe = tiny_recipe(**changes)
    torch.manual_seed(0)
    generator, discriminator = lively(build_generator(recipe)), lively(build_discriminator(recipe))
    config = ModelConfig(recipe, "ema", 6, 0.024, {"description": "ten images"}, licence)
    save_model(folder, config, generator, discriminator)
    (folder / "README.md").write_text("a card of its own")
    (folder / "metrics.json").write_text('{"training": {"loss": 1.0}}')
    return folder


@pytest.mark.parametrize("classes", [0, 3])
def test_a_model_of_ours_keeps_its_config_card_and_tensors(classes: int, tmp_path: Path) -> None:
    source = own(tmp_path / "source", data__num_classes=classes, licence="MIT")
    convert(source, tmp_path / "copy")
    before, after = files(source), files(tmp_path / "copy")
    assert {name: after[name] for name in before if name != "metrics.json"} == {
        name: digest for name, digest in before.items() if name != "metrics.json"
    }
    assert json.loads((tmp_path / "copy" / "metrics.json").read_text()) == {"training": {"loss": 1.0}}
    half = convert(source, tmp_path / "half", dtype="fp16")
    assert half.num_classes == classes
    assert load_model(tmp_path / "half").config == load_model(source).config
    assert (tmp_path / "half" / "README.md").read_text() == "a card of its own"


def test_a_licence_is_stated_and_the_card_says_it(tmp_path: Path) -> None:
    convert(own(tmp_path / "source"), tmp_path / "licensed", licence="CC-BY-4.0")
    assert load_model(tmp_path / "licensed").config.licence == "CC-BY-4.0"
    assert "CC-BY-4.0" in (tmp_path / "licensed" / "README.md").read_text()


def test_weights_of_ours_without_a_config_are_recognised(tmp_path: Path) -> None:
    recipe = tiny_recipe(generator__kernel_size=4, generator__bias=True)
    generator = lively(build_generator(recipe))
    save_file(generator.state_dict(), tmp_path / "bare.safetensors")
    report = convert(tmp_path / "bare.safetensors", tmp_path / "model")
    assert report.networks[0].architecture == "ganzoo's DCGAN"
    z = z_of(3, 4)
    assert torch.equal(load_model(tmp_path / "model").generator(z), generator(z))


def test_weights_that_one_recipe_of_the_zoo_fits_are_that_recipes(tmp_path: Path) -> None:
    from ganzoo.building import load_recipe

    recipe = load_recipe("dcgan-digits")
    save_file(lively(build_generator(recipe)).state_dict(), tmp_path / "bare.safetensors")
    report = convert(tmp_path / "bare.safetensors", tmp_path / "model")
    assert report.recipe == "dcgan-digits"
    assert any("the only recipe of the zoo that its tensors fit" in note for note in report.notes)


def test_an_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\x08\x07")
    with pytest.raises(UsageError, match="is an ONNX file"):
        convert(tmp_path / "a.onnx", tmp_path / "model")


# ------------------------------------------------------------------------------------------------ a named recipe


def test_a_named_recipe_says_what_the_networks_are(tmp_path: Path) -> None:
    drawing, judging = pair(slope=0.3)
    nets = {"G": prefixed(drawing.state_dict(), "module."), "D": judging.state_dict()}
    table = tiny_recipe(
        data__image_size=16,
        data__channels=3,
        generator__latent_dim=7,
        generator__widths=[6, 3],
        generator__kernel_size=4,
        generator__projection="conv",
        generator__project_norm="channel",
        generator__activation="leaky_relu_0.3",
        generator__prior="uniform",
        discriminator__widths=[3, 6],
        discriminator__kernel_size=4,
        discriminator__head="conv",
    )
    path = tmp_path / "mine.toml"
    path.write_text(table.to_toml())
    report = convert(save(nets, tmp_path / "a.pt"), tmp_path / "model", recipe=path)
    model = load_model(tmp_path / "model")
    assert model.config.recipe == table
    assert model.discriminator is not None
    assert report.notes[0] == "The recipe tiny says what the networks are: it was named."
    assert_draws_the_same(tmp_path / "model", drawing)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wanted", ["spectral", "none"])
@pytest.mark.parametrize("kind", ["old", "new"])
def test_spectral_norm_becomes_what_the_named_recipe_has(kind: str, wanted: str, tmp_path: Path) -> None:
    drawing = with_spectral_norm(kind)
    recipe = tiny_recipe(
        data__image_size=16,
        data__channels=3,
        generator__latent_dim=7,
        generator__widths=[8, 4],
        generator__kernel_size=4,
        generator__projection="conv",
        generator__project_norm="channel",
        generator__norm=wanted,
    )
    report = convert(save(drawing.state_dict(), tmp_path / "a.pt"), tmp_path / "model", recipe=recipe)
    assert_draws_the_same(tmp_path / "model", drawing)
    assert any("carried out" in note for note in report.notes) == (wanted == "none")


@pytest.mark.filterwarnings("ignore")
def test_old_names_of_spectral_norm_fit_a_network_by_name(tmp_path: Path) -> None:
    recipe = tiny_recipe(generator__norm="spectral")
    generator = lively(build_generator(recipe))
    renamed = {
        name.replace("parametrizations.weight.original", "weight_orig").replace(
            "parametrizations.weight.0._", "weight_"
        ): tensor
        for name, tensor in generator.state_dict().items()
    }
    report = convert(save({"net": renamed}, tmp_path / "a.pt"), tmp_path / "model", recipe=recipe)
    assert torch.equal(load_model(tmp_path / "model").generator(z_of(3, 4)), generator(z_of(3, 4)))
    assert "Spectral norm's old names became its new ones." in report.notes


class Upsampling(nn.Module):
    """A third party's generator, which no chain of transposed convolutions is."""

    def __init__(self, *, image_size: int, channels: int, latent_dim: int, width: int = 3) -> None:
        super().__init__()
        self.first = nn.Linear(latent_dim, width * image_size**2 // 4)
        self.norm, self.last = nn.BatchNorm2d(width), nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.first(z).view(len(z), self.norm.num_features, *[int((self.first.out_features / 3) ** 0.5)] * 2)
        return torch.tanh(self.last(nn.functional.interpolate(self.norm(x), scale_factor=2)))


def test_a_plug_ins_network_is_converted_by_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.generators._registered, "upsampling", Upsampling)
    generator = lively(Upsampling(image_size=8, channels=1, latent_dim=4))
    raw, average = generator.state_dict(), {name: one + 0.5 for name, one in generator.state_dict().items()}
    del raw["norm.num_batches_tracked"], average["norm.num_batches_tracked"]
    nets = {"model": prefixed(raw, "module.G."), "model_ema": prefixed(average, "G.")}
    recipe = tiny_recipe(generator={"name": "upsampling", "latent_dim": 4})
    source = save(nets, tmp_path / "a.pt")
    report = convert(source, tmp_path / "model", recipe=recipe)
    generator.load_state_dict(average, strict=False)
    assert torch.equal(load_model(tmp_path / "model").generator(z_of(3, 4)), generator(z_of(3, 4)))
    assert "Taken: the exponential moving average (model_ema → G), not model → module.G." in report.notes
    with pytest.raises(WeightsError, match="holds no generator that is known"):
        convert(source, tmp_path / "other")


def test_a_recipe_that_does_not_fit_is_refused_with_the_difference(tmp_path: Path) -> None:
    source = save(pair()[0].state_dict(), tmp_path / "a.pt")
    with pytest.raises(WeightsError) as error:
        convert(source, tmp_path / "model", recipe="dcgan-tutorial64")
    assert "does not fit the recipe dcgan-tutorial64: missing: layers.1.conv.weight" in str(error.value)
    assert "of another shape:" in str(error.value)
    with pytest.raises(UnknownNameError, match="dcgan-tutorial64"):
        convert(source, tmp_path / "model", recipe="dcgan-tutorial")
    with pytest.raises(UsageError, match=r"says itself what it is\. Leave out --recipe"):
        convert(own(tmp_path / "own"), tmp_path / "model", recipe="dcgan-digits")
    assert not (tmp_path / "model").exists()


# ------------------------------------------------------------------------------------------------ what is written


@pytest.fixture
def source(tmp_path: Path) -> Path:
    drawing, judging = pair()
    (tmp_path / "in").mkdir()
    return save({"G": drawing.state_dict(), "D": judging.state_dict()}, tmp_path / "in" / "a.pt")


def test_twice_gives_the_same_bytes_wherever_it_lies(source: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copy(source, tmp_path / "another name.ckpt"))
    for one, place in ((source, "a"), (moved, "b")):
        convert(one, tmp_path / place / "model")
        convert(one, tmp_path / place / "model.safetensors")
    assert files(tmp_path / "a" / "model") == files(tmp_path / "b" / "model")
    names = ["README.md", "config.json", "discriminator.safetensors", "generator.safetensors", "samples.png"]
    assert sorted(files(tmp_path / "a" / "model")) == names
    single = [sha256_of(tmp_path / name / "model.safetensors") for name in "ab"]
    assert single[0] == single[1] == sha256_of(tmp_path / "a" / "model" / "generator.safetensors")
    written = b"".join(path.read_bytes() for path in (tmp_path / "a" / "model").iterdir())
    assert str(tmp_path).encode() not in written


def test_a_weights_file_has_one_metadata_key_that_says_what_it_is(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "model", licence="MIT")
    for name in ("generator", "discriminator"):
        with safe_open(tmp_path / "model" / f"{name}.safetensors", "pt") as file:
            metadata = file.metadata()
        assert list(metadata) == ["ganzoo"]
        said = json.loads(metadata["ganzoo"])
        assert (said["network"], said["config"]["licence"]) == (name, "MIT")


def test_the_config_and_the_card_claim_nothing_of_a_training(source: Path, tmp_path: Path) -> None:
    report = convert(source, tmp_path / "model")
    config = load_model(tmp_path / "model").config
    assert (config.step, config.kimg, config.licence) == (0, 0.0, None)
    assert config.data["description"] == "not recorded"
    assert config.data["converted_from"]["sha256"] == sha256_of(source)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "How it was trained is not recorded." in card
    assert all(note in card for note in report.notes)


def test_the_report_holds_what_was_written(source: Path, tmp_path: Path) -> None:
    report = convert(source, tmp_path / "model")
    assert {name: one["sha256"] for name, one in report.files.items()} == files(tmp_path / "model")
    assert report.sha256 == sha256_of(tmp_path / "model" / "generator.safetensors")
    assert json.loads(json.dumps(report.to_dict()))["networks"][0]["architecture"] == "the PyTorch tutorial's DCGAN"


def test_missing_folders_on_the_way_are_made(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "x" / "y" / "model")
    assert (tmp_path / "x" / "y" / "model" / "config.json").is_file()


def test_a_single_file_is_a_model_and_says_that_the_discriminator_is_not_in_it(source: Path, tmp_path: Path) -> None:
    report = convert(source, tmp_path / "g.safetensors")
    assert load_model(tmp_path / "g.safetensors").sample(2).shape == (2, 3, 16, 16)
    assert [one.role for one in report.networks] == ["generator"]
    assert any("holds the generator alone" in note for note in report.notes)


# ------------------------------------------------------------------------------------------------ targets


def refused(source: Path, target: Path | str, said: str, **options: Any) -> None:
    """Check that a target is refused and that nothing anywhere has changed."""
    root = source.parent.parent
    before = {path: path.read_bytes() if path.is_file() else b"" for path in root.rglob("*")}
    with pytest.raises(UsageError) as error:
        convert(source, target, **options)
    assert said in str(error.value)
    assert {path: path.read_bytes() if path.is_file() else b"" for path in root.rglob("*")} == before


@pytest.mark.parametrize("name", ["model", "model.safetensors"])
def test_what_is_there_is_replaced_only_by_force(name: str, source: Path, tmp_path: Path) -> None:
    target = tmp_path / name
    convert(source, target, licence="MIT")
    refused(source, target, "exists already. Name another target, or replace it with --force.")
    convert(source, target, force=True)
    assert load_model(target).config.licence is None


def test_force_replaces_a_model_and_nothing_else(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "model")
    (tmp_path / "model" / "model.onnx").write_text("an export")
    refused(source, tmp_path / "model", "holds more than a model: model.onnx", force=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_text("me")
    refused(source, tmp_path / "photos", "exists and is no model", force=True)
    (tmp_path / "link").symlink_to(tmp_path / "model")
    refused(source, tmp_path / "link", "is a link", force=True)
    (tmp_path / "file").write_text("a file")
    refused(source, tmp_path / "file", "is a file. A model is a folder", force=True)
    (tmp_path / "folder.safetensors").mkdir()
    refused(source, tmp_path / "folder.safetensors", "exists and is no file", force=True)


def test_an_empty_folder_becomes_the_model(source: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    convert(source, tmp_path / "model")
    assert (tmp_path / "model" / "config.json").is_file()


def test_the_source_is_never_the_target(source: Path, tmp_path: Path) -> None:
    for force in (False, True):
        refused(source, source.parent, "lies in the target", force=force)
    convert(source, tmp_path / "in" / "g.safetensors")
    convert(source, tmp_path / "in" / "model")
    (tmp_path / "same.safetensors").hardlink_to(tmp_path / "in" / "g.safetensors")
    for force in (False, True):
        refused(tmp_path / "in" / "g.safetensors", tmp_path / "same.safetensors", "is the source itself", force=force)
        refused(tmp_path / "in" / "model", tmp_path / "in" / "model", "is the source itself", force=force)
        refused(tmp_path / "in" / "model", tmp_path / "in" / "model" / "half", "lies in the source", force=force)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("g.onnx", "Use: ganzoo export MODEL --onnx --out"),
        ("g.pt", "would be a .pt file, and ganzoo writes none"),
        ("", "names no folder or file to write"),
        ("a\0b", "names no folder or file to write"),
    ],
)
def test_a_target_that_is_no_model_is_refused(name: str, said: str, source: Path, tmp_path: Path) -> None:
    refused(source, name, said)


def test_a_dtype_that_is_none_is_refused(source: Path, tmp_path: Path) -> None:
    refused(source, tmp_path / "model", "There is no dtype 'int8'", dtype="int8")


@pytest.mark.parametrize("name", ["nothing.pt", "nothing.safetensors"])
def test_a_source_that_is_not_there_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"There is no file .*{name}"):
        convert(tmp_path / name, tmp_path / "model")
    with pytest.raises(ModelReferenceError):
        convert("nothing-at-all", tmp_path / "model")


# ------------------------------------------------------------------------------------------------ failures


def nothing_but(*kept: Path) -> None:
    """Check that a folder holds these entries only: no target, no temporary file."""
    assert sorted(kept[0].parent.iterdir()) == sorted(kept)


Break = Callable[[pytest.MonkeyPatch], None]


def disk_full(patch: pytest.MonkeyPatch) -> None:
    def write(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    patch.setattr(Path, "write_bytes", write)


def read_only(patch: pytest.MonkeyPatch) -> None:
    def mkdir(self: Path, *rest: Any, **options: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    patch.setattr(Path, "mkdir", mkdir)


@pytest.mark.parametrize("name", ["model", "model.safetensors"])
@pytest.mark.parametrize("failure", [disk_full, read_only])
def test_a_disk_that_is_full_or_read_only_leaves_nothing(
    failure: Break, name: str, source: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        failure(patch)
        with pytest.raises(OSError, match=r"No space left|Permission denied"):
            convert(source, tmp_path / name)
    nothing_but(tmp_path / "in")


@pytest.mark.parametrize("name", ["model", "model.safetensors"])
def test_a_file_that_reads_back_otherwise_is_not_left(name: str, source: Path, tmp_path: Path) -> None:
    def corrupt(path: Path) -> Any:
        tensors, metadata = read_tensors(path)
        tensors["output.weight"].view(-1)[3] += 1e-6
        return tensors, metadata

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ganzoo.export.conversion.proof.read_tensors", corrupt)
        with pytest.raises(WeightsError, match=r"was not written: read again, output\.weight is not what it was"):
            convert(source, tmp_path / name)
    nothing_but(tmp_path / "in")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float, tmp_path: Path) -> None:
    drawing, _ = pair()
    drawing.main[0].weight.data[0, 0, 0, 0] = value
    (tmp_path / "in").mkdir()
    with pytest.raises(WeightsError, match=r"project\.weight holds NaN or Inf"):
        convert(save(drawing.state_dict(), tmp_path / "in" / "a.pt"), tmp_path / "model")
    nothing_but(tmp_path / "in")


def test_weights_that_draw_nan_are_refused(tmp_path: Path) -> None:
    drawing = TutorialGenerator(norm=False, bias=True)
    lively(drawing)
    drawing.main[0].weight.data.fill_(3e38)
    drawing.main[2].weight.data[:3].fill_(3e38)
    drawing.main[2].weight.data[3:].fill_(-3e38)
    (tmp_path / "in").mkdir()
    with pytest.raises(WeightsError, match="draws images that hold NaN or Inf"):
        convert(save(drawing.state_dict(), tmp_path / "in" / "a.pt"), tmp_path / "model")
    nothing_but(tmp_path / "in")


def test_a_hostile_checkpoint_leaves_neither_model_nor_trace(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    proof = tmp_path / "it_ran"
    hostile = save({"G": pair()[0].state_dict(), "x": touches(proof)}, tmp_path / "in" / "a.pt")
    with pytest.raises(WeightsError, match=r"it asks for posix\.system"):
        convert(hostile, tmp_path / "model")
    nothing_but(tmp_path / "in")


# ------------------------------------------------------------------------------------------------ torchgan itself


@pytest.mark.slow
@pytest.mark.parametrize("batchnorm", [True, False])
@pytest.mark.parametrize(("size", "channels", "step"), [(16, 1, 4), (32, 3, 64), (64, 3, 8)])
def test_a_model_of_torchgans_draws_the_same_images(
    size: int, channels: int, step: int, batchnorm: bool, tmp_path: Path
) -> None:
    models = pytest.importorskip("torchgan.models")
    torch.manual_seed(size)
    shape = {"step_channels": step, "batchnorm": batchnorm}
    drawing = models.DCGANGenerator(encoding_dims=20, out_size=size, out_channels=channels, **shape).eval()
    if batchnorm:  # without it, weights of this size grow beyond what tanh tells apart
        lively(drawing)
    judging = lively(
        models.DCGANDiscriminator(in_size=size, in_channels=channels, last_nonlinearity=nn.Identity(), **shape)
    )
    nets = {"epoch": 3, "generator": drawing.state_dict(), "discriminator": judging.state_dict()}
    report: ConversionReport = convert(save(nets, tmp_path / "gan.model"), tmp_path / "model")
    assert [one.architecture for one in report.networks] == ["torchgan's DCGAN"] * 2
    assert (report.image_size, report.channels, report.latent_dim) == (size, channels, 20)
    assert_draws_the_same(tmp_path / "model", drawing, 20, 1e-5)
    model = load_model(tmp_path / "model")
    assert model.discriminator is not None
    images = torch.rand(4, channels, size, size) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(model.discriminator(images), judging(images), rtol=1e-5, atol=1e-5)
