"""What the metrics that compare two tables of features begin with."""

from __future__ import annotations

from dataclasses import dataclass

from ganzoo.errors import DataError, UsageError
from ganzoo.evaluation.contract import Subject
from ganzoo.evaluation.tables import FeatureTable
from ganzoo.features.contract import FeatureExtractor

BY_TEST_IMAGES = "the test images in the place of the generated ones"
"""Which figure of real images stands beside a distance, as a protocol tells it."""


@dataclass(frozen=True)
class Compared:
    """The tables of a comparison.

    Attributes:
        generated: features of the generated images.
        reference: features of real images.
        test: features of real images that were not trained on, or None.
        extractor: that made them.
    """

    generated: FeatureTable
    reference: FeatureTable
    test: FeatureTable | None
    extractor: FeatureExtractor


def compared(subject: Subject, fewest: int) -> Compared:
    """Return the tables that a metric compares.

    Args:
        subject: what it was given.
        fewest: how many rows it needs on each side; a test set with fewer is left out.

    Raises:
        UsageError: no reference or no features, features of two kinds, or too few of them.
    """
    if subject.reference is None:
        raise UsageError("There are no real images to compare with.", "Name some with --data.")
    if subject.extractor is None:
        raise UsageError("There are no features to compare.", "Name an extractor with --features.")
    generated, reference = subject.generated.table, subject.reference.table
    if generated.dimension != reference.dimension:
        raise UsageError(
            f"Features of {generated.dimension} and of {reference.dimension} numbers cannot be compared.",
            "Take both from one extractor.",
        )
    for kind, table in (("generated", generated), ("real", reference)):
        require(len(table), fewest, kind)
    test = None if subject.test is None else subject.test.table
    usable = test is not None and test.dimension == generated.dimension and len(test) >= fewest
    return Compared(generated, reference, test if usable else None, subject.extractor)


def require(count: int, fewest: int, kind: str) -> None:
    """Refuse too few images.

    Args:
        count: how many there are.
        fewest: how many are needed.
        kind: of images: "generated".

    Raises:
        UsageError: there are fewer.
    """
    if count < fewest:
        raise UsageError(f"{count} {kind} images are too few: at least {fewest} are needed.", "Take more images.")


def refuse_not_finite(finite: bool) -> None:
    """Refuse features that are not finite.

    Raises:
        DataError: they are not.
    """
    if not finite:
        raise DataError("Some features are not finite numbers.", "Look for broken images or weights.")
