"""The same number of each class alone: what a conditional model does well, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ganzoo.errors import UsageError
from ganzoo.evaluation.choosing import Asked, Given
from ganzoo.evaluation.contract import Side, Subject, Value
from ganzoo.evaluation.image_sets import ChosenImages

_LEAVE_OUT = "or leave out --by-class"


def class_names(asked: Sequence[Asked], given: Given) -> tuple[str, ...]:
    """Return the names of the classes that can be measured one by one.

    Args:
        asked: the metrics.
        given: the images.

    Raises:
        UsageError: no metric that means anything there, images without classes, or other classes on the two sides.
    """
    if not any(one.metric.by_class for one in asked):
        raise UsageError("None of these metrics means anything class by class.", "Leave out --by-class.")
    sides = {"images that are judged": given.generated, "data": given.reference, "test data": given.test}
    names: tuple[str, ...] = given.generated.classes
    for what, images in sides.items():
        if images is None:
            continue
        if images.labels is None:
            raise UsageError(f"The {what} have no classes.", f"Put each class into a folder of its own, {_LEAVE_OUT}.")
        if len(images.classes) != len(names):
            raise UsageError(
                f"The images have {len(names)} classes, and the {what} {len(images.classes)}.",
                f"Name data with the same classes, {_LEAVE_OUT}.",
            )
        if not _named(names):
            names = images.classes
        elif _named(images.classes) and images.classes != names:
            one, other = next(pair for pair in zip(names, images.classes, strict=True) if pair[0] != pair[1])
            raise UsageError(
                f"The classes of the {what} are others than those of the images: {other!r} stands where {one!r} does.",
                f"Give them the same names, {_LEAVE_OUT}.",
            )
    return names


def of_each_class(asked: Asked, subject: Subject, classes: Sequence[str]) -> Iterator[tuple[str, Subject]]:
    """Yield (name of a class, what a metric is given of it).

    Args:
        asked: the metric.
        subject: all classes together, every side with labels.
        classes: their names.

    Raises:
        UsageError: a class has no images, or too few for the metric.
    """
    for number, name in enumerate(classes):
        generated = _of_class(subject.generated, number, name)
        reference = None if subject.reference is None else _of_class(subject.reference, number, name)
        test = None if subject.test is None else _of_class(subject.test, number, name)
        for what, side in {"generated": generated, "real": reference, "test": test}.items():
            if side is not None and side.images.count < asked.metric.fewest:
                raise UsageError(
                    f"The class {name!r} has {side.images.count:,} {what} images, and the metric {asked.name} needs at "
                    f"least {asked.metric.fewest:,}.",
                    f"Give more of it (--count N draws more), {_LEAVE_OUT}.",
                )
        yield name, replace(subject, generated=generated, reference=reference, test=test)


def with_classes(value: Value, of_classes: Mapping[str, Sequence[Value]], generated: Side) -> Value:
    """Return a value with the same number of each class, their mean and how many images each has, in its details.

    Args:
        value: of all classes together.
        of_classes: name of a class → the metric's values there.
        generated: all judged images.
    """
    numbers = {name: one.value for name, values in of_classes.items() for one in values if one.name == value.name}
    if not numbers:
        return value
    labels = generated.images.labels
    counts = np.bincount(np.empty(0, np.int64) if labels is None else labels, minlength=len(of_classes))
    details: dict[str, Any] = {
        "by_class": numbers,
        "mean_of_classes": float(np.mean(list(numbers.values()))),
        "images_of_classes": {name: int(count) for name, count in zip(of_classes, counts, strict=False)},
    }
    return replace(value, details={**value.details, **details})


def _of_class(side: Side, number: int, name: str) -> Side:
    labels = side.images.labels
    indices = np.flatnonzero(labels == number) if labels is not None else np.empty(0, np.int64)
    return Side(ChosenImages(side.images, indices, f"class {name}"), side.table.subset(indices))


def _named(classes: Sequence[str]) -> bool:
    """Return whether classes have names, and not only numbers."""
    return any(not name.isdecimal() for name in classes)
