"""Gradient penalties against closed forms of a quadratic D, finite differences, and the known mistakes of peers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganzoo.objectives.contract import PenaltyInputs
from ganzoo.objectives.penalties import DRAGAN_NOISE, GradientPenalty
from ganzoo.randomness import Draws, Stream, draw_uniform
from ganzoo.registry import penalties

PLACES = ("real", "fake", "line", "around_real")
RULES = ("zero_centered", "one_centered", "lipschitz")
CASES = list(itertools.product(PLACES, RULES))
SEED = 7
SHAPE = (3, 4, 5)

RULE: dict[str, Callable[[float], float]] = {
    "zero_centered": lambda norm: norm**2,
    "one_centered": lambda norm: (norm - 1.0) ** 2,
    "lipschitz": lambda norm: max(0.0, norm - 1.0) ** 2,
}


def inputs_for(
    discriminate: Callable[[Tensor], Tensor],
    batch: int = 4,
    *,
    dtype: torch.dtype = torch.float64,
    part: slice = slice(None),
) -> PenaltyInputs:
    generator = torch.Generator().manual_seed(1)
    real = torch.rand(batch, *SHAPE, generator=generator, dtype=torch.float64) * 2 - 1
    fake = torch.rand(batch, *SHAPE, generator=generator, dtype=torch.float64) * 2 - 1
    real, fake = (one[part].to(dtype).clone().requires_grad_() for one in (real, fake))
    numbers = np.arange(100, 100 + batch, dtype=np.int64)[part]
    draws = Draws(SEED, numbers, torch.device("cpu"), torch.float64)
    return PenaltyInputs(discriminate, real, fake, discriminate(real), discriminate(fake), draws)


def quadratic(slope: float) -> Callable[[Tensor], Tensor]:
    """D(x) = slope / 2 · ‖x‖², whose gradient at x is slope · x."""
    return lambda image: 0.5 * slope * image.square().flatten(1).sum(dim=1)


def points(inputs: PenaltyInputs, where: str) -> np.ndarray:
    """The images at which the gradient is to be taken, in NumPy from the random numbers themselves."""
    real, fake = inputs.real.detach().double().numpy(), inputs.fake.detach().double().numpy()
    if where == "real":
        return real
    if where == "fake":
        return fake
    numbers = draw_uniform(SEED, Stream.PENALTY, inputs.draws.numbers, 1 + math.prod(SHAPE))
    if where == "line":
        return np.stack([r + u * (f - r) for r, f, u in zip(real, fake, numbers[:, 0], strict=True)])
    return np.stack(
        [r + n[0] * DRAGAN_NOISE * r.std() * n[1:].reshape(SHAPE) for r, n in zip(real, numbers, strict=True)]
    )


class SmallNet(nn.Module):
    """A smooth D in float64 with few parameters."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.first = nn.Parameter(torch.randn(math.prod(SHAPE), 6, generator=generator, dtype=torch.float64) * 0.4)
        self.second = nn.Parameter(torch.randn(6, generator=generator, dtype=torch.float64))

    def forward(self, image: Tensor) -> Tensor:
        return torch.tanh(image.flatten(1) @ self.first.to(image.dtype)) @ self.second.to(image.dtype)


@pytest.mark.parametrize(("where", "rule"), CASES)
@pytest.mark.parametrize("slope", [0.05, 1.5])
def test_the_penalty_of_a_quadratic_discriminator_is_known(where: str, rule: str, slope: float) -> None:
    inputs = inputs_for(quadratic(slope))
    penalty = GradientPenalty(where=where, rule=rule)(inputs)  # type: ignore[arg-type]
    expected = [RULE[rule](slope * math.sqrt((point**2).sum())) for point in points(inputs, where)]
    assert penalty.shape == (4,)
    assert penalty.tolist() == pytest.approx(expected, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize(("where", "rule"), CASES)
def test_its_gradient_in_the_parameters_is_the_finite_difference(where: str, rule: str) -> None:
    network = SmallNet()
    penalty = GradientPenalty(where=where, rule=rule)  # type: ignore[arg-type]

    def value() -> Tensor:
        return penalty(inputs_for(network)).mean()

    value().backward()
    rng = np.random.default_rng(0)
    for parameter in network.parameters():
        assert parameter.grad is not None
        for index in rng.choice(parameter.numel(), size=4, replace=False):
            flat, step = parameter.data.view(-1), 1e-5
            centre = flat[index].item()
            flat[index] = centre + step
            above = value().item()
            flat[index] = centre - step
            below = value().item()
            flat[index] = centre
            slope = parameter.grad.view(-1)[index].item()
            assert slope == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("where", "rule"), CASES)
def test_the_norm_is_each_samples_own_and_not_the_batchs(where: str, rule: str) -> None:
    # A norm over the whole batch grows with the batch, and moves with every batch-mate.
    network = SmallNet()
    penalty = GradientPenalty(where=where, rule=rule)  # type: ignore[arg-type]
    whole = penalty(inputs_for(network))
    halves = torch.cat([penalty(inputs_for(network, part=part)) for part in (slice(0, 1), slice(1, 4))])
    torch.testing.assert_close(whole, halves, rtol=1e-12, atol=1e-14)
    assert len({round(value, 12) for value in whole.tolist()}) == 4 or rule == "lipschitz"


