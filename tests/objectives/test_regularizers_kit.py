"""The test kit for regularizers: everything registered keeps its contract; each promise, broken once, is named.

And what recipes ask of regularizers is refused, with the reason, where it cannot be.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar

import pytest
import torch
from pydantic import Field
from tiny_runs import recipe
from torch import Tensor, nn
from torch.nn.functional import relu

from ganzoo import registry
from ganzoo.errors import PluginError, RecipeError
from ganzoo.objectives.regularizers.contract import DiscriminatorView, GeneratorView, Regularizer, Surroundings
from ganzoo.testing import REGULARIZER_PROMISES, SURROUNDINGS, check_regularizer

UNLABELLED = replace(SURROUNDINGS, labelled=False)
WIDE = replace(
    SURROUNDINGS, features={"pooled": (7,)}, image_shape=(1, 9, 7), num_classes=0, labelled=False, prior="uniform"
)
CASES: list[tuple[str, dict[str, Any], Surroundings]] = [
    ("auxiliary_classifier", {}, SURROUNDINGS),
    ("consistency", {}, SURROUNDINGS),
    ("consistency", {"fake_weight": 0.0, "shift": 0}, WIDE),
    ("infogan", {}, UNLABELLED),
    ("infogan", {"continuous": 2, "hidden": 0}, SURROUNDINGS),
    ("infogan", {"continuous": 5, "variance": "learned"}, WIDE),
    ("latent_consistency", {}, WIDE),
    ("latent_consistency", {"generator_weight": 0.0}, SURROUNDINGS),
    ("lecam", {"begin_kimg": 10.0}, SURROUNDINGS),
    ("top_k", {}, SURROUNDINGS),
    ("weight_clipping", {}, WIDE),
]
LISTED = {name for name, _, _ in CASES}


@pytest.mark.parametrize(
    ("name", "options", "surroundings"),
    [pytest.param(*case, id=f"{case[0]}-{case[1]}") for case in CASES]
    + [
        pytest.param(entry.name, {}, SURROUNDINGS, id=entry.name)
        for entry in registry.regularizers.entries()
        if entry.origin == "ganzoo" and entry.name not in LISTED
    ],
)
def test_every_registered_regularizer_keeps_its_promises(
    name: str, options: dict[str, Any], surroundings: Surroundings
) -> None:
    check_regularizer(registry.regularizers.get(name), options=options, surroundings=surroundings)


def test_names_in_statistics_are_the_registered_ones() -> None:
    for name in registry.regularizers.names():
        assert registry.regularizers.get(name)().name == name


def test_the_kit_leaves_torchs_random_state_as_it_was() -> None:
    before = torch.random.get_rng_state()
    check_regularizer(registry.regularizers.get("auxiliary_classifier"))
    assert torch.equal(before, torch.random.get_rng_state())


# ------------------------------------------------------------------ a good plug-in, and what breaks each promise


class Centred(Regularizer):
    """The square of the mean logit's distance from its own moving average, with a learnt offset."""

    def __init__(self, *, decay: Annotated[float, Field(ge=0, lt=1)] = 0.9) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("average", torch.zeros(()))
        self.offset = nn.Parameter(torch.zeros(()))

    def prepare(self, surroundings: Surroundings) -> None:
        nn.init.normal_(self.offset)

    def follow(self, value: Tensor) -> None:
        self.average.lerp_(value.to(self.average), 1.0 - self.decay)

    def discriminator_loss(self, view: DiscriminatorView) -> Tensor | None:
        self.follow(view.mean(view.fake_logits.detach().mean()))
        return (view.fake_logits.mean() - self.average.clone() + self.offset).square()

    def generator_loss(self, view: GeneratorView) -> Tensor | None:
        return (view.fake_logits.mean() - self.average + self.offset).square()


def test_a_good_plugin_is_let_through() -> None:
    check_regularizer(Centred, options={"decay": 0.5})


class WithKeywords(Centred):
    def __init__(self, **anything: Any) -> None:
        super().__init__()


