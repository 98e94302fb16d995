"""Which metrics are measured: from the names asked for to metrics that have what they need, each with its features."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ganzoo import registry
from ganzoo.errors import PluginError, UnknownNameError, UsageError
from ganzoo.evaluation.contract import ImageSet, Metric, Need
from ganzoo.features.contract import FeatureExtractor, open_extractor

if TYPE_CHECKING:
    from ganzoo.models import Model

DEFAULT_METRICS = ("fd", "kd", "is", "pr", "dc", "ms_ssim")
"""What is measured where nothing else is asked for, as far as it can be."""

ALL = "all"
INCEPTION = "inception"
_OF_CHANNELS = {1: "mnist-convnet", 3: "cifar-convnet"}  # extractors that need no download
_REMEDIES: Mapping[Need, tuple[str, str]] = {
    "reference": ("real images to compare with", "Name them: --data SOURCE."),
    "test": ("real images that were not trained on", "Name them: --test-data SOURCE."),
    "labels": (
        "the classes of all images",
        "Judge a conditional model, or put the images of each class into a folder of its own.",
    ),
    "discriminator": (
        "a model with its discriminator",
        "Name a run, or a model folder that holds discriminator.safetensors.",
    ),
    "logits": ("features that name classes", "Choose others: --features mnist-convnet, cifar-convnet or inception."),
}

Metrics = str | Metric | Sequence[str | Metric] | None


@dataclass(frozen=True)
class Asked:
    """A metric that was asked for.

    Attributes:
        number: its place in the order asked for.
        name: as it was asked for.
        metric: what measures.
        extractor: the name of the features that it rests on; None where it needs none.
        may_lack: whether it is left out where something that it needs is not there; false for one that was named.
        may_fail: whether it is left out whatever keeps it from meaning anything; true for "all".
    """

    number: int
    name: str
    metric: Metric
    extractor: str | None
    may_lack: bool = False
    may_fail: bool = False


@dataclass(frozen=True)
class Given:
    """What there is to measure.

    Attributes:
        generated: the images that are judged.
        reference, test: real images, or None.
        model: whose images they are, or None.
    """

    generated: ImageSet
    reference: ImageSet | None = None
    test: ImageSet | None = None
    model: Model | None = None


class Extractors:
    """The extractors in use, opened when they are first asked for.

    Args:
        main: of all metrics that are bound to none, a name or the extractor itself.
        weights: a file of weights for one of them.
        device: where they run.
        names: of all that are in use.

    Attributes:
        opened: name → extractor.

    Raises:
        UsageError: weights, and no metric that rests on features.
    """

    def __init__(
        self, main: str | FeatureExtractor, weights: str | Path | None, device: str, names: Sequence[str]
    ) -> None:
        self.opened: dict[str, FeatureExtractor] = {} if isinstance(main, str) else {main.name: main}
        self._weights, self._device = weights, device
        if weights is not None and not names:
            raise UsageError("None of the metrics rests on features.", "Leave out --feature-weights.")
        # Inception is the one whose weights are not at hand; elsewhere the file was meant for the features named.
        self._weighted = INCEPTION if INCEPTION in names else next(iter(names), None)

    def __getitem__(self, name: str) -> FeatureExtractor:
        """Return the extractor of a name; its errors are those of `open_extractor`."""
        if name not in self.opened:
            weights = self._weights if name == self._weighted else None
            self.opened[name] = open_extractor(name, weights=weights, device=self._device)
        return self.opened[name]


def main_features(features: str | FeatureExtractor, channels: int) -> str | FeatureExtractor:
    """Return the extractor of metrics that are bound to none, a name or the extractor itself.

    Args:
        features: its name, "auto", or the extractor.
        channels: of the images.

    Raises:
        UnknownNameError: no such extractor.
    """
    if isinstance(features, FeatureExtractor):
        return features
    if features == "auto":
        return _OF_CHANNELS[channels]
    if features not in registry.feature_extractors:
        raise UnknownNameError("feature extractor", features, registry.feature_extractors.names())
    return features


def choose_metrics(metrics: Metrics, features: str) -> list[Asked]:
    """Return the metrics that are asked for, each once, in order.

    Args:
        metrics: names or metrics; "all"; None for `DEFAULT_METRICS`.
        features: the name of the features of metrics that are bound to none.

    Raises:
        UnknownNameError: no such metric.
        UsageError: none is named.
        PluginError: a third party's metric is none.
    """
    chosen: dict[str, tuple[Metric, bool]] = {}
    for one in _listed(metrics):
        if isinstance(one, Metric):
            chosen.setdefault(registry.metrics.name_of(type(one)) or type(one).__name__, (one, False))
        elif one == ALL:
            chosen |= {name: (metric, True) for name, metric in _all_on(features).items() if name not in chosen}
        elif one not in chosen:
            chosen[one] = _made(one), False
    return [
        Asked(number, name, metric, _extractor_of(metric, features), metrics is None or of_all, of_all)
        for number, (name, (metric, of_all)) in enumerate(chosen.items())
    ]


def metric_needs(metrics: Metrics) -> frozenset[Need]:
    """Return everything that some of the metrics need.

    Args:
        metrics: as `choose_metrics` takes them.

    Raises:
        UnknownNameError: no such metric.
    """
    return frozenset(need for one in choose_metrics(metrics, "") for need in one.metric.needs)


def split_measurable(
    asked: Sequence[Asked], given: Given, extractors: Extractors
) -> tuple[list[Asked], dict[str, str]]:
    """Return the metrics that have all that they need, and a sentence for each other one that may be left out.

    Args:
        asked: all of them.
        given: what there is.
        extractors: their features; those whose logits matter are opened.

    Raises:
        UsageError: one that was named lacks something; there are too few images for one of them, for that is nothing
            to pass over; or none is left.
    """
    measurable: list[Asked] = []
    left_out: dict[str, UsageError] = {}
    for one in asked:
        try:
            _check_needs(one, given, extractors)
        except UsageError as error:
            if not one.may_lack:
                raise
            left_out[one.name] = error
            continue
        try:
            _check_enough(one, given)
        except UsageError as error:
            if not one.may_fail:
                raise
            left_out[one.name] = error
            continue
        measurable.append(one)
    if not measurable:
        raise next(iter(left_out.values()))
    return measurable, {name: error.message for name, error in left_out.items()}


def _listed(metrics: Metrics) -> Sequence[str | Metric]:
    listed = DEFAULT_METRICS if metrics is None else [metrics] if isinstance(metrics, str | Metric) else list(metrics)
    if not listed:
        raise UsageError("No metric is named.", f"For example: {', '.join(DEFAULT_METRICS[:3])}.")
    return listed


def _all_on(features: str) -> dict[str, Metric]:
    """Return every registered metric that is bound to no other features; broken plug-ins are passed over."""
    found = {}
    for name in registry.metrics.names():
        with contextlib.suppress(PluginError):
            metric = _made(name)
            if metric.extractor in (None, features):
                found[name] = metric
    return found


def _made(name: str) -> Metric:
    metric = registry.metrics.get(name)()
    if not isinstance(metric, Metric):
        raise PluginError(f"The metric {name!r} is a {type(metric).__name__}, no ganzoo.evaluation.Metric.")
    return metric


def _extractor_of(metric: Metric, features: str) -> str | None:
    return (metric.extractor or features) if metric.needs & {"features", "logits"} else None


def _check_needs(asked: Asked, given: Given, extractors: Extractors) -> None:
    """Refuse a metric that needs what is not there.

    Raises:
        UsageError: what it is, and what to do.
    """
    for need in sorted(asked.metric.needs):
        if not _has(need, asked, given, extractors):
            what, remedy = _REMEDIES[need]
            raise UsageError(f"The metric {asked.name} needs {what}.", remedy)


def _has(need: Need, asked: Asked, given: Given, extractors: Extractors) -> bool:
    match need:
        case "reference":
            return given.reference is not None
        case "test":
            return given.test is not None
        case "labels":
            return all(one is None or one.labels is not None for one in (given.generated, given.reference))
        case "discriminator":
            return given.model is not None and given.model.discriminator is not None
        case "logits":
            return asked.extractor is not None and extractors[asked.extractor].num_classes > 0
        case _:
            return True


def _check_enough(asked: Asked, given: Given) -> None:
    needs, fewest = asked.metric.needs, asked.metric.fewest
    sides = {
        "generated": given.generated,
        "real": given.reference if "reference" in needs else None,
        "test": given.test if "test" in needs else None,
    }
    for what, images in sides.items():
        if images is not None and images.count < fewest:
            raise UsageError(
                f"The metric {asked.name} needs at least {fewest:,} {what} images, and there are {images.count:,}.",
                "Draw more (--count N), or give more." if what == "generated" else "Give more of them.",
            )
