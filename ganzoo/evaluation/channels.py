"""The channels of images, each as a grey image: for classifiers that read colours one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ganzoo.evaluation.contract import ImageSet

if TYPE_CHECKING:
    import torch


class Channels:
    """The channels of images as grey images: number 3 i + c is channel c of image i of three channels.

    Args:
        images: any images.

    Attributes:
        count, image_size, channels, labels, classes: as `ImageSet` has them.
    """

    def __init__(self, images: ImageSet) -> None:
        self._images, self._of = images, images.channels
        self.count, self.image_size, self.channels = images.count * images.channels, images.image_size, 1
        self.labels: npt.NDArray[np.int64] | None = None
        self.classes: tuple[str, ...] = ()

    def read(self, first: int, last: int) -> torch.Tensor:
        """Return grey images `first` to `last`, exclusive: (n, H, W, 1) uint8, on the CPU."""
        begin, end = first // self._of, -(-last // self._of)
        split = self._split(self._images.read(begin, end))
        return split[first - begin * self._of : last - begin * self._of]

    def gather(self, indices: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return grey images by number: (len(indices), H, W, 1) uint8, on the CPU."""
        split = self._split(self._images.gather(indices // self._of))
        return split[np.arange(len(indices)) * self._of + indices % self._of]

    def fingerprint(self) -> str | None:
        """Return a text of the whole images' one."""
        whole = self._images.fingerprint()
        return None if whole is None else f"channels of {whole}"

    def to_dict(self) -> dict[str, Any]:
        """Return what a protocol tells of the whole images."""
        return self._images.to_dict() | {"channels": "each alone"}

    def _split(self, images: torch.Tensor) -> torch.Tensor:
        return images.permute(0, 3, 1, 2).reshape(-1, self.image_size, self.image_size, 1)
