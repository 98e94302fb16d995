"""How generated and real images cover each other: precision and recall, density and coverage.

Both lay a ball around each image of a set, out to its k-th nearest neighbour within that set, and count who lies in
whose ball:

precision   share of generated images in a ball of a real one
recall      share of real images in a ball of a generated one
            (T. Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models", 2019,
            eq. 1 to 3)
density     balls of real ones around a generated image, divided by k, on average; can be above 1
coverage    share of real images whose ball holds a generated one
            (M. F. Naeem et al., "Reliable fidelity and diversity metrics for generative models", 2020, eq. 2 and 3)

Each has an edge convention of its paper's code: on the edge is inside for the first two, outside for the other two.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

from ganzoo.errors import UsageError
from ganzoo.evaluation.contract import Metric, Need, Progress, Subject, Value, metric_name
from ganzoo.evaluation.distances import Radii, count_in_balls, nearest
from ganzoo.evaluation.metrics.comparing import BY_TEST_IMAGES, Compared, compared
from ganzoo.evaluation.tables import NEIGHBOURS, FeatureTable

PRECISION_RECALL_NEIGHBOURS = 3
DENSITY_COVERAGE_NEIGHBOURS = 5


def radii(table: FeatureTable, k: int, progress: Progress | None = None) -> Radii:
    """Return the distance of every row from its k-th nearest neighbour in the same table: (len(table),) float32.

    Args:
        table: more than k rows.
        k: at least 1; a row is not its own neighbour.
        progress: is told how many rows are done.

    Raises:
        UsageError: no more rows than k.
        DataError: features that are not finite.
    """
    if k <= min(NEIGHBOURS, len(table) - 1):
        return table.neighbour_distances(progress)[:, k - 1].copy()
    _, distances = nearest(table, table, k, same=True, progress=progress)
    return distances[:, -1].copy()


def precision_recall(
    generated: FeatureTable,
    reference: FeatureTable,
    *,
    k: int = PRECISION_RECALL_NEIGHBOURS,
    real_radii: Radii | None = None,
    progress: Progress | None = None,
) -> tuple[float, float]:
    """Return precision and recall, each in [0, 1].

    Args:
        generated, reference: more than k rows each.
        k: number of neighbours.
        real_radii: `radii(reference, k)`, where they are known.
        progress: is told how far it is.

    Raises:
        UsageError: too few rows.
        DataError: features that are not finite.
    """
    real_radii = radii(reference, k, progress) if real_radii is None else real_radii
    precise = count_in_balls(generated, reference, real_radii, with_edge=True, progress=progress)
    own = radii(generated, k, progress)
    recalled = count_in_balls(reference, generated, own, with_edge=True, progress=progress)
    return float((precise.around_point > 0).mean()), float((recalled.around_point > 0).mean())


def density_coverage(
    generated: FeatureTable,
    reference: FeatureTable,
    *,
    k: int = DENSITY_COVERAGE_NEIGHBOURS,
    real_radii: Radii | None = None,
    progress: Progress | None = None,
) -> tuple[float, float]:
    """Return density, at least 0, and coverage, in [0, 1].

    Args:
        generated: at least one row.
        reference: more than k rows.
        k: number of neighbours.
        real_radii: `radii(reference, k)`, where they are known.
        progress: is told how far it is.

    Raises:
        UsageError: too few rows.
        DataError: features that are not finite.
    """
    real_radii = radii(reference, k, progress) if real_radii is None else real_radii
    counts = count_in_balls(generated, reference, real_radii, with_edge=False, progress=progress)
    return float(counts.around_point.mean() / k), float((counts.in_ball > 0).mean())


class _Balls(Metric):
    """What both pairs of numbers share.

    Args:
        k: number of neighbours.

    Raises:
        UsageError: `k` below 1.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"features", "reference"})
    by_class: ClassVar[bool] = True
    names: ClassVar[tuple[str, str]]
    edge: ClassVar[Literal["inside", "outside"]]

    def __init__(self, k: int) -> None:
        if k < 1:
            raise UsageError(f"A number of neighbours of {k} is none.", "Take at least 1.")
        self.k = k

    def measure(self, subject: Subject) -> list[Value]:
        """Return two numbers, beside those of the test images where there are some.

        Raises:
            UsageError: no more images than neighbours on a side, or no reference.
            DataError: features that are not finite.
        """
        sides = compared(subject, self.k + 1)
        known = radii(sides.reference, self.k, subject.progress)
        tables = [sides.generated, *([] if sides.test is None else [sides.test])]
        found = [self._pair(table, sides.reference, known, subject.progress) for table in tables]
        protocol = self._protocol(sides)
        return [
            Value(
                name=metric_name(name, sides.extractor),
                value=numbers[0],
                better="higher",
                reference=numbers[1] if len(numbers) > 1 else None,
                protocol=protocol,
            )
            for name, numbers in zip(self.names, zip(*found, strict=True), strict=True)
        ]

    @abstractmethod
    def _pair(
        self, generated: FeatureTable, reference: FeatureTable, known: Radii, progress: Progress
    ) -> tuple[float, float]:
        """Return the two numbers, the radii around the reference being known."""

    def _protocol(self, sides: Compared) -> dict[str, Any]:
        protocol: dict[str, Any] = {
            "k": self.k,
            "on_the_edge": self.edge,
            "generated_count": len(sides.generated),
            "reference_count": len(sides.reference),
        }
        if sides.test is not None:
            protocol |= {"reference_figure": BY_TEST_IMAGES, "test_count": len(sides.test)}
        return protocol


class PrecisionRecall(_Balls):
    """Improved precision and recall: "precision-mnist-convnet", "recall-mnist-convnet".

    Args:
        k: number of neighbours.

    Raises:
        UsageError: `k` below 1.
    """

    fewest: ClassVar[int] = PRECISION_RECALL_NEIGHBOURS + 1
    names = ("precision", "recall")
    edge = "inside"

    def __init__(self, *, k: int = PRECISION_RECALL_NEIGHBOURS) -> None:
        super().__init__(k)

    def _pair(
        self, generated: FeatureTable, reference: FeatureTable, known: Radii, progress: Progress
    ) -> tuple[float, float]:
        return precision_recall(generated, reference, k=self.k, real_radii=known, progress=progress)


class DensityCoverage(_Balls):
    """Density and coverage: "density-mnist-convnet", "coverage-mnist-convnet".

    Args:
        k: number of neighbours.

    Raises:
        UsageError: `k` below 1.
    """

    fewest: ClassVar[int] = DENSITY_COVERAGE_NEIGHBOURS + 1
    names = ("density", "coverage")
    edge = "outside"

    def __init__(self, *, k: int = DENSITY_COVERAGE_NEIGHBOURS) -> None:
        super().__init__(k)

    def _pair(
        self, generated: FeatureTable, reference: FeatureTable, known: Radii, progress: Progress
    ) -> tuple[float, float]:
        return density_coverage(generated, reference, k=self.k, real_radii=known, progress=progress)