@pytest.mark.parametrize("where", ["line", "around_real"])
def test_the_same_samples_give_the_same_bytes_and_other_samples_others(where: str) -> None:
    network = SmallNet()
    penalty = GradientPenalty(where=where, rule="zero_centered")  # type: ignore[arg-type]
    inputs = inputs_for(network)
    assert torch.equal(penalty(inputs), penalty(inputs_for(network)))
    other = Draws(SEED, inputs.draws.numbers + 4, torch.device("cpu"), torch.float64)
    moved = PenaltyInputs(network, inputs.real, inputs.fake, inputs.real_logits, inputs.fake_logits, other)
    assert not torch.equal(penalty(inputs), penalty(moved))


def test_noise_around_real_images_is_of_each_images_own_spread() -> None:
    seen: list[Tensor] = []

    def discriminate(image: Tensor) -> Tensor:
        seen.append(image.detach())
        return image.square().flatten(1).sum(dim=1)

    inputs = inputs_for(discriminate)
    with torch.no_grad():
        inputs.real[0] = 0.25  # a flat image has no spread
    GradientPenalty(where="around_real", rule="one_centered")(inputs)
    moved = (seen[-1] - inputs.real.detach()).flatten(1)
    assert moved[0].abs().max() == 0.0
    spread = inputs.real.detach().flatten(1).std(dim=1, correction=0)
    assert (moved[1:] > 0).all()
    assert (moved[1:] < DRAGAN_NOISE * spread[1:, None]).all()


@pytest.mark.parametrize(("where", "rule"), CASES)
def test_a_gradient_of_zero_gives_a_finite_gradient(where: str, rule: str) -> None:
    weight = torch.zeros(math.prod(SHAPE), dtype=torch.float64, requires_grad=True)
    penalty = GradientPenalty(where=where, rule=rule)(inputs_for(lambda image: image.flatten(1) @ weight))  # type: ignore[arg-type]
    assert penalty.tolist() == [RULE[rule](0.0)] * 4
    penalty.mean().backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize(("where", "rule"), CASES)
def test_under_bfloat16_autocast_it_is_float32_and_near_the_exact_one(where: str, rule: str) -> None:
    exact = GradientPenalty(where=where, rule=rule)(inputs_for(SmallNet()))  # type: ignore[arg-type]
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(SHAPE), 6, bias=False), nn.Tanh(), nn.Linear(6, 1), nn.Flatten(0)
    )
    small = SmallNet()
    with torch.no_grad():
        network[1].weight.copy_(small.first.T)
        network[3].weight.copy_(small.second[None])
        network[3].bias.zero_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inputs = inputs_for(network, dtype=torch.float32)
        assert inputs.real_logits.dtype == torch.bfloat16
        penalty = GradientPenalty(where=where, rule=rule)(inputs)  # type: ignore[arg-type]
    assert penalty.dtype == torch.float32
    torch.testing.assert_close(penalty.double(), exact, rtol=0.1, atol=0.02)
    penalty.mean().backward()
    assert all(parameter.grad is not None for name, parameter in network.named_parameters() if "weight" in name)


def test_the_logits_already_computed_are_used_and_nothing_is_judged_again() -> None:
    calls = 0

    def discriminate(image: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return image.square().flatten(1).sum(dim=1)

    inputs = inputs_for(discriminate)
    for where, more in (("real", 0), ("fake", 0), ("line", 1), ("around_real", 1)):
        before = calls
        GradientPenalty(where=where)(inputs)  # type: ignore[arg-type]
        assert calls - before == more, where


def test_the_graph_of_the_logits_outlives_the_penalty() -> None:
    inputs = inputs_for(SmallNet())
    (inputs.real_logits.mean() + GradientPenalty(where="real")(inputs).mean()).backward()
    assert inputs.real.grad is not None


@pytest.mark.parametrize("where", PLACES)
def test_logits_that_are_not_one_an_image_are_refused(where: str) -> None:
    inputs = inputs_for(lambda image: image.square().flatten(1).sum(dim=1, keepdim=True))  # (batch, 1)
    with pytest.raises(ValueError, match=r"\(4, 3, 4, 5\) and \(4, 1\)"):
        GradientPenalty(where=where)(inputs)  # type: ignore[arg-type]


def test_a_line_between_batches_of_different_size_is_refused() -> None:
    inputs = inputs_for(quadratic(1.0))
    fewer = PenaltyInputs(
        inputs.discriminate, inputs.real, inputs.fake[:2], inputs.real_logits, inputs.fake_logits[:2], inputs.draws
    )
    with pytest.raises(ValueError, match=r"\(4, 3, 4, 5\) and \(2, 3, 4, 5\)"):
        GradientPenalty(where="line")(fewer)


@pytest.mark.parametrize("wrong", [{"where": "nowhere"}, {"rule": "two_centered"}])
def test_unknown_places_and_rules_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is one of"):
        GradientPenalty(**wrong)  # type: ignore[arg-type]


def test_names_for_statistics_are_all_different() -> None:
    names = {GradientPenalty(where=where, rule=rule).name for where, rule in CASES}  # type: ignore[arg-type]
    assert len(names) == 12
    assert "real_zero_centered" in names


def test_the_registered_penalty_is_r1_by_default() -> None:
    penalty = penalties.get("gradient")()
    assert penalty.name == "real_zero_centered"
    assert penalty.needs_per_sample
