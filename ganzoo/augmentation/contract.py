"""What an augmentation is: the contract that ganzoo's own and third parties' classes keep.

Constructors take keyword-only arguments with type annotations and defaults: the recipe's schema of `[augmentation]` is
derived from their signatures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor


class Augmentation(ABC):
    """A differentiable change of images, each by itself: a pure function of image, random numbers and probability.

    It has no state and reads nothing back from the device, so that a step can be repeated and captured in a CUDA graph.
    """

    #: Whether a step with it can be captured in a CUDA graph and replayed: it works on tensors alone and reads none
    #: back. A class says so for itself: it is not inherited.
    capturable: ClassVar[bool] = False

    @property
    @abstractmethod
    def numbers(self) -> int:
        """How many random numbers an image takes."""

    @abstractmethod
    def __call__(self, image: Tensor, numbers: Tensor, probability: Tensor) -> Tensor:
        """Return changed images, of the same shape and dtype, differentiable with respect to `image`.

        Args:
            image: (batch, channels, H, W), real or generated, nominally in [-1, 1].
            numbers: (batch, self.numbers), uniform on (0, 1), in the image's floating point or a higher one.
            probability: 0-d, in [0, 1], how likely each change is to happen to an image; at 0 images come back as they
                are.

        Raises:
            ValueError: images or numbers of another shape.
        """


def check_inputs(image: Tensor, numbers: Tensor, count: int) -> None:
    """Refuse images and random numbers of other shapes than the contract's.

    Args:
        image: should be (batch, channels, H, W), of floating point.
        numbers: should be (batch, count).
        count: random numbers an image.

    Raises:
        ValueError: they are not.
    """
    if image.ndim != 4 or not image.is_floating_point():
        raise ValueError(
            f"images are (batch, channels, H, W) in floating point, not {tuple(image.shape)} {image.dtype}"
        )
    if numbers.shape != (len(image), count):
        raise ValueError(
            f"{len(image)} images take random numbers of the shape {(len(image), count)}, not {tuple(numbers.shape)}"
        )


__all__ = ["Augmentation", "check_inputs"]
