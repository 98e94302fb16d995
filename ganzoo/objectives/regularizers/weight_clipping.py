"""Weight clipping (Arjovsky et al., "Wasserstein GAN", ICML 2017, arXiv 1701.07875, algorithm 1)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from ganzoo.objectives.regularizers.contract import Regularizer


class WeightClipping(Regularizer):
    """After each of its updates, every number of the discriminator is put back into [-limit, limit].

    So its weights stay in a compact set, and its slope below a bound that depends on the layers alone. Weights with
    spectral norm are left as they are: the norm divides them by their size, so that clipping them would bound nothing,
    and bounds their layers by itself. A regularizer's own head is no part of the discriminator's judgement and is not
    clipped.

    Args:
        limit: of the absolute value; the paper's is 0.01.
    """

    capturable: ClassVar[bool] = True
    weighted: ClassVar[bool] = False
    bounds_slope: ClassVar[bool] = True

    def __init__(self, *, limit: Annotated[float, Field(gt=0)] = 0.01) -> None:
        super().__init__()
        if limit <= 0:
            raise ValueError(f"limit must be positive, not {limit}")
        self.limit = limit

    @property
    def name(self) -> str:
        """The regularizer's name in statistics."""
        return "weight_clipping"

    @torch.no_grad()
    def after_discriminator(self, discriminator: nn.Module) -> None:
        """Clip all parameters in place; see `Regularizer`."""
        for name, parameter in discriminator.named_parameters():
            if "parametrizations" not in name.split("."):
                parameter.clamp_(-self.limit, self.limit)


__all__ = ["WeightClipping"]
