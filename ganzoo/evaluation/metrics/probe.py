"""The probe: how well a linear classifier on a discriminator's features names real images.

Section 5.1 of the DCGAN paper (Radford, Metz and Chintala, arXiv 1511.06434): the features of all its convolutional
layers, max-pooled to 4×4, and an L2-regularised linear support vector machine with squared hinge loss, whose C is
chosen by cross-validation; with all labels (82.8 % on CIFAR-10 from a net trained on ImageNet), and with 400 a class
(73.8 % ± 0.4 %). The features are not standardised, as in the authors' code.

Whether the training of the GAN put something into them shows beside the same classifier on random weights of the same
network and on the pixels themselves: `ganzoo.evaluation.probe.probing.probe_baselines`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from ganzoo.errors import UsageError
from ganzoo.evaluation.contract import Metric, Need, Subject, Value
from ganzoo.evaluation.probe.probing import (
    DRAWS,
    PER_CLASS,
    ProbeResult,
    ProbeSettings,
    check_labels,
    discriminator_extractor,
    probe_images,
)
from ganzoo.evaluation.probe.svm import COSTS, FOLDS, TOLERANCE, CostChoice
from ganzoo.features.discriminator import POOL


class Probe(Metric):
    """Accuracy of linear classifiers on the discriminator's features of real images, on test images.

    Args:
        draws, per_class, all_labels, costs, folds, tolerance: see `ProbeSettings`.
        layers: names of the discriminator's layers; None: all.
        pool: side of the squares to which their maps are pooled.

    Raises:
        UsageError: settings that cannot be.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"discriminator", "reference", "test"})
    fewest: ClassVar[int] = 1

    def __init__(
        self,
        draws: int = DRAWS,
        per_class: int = PER_CLASS,
        *,
        all_labels: bool = True,
        costs: Sequence[float] = COSTS,
        folds: int = FOLDS,
        tolerance: float = TOLERANCE,
        layers: Sequence[str] | None = None,
        pool: int = POOL,
    ) -> None:
        self.settings = ProbeSettings(all_labels, per_class, draws, tuple(costs), folds, tolerance)
        self._layers, self._pool = layers, pool

    def measure(self, subject: Subject) -> list[Value]:
        """Return "probe-accuracy" with all labels and "probe-accuracy-400" with a few.

        Raises:
            UsageError: no discriminator, or one that is told classes; images without labels, or too few of a class.
        """
        if subject.model is None or subject.reference is None or subject.test is None:
            raise UsageError(
                "The probe needs a model with its discriminator, and labelled images to train and to test on.",
                "Name a run or model folder, --data SOURCE and --test-data SOURCE.",
            )
        train, test = subject.reference.images, subject.test.images
        check_labels(train, test, self.settings)  # before the network runs
        extractor = discriminator_extractor(
            subject.model, train, layers=self._layers, pool=self._pool, progress=subject.progress
        )
        result = probe_images(extractor, train, test, self.settings, seed=subject.seed, progress=subject.progress)
        return self._values(result)

    def _values(self, result: ProbeResult) -> list[Value]:
        settings, values = self.settings, []
        shared = {
            "classifier": "linear SVM, one class against all others, squared hinge, intercept regularised",
            "scaling": "none",
            "solver": "primal Newton with conjugate gradients, float32 products",
            "tolerance": settings.tolerance,
            "discriminator": result.features,
            "test_images": result.test_images,
        }
        if (found := result.all_labels) is not None:
            values.append(
                Value(
                    name="probe-accuracy",
                    value=found.accuracy,
                    better="higher",
                    error=_standard_error(found.accuracy, result.test_images),
                    protocol=shared
                    | {
                        "error": "standard error of a share of the test images",
                        "labels": found.labels,
                        "cost": found.choice.cost,
                        "cost_chosen_by": _chosen_by(found.choice),
                        "costs": sorted(found.choice.accuracies),
                        "converged": found.converged,
                    },
                    details=found.to_dict(),
                )
            )
        if result.draws:
            mean, deviation = result.few
            values.append(
                Value(
                    name=f"probe-accuracy-{settings.per_class}",
                    value=mean,
                    better="higher",
                    error=deviation,
                    protocol=shared
                    | {
                        "error": "standard deviation over the draws",
                        "labels_per_class": settings.per_class,
                        "draws": len(result.draws),
                        "cost": [one.choice.cost for one in result.draws],
                        "cost_chosen_by": _chosen_by(result.draws[0].choice) + " of each draw",
                        "costs": sorted({cost for one in result.draws for cost in one.choice.accuracies}),
                        "converged": all(one.converged for one in result.draws),
                    },
                    details={"draws": [one.to_dict() for one in result.draws]},
                )
            )
        return values


def _standard_error(share: float, count: int) -> float:
    return math.sqrt(share * (1.0 - share) / count)


def _chosen_by(choice: CostChoice) -> str:
    if choice.held_out == 1:
        return f"one of {choice.folds} parts of the training images, held out"
    return f"{choice.held_out} of {choice.folds} folds, held out in turn"
