"""How likely an augmentation is to act: a number, a schedule, or ADA's rule, which follows the discriminator.

Karras et al., arXiv 2006.06676, section 3: r = E sign(D(real)) is 0 for a discriminator that generalises and 1 for one
that knows its data by heart; every few steps the probability takes a small step up where r is above its target, else
down.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ganzoo.recipes import AdaptiveProbability, Schedule, value_at


class ProbabilityControl:
    """The probability of a run's augmentation, kept on the device.

    Args:
        setting: the recipe's `augmentation.probability`.
        boundary: the logit on which an image counts as neither real nor fake; needed by the adaptive rule.
        device: where it is kept.

    Attributes:
        value: 0-d, float64, in [0, 1].
        scheduled: the schedule that it follows, if any.

    Raises:
        ValueError: the rule is adaptive, and there is no boundary.
    """

    def __init__(
        self, setting: float | Schedule | AdaptiveProbability, boundary: float | None, device: torch.device
    ) -> None:
        adaptive = setting if isinstance(setting, AdaptiveProbability) else None
        if adaptive is not None and boundary is None:
            raise ValueError(
                "an adaptive probability looks at which side of the boundary the logits of real images lie, and with "
                "this objective only differences of logits mean anything; use a number or a schedule"
            )
        self._adaptive, self._boundary = adaptive, boundary or 0.0
        self.scheduled = setting if isinstance(setting, Schedule) else None
        first = adaptive.start if adaptive else 0.0 if self.scheduled else setting
        assert isinstance(first, float | int)
        self.value = torch.full((), float(first), dtype=torch.float64, device=device)
        self._signs = torch.zeros(2, dtype=torch.float64, device=device)  # sum of the signs, number of logits

    def schedule(self, kimg: float) -> None:
        """Set the value that a schedule has after so many thousands of images."""
        if self.scheduled is not None:
            self.value.fill_(value_at(self.scheduled, kimg))

    def observe(self, real_logits: torch.Tensor) -> None:
        """Remember what the discriminator said of real images, (batch,)."""
        if self._adaptive is not None:
            signs = (real_logits.detach().double() - self._boundary).sign()
            self._signs += torch.stack((signs.sum(), torch.ones_like(signs).sum()))

    def adapts(self, number: int) -> bool:
        """Return whether it is a step's turn to move the probability; `number` is the step's, from 0."""
        return self._adaptive is not None and (number + 1) % self._adaptive.every == 0

    def adapt(self, number: int, images: int, mean: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Move the probability, where it is adaptive and this step's turn.

        Args:
            number: of the step, from 0.
            images: real images that a step draws.
            mean: a tensor → its mean over all processes.
        """
        rule = self._adaptive
        if rule is None or not self.adapts(number):
            return
        total, count = mean(self._signs)
        change = torch.sign(total / count.clamp(min=1.0) - rule.target) * (images * rule.every / (rule.kimg * 1000.0))
        self.value.add_(change).clamp_(0.0, 1.0)
        self._signs.zero_()

    def state(self) -> dict[str, torch.Tensor]:
        """Return what a checkpoint must hold."""
        return {"probability": self.value, "signs": self._signs}


__all__ = ["ProbabilityControl"]
