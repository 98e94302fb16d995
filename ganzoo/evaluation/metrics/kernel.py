"""Kernel distance between two sets of features: on Inception's features, KID.

The squared maximum mean discrepancy under the kernel k(x, y) = (x·y / dimension + 1)³, without bias and so at times
below zero, as the mean over random subsets (M. Bińkowski et al., "Demystifying MMD GANs", ICLR 2018, section 4):

    MMD² = mean of k(x, x') over x ≠ x'  +  mean of k(y, y') over y ≠ y'  -  2 mean of k(x, y)

Its error. What other tools print beside it, the standard deviation over the subsets, is that of one subset, not of
their mean; divided by the root of their number it is too small, for subsets share images. What the mean would scatter
by, were all n images x and m images y drawn anew, is the error of MMD² of all of them (W. Hoeffding, "A class of
statistics with asymptotically normal distribution", 1948), and what the choice of the subsets adds:

    error² = 4 Var h(x) / n + 4 Var h(y) / m + 2 v(x, x') / n² + 2 v(y, y') / m² + 4 v(x, y) / nm
             + variance over the subsets / number of subsets

where h(x) = E k(x, x') - E k(x, y) is what an image contributes, and v the variance of k with one image held fixed,
which alone remains where both sides are alike. Both are estimated within the subsets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ganzoo.errors import UsageError
from ganzoo.evaluation.contract import Metric, Need, Subject, Value, metric_name
from ganzoo.evaluation.metrics.comparing import BY_TEST_IMAGES, compared, refuse_not_finite
from ganzoo.evaluation.tables import FeatureTable

SUBSETS = 100
SUBSET_SIZE = 1000
_DEGREE, _CONSTANT = 3, 1.0


@dataclass(frozen=True)
class KernelEstimate:
    """What the subsets say.

    Attributes:
        mean: of MMD² over the subsets.
        deviation: standard deviation of MMD² over the subsets.
        error: standard error of the mean.
    """

    mean: float
    deviation: float
    error: float


def kernel_distance(
    one: FeatureTable,
    other: FeatureTable,
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
    tell: Callable[[int], None] | None = None,
) -> KernelEstimate:
    """Return the mean of MMD² over random subsets.

    Args:
        one, other: features, at least `subset_size` each.
        subsets: how many are drawn, without replacement within a subset.
        subset_size: rows of each table in a subset, at least 2.
        seed: of NumPy's RandomState, which draws as it does in other tools, for ever.
        tell: is told how many subsets are done.

    Raises:
        UsageError: a subset is larger than a table.
        DataError: features that are not finite.
    """
    if not 2 <= subset_size <= min(len(one), len(other)):
        raise UsageError(f"Subsets of {subset_size} cannot be drawn from {len(one)} and {len(other)} images.")
    random = np.random.RandomState(seed % 2**32)
    found = np.empty((subsets, 6))
    for number in range(subsets):
        chosen = [random.choice(len(table), subset_size, replace=False) for table in (one, other)]
        x, y = (torch.from_numpy(table.gather(rows)) for table, rows in zip((one, other), chosen, strict=True))
        found[number] = _discrepancy(x.double(), y.double())
        if tell is not None:
            tell(number + 1)
    refuse_not_finite(bool(np.isfinite(found).all()))
    squares = found[:, 0]
    h_x, h_y, v_x, v_y, v_xy = found[:, 1:].mean(axis=0).clip(min=0)
    n, m = len(one), len(other)
    of_images = 4 * h_x / n + 4 * h_y / m + 2 * v_x / n**2 + 2 * v_y / m**2 + 4 * v_xy / (n * m)
    return KernelEstimate(
        mean=float(squares.mean()),
        deviation=float(squares.std()),
        error=math.sqrt(of_images + squares.var() / subsets),
    )


def _discrepancy(x: torch.Tensor, y: torch.Tensor) -> tuple[float, ...]:
    """Return MMD², Var h(x), Var h(y), v(x, x'), v(y, y') and v(x, y) of a subset.

    Args:
        x, y: (size, dimension) float64.
    """
    size = len(x)
    across = _kernel(x, y)
    xx, v_x = _others(_kernel(x, x))
    yy, v_y = _others(_kernel(y, y))
    h_x, h_y = xx - across.mean(dim=1), yy - across.mean(dim=0)
    v_x_given, v_y_given = float(across.var(dim=1).mean()), float(across.var(dim=0).mean())
    # The means over few others scatter too; that part is not the images' own.
    own_x = float(h_x.var()) - v_x / (size - 1) - v_x_given / size
    own_y = float(h_y.var()) - v_y / (size - 1) - v_y_given / size
    return float(h_x.mean() + h_y.mean()), own_x, own_y, v_x, v_y, (v_x_given + v_y_given) / 2


def _kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x @ y.T).mul_(1.0 / x.shape[1]).add_(_CONSTANT).pow_(_DEGREE)


def _others(kernel: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return means (size,) of the rows of a square matrix without its diagonal, and the mean of their variances."""
    others = len(kernel) - 1
    means = (kernel.sum(dim=1) - kernel.diagonal()) / others
    deviations = kernel - means[:, None]
    squares = deviations.square().sum(dim=1) - deviations.diagonal().square()
    return means, float(squares.mean()) / max(1, others - 1)


