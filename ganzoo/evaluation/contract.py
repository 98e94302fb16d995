"""What a metric is: numbers about generated images beside real ones, each with what it takes to repeat it.

A metric of one's own derives from `Metric` and is registered:

    @ganzoo.register_metric("my-metric")
    class MyMetric(Metric): ...                    # ganzoo evaluate … --metrics my-metric
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from ganzoo.evaluation.tables import FeatureTable

if TYPE_CHECKING:
    import torch

    from ganzoo.features.contract import FeatureExtractor
    from ganzoo.models import Model

Better = Literal["lower", "higher", "reference"]
Need = Literal["features", "logits", "labels", "reference", "test", "discriminator"]
Progress = Callable[[str, int, int], None]
"""Is told, while something long runs, what it is, how much is done, and of how much."""


def silent(what: str, done: int, of: int) -> None:
    """Tell nobody."""


class ImageSet(Protocol):
    """Images that are judged, or that others are judged by: drawn from seeds, or read from a pack.

    The same set gives the same bytes each time that it is read.

    Attributes:
        count: how many there are.
        image_size: side of the square images, in pixels.
        channels: 1 or 3.
        labels: (N,) int64 classes, or None.
        classes: names of the classes, may be empty.
    """

    count: int
    image_size: int
    channels: int
    labels: npt.NDArray[np.int64] | None
    classes: tuple[str, ...]

    def read(self, first: int, last: int) -> torch.Tensor:
        """Return images `first` to `last`, exclusive: (n, H, W, C) uint8, on the CPU."""

    def gather(self, indices: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return images by number: (len(indices), H, W, C) uint8, on the CPU."""

    def fingerprint(self) -> str | None:
        """Return a text that changes when the images do; None where only reading them could tell."""

    def to_dict(self) -> dict[str, Any]:
        """Return what a protocol tells of them: kind, description, count, size, seeds, checkpoint …"""


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        images: the images.
        table: their features by the extractor in use; empty of columns where the metric needs none.
    """

    images: ImageSet
    table: FeatureTable


@dataclass(frozen=True)
class Subject:
    """What a metric is given.

    Attributes:
        generated: the images that are judged.
        reference: real images, as a rule those of the training; None where no data were named.
        test: real images that were not trained on; None where none were named.
        extractor: that made the features; None for metrics that need none.
        model: the judged model with its networks, for metrics that look into the discriminator; else None.
        seed: of every random choice that a metric makes (subsets, pairs, splits).
        device: where a metric that runs networks of its own should: "auto", "cpu", "cuda" ….
        progress: is told how far it is.
    """

    generated: Side
    reference: Side | None = None
    test: Side | None = None
    extractor: FeatureExtractor | None = None
    model: Model | None = None
    seed: int = 0
    device: str = "auto"
    progress: Progress = silent


@dataclass(frozen=True)
class Value:
    """One number, with what it takes to repeat it.

    Attributes:
        name: as it is printed: "fid", "fd-mnist-convnet", "recall-cifar-convnet".
        value: the number.
        better: "lower", "higher", or "reference": the nearer to the same figure of real images.
        error: its uncertainty, of the kind that `protocol["error"]` tells; None where there is none.
        reference: the same figure of the real images, where the metric has one.
        protocol: how this number was computed, JSON-able: k, splits, subsets, …; counts, extractor and images are added
            by the evaluation.
        details: what belongs to it and is more than a number, JSON-able: histograms, per class.
    """

    name: str
    value: float
    better: Better
    error: float | None = None
    reference: float | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


class Metric(ABC):
    """Measures one thing, in one or several numbers. Constructor arguments, all with defaults, are its protocol.

    Attributes:
        needs: what must be there: "features", "logits" (of the extractor, for the generated images), "labels" (of both
            sides), "reference", "test", "discriminator". Without "features" and "logits" no extractor is run.
        extractor: the only extractor on which it means anything, or None for any.
        fewest: how many generated images it needs at least (and real ones, if it needs a reference).
        by_class: whether it also means something class by class, when both sides have labels.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"features", "reference"})
    extractor: ClassVar[str | None] = None
    fewest: ClassVar[int] = 2
    by_class: ClassVar[bool] = False

    @abstractmethod
    def measure(self, subject: Subject) -> list[Value]:
        """Return its numbers.

        Raises:
            UsageError: too few images, classes that do not fit, or whatever keeps it from meaning anything.
        """


def metric_name(stem: str, extractor: FeatureExtractor, inception: str | None = None) -> str:
    """Return the name of a number that rests on features: "fd-mnist-convnet"; "fid" for FID's own network and weights.

    Args:
        stem: what it is on any features: "fd".
        extractor: the features.
        inception: what it is called on FID's own ("fid"); None: the stem alone.
    """
    if extractor.name == "inception":
        return inception or stem
    return f"{stem}-{extractor.name}"
