"""Features without images, and the subjects that are made of them: what the tests of metrics share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.evaluation.contract import Side, Subject
from ganzoo.evaluation.image_sets import ArrayImages
from ganzoo.evaluation.tables import FeatureTable
from ganzoo.features.contract import Extracted, FeatureExtractor, InputSpec

Floats = npt.NDArray[np.float32]


class NamedFeatures(FeatureExtractor):
    """An extractor that is no more than its name."""

    sha256, dimension, spec = "0" * 64, 1, InputSpec(0, 0, "none", 0.0, 1.0)

    def __init__(self, name: str = "some") -> None:
        self.name = name

    def extract(self, images: Any) -> Extracted:
        raise NotImplementedError


def relu_features(count: int, dimension: int, *, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> Floats:
    """Features as networks give them: correlated, not below zero. (count, dimension) float32."""
    mixing = np.random.default_rng(99).normal(size=(dimension, dimension)) / dimension**0.5
    normal = np.random.default_rng(seed).normal(size=(count, dimension))
    return np.asarray(np.maximum(scale * normal @ mixing + shift, 0), dtype=np.float32)


def side(features: npt.ArrayLike, logits: Floats | None = None) -> Side:
    rows = np.asarray(features, dtype=np.float32)
    return Side(ArrayImages(np.zeros((len(rows), 1, 1, 1), dtype=np.uint8)), FeatureTable.of(rows, logits))


def subject(
    generated: npt.ArrayLike,
    reference: npt.ArrayLike | None = None,
    test: npt.ArrayLike | None = None,
    *,
    extractor: str = "some",
    seed: int = 0,
) -> Subject:
    return Subject(
        side(generated),
        None if reference is None else side(reference),
        None if test is None else side(test),
        NamedFeatures(extractor),
        seed=seed,
    )
