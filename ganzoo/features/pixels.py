"""The images themselves as features: for neighbours in pixels, and as what learnt features have to beat.

A feature vector has one length, so images are brought to one size and number of channels first. Images of that size
and kind become their own bytes over 255; grey ones in three channels are as far apart as before, but for a factor √3.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import torch

from ganzoo.devices import choose_device
from ganzoo.errors import UsageError
from ganzoo.features.contract import Extracted, FeatureExtractor, InputSpec, refuse_weights
from ganzoo.features.resizing import prepare

_LARGEST = 64  # pixels on a side: 12,288 numbers


class Pixels(FeatureExtractor):
    """Pixels in [0, 1], row by row, the channels of a pixel together.

    Args:
        weights: nothing; pixels have none.
        device: as for all extractors; what is done to pixels gains nothing from one, and is done on the CPU.
        image_size: side to which images are resized, 1 to 64.
        channels: 1 or 3.

    Raises:
        UsageError: `weights`, no such device, or a size beyond its limits.
    """

    name = "pixels"
    sha256 = hashlib.sha256().hexdigest()  # of no bytes: there are no weights
    batch_size = 500

    def __init__(
        self,
        weights: Path | None = None,
        device: str = "auto",
        *,
        image_size: int = 32,
        channels: Literal[1, 3] = 3,
    ) -> None:
        refuse_weights(self.name, weights)
        choose_device(device)
        if not 1 <= image_size <= _LARGEST or channels not in (1, 3):
            raise UsageError(f"Pixels as features are at most {_LARGEST}×{_LARGEST}, not {image_size}×{channels}.")
        self.spec = InputSpec(image_size=image_size, channels=channels, resize="bilinear", low=0.0, high=1.0)
        self.dimension = image_size * image_size * channels

    def extract(self, images: torch.Tensor) -> Extracted:
        """Return the pixels of a batch; see `FeatureExtractor.extract`."""
        return Extracted(prepare(images, self.spec).permute(0, 2, 3, 1).flatten(1).contiguous())
