"""Inception score: how sure a classifier is of each image, and how many classes it sees in all of them.

    IS = exp(mean over images of KL(p(class | image) || p(class)))

(T. Salimans et al., "Improved techniques for training GANs", 2016, section 4), as the mean over ten splits, each with
a p(class) of its own. On the classes of another classifier than Inception's it is named after that.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ganzoo.errors import UsageError
from ganzoo.evaluation.contract import Metric, Need, Subject, Value, metric_name
from ganzoo.evaluation.metrics.comparing import refuse_not_finite, require
from ganzoo.evaluation.tables import BLOCK_ROWS, FeatureTable

SPLITS = 10


def inception_scores(table: FeatureTable, *, splits: int = SPLITS, seed: int = 0) -> npt.NDArray[np.float64]:
    """Return the scores of the splits: (splits,).

    The rows are shuffled by NumPy's RandomState and split as evenly as they can be, which is what torch-fidelity does
    with the same seed. They are read in their own order: a split needs no more than sums over its rows.

    Args:
        table: with logits, at least as many rows as splits.
        splits: how many.
        seed: of the shuffle.

    Raises:
        UsageError: fewer rows than splits.
        DataError: no logits, or some that are not finite.
    """
    require(len(table), splits, "judged")
    split_of = _splits(len(table), splits, seed)
    shares = np.zeros((splits, table.num_classes))  # sums of p(class | image)
    certainty = np.zeros(splits)  # sums of Σ p log p
    for first in range(0, len(table), BLOCK_ROWS):
        logits = table.logits(first, min(first + BLOCK_ROWS, len(table))).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        logarithms = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        chances = np.exp(logarithms)
        member = (split_of[first : first + len(logits)] == np.arange(splits)[:, None]).astype(np.float64)
        shares += member @ chances
        certainty += member @ (chances * logarithms).sum(axis=1)
    refuse_not_finite(bool(np.isfinite(certainty).all()))
    counts = np.bincount(split_of, minlength=splits)
    marginal = shares / counts[:, None]
    entropy = -(marginal * np.log(marginal, out=np.zeros_like(marginal), where=marginal > 0)).sum(axis=1)
    return np.asarray(np.exp(certainty / counts + entropy), dtype=np.float64)


def _splits(count: int, splits: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the number of the split that each row belongs to: (count,)."""
    order = np.random.RandomState(seed % 2**32).permutation(count)
    borders = np.arange(1, splits) * count // splits
    split_of = np.empty(count, dtype=np.int64)
    split_of[order] = np.searchsorted(borders, np.arange(count), side="right")
    return split_of


class InceptionScore(Metric):
    """Inception score, beside that of the reference: "is-cifar-convnet"; on FID's own Inception, "is".

    Args:
        splits: how many.

    Raises:
        UsageError: no split.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})
    fewest: ClassVar[int] = SPLITS

    def __init__(self, *, splits: int = SPLITS) -> None:
        if splits < 1:
            raise UsageError(f"An inception score of {splits} splits is none.", "Take at least 1.")
        self.splits = splits

    def measure(self, subject: Subject) -> list[Value]:
        """Return one number, the mean over the splits, with their standard deviation.

        Raises:
            UsageError: fewer images than splits, or an extractor that names no classes.
            DataError: logits that are not finite.
        """
        table, real = subject.generated.table, subject.reference
        if subject.extractor is None or not table.num_classes:
            raise UsageError("The inception score needs features that name classes.", "Choose others with --features.")
        scores = inception_scores(table, splits=self.splits, seed=subject.seed)
        figure = None
        if real is not None and real.table.num_classes == table.num_classes and len(real.table) >= self.splits:
            figure = inception_scores(real.table, splits=self.splits, seed=subject.seed)
        return [
            Value(
                name=metric_name("is", subject.extractor),
                value=float(scores.mean()),
                better="higher",
                error=float(scores.std()),
                reference=None if figure is None else float(figure.mean()),
                protocol={
                    "splits": self.splits,
                    "order": "shuffled",
                    "seed": subject.seed,
                    "classes": table.num_classes,
                    "generated_count": len(table),
                    "error": "standard deviation over the splits",
                }
                | ({} if figure is None else {"reference_figure": "the reference's own score"}),
            )
        ]