class KernelDistance(Metric):
    """Kernel distance to the reference: "kd-mnist-convnet"; on FID's own Inception, "kid".

    Args:
        subsets: how many.
        subset_size: images of each side in a subset; all there are, where that is fewer.

    Raises:
        UsageError: no subset, or subsets of fewer than two images.
    """

    fewest: ClassVar[int] = 2
    by_class: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = frozenset({"features", "reference"})

    def __init__(self, *, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE) -> None:
        if subsets < 1 or subset_size < 2:
            raise UsageError(
                f"{subsets} subsets of {subset_size} images give no distance.", "Take at least 1 subset of 2 images."
            )
        self.subsets, self.subset_size = subsets, subset_size

    def measure(self, subject: Subject) -> list[Value]:
        """Return one number with its standard error, beside that of the test images where there are some.

        Raises:
            UsageError: fewer than two images on a side, or no reference.
            DataError: features that are not finite.
        """
        sides = compared(subject, self.fewest)
        size, found = self._distance(sides.generated, sides.reference, subject)
        protocol: dict[str, Any] = {
            "kernel": "(x·y / dimension + 1)³, unbiased",
            "subsets": self.subsets,
            "subset_size": size,
            "subset_size_asked_for": self.subset_size,
            "seed": subject.seed,
            "error": "standard error of the mean: of the images and of the choice of subsets",
            "deviation_over_subsets": found.deviation,
            "generated_count": len(sides.generated),
            "reference_count": len(sides.reference),
        }
        figure = None
        if sides.test is not None:
            size, of_test = self._distance(sides.test, sides.reference, subject)
            figure = of_test.mean
            protocol |= {
                "reference_figure": BY_TEST_IMAGES,
                "test_count": len(sides.test),
                "test_subset_size": size,
                "test_error": of_test.error,
            }
        name = metric_name("kd", sides.extractor, "kid")
        return [Value(name, found.mean, "lower", error=found.error, reference=figure, protocol=protocol)]

    def _distance(self, one: FeatureTable, other: FeatureTable, subject: Subject) -> tuple[int, KernelEstimate]:
        size = min(self.subset_size, len(one), len(other))
        return size, kernel_distance(
            one,
            other,
            subsets=self.subsets,
            subset_size=size,
            seed=subject.seed,
            tell=lambda done: subject.progress("kernel distance", done, self.subsets),
        )


class KernelInceptionDistance(KernelDistance):
    """KID: the kernel distance on the features of InceptionV3, whatever features the other metrics use."""

    extractor: ClassVar[str | None] = "inception"
