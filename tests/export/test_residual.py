"""Conversion of residual nets named as torch-mimicry names them: nets of our own, that compute as theirs do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_nets import MimicryDiscriminator, MimicryGenerator, lively, prefixed, save, z_of
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from ganzoo.building import build_generator, load_recipe
from ganzoo.errors import WeightsError
from ganzoo.export.conversion.converting import convert
from ganzoo.export.conversion.layers import NotRecognised
from ganzoo.export.conversion.residual import is_residual, read_residual
from ganzoo.models import Model, load_model
from ganzoo.tensors import read_tensors


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # it takes longer than all the rest


def checkpoint(network: nn.Module, path: Path) -> Path:
    """Save a network as torch-mimicry does, beside an optimiser's state."""
    optimizer = torch.optim.Adam(network.parameters())
    content = {"model_state_dict": network.state_dict(), "optimizer_state_dict": optimizer.state_dict()}
    return save({**content, "global_step": 100}, path)


def tensors(network: nn.Module) -> dict[tuple[str, ...], Tensor]:
    return {tuple(name.split(".")): tensor for name, tensor in network.state_dict().items()}


def judge(**arguments: Any) -> MimicryDiscriminator:
    """A lively discriminator whose spectral norms have iterated."""
    network = MimicryDiscriminator(**arguments)
    lively(network, 1)
    network.train()
    classes = [torch.tensor([0, 1])] if arguments.get("classes") else []
    for _ in range(3):
        network(torch.randn(2, 3, 32, 32), *classes)
    network.eval()
    return network


def assert_draws_the_same(model: Model, original: nn.Module, classes: int = 0) -> None:
    z = z_of(6, 5)
    label = [torch.arange(6) % classes] if classes else []
    with torch.no_grad():
        wanted, drawn = original(z, *label), model.generator(z, *label)
    assert wanted.std() > 0.05
    assert float((wanted - drawn).abs().max()) <= 1e-5


def assert_judges_the_same(model: Model, original: nn.Module, classes: int = 0) -> None:
    size = model.config.recipe.data.image_size
    images = torch.rand(4, 3, size, size) * 2 - 1
    label = [torch.arange(4) % classes] if classes else []
    assert model.discriminator is not None
    with torch.no_grad():
        wanted, judged = original(images, *label), model.discriminator(images, *label)
    torch.testing.assert_close(judged, wanted, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------------ generators


@pytest.mark.parametrize(
    ("widths", "side", "classes", "size"),
    [((4, 4, 4, 4), 4, 0, 32), ((6, 4, 3, 2), 6, 0, 48), ((4, 3, 2), 4, 3, 16), ((4, 2), 8, 1, 16)],
)
def test_a_generator_draws_what_it_drew_before(
    widths: tuple[int, ...], side: int, classes: int, size: int, tmp_path: Path
) -> None:
    drawing = lively(MimicryGenerator(widths=widths, side=side, classes=classes))
    report = convert(checkpoint(drawing, tmp_path / "netG.pth"), tmp_path / "model")
    assert (report.image_size, report.channels, report.num_classes, report.latent_dim) == (size, 3, classes, 5)
    assert report.recipe == f"resnet-{size}-converted"
    (network,) = report.networks
    assert (network.architecture, network.place) == ("torch-mimicry's ResNets", ("model_state_dict",))
    model = load_model(tmp_path / "model")
    assert model.config.recipe.generator.options["widths"] == widths
    assert_draws_the_same(model, drawing, classes)
    assert any("bilinear doubling, tanh at the end" in note for note in report.notes)


def test_spectral_norm_of_a_generator_is_carried_out(tmp_path: Path) -> None:
    drawing = MimicryGenerator()
    spectral_norm(drawing.l1)
    spectral_norm(drawing.block2.c1)
    lively(drawing)
    report = convert(checkpoint(drawing, tmp_path / "netG.pth"), tmp_path / "model")
    assert_draws_the_same(load_model(tmp_path / "model"), drawing)
    assert any("Spectral norm of 2 of the generator's layers was carried out" in note for note in report.notes)


# ------------------------------------------------------------------------------------------------ discriminators


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"classes": 3},
        {"rotations": 4},
        {"spectral": False},
        {"own": True},
        {"widths": (2, 3, 4), "halves": (True, True, True)},
    ],
    ids=str,
)
def test_a_discriminator_judges_as_before(arguments: dict[str, Any], tmp_path: Path) -> None:
    classes = arguments.get("classes", 0)
    drawing, judging = lively(MimicryGenerator(widths=(4, 4, 4, 4), classes=classes)), judge(**arguments)
    both = {**prefixed(drawing.state_dict(), "netG."), **prefixed(judging.state_dict(), "netD.")}
    report = convert(save(both, tmp_path / "both.pt"), tmp_path / "model")
    assert [one.role for one in report.networks] == ["generator", "discriminator"]
    model = load_model(tmp_path / "model")
    assert_draws_the_same(model, drawing, classes)
    assert_judges_the_same(model, judging, classes)
    options = model.config.recipe.discriminator.options
    assert options["norm"] == ("none" if arguments.get("spectral") is False else "spectral")
    assert any("rotations" in note for note in report.notes) is bool(arguments.get("rotations"))


