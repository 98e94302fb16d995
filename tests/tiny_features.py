"""What the tests of evaluation share: an extractor that computes in a blink, and metrics whose numbers are plain."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from ganzoo import registry
from ganzoo.evaluation.contract import Metric, Need, Subject, Value, metric_name
from ganzoo.features.contract import Extracted, FeatureExtractor, InputSpec


class Quarters(FeatureExtractor):
    """Means of an image's four quarters; the logits are the first three of them. Counts what it is given."""

    name, sha256, dimension, num_classes, batch_size = "quarters", "ab" * 32, 4, 3, 16
    spec = InputSpec(0, 0, "none", 0.0, 255.0)
    batches: ClassVar[list[int]] = []
    weights: ClassVar[list[Path | None]] = []

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        Quarters.weights.append(weights)

    def extract(self, images: torch.Tensor) -> Extracted:
        Quarters.batches.append(len(images))
        grey = images.float().mean(dim=3)
        half = grey.shape[1] // 2
        quarters = [grey[:, y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
        rows = torch.stack([part.mean(dim=(1, 2)) for part in quarters], dim=1)
        return Extracted(rows, rows[:, :3].contiguous())


class Inception(Quarters):
    """The same, by the name of FID's own network."""

    name = "inception"


class Plain(Quarters):
    """The same without logits."""

    name, num_classes = "plain", 0

    def extract(self, images: torch.Tensor) -> Extracted:
        return Extracted(super().extract(images).features)


class Gap(Metric):
    """Distance between the means of the features."""

    fewest: ClassVar[int] = 3
    by_class: ClassVar[bool] = True

    def measure(self, subject: Subject) -> list[Value]:
        assert subject.reference is not None
        assert subject.extractor is not None
        one, other = (side.table.features().mean(axis=0) for side in (subject.generated, subject.reference))
        name = metric_name("gap", subject.extractor, "gap-of-inception")
        return [Value(name, float(np.abs(one - other).sum()), "lower", protocol={"norm": "l1"})]


class InceptionGap(Gap):
    """The same, bound to its features."""

    extractor: ClassVar[str | None] = "inception"


class Brightness(Metric):
    """Mean of the pixels."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    by_class: ClassVar[bool] = True

    def measure(self, subject: Subject) -> list[Value]:
        images = subject.generated.images
        return [Value("brightness", float(images.read(0, images.count).float().mean()), "higher")]


class Held(Metric):
    """Needs test images."""

    needs: ClassVar[frozenset[Need]] = frozenset({"features", "reference", "test"})

    def measure(self, subject: Subject) -> list[Value]:
        assert subject.test is not None
        return [Value("held", float(len(subject.test.table)), "higher")]


class Looks(Metric):
    """Needs a discriminator."""

    needs: ClassVar[frozenset[Need]] = frozenset({"discriminator"})

    def measure(self, subject: Subject) -> list[Value]:
        assert subject.model is not None
        return [Value("looks", 1.0, "higher")]


class Scores(Metric):
    """Needs logits."""

    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})

    def measure(self, subject: Subject) -> list[Value]:
        return [Value("scores", float(subject.generated.table.logits().mean()), "higher")]


def register_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the extractors and metrics of this file for one test, in place of all of this process's own."""
    extractors: dict[str, Any] = {"quarters": Quarters, "plain": Plain, "inception": Inception}
    extractors |= {"mnist-convnet": Quarters, "cifar-convnet": Plain}
    metrics: dict[str, Any] = {"gap": Gap, "inception_gap": InceptionGap, "brightness": Brightness}
    metrics |= {"held": Held, "looks": Looks, "scores": Scores}
    monkeypatch.setattr(registry.feature_extractors, "_registered", extractors)
    monkeypatch.setattr(registry.metrics, "_registered", metrics)
    monkeypatch.setattr(Quarters, "batches", [])
    monkeypatch.setattr(Quarters, "weights", [])