class NoModule:
    weighted = needs_features = needs_per_sample = bounds_slope = False
    name = "none"


class FlagIsText(Centred):
    needs_features: ClassVar[Any] = "yes"


class Refuses(Centred):
    def prepare(self, surroundings: Surroundings) -> None:
        raise ValueError("only for 64x64 images")


class OtherFirstNumbers(Centred):
    made = 0.0

    def prepare(self, surroundings: Surroundings) -> None:
        OtherFirstNumbers.made += 1.0
        nn.init.constant_(self.offset, OtherFirstNumbers.made)


class WeighsNothing(Regularizer):
    def keep(self, fake_logits: Tensor, kimg: float) -> Tensor | None:
        return torch.arange(2)


class Idle(Regularizer):
    weighted: ClassVar[bool] = False


class PerImage(Centred):
    def generator_loss(self, view: GeneratorView) -> Tensor | None:
        return relu(-view.fake_logits)


class Rough(Regularizer):
    needs_features: ClassVar[bool] = True

    def generator_loss(self, view: GeneratorView) -> Tensor | None:
        return view.fake_features["layers.1"].mean()


class NotFinite(Centred):
    def generator_loss(self, view: GeneratorView) -> Tensor | None:
        return (view.fake_logits * 0.0).log().mean()


class Detached(Centred):
    def generator_loss(self, view: GeneratorView) -> Tensor | None:
        return view.fake_logits.detach().square().mean()


class Orphan(Centred):
    def discriminator_loss(self, view: DiscriminatorView) -> Tensor | None:
        return view.fake_logits.square().mean()


class RootOfZero(Centred):
    def generator_loss(self, view: GeneratorView) -> Tensor | None:
        return (view.fake - view.fake.detach()).square().sum().sqrt()


class Clamps(Centred):
    def discriminator_loss(self, view: DiscriminatorView) -> Tensor | None:
        view.real.clamp_(-0.5, 0.5)
        return super().discriminator_loss(view)


class CallsBackward(Centred):
    def discriminator_loss(self, view: DiscriminatorView) -> Tensor | None:
        loss = super().discriminator_loss(view)
        assert loss is not None
        loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        return loss


class TorchsDice(Centred):
    def generator_loss(self, view: GeneratorView) -> Tensor | None:
        return (view.fake_logits.mean() * torch.rand(())).square()


class SortsInPlace(Centred):
    def keep(self, fake_logits: Tensor, kimg: float) -> Tensor | None:
        fake_logits.zero_()
        return None


class CountsOutside(Centred):
    calls = 0

    def generator_loss(self, view: GeneratorView) -> Tensor | None:
        CountsOutside.calls += 1
        return view.fake_logits.mean() * CountsOutside.calls


class ForgetsToSave(Centred):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def generator_loss(self, view: GeneratorView) -> Tensor | None:
        self.calls += 1
        return view.fake_logits.mean() * self.calls


class OwnShareOnly(Centred):
    def discriminator_loss(self, view: DiscriminatorView) -> Tensor | None:
        self.follow(view.fake_logits.detach().mean())
        return (view.fake_logits.mean() - self.average.clone() + self.offset).square()


class MeanWithGraph(Centred):
    def discriminator_loss(self, view: DiscriminatorView) -> Tensor | None:
        self.follow(view.mean(view.fake_logits.mean()).detach())
        return (view.fake_logits.mean() + self.offset).square()


class KeepsMask(Centred):
    def keep(self, fake_logits: Tensor, kimg: float) -> Tensor | None:
        return fake_logits > 0


class KeepsTwice(Centred):
    def keep(self, fake_logits: Tensor, kimg: float) -> Tensor | None:
        return torch.tensor([1, 1])


class Replaces(Centred):
    def after_discriminator(self, discriminator: nn.Module) -> None:
        for module in discriminator.modules():
            if isinstance(module, nn.Linear):
                module.weight = nn.Parameter(module.weight.clamp(-0.01, 0.01))


