"""The test kit's promises of augmentations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ganzoo.augmentation.contract import Augmentation
from ganzoo.recipes import AugmentationSection
from ganzoo.testing.holding import TOLERANCE, BrokenPromise, check_constructor, differ, hold, name_of

_IMAGES = 6
_MANY = 48  # images among which every number should matter to one
_STEP = 1e-5  # of finite differences, in float64
_SMOOTH = 1e-4  # share of the largest value that finite differences may be off


def check_augmentation(
    factory: Callable[..., Augmentation],
    *,
    image_size: int = 8,
    channels: int = 3,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Hold an augmentation to its contract, `ganzoo.augmentation.contract.Augmentation`, and all of
    `AUGMENTATION_PROMISES`.

    Args:
        factory: the class.
        image_size: pixels on a side of the images that it is tried with.
        channels: 1 or 3.
        options: the constructor's arguments, as a recipe's `[augmentation]` gives them.

    Raises:
        PluginError: a promise is not kept; the message names it, with the numbers.
    """
    case = AugmentationCase(factory, image_size, channels, dict(options or {}))
    hold(case.title, case, AUGMENTATION_PROMISES)


@dataclass(frozen=True)
class AugmentationCase:
    """An augmentation with its options and the images to try it with.

    Args:
        factory: the class.
        image_size: of the images.
        channels: likewise.
        options: the constructor's arguments.
    """

    factory: Callable[..., Augmentation]
    image_size: int
    channels: int
    options: Mapping[str, Any]

    @property
    def title(self) -> str:
        """The first words of every message."""
        return f"The augmentation {name_of(self.factory)}"

    def build(self) -> Augmentation:
        """Return the augmentation."""
        return self.factory(**self.options)

    def trial(self, batch: int = _IMAGES, probability: float = 0.7, dtype: torch.dtype = torch.float32) -> _Trial:
        """Return the augmentation with random images and numbers."""
        augmentation = self.build()
        image = 2.0 * torch.rand(batch, self.channels, self.image_size, self.image_size, dtype=torch.float64) - 1.0
        numbers = torch.rand(batch, augmentation.numbers, dtype=torch.float64)
        return _Trial(augmentation, image.to(dtype), numbers.to(dtype), torch.tensor(probability, dtype=torch.float64))


@dataclass(frozen=True)
class _Trial:
    """An augmentation with what it is called with."""

    augmentation: Augmentation
    image: Tensor
    numbers: Tensor
    probability: Tensor

    def __call__(self, image: Tensor | None = None, part: slice = slice(None)) -> Tensor:
        image = self.image if image is None else image
        return self.augmentation(image[part], self.numbers[part], self.probability)


def _constructor(case: AugmentationCase) -> None:
    check_constructor(case.factory, case.options, set(AugmentationSection.model_fields), "augmentation")
    numbers = case.build().numbers
    if isinstance(numbers, bool) or not isinstance(numbers, int) or numbers < 1:
        raise BrokenPromise(f"its numbers is {numbers!r}", "Say how many random numbers an image takes, at least 1.")


def _output(case: AugmentationCase) -> None:
    for dtype in (torch.float32, torch.float64):
        for probability in (0.3, 1.0):
            trial = case.trial(probability=probability, dtype=dtype)
            changed = trial()
            if changed.shape != trial.image.shape or changed.dtype != dtype:
                raise BrokenPromise(
                    f"images of {tuple(trial.image.shape)}, {dtype}, come back as {tuple(changed.shape)}, "
                    f"{changed.dtype}",
                    "Keep shape and dtype.",
                )
            if not changed.isfinite().all():
                raise BrokenPromise(
                    f"{int((~changed.isfinite()).sum())} of {changed.numel()} values are not finite",
                    "Mind divisions by zero and the ends of the interval (0, 1).",
                )


