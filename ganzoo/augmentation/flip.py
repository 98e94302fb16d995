"""The mirror as an augmentation: for data that do not mind, in place of `data.mirror`, or together with a schedule."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ganzoo.augmentation.contract import Augmentation, check_inputs
from ganzoo.augmentation.uniforms import Uniforms


class Flip(Augmentation):
    """Mirrors images from left to right, each with half the probability.

    "Happening" to an image means that it is mirrored or not with equal odds, as a flip is meant in ADA: with
    probability 1 an image and its mirror image are as likely.
    """

    capturable: ClassVar[bool] = True

    @property
    def numbers(self) -> int:
        """One random number an image."""
        return 1

    def __call__(self, image: Tensor, numbers: Tensor, probability: Tensor) -> Tensor:
        """Return images, some of them mirrored; arguments and errors as in the contract."""
        check_inputs(image, numbers, self.numbers)
        return mirror(image, Uniforms(numbers, probability).happens(0.5))


def mirror(image: Tensor, chosen: Tensor) -> Tensor:
    """Return images, the chosen ones mirrored from left to right.

    Args:
        image: (batch, channels, H, W).
        chosen: (batch,) bool.
    """
    return torch.where(chosen[:, None, None, None], image.flip(-1), image)
