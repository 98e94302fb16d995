"""Memorisation: how many samples are nearer to a training image than that image is to any other training image.

A. M. Alaa, B. van Breugel, E. Saveliev, M. van der Schaar, "How faithful is your synthetic data?" (ICML 2022, arXiv
2102.08921) call a sample x authentic when it is farther from its nearest training image t than t is from
its own nearest other training image t':

    |x - t| > |t - t'|,    t = the training image nearest to x,    t' = the training image nearest to t, but t

What is counted here is the share of samples that are not. It is no share of copies: images that nobody trained on land
as near by chance, many of them. So the number is read beside the same share of test images, which the generator cannot
know. Of a generator that copies a share p and else draws like the data, the share is p + (1 - p) · that of the test
images; `copied` solves this for p.

A near-copy is nearer by far: |x - t| is at most a third of |t - t'|. The third is that of T. Yoon et al., "Diffusion
probabilistic models generalize when they fail to memorize" (2023), who compare with the second nearest training image.

The reference has to be all training images: copies of those that are left out are not found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ganzoo.errors import UsageError
from ganzoo.evaluation.contract import Metric, Need, Progress, Subject, Value, metric_name
from ganzoo.evaluation.tables import FeatureTable

NEAR_COPY = 1 / 3


@dataclass(frozen=True)
class Nearness:
    """How near images are to training images, measured by how far these are from each other.

    Attributes:
        to_training: (n,) float32, |x - t|: from each image to the nearest training image.
        own: (n,) float32, |t - t'|: from that training image to the nearest other one.
    """

    to_training: npt.NDArray[np.float32]
    own: npt.NDArray[np.float32]

    @property
    def share(self) -> float:
        """Share of the images that are as near to a training image as it is to another one, or nearer."""
        return float((self.to_training <= self.own).mean())

    @property
    def error(self) -> float:
        """Standard error of the share, as of independent images."""
        return math.sqrt(self.share * (1.0 - self.share) / len(self.own))

    @property
    def median_ratio(self) -> float:
        """Median of |x - t| / |t - t'|; where both are 0, 0."""
        ratios = np.zeros(len(self.own))
        np.divide(self.to_training, self.own, out=ratios, where=self.own > 0)
        ratios[(self.own == 0) & (self.to_training > 0)] = np.inf
        return float(np.quantile(ratios, 0.5, method="lower"))  # the mean of two could be that of 1 and infinity

    def near_copies(self, threshold: float = NEAR_COPY) -> int:
        """Return how many images are nearer by far.

        Args:
            threshold: |x - t| / |t - t'| up to which an image counts.
        """
        return int((self.to_training <= threshold * self.own).sum())

    def to_dict(self, threshold: float = NEAR_COPY) -> dict[str, Any]:
        """Return the figures, JSON-able.

        Args:
            threshold: of near-copies.
        """
        ratio = self.median_ratio
        return {
            "images": len(self.own),
            "share": self.share,
            "standard_error": self.error,
            "median_ratio": ratio if math.isfinite(ratio) else None,
            "near_copies": self.near_copies(threshold),
        }


def nearness(images: FeatureTable, training: FeatureTable, progress: Progress | None = None) -> Nearness:
    """Return how near images are to training images.

    Args:
        images: (n, dimension) features.
        training: (at least 3, dimension) features of all training images.
        progress: is told how far it is.

    Raises:
        UsageError: no image, or fewer than three training images.
    """
    from ganzoo.evaluation.distances import nearest

    if len(images) < 1 or len(training) < 3:
        raise UsageError(
            f"{len(images)} images beside {len(training)} training images tell nothing of memorisation.",
            "Give at least one image, and three training images.",
        )
    found, to_training = nearest(images, training, 1, progress=progress)
    chosen, place = np.unique(found[:, 0], return_inverse=True)  # only of these is the own distance needed
    _, distances = nearest(training.subset(chosen), training, 2, progress=progress)
    own = distances[:, 1]  # the first of the two, at 0, is the training image itself or the same once more
    return Nearness(to_training[:, 0], own[place.reshape(-1)])


def copied(share: float, of_unseen: float) -> float:
    """Return the share of samples that are copied, if the others were as near by chance as images never seen.

    Args:
        share: of the samples.
        of_unseen: of test images.
    """
    return (share - of_unseen) / (1.0 - of_unseen) if of_unseen < 1.0 else 0.0


class Memorisation(Metric):
    """The share of samples that are nearer to a training image than it is to another, beside that of test images.

    Args:
        near_copy: ratio |x - t| / |t - t'| up to which a sample is called a near-copy.

    Raises:
        UsageError: a ratio that is not above 0 and at most 1.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"features", "reference"})
    fewest: ClassVar[int] = 2

    def __init__(self, near_copy: float = NEAR_COPY) -> None:
        if not 0.0 < near_copy <= 1.0:
            raise UsageError(f"`near_copy` (={near_copy}) must be above 0 and at most 1.")
        self.near_copy = near_copy

    def measure(self, subject: Subject) -> list[Value]:
        """Return "memorisation-…", whose reference is the share of the test images, where there are any.

        Raises:
            UsageError: no reference, or fewer than three images in it.
        """
        if subject.reference is None or subject.extractor is None:
            raise UsageError("Memorisation is measured by features against training images.", "Name them with --data.")
        training = subject.reference.table
        samples = nearness(subject.generated.table, training, subject.progress)
        unseen = None if subject.test is None else nearness(subject.test.table, training, subject.progress)
        details: dict[str, Any] = {"samples": samples.to_dict(self.near_copy), "test": None, "copied": None}
        if unseen is not None:
            details["test"] = unseen.to_dict(self.near_copy)
            details["copied"] = copied(samples.share, unseen.share)
        return [
            Value(
                name=metric_name("memorisation", subject.extractor),
                value=samples.share,
                better="reference",
                error=samples.error,
                reference=None if unseen is None else unseen.share,
                protocol={
                    "counted": "samples x with |x - t| <= |t - t'|, t nearest to x, t' nearest to t in the reference",
                    "distance": "euclidean",
                    "near_copy": f"|x - t| <= {self.near_copy:.4g} |t - t'|",
                    "error": "standard error of a share",
                    "beside": "the same share of the test images" if unseen else "nothing: no test images were named",
                    "training_images": len(training),
                    # Whether the reference is what the model was trained on, where its model tells; else None.
                    "is_training_data": subject.reference.images.to_dict().get("is_training_data"),
                },
                details=details,
            )
        ]
