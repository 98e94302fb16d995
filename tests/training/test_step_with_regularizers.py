"""Every regularizer in the step: the gradients that the optimisers see, against formulas written here; exact resume.

The account below is in float64 and shares with ganzoo only the networks' forward passes and the random numbers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from tiny_runs import BATCH, assert_same, images, labelled, quick, recipe, rows, states, table, train, weights
from torch import Tensor, nn

from ganzoo import registry
from ganzoo.building import build_discriminator, build_generator
from ganzoo.data import Pack
from ganzoo.devices import Precision
from ganzoo.randomness import Draws, Stream, draw_normal, draw_uniform
from ganzoo.recipes import Recipe
from ganzoo.training.feeder import Batch, Feeder
from ganzoo.training.networks import build_step
from ganzoo.training.step import Step

CPU = torch.device("cpu")
WEIGHT = 0.7
PLAIN = {
    "generator__norm": "none",
    "generator__bias": True,
    "discriminator__norm": "none",
    "discriminator__bias": True,
}
CLASSES = 3

Gradients = list[Tensor]


class Networks:
    """Copies of a step's networks as they were before an update, the heads' parameters among the discriminator's."""

    def __init__(self, step: Step) -> None:
        self.generator, self.discriminator = copy.deepcopy(step.generator), copy.deepcopy(step.discriminator)
        self.heads = {name: one.detach().clone().requires_grad_() for name, one in step.regularizers.named_parameters()}
        self.told = step.recipe.data.labelled

    def generate(self, z: Tensor, label: Tensor | None) -> Tensor:
        fake: Tensor = self.generator(z) if label is None else self.generator(z, label)
        return fake

    def judge(self, image: Tensor, label: Tensor | None) -> Tensor:
        logits: Tensor = self.discriminator(image, label) if self.told else self.discriminator(image)
        return logits

    def last(self, image: Tensor, label: Tensor | None) -> Tensor:
        features = self.discriminator.features(image, label) if self.told else self.discriminator.features(image)
        return features["layers.1"].flatten(1)  # type: ignore[no-any-return]

    def of_discriminator(self) -> list[Tensor]:
        return [*self.discriminator.parameters(), *self.heads.values()]

    def of_generator(self) -> list[Tensor]:
        return list(self.generator.parameters())


class Nothing:
    """What a regularizer adds and does, by the formulas; this one nothing.

    Args:
        networks: as they were before the update.
        number: of the step.
    """

    def discriminator_term(self, networks: Networks, batch: Batch, number: int) -> Tensor:
        return torch.zeros((), dtype=torch.float64)

    def generator_term(self, networks: Networks, batch: Batch, number: int) -> Tensor:
        return torch.zeros((), dtype=torch.float64)

    def kept(self, fake_logits: Tensor, number: int) -> list[int]:
        return list(range(len(fake_logits)))

    def clipped(self, parameter: Tensor) -> Tensor:
        return parameter


