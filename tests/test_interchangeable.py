"""Everything that is registered goes with everything else: generators with discriminators of the same images,
objectives and augmentations with all of them; and every generator can be saved, loaded, exported and drawn without
torch.

A family is tried by being registered: `TINY` must say how it is made small.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

import ganzoo
from ganzoo import registry
from ganzoo.data import Pack
from ganzoo.export import OnnxSampler, export_onnx
from ganzoo.models import load_model
from ganzoo.training.feeder import Feeder
from ganzoo.training.networks import build_step
from ganzoo.training.step import Step

SIZE, CLASSES, IMAGES, BATCH = 16, 3, 7, 4
CPU = torch.device("cpu")
Options = dict[str, Any]

TINY: dict[str, tuple[Options, Options]] = {
    "dcgan": (
        {"widths": [8, 6], "kernel_size": 3},
        {"widths": [6, 8], "kernel_size": 3, "norm": "none", "bias": True, "init": "he"},
    ),
    "resnet": (
        {"widths": [8, 6, 6]},
        {"widths": [6, 8], "downsample": [True, True], "norm": "none"},
    ),
    "r3gan": (
        {"widths": [8, 6], "cardinality": [4, 3], "blocks": 1},
        {"widths": [6, 8], "cardinality": [3, 4], "blocks": 1},
    ),
}
"""Family → options of its generator and its discriminator at 16×16."""


def ours(known: registry.Registry[Any]) -> list[str]:
    """Return the names of ganzoo's own entries."""
    return [entry.name for entry in known.entries() if entry.origin == "ganzoo"]


GENERATORS, DISCRIMINATORS = ours(registry.generators), ours(registry.discriminators)
PAIRS = list(itertools.product(GENERATORS, DISCRIMINATORS))
IMAGE_KINDS = [
    pytest.param(channels, classes, id=f"{channels}-{classes}") for channels in (1, 3) for classes in (0, CLASSES)
]


def tiny(name: str, kind: int) -> Options:
    """Return a family's `[generator]` (0) or `[discriminator]` (1)."""
    if name not in TINY:
        pytest.fail(f"{name!r} is registered, but TINY in {Path(__file__).name} does not say how to make it small")
    return {"name": name, **TINY[name][kind]}


def table(generator: str, discriminator: str, *, channels: int = 3, classes: int = 0, **sections: Any) -> Options:
    """Return a recipe of two families: relativistic with R1 and R2, unless sections say otherwise."""
    return {
        "schema_version": 1,
        "name": "tiny",
        "data": {"source": "made-up", "image_size": SIZE, "channels": channels, "num_classes": classes},
        "generator": {**tiny(generator, 0), "latent_dim": 5},
        "discriminator": tiny(discriminator, 1),
        "objective": {"name": "relativistic"},
        "penalty": [{"where": "real", "weight": 0.1}, {"where": "fake", "weight": 0.1}],
        "optimizer": {"lr": 1e-3},
        "train": {"batch_size": BATCH, "kimg": 1, "precision": "fp32"},
        **sections,
    }


class MadeUpPack:
    """Random pictures and labels, with as much of a pack as a feeder needs."""

    def __init__(self, channels: int, classes: int) -> None:
        random = np.random.default_rng(3)
        self.pixels = random.integers(0, 256, (IMAGES, SIZE, SIZE, channels), dtype=np.uint8)
        self.labels = np.arange(IMAGES, dtype=np.int64) % classes if classes else None

    def __len__(self) -> int:
        return IMAGES

    def to_tensor(self, device: torch.device) -> torch.Tensor:
        return torch.from_numpy(self.pixels).to(device)


def train_a_step(recipe: Options) -> Step:
    """Return the step of a recipe after one round from a start where no weight is zero, having checked that all
    parameters moved and stayed finite."""
    resolved = ganzoo.load_recipe(recipe)
    step = build_step(resolved, CPU, "fp32")
    networks: dict[str, nn.Module] = {
        "generator": step.generator,
        "discriminator": step.discriminator,
        "regularizers": step.regularizers,
    }
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for network in networks.values():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    before = {kind: [one.detach().clone() for one in network.parameters()] for kind, network in networks.items()}
    pack = cast(Pack, MadeUpPack(resolved.data.channels, resolved.data.num_classes))
    (batches,) = Feeder(resolved, step.round, pack, CPU, torch.float32, resident=True).rounds(0, 1)
    step(0, batches)
    assert step.first_bad() is None
    for kind, network in networks.items():
        for (name, after), start in zip(network.named_parameters(), before[kind], strict=True):
            assert after.isfinite().all(), f"{kind} {name}"
            if name == "output.bias" and kind == "discriminator" and step.objective.boundary is None:
                continue  # it adds the same to all logits, of which only differences matter
            assert not torch.equal(after, start), f"no gradient reaches {name} of the {kind}"
    return step


