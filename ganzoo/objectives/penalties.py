"""Gradient penalties: where the discriminator's gradient is taken × what its norm should be.

With g the gradient of an image's logit with respect to that image, and ‖g‖ its Euclidean norm over channels and
pixels, of each sample by itself:

    where           at which images x
    real            real images
    fake            generated images
    line            real + u (fake - real), u uniform on (0, 1), one a sample
    around_real     real images with noise

    rule            penalty of a sample
    zero_centered   ‖g‖²
    one_centered    (‖g‖ - 1)²
    lipschitz       max(0, ‖g‖ - 1)²

Known under these names: R1 = real × zero_centered and R2 = fake × zero_centered (Mescheder et al. 2018, eqs. 9 and 10,
with gamma / 2 as the weight), WGAN-GP = line × one_centered with weight 10 (Gulrajani et al. 2017, eq. 3), WGAN-LP =
line × lipschitz (Petzka et al. 2018), DRAGAN = around_real × one_centered with weight 10 (Kodali et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import relu

from ganzoo.objectives.contract import Penalty, PenaltyInputs, upcast
from ganzoo.randomness import Draws, Stream

DRAGAN_NOISE = 0.5  # share of an image's standard deviation, from the authors' code


class GradientPenalty(Penalty):
    """A penalty on the norm of the discriminator's gradient with respect to the image; this module's tables say which.

    `around_real` moves a real image x to x + u · 0.5 · s · v, with s the standard deviation of x over its channels and
    pixels, u uniform on (0, 1) for the sample and v uniform on (0, 1) for each element. So do the authors of DRAGAN in
    their code (their paper has normal noise of a fixed variance), except that they take s over the batch: here it is
    each image's own, so that a sample's penalty does not hang on its batch-mates.

    Args:
        where: at which images the gradient is taken.
        rule: what is asked of its norm.
    """

    capturable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        where: Literal["real", "fake", "line", "around_real"] = "real",
        rule: Literal["zero_centered", "one_centered", "lipschitz"] = "zero_centered",
    ) -> None:
        if where not in _PLACES:
            raise ValueError(f"where is one of {', '.join(_PLACES)}, not {where!r}")
        if rule not in _RULES:
            raise ValueError(f"rule is one of {', '.join(_RULES)}, not {rule!r}")
        self.where = where
        self.rule = rule

    @property
    def name(self) -> str:
        """The penalty's name in statistics: "<where>_<rule>"."""
        return f"{self.where}_{self.rule}"

    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        """Return the penalty of each sample, (batch,), unweighted: the weight multiplies its mean.

        Raises:
            ValueError: images that are not (batch, C, H, W), logits that are not (batch,), unlike batches on the line.
        """
        if self.where == "real":
            image, logits = inputs.real, inputs.real_logits
        elif self.where == "fake":
            image, logits = inputs.fake, inputs.fake_logits
        else:
            image = images_at(self.where, inputs.real, inputs.fake, inputs.draws).requires_grad_()
            logits = inputs.discriminate(image)
        return self.of_gradient(gradient_of(logits, image))

    def of_gradient(self, gradient: Tensor) -> Tensor:
        """Return the penalty of each sample, (batch,), unweighted, of the gradients of their logits.

        Args:
            gradient: (batch, C·H·W), as `gradient_of` returns it.
        """
        return _RULES[self.rule](gradient)


def images_at(where: str, real: Tensor, fake: Tensor, draws: Draws) -> Tensor:
    """Return the images at which the gradient is taken, (batch, C, H, W), without a graph.

    Args:
        where: one of this module's first table.
        real: (batch, C, H, W).
        fake: likewise.
        draws: of the real images' samples.

    Raises:
        ValueError: unlike batches on the line.
    """
    return _PLACES[where](real.detach(), fake.detach(), draws)


def gradient_of(logits: Tensor, image: Tensor) -> Tensor:
    """Return the gradient of each image's logit with respect to that image, (batch, C·H·W), with its own graph.

    Args:
        logits: (batch,), each of its own image only.
        image: (batch, C, H, W), from which they were computed.

    Raises:
        ValueError: other shapes.
    """
    if image.ndim != 4 or logits.shape != image.shape[:1]:
        raise ValueError(
            f"a gradient penalty needs images (batch, C, H, W) and one logit an image; they are {tuple(image.shape)} "
            f"and {tuple(logits.shape)}"
        )
    # The sum's gradient is each logit's own where no logit depends on another image; the sum's rounding is no matter.
    (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
    return upcast(gradient).flatten(1)


def _line(real: Tensor, fake: Tensor, draws: Draws) -> Tensor:
    if real.shape != fake.shape:
        raise ValueError(
            f"the line from real to fake images needs as many of both; they are {tuple(real.shape)} and "
            f"{tuple(fake.shape)}"
        )
    mix = draws.uniform(1, 1, 1, stream=Stream.PENALTY).to(real.dtype)  # (batch, 1, 1, 1)
    return real + mix * (fake - real)


def _around_real(real: Tensor, _fake: Tensor, draws: Draws) -> Tensor:
    numbers = draws.uniform(1 + prod(real.shape[1:]), stream=Stream.PENALTY).to(real.dtype)  # (batch, 1 + C·H·W)
    spread = real.flatten(1).std(dim=1, correction=0, keepdim=True)  # (batch, 1)
    noise = numbers[:, :1] * DRAGAN_NOISE * spread * numbers[:, 1:]
    return real + noise.view_as(real)


def _zero_centered(gradient: Tensor) -> Tensor:
    return gradient.square().sum(dim=1)


def _one_centered(gradient: Tensor) -> Tensor:
    return (_norm(gradient) - 1.0).square()


def _lipschitz(gradient: Tensor) -> Tensor:
    return relu(_norm(gradient) - 1.0).square()


def _norm(gradient: Tensor) -> Tensor:
    # vector_norm's own derivative is 0 at the zero vector, where that of sqrt(sum of squares) is NaN.
    norm: Tensor = torch.linalg.vector_norm(gradient, dim=1)
    return norm


_PLACES: dict[str, Callable[[Tensor, Tensor, Draws], Tensor]] = {
    "real": lambda real, _fake, _draws: real,
    "fake": lambda _real, fake, _draws: fake,
    "line": _line,
    "around_real": _around_real,
}
_RULES = {"zero_centered": _zero_centered, "one_centered": _one_centered, "lipschitz": _lipschitz}

__all__ = ["DRAGAN_NOISE", "GradientPenalty", "gradient_of", "images_at"]
