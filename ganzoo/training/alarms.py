"""Alarms: what often goes wrong in adversarial training, said in words, with what to try.

    discriminator_wins    D tells real from fake almost without error, for long
    collapse              the samples of the fixed z become alike
    vanishing_gradient    hardly any gradient reaches G, for long

Each is raised once; it can be raised again only after things were well in between. What is remembered is a few numbers, which
go into checkpoints, so that a resumed training raises what a straight one raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ganzoo.training.events import Alarm, Event, Samples, Tick

GRACE_STEPS = 300  # D wins and everything moves in the first steps of healthy trainings too

# Separation: the distance of the means of real and fake logits in standard deviations (d' of signal detection). It needs no threshold,
# so it means the same for every objective; D errs on a share of Φ(-d'/2) where logits are normal: 1 % at 4.7, 0.1 % at 6.2.
SEPARATION_WON = 6.0
SEPARATION_WELL = 4.5
WON_TICKS = 8  # at least so many in a row, so that no single tick decides
WON_STEPS = 500  # and over so many steps; D is often ahead for a while before G catches up

# Diversity against the largest so far and against the data's. Samples of a healthy generator stay within about 20 % of the data's.
COLLAPSE_SHARE = 0.5
COLLAPSE_SHARE_ALONE = (
    0.35  # of the largest so far, where the data's diversity is unknown: noise early on can be very diverse
)
COLLAPSE_WELL = 0.65
COLLAPSE_GRIDS = 2  # in a row

# G's gradient norm against the largest of its running (geometric) mean; in healthy trainings it stays within a factor of 30.
VANISHED_SHARE = 1e-3
VANISHED_NORM = 1e-7  # below this nothing is learnt, whatever was before
VANISHED_WELL = 1e-2
VANISHED_TICKS = 5
VANISHED_STEPS = 200
GRADIENT_MEMORY = 0.8  # a tick's weight in the running mean is 1 - 0.8


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
        """Return whether to raise now. Between bad and well nothing is forgotten of an alarm, but the count begins anew."""
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
        critic: whether D is a critic of the Wasserstein kind (`Objective.needs_bounded_slope`): it is meant to win, so
            `discriminator_wins` is not raised.
    """

    NAMES: ClassVar[tuple[str, ...]] = ("discriminator_wins", "collapse", "vanishing_gradient")

    def __init__(self, data_diversity: float | None = None, *, critic: bool = False) -> None:
        self.data_diversity = data_diversity
        self.critic = critic
        self._won = _Watch(WON_TICKS, WON_STEPS)
        self._collapsed = _Watch(COLLAPSE_GRIDS, 0)
        self._vanished = _Watch(VANISHED_TICKS, VANISHED_STEPS)
        self._diversity = 0.0  # the largest so far
        self._gradient = 0.0  # the running mean; 0: none yet
        self._largest_gradient = 0.0

    def __call__(self, event: Event) -> list[Alarm]:
        """Return the alarms that an event gives cause for, at the event's step; none for other events than ticks and samples."""
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
            watch.count = int(state[f"{name}.count"])
            watch.since = int(state[f"{name}.since"])
            watch.raised = bool(state[f"{name}.raised"])

    def _watches(self) -> dict[str, _Watch]:
        return dict(zip(self.NAMES, (self._won, self._collapsed, self._vanished), strict=True))

    def _discriminator_wins(self, tick: Tick) -> Alarm | None:
        if self.critic or tick.step < GRACE_STEPS:
            return None
        value = tick.statistics
        gap = value["logits/real"] - value["logits/fake"]
        deviation = math.sqrt(0.5 * (value["logits/real_std"] ** 2 + value["logits/fake_std"] ** 2))
        separation = gap / max(deviation, 1e-12)
        if not self._won.look(tick.step, bad=separation >= SEPARATION_WON, well=separation < SEPARATION_WELL):
            return None
        return Alarm(
            tick.step,
            tick.kimg,
            "discriminator_wins",
            f"For {tick.step - self._won.since:,} steps the discriminator has told real from fake almost without error: "
            f"logits {value['logits/real']:.1f} and {value['logits/fake']:.1f}, {separation:.1f} standard deviations "
            f"apart; right on {value['accuracy/real']:.1%} of real and {value['accuracy/fake']:.1%} of fake images; "
            f"generator's loss {value['loss/generator']:.2f}.",
            "Try a lower learning rate for the discriminator ([optimizer.discriminator] lr), a gradient penalty on real "
            'images ([[penalty]] where = "real", rule = "zero_centered"), label_smoothing = 0.1, a wider generator, or '
            "more data where there is little.",
        )

    def _vanishing_gradient(self, tick: Tick) -> Alarm | None:
        norm = tick.statistics["gradient/generator"]
        if not math.isfinite(norm):
            return None
        tiny = max(norm, 1e-30)
        self._gradient = (
            tiny if self._gradient == 0.0 else self._gradient**GRADIENT_MEMORY * tiny ** (1.0 - GRADIENT_MEMORY)
        )
        self._largest_gradient = max(self._largest_gradient, self._gradient)
        share = self._gradient / self._largest_gradient
        if tick.step < GRACE_STEPS:
            return None
        bad = norm < VANISHED_NORM or (share < VANISHED_SHARE and norm < VANISHED_SHARE * self._largest_gradient)
        if not self._vanished.look(tick.step, bad=bad, well=share > VANISHED_WELL and norm > 10 * VANISHED_NORM):
            return None
        return Alarm(
            tick.step,
            tick.kimg,
            "vanishing_gradient",
            f"For {tick.step - self._vanished.since:,} steps hardly any gradient has reached the generator: its norm is "
            f"{norm:.1e}, and was {self._largest_gradient:.1e}; generator's loss "
            f"{tick.statistics['loss/generator']:.2f}.",
            "The discriminator may be too sure: try the objective non_saturating or hinge instead of minimax, a lower "
            "learning rate for the discriminator, a gradient penalty; or the generator's tanh is saturated: try a lower "
            "learning rate for the generator, and start again from an earlier checkpoint.",
        )

    def _collapse(self, samples: Samples) -> Alarm | None:
        if samples.step < GRACE_STEPS:
            return None
        now, data = samples.diversity, self.data_diversity
        self._diversity = max(self._diversity, now)
        # Against the data alone it could be a generator that has not yet learnt much, against the maximum alone noise that went away.
        level = COLLAPSE_SHARE_ALONE * self._diversity if data is None else COLLAPSE_SHARE * min(self._diversity, data)
        well = level * COLLAPSE_WELL / COLLAPSE_SHARE
        if not self._collapsed.look(samples.step, bad=now < level, well=now >= well):
            return None
        known = "" if data is None else f"; that of real images is {data:.3f}"
        return Alarm(
            samples.step,
            samples.kimg,
            "collapse",
            f"The samples of the fixed z have become alike: their diversity is {now:.3f}, and was {self._diversity:.3f}"
            f"{known}.",
            'Go back to an earlier checkpoint and try a gradient penalty on real images ([[penalty]] where = "real", '
            'rule = "zero_centered"), the objective relativistic with it, lower learning rates, or a larger batch.',
        )
