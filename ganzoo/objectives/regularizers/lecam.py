"""LeCam regularization (Tseng et al., "Regularizing Generative Adversarial Networks under Limited Data", CVPR 2021,
arXiv 2104.03310, equations 5 to 7): the discriminator's logits are kept near those that it gave of late.

With r, f the logits of real and generated images and a_R, a_F the moving averages of their means:

    E max(0, r - a_F)² + E max(0, a_R - f)²
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import relu

from ganzoo.objectives.contract import check_logits
from ganzoo.objectives.regularizers.contract import DiscriminatorView, Regularizer


class LeCam(Regularizer):
    """A term of the discriminator's loss that holds its logits near the moving averages of their means.

    As in the authors' code the averages take in a batch before the term is computed with them, and up to `begin_kimg`
    they are the last batch's means. In several processes the means are those over all of them. Where a batch is split
    (`accumulate`), each part counts as a batch of its own.

    Args:
        decay: of the moving averages with each batch that the discriminator sees, in [0, 1).
        begin_kimg: thousands of real images before which the term is left out, since early averages mean little.
    """

    capturable: ClassVar[bool] = True
    anchors: Tensor
    updates: Tensor

    def __init__(
        self,
        *,
        decay: Annotated[float, Field(ge=0, lt=1)] = 0.99,
        begin_kimg: Annotated[float, Field(ge=0)] = 0.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay is in [0, 1), not {decay}")
        self.decay, self.begin_kimg = decay, begin_kimg
        self.register_buffer("anchors", torch.zeros(2))  # a_R, a_F
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def variant(self, kimg: float, batch: int) -> bool:  # noqa: ARG002
        """Return whether the term has begun; see `Regularizer`."""
        return kimg >= self.begin_kimg

    def discriminator_loss(self, view: DiscriminatorView) -> Tensor | None:
        """Return E max(0, r - a_F)² + E max(0, a_R - f)², or None before `begin_kimg`; see `Regularizer`."""
        real, fake = check_logits(False, real=view.real_logits, fake=view.fake_logits)
        begun = view.kimg >= self.begin_kimg
        with torch.no_grad():
            means = view.mean(torch.stack((real.mean(), fake.mean()))).to(self.anchors)
            # The first batch's means replace the zeros that the averages are made with.
            decay = (self.updates > 0).to(self.anchors) * (self.decay if begun else 0.0)
            self.anchors.copy_(decay * self.anchors + (1.0 - decay) * means)
            self.updates.add_(1)
        if not begun:
            return None
        of_real, of_fake = self.anchors
        return relu(real - of_fake).square().mean() + relu(of_real - fake).square().mean()


__all__ = ["LeCam"]