def binary_cross_entropy(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy(torch.sigmoid(logits), torch.full_like(logits, target))


class LeCam(Nothing):
    def __init__(self) -> None:
        self.anchors: Any = None

    def discriminator_term(self, networks: Networks, batch: Batch, number: int) -> Tensor:
        assert batch.real is not None
        real = networks.judge(batch.real, batch.label)
        fake = networks.judge(networks.generate(batch.z, batch.label).detach(), batch.label)
        means = np.array([real.detach().numpy().mean(), fake.detach().numpy().mean()])
        self.anchors = means if number == 0 else 0.8 * self.anchors + 0.2 * means
        above = (real - self.anchors[1]).clamp(min=0) ** 2
        below = (self.anchors[0] - fake).clamp(min=0) ** 2
        return above.mean() + below.mean()


def changed(image: Tensor, numbers: Any, shift: int) -> Tensor:
    out = []
    for one, (turned, down, across) in zip(image, numbers, strict=True):
        whole = one.flip(2) if turned < 0.5 else one
        padded = F.pad(whole[None], (shift,) * 4, mode="reflect")[0]
        top, left = int(down * (2 * shift + 1)), int(across * (2 * shift + 1))
        out.append(padded[:, top : top + image.shape[2], left : left + image.shape[3]])
    return torch.stack(out)


class Consistency(Nothing):
    def discriminator_term(self, networks: Networks, batch: Batch, number: int) -> Tensor:
        assert batch.real is not None
        fake = networks.generate(batch.z, batch.label).detach()
        total = torch.zeros((), dtype=torch.float64)
        for weight, image, stream, draws in (
            (3.0, batch.real, Stream.CONSISTENCY_REAL, batch.reals),
            (2.0, fake, Stream.CONSISTENCY_FAKE, batch.latents),
        ):
            other = changed(image, draw_uniform(0, stream, draws.numbers, 3), 2)
            difference = networks.judge(image, batch.label) - networks.judge(other, batch.label)
            total = total + weight * difference.square().sum() / BATCH
        return total


class LatentConsistency(Nothing):
    def near(self, batch: Batch) -> Tensor:
        return batch.z + 0.1 * torch.from_numpy(draw_normal(0, Stream.CONSISTENCY_LATENT, batch.latents.numbers, 4))

    def discriminator_term(self, networks: Networks, batch: Batch, number: int) -> Tensor:
        fake, near = (networks.generate(z, batch.label).detach() for z in (batch.z, self.near(batch)))
        difference = networks.judge(fake, batch.label) - networks.judge(near, batch.label)
        return 5.0 * difference.square().sum() / BATCH

    def generator_term(self, networks: Networks, batch: Batch, number: int) -> Tensor:
        fake, near = (networks.generate(z, batch.label) for z in (batch.z, self.near(batch)))
        return -0.5 * (fake - near).square().sum() / fake.numel()


def minus_log_share(logits: Tensor, label: Tensor) -> Tensor:
    shares = torch.exp(logits) / torch.exp(logits).sum(dim=1, keepdim=True)
    return torch.stack([-torch.log(share[int(index)]) for share, index in zip(shares, label, strict=True)]).mean()


class AuxiliaryClassifier(Nothing):
    def of(self, networks: Networks, image: Tensor, label: Tensor) -> Tensor:
        weight, bias = networks.heads.values()
        return minus_log_share(networks.last(image, label) @ weight.T + bias, label)

    def discriminator_term(self, networks: Networks, batch: Batch, number: int) -> Tensor:
        assert batch.real is not None
        assert batch.label is not None
        fake = networks.generate(batch.z, batch.label).detach()
        return self.of(networks, batch.real, batch.label) + self.of(networks, fake, batch.label)

    def generator_term(self, networks: Networks, batch: Batch, number: int) -> Tensor:
        assert batch.label is not None
        return self.of(networks, networks.generate(batch.z, batch.label), batch.label)


class InfoGAN(Nothing):
    def of(self, networks: Networks, fake: Tensor, batch: Batch) -> Tensor:
        assert batch.label is not None
        first, first_bias, second, second_bias = networks.heads.values()
        hidden = networks.last(fake, None) @ first.T + first_bias
        out = torch.maximum(hidden, 0.1 * hidden) @ second.T + second_bias
        mean, deviation = out[:, CLASSES : CLASSES + 2], 0.01 + torch.log1p(torch.exp(out[:, CLASSES + 2 :]))
        density = torch.exp(-((batch.z[:, -2:] - mean) ** 2) / (2 * deviation**2)) / (
            deviation * math.sqrt(2 * math.pi)
        )
        of_class = minus_log_share(out[:, :CLASSES], batch.label)
        return 2.0 * of_class - 0.3 * density.log().sum(dim=1).mean()

    def discriminator_term(self, networks: Networks, batch: Batch, number: int) -> Tensor:
        return self.of(networks, networks.generate(batch.z, batch.label).detach(), batch)

    def generator_term(self, networks: Networks, batch: Batch, number: int) -> Tensor:
        return self.of(networks, networks.generate(batch.z, batch.label), batch)


class TopK(Nothing):
    def kept(self, fake_logits: Tensor, number: int) -> list[int]:
        # A step draws 0.004 kimg; the share falls by a half every 0.008.
        count = math.ceil(max(0.5, 0.5 ** (number / 2)) * len(fake_logits))
        return sorted(sorted(range(len(fake_logits)), key=lambda index: -fake_logits.tolist()[index])[:count])


class WeightClipping(Nothing):
    def clipped(self, parameter: Tensor) -> Tensor:
        return torch.from_numpy(np.clip(parameter.numpy(), -0.2, 0.2))


RANDOM_CODE = {"data__num_classes": CLASSES, "data__labels": "random"}
TOLD_NOTHING = {"data__num_classes": CLASSES, "discriminator__conditioning": "none"}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], Callable[[], Nothing]]] = {
    "lecam": ({"weight": WEIGHT, "decay": 0.8}, {}, LeCam),
    "consistency": ({"weight": WEIGHT, "real_weight": 3.0, "fake_weight": 2.0, "shift": 2}, {}, Consistency),
    "latent_consistency": ({"weight": WEIGHT, "sigma": 0.1}, {"data__num_classes": CLASSES}, LatentConsistency),
    "auxiliary_classifier": ({"weight": WEIGHT}, TOLD_NOTHING, AuxiliaryClassifier),
    "infogan": (
        {
            "weight": WEIGHT,
            "continuous": 2,
            "class_weight": 2.0,
            "continuous_weight": 0.3,
            "variance": "learned",
            "hidden": 5,
        },
        RANDOM_CODE,
        InfoGAN,
    ),
    "top_k": ({"decay": 0.5, "decay_kimg": 0.008}, {}, TopK),
    "weight_clipping": ({"limit": 0.2}, {}, WeightClipping),
}


