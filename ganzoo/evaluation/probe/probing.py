"""Probing features: how well linear classifiers on them name real images, and what else would have done as well.

A linear support vector machine is trained on the features of labelled images, with all labels and with a few of each
class, and its share of test images named rightly is what the features are worth. `metrics/probe.py` asks it of a
discriminator, as section 5.1 of the DCGAN paper does (arXiv 1511.06434); here are the parts, for any features, and the
baselines beside which the number is read: random weights of the same network, and the pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.errors import UsageError
from ganzoo.evaluation.contract import ImageSet, Progress, silent
from ganzoo.evaluation.extraction import extract_all
from ganzoo.evaluation.probe.svm import COSTS, FOLDS, TOLERANCE, CostChoice, SVMProblem
from ganzoo.evaluation.tables import FeatureTable
from ganzoo.evaluation.working import working_folder
from ganzoo.features.contract import FeatureExtractor
from ganzoo.features.discriminator import POOL, DiscriminatorFeatures
from ganzoo.features.pixels import Pixels
from ganzoo.models import Model
from ganzoo.zoo import create_model

DRAWS, PER_CLASS = 10, 400
_IN_MEMORY = 1 << 30  # bytes of features; more lie in files
_USUAL_PASSES = 60  # over the features for one C; only how far a bar goes depends on it


@dataclass(frozen=True)
class ProbeSettings:
    """How classifiers are trained on features.

    Attributes:
        all_labels: whether one is trained on all labels.
        per_class: labels of each class in a draw; 0 for no draws.
        draws: how many times so many are drawn.
        costs: the values of C among which cross-validation chooses first; see `SVMProblem.choose_cost`.
        folds: of the cross-validation. With all labels one of them is held out, in draws each in turn.
        tolerance: of the solver; see `SVMProblem`.

    Raises:
        UsageError: nothing to do, or numbers that cannot be.
    """

    all_labels: bool = True
    per_class: int = PER_CLASS
    draws: int = DRAWS
    costs: Sequence[float] = COSTS
    folds: int = FOLDS
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        drawn = self.per_class > 0 and self.draws > 0
        if min(self.per_class, self.draws) < 0 or not (self.all_labels or drawn):
            raise UsageError(
                f"A probe with all_labels={self.all_labels}, {self.per_class} labels a class in {self.draws} draws "
                "measures nothing.",
                f"For example: all labels, and {PER_CLASS} a class in {DRAWS} draws.",
            )
        if self.per_class == 1 or self.folds < 2 or self.tolerance <= 0 or not self.costs or min(self.costs) <= 0:
            raise UsageError(
                f"A probe cannot choose C among {list(self.costs)} by {self.folds} folds of {self.per_class} labels a "
                f"class, solved to {self.tolerance}.",
                "Give positive numbers, two folds and two labels a class at least.",
            )


@dataclass(frozen=True)
class Trained:
    """A classifier's share of test images named rightly, and how it came about.

    Attributes:
        accuracy: in [0, 1].
        labels: how many images it was trained on.
        choice: of its C.
        converged: whether its solver reached its tolerance.
    """

    accuracy: float
    labels: int
    choice: CostChoice
    converged: bool

    def to_dict(self) -> dict[str, Any]:
        """Return it as results keep it, JSON-able."""
        return {
            "accuracy": self.accuracy,
            "labels": self.labels,
            "cost": self.choice.cost,
            "validation": {f"{cost:g}": right for cost, right in self.choice.accuracies.items()},
            "converged": self.converged,
        }


@dataclass(frozen=True)
class ProbeResult:
    """What classifiers on some features reach.

    Attributes:
        dimension: of the features.
        test_images: how many images the shares are of.
        all_labels: with all labels; None where that was not asked for.
        draws: with a few labels a class, once for each draw.
        features: what a protocol tells of the features.
    """

    dimension: int
    test_images: int
    all_labels: Trained | None
    draws: tuple[Trained, ...]
    features: dict[str, Any] = field(default_factory=dict)

    @property
    def few(self) -> tuple[float, float | None]:
        """Mean accuracy of the draws and their standard deviation (n - 1; None of a single draw)."""
        found = np.array([one.accuracy for one in self.draws])
        return float(found.mean()), float(found.std(ddof=1)) if len(found) > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-able."""
        mean, deviation = self.few if self.draws else (None, None)
        return {
            "dimension": self.dimension,
            "test_images": self.test_images,
            "all_labels": None if self.all_labels is None else self.all_labels.to_dict(),
            "few_labels": {
                "mean": mean,
                "standard_deviation": deviation,
                "draws": [one.to_dict() for one in self.draws],
            }
            if self.draws
            else None,
            "features": self.features,
        }