@pytest.mark.parametrize(("side", "halves"), [(6, (True,) * 4 + (False,)), (8, (True,) * 5)])
def test_a_block_that_changes_its_width_halves_where_the_generators_size_allows(
    side: int, halves: tuple[bool, ...], tmp_path: Path
) -> None:
    drawing = lively(MimicryGenerator(widths=(4, 4, 3, 3), side=side))
    judging = lively(MimicryDiscriminator(widths=(2, 3, 4, 5, 6), halves=halves, spectral=False))
    convert(
        checkpoint(drawing, tmp_path / "netG.pth"),
        tmp_path / "model",
        discriminator=checkpoint(judging, tmp_path / "netD.pth"),
    )
    model = load_model(tmp_path / "model")
    assert model.config.recipe.discriminator.options["downsample"] == halves
    assert_judges_the_same(model, judging)


# ------------------------------------------------------------------------------------------------ refusals


def test_self_attention_is_refused_in_words(tmp_path: Path) -> None:
    drawing = MimicryGenerator()
    drawing.attn_block = nn.Conv2d(4, 4, 1)
    with pytest.raises(WeightsError, match=r"attn_block\.weight is self-attention, which ganzoo's residual family"):
        convert(checkpoint(drawing, tmp_path / "netG.pth"), tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("block2.c1.weight", (3, 4, 5, 5), "should have a kernel of 3×3"),
        ("block2.c2.weight", (3, 2, 3, 3), "block2.c2 expects 2 channels and is given 3"),
        ("block2.c_sc.weight", (2, 4, 1, 1), "has a bias of shape"),
        ("block3.c2.bias", None, "block3.c2 has no bias"),
        ("block3.c_sc.weight", (2, 5, 1, 1), "block3.c_sc expects 5 channels and is given 3"),
        ("b4.weight", (7,), "b4 is no batch norm that is known"),
        ("c4.weight", (2, 2, 3, 3), "has a bias of shape"),
        ("l1.weight", (65, 5), "has a bias of shape"),
        ("extra.weight", (2, 2), "extra belongs to no net of blocks that is known"),
    ],
)
def test_what_the_family_cannot_express_is_said(name: str, shape: tuple[int, ...] | None, reason: str) -> None:
    state = tensors(MimicryGenerator())
    key = tuple(name.split("."))
    if shape is None:
        del state[key]
    else:
        state[key] = torch.zeros(shape)
    assert is_residual(state)
    with pytest.raises(NotRecognised) as error:
        read_residual(state)
    assert reason in str(error.value)


@pytest.mark.parametrize("missing", ["block2", "block3", "b4", "c4", "l1"])
def test_a_missing_module_is_named(missing: str) -> None:
    state = {name: tensor for name, tensor in tensors(MimicryGenerator()).items() if name[0] != missing}
    with pytest.raises(NotRecognised, match=r"it has no|its blocks have the numbers|expects|belongs to no"):
        read_residual(state)


def test_a_discriminator_of_another_size_or_without_the_classes_is_left_out(tmp_path: Path) -> None:
    drawing, judging = lively(MimicryGenerator(classes=2)), judge()
    report = convert(
        checkpoint(drawing, tmp_path / "netG.pth"),
        tmp_path / "model",
        discriminator=checkpoint(judging, tmp_path / "netD.pth"),
    )
    assert [one.role for one in report.networks] == ["generator"]
    assert any(note.startswith("Left out: the discriminator") for note in report.notes)


def test_weights_with_ganzoos_own_names_are_known_by_the_one_recipe_that_they_fit(tmp_path: Path) -> None:
    recipe = load_recipe("sngan-resnet-cifar10")
    drawing = lively(build_generator(recipe))
    report = convert(save({"G": drawing.state_dict()}, tmp_path / "own.pt"), tmp_path / "G.safetensors")
    assert (report.recipe, report.networks[0].prefix) == ("sngan-resnet-cifar10", "")
    written = read_tensors(tmp_path / "G.safetensors")[0]
    assert all(torch.equal(written[name], tensor) for name, tensor in drawing.state_dict().items())
