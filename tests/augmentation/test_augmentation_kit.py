"""The test kit for augmentations: everything registered keeps its contract; each promise, broken once, is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ganzoo import registry
from ganzoo.augmentation.contract import Augmentation, check_inputs
from ganzoo.errors import PluginError
from ganzoo.testing import AUGMENTATION_PROMISES, check_augmentation

R3GAN = dict.fromkeys(("brightness", "contrast", "lumaflip", "hue", "saturation"), 0.5) | {"cutout": 1.0}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("ada", {}),
    ("ada", R3GAN | {"filter": 1.0, "noise": 1.0}),
    ("diffaugment", {}),
    ("diffaugment", {"policy": ["flip", "cutout", "translation"], "shift": 0.3, "cutout": 0.3}),
    ("flip", {}),
]
LISTED = {name for name, _ in CASES}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(*case, id=f"{case[0]}-{case[1]}") for case in CASES]
    + [
        pytest.param(entry.name, {}, id=entry.name)
        for entry in registry.augmentations.entries()
        if entry.origin == "ganzoo" and entry.name not in LISTED
    ],
)
def test_every_registered_augmentation_keeps_its_promises(name: str, options: dict[str, Any], channels: int) -> None:
    check_augmentation(registry.augmentations.get(name), channels=channels, options=options)


def test_the_kit_leaves_torchs_random_state_as_it_was() -> None:
    before = torch.random.get_rng_state()
    check_augmentation(registry.augmentations.get("flip"))
    assert torch.equal(before, torch.random.get_rng_state())


# ------------------------------------------------------------------ a good plug-in, and what breaks each promise


class Shade(Augmentation):
    """Bends and darkens an image, by so much of `strength` as its second number says."""

    def __init__(self, *, strength: float = 0.5) -> None:
        self.strength = strength

    @property
    def numbers(self) -> int:
        return 2

    def __call__(self, image: Tensor, numbers: Tensor, probability: Tensor) -> Tensor:
        check_inputs(image, numbers, self.numbers)
        happens = (numbers[:, 0] < probability)[:, None, None, None]
        shade = (self.strength * numbers[:, 1]).to(image.dtype)[:, None, None, None]
        return torch.where(happens, self.change(image, shade), image)

    def change(self, image: Tensor, shade: Tensor) -> Tensor:
        return image.sin() - shade


def test_a_good_plugin_is_let_through() -> None:
    check_augmentation(Shade, options={"strength": 0.25})


class WithKeywords(Shade):
    def __init__(self, **anything: Any) -> None:
        super().__init__()


class TakesNoNumbers(Shade):
    numbers = 0


class Doubles(Shade):
    def change(self, image: Tensor, shade: Tensor) -> Tensor:
        return image.double() - shade


class NotANumber(Shade):
    def change(self, image: Tensor, shade: Tensor) -> Tensor:
        return (image - shade) / (shade - shade)


class MultipliesInHalf(Shade):
    def change(self, image: Tensor, shade: Tensor) -> Tensor:
        return (image @ torch.eye(image.shape[-1], dtype=image.dtype, device=image.device)).to(image.dtype) - shade


class InfiniteAtTheEnd(Shade):
    def change(self, image: Tensor, shade: Tensor) -> Tensor:
        return image - torch.erfinv(2.0 * shade / self.strength - 1.0)


class AlwaysChanges(Shade):
    def __call__(self, image: Tensor, numbers: Tensor, probability: Tensor) -> Tensor:
        check_inputs(image, numbers, 2)
        return image - (numbers[:, 0] * numbers[:, 1]).to(image.dtype)[:, None, None, None]


class AllOrNone(Shade):
    def __call__(self, image: Tensor, numbers: Tensor, probability: Tensor) -> Tensor:
        return super().__call__(image, numbers, (probability > 0).to(probability.dtype))


class OwnDice(Shade):
    def change(self, image: Tensor, shade: Tensor) -> Tensor:
        return image - shade * torch.rand(())


class Counts(Shade):
    calls = 0

    def change(self, image: Tensor, shade: Tensor) -> Tensor:
        self.calls += 1
        return image - shade * self.calls


class InPlace(Shade):
    def change(self, image: Tensor, shade: Tensor) -> Tensor:
        with torch.no_grad():
            image.add_(1.0)
        return image - 1.0 - shade


class LooksAtTheBatch(Shade):
    def change(self, image: Tensor, shade: Tensor) -> Tensor:
        return image - shade * image.mean()


class SpareNumber(Augmentation):
    @property
    def numbers(self) -> int:
        return 3

    def __call__(self, image: Tensor, numbers: Tensor, probability: Tensor) -> Tensor:
        check_inputs(image, numbers, 3)
        return Shade()(image, numbers[:, :2], probability)


class TakesMoreNumbers(Shade):
    def __call__(self, image: Tensor, numbers: Tensor, probability: Tensor) -> Tensor:
        return super().__call__(image, numbers[:, :2], probability)


class Rounds(Shade):
    def change(self, image: Tensor, shade: Tensor) -> Tensor:
        return image + (image.detach() * 128.0).cos() - shade


class Detaches(Shade):
    def __call__(self, image: Tensor, numbers: Tensor, probability: Tensor) -> Tensor:
        return super().__call__(image.detach(), numbers, probability)


class WrongSecond(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor) -> Tensor:
        ctx.save_for_backward(image)
        return image.square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2.0 * ctx.saved_tensors[0].detach() * gradient


class WrongCurvature(Shade):
    def change(self, image: Tensor, shade: Tensor) -> Tensor:
        return WrongSecond.apply(image) - shade


class ReadsBack(Shade):
    def change(self, image: Tensor, shade: Tensor) -> Tensor:
        return image - shade if float(shade.max()) > 0 else image


class OnTheCPU(Shade):
    def change(self, image: Tensor, shade: Tensor) -> Tensor:
        return image - shade * torch.ones(1, device="cpu")


BROKEN: list[tuple[type[Any], str, str]] = [
    (WithKeywords, "constructor", "keys cannot be known"),
    (TakesNoNumbers, "constructor", "numbers is 0"),
    (Doubles, "output", "torch.float64"),
    (NotANumber, "output", "not finite"),
    (MultipliesInHalf, "precision", "off"),
    (InfiniteAtTheEnd, "ends", "where the random numbers are"),
    (AlwaysChanges, "probability", "with probability 0"),
    (AllOrNone, "probability", "with probability 0.1 48 of 48"),
    (OwnDice, "purity", "torch's own generator"),
    (Counts, "purity", "Keep no state"),
    (InPlace, "purity", "changes what it is given"),
    (LooksAtTheBatch, "batch-mates", "alone"),
    (SpareNumber, "numbers", "1 of its 3"),
    (TakesMoreNumbers, "shapes", "are taken with"),
    (Rounds, "gradient", "finite differences"),
    (Detaches, "gradient", "no gradient reaches"),
    (WrongCurvature, "second derivative", "finite differences"),
    (ReadsBack, "host", "reads values back"),
    (OnTheCPU, "host", "meta device"),
]


@pytest.mark.parametrize(("broken", "promise", "seen"), [pytest.param(*case, id=case[0].__name__) for case in BROKEN])
def test_a_broken_promise_is_named(broken: type[Any], promise: str, seen: str) -> None:
    with pytest.raises(PluginError) as caught:
        check_augmentation(broken)
    text = f"{caught.value.message} {caught.value.remedy}"
    assert f"The augmentation {broken.__name__} breaks the promise {promise!r}" in text
    assert seen in text


def test_every_promise_is_broken_once_in_this_file() -> None:
    assert {promise for _, promise, _ in BROKEN} == set(AUGMENTATION_PROMISES)
