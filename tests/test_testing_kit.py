"""The test kit: everything registered keeps its contract, and each promise, broken once, is caught and named."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, relu, softplus

import ganzoo.testing
from ganzoo import registry
from ganzoo.errors import PluginError
from ganzoo.objectives.contract import Objective, Penalty, PenaltyInputs, check_logits
from ganzoo.testing import (
    DISCRIMINATOR_PROMISES,
    GENERATOR_PROMISES,
    OBJECTIVE_PROMISES,
    PENALTY_PROMISES,
    check_discriminator,
    check_generator,
    check_objective,
    check_penalty,
)

# -------------------------------------------------------------------------------------------- what is registered

_SMALL: dict[str, dict[str, Any]] = {
    "dcgan": {"widths": [8, 6]},
    "resnet": {"widths": [8, 6, 6, 4]},
    "r3gan": {"widths": [8, 6], "cardinality": [4, 3], "blocks": [1, 2]},
}
_GENERATORS: list[tuple[str, dict[str, Any]]] = [
    ("dcgan", {}),
    ("dcgan", {"norm": "none", "activation": "leaky_relu_0.1", "strides": [1, 2]}),
    ("dcgan", {"norm": "spectral", "init": "he"}),
    ("dcgan", {"projection": "conv", "project_norm": "channel", "kernel_size": 4}),
    ("dcgan", {"hidden": [8], "bias": True, "norm_affine": False, "kernel_size": 3}),
    ("r3gan", {}),
    ("r3gan", {"widths": [8], "cardinality": 1, "blocks": 1, "expansion": 3, "kernel_size": 1}),
]
_DISCRIMINATORS: list[tuple[str, dict[str, Any]]] = [
    ("dcgan", {}),
    ("dcgan", {"norm": "none", "dropout": 0.3}),
    ("dcgan", {"norm": "spectral", "conditioning": "projection"}),
    ("dcgan", {"head": "conv", "conditioning": "projection", "kernel_size": 4}),
    ("dcgan", {"hidden": [8], "bias": True, "norm_affine": False}),
    ("dcgan", {"hidden": [8], "conditioning": "projection", "strides": [1, 2]}),
    ("dcgan", {"widths": [8]}),
    ("dcgan", {"hidden": [8], "conditioning": "none"}),
    ("r3gan", {}),
    ("r3gan", {"conditioning": "none", "kernel_size": 5}),
    ("r3gan", {"widths": [8], "cardinality": 1, "blocks": 1, "expansion": 3, "kernel_size": 1}),
]
_PENALTIES: list[tuple[str, dict[str, Any]]] = [
    ("gradient", {"where": where, "rule": rule})
    for where, rule in itertools.product(
        ("real", "fake", "line", "around_real"), ("zero_centered", "one_centered", "lipschitz")
    )
]


def _settings(known: registry.Registry[Any], special: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """Return every registered name with its settings; one that this file does not know is tried with its defaults."""
    listed = {name for name, _ in special}
    cases = special + [
        (entry.name, {}) for entry in known.entries() if entry.origin == "ganzoo" and entry.name not in listed
    ]
    return [pytest.param(name, options, id=f"{name}-{options}") for name, options in cases]


@pytest.mark.parametrize(("name", "options"), _settings(registry.generators, _GENERATORS))
def test_every_registered_generator_keeps_its_promises(name: str, options: dict[str, Any]) -> None:
    check_generator(registry.generators.get(name), image_size=16, options={**_SMALL.get(name, {}), **options})


@pytest.mark.parametrize(("name", "options"), _settings(registry.discriminators, _DISCRIMINATORS))
def test_every_registered_discriminator_keeps_its_promises(name: str, options: dict[str, Any]) -> None:
    check_discriminator(registry.discriminators.get(name), image_size=16, options={**_SMALL.get(name, {}), **options})


@pytest.mark.parametrize(
    ("name", "options"),
    _settings(
        registry.objectives, [("non_saturating", {"label_smoothing": 0.1}), ("least_squares", {"a": -1.0, "c": 0.0})]
    )
    + [pytest.param(name, {}, id=name) for name in ("non_saturating", "least_squares")],
)
def test_every_registered_objective_keeps_its_promises(name: str, options: dict[str, Any]) -> None:
    check_objective(registry.objectives.get(name), options=options)


@pytest.mark.parametrize(("name", "options"), _settings(registry.penalties, _PENALTIES))
def test_every_registered_penalty_keeps_its_promises(name: str, options: dict[str, Any]) -> None:
    check_penalty(registry.penalties.get(name), options=options)


# ---------------------------------------------------------------------------------------------------- good plug-ins


class Generator(nn.Module):
    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        latent_dim: int,
        num_classes: int = 0,
        width: int = 8,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.shape = (channels, image_size, image_size)
        self.num_classes, self.gain = num_classes, gain
        self.first = nn.Linear(latent_dim + num_classes, width)
        self.norm = nn.BatchNorm1d(width)
        self.last = nn.Linear(width, channels * image_size**2)

    def hidden(self, z: Tensor, label: Tensor | None) -> Tensor:
        if self.num_classes:
            assert label is not None
            z = torch.cat((z, one_hot(label, self.num_classes).to(z.dtype)), dim=1)
        return relu(self.norm(self.first(z)))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.tanh(self.gain * self.last(self.hidden(z, label))).float().view(-1, *self.shape)


class Discriminator(nn.Module):
    per_sample = True

    def __init__(self, *, image_size: int, channels: int, num_classes: int = 0, width: int = 8) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.activation = nn.Softplus()
        self.last = nn.Linear(width * ((image_size + 1) // 2) ** 2 + num_classes, 1)

    def features(self, image: Tensor, label: Tensor | None = None) -> dict[str, Tensor]:
        return {"activation": self.activation(self.conv(image))}

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.features(image)["activation"].flatten(1)
        if self.num_classes:
            assert label is not None
            x = torch.cat((x, one_hot(label, self.num_classes).to(x.dtype)), dim=1)
        return self.last(x)[:, 0].float()


class MyObjective(Objective):
    def __init__(self, *, margin: float = 1.0) -> None:
        self.margin = margin

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real, fake = check_logits(self.paired, real=real, fake=fake)
        return softplus(self.margin - real).mean() + softplus(self.margin + fake).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        (fake,) = check_logits(self.paired, fake=fake)
        return softplus(-fake).mean()


class MyPenalty(Penalty):
    def __init__(self, *, power: int = 2) -> None:
        self.power = power

    @property
    def name(self) -> str:
        return "mine"

    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        mix = inputs.draws.uniform(1, 1, 1, stream=5)
        image = (inputs.real + mix * (inputs.fake - inputs.real)).detach().requires_grad_()
        (slope,) = torch.autograd.grad(inputs.discriminate(image).sum(), image, create_graph=True)
        return slope.flatten(1).abs().pow(self.power).sum(dim=1)


def test_good_plugins_pass_and_leave_torchs_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    check_generator(Generator, image_size=7, channels=1, latent_dim=5, options={"width": 6})
    check_discriminator(Discriminator, image_size=7, channels=1)
    check_objective(MyObjective, options={"margin": 0.5})
    check_penalty(MyPenalty)
    assert torch.equal(before, torch.random.get_rng_state())


# ---------------------------------------------------------------------------------------------------- broken generators


class NoTanh(Generator):
    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return self.last(self.hidden(z, label)).float().view(-1, *self.shape)


class TooSmall(Generator):
    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return super().forward(z, label)[:, :, 1:]


class HalfPrecision(Generator):
    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return super().forward(z, label).half()


class TwoOutputs(Generator):
    def forward(self, z: Tensor, label: Tensor | None = None) -> Any:
        return super().forward(z, label), z


class NotANumber(Generator):
    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return super().forward(z, label) * float("nan")


class StarArguments(Generator):
    def __init__(self, *, image_size: int, channels: int, latent_dim: int, **more: Any) -> None:
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim)


class NoLatentDim(Generator):
    def __init__(self, *, image_size: int, channels: int, num_classes: int = 0) -> None:
        super().__init__(image_size=image_size, channels=channels, latent_dim=16, num_classes=num_classes)


class Untyped(Generator):
    def __init__(self, *, image_size: int, channels: int, latent_dim: int, growth=3) -> None:  # type: ignore[no-untyped-def]
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim)


class DefaultOfAnotherType(Generator):
    def __init__(self, *, image_size: int, channels: int, latent_dim: int, growth: int = "3") -> None:  # type: ignore[assignment]
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim)


class DefaultThatNoRecipeHolds(Generator):
    def __init__(self, *, image_size: int, channels: int, latent_dim: int, act: Any = relu) -> None:
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim)


class TakesAModule(Generator):
    def __init__(self, *, image_size: int, channels: int, latent_dim: int, act: nn.Module | None = None) -> None:
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim)


class NeedsAnOption(Generator):
    def __init__(self, *, image_size: int, channels: int, latent_dim: int, depth: int) -> None:
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim)


class NotAModule:
    def __init__(self, *, image_size: int, channels: int, latent_dim: int) -> None:
        pass


class OnTheCPU(Generator):
    def __init__(self, *, image_size: int, channels: int, latent_dim: int, num_classes: int = 0) -> None:
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim, num_classes=num_classes)
        self.first.bias = nn.Parameter(torch.zeros(8, device="cpu"))


class ReadsItsWeights(Generator):
    def __init__(self, *, image_size: int, channels: int, latent_dim: int, num_classes: int = 0) -> None:
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim, num_classes=num_classes)
        self.size = float(self.first.weight.detach().abs().max())


class OwnDice(Generator):
    def __init__(self, *, image_size: int, channels: int, latent_dim: int, num_classes: int = 0) -> None:
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim, num_classes=num_classes)
        with torch.no_grad():
            self.first.weight.mul_(float(np.random.default_rng().uniform(0.9, 1.1)))


class IgnoresZ(Generator):
    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return super().forward(torch.tanh(z) * 0.0 + 1.0, label)


class NoiseInEval(Generator):
    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return super().forward(z + 0.1 * torch.randn_like(z), label)


class InPlace(Generator):
    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            z.div_(z.abs().max())
        return super().forward(z, label)


class CountsInEval(Generator):
    def __init__(self, *, image_size: int, channels: int, latent_dim: int, num_classes: int = 0) -> None:
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim, num_classes=num_classes)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        self.calls += 1
        return super().forward(z, label)


class BatchStatisticsInEval(Generator):
    def __init__(self, *, image_size: int, channels: int, latent_dim: int, num_classes: int = 0) -> None:
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim, num_classes=num_classes)
        self.norm = nn.BatchNorm1d(8, track_running_stats=False)


class SqueezesABatchOfOne(Generator):
    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        image = super().forward(z, label)
        return image.squeeze(0)


class SpareLayer(Generator):
    def __init__(self, *, image_size: int, channels: int, latent_dim: int, num_classes: int = 0) -> None:
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim, num_classes=num_classes)
        self.spare = nn.Linear(2, 2)


class DetachesZ(Generator):
    def hidden(self, z: Tensor, label: Tensor | None) -> Tensor:
        return super().hidden(z.detach() + 0.0 * z, label)


class IgnoresLabels(Generator):
    def hidden(self, z: Tensor, label: Tensor | None) -> Tensor:
        return super().hidden(z, None if label is None else label * 0)


class NoLabelArgument(Generator):
    def __init__(self, *, image_size: int, channels: int, latent_dim: int) -> None:
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim)

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z)


class NoCopy(Generator):
    def __deepcopy__(self, memo: Any) -> Any:
        return Generator(
            image_size=self.shape[1], channels=self.shape[0], latent_dim=16, num_classes=self.num_classes
        ).train()


class HiddenState(Generator):
    steps = 0.0

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        if self.training:
            self.steps += 1.0
        return super().forward(z * (1.0 + self.steps), label)


class ExtraState(Generator):
    def get_extra_state(self) -> Any:
        return {"version": 1}

    def set_extra_state(self, state: Any) -> None:
        pass


class ReadsStrides(Generator):
    def __init__(self, *, image_size: int, channels: int, latent_dim: int, num_classes: int = 0) -> None:
        super().__init__(image_size=image_size, channels=channels, latent_dim=latent_dim, num_classes=num_classes)
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.back = nn.Conv2d(4, channels, 1)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.conv(super().forward(z, label))
        return torch.tanh(self.back(x.view(len(x), -1).view_as(x))).float()


class OverflowsInBfloat16(Generator):
    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.last(self.hidden(z, label))
        scale = 1.0 if x.dtype == torch.float32 else float("inf")
        return torch.tanh(x * scale - x * scale + x).float().view(-1, *self.shape)


_BROKEN_GENERATORS: list[tuple[type[Any], str, str]] = [
    (StarArguments, "constructor", r"\*\*more"),
    (NoLatentDim, "constructor", "takes no 'latent_dim'"),
    (Untyped, "constructor", "'growth' has no type"),
    (DefaultOfAnotherType, "constructor", "default of 'growth' is '3'"),
    (DefaultThatNoRecipeHolds, "constructor", "default of 'act'"),
    (TakesAModule, "constructor", "act"),
    (NeedsAnOption, "constructor", "depth: field required"),
    (NotAModule, "constructor", "makes a NotAModule"),
    (OnTheCPU, "meta device", r"first\.bias"),
    (ReadsItsWeights, "meta device", "meta"),
    (OwnDice, "initialisation", r"first\.weight differs"),
    (TooSmall, "output", r"\(4, 3, 7, 8\) in training mode, not \(4, 3, 8, 8\)"),
    (HalfPrecision, "output", r"torch\.float16"),
    (TwoOutputs, "output", "a tuple"),
    (NotANumber, "output", "768 of 768 outputs are not finite"),
    (NoTanh, "range", r"a pixel is \d+"),
    (IgnoresZ, "latent", "4 of 4 images do not change with z"),
    (NoiseInEval, "determinism", "other output"),
    (InPlace, "determinism", "changes its input"),
    (CountsInEval, "determinism", "calls changes"),
    (BatchStatisticsInEval, "batch-mates", r"change an output by [0-9.]+"),
    (SqueezesABatchOfOne, "batch of one", r"\(3, 8, 8\), not \(1, 3, 8, 8\)"),
    (SpareLayer, "gradients", r"2 of 8 parameters: spare\.bias, spare\.weight"),
    (DetachesZ, "gradients", "no gradient reaches the input"),
    (IgnoresLabels, "labels", "4 of 4 outputs do not change"),
    (NoLabelArgument, "labels", "positional argument"),
    (NoCopy, "copy", "deep copy gives other output"),
    (HiddenState, "state", "loaded again it gives other output"),
    (ExtraState, "state", "holds a dict"),
    (ReadsStrides, "memory format", "view"),
    (OverflowsInBfloat16, "autocast", "not finite in bfloat16"),
]


def _promises(cases: list[tuple[type[Any], str, str]]) -> list[Any]:
    return [pytest.param(broken, promise, seen, id=broken.__name__) for broken, promise, seen in cases]


def _assert_named(check: Callable[..., None], broken: type[Any], promise: str, seen: str, **settings: Any) -> None:
    with pytest.raises(PluginError, match=seen) as caught:
        check(broken, **settings)
    assert f"{broken.__name__} " in caught.value.message
    assert f"breaks the promise '{promise}':" in caught.value.message, caught.value.message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("broken", "promise", "seen"), _promises(_BROKEN_GENERATORS))
def test_a_generators_broken_promise_is_named(broken: type[Any], promise: str, seen: str) -> None:
    _assert_named(check_generator, broken, promise, seen, image_size=8)


# ------------------------------------------------------------------------------------------- broken discriminators


class Columns(Discriminator):
    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        return super().forward(image, label)[:, None]


class Probabilities(Discriminator):
    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.sigmoid(super().forward(image, label))


class SecretBatchNorm(Discriminator):
    def __init__(self, *, image_size: int, channels: int, num_classes: int = 0) -> None:
        super().__init__(image_size=image_size, channels=channels, num_classes=num_classes)
        self.norm = nn.BatchNorm2d(8)

    def features(self, image: Tensor, label: Tensor | None = None) -> dict[str, Tensor]:
        return {"activation": self.activation(self.norm(self.conv(image)))}


class HonestBatchNorm(SecretBatchNorm):
    per_sample = False


class DetachedBatchStatistics(Discriminator):
    """No gradient tells of it: only the values do."""

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        logits = super().forward(image, label)
        return logits - logits.detach().mean() if self.training else logits


class TooModest(Discriminator):
    per_sample = False


class PerSampleIsMissing(Discriminator):
    per_sample = None  # type: ignore[assignment]


class SpectralNormIsPerSample(Discriminator):
    """Its buffers change with every forward pass in training, which must not be taken for the work of batch-mates."""

    def __init__(self, *, image_size: int, channels: int, num_classes: int = 0) -> None:
        super().__init__(image_size=image_size, channels=channels, num_classes=num_classes)
        nn.utils.parametrizations.spectral_norm(self.conv)


class DropoutIsPerSample(Discriminator):
    def __init__(self, *, image_size: int, channels: int, num_classes: int = 0) -> None:
        super().__init__(image_size=image_size, channels=channels, num_classes=num_classes)
        self.activation = nn.Sequential(nn.Softplus(), nn.Dropout(0.5))


class NoFeatures(Discriminator):
    features = None  # type: ignore[assignment]

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.activation(self.conv(image)).flatten(1)
        if self.num_classes:
            assert label is not None
            x = torch.cat((x, one_hot(label, self.num_classes).to(x.dtype)), dim=1)
        return self.last(x)[:, 0].float()


class ListOfFeatures(NoFeatures):
    def features(self, image: Tensor, label: Tensor | None = None) -> Any:
        return [self.conv(image)]


class FeaturesOfTheBatch(NoFeatures):
    def features(self, image: Tensor, label: Tensor | None = None) -> Any:
        return {"conv": self.conv(image).mean(dim=0)}


class FeaturesUnderAnotherName(NoFeatures):
    def features(self, image: Tensor, label: Tensor | None = None) -> Any:
        return {"layers.0": self.conv(image)}


class FeaturesAreNotOutputs(NoFeatures):
    def features(self, image: Tensor, label: Tensor | None = None) -> Any:
        return {"conv": softplus(self.conv(image))}


class FeaturesThatForwardLeavesOut(NoFeatures):
    def __init__(self, *, image_size: int, channels: int, num_classes: int = 0) -> None:
        super().__init__(image_size=image_size, channels=channels, num_classes=num_classes)
        self.pool = nn.AvgPool2d(2)

    def features(self, image: Tensor, label: Tensor | None = None) -> Any:
        return {"conv": self.conv(image), "pool": self.pool(image)}


class FeaturesFromTheLogitOn(NoFeatures):
    def features(self, image: Tensor, label: Tensor | None = None) -> Any:
        x = self.conv(image)
        return {"activation": self.activation(x), "conv": x}


class _OnceOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2.0

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * 2.0


class NoSecondDerivative(Discriminator):
    def features(self, image: Tensor, label: Tensor | None = None) -> dict[str, Tensor]:
        return super().features(_OnceOnly.apply(image), label)  # type: ignore[no-untyped-call]


class SecretlyHearsLabels(Discriminator):
    def __init__(
        self, *, image_size: int, channels: int, num_classes: int = 0, conditioning: Literal["concat", "none"] = "none"
    ) -> None:
        super().__init__(image_size=image_size, channels=channels, num_classes=num_classes)


class NotTwiceDifferentiable(Discriminator):
    """Linear in the image, with a fixed slope: its gradient holds no parameter."""

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        return super().forward(image.detach(), label) + image.flatten(1).mean(1)


_BROKEN_DISCRIMINATORS: list[tuple[type[Any], str, str]] = [
    (Columns, "output", r"\(4, 1\) in training mode, not \(4,\)"),
    (Probabilities, "logits", r"lie in \[[0-9.e-]+, 1\]"),
    (SecretBatchNorm, "per_sample", r"per_sample is True, but .* by [0-9.]+ of its size"),
    (DetachedBatchStatistics, "per_sample", r"by [0-9.]+ of its size \(relative gradient 0\)"),
    (TooModest, "per_sample", "per_sample is False, but"),
    (PerSampleIsMissing, "per_sample", "per_sample is None"),
    (NoFeatures, "features", "TypeError"),
    (ListOfFeatures, "features", "features gives list"),
    (FeaturesOfTheBatch, "features", r"\(8, 4, 4\), not \(4, …\)"),
    (FeaturesUnderAnotherName, "features", "holds 'layers.0', which is the path of no submodule"),
    (FeaturesAreNotOutputs, "features", "the features 'conv' are not what the submodule of that name gives"),
    (FeaturesThatForwardLeavesOut, "features", "comes through conv, but features are conv, pool"),
    (FeaturesFromTheLogitOn, "features", "comes through conv, activation, but features are activation, conv"),
    (NoSecondDerivative, "second derivative", "once_differentiable"),
    (NotTwiceDifferentiable, "second derivative", "no gradient with respect to any parameter|does not require grad"),
]


@pytest.mark.parametrize(("broken", "promise", "seen"), _promises(_BROKEN_DISCRIMINATORS))
def test_a_discriminators_broken_promise_is_named(broken: type[Any], promise: str, seen: str) -> None:
    _assert_named(check_discriminator, broken, promise, seen, image_size=8)


def test_a_discriminator_without_conditioning_ignores_labels() -> None:
    settings = {"image_size": 8, "num_classes": 3, "options": {"conditioning": "none"}}
    _assert_named(check_discriminator, SecretlyHearsLabels, "labels", 'conditioning is "none", but 4 of 4', **settings)
    settings["options"] = {"conditioning": "concat"}
    check_discriminator(SecretlyHearsLabels, **settings)


@pytest.mark.parametrize("good", [HonestBatchNorm, SpectralNormIsPerSample, DropoutIsPerSample])
def test_what_per_sample_says_is_believed_where_it_is_so(good: type[Any]) -> None:
    check_discriminator(good, image_size=8)


# ---------------------------------------------------------------------------------------------------- broken objectives


class ObjectiveWithStar(MyObjective):
    def __init__(self, *margins: float) -> None:
        pass


class ObjectiveWithoutFlags:
    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


class Vector(MyObjective):
    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return softplus(-fake)


class KeepsBfloat16(MyObjective):
    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return softplus(-fake).mean()


class Overflows(MyObjective):
    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        (fake,) = check_logits(self.paired, fake=fake)
        return torch.log(1.0 + torch.exp(-fake)).mean()


class InfiniteSlope(MyObjective):
    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        (fake,) = check_logits(self.paired, fake=fake)
        shifted = softplus(-fake).mean()
        return shifted + 0.0 * torch.where(fake > -100.0, fake, -torch.exp(-fake)).clamp(min=-1.0).mean()


class Detaches(MyObjective):
    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return super().discriminator_loss(real.detach(), fake)


class Remembers(MyObjective):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        self.calls += 1
        return super().generator_loss(fake) * self.calls


class NoisyLabels(MyObjective):
    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return super().generator_loss(fake) * (1.0 + 0.1 * torch.rand(()))


class ShiftsLogits(MyObjective):
    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        loss = super().generator_loss(fake)
        fake.data.sub_(fake.data.mean())
        return loss


class CallsBackward(MyObjective):
    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        loss = super().generator_loss(fake)
        if fake.requires_grad and fake.is_leaf:
            loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
            if _is_first_of_many(fake):
                fake.grad = None
        return loss


def _is_first_of_many(logits: Tensor) -> bool:
    """Hide the mistake from the promise of gradients, which runs before that of purity."""
    return logits.grad is None


class Sums(MyObjective):
    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return super().generator_loss(fake) * len(fake)


class Broadcasts(MyObjective):
    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return softplus(-fake.float()).mean()


class SaysItUsesReal(MyObjective):
    generator_uses_real: ClassVar[bool] = True

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        assert real is not None
        real, fake = check_logits(self.paired, real=real, fake=fake)
        return softplus(-fake).mean() + 1e-30 * real.mean()


class HidesThatItUsesReal(MyObjective):
    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        loss = super().generator_loss(fake)
        return loss if real is None else loss + softplus(real).mean()


class SaysItIsPaired(MyObjective):
    paired: ClassVar[bool] = True


class HidesThatItIsPaired(MyObjective):
    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real, fake = check_logits(True, real=real, fake=fake)
        return softplus(fake - real).mean()


class PairsWhatItCan(MyObjective):
    paired: ClassVar[bool] = True

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real, fake = check_logits(False, real=real, fake=fake)
        count = min(len(real), len(fake))
        return softplus(fake[:count] - real[:count]).mean()


class DiscriminatorTheWrongWay(MyObjective):
    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return super().discriminator_loss(fake, real)


class GeneratorTheWrongWay(MyObjective):
    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return super().generator_loss(-fake)


_BROKEN_OBJECTIVES: list[tuple[type[Any], str, str]] = [
    (ObjectiveWithStar, "constructor", r"\*margins"),
    (ObjectiveWithoutFlags, "constructor", "generator_uses_real is None"),
    (Vector, "output", r"generator_loss has the shape \(6,\)"),
    (KeepsBfloat16, "output", r"torch\.bfloat16 for torch\.bfloat16"),
    (Overflows, "output", "generator_loss is inf for logits of size 10000"),
    (InfiniteSlope, "gradients", "generator_loss .* of size 10000 is not finite"),
    (Detaches, "gradients", "discriminator_loss with respect to the real logits of size 1 is zero"),
    (Remembers, "purity", "generator_loss of the same logits is .*, then"),
    (NoisyLabels, "purity", "draws random numbers"),
    (ShiftsLogits, "purity", "changes the logits"),
    (CallsBackward, "purity", "calls backward"),
    (Sums, "mean", "generator_loss of a batch is [0-9.]+, and [0-9.]+"),
    (Broadcasts, "shapes", r"\(6, 1\)"),
    (SaysItUsesReal, "generator_uses_real", "is True, but generator_loss is"),
    (HidesThatItUsesReal, "generator_uses_real", "is False, but generator_loss is"),
    (SaysItIsPaired, "paired", "paired is True, but discriminator_loss is"),
    (HidesThatItIsPaired, "paired", "paired is False, but discriminator_loss is"),
    (PairsWhatItCan, "paired", "6 real logits are taken with 4 fake ones"),
    (DiscriminatorTheWrongWay, "direction", "discriminator_loss has the slopes"),
    (GeneratorTheWrongWay, "direction", "generator_loss has the slope"),
]


@pytest.mark.parametrize(("broken", "promise", "seen"), _promises(_BROKEN_OBJECTIVES))
def test_an_objectives_broken_promise_is_named(broken: type[Any], promise: str, seen: str) -> None:
    _assert_named(check_objective, broken, promise, seen)


# ---------------------------------------------------------------------------------------------------- broken penalties


class Nameless(MyPenalty):
    name = ""  # type: ignore[assignment]


class MeanOfTheBatch(MyPenalty):
    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        return super().__call__(inputs).mean()


class NoGraph(MyPenalty):
    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        return super().__call__(inputs).detach() + 0.0 * inputs.real_logits


class SquareRootAtZero(MyPenalty):
    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        return (super().__call__(inputs).sqrt() - 1.0).square()


class TorchsDice(MyPenalty):
    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        return super().__call__(inputs) * (1.0 + torch.rand(()))


class CountingPenalty(MyPenalty):
    calls = 0

    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        self.calls += 1
        return super().__call__(inputs) * self.calls


class ClampsTheImages(MyPenalty):
    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        value = super().__call__(inputs)
        inputs.real.data.clamp_(-0.5, 0.5)
        return value


class BackwardPenalty(MyPenalty):
    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        value = super().__call__(inputs)
        value.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
        return value


class NormOverTheBatch(MyPenalty):
    """The known mistake of peers: one norm over the whole batch."""

    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        (slope,) = torch.autograd.grad(inputs.real_logits.sum(), inputs.real, create_graph=True)
        return torch.linalg.vector_norm(slope).expand(len(slope))


class NormOverTheBatchAndSaysSo(NormOverTheBatch):
    needs_per_sample: ClassVar[bool] = False


_BROKEN_PENALTIES: list[tuple[type[Any], str, str]] = [
    (Nameless, "constructor", "its name is ''"),
    (MeanOfTheBatch, "output", r"for 8 samples it has the shape \(\)"),
    (NoGraph, "gradients", "no gradient reaches the discriminator"),
    (SquareRootAtZero, "gradients", "not finite where the discriminator is flat"),
    (TorchsDice, "purity", "draws from torch's own generator"),
    (CountingPenalty, "purity", "of the same inputs it is [0-9.e+]+, then"),
    (ClampsTheImages, "purity", "changes the images"),
    (BackwardPenalty, "purity", "calls backward"),
    (NormOverTheBatch, "batch-mates", r"by [0-9.]+ of the largest"),
]


@pytest.mark.parametrize(("broken", "promise", "seen"), _promises(_BROKEN_PENALTIES))
def test_a_penaltys_broken_promise_is_named(broken: type[Any], promise: str, seen: str) -> None:
    _assert_named(check_penalty, broken, promise, seen)


def test_a_penalty_that_says_it_looks_at_the_batch_may() -> None:
    check_penalty(NormOverTheBatchAndSaysSo)


# ---------------------------------------------------------------------------------------------------- the kit itself


def test_the_kit_itself_needs_no_pytest() -> None:
    """A package may call it from a script, or from another test runner."""
    for path in Path(ganzoo.testing.__file__).parent.glob("*.py"):
        assert "pytest" not in path.read_text(encoding="utf-8")


def test_every_promise_is_broken_once_in_this_file() -> None:
    of_networks = {promise for _, promise, _ in _BROKEN_GENERATORS + _BROKEN_DISCRIMINATORS}
    assert of_networks == {*GENERATOR_PROMISES, *DISCRIMINATOR_PROMISES}
    assert {promise for _, promise, _ in _BROKEN_OBJECTIVES} == set(OBJECTIVE_PROMISES)
    assert {promise for _, promise, _ in _BROKEN_PENALTIES} == set(PENALTY_PROMISES)


def test_a_wrong_option_is_told_apart_from_a_broken_plugin() -> None:
    with pytest.raises(PluginError, match=r"width: input should be a valid integer.*as `options`"):
        check_generator(Generator, options={"width": "wide"})
    with pytest.raises(ValueError, match=r"batch_size \(=1\) must be at least 2"):
        check_generator(Generator, batch_size=1)


def test_classes_are_asked_for_only_where_the_constructor_takes_them() -> None:
    with pytest.raises(PluginError, match="takes no 'num_classes'"):
        check_generator(NoLabelArgument, num_classes=3)
