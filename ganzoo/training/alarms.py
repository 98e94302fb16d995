"""Alarms: what often goes wrong in adversarial training, said in words, with what to try.

    discriminator_wins    D tells real from fake almost without error, for long
    collapse              the samples of the fixed z become alike, or never were anything else
    vanishing_gradient    hardly any gradient reaches G, for long

Each is raised once; it can be raised again only after things were well in between. What is remembered is a few numbers,
which go into checkpoints, so that a resumed training raises what a straight one raises.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ganzoo.objectives.adversarial import NonSaturating
from ganzoo.objectives.contract import Objective
from ganzoo.training.events import Alarm, Event, Samples, Tick

# In the first steps of healthy trainings too D wins and everything moves.
GRACE_STEPS = 300

# D has won where both hold: its loss at the mean logits is hardly above the least there can be, as a share of what a D
# loses that cannot tell real from fake (for binary cross-entropy 1 % is reached at logits of 5 and -5) …
CERTAINTY_SHARE = 0.01
CERTAINTY_WELL = 0.05
# … and the means lie so many standard deviations of the logits apart (D errs on 1 % at 4.7). This alone is no sign of
# it: with batch norm in D, healthy trainings were seen at 6, because a batch of one kind gives itself away.
SEPARATION = 4.5
WON_TICKS = 5  # at least so many in a row, so that no single tick decides
WON_STEPS = 400  # and over so many steps: D is often ahead for a while before G catches up

# Diversity against the largest so far and against the data's: that of a healthy generator stays within about 20 % of
# the data's. Where the data's is unknown the bar is lower, because noise early on can be very diverse.
COLLAPSE_SHARE = 0.5
COLLAPSE_SHARE_ALONE = 0.35
COLLAPSE_WELL = 1.3  # well again at so many times the level
COLLAPSE_GRIDS = 2  # in a row
# A generator that never drew different images at all: healthy ones were seen at a third of the data's diversity after
# 150 steps, and above that ever since.
ALIKE_SHARE = 0.05
ALIKE_STEPS = 400
_ALIKE = "collapse.alike"  # what its watch is called in checkpoints

# G's gradient norm against the largest of its running (geometric) mean: healthy trainings stay within a factor of 30.
VANISHED_SHARE = 3e-3
VANISHED_NORM = 1e-7  # below this nothing is learnt, whatever was before
VANISHED_WELL = 10.0  # well again at so many times either
VANISHED_TICKS = 5
VANISHED_STEPS = 200
GRADIENT_MEMORY = 0.8  # the running mean keeps so much of itself at each tick


@dataclass
class _Watch:
    """Counts how long something has been bad in a row, and raises once.

    Args:
        ticks: raises at the earliest when it was bad so often in a row …
        steps: … and over so many steps.
    """

    ticks: int
    steps: int
    count: int = 0
    since: int = 0
    raised: bool = False

    def look(self, step: int, *, bad: bool, well: bool) -> bool:
        """Return whether to raise now. What is neither bad nor well ends a row, but takes no alarm back."""
        if self.raised:
            if well:
                self.raised, self.count = False, 0
            return False
        if not bad:
            self.count = 0
            return False
        if self.count == 0:
            self.since = step
        self.count += 1
        self.raised = self.count >= self.ticks and step - self.since >= self.steps
        return self.raised


class Alarms:
    """Watches ticks and samples, and returns the alarms that they give cause for.

    Args:
        data_diversity: `ganzoo.pictures.diversity` of as many real images as the sample grids hold; None: unknown.
        objective: the training's; None: a binary cross-entropy. A critic of the Wasserstein kind is meant to win, so
            `discriminator_wins` is never raised for an objective that `needs_bounded_slope`.
    """

    NAMES: ClassVar[tuple[str, ...]] = ("discriminator_wins", "collapse", "vanishing_gradient")

    def __init__(self, data_diversity: float | None = None, *, objective: Objective | None = None) -> None:
        self.data_diversity = data_diversity
        self.objective = objective or NonSaturating()
        least, ignorant = (0.0, 0.0) if self.objective.needs_bounded_slope else loss_bounds(self.objective)
        self._bounds = (least, ignorant) if least < ignorant else None  # None: D cannot win
        self._won = _Watch(WON_TICKS, WON_STEPS)
        self._collapsed = _Watch(COLLAPSE_GRIDS, 0)
        self._alike = _Watch(COLLAPSE_GRIDS, ALIKE_STEPS)
        self._vanished = _Watch(VANISHED_TICKS, VANISHED_STEPS)
        self._diversity = 0.0  # the largest so far
        self._gradient = 0.0  # the running mean; 0: none yet
        self._largest_gradient = 0.0

    def __call__(self, event: Event) -> list[Alarm]:
        """Return the alarms that an event gives cause for, at the event's step; only ticks and samples give any."""
        if isinstance(event, Tick):
            return [alarm for alarm in (self._discriminator_wins(event), self._vanishing_gradient(event)) if alarm]
        if isinstance(event, Samples):
            alarm = self._collapse(event)
            return [alarm] if alarm else []
        return []

    def state(self) -> dict[str, float]:
        """Return all that is remembered, as numbers that JSON holds exactly."""
        numbers: dict[str, float] = {
            "diversity": self._diversity,
            "gradient": self._gradient,
            "largest_gradient": self._largest_gradient,
        }
        for name, watch in self._watches().items():
            numbers |= {
                f"{name}.count": watch.count,
                f"{name}.since": watch.since,
                f"{name}.raised": int(watch.raised),
            }
        return numbers

    def load(self, state: Mapping[str, float]) -> None:
        """Go on from what `state` returned.

        Raises:
            KeyError: something is missing from it.
        """
        self._diversity = float(state["diversity"])
        self._gradient = float(state["gradient"])
        self._largest_gradient = float(state["largest_gradient"])
        for name, watch in self._watches().items():
            if name == _ALIKE and f"{name}.count" not in state:
                continue  # of a checkpoint from before this was watched
            watch.count = int(state[f"{name}.count"])
            watch.since = int(state[f"{name}.since"])
            watch.raised = bool(state[f"{name}.raised"])

    def _watches(self) -> dict[str, _Watch]:
        watches = (self._won, self._collapsed, self._vanished, self._alike)
        return dict(zip((*self.NAMES, _ALIKE), watches, strict=True))

    def _discriminator_wins(self, tick: Tick) -> Alarm | None:
        if self._bounds is None or tick.step < GRACE_STEPS:
            return None
        value = tick.statistics
        real, fake = value["logits/real"], value["logits/fake"]
        deviation = math.sqrt(0.5 * (value["logits/real_std"] ** 2 + value["logits/fake_std"] ** 2))
        separation = (real - fake) / max(deviation, 1e-12)
        least, ignorant = self._bounds
        share = (_loss(self.objective, real, fake) - least) / (ignorant - least)
        bad = share <= CERTAINTY_SHARE and separation >= SEPARATION
        if not self._won.look(tick.step, bad=bad, well=share > CERTAINTY_WELL):
            return None
        return Alarm(
            tick.step,
            tick.kimg,
            "discriminator_wins",
            f"For {tick.step - self._won.since:,} steps the discriminator has told real from fake almost without "
            f"error: its logits are {real:.1f} for real and {fake:.1f} for fake images, {separation:.1f} standard "
            f"deviations apart; losses {value['loss/discriminator']:.3f} and {value['loss/generator']:.2f} "
            "(discriminator, generator).",
            "Try a lower learning rate for the discriminator ([optimizer.discriminator] lr), label smoothing with the "
            "objective non_saturating (label_smoothing = 0.1), a gradient penalty on real images ([[penalty]] "
            'where = "real", rule = "zero_centered"; no batch norm in the discriminator), or a wider generator.',
        )

    def _vanishing_gradient(self, tick: Tick) -> Alarm | None:
        norm = tick.statistics["gradient/generator"]
        if not math.isfinite(norm):
            return None
        tiny = max(norm, 1e-30)
        before = self._gradient or tiny
        self._gradient = before**GRADIENT_MEMORY * tiny ** (1.0 - GRADIENT_MEMORY)
        self._largest_gradient = max(self._largest_gradient, self._gradient)
        if tick.step < GRACE_STEPS:
            return None
        level = max(VANISHED_SHARE * self._largest_gradient, VANISHED_NORM)
        bad = max(norm, self._gradient) < level
        if not self._vanished.look(tick.step, bad=bad, well=min(norm, self._gradient) > VANISHED_WELL * level):
            return None
        return Alarm(
            tick.step,
            tick.kimg,
            "vanishing_gradient",
            f"For {tick.step - self._vanished.since:,} steps hardly any gradient has reached the generator: its norm "
            f"is {norm:.1e}, and was {self._largest_gradient:.1e}; generator's loss "
            f"{tick.statistics['loss/generator']:.2f}.",
            "The discriminator may be too sure: try the objective non_saturating or hinge where it is minimax, a lower "
            "learning rate for the discriminator, a gradient penalty. Or the generator's output is saturated: go back "
            "to an earlier checkpoint and try a lower learning rate for the generator.",
        )

    def _collapse(self, samples: Samples) -> Alarm | None:
        if samples.step < GRACE_STEPS:
            return None
        now, data = samples.diversity, self.data_diversity
        self._diversity = max(self._diversity, now)
        # Low against the data alone may be a generator that has not yet learnt much; against its own largest alone,
        # noise that has gone.
        level = COLLAPSE_SHARE_ALONE * self._diversity if data is None else COLLAPSE_SHARE * min(self._diversity, data)
        low = ALIKE_SHARE * (data or 0.0)
        never = self._alike.look(samples.step, bad=now < low, well=now >= COLLAPSE_WELL * low)
        if self._collapsed.look(samples.step, bad=now < level, well=now >= COLLAPSE_WELL * level):
            known = "" if data is None else f"; that of real images is {data:.3f}"
            said = f"have become alike: their diversity is {now:.3f}, and was {self._diversity:.3f}{known}."
        elif never and not self._collapsed.raised:
            said = (
                f"have been alike for {samples.step - self._alike.since:,} steps: their diversity is {now:.3f}, that "
                f"of real images is {data:.3f}."
            )
        else:
            return None
        return Alarm(
            samples.step,
            samples.kimg,
            "collapse",
            f"The samples of the fixed z {said}",
            'Go back to an earlier checkpoint and try a gradient penalty on real images ([[penalty]] where = "real", '
            'rule = "zero_centered"), the relativistic objective with it, lower learning rates, or a larger batch.',
        )


def loss_bounds(objective: Objective) -> tuple[float, float]:
    """Return the least a discriminator can lose under an objective, and the least when it cannot tell real from fake.

    Both by trying logits; for binary cross-entropy (0, 2 ln 2), with label smoothing the first is the entropy of the
    labels.

    Args:
        objective: one whose discriminator's loss has a least value.
    """
    logits = [*(0.25 * step for step in range(-20, 21)), -40.0, -20.0, -10.0, 10.0, 20.0, 40.0]
    least = min(_loss(objective, real, fake) for real, fake in itertools.product(logits, logits))
    ignorant = min(_loss(objective, logit, logit) for logit in logits)
    return least, ignorant


def _loss(objective: Objective, real: float, fake: float) -> float:
    return float(objective.discriminator_loss(torch.tensor([real]), torch.tensor([fake])))