def regularized(name: str, **changes: Any) -> dict[str, Any]:
    options, needs, _ = CASES[name]
    return {**PLAIN, **needs, "regularizer": [{"name": name, **options}], **changes}


def test_all_registered_regularizers_are_tried() -> None:
    own = {entry.name for entry in registry.regularizers.entries() if entry.origin == "ganzoo"}
    assert set(CASES) == own


class Listening:
    """A world of one process that keeps the gradients that it is asked to average."""

    rank, size = 0, 1

    def __init__(self) -> None:
        self.gradients: Gradients = []

    def mean_(self, tensors: Gradients) -> None:
        self.gradients = [tensor.clone() for tensor in tensors]

    def mean(self, tensor: Tensor) -> Tensor:
        return tensor.detach()


def step_in_float64(settled: Recipe) -> tuple[Step, Listening]:
    world = Listening()
    return Step(settled, *lively_networks(settled), world=world), world  # type: ignore[arg-type]


def lively_networks(settled: Recipe) -> tuple[nn.Module, nn.Module]:
    """Return networks in float64 that are so small and yet say something."""
    torch.manual_seed(4)
    networks = build_generator(settled), build_discriminator(settled)
    for network in networks:
        network.double()
        with torch.no_grad():
            for parameter in network.parameters():  # signals keep their size in nets this small, and no bias is zero
                parameter.copy_(torch.randn_like(parameter) * parameter[0].numel() ** -0.5)
    return networks


def batch(number: int, classes: int) -> Batch:
    random = torch.Generator().manual_seed(number)
    numbers = np.arange(BATCH * number, BATCH * (number + 1))
    draws = Draws(0, numbers, CPU, torch.float64)
    label = torch.randint(classes, (BATCH,), generator=random) if classes else None
    real = torch.rand(BATCH, 1, 8, 8, generator=random, dtype=torch.float64) * 2 - 1
    return Batch(real, label, torch.randn(BATCH, 4, generator=random, dtype=torch.float64), draws, draws)


def assert_gradients(found: Gradients, loss: Tensor, parameters: list[Tensor]) -> None:
    expected = torch.autograd.grad(loss, parameters)
    assert len(found) == len(expected)
    assert max(float(one.abs().max()) for one in expected) > 1e-3
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_objective_and_weighted_term(name: str) -> None:
    settled = recipe(**regularized(name))
    step, world = step_in_float64(settled)
    account, weighted = CASES[name][2](), "weight" in CASES[name][0]
    for number in range(3):
        step._schedule(number)
        shown, drawn = (batch(2 * number + part, settled.data.num_classes) for part in range(2))
        assert shown.real is not None

        before = Networks(step)
        step._update_discriminator(number, shown)
        real = before.judge(shown.real, shown.label)
        fake = before.judge(before.generate(shown.z, shown.label).detach(), shown.label)
        loss = binary_cross_entropy(real, 1.0) + binary_cross_entropy(fake, 0.0)
        term = account.discriminator_term(before, shown, number)
        assert_gradients(world.gradients, loss + WEIGHT * term, before.of_discriminator())

        before = Networks(step)
        step._update_generator(drawn, None)
        logits = before.judge(before.generate(drawn.z, drawn.label), drawn.label)
        loss = binary_cross_entropy(logits[account.kept(logits, number)], 1.0)
        term = account.generator_term(before, drawn, number)
        assert_gradients(world.gradients, loss + WEIGHT * term, before.of_generator())
        told = step.statistics.read()
        adds = {key for key, value in told.items() if key.startswith("regularizer/") and value}
        assert bool(adds) == weighted


