"""Objectives against closed forms, an independent float64 form, finite differences, and the known mistakes of peers."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import get_type_hints

import pytest
import torch
from torch import Tensor

from ganzoo.objectives.adversarial import (
    EnergyMargin,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticAverage,
    RelativisticPaired,
    Wasserstein,
)
from ganzoo.objectives.contract import Objective
from ganzoo.registry import objectives

OBJECTIVES: list[Objective] = [
    NonSaturating(),
    NonSaturating(label_smoothing=0.1),
    Minimax(),
    LeastSquares(),
    LeastSquares(a=-1.0, b=1.0, c=0.0),
    Wasserstein(),
    Hinge(),
    EnergyMargin(),
    EnergyMargin(margin=3.0),
    RelativisticPaired(),
    RelativisticAverage(),
]
REAL = [0.3, -1.7, 2.9, 0.8]
FAKE = [-0.4, 1.2, -2.2, 0.1]


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def energy(logit: float) -> float:
    """Nats by which an image is not called real."""
    return -math.log(sigmoid(logit))


# Written from the papers with probabilities and logarithms, as ganzoo itself never computes them.
EXPECTED: list[tuple[Objective, Callable[[], float], Callable[[], float]]] = [
    (
        NonSaturating(),
        lambda: -mean([math.log(sigmoid(r)) for r in REAL]) - mean([math.log(1 - sigmoid(f)) for f in FAKE]),
        lambda: -mean([math.log(sigmoid(f)) for f in FAKE]),
    ),
    (
        NonSaturating(label_smoothing=0.1),
        lambda: (
            -mean([0.9 * math.log(sigmoid(r)) + 0.1 * math.log(1 - sigmoid(r)) for r in REAL])
            - mean([math.log(1 - sigmoid(f)) for f in FAKE])
        ),
        lambda: -mean([math.log(sigmoid(f)) for f in FAKE]),
    ),
    (
        Minimax(),
        lambda: -mean([math.log(sigmoid(r)) for r in REAL]) - mean([math.log(1 - sigmoid(f)) for f in FAKE]),
        lambda: mean([math.log(1 - sigmoid(f)) for f in FAKE]),
    ),
    (
        LeastSquares(),
        lambda: 0.5 * mean([(r - 1) ** 2 for r in REAL]) + 0.5 * mean([f**2 for f in FAKE]),
        lambda: 0.5 * mean([(f - 1) ** 2 for f in FAKE]),
    ),
    (
        LeastSquares(a=-1.0, b=1.0, c=0.0),
        lambda: 0.5 * mean([(r - 1) ** 2 for r in REAL]) + 0.5 * mean([(f + 1) ** 2 for f in FAKE]),
        lambda: 0.5 * mean([f**2 for f in FAKE]),
    ),
    (Wasserstein(), lambda: mean(FAKE) - mean(REAL), lambda: -mean(FAKE)),
    (
        Hinge(),
        lambda: mean([max(0.0, 1 - r) for r in REAL]) + mean([max(0.0, 1 + f) for f in FAKE]),
        lambda: -mean(FAKE),
    ),
    (
        RelativisticPaired(),
        lambda: -mean([math.log(sigmoid(r - f)) for r, f in zip(REAL, FAKE, strict=True)]),
        lambda: -mean([math.log(sigmoid(f - r)) for r, f in zip(REAL, FAKE, strict=True)]),
    ),
    (
        EnergyMargin(margin=2.0),
        lambda: mean([energy(r) for r in REAL]) + mean([max(0.0, 2.0 - energy(f)) for f in FAKE]),
        lambda: mean([energy(f) for f in FAKE]),
    ),
    (
        RelativisticAverage(),
        lambda: (
            -mean([math.log(sigmoid(r - mean(FAKE))) for r in REAL])
            - mean([math.log(1 - sigmoid(f - mean(REAL))) for f in FAKE])
        ),
        lambda: (
            -mean([math.log(sigmoid(f - mean(REAL))) for f in FAKE])
            - mean([math.log(1 - sigmoid(r - mean(FAKE))) for r in REAL])
        ),
    ),
]


def name_of(case: object) -> str:
    return f"{type(case).__name__}-{vars(case)}" if isinstance(case, Objective) else ""


def doubles(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("objective", "discriminator", "generator"), EXPECTED, ids=name_of)
def test_losses_are_the_papers(
    objective: Objective, discriminator: Callable[[], float], generator: Callable[[], float]
) -> None:
    real, fake = doubles(REAL), doubles(FAKE)
    assert objective.discriminator_loss(real, fake).item() == pytest.approx(discriminator(), rel=1e-12)
    assert objective.generator_loss(fake, real).item() == pytest.approx(generator(), rel=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
def test_gradients_are_the_finite_differences(objective: Objective) -> None:
    real, fake = doubles(REAL).requires_grad_(), doubles(FAKE).requires_grad_()
    assert torch.autograd.gradcheck(objective.discriminator_loss, (real, fake), atol=1e-9)
    assert torch.autograd.gradcheck(lambda f, r: objective.generator_loss(f, r), (fake, real), atol=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
def test_a_discriminators_step_down_its_loss_parts_real_from_fake(objective: Objective) -> None:
    real, fake = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    objective.discriminator_loss(real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert (real.grad < fake.grad).all()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
def test_a_generators_step_down_its_loss_raises_the_logits_of_its_images(objective: Objective) -> None:
    fake = torch.full((3,), -2.0, requires_grad=True)
    objective.generator_loss(fake, torch.zeros(3)).backward()
    assert fake.grad is not None
    assert (fake.grad < 0).all()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
def test_losses_are_computed_in_float32_at_least(objective: Objective, dtype: torch.dtype) -> None:
    real, fake = torch.tensor(REAL).to(dtype), torch.tensor(FAKE).to(dtype)
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    for loss, exact in (
        (objective.discriminator_loss(real, fake), objective.discriminator_loss(real.double(), fake.double())),
        (objective.generator_loss(fake, real), objective.generator_loss(fake.double(), real.double())),
    ):
        assert loss.dtype == wanted
        assert loss.shape == ()
        assert loss.item() == pytest.approx(exact.item(), rel=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
def test_losses_and_gradients_stay_finite_at_extreme_logits(objective: Objective) -> None:
    real = torch.tensor([-1e4, 1e4, 0.0], requires_grad=True)
    fake = torch.tensor([1e4, -1e4, 0.0], requires_grad=True)
    total = objective.discriminator_loss(real, fake) + objective.generator_loss(fake, real)
    total.backward()
    assert total.isfinite()
    assert real.grad is not None
    assert fake.grad is not None
    assert real.grad.isfinite().all()
    assert fake.grad.isfinite().all()


# ------------------------------------------------------------------ known mistakes of peers


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
@pytest.mark.parametrize("shape", [(4, 1), (), (4, 1, 1, 1), (0,)], ids=str)
def test_logits_of_another_shape_are_refused_instead_of_broadcast(objective: Objective, shape: tuple[int, ...]) -> None:
    good, bad = torch.zeros(4), torch.zeros(shape)
    for call in (
        lambda: objective.discriminator_loss(good, bad),
        lambda: objective.discriminator_loss(bad, good),
        lambda: objective.generator_loss(bad, good),
    ):
        with pytest.raises(ValueError, match="logits must be one number an image.*" + re.escape(str(shape))):
            call()


def test_paired_logits_of_different_number_are_refused_with_their_shapes() -> None:
    objective = RelativisticPaired()
    for call in (
        lambda: objective.discriminator_loss(torch.zeros(4), torch.zeros(1)),
        lambda: objective.generator_loss(torch.zeros(1), torch.zeros(4)),
    ):
        with pytest.raises(ValueError, match=r"real \(4,\) and fake \(1,\)"):
            call()


def test_unpaired_batches_may_differ_in_size() -> None:
    for objective in OBJECTIVES:
        if not objective.paired:
            assert objective.discriminator_loss(torch.zeros(4), torch.zeros(6)).isfinite()


def test_least_squares_takes_raw_logits_without_a_sigmoid() -> None:
    # With a sigmoid before it, the loss could neither reach 0 at the targets nor exceed 1.
    objective = LeastSquares()
    assert objective.discriminator_loss(torch.ones(2), torch.zeros(2)).item() == 0.0
    assert objective.discriminator_loss(torch.full((2,), 11.0), torch.zeros(2)).item() == 50.0


def test_the_relativistic_generators_loss_is_relative_and_symmetric() -> None:
    # A peer computes it and then overwrites it with the plain loss of the fake images.
    objective = RelativisticPaired()
    real, fake = doubles(REAL), doubles(FAKE)
    assert objective.generator_loss(fake, real).item() == objective.discriminator_loss(fake, real).item()
    shifted = objective.generator_loss(fake + 5.0, real + 5.0)
    assert shifted.item() == pytest.approx(objective.generator_loss(fake, real).item(), rel=1e-12)


@pytest.mark.parametrize("objective", [RelativisticPaired(), RelativisticAverage()], ids=name_of)
def test_a_relativistic_generator_needs_the_real_logits(objective: Objective) -> None:
    with pytest.raises(ValueError, match="real images"):
        objective.generator_loss(torch.zeros(2))


def test_the_relativistic_average_compares_with_the_mean_of_the_other_kind() -> None:
    objective = RelativisticAverage()
    real, fake = doubles([3.0, -3.0]), doubles([-1.0, 3.0])  # means 0 and 1
    expected = 0.5 * (
        sum(math.log1p(math.exp(1.0 - r)) for r in (3, -3)) + sum(math.log1p(math.exp(f)) for f in (-1, 3))
    )
    assert objective.discriminator_loss(real, fake).item() == pytest.approx(expected, rel=1e-12)
    assert objective.generator_loss(fake, real).item() == objective.discriminator_loss(fake, real).item()
    shifted = objective.discriminator_loss(real + 7.0, fake + 7.0)
    assert shifted.item() == pytest.approx(expected, rel=1e-12)
    assert objective.discriminator_loss(real.flip(0), fake).item() == pytest.approx(expected, rel=1e-12)


def test_the_relativistic_averages_means_are_not_detached() -> None:
    # Of n logits each moves the mean by 1 / n: with detached means the slopes below would be other ones.
    real, fake = doubles([0.5]).requires_grad_(), doubles([-0.25]).requires_grad_()
    (slope,) = torch.autograd.grad(RelativisticAverage().discriminator_loss(real, fake), real)
    assert slope.item() == pytest.approx(-2.0 * sigmoid(-0.75), rel=1e-12)


def test_beyond_the_margin_the_discriminator_learns_nothing_more_of_a_fake() -> None:
    objective = EnergyMargin(margin=1.0)
    edge = -math.log(math.expm1(1.0))  # the logit whose energy is the margin
    fake = doubles([edge - 0.01, edge + 0.01]).requires_grad_()
    (slopes,) = torch.autograd.grad(objective.discriminator_loss(doubles([0.0]), fake), fake)
    assert slopes[0].item() == 0.0
    assert slopes[1].item() == pytest.approx(0.5 * sigmoid(-edge - 0.01), rel=1e-12)


def test_the_margins_boundary_has_half_its_energy() -> None:
    for margin in (0.5, 1.0, 10.0, 100.0):
        objective = EnergyMargin(margin=margin)
        assert objective.boundary is not None
        assert -torch.nn.functional.logsigmoid(doubles([objective.boundary])).item() == pytest.approx(margin / 2)


@pytest.mark.parametrize("margin", [0.0, -1.0, 101.0])
def test_a_margin_out_of_range_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        EnergyMargin(margin=margin)


def test_the_relativistic_pairs_are_not_the_difference_of_means() -> None:
    real, fake = doubles([3.0, -3.0]), doubles([-3.0, 3.0])
    assert RelativisticPaired().discriminator_loss(real, fake).item() == pytest.approx(
        0.5 * (math.log1p(math.exp(-6.0)) + math.log1p(math.exp(6.0)))
    )


def test_minimax_saturates_where_non_saturating_does_not() -> None:
    sure = torch.tensor([-12.0], dtype=torch.float64, requires_grad=True)
    slopes = []
    for objective in (Minimax(), NonSaturating()):
        (slope,) = torch.autograd.grad(objective.generator_loss(sure), sure)
        slopes.append(slope.item())
    assert slopes[0] == pytest.approx(-sigmoid(-12.0), rel=1e-9)
    assert slopes[1] == pytest.approx(-sigmoid(12.0), rel=1e-9)


def test_label_smoothing_is_one_sided_and_leaves_the_generator_alone() -> None:
    smooth, plain = NonSaturating(label_smoothing=0.2), NonSaturating()
    best = doubles([math.log(0.8 / 0.2)]).requires_grad_()  # where sigmoid is 1 - s
    fake = doubles([-1.0]).requires_grad_()
    slope_real, slope_fake = torch.autograd.grad(smooth.discriminator_loss(best, fake), (best, fake))
    assert slope_real.item() == pytest.approx(0.0, abs=1e-12)
    assert slope_fake.item() == pytest.approx(sigmoid(-1.0), rel=1e-12)
    assert torch.equal(smooth.generator_loss(fake), plain.generator_loss(fake))


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_label_smoothing_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="label_smoothing"):
        NonSaturating(label_smoothing=value)


def test_least_squares_with_one_target_for_both_is_refused() -> None:
    with pytest.raises(ValueError, match="are both"):
        LeastSquares(a=1.0)


# ------------------------------------------------------------------ the contract


@pytest.mark.parametrize("name", objectives.names())
def test_registered_objectives_keep_the_contract(name: str) -> None:
    built = objectives.get(name)
    hints = get_type_hints(built.__init__, include_extras=True)
    for parameter in list(inspect.signature(built).parameters.values()):
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default is not inspect.Parameter.empty
        assert parameter.name in hints
    objective = built()
    assert isinstance(objective, Objective)
    assert not objective.paired or objective.generator_uses_real


def test_only_wasserstein_needs_a_bounded_slope() -> None:
    needing = [name for name in objectives.names() if objectives.get(name).needs_bounded_slope]
    assert needing == ["wasserstein"]
