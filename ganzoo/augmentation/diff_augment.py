"""DiffAugment: Zhao, Liu, Lin, Zhu and Han, "Differentiable augmentation for data-efficient GAN training", 2020, arXiv
2006.10738, section 3 and appendix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor

from ganzoo.augmentation.contract import Augmentation, check_inputs
from ganzoo.augmentation.flip import mirror
from ganzoo.augmentation.uniforms import Uniforms, touch
from ganzoo.objectives.contract import upcast

Change = Literal["color", "translation", "cutout", "flip"]
Share = Annotated[float, Field(ge=0, le=1)]


class DiffAugment(Augmentation):
    """Colour, translation and cutout, each with the probability, one after the other in the order of `policy`.

    In the paper each change happens to every image: probability 1.

        color        brightness: x + u, u on (-0.5, 0.5); then saturation: the distance of each channel to the pixel's
                     mean over channels times a factor on (0, 2) (one channel: nothing to change); then contrast: the
                     distance to the image's mean times a factor on (0.5, 1.5)
        translation  by whole pixels, at most `shift` of each side, every shift as likely; what comes in is 0
        cutout       a square of `cutout` of each side becomes 0; its centre lies anywhere in the image, so that parts
                     of it may lie outside
        flip         the image is mirrored or not, with equal odds; not in the paper's policies

    The default policy is the paper's for few data ("color, translation, cutout"); theirs for all of CIFAR-10 is
    translation and cutout.

    Args:
        policy: which changes, in order.
        shift: the largest translation as a share of the image's side, rounded to pixels.
        cutout: side of the square as a share of the image's, rounded to pixels.
    """

    capturable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        policy: tuple[Change, ...] = ("color", "translation", "cutout"),
        shift: Share = 1 / 8,
        cutout: Share = 1 / 2,
    ) -> None:
        known = get_args(Change)
        if unknown := [change for change in policy if change not in known]:
            raise ValueError(f"policy is made of {', '.join(known)}, not {unknown[0]!r}")
        if not policy or len(set(policy)) != len(policy):
            raise ValueError(f"policy (={list(policy)}) must name at least one change, and none twice")
        for name, share in {"shift": shift, "cutout": cutout}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} (={share:g}) is a share of the image's side, from 0 to 1")
        self.policy, self.shift, self.cutout = tuple(policy), shift, cutout

    @property
    def numbers(self) -> int:
        """Random numbers an image: four for "color", three each for "translation" and "cutout", one for "flip"."""
        return sum({"color": 4, "translation": 3, "cutout": 3, "flip": 1}[change] for change in self.policy)

    def __call__(self, image: Tensor, numbers: Tensor, probability: Tensor) -> Tensor:
        """Return changed images; arguments and errors as in the contract."""
        check_inputs(image, numbers, self.numbers)
        draws = Uniforms(numbers, probability)
        changes: dict[Change, Callable[[Tensor, Uniforms], Tensor]] = {
            "color": self._color,
            "translation": self._translate,
            "cutout": self._cut,
            "flip": lambda image, draws: mirror(image, draws.happens(0.5)),
        }
        for change in self.policy:
            image = changes[change](image, draws)
        return image

    def _color(self, image: Tensor, draws: Uniforms) -> Tensor:
        happens = draws.happens()
        brightness, saturation, contrast = draws.between(-0.5, 0.5), draws.between(0.0, 2.0), draws.between(0.5, 1.5)
        precise = upcast(image)
        changed = recolor(precise, *(one.to(precise.dtype) for one in (brightness, saturation, contrast)))
        return touch(image, changed.to(image.dtype), happens)

    def _translate(self, image: Tensor, draws: Uniforms) -> Tensor:
        happens = draws.happens()
        down, right = (draws.integer(-most, most) for most in (rounded(self.shift, side) for side in image.shape[2:]))
        return translate(image, down * happens, right * happens)

    def _cut(self, image: Tensor, draws: Uniforms) -> Tensor:
        happens = draws.happens()
        sides = [rounded(self.cutout, side) for side in image.shape[2:]]
        # An even square's centre lies between pixels: there is one place more.
        firsts = [draws.integer(0, side - cut % 2) - cut // 2 for side, cut in zip(image.shape[2:], sides, strict=True)]
        return cut_out(image, firsts, sides, happens)


def rounded(share: float, side: int) -> int:
    """Return a share of an image's side in pixels, halves rounded up."""
    return int(share * side + 0.5)


def recolor(image: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Return images of other brightness, then saturation, then contrast.

    Args:
        image: (batch, channels, H, W).
        brightness: (batch,), added.
        saturation: (batch,), multiplies the distance to the pixel's mean over channels.
        contrast: (batch,), multiplies the distance to the image's mean.
    """
    brightness, saturation, contrast = (one[:, None, None, None] for one in (brightness, saturation, contrast))
    image = image + brightness
    if image.shape[1] > 1:
        grey = image.mean(dim=1, keepdim=True)  # (batch, 1, H, W)
        image = grey + saturation * (image - grey)
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    return mean + contrast * (image - mean)


def translate(image: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Return images moved by whole pixels; what comes in is 0.

    Args:
        image: (batch, channels, H, W).
        down: (batch,) int64, in pixels.
        right: likewise.
    """
    height, width = image.shape[2:]
    rows = torch.arange(height, device=image.device) - down[:, None]  # (batch, H): where each comes from
    columns = torch.arange(width, device=image.device) - right[:, None]  # (batch, W)
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    # Around the edges, so that each pixel is read once: the gradient has then no sum whose order could matter.
    source = (rows.remainder(height) * width)[:, :, None] + columns.remainder(width)[:, None, :]  # (batch, H, W)
    index = source.flatten(1)[:, None].expand(-1, image.shape[1], -1)
    return image.flatten(2).gather(2, index).view(image.shape).masked_fill(~inside[:, None], 0.0)


def cut_out(image: Tensor, firsts: list[Tensor], sides: list[int], happens: Tensor) -> Tensor:
    """Return images with a rectangle of zeros.

    Args:
        image: (batch, channels, H, W).
        firsts: the rectangle's first row and column, each (batch,) int64; may lie outside.
        sides: its rows and columns.
        happens: (batch,) bool, to which images it happens.
    """
    rows, columns = (
        (place >= first[:, None]) & (place < first[:, None] + side)
        for place, first, side in zip(
            (torch.arange(side, device=image.device) for side in image.shape[2:]), firsts, sides, strict=True
        )
    )
    square = rows[:, :, None] & columns[:, None, :] & happens[:, None, None]  # (batch, H, W)
    return image.masked_fill(square[:, None], 0.0)