class DividesByZero(Centred):
    def after_discriminator(self, discriminator: nn.Module) -> None:
        for one in discriminator.parameters():
            one.div_(0.0)


BROKEN: list[tuple[type[Any], str, str]] = [
    (WithKeywords, "constructor", "anything"),
    (NoModule, "constructor", "it is a NoModule, no module"),
    (FlagIsText, "constructor", "needs_features is 'yes'"),
    (Refuses, "preparation", "it cannot be prepared: only for 64x64 images"),
    (OtherFirstNumbers, "preparation", "offset has other first numbers"),
    (WeighsNothing, "effect", "weighted is True, but it adds to neither loss"),
    (Idle, "effect", "it does nothing"),
    (PerImage, "output", r"generator_loss has the shape \(6,\)"),
    (Rough, "output", "generator_loss is torch.bfloat16"),
    (NotFinite, "output", "generator_loss is (nan|-inf)"),
    (Detached, "gradients", "no gradient of generator_loss reaches the generator"),
    (Orphan, "gradients", "no gradient with respect to its own 'offset'"),
    (RootOfZero, "gradients", "generator_loss with respect to .* is not finite"),
    (Clamps, "purity", "discriminator_loss changes real"),
    (CallsBackward, "purity", "discriminator_loss calls backward"),
    (TorchsDice, "purity", "draws from torch's own generator"),
    (SortsInPlace, "purity", "keep changes the logits"),
    (CountsOutside, "repeatable", "at step 0 of the same training it gives"),
    (ForgetsToSave, "state", "after a checkpoint it gives"),
    (OwnShareOnly, "processes", "the buffer 'average' is"),
    (MeanWithGraph, "effect", "mean of a tensor with a graph"),
    (KeepsMask, "keep", "keep gives torch.bool"),
    (KeepsTwice, "keep", r"of 6 images keep chooses \[1, 1\]"),
    (Replaces, "after_discriminator", "replaces the parameter 'layers|replaces the parameter 'output"),
    (DividesByZero, "after_discriminator", "not finite"),
]


@pytest.mark.parametrize(("broken", "promise", "seen"), [pytest.param(*case, id=case[0].__name__) for case in BROKEN])
def test_a_broken_promise_is_named(broken: type[Any], promise: str, seen: str) -> None:
    with pytest.raises(
        PluginError, match=f"The regularizer {broken.__name__} breaks the promise '{promise}': .*{seen}"
    ):
        check_regularizer(broken)


def test_every_promise_is_broken_once() -> None:
    assert {promise for _, promise, _ in BROKEN} == set(REGULARIZER_PROMISES)


# ------------------------------------------------------------------ recipes


@pytest.mark.parametrize(
    ("regularizer", "changes", "message"),
    [
        ({"name": "lecam"}, {}, r"regularizer\.0 \('lecam'\) needs a weight"),
        ({"name": "top_k", "weight": 1.0}, {}, "adds nothing to a loss"),
        ({"name": "lecam", "weight": 1.0, "decay": 1.5}, {}, "decay"),
        ({"name": "consistency", "weight": 1.0, "shift": 8}, {}, r"regularizer\.0: shift \(=8\) must be less than"),
        ({"name": "auxiliary_classifier", "weight": 1.0}, {}, "needs labelled images"),
        ({"name": "infogan", "weight": 1.0}, {}, "there is no code"),
        ({"name": "infogan", "weight": 1.0, "continuous": 5}, {}, "cannot exceed generator.latent_dim"),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) and "name" in value else "",
)
def test_recipes_that_ask_for_what_cannot_be_are_refused(
    regularizer: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(regularizer=[regularizer], **changes)


def test_weight_clipping_is_bound_enough_for_a_critic() -> None:
    with pytest.raises(RecipeError, match="no minimum"):
        recipe(objective={"name": "wasserstein"})
    assert recipe(objective={"name": "wasserstein"}, regularizer=[{"name": "weight_clipping"}]).regularizer
