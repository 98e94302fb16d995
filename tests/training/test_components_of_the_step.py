"""Augmentation, regularizers and random labels as the step uses them, with components made to be seen through."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tiny_runs import BATCH, assert_same, images, labelled, recipe, states, table, train, weights
from torch import Tensor, nn

from ganzoo import registry
from ganzoo.architectures.dcgan import DCGANDiscriminator
from ganzoo.augmentation.contract import Augmentation
from ganzoo.building import build_discriminator, build_generator
from ganzoo.errors import PluginError, RecipeError
from ganzoo.objectives.regularizers.contract import (
    DiscriminatorView,
    GeneratorView,
    Regularizer,
    Surroundings,
)
from ganzoo.randomness import Draws, Stream, draw_uniform
from ganzoo.training.feeder import Batch
from ganzoo.training.networks import build_step
from ganzoo.training.step import Step

CPU = torch.device("cpu")
PLAIN = {"discriminator__norm": "none", "discriminator__bias": True}


class Scaling(Augmentation):
    """Each image times 1 + probability · u."""

    seen: ClassVar[list[Tensor]] = []

    @property
    def numbers(self) -> int:
        return 1

    def __call__(self, image: Tensor, numbers: Tensor, probability: Tensor) -> Tensor:
        self.seen.append(numbers.flatten())
        return image * (1.0 + probability * numbers[:, :, None, None])


class Spy(Regularizer):
    """Keeps what it is shown; its head learns, its buffer counts."""

    needs_features = True
    views: ClassVar[list[DiscriminatorView | GeneratorView]] = []
    surroundings: ClassVar[list[Surroundings]] = []

    def __init__(self, *, size: float = 0.0, keeps: int = 0) -> None:
        super().__init__()
        self.size, self.keeps = size, keeps
        self.register_buffer("calls", torch.zeros(()))

    def prepare(self, surroundings: Surroundings) -> None:
        self.surroundings.append(surroundings)
        last = list(surroundings.features.values())[-1]
        self.head = nn.Linear(last[0], 1)

    def discriminator_loss(self, view: DiscriminatorView) -> Tensor:
        self.views.append(view)
        self.calls.add_(1)
        return self.size * self.head(list(view.fake_features.values())[-1].mean((2, 3))).mean()

    def generator_loss(self, view: GeneratorView) -> Tensor:
        self.views.append(view)
        return self.size * view.fake.square().mean()

    def keep(self, fake_logits: Tensor, kimg: float) -> Tensor | None:
        return fake_logits.topk(self.keeps).indices if self.keeps else None

    def after_discriminator(self, discriminator: nn.Module) -> None:
        discriminator.output.bias.fill_(0.125)


@pytest.fixture(autouse=True)
def _components(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.augmentations._registered, "scaling", Scaling)
    monkeypatch.setitem(registry.regularizers._registered, "spy", Spy)
    for kept in (Scaling.seen, Spy.views, Spy.surroundings):
        kept.clear()


def batch(classes: int = 0, first: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(first)
    numbers = np.arange(first, first + BATCH)
    draws = Draws(0, numbers, CPU, torch.float32)
    label = torch.arange(BATCH) % classes if classes else None
    real = torch.rand(BATCH, 1, 8, 8, generator=generator) * 2 - 1
    return Batch(real, label, torch.randn(BATCH, 4, generator=generator), draws, draws)


def step_of(**changes: Any) -> Step:
    return build_step(recipe(**changes), CPU, "fp32")


def drawn(stream: Stream, first: int = 0) -> npt.NDArray[np.float32]:
    return draw_uniform(0, stream, np.arange(first, first + BATCH), 1)[:, 0].astype(np.float32)


# ---------------------------------------------------------------------------------------------------- augmentation


def test_every_use_of_the_augmentation_has_numbers_of_its_own() -> None:
    changes = {**PLAIN, "objective__name": "relativistic", "augmentation__name": "scaling"}
    changes["penalty"] = [{"where": "line", "rule": "one_centered", "weight": 1.0}]
    step_of(**changes)(0, [batch(), batch(first=BATCH)])
    streams = (
        (Stream.AUGMENTATION_REAL, 0),
        (Stream.AUGMENTATION_FAKE, 0),
        (Stream.AUGMENTATION_PENALTY, 0),
        (Stream.AUGMENTATION_GENERATOR, BATCH),
        (Stream.AUGMENTATION_GENERATOR_REAL, BATCH),
    )
    assert len(Scaling.seen) == len(streams)
    for seen, (stream, first) in zip(Scaling.seen, streams, strict=True):
        assert seen.tolist() == drawn(stream, first).tolist()


def test_a_penalty_is_taken_before_the_augmentation() -> None:
    """With D(x) = <w, x> and T(x) = s · x, the gradient of D(T(x)) with respect to x is s · w."""
    changes = {**PLAIN, "discriminator__widths": [1], "discriminator__activation": "leaky_relu_.999999"}
    changes |= {"augmentation__name": "scaling", "penalty": [{"where": "real", "weight": 0.0}]}
    step = step_of(**changes)
    with torch.no_grad():
        image = torch.zeros(1, 1, 8, 8).requires_grad_()
    (slope,) = torch.autograd.grad(step.discriminator(image).sum(), image)
    scales = 1.0 + drawn(Stream.AUGMENTATION_REAL)
    step(0, [batch(), batch()])
    expected = float(slope.square().sum()) * float(np.square(scales).mean())
    assert step.statistics.read()["penalty/real_zero_centered"] == pytest.approx(expected, rel=1e-4)


def test_a_probability_of_zero_trains_as_no_augmentation_does() -> None:
    one = step_of(**PLAIN)
    other = step_of(**PLAIN, augmentation__name="scaling", augmentation__probability=0.0)
    for step in (one, other):
        step(0, [batch(), batch()])
    pairs = zip(one.generator.parameters(), other.generator.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_joined_batches_are_augmented_like_separate_ones() -> None:
    step_of(**PLAIN, augmentation__name="scaling", train__real_fake_batches="joined")(0, [batch(), batch()])
    assert Scaling.seen[0].tolist() == drawn(Stream.AUGMENTATION_REAL).tolist()
    assert Scaling.seen[1].tolist() == drawn(Stream.AUGMENTATION_FAKE).tolist()


def test_an_adaptive_probability_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    changes = table(
        **PLAIN,
        augmentation={"name": "scaling", "probability": {"target": -0.5, "kimg": 0.1, "every": 3}},
        train__checkpoint_every=1,
    )
    train(changes, tmp_path / "straight")
    train(changes, tmp_path / "halves", kimg=0.016)
    train(changes, tmp_path / "halves", kimg=0.024)
    last = "checkpoints/step-00000006/state.safetensors"
    assert_same(weights(tmp_path / "straight"), weights(tmp_path / "halves"))
    assert states(tmp_path / "straight")[last] == states(tmp_path / "halves")[last]


def test_an_adaptive_probability_with_a_relativistic_objective_is_refused() -> None:
    adaptive = {"name": "scaling", "probability": {"target": 0.6}}
    with pytest.raises(RecipeError, match="only differences of logits"):
        recipe(**PLAIN, objective__name="relativistic", augmentation=adaptive)


def test_a_probability_above_one_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"augmentation\.probability"):
        recipe(augmentation={"name": "scaling", "probability": 1.5})


# ---------------------------------------------------------------------------------------------------- regularizers

SPY = {"regularizer": [{"name": "spy", "weight": 2.0, "size": 0.5}]}


def test_a_regularizer_sees_the_features_of_the_pass_that_gave_the_logits() -> None:
    step = step_of(**PLAIN, **SPY)
    step.optimizers["discriminator"].param_groups[0]["lr"].fill_(0.0)
    given = batch()
    step._schedule = lambda number: None  # type: ignore[method-assign, assignment]  # the rates stay as they are
    step(0, [given, batch(first=BATCH)])
    view = Spy.views[0]
    assert isinstance(view, DiscriminatorView)
    assert given.real is not None
    expected = step.discriminator.features(given.real)
    assert list(view.real_features) == list(expected)
    for name, values in expected.items():
        assert torch.equal(view.real_features[name], values)
    assert Spy.surroundings[0].features == {name: tuple(values.shape[1:]) for name, values in expected.items()}
    assert [tuple(view.fake.shape), view.fake.requires_grad] == [(BATCH, 1, 8, 8), False]


def test_a_head_learns_in_the_discriminators_update_only() -> None:
    step = step_of(**PLAIN, **SPY)
    before = step.regularizers[0].head.weight.detach().clone()
    step._update_generator(batch(), None)
    assert torch.equal(step.regularizers[0].head.weight, before)
    step._update_discriminator(0, batch())
    assert not torch.equal(step.regularizers[0].head.weight, before)


def generator_gradient(step: Step) -> Tensor:
    gradients: list[Tensor] = []
    step.world = _Listening(gradients)  # type: ignore[assignment]
    step._schedule(0)
    step._update_generator(batch(), None)
    return torch.cat([gradient.flatten() for gradient in gradients])


def test_terms_are_weighted_and_told_of() -> None:
    plain = generator_gradient(step_of(**PLAIN))
    once, twice = (
        step_of(**PLAIN, regularizer=[{"name": "spy", "weight": weight, "size": 0.5}]) for weight in (4.0, 8.0)
    )
    term = generator_gradient(once) - plain
    assert float(term.abs().max()) > 1e-3
    assert torch.allclose(generator_gradient(twice) - plain, 2.0 * term, rtol=1e-3, atol=1e-6)
    told = once.statistics.read()["regularizer/spy/generator"]
    assert told == pytest.approx(0.5 * float(Spy.views[0].fake.detach().square().mean()))


class _Listening:
    """A world of one process that keeps the gradients that it is asked to average."""

    def __init__(self, gradients: list[Tensor]) -> None:
        self._gradients = gradients

    def mean_(self, tensors: list[Tensor]) -> None:
        self._gradients += [tensor.clone() for tensor in tensors]

    def mean(self, tensor: Tensor) -> Tensor:
        return tensor.detach()


def test_only_what_is_kept_enters_the_objective_and_pairs_stay_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    step = step_of(**PLAIN, objective__name="relativistic", regularizer=[{"name": "spy", "weight": 1.0, "keeps": 2}])
    seen: list[tuple[Tensor, Tensor]] = []
    loss_of = step.objective.generator_loss

    def remember(fake: Tensor, real: Tensor | None = None) -> Tensor:
        assert real is not None
        seen.append((fake.detach(), real.detach()))
        return loss_of(fake, real)

    monkeypatch.setattr(step.objective, "generator_loss", remember)
    given = batch()
    step._update_generator(given, None)
    all_fake = Spy.views[0].fake_logits.detach()
    chosen = all_fake.topk(2).indices
    assert given.real is not None
    all_real = step.discriminator(given.real).detach()
    assert torch.equal(seen[0][0], all_fake[chosen])
    assert torch.allclose(seen[0][1], all_real[chosen])


def test_the_discriminator_is_changed_after_its_own_update() -> None:
    step = step_of(**PLAIN, **SPY)
    step._update_generator(batch(), None)
    assert float(step.discriminator.output.bias.detach()) == 0.0
    step._update_discriminator(0, batch())
    assert float(step.discriminator.output.bias.detach()) == 0.125


@pytest.mark.parametrize("update", ["sequential", "simultaneous"])
def test_buffers_and_heads_go_on_from_a_checkpoint(update: str, tmp_path: Path) -> None:
    changes = table(**PLAIN, **SPY, train__update=update, train__checkpoint_every=1)
    train(changes, tmp_path / "straight")
    train(changes, tmp_path / "halves", kimg=0.012)
    train(changes, tmp_path / "halves", kimg=0.024)
    last = "checkpoints/step-00000006/state.safetensors"
    assert_same(weights(tmp_path / "straight"), weights(tmp_path / "halves"))
    assert states(tmp_path / "straight")[last] == states(tmp_path / "halves")[last]


def test_a_weight_is_asked_for_and_refused_where_it_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match="needs a weight"):
        recipe(regularizer=[{"name": "spy"}])
    monkeypatch.setattr(Spy, "weighted", False)
    with pytest.raises(RecipeError, match="adds nothing"):
        recipe(regularizer=[{"name": "spy", "weight": 1.0}])


CLASSES = {"data__num_classes": 3, "regularizer": [{"name": "auxiliary_classifier", "weight": 1.0}]}


def test_a_classifier_on_features_that_are_told_the_class_is_refused() -> None:
    with pytest.raises(RecipeError, match=r'told it.*conditioning = "none"'):
        recipe(**PLAIN, **CLASSES)
    recipe(**PLAIN, **CLASSES, discriminator__conditioning="none")
    recipe(**PLAIN, **CLASSES, discriminator__conditioning="projection")


def test_weight_clipping_bounds_a_critic_and_leaves_spectral_norm_alone() -> None:
    clipped = {"objective__name": "wasserstein", "regularizer": [{"name": "weight_clipping"}]}
    recipe(**PLAIN, **clipped)
    with pytest.raises(RecipeError, match="nothing bounds"):
        recipe(**PLAIN, objective__name="wasserstein")
    with pytest.raises(RecipeError, match="so does its spectral norm"):
        recipe(discriminator__norm="spectral", **clipped)


def test_what_needs_single_images_refuses_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Spy, "needs_per_sample", True)
    with pytest.raises(RecipeError, match=r"regularizer\.0 needs a discriminator that judges each image by itself"):
        recipe(**SPY)
    recipe(**PLAIN, **SPY)


def test_features_that_cannot_be_recorded_are_the_plug_ins_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Misnamed(DCGANDiscriminator):
        def features(self, image: Tensor, label: Tensor | None = None) -> dict[str, Tensor]:
            return {f"block {name}": values for name, values in super().features(image, label).items()}

    monkeypatch.setitem(registry.discriminators._registered, "misnamed", Misnamed)
    with pytest.raises(PluginError, match=r"block layers\.0"):
        recipe(discriminator__name="misnamed", **SPY)


# ---------------------------------------------------------------------------------------------------- random labels

RANDOM = {"data__num_classes": 3, "data__labels": "random"}


def test_random_labels_are_the_generators_alone() -> None:
    settled = recipe(**RANDOM)
    assert build_generator(settled).num_classes == 3
    assert build_discriminator(settled).num_classes == 0


def test_random_labels_train_on_images_without_labels_and_come_evenly(tmp_path: Path) -> None:
    Spy.views.clear()
    train(table(**PLAIN, **RANDOM, **SPY, train__kimg=0.2), tmp_path / "run", data=images())
    labels = torch.cat([view.fake_label for view in Spy.views if view.fake_label is not None])
    assert all(view.real_label is None for view in Spy.views if isinstance(view, DiscriminatorView))
    shares = torch.bincount(labels, minlength=3) / len(labels)
    assert float((shares - 1 / 3).abs().max()) < 0.08


def test_random_labels_do_not_look_at_the_datas(tmp_path: Path) -> None:
    pixels, _ = labelled()
    train(table(**PLAIN, **RANDOM), tmp_path / "one", data=pixels)
    train(table(**PLAIN, **RANDOM), tmp_path / "other", data=(pixels, np.arange(10, dtype=np.int64)))
    assert_same(weights(tmp_path / "one"), weights(tmp_path / "other"))


def test_random_labels_without_classes_are_refused() -> None:
    with pytest.raises(RecipeError, match="needs num_classes"):
        recipe(data__labels="random")