@pytest.mark.parametrize(("channels", "classes"), IMAGE_KINDS)
@pytest.mark.parametrize(("generator", "discriminator"), PAIRS, ids=lambda name: name)
def test_every_generator_trains_with_every_discriminator(
    generator: str, discriminator: str, channels: int, classes: int
) -> None:
    step = train_a_step(table(generator, discriminator, channels=channels, classes=classes))
    told = step.statistics.read()
    assert {"loss/generator", "loss/discriminator", "penalty/real_zero_centered"} <= told.keys()
    assert all(np.isfinite(value) for value in told.values())


@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
@pytest.mark.parametrize("objective", ours(registry.objectives))
def test_every_objective_trains_every_discriminator(objective: str, discriminator: str) -> None:
    penalty = [{"where": "line", "rule": "one_centered", "weight": 1.0}]  # some objectives need a bounded slope
    train_a_step(table(GENERATORS[0], discriminator, objective={"name": objective}, penalty=penalty))


@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
@pytest.mark.parametrize("augmentation", ours(registry.augmentations))
def test_every_augmentation_lets_gradients_through_to_every_network(augmentation: str, discriminator: str) -> None:
    section = {"name": augmentation, "probability": 0.7}
    train_a_step(table(GENERATORS[0], discriminator, augmentation=section))


REGULARIZERS: dict[str, Options] = {
    "auxiliary_classifier": {"data": {"num_classes": CLASSES}, "discriminator": {"conditioning": "none"}},
    "infogan": {"data": {"num_classes": CLASSES, "labels": "random"}},
    "top_k": {"weight": None},
    "weight_clipping": {"weight": None},
}
"""What a recipe says beside the regularizer's name, where that is not only a weight."""


@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
@pytest.mark.parametrize("regularizer", ours(registry.regularizers))
def test_every_regularizer_works_beside_every_discriminator(regularizer: str, discriminator: str) -> None:
    special = REGULARIZERS.get(regularizer, {})
    recipe = table(GENERATORS[0], discriminator, objective={"name": "non_saturating"})
    for section in ("data", "discriminator"):
        recipe[section] |= special.get(section, {})
    weight = special.get("weight", 0.5)
    recipe["regularizer"] = [{"name": regularizer} if weight is None else {"name": regularizer, "weight": weight}]
    train_a_step(recipe)


@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
def test_every_discriminator_can_do_without_the_labels_that_it_is_given(discriminator: str) -> None:
    recipe = table(GENERATORS[0], discriminator, classes=CLASSES)
    recipe["discriminator"]["conditioning"] = "none"
    step = train_a_step(recipe)
    image = torch.rand(CLASSES, 3, SIZE, SIZE)
    with torch.no_grad():
        one, other = (step.discriminator.eval()(image, torch.arange(CLASSES).roll(by)) for by in (0, 1))
    assert torch.equal(one, other)


@pytest.mark.parametrize(("channels", "classes"), IMAGE_KINDS)
@pytest.mark.parametrize(("generator", "discriminator"), PAIRS, ids=lambda name: name)
def test_every_pair_is_saved_and_loaded_strictly(
    generator: str, discriminator: str, channels: int, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganzoo.models.CARD_SEEDS", np.arange(2))
    model = ganzoo.create_model(table(generator, discriminator, channels=channels, classes=classes), seed=1)
    loaded = load_model(model.save(tmp_path / "model"))
    images = model.sample(5).as_subclass(torch.Tensor)
    assert images.shape == (5, channels, SIZE, SIZE)
    assert torch.equal(images, loaded.sample(5).as_subclass(torch.Tensor))
    judges = [model.discriminator, loaded.discriminator]
    label = torch.arange(5) % classes if classes else None
    with torch.no_grad():
        one, other = (judge(images, label) for judge in judges if judge is not None)
    assert torch.equal(one, other)


@pytest.mark.parametrize("generator", GENERATORS)
def test_every_generator_draws_the_same_in_onnx_runtime(generator: str, tmp_path: Path) -> None:
    model = ganzoo.create_model(table(generator, DISCRIMINATORS[0], classes=CLASSES), seed=2)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():  # as training leaves them: no block does nothing
        for parameter in model.generator.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    report = export_onnx(model, tmp_path / "model.onnx", timing=False)
    assert max(row.max_error for row in report.parity) <= 1e-5
    sampler, seeds = OnnxSampler(tmp_path / "model.onnx", provider="cpu"), np.arange(6)
    images = model.sample(seeds=seeds)
    assert images.std() > 0.01
    np.testing.assert_allclose(sampler.sample(seeds, images.labels), images.numpy(), atol=2e-5)
