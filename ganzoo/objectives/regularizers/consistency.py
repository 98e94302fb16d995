"""Consistency regularization: the discriminator shall judge an image as it judges its like.

With T a random flip and shift of an image and d a small random step of z:

    Consistency         D: a E (D(x) - D(T(x)))² + b E (D(G(z)) - D(T(G(z))))²
    LatentConsistency   D: c E (D(G(z)) - D(G(z + d)))²         G: -e E (G(z) - G(z + d))²

The first is bCR, with b = 0 the older CR of real images alone (Zhang et al., arXiv 1910.12027); the second is zCR; both
and the constants are those of Zhao et al., "Improved Consistency Regularization for GANs", arXiv 2002.04724. With both
together one has their ICR.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ganzoo.objectives.contract import upcast
from ganzoo.objectives.regularizers.contract import DiscriminatorView, GeneratorView, Regularizer, Surroundings
from ganzoo.randomness import Stream

Weight = Annotated[float, Field(ge=0)]


class Consistency(Regularizer):
    """A term of the discriminator's loss: how differently it judges an image and the same flipped and shifted (bCR).

    D(x) is the logit that the objective sees: where the recipe augments, that of the augmented image.

    Args:
        real_weight: a, of the term of real images.
        fake_weight: b, of the term of generated ones; 0 for the older CR.
        shift: pixels, the furthest that T moves an image along either axis; the paper's 4 are for images of 32 pixels.
    """

    capturable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        real_weight: Weight = 10.0,
        fake_weight: Weight = 10.0,
        shift: Annotated[int, Field(ge=0, le=1 << 10)] = 4,
    ) -> None:
        super().__init__()
        if not real_weight and not fake_weight:
            raise ValueError("real_weight and fake_weight are both 0: nothing is asked of the discriminator")
        self.real_weight, self.fake_weight, self.shift = real_weight, fake_weight, shift

    def prepare(self, surroundings: Surroundings) -> None:
        """Check that images can be shifted so far.

        Raises:
            ValueError: `shift` is no less than the image's side.
        """
        side = min(surroundings.image_shape[1:])
        if self.shift >= side:
            raise ValueError(f"shift (={self.shift}) must be less than the image's {side} pixels")

    def discriminator_loss(self, view: DiscriminatorView) -> Tensor | None:
        """Return a E (D(x) - D(T(x)))² + b E (D(G(z)) - D(T(G(z))))²; see `Regularizer`."""
        total = upcast(view.real_logits).new_zeros(())
        if self.real_weight:
            changed = flip_and_shift(view.real, view.reals.uniform(3, stream=Stream.CONSISTENCY_REAL), self.shift)
            total = total + self.real_weight * _distance(view.real_logits, view.judge(changed, view.real_label))
        if self.fake_weight:
            changed = flip_and_shift(view.fake, view.latents.uniform(3, stream=Stream.CONSISTENCY_FAKE), self.shift)
            total = total + self.fake_weight * _distance(view.fake_logits, view.judge(changed, view.fake_label))
        return total


class LatentConsistency(Regularizer):
    """Terms of both losses that look at what a small step of z does (zCR).

    The discriminator shall judge both images alike; the generator shall make them differ, so that it does not forget z.
    The distance of two images is the mean of their squared differences over channels and pixels. A uniform z may leave
    (-1, 1) by the step.

    Args:
        sigma: standard deviation of each number of the step d.
        discriminator_weight: c.
        generator_weight: e.
    """

    capturable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        sigma: Annotated[float, Field(gt=0)] = 0.03,
        discriminator_weight: Weight = 5.0,
        generator_weight: Weight = 0.5,
    ) -> None:
        super().__init__()
        if not discriminator_weight and not generator_weight:
            raise ValueError("discriminator_weight and generator_weight are both 0: nothing is asked of either network")
        self.sigma = sigma
        self.discriminator_weight, self.generator_weight = discriminator_weight, generator_weight

    @property
    def name(self) -> str:
        """The regularizer's name in statistics."""
        return "latent_consistency"

    def discriminator_loss(self, view: DiscriminatorView) -> Tensor | None:
        """Return c E (D(G(z)) - D(G(z + d)))², or None where c is 0; see `Regularizer`."""
        if not self.discriminator_weight:
            return None
        near = view.generate(self._step(view), view.fake_label)
        return self.discriminator_weight * _distance(view.fake_logits, view.judge(near, view.fake_label))

    def generator_loss(self, view: GeneratorView) -> Tensor | None:
        """Return -e E (G(z) - G(z + d))², or None where e is 0; see `Regularizer`."""
        if not self.generator_weight:
            return None
        near = view.generate(self._step(view), view.fake_label)
        return -self.generator_weight * _distance(view.fake, near)

    def _step(self, view: DiscriminatorView | GeneratorView) -> Tensor:
        """Return z + d."""
        noise = view.latents.normal(view.z.shape[1], stream=Stream.CONSISTENCY_LATENT)
        return view.z + self.sigma * noise.to(view.z.dtype)


def flip_and_shift(image: Tensor, numbers: Tensor, shift: int) -> Tensor:
    """Return images, each mirrored or not and moved by up to `shift` whole pixels along both axes.

    What comes in at a border is the picture mirrored at its outermost row or column, which is not repeated.

    Args:
        image: (batch, channels, H, W).
        numbers: (batch, 3), uniform on (0, 1): whether to mirror, how far along H, how far along W.
        shift: pixels, less than H and W.
    """
    height, width = image.shape[2:]
    # float32 rounds the greatest numbers below 1 up to 1.
    moves = (numbers[:, 1:] * (2 * shift + 1)).long().clamp(max=2 * shift) - shift  # (batch, 2)
    rows = _mirrored(torch.arange(height, device=image.device) + moves[:, :1], height)  # (batch, H)
    columns = _mirrored(torch.arange(width, device=image.device) + moves[:, 1:], width)  # (batch, W)
    columns = torch.where(numbers[:, :1] < 0.5, width - 1 - columns, columns)
    moved = image.gather(2, rows[:, None, :, None].expand_as(image))
    return moved.gather(3, columns[:, None, None, :].expand_as(image))


def _mirrored(index: Tensor, length: int) -> Tensor:
    """Return indices of which those just outside [0, length) are reflected at its ends."""
    last = length - 1
    return last - (last - index.abs()).abs()


def _distance(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean squared difference, 0-d of at least float32."""
    return (upcast(one) - upcast(other)).square().mean()


__all__ = ["Consistency", "LatentConsistency", "flip_and_shift"]
