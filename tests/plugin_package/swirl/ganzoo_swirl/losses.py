"""An objective and a penalty of one's own."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from ganzoo.objectives.contract import Objective, Penalty, PenaltyInputs, check_logits


class Margin(Objective):
    """Logits should pass a margin: D minimises E sp(m - r) + E sp(m + f), G minimises E sp(-f).

    Args:
        margin: m.
    """

    def __init__(self, *, margin: Annotated[float, Field(ge=0)] = 1.0) -> None:
        self.margin = margin

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return D's loss."""
        real, fake = check_logits(self.paired, real=real, fake=fake)
        return softplus(self.margin - real).mean() + softplus(self.margin + fake).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return G's loss."""
        (fake,) = check_logits(self.paired, fake=fake)
        return softplus(-fake).mean()


class Spread(Penalty):
    """The squared slope of D at real images, each channel's share counted alike."""

    @property
    def name(self) -> str:
        """The penalty's name in statistics."""
        return "swirl_spread"

    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        """Return the penalty of each sample, (batch,)."""
        (slope,) = torch.autograd.grad(inputs.real_logits.sum(), inputs.real, create_graph=True)
        return slope.float().square().mean(dim=1).flatten(1).sum(dim=1)