def _purity(case: AugmentationCase) -> None:
    trial = case.trial()
    copies = trial.image.clone(), trial.numbers.clone(), trial.probability.clone()
    random_state = torch.random.get_rng_state()
    first, second = trial(), trial()
    if not torch.equal(random_state, torch.random.get_rng_state()):
        raise BrokenPromise("it draws from torch's own generator", "Take random numbers from `numbers`.")
    given = trial.image, trial.numbers, trial.probability
    if not all(torch.equal(one, other) for one, other in zip(copies, given, strict=True)):
        raise BrokenPromise("it changes what it is given", "Use no in-place operation on it.")
    if not (torch.equal(first, second) and torch.equal(first, _again(case, trial))):
        raise BrokenPromise(
            f"the same images with the same numbers differ by {differ(first, _again(case, trial)):.2g}",
            "Keep no state.",
        )


def _again(case: AugmentationCase, trial: _Trial) -> Tensor:
    """Return what another of the same augmentations makes of the same images."""
    return case.build()(trial.image, trial.numbers, trial.probability)


def _batch_mates(case: AugmentationCase) -> None:
    trial = case.trial()
    whole = trial()
    alone = torch.cat([trial(part=slice(index, index + 1)) for index in range(len(whole))])
    if (share := differ(whole, alone)) > TOLERANCE:
        raise BrokenPromise(
            f"an image alone differs from the same image in a batch by {share:.2g} of the largest value",
            "Change each image by itself.",
        )


def _precision(case: AugmentationCase) -> None:
    trial = case.trial()
    with torch.autocast("cpu", torch.bfloat16):
        lowered = trial()
    if lowered.dtype != torch.float32 or (share := differ(lowered, trial())) > TOLERANCE:
        seen = f"float32 images come back as {lowered.dtype}" if lowered.dtype != torch.float32 else f"{share:.2g} off"
        raise BrokenPromise(
            f"under bfloat16 autocast {seen}", "Compute within torch.autocast(image.device.type, enabled=False)."
        )


def _ends(case: AugmentationCase) -> None:
    trial = case.trial(probability=1.0)
    # What the numbers next to the ends of (0, 1) are rounded to in float32.
    for end in (2.0**-33, 1.0):
        changed = trial.augmentation(trial.image, torch.full_like(trial.numbers, end), trial.probability)
        if not changed.isfinite().all():
            raise BrokenPromise(
                f"where the random numbers are {end:g}, values are not finite", "Keep away from infinite quantiles."
            )


def _probability(case: AugmentationCase) -> None:
    trial = case.trial(_MANY, 0.0)
    if (share := differ(trial(), trial.image)) > TOLERANCE:
        raise BrokenPromise(
            f"with probability 0 images differ from what they were by {share:.2g} of the largest value",
            "Leave images as they are where nothing happens to them.",
        )
    counts = []
    for probability in (0.1, 1.0):
        trial = case.trial(_MANY, probability)
        counts.append(int((trial() - trial.image).flatten(1).abs().amax(dim=1).gt(TOLERANCE).sum()))
    if counts[0] >= counts[1]:
        raise BrokenPromise(
            f"with probability 0.1 {counts[0]} of {_MANY} images are changed, with probability 1 {counts[1]}",
            "Compare a random number with the probability.",
        )


def _numbers(case: AugmentationCase) -> None:
    trial = case.trial(_MANY, 0.6)
    changed, matters = trial(), []
    for column in range(trial.numbers.shape[1]):
        numbers = trial.numbers.clone()
        numbers[:, column] = torch.rand(_MANY)
        other = trial.augmentation(trial.image, numbers, trial.probability)
        matters.append(not torch.equal(changed, other))
    idle = matters.count(False)
    if not any(matters) or (idle and case.channels == 3):  # one channel has no colours to change
        raise BrokenPromise(
            f"{idle} of its {len(matters)} random numbers change nothing, the first of them number "
            f"{matters.index(False)}",
            "Ask for the numbers that are used.",
        )


def _shapes(case: AugmentationCase) -> None:
    trial = case.trial()
    image, numbers = trial.image, trial.numbers
    for given, drawn in (
        (image, torch.rand(_IMAGES, numbers.shape[1] + 1)),
        (image, numbers[:-1]),
        (image[0], numbers),
    ):
        try:
            trial.augmentation(given, drawn, trial.probability)
        except ValueError:
            continue
        raise BrokenPromise(
            f"images of {tuple(given.shape)} are taken with random numbers of {tuple(drawn.shape)}",
            "Begin with ganzoo.augmentation.uniforms.check_inputs.",
        )


