"""The test kit's promises of feature extractors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.errors import GanzooError, UsageError
from ganzoo.features.contract import Extracted, FeatureExtractor, InputSpec
from ganzoo.testing.holding import TOLERANCE, BrokenPromise, differ, hold, name_of

_IMAGES = 3
_RESIZES = ("none", "bilinear", "tf1_bilinear")
_SIZES = ((20, 1), (33, 3))  # side in pixels, channels


def check_feature_extractor(factory: Callable[..., FeatureExtractor], *, weights: str | Path | None = None) -> None:
    """Hold a feature extractor to its contract, `ganzoo.features.contract.FeatureExtractor`, and all of
    `FEATURE_EXTRACTOR_PROMISES`.

    Args:
        factory: the class or function, as it is registered: it takes the keywords `weights` and `device`.
        weights: a file of weights to try it with, for extractors that would fetch theirs.

    Raises:
        PluginError: a promise is not kept; the message names it, with the numbers.
    """
    case = FeatureExtractorCase(factory, None if weights is None else Path(weights))
    hold(case.title, case, FEATURE_EXTRACTOR_PROMISES)


@dataclass(frozen=True)
class FeatureExtractorCase:
    """A feature extractor with the images to try it with.

    Args:
        factory: the class or function.
        weights: a file of weights, or None.
    """

    factory: Callable[..., FeatureExtractor]
    weights: Path | None

    @property
    def title(self) -> str:
        """The first words of every message."""
        return f"The feature extractor {name_of(self.factory)}"

    def build(self) -> FeatureExtractor:
        """Return a new extractor, on the CPU."""
        return self.factory(weights=self.weights, device="cpu")

    @cached_property
    def extractor(self) -> FeatureExtractor:
        """The extractor that most promises are checked on."""
        return self.build()

    @staticmethod
    def images(size: int = 20, channels: int = 1, count: int = _IMAGES) -> Tensor:
        """Return random images: (count, size, size, channels) uint8."""
        return torch.randint(0, 256, (count, size, size, channels), dtype=torch.uint8)


def _constructor(case: FeatureExtractorCase) -> None:
    made: Any = case.extractor
    if not isinstance(made, FeatureExtractor):
        raise BrokenPromise(
            f"called with weights= and device= it gives a {type(made).__name__}",
            "Derive from ganzoo.features.FeatureExtractor.",
        )


def _description(case: FeatureExtractorCase) -> None:
    made = case.extractor
    if not isinstance(made.name, str) or not made.name:
        raise BrokenPromise(f"its name is {made.name!r}", "Give the name under which it is registered.")
    if not isinstance(made.sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", made.sha256):
        raise BrokenPromise(
            f"its sha256 is {made.sha256!r}", "Give the 64 hexadecimal digits of its weights' SHA-256, in lower case."
        )
    for what, least in (("dimension", 1), ("num_classes", 0), ("batch_size", 1)):
        number = getattr(made, what)
        if type(number) is not int or number < least:
            raise BrokenPromise(f"its {what} is {number!r}", f"Give a whole number, at least {least}.")
    _check_spec(made.spec)
    try:
        json.dumps(made.to_dict(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BrokenPromise(f"its to_dict() is no JSON: {error}", "Give texts, numbers, lists and tables.") from None
    if made.notice is not None and (not isinstance(made.notice, str) or "\n" in made.notice):
        raise BrokenPromise(f"its notice is {made.notice!r}", "Give one line of text, or None.")


def _check_spec(spec: Any) -> None:
    if not isinstance(spec, InputSpec):
        raise BrokenPromise(f"its spec is a {type(spec).__name__}", "Give a ganzoo.features.InputSpec.")
    if spec.channels not in (0, 1, 3) or spec.resize not in _RESIZES or not spec.low < spec.high:
        raise BrokenPromise(f"its spec is {spec}", "See ganzoo.features.InputSpec for what can be.")
    if (spec.resize == "none") != (spec.image_size == 0):
        raise BrokenPromise(
            f"its spec resizes by {spec.resize!r} to {spec.image_size} pixels", "Name a size and how, or 0 and none."
        )


def _output(case: FeatureExtractorCase) -> None:
    made = case.extractor
    for size, channels in _SIZES:
        for count in (_IMAGES, 1):
            extracted = made.extract(case.images(size, channels, count))
            if not isinstance(extracted, Extracted):
                raise BrokenPromise(f"extract gives a {type(extracted).__name__}", "Give ganzoo.features.Extracted.")
            _check_tensor("features", extracted.features, (count, made.dimension))
            if made.num_classes:
                _check_tensor("logits", extracted.logits, (count, made.num_classes))
            elif extracted.logits is not None:
                raise BrokenPromise("it gives logits, but its num_classes is 0", "Say how many classes it names.")


def _check_tensor(what: str, tensor: Tensor | None, shape: tuple[int, int]) -> None:
    if tensor is None:
        raise BrokenPromise(f"it gives no {what}", "Give them, or set num_classes to 0.")
    if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
        raise BrokenPromise(f"{what} are {tuple(tensor.shape)} of {tensor.dtype}", f"Give {shape} of torch.float32.")
    if tensor.device.type != "cpu" or tensor.requires_grad or tensor.is_inference():
        raise BrokenPromise(
            f"{what} are on {tensor.device}, with gradient {tensor.requires_grad}, inference {tensor.is_inference()}",
            "Compute under torch.no_grad, then .cpu().",
        )
    if not bool(tensor.isfinite().all()):
        wrong = int((~tensor.isfinite()).sum())
        raise BrokenPromise(f"{wrong} of {tensor.numel()} {what} are not finite", "Mind logarithms and divisions.")


def _determinism(case: FeatureExtractorCase) -> None:
    made, images = case.extractor, case.images()
    copy, random_state = images.clone(), torch.random.get_rng_state()
    first, second = made.extract(images).features, made.extract(images).features
    if not torch.equal(random_state, torch.random.get_rng_state()):
        raise BrokenPromise("it draws from torch's own generator", "Leave dropout and noise out: use eval mode.")
    if not torch.equal(images, copy):
        raise BrokenPromise("it changes the images that it is given", "Use no in-place operation on them.")
    for what, other in (("a second time", second), ("by another instance", case.build().extract(images).features)):
        if not torch.equal(first, other):
            raise BrokenPromise(
                f"made {what}, the same images' features differ by {differ(first, other):.2g} of the largest",
                "Keep no state, and draw nothing.",
            )


def _batch_mates(case: FeatureExtractorCase) -> None:
    made, images, others = case.extractor, case.images(), case.images()
    others[0] = images[0]
    together, beside = made.extract(images).features, made.extract(others).features
    if not torch.equal(together[0], beside[0]):
        raise BrokenPromise(
            f"batch-mates change an image's features by {differ(together[0], beside[0]):.2g} of the largest",
            "Use stored statistics, not the batch's.",
        )
    alone = made.extract(images[:1]).features
    if (share := differ(together[:1], alone)) > TOLERANCE:
        raise BrokenPromise(
            f"alone an image has other features than among {_IMAGES}, by {share:.2g} of the largest",
            "Use stored statistics, not the batch's.",
        )


def _difference(case: FeatureExtractorCase) -> None:
    made = case.extractor
    features = made.extract(case.images(32, 3)).features
    if bool((features == features[0]).all()):
        raise BrokenPromise(f"{_IMAGES} different images have the same features", "Use the images.")


def _refusal(case: FeatureExtractorCase) -> None:
    made, images = case.extractor, case.images()
    wrong = {
        "images of float32": images.float() / 255.0,
        "images of two channels": case.images(20, 2),
        "one image without a batch": images[0],
    }
    for what, given in wrong.items():
        try:
            made.extract(given)
        except UsageError:
            continue
        except GanzooError as error:
            raise BrokenPromise(f"{what} are refused with a {type(error).__name__}", "Raise a UsageError.") from None
        raise BrokenPromise(f"it takes {what}", "Begin with ganzoo.features.resizing.prepare or check_images.")


FEATURE_EXTRACTOR_PROMISES: dict[str, Callable[[FeatureExtractorCase], None]] = {
    "constructor": _constructor,
    "description": _description,
    "output": _output,
    "determinism": _determinism,
    "batch-mates": _batch_mates,
    "difference": _difference,
    "refusal": _refusal,
}
"""What a feature extractor promises, in the order in which it is checked.

"constructor": called with `weights` and `device` it gives a `FeatureExtractor`. "description": name, SHA-256, input and
sizes are what a protocol can tell. "output": features and logits of grey and colour images of any size, one or several,
are finite float32 of the announced shape on the CPU. "determinism": the same images give the same bytes, and are left
as they were. "batch-mates": an image's features depend on that image alone. "difference": different images have
different features. "refusal": anything but bytes of one or three channels is answered with a `UsageError`.
"""
