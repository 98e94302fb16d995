"""Top-k training (Sinha et al., "Top-k Training of GANs", NeurIPS 2020, arXiv 2002.06224, algorithm 1)."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from ganzoo.objectives.regularizers.contract import Regularizer


class TopK(Regularizer):
    """The generator learns only from those of its images that the discriminator finds most real.

    The share of a batch that is kept falls from 1 by the factor `decay` every `decay_kimg` thousand real images, and no
    lower than `floor`: max(floor, decay^(kimg / decay_kimg)), rounded up to whole images. The paper lowers it once an
    epoch; `decay_kimg` = 50 is an epoch of CIFAR-10 where only the discriminator's update draws real images. In several
    processes, and where a batch is split, each keeps the best of its own part. Where the objective pairs real and
    generated images, the mates go with them.

    Args:
        floor: the least share, in (0, 1]: the paper's nu.
        decay: in (0, 1): the paper's gamma.
        decay_kimg: thousands of real images by which the share falls by `decay`.
    """

    capturable: ClassVar[bool] = True
    weighted: ClassVar[bool] = False

    def __init__(
        self,
        *,
        floor: Annotated[float, Field(gt=0, le=1)] = 0.5,
        decay: Annotated[float, Field(gt=0, lt=1)] = 0.99,
        decay_kimg: Annotated[float, Field(gt=0)] = 50.0,
    ) -> None:
        super().__init__()
        for key, value, possible in (("floor", floor, 0 < floor <= 1), ("decay", decay, 0 < decay < 1)):
            if not possible:
                raise ValueError(f"{key} is a share, not {value}")
        if decay_kimg <= 0:
            raise ValueError(f"decay_kimg must be positive, not {decay_kimg}")
        self.floor, self.decay, self.decay_kimg = floor, decay, decay_kimg

    @property
    def name(self) -> str:
        """The regularizer's name in statistics."""
        return "top_k"

    def share(self, kimg: float) -> float:
        """Return the share of a batch that is kept after so many thousands of real images."""
        return max(self.floor, math.pow(self.decay, kimg / self.decay_kimg))

    def variant(self, kimg: float, batch: int) -> int:
        """Return how many images of a batch are kept; see `Regularizer`."""
        return math.ceil(self.share(kimg) * batch)

    def keep(self, fake_logits: Tensor, kimg: float) -> Tensor | None:
        """Return the indices of the images with the highest logits, in their order in the batch; see `Regularizer`."""
        count = self.variant(kimg, len(fake_logits))
        if count == len(fake_logits):
            return None
        best: Tensor = fake_logits.topk(count).indices
        return best.sort().values


__all__ = ["TopK"]
