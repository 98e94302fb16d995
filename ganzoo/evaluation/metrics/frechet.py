"""Fréchet distance between two sets of features, each taken for a Gaussian: on Inception's features, FID.

    FD = |m1 - m2|² + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2))

(D. Dowson, B. Landau, "The Fréchet distance between multivariate normal distributions", 1982; M. Heusel et al., "GANs
trained by a two time-scale update rule", 2017, eq. 6.) The last trace is the sum of the singular values of L1ᵀ L2 for
any L with S = L Lᵀ. So no root of a product is taken: nothing becomes complex, and nothing has to be added to the
diagonal of covariances that are singular because there are fewer images than features.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from ganzoo.errors import UsageError
from ganzoo.evaluation.contract import Metric, Need, Subject, Value, metric_name
from ganzoo.evaluation.metrics.comparing import BY_TEST_IMAGES, compared, refuse_not_finite
from ganzoo.evaluation.tables import FeatureTable, Moments


def frechet_distance(one: Moments, other: Moments) -> float:
    """Return the Fréchet distance (squared, as FID is) of two Gaussians, in float64; never below 0.

    Args:
        one, other: their moments.

    Raises:
        UsageError: they differ in dimension.
        DataError: moments that are not finite.
    """
    if len(one.mean) != len(other.mean):
        raise UsageError(f"Gaussians of {len(one.mean)} and of {len(other.mean)} dimensions have no distance.")
    refuse_not_finite(all(np.isfinite(part).all() for m in (one, other) for part in (m.mean, m.covariance)))
    shift = one.mean - other.mean
    overlap = torch.linalg.svdvals(_factor(one).T @ _factor(other)).sum()
    spread = np.trace(one.covariance) + np.trace(other.covariance)
    return max(0.0, float(shift @ shift + spread - 2.0 * float(overlap)))


def _factor(moments: Moments) -> torch.Tensor:
    """Return L (dimension, rank) with S = L Lᵀ; what is zero but for rounding is left out."""
    covariance = torch.from_numpy(moments.covariance)
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    kept = values > len(values) * torch.finfo(torch.float64).eps * values[-1].clamp(min=0)
    factor: torch.Tensor = vectors[:, kept] * values[kept].sqrt()
    return factor


class FrechetDistance(Metric):
    """Fréchet distance to the reference: "fd-mnist-convnet"; on FID's own Inception, "fid".

    Biased upwards, the more the fewer images: compare only numbers of equally many. With no more images than features
    the protocol says so.
    """

    fewest: ClassVar[int] = 2
    by_class: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = frozenset({"features", "reference"})

    def measure(self, subject: Subject) -> list[Value]:
        """Return one number, beside that of the test images where there are some.

        Raises:
            UsageError: fewer than two images on a side, or no reference.
            DataError: features that are not finite.
        """
        sides = compared(subject, self.fewest)
        real = sides.reference.moments
        return [
            Value(
                name=metric_name("fd", sides.extractor, "fid"),
                value=frechet_distance(sides.generated.moments, real),
                better="lower",
                reference=None if sides.test is None else frechet_distance(sides.test.moments, real),
                protocol=_protocol(sides.generated, sides.reference, sides.test),
            )
        ]


class FrechetInceptionDistance(FrechetDistance):
    """FID: the Fréchet distance on the features of InceptionV3, whatever features the other metrics use."""

    extractor: ClassVar[str | None] = "inception"


def _protocol(generated: FeatureTable, reference: FeatureTable, test: FeatureTable | None) -> dict[str, Any]:
    protocol: dict[str, Any] = {
        "generated_count": len(generated),
        "reference_count": len(reference),
        "covariance": "normalised by count - 1, float64",
        "root": "singular values of L1ᵀ L2",
    }
    if test is not None:
        protocol |= {"reference_figure": BY_TEST_IMAGES, "test_count": len(test)}
    fewest = min(len(generated), len(reference))
    if fewest <= generated.dimension:
        protocol["warning"] = (
            f"{fewest} images have no full covariance of {generated.dimension} features: biased upwards"
        )
    return protocol