def discriminator_extractor(
    model: Model,
    train: ImageSet,
    *,
    layers: Sequence[str] | None = None,
    pool: int = POOL,
    progress: Progress = silent,
) -> DiscriminatorFeatures:
    """Return the extractor of a model's discriminator, with batch norm's statistics of the training images.

    Args:
        model: whose discriminator it is; it runs where that is.
        train: real images.
        layers, pool: as of `DiscriminatorFeatures`.
        progress: is told how far it is.

    Raises:
        UsageError: as `DiscriminatorFeatures`.
    """
    place = "auto" if model.discriminator is None else str(next(model.discriminator.parameters()).device)
    return DiscriminatorFeatures(model, statistics=train, layers=layers, pool=pool, device=place, progress=progress)


def probe_images(
    extractor: FeatureExtractor,
    train: ImageSet,
    test: ImageSet,
    settings: ProbeSettings | None = None,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> ProbeResult:
    """Return what linear classifiers on an extractor's features reach; many features lie in files meanwhile.

    Args:
        extractor: any: of a discriminator, pixels, or what a judge rests on.
        train: labelled images.
        test: labelled images of the same classes.
        settings: how; None: the paper's.
        seed: of draws and folds.
        progress: is told how far it is.

    Raises:
        UsageError: images without labels, classes that are not in both, or too few of one.
        DataError: features cannot be written.
    """
    settings = settings or ProbeSettings()
    check_labels(train, test, settings)
    with contextlib.ExitStack() as stack:
        large = 4 * extractor.dimension * (train.count + test.count) > _IN_MEMORY
        place = stack.enter_context(working_folder()) if large else None
        tables = [
            extract_all(extractor, images, folder=_inside(place, name), progress=progress)
            for name, images in (("train", train), ("test", test))
        ]
        return probe_tables(tables[0], tables[1], settings, seed=seed, features=extractor.to_dict(), progress=progress)


def probe_tables(
    train: FeatureTable,
    test: FeatureTable,
    settings: ProbeSettings | None = None,
    *,
    seed: int = 0,
    features: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> ProbeResult:
    """Return what linear classifiers on features reach.

    Args:
        train, test: with labels.
        settings, seed, progress: as of `probe_images`.
        features: what a protocol tells of them.

    Raises:
        UsageError: as `probe_images`.
    """
    settings = settings or ProbeSettings()
    labels, right = check_labels(train, test, settings)

    def trained(chosen: FeatureTable, named: npt.NDArray[np.int64], held_out: int | None, what: str) -> Trained:
        usual = _USUAL_PASSES * (len(settings.costs) + 1)

        def told(passes: int) -> None:
            progress(what, passes, max(passes, usual))

        problem = SVMProblem(chosen, named, tolerance=settings.tolerance, progress=told)
        choice = problem.choose_cost(settings.costs, folds=settings.folds, held_out=held_out, seed=seed)
        machine = problem.fit(choice.cost)
        return Trained(machine.accuracy(test, right), len(named), choice, machine.converged)

    whole = trained(train, labels, 1, "probe, all labels: passes over the features") if settings.all_labels else None
    draws = []
    for draw in range(settings.draws if settings.per_class else 0):
        rows = draw_per_class(labels, settings.per_class, seed=seed, draw=draw)
        some = FeatureTable.of(train.gather(rows))  # read once
        draws.append(trained(some, labels[rows], None, f"probe, draw {draw + 1}: passes over the features"))
        progress(f"probe with {settings.per_class} labels a class", draw + 1, settings.draws)
    return ProbeResult(train.dimension, len(test), whole, tuple(draws), features or {})


def probe_baselines(
    model: Model,
    train: ImageSet,
    test: ImageSet,
    settings: ProbeSettings | None = None,
    *,
    layers: Sequence[str] | None = None,
    pool: int = POOL,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, ProbeResult]:
    """Return what the same classifiers reach without what the training of a GAN learnt.

    Args:
        model: whose probe is to be read beside them.
        train, test, settings, progress: as of `probe_images`.
        layers, pool: as of `DiscriminatorFeatures`.
        seed: of the random weights, draws and folds.

    Returns:
        "random weights": of the same discriminator, drawn as its recipe begins, batch norm's statistics estimated on
        the training images; "pixels": the images themselves, in [0, 1].

    Raises:
        UsageError: as `probe_images` and `DiscriminatorFeatures`.
    """
    untrained = create_model(model.config.recipe, seed=seed)
    random = discriminator_extractor(untrained, train, layers=layers, pool=pool, progress=progress)
    pixels = Pixels(image_size=train.image_size, channels=1 if train.channels == 1 else 3)
    extractors: dict[str, FeatureExtractor] = {"random weights": random, "pixels": pixels}
    return {
        name: probe_images(extractor, train, test, settings, seed=seed, progress=progress)
        for name, extractor in extractors.items()
    }


def draw_per_class(
    labels: npt.NDArray[np.int64], per_class: int, *, seed: int = 0, draw: int = 0
) -> npt.NDArray[np.int64]:
    """Return the numbers of images drawn without repetition, equally many of each class: sorted.

    Args:
        labels: (N,) classes.
        per_class: how many of each.
        seed, draw: other draws of a seed are other images, independent of how many draws there are.

    Raises:
        UsageError: a class has fewer.
    """
    random = np.random.default_rng([seed, draw])
    rows = []
    for one in np.unique(labels):
        there = np.flatnonzero(labels == one)
        if len(there) < per_class:
            raise UsageError(
                f"Class {one} has {len(there)} labelled images, fewer than {per_class}.", "Draw fewer of each class."
            )
        rows.append(random.choice(there, per_class, replace=False))
    return np.sort(np.concatenate(rows)).astype(np.int64)


def check_labels(
    train: ImageSet | FeatureTable, test: ImageSet | FeatureTable, settings: ProbeSettings
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the labels of both sides.

    Args:
        train, test: images or their features.
        settings: how classifiers are trained.

    Raises:
        UsageError: there are none, of one class only, or of a class that has too few or none on the other side.
    """
    found = []
    for what, side in (("training", train), ("test", test)):
        if side.labels is None:
            raise UsageError(
                f"The {what} images of the probe have no labels.",
                "Put the images of each class into a folder of its own.",
            )
        found.append(np.asarray(side.labels, dtype=np.int64))
    labels, right = found
    classes, counts = np.unique(labels, return_counts=True)
    if unknown := sorted(set(np.unique(right).tolist()) - set(classes.tolist())):
        raise UsageError(f"Class {unknown[0]} of the test images has no training image.", "Name the same data twice.")
    if len(classes) < 2 or not len(right):
        raise UsageError(
            f"The probe has {len(right)} test images and training images of {len(classes)} classes.",
            "It needs both, and two classes at least.",
        )
    fewest = max(2, settings.per_class if settings.draws else 0)
    if counts.min() < fewest:
        raise UsageError(
            f"Class {classes[counts.argmin()]} has {counts.min()} labelled images, and the probe needs {fewest}.",
            "Give more, or ask for fewer a class.",
        )
    return labels, right


def _inside(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / name
