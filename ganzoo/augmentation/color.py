"""Changes of colour: brightness, contrast, luma flip, hue and saturation, as one affine map of each pixel's colour.

Karras et al., arXiv 2006.06676, appendix B.3. With v = (1, 1, 1) / √3 the axis of greys, P = v vᵀ and K the cross
product with v, their chain of matrices is

    saturation (P + s (I - P)) · hue (P + cos θ (I - P) + sin θ K) · luma flip (I - 2 m P) · contrast c · (x + b)

whose factors share the greys' axis and its plane, so that the product is

    c ((1 - 2 m) P + s cos θ (I - P) + s sin θ K) (x + b)

It is applied in this form, a few products of numbers. One channel has only greys: c (1 - 2 m) (x + b).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class ColorChange:
    """How colours change: each (batch,) in the image's dtype.

    Args:
        brightness: b, added; 0 changes nothing.
        contrast: c, a factor; 1 changes nothing.
        luma: 1 - 2 m, the factor of greys: 1, or -1 where they are inverted.
        hue: θ, in radians.
        saturation: s, the factor of the distance to grey; 1 changes nothing.
    """

    brightness: Tensor
    contrast: Tensor
    luma: Tensor
    hue: Tensor
    saturation: Tensor

    @classmethod
    def identity(cls, batch: int, dtype: torch.dtype, device: torch.device) -> ColorChange:
        """Return the change that leaves `batch` images as they are."""
        zero, one = (torch.full((batch,), value, dtype=dtype, device=device) for value in (0.0, 1.0))
        return cls(brightness=zero, contrast=one, luma=one, hue=zero, saturation=one)

    def to(self, dtype: torch.dtype) -> ColorChange:
        """Return the same in another precision."""
        return ColorChange(*(getattr(self, one.name).to(dtype) for one in fields(self)))


def change_color(image: Tensor, change: ColorChange) -> Tensor:
    """Return images of other colours.

    Args:
        image: (batch, channels, H, W), channels 1 or 3.
        change: of each image.

    Raises:
        ValueError: another number of channels.
    """
    channels = image.shape[1]
    if channels not in (1, 3):
        raise ValueError(f"colours have 1 or 3 channels, not {channels}")

    def each(value: Tensor) -> Tensor:
        return value[:, None, None, None]

    image = image + each(change.brightness)
    of_greys = each(change.contrast * change.luma)
    if channels == 1:
        return of_greys * image
    grey = image.mean(dim=1, keepdim=True)  # (batch, 1, H, W): P x
    vivid = change.contrast * change.saturation
    # v × x, whose part along v is nothing: (x_3 - x_2, x_1 - x_3, x_2 - x_1) / √3
    across = (image.roll(1, dims=1) - image.roll(-1, dims=1)) / math.sqrt(3.0)
    plane = each(vivid * change.hue.cos()) * (image - grey) + each(vivid * change.hue.sin()) * across
    return of_greys * grey + plane
