"""How well generated images teach: the error of a nearest-neighbour classifier that knows only them.

The appendix of the DCGAN paper (Radford, Metz and Chintala, arXiv 1511.06434, table 3) judges a conditional generator
of digits so: each real test image gets the class of the nearest generated image, by Euclidean distance of pixels. It is
read beside the error of as many real training images: the paper has 2.98 % for 50,000 images of its DCGAN, 6.28 % for
those of a GAN without convolutions, and 3.1 % for the 50,000 real ones.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ganzoo.errors import UsageError
from ganzoo.evaluation.contract import ImageSet, Metric, Need, Progress, Subject, Value
from ganzoo.evaluation.distances import nearest
from ganzoo.evaluation.extraction import extract_all
from ganzoo.evaluation.tables import FeatureTable
from ganzoo.features.pixels import Pixels

Integers = npt.NDArray[np.int64]


class OneNN(Metric):
    """Error of a 1-nearest-neighbour classifier on generated images, on real test images."""

    needs: ClassVar[frozenset[Need]] = frozenset({"labels", "test"})
    fewest: ClassVar[int] = 2

    def measure(self, subject: Subject) -> list[Value]:
        """Return "one-nn-error", whose reference is the error of as many real training images, where there are any.

        Raises:
            UsageError: images without labels, or of another size; a class of the test images that is never generated.
        """
        if subject.test is None:
            raise UsageError("The metric one_nn needs real test images.", "Name them: --test-data SOURCE.")
        generated, test = subject.generated.images, subject.test.images
        named = _labels(generated, "generated")
        right = _labels(test, "test")
        _check_classes(generated, test, named, right)
        queries = _pixels(test, test, subject.progress)
        wrong = _wrong(queries, right, _pixels(generated, test, subject.progress), named, subject.progress)
        reference, details = None, _by_class(wrong, right, test.classes)
        training = None if subject.reference is None else subject.reference.images
        if training is not None:
            labels = _labels(training, "training")
            rows = _as_many(training.count, generated.count, subject.seed)
            table = _pixels(training, test, subject.progress).subset(rows)
            of_real = _wrong(queries, right, table, labels[rows], subject.progress)
            reference = float(of_real.mean())
            details |= {"reference_images": len(rows), "reference": _by_class(of_real, right, test.classes)}
        error = float(wrong.mean())
        return [
            Value(
                name="one-nn-error",
                value=error,
                better="lower",
                error=math.sqrt(error * (1.0 - error) / len(wrong)),
                reference=reference,
                protocol={
                    "classifier": "nearest neighbour, k = 1",
                    "distance": "euclidean",
                    "features": "pixels",
                    "error": "standard error of a share of the test images",
                    "training_images": generated.count,
                    "test_images": len(wrong),
                    "beside": "nothing: no training images were named"
                    if reference is None
                    else f"the same of {details['reference_images']} real training images",
                },
                details=details,
            )
        ]


def _labels(images: ImageSet, what: str) -> Integers:
    if images.labels is None:
        raise UsageError(
            f"The metric one_nn needs classes, and the {what} images have none.",
            "Judge a conditional model, or put the images of each class into a folder of its own.",
        )
    return np.asarray(images.labels, dtype=np.int64)


def _check_classes(generated: ImageSet, test: ImageSet, named: Integers, right: Integers) -> None:
    if missing := sorted(set(np.unique(right).tolist()) - set(np.unique(named).tolist())):
        name = test.classes[missing[0]] if missing[0] < len(test.classes) else str(missing[0])
        raise UsageError(
            f"None of the {generated.count} generated images is of class {name!r}, which is among the test images.",
            "Draw images of every class.",
        )


def _pixels(images: ImageSet, like: ImageSet, progress: Progress) -> FeatureTable:
    channels: Literal[1, 3] = 1 if like.channels == 1 else 3
    return extract_all(Pixels(image_size=like.image_size, channels=channels), images, progress=progress)


def _wrong(
    queries: FeatureTable, right: Integers, base: FeatureTable, labels: Integers, progress: Progress
) -> npt.NDArray[np.bool_]:
    """Return which test images are named wrongly: (N,)."""
    found, _ = nearest(queries, base, 1, progress=progress)
    wrong: npt.NDArray[np.bool_] = labels[found[:, 0]] != right
    return wrong


def _as_many(there: int, wanted: int, seed: int) -> Integers:
    """Return the numbers of as many images as are wanted, or of all there are: sorted."""
    if wanted >= there:
        return np.arange(there)
    return np.sort(np.random.default_rng(seed).choice(there, wanted, replace=False)).astype(np.int64)


def _by_class(wrong: npt.NDArray[np.bool_], right: Integers, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the error of each class by name."""
    return {
        "by_class": {
            classes[one] if one < len(classes) else str(one): float(wrong[right == one].mean())
            for one in np.unique(right).tolist()
        }
    }
