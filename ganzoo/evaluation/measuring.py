"""Measuring images that are ready: metrics are sorted by the features that they rest on, which are computed once.

This is the core. It knows nothing of models, sources and sizes; `evaluating.py` makes the images ready.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import ganzoo
from ganzoo.devices import choose_device
from ganzoo.errors import PluginError, UsageError
from ganzoo.evaluation.by_class import class_names, of_each_class, with_classes
from ganzoo.evaluation.choosing import (
    Asked,
    Extractors,
    Given,
    Metrics,
    choose_metrics,
    main_features,
    split_measurable,
)
from ganzoo.evaluation.contract import ImageSet, Progress, Side, Subject, Value, silent
from ganzoo.evaluation.extraction import extract_all, reference_table
from ganzoo.evaluation.results import Evaluation
from ganzoo.evaluation.tables import FeatureTable
from ganzoo.evaluation.working import keep, working_folder
from ganzoo.features.contract import FeatureExtractor

if TYPE_CHECKING:
    from ganzoo.models import Model


def evaluate_images(
    generated: ImageSet,
    reference: ImageSet | None = None,
    *,
    test: ImageSet | None = None,
    metrics: Metrics = None,
    features: str | FeatureExtractor = "auto",
    feature_weights: str | Path | None = None,
    by_class: bool = False,
    model: Model | None = None,
    seed: int = 0,
    device: str = "auto",
    subject: str = "images",
    folder: Path | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Return numbers about images, each with its protocol.

    Args:
        generated: the images that are judged.
        reference: real images that they are compared with, of the same size and channels.
        test: real images that were not trained on, likewise.
        metrics: names or metrics, in the order in which their values are wanted; "all": every registered one that the
            features and the images allow; None: `DEFAULT_METRICS`, without those that need what is not there.
        features: the extractor of all metrics that are bound to none: itself, its name, or "auto": mnist-convnet for
            grey images, cifar-convnet for colours.
        feature_weights: a file of weights for an extractor that would fetch its own.
        by_class: whether each class is measured too, by the metrics that mean something there.
        model: whose images these are, for metrics that look into the discriminator.
        seed: of every random choice of a metric.
        device: of the extractors: "auto", "cpu", "cuda" ….
        subject: what is judged, one line, for the result.
        folder: for drawn images and features while this runs, the caller's to remove; None: a temporary one.
        progress: is told how far it is.

    Raises:
        UnknownNameError: no such metric or extractor.
        UsageError: a metric needs what is not there; too few images, in all or in a class; sizes, channels or classes
            that differ.
        DataError: the disk is full, or images cannot be read.
        DownloadError: an extractor's weights cannot be fetched.
        WeightsError: an extractor's weights cannot be read, or the model draws NaN.
        PluginError: a third party's metric or extractor breaks its contract.
    """
    given = Given(generated, reference, test, model)
    _check_alike(given)
    place = choose_device(device).type
    main = main_features(features, generated.channels)
    asked = choose_metrics(metrics, main if isinstance(main, str) else main.name)
    names = [name for name in dict.fromkeys(one.extractor for one in asked) if name is not None]
    extractors = Extractors(main, feature_weights, device, names)
    asked, left_out = split_measurable(asked, given, extractors)
    classes = class_names(asked, given) if by_class else ()
    values: dict[int, list[Value]] = {}
    with contextlib.ExitStack() as stack:
        working = stack.enter_context(working_folder()) if folder is None else folder
        given = replace(given, generated=keep(generated, working))
        for number, name in enumerate(dict.fromkeys(one.extractor for one in asked)):
            features_in = working / f"features-{number}"
            prepared = _prepare(given, None if name is None else extractors[name], features_in, seed, device, progress)
            for one in asked:
                if one.extractor != name:
                    continue
                try:
                    values[one.number] = _measure(one, prepared, classes)
                except UsageError as error:
                    if not one.may_fail:
                        raise
                    left_out[one.name] = error.message
    found: dict[str, Value] = {}
    for number in sorted(values):
        for value in values[number]:
            found.setdefault(value.name, value)  # fd and fid are one number where the features are inception
    protocol = _protocol(given, extractors) | {"seed": seed, "device": place, "versions": _versions()}
    if left_out:
        protocol["left_out"] = left_out
    return Evaluation(subject, tuple(found.values()), protocol)


def _check_alike(given: Given) -> None:
    for images, what in ((given.reference, "data"), (given.test, "test data")):
        if images is None:
            continue
        one, two = ((each.image_size, each.image_size, each.channels) for each in (given.generated, images))
        if one != two:
            raise UsageError(
                "The images are {}×{}×{}, and those of the {} {}×{}×{}.".format(*one, what, *two),
                "Both must be of one size and of as many channels.",
            )


def _prepare(
    given: Given, extractor: FeatureExtractor | None, folder: Path, seed: int, device: str, progress: Progress
) -> Subject:
    """Return what the metrics on one extractor are given; its features are computed now.

    Args:
        given: the images.
        extractor: None for metrics that need no features.
        folder: where the features of judged images are written.
        seed, device, progress: of the evaluation.
    """

    def side(images: ImageSet | None) -> Side | None:
        if images is None:
            return None
        if extractor is None:
            return Side(images, FeatureTable.of(np.empty((images.count, 0), dtype=np.float32), labels=images.labels))
        return Side(images, reference_table(extractor, images, progress=progress))

    if extractor is None:
        generated = side(given.generated)
    else:
        table = extract_all(extractor, given.generated, folder=folder, progress=progress)
        generated = Side(given.generated, table)
    assert generated is not None
    return Subject(generated, side(given.reference), side(given.test), extractor, given.model, seed, device, progress)


def _measure(asked: Asked, subject: Subject, classes: Sequence[str]) -> list[Value]:
    values = _values(asked, subject)
    if classes and asked.metric.by_class:
        of_classes = {name: _values(asked, one) for name, one in of_each_class(asked, subject, classes)}
        values = [with_classes(value, of_classes, subject.generated) for value in values]
    if subject.extractor is None:
        return values
    return [replace(value, protocol={"features": subject.extractor.name, **value.protocol}) for value in values]


def _values(asked: Asked, subject: Subject) -> list[Value]:
    values: Any = asked.metric.measure(subject)
    if not isinstance(values, list) or not all(isinstance(one, Value) for one in values):
        raise PluginError(f"The metric {asked.name!r} gave no list of values.", "Update or uninstall its package.")
    return values


def _protocol(given: Given, extractors: Extractors) -> dict[str, Any]:
    sides = {"generated": given.generated, "reference": given.reference, "test": given.test}
    protocol: dict[str, Any] = {name: images.to_dict() for name, images in sides.items() if images is not None}
    return protocol | {"features": {one.name: one.to_dict() for one in extractors.opened.values()}}


def _versions() -> Mapping[str, str]:
    return {"ganzoo": ganzoo.__version__, "torch": str(torch.__version__), "numpy": np.__version__}
