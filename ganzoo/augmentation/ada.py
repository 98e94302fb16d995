"""ADA's augmentations: Karras, Aittala, Hellsten, Laine, Lehtinen and Aila, "Training generative adversarial networks
with limited data", 2020, arXiv 2006.06676, section 2 and appendix B.

How likely they are is `augmentation.probability`'s matter: a number, a schedule, or the paper's adaptive rule.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ganzoo.augmentation.color import ColorChange, change_color
from ganzoo.augmentation.contract import Augmentation, check_inputs
from ganzoo.augmentation.corruption import add_noise, amplify_bands, balanced_gains, cut_square
from ganzoo.augmentation.flip import mirror
from ganzoo.augmentation.geometry import Affine, turn
from ganzoo.augmentation.resampling import resample
from ganzoo.augmentation.uniforms import Uniforms, full_precision, touch
from ganzoo.augmentation.wavelets import BANDS
from ganzoo.objectives.contract import upcast

# The paper's appendix B.
INTEGER_SHIFT = 0.125  # largest, as a share of the side
LOG2_SCALE = 0.2  # standard deviation of log2
LOG2_STRETCH = 0.2  # likewise
FRACTIONAL_SHIFT = 0.125  # standard deviation, as a share of the side
BRIGHTNESS = 0.2  # standard deviation
LOG2_CONTRAST = 0.5
LOG2_SATURATION = 1.0
LOG2_AMPLITUDE = 1.0
NOISE = 0.1  # standard deviation of the noise's standard deviation
CUTOUT = 0.5  # side of the square

_NUMBERS = {
    "xflip": 1,
    "rot90": 2,
    "xint": 3,
    "scale": 2,
    "rotate": 4,
    "aniso": 2,
    "xfrac": 3,
    "brightness": 2,
    "contrast": 2,
    "lumaflip": 1,
    "hue": 2,
    "saturation": 2,
    "filter": 2 * BANDS,
    "noise": 4,
    "cutout": 3,
}
_AFFINE = ("xint", "scale", "rotate", "aniso", "xfrac")
_COLOR = ("brightness", "contrast", "lumaflip", "hue", "saturation")

Relative = Annotated[float, Field(ge=0, le=1)]


class ADA(Augmentation):
    """Up to fifteen changes, each with its own share of the probability, in this order.

        xflip       mirrored or not, with equal odds
        rot90       turned by 0, 90, 180 or 270 degrees, all as likely
        xint        moved by whole pixels, uniformly up to 1/8 of the side each way
        scale       enlarged by 2^(0.2 n), n standard normal
        rotate      turned by any angle, before the next change and once more after it: each with 1 - sqrt(1 - q), so
                    that q is the probability of at least one
        aniso       enlarged by 2^(0.2 n) along one axis, and made smaller as much along the other
        xfrac       moved by n/8 of the side, n standard normal for each axis
        brightness  0.2 n added
        contrast    a factor 2^(0.5 n)
        lumaflip    brightness inverted or not, with equal odds, colours kept
        hue         turned by any angle about the axis of greys (three channels)
        saturation  a factor 2^n on the distance to grey (three channels)
        filter      each of four frequency bands amplified by 2^n, the expected power kept
        noise       normal, of standard deviation 0.1 |n|
        cutout      a square of half the side becomes 0, its centre anywhere in the image

    The defaults are the paper's "bgc" (geometry and colour). R3GAN sets brightness, contrast, lumaflip, hue and
    saturation to 0.5 and cutout to 1. An argument of 0 leaves a change out, and takes no random numbers for it.

    `ganzoo.augmentation.resampling` says how the resampling differs from the authors' code. Mirrors and quarter turns
    are made pixel by pixel here, where the authors' go through the resampling, too.

    Args:
        xflip: the change's probability as a share of the augmentation's, from 0 to 1; so are all that follow.
        rot90: needs square images.
        xint: as the table says; likewise the others.
        scale: enlarging.
        rotate: turning by any angle.
        aniso: stretching.
        xfrac: moving by fractions of pixels.
        brightness: of all channels.
        contrast: about 0, the middle grey.
        lumaflip: inverting brightness.
        hue: turning colours.
        saturation: stretching colours.
        filter: amplifying frequency bands.
        noise: of each value.
        cutout: of a square.
    """

    capturable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        xflip: Relative = 1.0,
        rot90: Relative = 1.0,
        xint: Relative = 1.0,
        scale: Relative = 1.0,
        rotate: Relative = 1.0,
        aniso: Relative = 1.0,
        xfrac: Relative = 1.0,
        brightness: Relative = 1.0,
        contrast: Relative = 1.0,
        lumaflip: Relative = 1.0,
        hue: Relative = 1.0,
        saturation: Relative = 1.0,
        filter: Relative = 0.0,
        noise: Relative = 0.0,
        cutout: Relative = 0.0,
    ) -> None:
        self.shares = {
            "xflip": xflip,
            "rot90": rot90,
            "xint": xint,
            "scale": scale,
            "rotate": rotate,
            "aniso": aniso,
            "xfrac": xfrac,
            "brightness": brightness,
            "contrast": contrast,
            "lumaflip": lumaflip,
            "hue": hue,
            "saturation": saturation,
            "filter": filter,
            "noise": noise,
            "cutout": cutout,
        }
        for name, share in self.shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} (={share:g}) is a share of the probability, from 0 to 1")
        if not any(self.shares.values()):
            raise ValueError("all changes are left out: at least one must be greater than 0")

    @property
    def numbers(self) -> int:
        """Random numbers an image: 26 for the default changes."""
        return sum(_NUMBERS[name] for name, share in self.shares.items() if share)

    def __call__(self, image: Tensor, numbers: Tensor, probability: Tensor) -> Tensor:
        """Return changed images; arguments and errors as in the contract.

        Raises:
            ValueError: also images that are not square where they are to be turned by quarters, of other than 1 or 3
                channels where colours are to be changed, or with sides of 1 where they are to be resampled.
        """
        check_inputs(image, numbers, self.numbers)
        draws = Uniforms(numbers, probability)
        changed = upcast(image)
        with full_precision(image.device):  # a resampling in bf16 would be a blur
            changed = self._turn(changed, draws)
            if any(self.shares[name] for name in _AFFINE):
                changed = self._resample(changed, draws)
            if any(self.shares[name] for name in _COLOR):
                changed = self._recolor(changed, draws)
            changed = self._corrupt(changed, draws)
        return changed.to(image.dtype)

    def _turn(self, image: Tensor, draws: Uniforms) -> Tensor:
        shares = self.shares
        if shares["xflip"]:
            image = mirror(image, draws.happens(0.5 * shares["xflip"]))
        if shares["rot90"]:
            if image.shape[2] != image.shape[3]:
                height, width = image.shape[2:]
                raise ValueError(f"images of {height}×{width} cannot be turned by quarters; set rot90 = 0")
            image = turn(image, draws.happens(shares["rot90"]) * draws.integer(0, 3))
        return image

    def _resample(self, image: Tensor, draws: Uniforms) -> Tensor:
        """Carry out all affine changes in one resampling; images without any are left as they are."""
        draws.start()
        affine = self._affine(image.shape[2], image.shape[3], draws).to(image.dtype)
        return touch(image, resample(image, affine), draws.happened())

    def _affine(self, height: int, width: int, draws: Uniforms) -> Affine:
        shares = self.shares
        affine = Affine.identity(len(draws.numbers), draws.numbers.dtype, draws.numbers.device)
        if shares["xint"]:
            happens = draws.happens(shares["xint"])
            right, down = (
                (draws.between(-INTEGER_SHIFT, INTEGER_SHIFT) * side).round() * happens for side in (width, height)
            )
            affine = affine.moved(right, down)
        if shares["scale"]:
            factor = torch.exp2(draws.happens(shares["scale"]) * (LOG2_SCALE * draws.normal()))
            affine = affine.scaled(factor, factor)
        if shares["rotate"]:
            affine = affine.rotated(draws.happens_in_one_place(shares["rotate"]) * draws.between(-math.pi, math.pi))
        if shares["aniso"]:
            factor = torch.exp2(draws.happens(shares["aniso"]) * (LOG2_STRETCH * draws.normal()))
            affine = affine.scaled(factor, 1.0 / factor)
        if shares["rotate"]:
            affine = affine.rotated(draws.happens_in_one_place(shares["rotate"]) * draws.between(-math.pi, math.pi))
        if shares["xfrac"]:
            happens = draws.happens(shares["xfrac"])
            right, down = (FRACTIONAL_SHIFT * side * draws.normal() * happens for side in (width, height))
            affine = affine.moved(right, down)
        return affine

    def _recolor(self, image: Tensor, draws: Uniforms) -> Tensor:
        """Carry out all changes of colour at once; images without any are left as they are."""
        draws.start()
        change = self._color_change(draws).to(image.dtype)
        return touch(image, change_color(image, change), draws.happened())

    def _color_change(self, draws: Uniforms) -> ColorChange:
        shares = self.shares
        change = ColorChange.identity(len(draws.numbers), draws.numbers.dtype, draws.numbers.device)
        if shares["brightness"]:
            change = replace(change, brightness=draws.happens(shares["brightness"]) * (BRIGHTNESS * draws.normal()))
        if shares["contrast"]:
            logarithm = draws.happens(shares["contrast"]) * (LOG2_CONTRAST * draws.normal())
            change = replace(change, contrast=torch.exp2(logarithm))
        if shares["lumaflip"]:
            change = replace(change, luma=1.0 - 2.0 * draws.happens(0.5 * shares["lumaflip"]).to(draws.numbers.dtype))
        if shares["hue"]:
            change = replace(change, hue=draws.happens(shares["hue"]) * draws.between(-math.pi, math.pi))
        if shares["saturation"]:
            logarithm = draws.happens(shares["saturation"]) * (LOG2_SATURATION * draws.normal())
            change = replace(change, saturation=torch.exp2(logarithm))
        return change

    def _corrupt(self, image: Tensor, draws: Uniforms) -> Tensor:
        shares, dtype = self.shares, image.dtype
        if shares["filter"]:
            draws.start()
            happens = [draws.happens(shares["filter"]) for _ in range(BANDS)]
            amplitudes = torch.stack([torch.exp2(when * (LOG2_AMPLITUDE * draws.normal())) for when in happens], dim=-1)
            filtered = amplify_bands(image, balanced_gains(amplitudes).to(dtype))
            image = touch(image, filtered, draws.happened())
        if shares["noise"]:
            sigma = draws.happens(shares["noise"]) * (NOISE * draws.normal().abs())
            image = add_noise(image, sigma.to(dtype), (draws.take(), draws.take()))
        if shares["cutout"]:
            side = draws.happens(shares["cutout"]) * CUTOUT
            image = cut_square(image, torch.stack((draws.take(), draws.take()), dim=-1), side)
        return image
