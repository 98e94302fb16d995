"""What an objective and a penalty are: the contracts that ganzoo's own and third parties' classes keep.

Both work on logits, never on probabilities, and neither calls `backward` nor touches an optimiser. Constructors take
keyword-only arguments with type annotations and defaults: the recipe's schema of `[objective]` and `[[penalty]]` is
derived from their signatures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ganzoo.randomness import Draws


class Objective(ABC):
    """Two pure functions on logits: the discriminator's loss and the generator's, both to be minimised."""

    #: Whether the generator's loss needs the logits of real images too.
    generator_uses_real: ClassVar[bool] = False
    #: Whether real image i is judged against fake image i, so that both batches must be of one size.
    paired: ClassVar[bool] = False
    #: Whether the objective means nothing unless the discriminator's slope is bounded by a penalty or by spectral norm.
    needs_bounded_slope: ClassVar[bool] = False
    #: Whether a step with it can be captured in a CUDA graph and replayed: it works on tensors alone, reads none back,
    #: and keeps no state. A class says so for itself: it is not inherited.
    capturable: ClassVar[bool] = False
    #: The logit on which an image counts as neither real nor fake; None where only differences mean anything.
    boundary: float | None = 0.0

    @abstractmethod
    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss, a 0-d tensor of at least float32.

        Args:
            real: (batch,), logits of real images.
            fake: (batch,), logits of generated images; as many as of real ones where the objective is paired.

        Raises:
            ValueError: logits that are not one number an image, or of different number where they are paired.
        """

    @abstractmethod
    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a 0-d tensor of at least float32.

        Args:
            fake: (batch,), logits of generated images.
            real: (batch,), logits of real images; needed where `generator_uses_real`, ignored elsewhere.

        Raises:
            ValueError: as for `discriminator_loss`, or `real` is needed and not given.
        """


@dataclass(frozen=True)
class PenaltyInputs:
    """What a penalty may look at.

    Args:
        discriminate: (batch, C, H, W) images → (batch,) logits; labels and augmentation are bound.
        real: (batch, C, H, W) in [-1, 1], a leaf that requires grad.
        fake: (batch, C, H, W) in [-1, 1], a leaf that requires grad.
        real_logits: (batch,), computed from `real`, with their graph.
        fake_logits: (batch,), computed from `fake`, with their graph.
        draws: random numbers keyed by the samples' numbers; a penalty draws from `Stream.PENALTY`.
    """

    discriminate: Callable[[Tensor], Tensor]
    real: Tensor
    fake: Tensor
    real_logits: Tensor
    fake_logits: Tensor
    draws: Draws


class Penalty(ABC):
    """A term of the discriminator's loss that looks at its gradient with respect to images."""

    #: Whether the discriminator must judge each image alone (no batch norm) for the penalty to be what it says.
    needs_per_sample: ClassVar[bool] = True
    #: Whether a step with it can be captured in a CUDA graph and replayed: it works on tensors alone, reads none back,
    #: and keeps no state. A class says so for itself: it is not inherited.
    capturable: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str:
        """The penalty's name in statistics, e.g. "real_zero_centered"."""

    @abstractmethod
    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        """Return the penalty of each sample, (batch,) of at least float32, unweighted, with a graph to D's parameters.

        Raises:
            ValueError: inputs of the wrong shape.
        """


def upcast(values: Tensor) -> Tensor:
    """Return the values in float32 where they are of lower precision (bfloat16, half), as they are otherwise."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def check_logits(paired: bool, **logits: Tensor) -> tuple[Tensor, ...]:
    """Return logits in at least float32, in the order given, after a look at their shapes.

    Without it (batch, 1) - (batch,) would broadcast to (batch, batch) and train on the wrong thing in silence.

    Args:
        paired: whether all must be of one length.
        logits: name → tensor that should be (batch,).

    Raises:
        ValueError: one is not one number an image, is empty, or their lengths differ where they are paired.
    """
    shapes = " and ".join(f"{name} {tuple(one.shape)}" for name, one in logits.items())
    if any(one.ndim != 1 or len(one) == 0 for one in logits.values()):
        raise ValueError(f"logits must be one number an image, of shape (batch,); they are {shapes}")
    if paired and len({len(one) for one in logits.values()}) > 1:
        raise ValueError(
            f"the objective pairs real image i with fake image i and needs as many of both; logits are {shapes}"
        )
    return tuple(upcast(one) for one in logits.values())
