"""Linear support vector machines on tables of features, without a second copy of them.

One classifier a class against all others, with squared hinge loss and a regularised intercept, exactly the problem of
scikit-learn's `LinearSVC(loss="squared_hinge")`:

    f(w, b) = ½ (|w|² + b²) + C Σ max(0, 1 − yᵢ (w·xᵢ + b))²,    yᵢ = 1 for the class, −1 for the others

It is minimised in the primal (`newton.py`), and ends where LIBLINEAR's solvers of the same problem end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ganzoo.errors import UsageError
from ganzoo.evaluation.probe.newton import NewtonSolver, SolverRows, Told, blocks_of
from ganzoo.evaluation.tables import FeatureTable

Features = FeatureTable | npt.NDArray[np.floating]
Integers = npt.NDArray[np.int64]

TOLERANCE = 1e-4  # LinearSVC's
COSTS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""The values of C among which is chosen first."""
FOLDS = 5
_STEP = 10.0  # between values of C beyond those given
_LEAST_COST, _LARGEST_COST = 1e-12, 1e6


def silent(passes: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class LinearSVM:
    """Linear classifiers, one a class.

    Attributes:
        classes: (K,) the labels that it tells apart, in order.
        coefficients: (K, dimension) float32.
        intercepts: (K,) float32.
        cost: C.
        converged: whether every class's gradient became as short as asked for.
    """

    classes: Integers
    coefficients: npt.NDArray[np.float32]
    intercepts: npt.NDArray[np.float32]
    cost: float
    converged: bool

    def scores(self, features: Features) -> npt.NDArray[np.float32]:
        """Return w·x + b: (N, K).

        Args:
            features: (N, dimension).
        """
        weights, intercepts = torch.from_numpy(self.coefficients), torch.from_numpy(self.intercepts)[:, None]
        parts = [(weights @ block.T + intercepts).T for _, block in blocks_of(_table(features))]
        return torch.cat(parts).numpy() if parts else np.empty((0, len(self.classes)), dtype=np.float32)

    def predict(self, features: Features) -> Integers:
        """Return the class of the highest score: (N,); arguments as of `scores`."""
        named: Integers = self.classes[self.scores(features).argmax(axis=1)]
        return named

    def accuracy(self, features: Features, labels: npt.ArrayLike) -> float:
        """Return the share of images whose class is named rightly.

        Args:
            features: (N, dimension).
            labels: (N,).
        """
        return float((self.predict(features) == np.asarray(labels)).mean())


@dataclass(frozen=True)
class CostChoice:
    """The C that cross-validation chose.

    Attributes:
        cost: the smallest C of the highest accuracy.
        accuracies: C → share of held-out images named rightly, of every C tried.
        folds: into how many parts the images were cut.
        held_out: how many of the parts were held out in turn.
    """

    cost: float
    accuracies: dict[float, float]
    folds: int
    held_out: int


class SVMProblem:
    """Labelled features, from which linear classifiers are made.

    Args:
        features: (N, dimension), finite; a table in a file is read once a pass, and nothing of it is kept.
        labels: (N,) integers of at least two values.
        tolerance: a class's problem is solved when its gradient's length is at most
            `tolerance` · max(1, min(p, N − p)) / N of that at zero, p being the number of the class's images.
        progress: is told the number of passes over the features so far.

    Raises:
        UsageError: labels of another length or of one class, features that are not finite.
    """

    def __init__(
        self,
        features: Features,
        labels: npt.ArrayLike,
        *,
        tolerance: float = TOLERANCE,
        progress: Told = silent,
    ) -> None:
        self._features = _table(features)
        self._labels = np.asarray(labels)
        count = len(self._features)
        if self._labels.shape != (count,) or self._labels.dtype.kind not in "iu":
            raise UsageError(f"{count} rows of features have labels of shape {self._labels.shape}.", "Give one each.")
        self.classes: Integers = np.unique(self._labels).astype(np.int64)
        if len(self.classes) < 2:
            raise UsageError(
                f"All {count} images are of one class, and a classifier tells classes apart.", "Give at least two."
            )
        self._tolerance, self._progress = tolerance, progress
        self._rows = SolverRows(self._features)
        self._start: torch.Tensor | None = None

    def fit(self, cost: float) -> LinearSVM:
        """Return the classifiers of all images.

        Args:
            cost: C, greater than 0.

        Raises:
            UsageError: a C that is not positive.
        """
        solver = NewtonSolver(self._rows, self._targets(), self._tolerance, self._progress)
        weights = solver.solve(_positive(cost), self._start).weights
        coefficients, intercepts = weights[:, :-1].numpy(), weights[:, -1].numpy()
        return LinearSVM(
            self.classes,
            np.ascontiguousarray(coefficients, dtype=np.float32),
            intercepts.astype(np.float32),
            cost,
            solver.converged,
        )

    def choose_cost(
        self, costs: Sequence[float] = COSTS, *, folds: int = FOLDS, held_out: int | None = None, seed: int = 0
    ) -> CostChoice:
        """Return the C whose classifiers name held-out images best.

        The values are tried in rising order, each from the solution of the one before, until two in a row are no better
        than the best; where the best is the first or the last of them, tenths or tenfolds of it are tried too.

        Args:
            costs: greater than 0.
            folds: into how many parts the images of each class are cut, at most as many as the smallest class has.
            held_out: how many of the parts are held out in turn; None: all. 1 is a single validation set.
            seed: of the cut.

        Raises:
            UsageError: a class of one image, numbers that cannot be.
        """
        smallest = int(np.unique(self._labels, return_counts=True)[1].min())
        parts = min(folds, smallest)
        turns = parts if held_out is None else min(held_out, parts)
        if parts < 2 or turns < 1 or not costs:
            raise UsageError(
                f"C cannot be chosen by {folds} folds, {turns} held out, where a class has {smallest} images.",
                "Give at least two images a class, two folds and one C.",
            )
        part = _parts(self._labels, self.classes, parts, seed)
        validation = _Validation(self, part, turns)
        return CostChoice(*_climb(validation, sorted(_positive(cost) for cost in costs)), parts, turns)

    def _targets(self) -> torch.Tensor:
        """Return (K, N) int8: 1 for the class, −1 for the others."""
        return torch.from_numpy(np.where(self._labels == self.classes[:, None], 1, -1).astype(np.int8))


def fit_svm(
    features: Features,
    labels: npt.ArrayLike,
    cost: float,
    *,
    tolerance: float = TOLERANCE,
    progress: Told = silent,
) -> LinearSVM:
    """Return the linear classifiers of labelled features; arguments and errors as of `SVMProblem` and its `fit`."""
    return SVMProblem(features, labels, tolerance=tolerance, progress=progress).fit(cost)


class _Validation:
    """Accuracy of held-out images by C; all folds and classes are solved at once, as rows of one problem."""

    def __init__(self, problem: SVMProblem, part: Integers, turns: int) -> None:
        self._problem, self._part, self._turns = problem, part, turns
        targets = [problem._targets().masked_fill(torch.from_numpy(part == turn), 0) for turn in range(turns)]
        self._solver = NewtonSolver(problem._rows, torch.cat(targets), problem._tolerance, problem._progress)
        self._last: torch.Tensor | None = None

    def __call__(self, cost: float) -> float:
        problem = self._problem
        solved = self._solver.solve(cost, self._last)
        self._last = solved.weights
        scores = solved.scores.view(self._turns, len(problem.classes), -1).numpy()
        right = [
            (problem.classes[scores[turn].argmax(axis=0)] == problem._labels)[self._part == turn]
            for turn in range(self._turns)
        ]
        # The classifiers of all images begin where those of the first fold ended.
        problem._start = solved.weights[: len(problem.classes)]
        return float(np.concatenate(right).mean())


def _climb(accuracy: Callable[[float], float], costs: Sequence[float]) -> tuple[float, dict[float, float]]:
    """Return the best C and what every one tried gave; see `choose_cost`."""
    found: dict[float, float] = {}
    pending = list(costs)
    worse = 0
    while pending and worse < 2:
        cost = pending.pop(0)
        found[cost] = accuracy(cost)
        worse = 0 if found[cost] == max(found.values()) and _best(found) == cost else worse + 1
        if not pending and _best(found) == cost and cost * _STEP <= _LARGEST_COST:
            pending.append(cost * _STEP)
    while _best(found) == min(found) and min(found) / _STEP >= _LEAST_COST:
        found[min(found) / _STEP] = accuracy(min(found) / _STEP)
    return _best(found), dict(sorted(found.items()))


def _best(found: dict[float, float]) -> float:
    return min(cost for cost, right in found.items() if right == max(found.values()))


def _table(features: Features) -> FeatureTable:
    if isinstance(features, FeatureTable):
        return features
    if features.ndim != 2:
        raise UsageError(f"Features of shape {features.shape} are no table.", "Give (images, numbers of each).")
    return FeatureTable.of(features)


def _positive(cost: float) -> float:
    if not 0.0 < cost < float("inf"):
        raise UsageError(f"C (={cost}) is not a positive number.", f"Values around {COSTS[2]:g} are usual.")
    return float(cost)


def _parts(labels: Integers, classes: Integers, parts: int, seed: int) -> Integers:
    """Return (N,) the part into which each image falls; every class is spread evenly."""
    random = np.random.default_rng(seed)
    part = np.empty(len(labels), dtype=np.int64)
    for one in classes:
        where = np.flatnonzero(labels == one)
        part[random.permutation(where)] = np.arange(len(where)) % parts
    return part
