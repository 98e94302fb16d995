"""What the tests of evaluation in training share: features and metrics that take no time, registered for one test."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganzoo import registry
from ganzoo.evaluation.contract import Metric, Subject, Value, metric_name
from ganzoo.features.contract import Extracted, FeatureExtractor, InputSpec


class Quarters(FeatureExtractor):
    """The mean brightness of an image's quarters; each quarter is a class, too."""

    name = "quarters"
    sha256 = hashlib.sha256(b"quarters").hexdigest()
    spec = InputSpec(image_size=0, channels=0, resize="none", low=0.0, high=1.0)
    dimension = 4
    num_classes = 4
    batch_size = 8
    opened = 0

    def __init__(self, weights: Path | None = None, device: str = "auto") -> None:
        type(self).opened += 1

    def extract(self, images: torch.Tensor) -> Extracted:
        torch.rand(1)  # as a network's layers may, they draw from everybody's random numbers
        np.random.rand()
        random.random()
        brightness = images.float().mean(dim=3) / 255.0
        quarters = torch.nn.functional.adaptive_avg_pool2d(brightness[:, None], 2).flatten(1)
        return Extracted(quarters, quarters)


class Classless(Quarters):
    """Features that name no classes."""

    name = "classless"
    num_classes = 0

    def extract(self, images: torch.Tensor) -> Extracted:
        return Extracted(super().extract(images).features)


class Gap(Metric):
    """The distance of the mean features, and the spread of the generated ones."""

    fewest = 4
    before: Callable[[Subject], None] | None = None
    """What a test wants to happen within a measurement."""

    def measure(self, subject: Subject) -> list[Value]:
        assert subject.reference is not None
        assert subject.extractor is not None
        if Gap.before is not None:
            Gap.before(subject)
        generated, real = (side.table.features() for side in (subject.generated, subject.reference))
        gap = float(np.abs(generated.mean(axis=0) - real.mean(axis=0)).sum())
        return [
            Value(metric_name("gap", subject.extractor), gap, "lower"),
            Value(metric_name("spread", subject.extractor), float(generated.std()), "reference", protocol={"k": 1}),
        ]


class OfTest(Gap):
    needs = frozenset({"features", "test"})


class OfDiscriminator(Gap):
    needs = frozenset({"discriminator"})


class OfLabels(Gap):
    needs = frozenset({"labels"})


class OfLogits(Gap):
    needs = frozenset({"logits"})


class OfInception(Gap):
    extractor = "inception"


class NoMetric:
    """Something else."""


EXTRACTORS: dict[str, Any] = {"quarters": Quarters, "classless": Classless}
METRICS: dict[str, Any] = {
    "gap": Gap,
    "of-test": OfTest,
    "of-discriminator": OfDiscriminator,
    "of-labels": OfLabels,
    "of-logits": OfLogits,
    "of-inception": OfInception,
    "no-metric": NoMetric,
}
EVALUATE: dict[str, Any] = {"every": 2, "metrics": ["gap"], "features": "quarters", "images": 20}


@contextmanager
def registered() -> Iterator[None]:
    """Within it, these extractors and metrics are registered."""
    for known, entries in ((registry.feature_extractors, EXTRACTORS), (registry.metrics, METRICS)):
        for name, entry in entries.items():
            known.register(name, entry)
    try:
        yield
    finally:
        Gap.before = None
        for known, entries in ((registry.feature_extractors, EXTRACTORS), (registry.metrics, METRICS)):
            for name in entries:
                known._registered.pop(name)
