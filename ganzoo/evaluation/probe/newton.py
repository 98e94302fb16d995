"""Newton's method for linear support vector machines with squared hinge loss, many problems on one table at once.

The modified finite Newton method of Keerthi and DeCoste (JMLR 6, 2005): Newton's direction by conjugate gradients, then
an exact minimisation along it. Both need only products of the features with a few vectors, which are made for all
problems at once: of small tables in float64, of large ones block by block in float32. All else is float64.

Features that nobody scaled are a badly conditioned problem: a few directions, their mean above all, hold most of their
length. So the conjugate gradients are preconditioned by what a sample of the rows tells of these directions, as in
Nyström preconditioning (Frangella, Tropp and Udell, arXiv 2110.02820, equation 1.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ganzoo.errors import UsageError
from ganzoo.evaluation.tables import FeatureTable

Told = Callable[[int], None]

_BLOCK_BYTES = 32 << 20
_EXACT_NUMBERS = 32 << 20  # in a table of which float64 is kept: 256 MiB
_MOST_STEPS = 100  # of Newton's; ten to thirty are usual
_MOST_PRODUCTS = 100  # of conjugate gradients in one step
_PATIENCE = 3  # steps that gain less than rounding does, after which there is no more to be had
_LEAST_GAIN = {torch.float32: 1e-8, torch.float64: 1e-14}  # of the objective
_SAMPLE_ROWS = 1024  # from which the preconditioner is made
_SAMPLE_SHARE = 4  # of the directions that they span, one in so many is kept


@dataclass(frozen=True)
class Solved:
    """weights (P, dimension + 1) float64, the last the intercept; scores (P, N) of all rows."""

    weights: torch.Tensor
    scores: torch.Tensor


class SolverRows:
    """The features as the solver reads them, again and again.

    Args:
        table: (N, dimension).
    """

    def __init__(self, table: FeatureTable) -> None:
        self.count, self.dimension = len(table), table.dimension
        self._table, self._whole = table, None
        if self.count * self.dimension <= _EXACT_NUMBERS:
            self._whole = torch.from_numpy(table.features().astype(np.float64))
        self.dtype = torch.float32 if self._whole is None else torch.float64

    def blocks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield (which rows, (n, dimension)) in order."""
        if self._whole is None:
            yield from blocks_of(self._table)
        else:
            yield slice(0, self.count), self._whole

    @cached_property
    def directions(self) -> _Directions:
        """The directions in which a sample of the rows is long.

        Raises:
            UsageError: features that are not finite.
        """
        count = min(self.count, _SAMPLE_ROWS)
        chosen = np.sort(np.random.default_rng(0).choice(self.count, count, replace=False))
        sample = torch.from_numpy(self._table.gather(chosen)).double()
        check_finite(sample)
        sample = torch.cat([sample, torch.ones(count, 1, dtype=torch.float64)], dim=1)
        wide = sample.shape[1] > count
        squares, vectors = torch.linalg.eigh(sample @ sample.T if wide else sample.T @ sample)  # rising
        # The longest ones only: they are the same for all rows as for those that a classifier errs on, the others not.
        # What is shorter than rounding is nothing.
        first = max(len(squares) - len(squares) // _SAMPLE_SHARE - 1, int((squares <= 1e-12 * squares[-1]).sum()))
        units, kept = vectors[:, first:].T, squares[first:]
        if wide:
            units = (units @ sample) / kept.sqrt()[:, None]
        return _Directions(units.contiguous(), kept / count, float(kept[0]) / count)


@dataclass(frozen=True)
class _Directions:
    """Directions in which rows are long: X Xᵀ / N is about Σ square · unit unitᵀ, and `rest` in all others.

    units (r, dimension + 1), orthonormal; squares (r,); all float64.
    """

    units: torch.Tensor
    squares: torch.Tensor
    rest: float

    def solve(self, vectors: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return (1 + weight · X Xᵀ / N)⁻¹ v, about: vectors (Q, dimension + 1), weights (Q, 1)."""
        outside = 1.0 / (1.0 + weights * self.rest)
        inside = 1.0 / (1.0 + weights * self.squares)
        return vectors * outside + ((vectors @ self.units.T) * (inside - outside)) @ self.units


class NewtonSolver:
    """Solves P problems on the same features at once.

    Args:
        table: the N rows.
        targets: (P, N) int8: 1, −1, or 0 where a row takes no part.
        tolerance: see `SVMProblem`.
        progress: is told the number of passes.
    """

    def __init__(self, table: SolverRows, targets: torch.Tensor, tolerance: float, progress: Told) -> None:
        self._table, self._targets, self._progress = table, targets, progress
        self.passes = 0
        self.converged = True
        sums = torch.zeros(len(targets), table.dimension + 1, dtype=torch.float64)  # of y x
        for rows, block in self._pass():
            signs = targets[:, rows].to(block.dtype)
            _add_sums(sums, signs, block)
        check_finite(sums)
        self._sums = sums
        present = (targets != 0).sum(dim=1)
        positive = (targets > 0).sum(dim=1)
        fewer = torch.minimum(positive, present - positive).clamp(min=1)
        self._limits = tolerance * (fewer / present) * 2.0 * sums.norm(dim=1)  # times C

    def solve(self, cost: float, start: torch.Tensor | None) -> Solved:
        """Return the solution of all problems at one C, begun at a start or at zero."""
        weights = torch.zeros_like(self._sums) if start is None else start.clone()
        lowest, idle = torch.full((len(weights),), torch.inf, dtype=torch.float64), 0
        for step in range(_MOST_STEPS + 1):
            gradient, scores, slack = self._gradient(weights, cost, at_zero=step == 0 and start is None)
            lengths = gradient.norm(dim=1)
            going = torch.nonzero(lengths > cost * self._limits).squeeze(1)
            values = 0.5 * weights.square().sum(dim=1) + cost * slack.double().square().sum(dim=1)
            gained = (values < (1.0 - _LEAST_GAIN[self._table.dtype]) * lowest)[going]
            lowest, idle = torch.minimum(lowest, values), 0 if bool(gained.any()) else idle + 1
            if not len(going) or idle >= _PATIENCE or step == _MOST_STEPS:
                break
            # The nearer to the end, the more exact: the method then converges faster than linearly.
            exactness = (lengths / (2.0 * cost * self._sums.norm(dim=1))).sqrt().clamp(max=0.1)[going]
            direction, moved = self._direction(gradient[going], slack[going] > 0, cost, exactness)
            length = _exact_length(weights[going], direction, scores[going].double(), moved, self._targets[going], cost)
            weights[going] += length[:, None] * direction
        self.converged = not len(going)
        return Solved(weights, scores)

    def _gradient(
        self, weights: torch.Tensor, cost: float, at_zero: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return gradient (P, dimension + 1) float64, scores and slack max(0, 1 − y score) (P, N)."""
        taking_part = self._targets != 0
        if at_zero:
            return -2.0 * cost * self._sums, torch.zeros(self._targets.shape), taking_part.to(torch.float32)
        plain = weights.to(self._table.dtype)
        sums = torch.zeros_like(weights)
        scores, slack = (torch.empty(self._targets.shape, dtype=plain.dtype) for _ in range(2))
        for rows, block in self._pass():
            signs = self._targets[:, rows].to(block.dtype)
            scores[:, rows] = torch.addmm(plain[:, -1:], plain[:, :-1], block.T)
            slack[:, rows] = (1.0 - signs * scores[:, rows]).clamp(min=0.0) * taking_part[:, rows]
            _add_sums(sums, signs * slack[:, rows], block)
        return weights - 2.0 * cost * sums, scores, slack

    def _direction(
        self, gradient: torch.Tensor, violated: torch.Tensor, cost: float, exactness: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return Newton's direction d of some problems and what it adds to their scores, (Q, N) float64.

        Preconditioned conjugate gradients for H d = −g, H = 1 + 2 C Σ x xᵀ over the rows that violate their margin.
        """
        scales = 2.0 * cost * violated.sum(dim=1, keepdim=True)
        direction = torch.zeros_like(gradient)
        moved = torch.zeros(violated.shape, dtype=torch.float64)
        residual = -gradient
        search = self._table.directions.solve(residual, scales)
        size = (residual * search).sum(dim=1)
        wanted = exactness * size.sqrt()
        going = torch.arange(len(gradient))
        for _ in range(_MOST_PRODUCTS):
            along = search[going]
            product, change = self._curvature(along, violated[going], cost)
            rate = (size[going] / (along * product).sum(dim=1))[:, None]
            direction[going] += rate * along
            moved[going] += rate * change
            residual[going] -= rate * product
            left = self._table.directions.solve(residual[going], scales[going])
            smaller = (residual[going] * left).sum(dim=1)
            search[going] = left + (smaller / size[going])[:, None] * along
            size[going] = smaller
            going = going[smaller.sqrt() > wanted[going]]
            if not len(going):
                break
        return direction, moved

    def _curvature(
        self, vectors: torch.Tensor, violated: torch.Tensor, cost: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return H v (Q, dimension + 1) float64 and X v (Q, N)."""
        plain = vectors.to(self._table.dtype)
        sums = torch.zeros_like(vectors)
        change = torch.empty(violated.shape, dtype=plain.dtype)
        for rows, block in self._pass():
            change[:, rows] = torch.addmm(plain[:, -1:], plain[:, :-1], block.T)
            _add_sums(sums, change[:, rows] * violated[:, rows], block)
        return vectors + 2.0 * cost * sums, change

    def _pass(self) -> Iterator[tuple[slice, torch.Tensor]]:
        self.passes += 1
        self._progress(self.passes)
        yield from self._table.blocks()


def _add_sums(sums: torch.Tensor, factors: torch.Tensor, block: torch.Tensor) -> None:
    """Add Σ factor · (x, 1) over a block's rows to sums: factors (P, n), block (n, dimension)."""
    sums[:, :-1] += factors @ block
    sums[:, -1] += factors.sum(dim=1, dtype=torch.float64)


def _exact_length(
    weights: torch.Tensor,
    direction: torch.Tensor,
    scores: torch.Tensor,
    moved: torch.Tensor,
    targets: torch.Tensor,
    cost: float,
) -> torch.Tensor:
    """Return the t at which each problem is smallest along weights + t · direction: (P,).

    The derivative is piecewise linear and rises; its zero is found by Newton's method, kept between bounds.
    """
    taking_part = targets != 0
    slack, rate = 1.0 - targets * scores, -targets * moved  # slack at t is slack + t · rate
    linear, square = (weights * direction).sum(dim=1), direction.square().sum(dim=1)
    low, high = torch.zeros_like(linear), torch.full_like(linear, torch.inf)
    length = torch.ones_like(linear)
    for _ in range(60):
        at = slack + length[:, None] * rate
        hinge = at.clamp(min=0.0) * taking_part
        slope = linear + length * square + 2.0 * cost * (hinge * rate).sum(dim=1)
        bend = square + 2.0 * cost * (rate.square() * (hinge > 0)).sum(dim=1)
        low, high = torch.where(slope < 0, length, low), torch.where(slope < 0, high, length)
        following = length - slope / bend
        outside = (following <= low) | (following >= high)
        middle = torch.where(high.isinf(), 2.0 * low + 1.0, (low + high) / 2.0)
        following = torch.where(outside & (slope != 0), middle, following)
        if bool(((following - length).abs() <= 1e-12 * length.abs()).all()):
            break
        length = following
    return length


def blocks_of(table: FeatureTable) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield (which rows, (n, dimension) float32) in order."""
    for first, block in table.blocks(max(1, _BLOCK_BYTES // (4 * max(1, table.dimension)))):
        writable = block if block.flags.writeable else block.copy()  # torch warns of arrays that it must not write
        yield slice(first, first + len(block)), torch.from_numpy(writable)


def check_finite(numbers: torch.Tensor) -> None:
    """Refuse features, or sums of them, that are not finite.

    Raises:
        UsageError: they are not.
    """
    if not bool(numbers.isfinite().all()):
        raise UsageError("The features are not all finite.", "Look at what made them.")
