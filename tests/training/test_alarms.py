"""Alarms on histories that must raise them and on histories that must not."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from ganzoo.objectives.adversarial import (
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticPaired,
    Wasserstein,
)
from ganzoo.objectives.contract import Objective
from ganzoo.training.alarms import GRACE_STEPS, WON_STEPS, Alarms, loss_bounds
from ganzoo.training.events import Alarm, Checkpoint, Event, Samples, Tick

EVERY = 50  # steps a tick


def tick(
    step: int,
    *,
    real: float = 0.7,
    fake: float = -0.7,
    deviation: float = 0.6,
    gradient: float = 3.0,
    loss: float = 1.2,
) -> Tick:
    statistics = {
        "loss/discriminator": 0.9,
        "loss/generator": loss,
        "logits/real": real,
        "logits/fake": fake,
        "logits/real_std": deviation,
        "logits/fake_std": deviation,
        "accuracy/real": 0.9,
        "accuracy/fake": 0.9,
        "gradient/generator": gradient,
        "gradient/discriminator": 1.0,
    }
    return Tick(step, step * 0.064, statistics, 1000.0, 1.0)


def samples(step: int, diversity: float) -> Samples:
    return Samples(step, step * 0.064, Path("grid.png"), np.zeros((2, 4, 4, 1), dtype=np.uint8), diversity)


def raised(alarms: Alarms, events: Iterable[Event]) -> list[tuple[int, str]]:
    return [(alarm.step, alarm.name) for event in events for alarm in alarms(event)]


def ticks(first: int, last: int, **values: float) -> list[Event]:
    return [tick(step, **values) for step in range(first, last + 1, EVERY)]


# ------------------------------------------------------------------ D wins

# Mean logits and their deviation, as measured in small trainings that D won by a higher learning rate and healthy ones.
WON: list[tuple[Objective, float, float, float]] = [
    (NonSaturating(), 12.0, -9.2, 2.3),
    (Minimax(), 15.0, -11.2, 2.0),
    (Hinge(), 2.9, -2.0, 0.35),
    (LeastSquares(), 1.0, 0.02, 0.02),
    (LeastSquares(a=-1.0, b=1.0, c=0.0), 1.0, -0.98, 0.05),
    (RelativisticPaired(), 9.0, -2.0, 1.8),
    (NonSaturating(label_smoothing=0.1), 2.2, -9.0, 0.8),
]
HEALTHY: list[tuple[Objective, float, float, float]] = [
    (NonSaturating(), 1.4, -1.4, 0.45),  # batch norm in D: 6.2 deviations apart, and healthy
    (NonSaturating(), 6.0, -6.0, 6.0),  # sure of many, wrong on some
    (Hinge(), 0.0, -0.3, 0.35),
    (LeastSquares(), 0.6, 0.4, 0.14),
    (RelativisticPaired(), 2.0, 0.5, 1.0),
    (NonSaturating(label_smoothing=0.1), 1.5, -1.5, 0.8),
    (Wasserstein(), 40.0, -40.0, 3.0),  # a critic is meant to win
]


def name_of(case: object) -> str:
    return type(case).__name__ if isinstance(case, Objective) else str(case)


@pytest.mark.parametrize(("objective", "real", "fake", "deviation"), WON, ids=name_of)
def test_it_is_told_once_when_the_discriminator_wins(
    objective: Objective, real: float, fake: float, deviation: float
) -> None:
    alarms = Alarms(objective=objective)
    found = raised(alarms, ticks(EVERY, 4000, real=real, fake=fake, deviation=deviation))
    assert found == [(GRACE_STEPS + WON_STEPS, "discriminator_wins")]


@pytest.mark.parametrize(("objective", "real", "fake", "deviation"), HEALTHY, ids=name_of)
def test_a_healthy_training_raises_nothing(objective: Objective, real: float, fake: float, deviation: float) -> None:
    rng = np.random.default_rng(0)
    events: list[Event] = []
    for step in range(EVERY, 20_000, EVERY):
        wobble = float(np.exp(rng.normal(0, 0.15)))
        gradient = float(np.exp(rng.normal(0, 1.0)))
        events.append(
            tick(step, real=real * wobble, fake=fake * wobble, deviation=deviation * wobble, gradient=gradient)
        )
        if step % 500 == 0:
            events.append(samples(step, 0.55 * (1 - math.exp(-step / 1000)) * float(np.exp(rng.normal(0, 0.1)))))
    assert raised(Alarms(0.55, objective=objective), events) == []


def test_a_discriminator_ahead_for_a_while_is_no_alarm() -> None:
    ahead = ticks(EVERY, GRACE_STEPS + WON_STEPS - EVERY, real=9.0, fake=-9.0, deviation=1.0)
    after = ticks(GRACE_STEPS + WON_STEPS, 3000)
    assert raised(Alarms(), ahead + after) == []


def test_it_is_told_again_only_after_things_were_well() -> None:
    alarms = Alarms()
    won = {"real": 9.0, "fake": -9.0, "deviation": 1.0}
    neither = {"real": 4.2, "fake": -4.2, "deviation": 1.0}  # less sure than to raise it, more than to take it back
    assert len(raised(alarms, ticks(EVERY, 1000, **won))) == 1
    assert raised(alarms, ticks(1050, 2000, **neither) + ticks(2050, 4000, **won)) == []
    assert len(raised(alarms, ticks(4050, 4200) + ticks(4250, 6000, **won))) == 1


def test_the_alarm_says_numbers_and_what_to_try() -> None:
    alarms = Alarms()
    found = [
        alarm for event in ticks(EVERY, 1000, real=9.25, fake=-8.5, deviation=1.0, loss=8.51) for alarm in alarms(event)
    ]
    (alarm,) = found
    assert isinstance(alarm, Alarm)
    assert alarm.kimg == pytest.approx(alarm.step * 0.064)
    for number in (f"For {WON_STEPS} steps", "9.2 for real", "-8.5 for fake", "17.8 standard deviations", "8.51"):
        assert number in alarm.message
    for advice in ("lower learning rate", "label_smoothing", "[[penalty]]"):
        assert advice in alarm.advice
    assert "\n" not in alarm.message + alarm.advice


@pytest.mark.parametrize(
    ("objective", "least", "ignorant"),
    [
        (NonSaturating(), 0.0, 2 * math.log(2)),
        (Minimax(), 0.0, 2 * math.log(2)),
        (Hinge(), 0.0, 2.0),
        (LeastSquares(), 0.0, 0.25),
        (LeastSquares(a=-1.0, b=1.0, c=0.0), 0.0, 1.0),
        (RelativisticPaired(), 0.0, math.log(2)),
    ],
    ids=name_of,
)
def test_what_a_discriminator_can_lose_is_known(objective: Objective, least: float, ignorant: float) -> None:
    assert loss_bounds(objective) == pytest.approx((least, ignorant), abs=1e-6)


def test_with_label_smoothing_the_least_loss_is_the_labels_entropy() -> None:
    least, ignorant = loss_bounds(NonSaturating(label_smoothing=0.1))
    assert least == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1), abs=1e-3)
    assert least < ignorant < 2 * math.log(2)


# ------------------------------------------------------------------ collapse


def test_a_fall_of_diversity_is_told_with_the_second_grid() -> None:
    history = [samples(step, 0.5) for step in range(500, 5001, 500)] + [samples(5500, 0.2), samples(6000, 0.2)]
    alarms = Alarms(0.55)
    found = [alarm for event in history for alarm in alarms(event)]
    assert [(alarm.step, alarm.name) for alarm in found] == [(6000, "collapse")]
    assert "0.200, and was 0.500; that of real images is 0.550" in found[0].message
    assert raised(alarms, [samples(step, 0.1) for step in range(6500, 9000, 500)]) == []


def test_a_single_dip_or_a_slow_start_is_no_collapse() -> None:
    assert raised(Alarms(0.55), [samples(500, 0.5), samples(1000, 0.2), samples(1500, 0.5), samples(2000, 0.2)]) == []
    slow = [samples(step, 0.02 + 0.5 * step / 20_000) for step in range(0, 20_000, 500)]
    assert raised(Alarms(0.55), slow) == []
    assert raised(Alarms(), slow) == []


def test_noise_early_on_that_goes_away_is_no_collapse_where_the_data_are_known() -> None:
    history = [samples(0, 1.3), samples(500, 1.2), *(samples(step, 0.5) for step in range(1000, 5000, 500))]
    assert raised(Alarms(0.55), history) == []


def test_the_noise_of_an_untrained_generator_is_no_level_to_fall_from() -> None:
    first = [samples(step, 1.4) for step in range(0, GRACE_STEPS, 100)]
    assert raised(Alarms(), first + [samples(step, 0.4) for step in range(GRACE_STEPS, 5000, 500)]) == []


def test_without_the_datas_diversity_a_deeper_fall_is_needed() -> None:
    before = [samples(step, 0.6) for step in range(500, 3000, 500)]
    assert raised(Alarms(), before + [samples(step, 0.25) for step in range(3000, 6000, 500)]) == []
    assert raised(Alarms(), before + [samples(step, 0.2) for step in range(3000, 6000, 500)]) == [(3500, "collapse")]


def test_a_generator_that_never_drew_different_images_is_told_of() -> None:
    alike = [samples(step, 0.004 + step * 1e-5) for step in range(0, 2001, 100)]
    assert raised(Alarms(0.67), alike) == [(700, "collapse")]  # from step 300 on
    assert raised(Alarms(), alike) == []  # noise and beginnings look like that where nothing is known of the data


def test_a_slow_beginner_and_alike_samples_that_spread_in_time_are_no_collapse() -> None:
    assert raised(Alarms(0.67), [samples(step, 0.07) for step in range(0, 5001, 100)]) == []
    spreading = [samples(step, 0.004 if step < 600 else 0.3) for step in range(0, 5001, 100)]
    assert raised(Alarms(0.67), spreading) == []


def test_alike_samples_are_counted_on_after_a_resume_and_old_states_are_read() -> None:
    alike = [samples(step, 0.004) for step in range(0, 2001, 100)]
    first, second = Alarms(0.67), Alarms(0.67)
    assert raised(first, alike[:6]) == []
    second.load(first.state())
    assert raised(second, alike[6:]) == [(700, "collapse")]
    older = {name: value for name, value in first.state().items() if "alike" not in name}
    third = Alarms(0.67)
    third.load(older)
    assert third.state()["collapse.alike.count"] == 0


def test_a_collapse_after_a_recovery_is_told_again() -> None:
    levels = [0.5, 0.5, 0.1, 0.1, 0.28, 0.1, 0.1, 0.5, 0.1, 0.1]  # 0.28: above the level of 0.25, not well yet
    history = [samples(500 * (index + 1), level) for index, level in enumerate(levels)]
    assert raised(Alarms(0.55), history) == [(2000, "collapse"), (5000, "collapse")]


# ------------------------------------------------------------------ vanishing gradients


def test_a_gradient_that_dies_away_is_told_once() -> None:
    events = [tick(step, gradient=3.0 * math.exp(-step / 150)) for step in range(EVERY, 4000, EVERY)]
    found = raised(Alarms(), events)
    assert [name for _, name in found] == ["vanishing_gradient"]
    assert 900 < found[0][0] < 1500


def test_a_gradient_of_zero_from_the_beginning_is_told() -> None:
    assert [name for _, name in raised(Alarms(), ticks(EVERY, 2000, gradient=0.0))] == ["vanishing_gradient"]


def test_spikes_and_a_slow_decline_of_the_gradient_are_no_alarm() -> None:
    spikes = [tick(step, gradient=300.0 if step % 1000 == 0 else 1.0) for step in range(EVERY, 10_000, EVERY)]
    assert raised(Alarms(), spikes) == []
    decline = [tick(step, gradient=10.0 * 0.05 ** (step / 10_000)) for step in range(EVERY, 10_000, EVERY)]
    assert raised(Alarms(), decline) == []


def test_numbers_that_are_not_finite_raise_nothing_and_poison_nothing() -> None:
    alarms = Alarms(0.5)
    bad = float("nan")
    assert raised(alarms, ticks(EVERY, 2000, real=bad, fake=bad, deviation=bad, gradient=bad)) == []
    assert all(math.isfinite(number) for number in alarms.state().values())


# ------------------------------------------------------------------ resume


def mixed() -> list[Event]:
    events: list[Event] = []
    for step in range(EVERY, 6000, EVERY):
        late = step > 1500
        events.append(
            tick(step, real=9.0 if late else 0.7, fake=-9.0 if late else -0.7, gradient=1e-5 if late else 2.0)
        )
        if step % 200 == 0:
            events.append(samples(step, 0.1 if step > 3000 else 0.5))
    return events


@pytest.mark.parametrize("cut", [1, 40, 47, 60, 100])
def test_a_resumed_training_raises_what_a_straight_one_raises(cut: int) -> None:
    events = mixed()
    straight = raised(Alarms(0.55), events)
    assert {name for _, name in straight} == set(Alarms.NAMES)
    before, after = Alarms(0.55), Alarms(0.55)
    found = raised(before, events[:cut])
    after.load(json.loads(json.dumps(before.state())))
    assert after.state() == before.state()
    assert found + raised(after, events[cut:]) == straight


def test_a_state_that_is_not_whole_is_refused() -> None:
    state = Alarms().state()
    del state["collapse.since"]
    with pytest.raises(KeyError, match="since"):
        Alarms().load(state)


def test_other_events_change_nothing() -> None:
    alarms = Alarms()
    before = alarms.state()
    assert alarms(Checkpoint(9999, 1.0, Path("c"), 1)) == []
    assert alarms.state() == before