def test_top_k_keeps_fewer_as_training_goes_on() -> None:
    logits = torch.arange(4.0)
    assert [len(TopK().kept(logits, number)) for number in range(3)] == [4, 3, 2]


def test_after_its_update_the_discriminator_is_clipped_before_the_generator_sees_it() -> None:
    clipped, plain = (step_in_float64(recipe(**changes))[0] for changes in (regularized("weight_clipping"), PLAIN))
    for step in (clipped, plain):
        step._schedule(0)
        step._update_discriminator(0, batch(0, 0))
    account, outside = WeightClipping(), 0
    for one, other in zip(clipped.discriminator.parameters(), plain.discriminator.parameters(), strict=True):
        assert torch.equal(one, account.clipped(other.detach()))
        outside += int((one != other).sum())
    assert outside > 10


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "weight" in case[0]])
def test_under_autocast_terms_are_nearly_those_of_float32(name: str) -> None:
    settled = recipe(**regularized(name))
    told = []
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions:
        torch.manual_seed(4)
        step = Step(settled, *(network.float() for network in lively_networks(settled)), precision)
        shown, drawn = (_rounded(batch(part, settled.data.num_classes)) for part in range(2))
        step(0, [shown, drawn])
        told.append({key: value for key, value in step.statistics.read().items() if key.startswith("regularizer/")})
    assert told[1] == pytest.approx(told[0], rel=0.1, abs=1e-5)  # differences of near logits are all rounding
    assert told[1] != told[0]
    assert max(map(abs, told[0].values())) > 1e-4


def _rounded(one: Batch) -> Batch:
    """Return a batch in float32."""
    assert one.real is not None
    draws = [replace(part, dtype=torch.float32) for part in (one.reals, one.latents)]
    return Batch(one.real.float(), one.label, one.z.float(), *draws)


@pytest.mark.parametrize(
    ("objective", "of_discriminator", "of_generator"),
    [
        (
            {"name": "relativistic_average"},
            lambda r, f: binary_cross_entropy(r - f.mean(), 1.0) + binary_cross_entropy(f - r.mean(), 0.0),
            lambda r, f: binary_cross_entropy(f - r.mean(), 1.0) + binary_cross_entropy(r - f.mean(), 0.0),
        ),
        (
            {"name": "margin", "margin": 0.9},
            lambda r, f: binary_cross_entropy(r, 1.0) + (0.9 + torch.sigmoid(f).log()).clamp(min=0).mean(),
            lambda r, f: binary_cross_entropy(f, 1.0),
        ),
    ],
    ids=["relativistic_average", "margin"],
)
def test_gradients_of_the_newer_objectives(objective: dict[str, Any], of_discriminator: Any, of_generator: Any) -> None:
    step, world = step_in_float64(recipe(**PLAIN, objective=objective))
    shown, drawn = batch(0, 0), batch(1, 0)
    step._schedule(0)
    before = Networks(step)
    step._update_discriminator(0, shown)
    assert shown.real is not None
    assert drawn.real is not None
    real, fake = before.judge(shown.real, None), before.judge(before.generate(shown.z, None).detach(), None)
    assert_gradients(world.gradients, of_discriminator(real, fake), before.of_discriminator())
    before = Networks(step)
    step._update_generator(drawn, None)
    real, fake = before.judge(drawn.real, None).detach(), before.judge(before.generate(drawn.z, None), None)
    assert_gradients(world.gradients, of_generator(real, fake), before.of_generator())


# ---------------------------------------------------------------------------------------------------- exact resume


@pytest.mark.parametrize("name", CASES)
def test_an_interrupted_training_gives_the_same_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    changes = table(**regularized(name, train__checkpoint_every=1, discriminator__dropout=0.2))
    data = labelled() if name in ("auxiliary_classifier", "latent_consistency") else images()
    train(changes, tmp_path / "straight", data)
    for kimg in (0.008, 0.016, 0.024):
        train(changes, tmp_path / "parts", data, kimg=kimg)
    last = "checkpoints/step-00000006/state.safetensors"
    assert_same(weights(tmp_path / "straight"), weights(tmp_path / "parts"))
    assert states(tmp_path / "straight")[last] == states(tmp_path / "parts")[last]