def _gradient(case: AugmentationCase) -> None:
    trial = case.trial(dtype=torch.float64)
    image, weights, direction = trial.image.requires_grad_(), *_two_like(trial.image)
    changed = trial(image)
    if not changed.requires_grad:
        raise BrokenPromise("no gradient reaches the image", "Detach nothing.")
    (gradient,) = torch.autograd.grad((weights * changed).sum(), image)
    slope = (gradient * direction).flatten(1).sum(dim=1)
    with torch.no_grad():
        ahead, behind = (trial(image + step * direction) for step in (_STEP, -_STEP))
    measured = (weights * (ahead - behind)).flatten(1).sum(dim=1) / (2.0 * _STEP)
    if (share := differ(slope, measured)) > _SMOOTH:
        raise BrokenPromise(
            f"its gradient differs from finite differences by {share:.2g} of the largest slope",
            "Detach nothing, and round no value of the image.",
        )


def _second_derivative(case: AugmentationCase) -> None:
    """Compare the derivative of a penalty, which is taken through the augmentation, with finite differences."""
    trial = case.trial(dtype=torch.float64)
    image, weights, direction = trial.image.requires_grad_(), *_two_like(trial.image)

    def slope(image: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(torch.tanh(weights * trial(image)).sum(), image, create_graph=True)
        return gradient

    found = slope(image)
    if not found.requires_grad:
        raise BrokenPromise("its gradient has no gradient", "Gradient penalties need one: use differentiable steps.")
    (second,) = torch.autograd.grad(found.square().sum(), image)
    along = (second * direction).flatten(1).sum(dim=1)
    sides = [slope((image + step * direction).detach().requires_grad_()).square() for step in (_STEP, -_STEP)]
    measured = (sides[0] - sides[1]).flatten(1).sum(dim=1).detach() / (2.0 * _STEP)
    if (share := differ(along, measured)) > _SMOOTH:
        raise BrokenPromise(
            f"its second derivative differs from finite differences by {share:.2g} of the largest",
            "Check the gradient's own backward.",
        )


def _two_like(image: Tensor) -> tuple[Tensor, Tensor]:
    return torch.randn(image.shape, dtype=image.dtype), torch.randn(image.shape, dtype=image.dtype)


def _host(case: AugmentationCase) -> None:
    trial = case.trial()
    image, numbers, probability = (one.to("meta") for one in (trial.image, trial.numbers, trial.probability))
    try:
        changed = trial.augmentation(image, numbers, probability)
    except (NotImplementedError, RuntimeError) as error:
        raise BrokenPromise(
            f"it reads values back from the device, or names one: on torch's meta device, which has shapes alone, it "
            f"raises {type(error).__name__}: {str(error).splitlines()[0].rstrip('.')}",
            "Use torch.where in place of if, and make tensors on the image's device.",
        ) from None
    if changed.shape != image.shape:
        raise BrokenPromise(
            f"on torch's meta device {tuple(image.shape)} becomes {tuple(changed.shape)}", "Keep the shape."
        )


AUGMENTATION_PROMISES: dict[str, Callable[[AugmentationCase], None]] = {
    "constructor": _constructor,
    "output": _output,
    "purity": _purity,
    "batch-mates": _batch_mates,
    "precision": _precision,
    "ends": _ends,
    "probability": _probability,
    "numbers": _numbers,
    "shapes": _shapes,
    "gradient": _gradient,
    "second derivative": _second_derivative,
    "host": _host,
}
"""What an augmentation promises, in the order in which it is checked.

"constructor": its arguments can be a recipe's keys, and it says how many random numbers it takes. "output" has the
images' shape and dtype and is finite. "purity": what comes back is a function of what is given, and nothing else.
"batch-mates": each image is changed by itself, a batch of one as well. "precision": bfloat16 autocast changes nothing.
"ends": random numbers next to 0 and 1 make no infinite values. "probability": at 0 images come back as they are, and
more of them are changed the greater it is. "numbers": all of them matter (with three channels; some with one).
"shapes": other shapes than the contract's are refused with a ValueError. "gradient" and "second derivative" with
respect to the image agree with finite differences. "host": no value is read back from the device, so that the step can
be captured in a CUDA graph.
"""
