"""Numbers and names of an evaluation in words: how they are written, and what each of them means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ganzoo.evaluation.contract import Value

NOT_DEFINED = "not defined"

DIRECTIONS = {
    "lower": "lower is better",
    "higher": "higher is better",
    "reference": "nearer to real images is better",
}

MEANINGS = {
    "fid": "Fréchet Inception distance: how far the generated images' InceptionV3 features lie from the real ones', "
    "both taken for Gaussian. It sees quality and variety at once, and is biased: fewer images give a larger number.",
    "fd": "Fréchet distance between features of generated and of real images, both taken for Gaussian; as FID, but of "
    "another network, so it compares only with numbers of the same one. Fewer images give a larger number.",
    "kid": "Kernel Inception distance: squared maximum mean discrepancy of InceptionV3 features under a cubic kernel. "
    "Unbiased: around 0, or slightly below it, where both sides are alike.",
    "kd": "Kernel distance: squared maximum mean discrepancy of features under a cubic kernel; as KID, but of another "
    "network. Unbiased: around 0, or slightly below it, where both sides are alike.",
    "is": "Inception score: whether single images look like one class, and all of them like many. At most the number "
    "of classes; blind to what the real images look like, and to lack of variety within a class.",
    "precision": "The share of generated images that lie among the real ones in feature space: quality.",
    "recall": "The share of real images that lie among the generated ones in feature space: variety.",
    "density": "How many real images' neighbourhoods hold a generated image, on average: quality, less moved by "
    "outliers than precision, and above 1 where samples crowd where real images are dense.",
    "coverage": "The share of real images in whose neighbourhood at least one generated image lies: variety.",
    "ms-ssim": "Multi-scale structural similarity of two generated images, on average: near 1, all look alike. Better "
    "the nearer to the same figure of real images.",
    "modes": "How many of the data's modes (classes, or combinations of them) the generated images show.",
    "kl": "Kullback-Leibler divergence, in nats, of the generated images' modes from the wanted ones: 0 where every "
    "mode is drawn as often as it should be. Real images do not reach 0 either, for they are finitely many.",
    "label-accuracy": "The share of generated images in which a classifier sees the class that was asked for.",
    "memorisation": "The share of generated images that lie as near to a training image as that lies to another, or "
    "nearer. Many land so near by chance; well above the same share of test images, the generator repeats what it saw.",
    "probe": "Accuracy on real test images of a linear classifier on the discriminator's features: what the "
    "discriminator learnt about images, without labels.",
    "one-nn": "Error on real test images of a nearest-neighbour classifier that only knows generated images and the "
    "labels that they were drawn for: whether they stand for their classes.",
}
"""What a number means, by the stem of its name: "fd-mnist-convnet" has the stem "fd"."""


def number(value: float | None) -> str:
    """Return a number as tables show it, with four digits or all whole ones; "not defined" for NaN, "" for None."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return NOT_DEFINED
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def with_error(value: Value) -> str:
    """Return a value with its uncertainty: "12.3 ± 0.1"."""
    error = value.error
    known = error is not None and math.isfinite(error) and math.isfinite(value.value)
    return f"{number(value.value)} ± {error:.2g}" if known else number(value.value)


def stem(name: str) -> str:
    """Return what a number measures, whatever its features: "recall" of "recall-cifar-convnet".

    Args:
        name: of a value; of one that is not known, what stands before its first "-".
    """
    known = [one for one in MEANINGS if name == one or name.startswith(f"{one}-")]
    return max(known, key=len) if known else name.partition("-")[0]


def meaning(name: str) -> str | None:
    """Return what a number of a name means, or None where only its maker knows."""
    return MEANINGS.get(stem(name))


def plain(value: Any) -> str:
    """Return a protocol's value as text: counts with thousands' commas, lists with commas, yes and no."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return number(value)
        case Mapping():
            return ", ".join(f"{label(key)} {plain(one)}" for key, one in value.items())
        case str():
            return value
        case Sequence():
            return "none" if not value else ", ".join(plain(one) for one in value)
        case _:
            return str(value)


_LABELS = {
    "content_sha256": "SHA-256 of the images",
    "generator_sha256": "SHA-256 of the generator",
    "image_size": "size in pixels",
    "sha256": "SHA-256",
}


def label(key: object) -> str:
    """Return a protocol's key as words: "image_size" is "size in pixels"."""
    text = str(key)
    return _LABELS.get(text, text.replace("_", " "))