ORDERS: dict[str, dict[str, Any]] = {
    "simultaneous": {"train__update": "simultaneous"},
    "alternate_minibatches": {"train__update": "alternate_minibatches", "objective__name": "relativistic"},
    "reuse_fakes": {"train__reuse_fakes": True, "train__discriminator_steps": 2},
    "accumulated": {
        "train__real_fake_batches": "joined",
        "train__accumulate": 2,
        "objective__name": "relativistic_average",
    },
}


@pytest.mark.parametrize("order", ORDERS)
def test_all_regularizers_work_together_in_every_order_of_updates(
    order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    together = [{"name": name, **CASES[name][0]} for name in CASES if name != "infogan"]
    together.append({"name": "infogan", "weight": 0.1, "continuous": 1, "hidden": 3})
    train(table(**PLAIN, **TOLD_NOTHING, **ORDERS[order], regularizer=together), tmp_path / "run", labelled())
    told = [row["statistics"] for row in rows(tmp_path / "run") if row["event"] == "tick"][-1]
    added = {
        key.removeprefix("regularizer/") for key, value in told.items() if key.startswith("regularizer/") and value
    }
    both = {"latent_consistency", "auxiliary_classifier", "infogan"}
    of_discriminator = {f"{name}/discriminator" for name in both | {"lecam", "consistency"}}
    assert added == of_discriminator | {f"{name}/generator" for name in both}
    assert all(math.isfinite(value) for value in told.values())


# ---------------------------------------------------------------------------------------------------- that they work


class Digits:
    """scikit-learn's digits, with as much of a pack as a feeder needs."""

    def __init__(self) -> None:
        digits = load_digits()
        self.pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
        self.labels = digits.target.astype(np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def to_tensor(self, device: torch.device) -> Tensor:
        return torch.from_numpy(self.pixels).to(device)


def trained_on_digits(steps: int, **changes: Any) -> tuple[Step, Tensor, Tensor, Tensor]:
    """Return a step after some training, and new fakes with their class and z."""
    settled = recipe(
        generator__widths=[24, 12],
        generator__latent_dim=6,
        discriminator__widths=[12, 24],
        discriminator__norm="none",
        discriminator__bias=True,
        data__num_classes=10,
        train__batch_size=32,
        optimizer__lr=4e-3,
        ema__half_life_kimg=0.0,
        **changes,
    )
    step = build_step(settled, CPU, "fp32")
    feeder = Feeder(settled, step.round, cast(Pack, Digits()), CPU, torch.float32, resident=True)
    for number, batches in enumerate(feeder.rounds(0, steps)):
        step(number, batches)
    step.generator.eval()
    step.discriminator.eval()
    z, label = torch.randn(500, 6, generator=torch.Generator().manual_seed(9)), torch.arange(500) % 10
    with torch.no_grad():
        return step, step.generator(z, label), label, z


def test_with_an_auxiliary_classifier_fakes_are_of_the_class_that_was_asked_for() -> None:
    classifier = [{"name": "auxiliary_classifier", "weight": 1.0}]
    step, fake, label, _ = trained_on_digits(100, discriminator__conditioning="none", regularizer=classifier)
    with torch.no_grad():
        guessed = step.regularizers[0].classify(step.discriminator.features(fake)["layers.1"]).argmax(dim=1)
    assert float((guessed == label).double().mean()) > 0.5  # chance: 0.1
    digits = Digits()  # and so says who never saw a fake
    expert = LogisticRegression(max_iter=300).fit(digits.pixels.reshape(len(digits), -1) / 127.5 - 1.0, digits.labels)
    assert expert.score(fake.flatten(1).numpy(), label.numpy()) > 0.5


def test_with_infogan_the_code_can_be_read_off_the_images() -> None:
    infogan = [{"name": "infogan", "weight": 1.0, "continuous": 1, "continuous_weight": 1.0}]
    step, fake, label, z = trained_on_digits(100, data__labels="random", regularizer=infogan)
    with torch.no_grad():
        logits, mean, _ = step.regularizers[0].guess(step.discriminator.features(fake)["layers.1"])
    assert float((logits.argmax(dim=1) == label).double().mean()) > 0.5  # chance: 0.1
    assert np.corrcoef(mean[:, 0].numpy(), z[:, -1].numpy())[0, 1] > 0.5
