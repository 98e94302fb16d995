"""How likely an augmentation is to act: numbers, schedules and ADA's rule."""

from __future__ import annotations

import pytest
import torch

from ganzoo.augmentation.probability import ProbabilityControl
from ganzoo.recipes import AdaptiveProbability, Schedule

CPU = torch.device("cpu")


def alone(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def test_a_number_stays() -> None:
    control = ProbabilityControl(0.3, None, CPU)
    control.schedule(5.0)
    control.observe(torch.ones(4))
    control.adapt(3, 100, alone)
    assert float(control.value) == 0.3


def test_a_schedule_is_followed() -> None:
    control = ProbabilityControl(Schedule(schedule="linear", start=0.0, end=0.5, kimg=10.0), None, CPU)
    control.schedule(4.0)
    assert float(control.value) == pytest.approx(0.2)


def adapted(*shares: float, **settings: float) -> list[float]:
    """Return the probability after each step, in which D calls a share of 8 real images real."""
    rule = AdaptiveProbability(**({"target": 0.6, "kimg": 1.0, "every": 2, "start": 0.1} | settings))  # type: ignore[arg-type]
    control = ProbabilityControl(rule, 0.5, CPU)
    seen = []
    for number, share in enumerate(shares):
        control.observe(torch.where(torch.arange(8) < 8 * share, 0.6, 0.4))  # on either side of the boundary, 0.5
        control.adapt(number, 8, alone)
        seen.append(float(control.value))
    return seen


def test_the_adaptive_rule_takes_one_step_up_or_down_every_so_many_steps() -> None:
    speed = 8 * 2 / 1000  # images of two steps over the kimg from 0 to 1
    # r = 2 · share - 1: 1 in the first two steps, (1 + 0) / 2 = 0.5 in the next two
    assert adapted(1.0, 1.0, 1.0, 0.5) == pytest.approx([0.1, 0.1 + speed, 0.1 + speed, 0.1])


def test_the_adaptive_rule_stays_within_0_and_1() -> None:
    assert adapted(0.0, 0.0, start=0.0)[-1] == 0.0
    assert adapted(1.0, 1.0, start=1.0)[-1] == 1.0


def test_the_adaptive_rule_means_over_all_processes() -> None:
    control = ProbabilityControl(AdaptiveProbability(target=0.6, kimg=1.0, every=1), 0.0, CPU)
    control.observe(torch.ones(4))
    # Another process saw as many images, none of which its discriminator calls real: r = 0 over both.
    control.adapt(0, 8, lambda sums: (sums + torch.tensor([-4.0, 4.0], dtype=torch.float64)) / 2)
    assert float(control.value) == 0.0


def test_what_goes_on_from_its_state_goes_on_as_it_was() -> None:
    rule = AdaptiveProbability(target=0.0, kimg=1.0, every=2)
    one, other = ProbabilityControl(rule, 0.0, CPU), ProbabilityControl(rule, 0.0, CPU)
    one.observe(torch.ones(4))
    for name, tensor in other.state().items():
        tensor.copy_(one.state()[name])
    for control in (one, other):
        control.observe(-torch.ones(3))
        control.adapt(1, 4, alone)
    assert float(one.value) == float(other.value) == pytest.approx(0.008)


def test_the_adaptive_rule_needs_a_boundary() -> None:
    with pytest.raises(ValueError, match="only differences of logits"):
        ProbabilityControl(AdaptiveProbability(), None, CPU)
