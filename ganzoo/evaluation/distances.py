"""Euclidean distances between many feature vectors: the nearest neighbours, and who lies in whose ball.

Both go through the pairs in blocks, so that memory stays what one block needs: 50,000 against 50,000 would be 10 GB of
distances. A block's squared distances are |a|² + |b|² - 2ab, one matrix product in float32 after the centre of the data
is subtracted. That form loses the digits of distances that are small beside |a|. So it only proposes: the answer is
computed from differences in float64, and where the error bound of the product leaves open whether it proposed the
right ones, the product is done again in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ganzoo.errors import DataError, UsageError
from ganzoo.evaluation.contract import Progress
from ganzoo.evaluation.tables import FeatureTable, Integers

_ROWS = 2048  # of either side in a block of distances, 16 MB in float32: larger ones leave the processor's cache
_SPARE = 8  # candidates beyond the k that are asked for, so that rounding seldom matters
_ELEMENTS = 1 << 22  # of differences in float64 at once
_MANY = 1 << 18  # pairs of a block too close to a ball's edge for float32, from which on float64 for all is cheaper

Radii = npt.NDArray[np.float32]


def nearest(
    queries: FeatureTable, base: FeatureTable, k: int, *, same: bool = False, progress: Progress | None = None
) -> tuple[Integers, Radii]:
    """Return the k nearest rows of `base` for every row of `queries`, by Euclidean distance.

    Args:
        queries: n feature vectors.
        base: those among which neighbours are looked for.
        k: how many, at least 1 and fewer than `base` has rows.
        same: `queries` is `base`, and a row is not its own neighbour; its exact duplicates are, at distance 0.
        progress: is told how many queries are done.

    Returns:
        Row numbers (n, k) and distances (n, k), the nearest first; of equally distant ones the lower number.

    Raises:
        UsageError: `k` is none of 1 to len(base) - 1, or the tables differ in dimension.
        DataError: features that are not finite.
    """
    _check_dimensions(queries, base)
    if not 1 <= k < len(base):
        raise UsageError(
            f"{k} nearest neighbours cannot be found among {len(base)} images.",
            "Take more images, or fewer neighbours.",
        )
    if same and len(queries) != len(base):
        raise ValueError(f"same=True, but there are {len(queries)} queries and {len(base)} rows of the base")
    centre = _centre(base)
    indices = np.empty((len(queries), k), dtype=np.int64)
    distances = np.empty((len(queries), k), dtype=np.float32)
    for first, block in queries.blocks(_ROWS):
        _check_finite(block)
        last = first + len(block)
        own = np.arange(first, last) if same else None
        indices[first:last], distances[first:last] = _nearest_of_block(block, base, k, own, centre)
        if progress is not None:
            progress("nearest neighbours", last, len(queries))
    return indices, distances


@dataclass(frozen=True)
class BallCounts:
    """Which points lie in which balls, counted.

    Attributes:
        around_point: (number of points,) in how many balls each point lies.
        in_ball: (number of balls,) how many points each ball holds.
    """

    around_point: Integers
    in_ball: Integers


def count_in_balls(
    points: FeatureTable,
    centres: FeatureTable,
    radii: Radii,
    *,
    with_edge: bool,
    progress: Progress | None = None,
) -> BallCounts:
    """Return in how many balls each point lies, and how many points each ball holds.

    Args:
        points: that lie in balls or not.
        centres: of the balls.
        radii: (len(centres),) of the balls.
        with_edge: whether a point whose distance equals the radius lies within.
        progress: is told how many points are done.

    Raises:
        UsageError: the tables differ in dimension.
        DataError: features that are not finite.
    """
    _check_dimensions(points, centres)
    if radii.shape != (len(centres),):
        raise ValueError(f"{len(centres)} balls, but radii of shape {radii.shape}")
    centre, limits = _centre(centres), torch.from_numpy(radii)
    counts = BallCounts(np.zeros(len(points), dtype=np.int64), np.zeros(len(centres), dtype=np.int64))
    for first, block in points.blocks(_ROWS):
        _check_finite(block)
        single = _Operand.of(block, centre, torch.float32)
        for start, other in centres.blocks(_ROWS):
            stop = start + len(other)
            inside = _inside(single, _Operand.of(other, centre, torch.float32), limits[start:stop], centre, with_edge)
            counts.around_point[first : first + len(block)] += inside.sum(axis=1)
            counts.in_ball[start:stop] += inside.sum(axis=0)
        if progress is not None:
            progress("membership", first + len(block), len(points))
    return counts


@dataclass(frozen=True)
class _Operand:
    """One side of a matrix product.

    Attributes:
        raw: (n, dimension) float32, as the table holds them.
        rows: (n, dimension), without the centre.
        squares: (n,) their squared lengths.
    """

    raw: torch.Tensor
    rows: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def of(cls, block: npt.NDArray[np.float32], centre: torch.Tensor, dtype: torch.dtype) -> _Operand:
        raw = _tensor(block)
        # Both precisions subtract the same float32 centre; near it that subtraction is exact.
        rows = raw.to(dtype) - centre.to(dtype)
        squares = torch.linalg.vecdot(rows, rows)
        return cls(raw, rows, squares)

    def in_float64(self, centre: torch.Tensor) -> _Operand:
        return _Operand.of(self.raw.numpy(), centre, torch.float64)


def _check_finite(numbers: npt.NDArray[np.floating]) -> None:
    if not np.isfinite(numbers).all():
        raise DataError("Some features are not finite numbers.", "Look for broken images or weights.")


def _tensor(block: npt.NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.require(block, np.float32, ["C", "W"]))  # of arrays that are read-only torch warns


def _check_dimensions(one: FeatureTable, other: FeatureTable) -> None:
    if one.dimension != other.dimension:
        raise UsageError(
            f"Features of {one.dimension} and of {other.dimension} numbers have no distance.",
            "Take both from one extractor.",
        )


def _centre(table: FeatureTable) -> torch.Tensor:
    """Return the mean of a table's rows, rounded to float32; that it is finite shows that they are."""
    total = np.zeros(table.dimension)
    for _, block in table.blocks(_ROWS):
        total += block.sum(axis=0, dtype=np.float64)
    _check_finite(total)
    return torch.from_numpy((total / max(1, len(table))).astype(np.float32))


def _nearest_of_block(
    block: npt.NDArray[np.float32], base: FeatureTable, k: int, own: Integers | None, centre: torch.Tensor
) -> tuple[Integers, Radii]:
    indices, squares, sure = _search(block, base, k, own, centre, torch.float32)
    doubtful = (~sure).nonzero()[:, 0].numpy()
    if len(doubtful):
        rest = None if own is None else own[doubtful]
        indices[doubtful], squares[doubtful], _ = _search(block[doubtful], base, k, rest, centre, torch.float64)
    return indices.numpy(), squares.sqrt().float().numpy()


def _search(
    block: npt.NDArray[np.float32],
    base: FeatureTable,
    k: int,
    own: Integers | None,
    centre: torch.Tensor,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return numbers and squared distances (n, k) of the nearest, and (n,) whether these are sure to be the nearest."""
    query = _Operand.of(block, centre, dtype)
    proposed, candidates = _candidates(query, base, k + _SPARE, own, centre)
    candidates = candidates.sort(dim=1).values  # so that, the next sort being stable, equals stay in this order
    squares, order = _exact_squares(query.raw, candidates, base).sort(dim=1, stable=True)
    squares, indices = squares[:, :k], candidates.gather(1, order[:, :k])
    if candidates.shape[1] == len(base) - (own is not None):
        return indices, squares, torch.ones(len(block), dtype=torch.bool)
    # A row that was not proposed and is nearer than the k-th would be shorter than |query| + its distance.
    farthest = squares[:, -1]
    reach = query.squares + (query.squares.sqrt() + farthest.sqrt()).square()
    sure = (farthest == 0) | (farthest <= proposed - _relative_error(base.dimension, dtype) * reach)
    return indices, squares, sure


def _candidates(
    query: _Operand, base: FeatureTable, count: int, own: Integers | None, centre: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the worst proposed squared distance (n,), and the numbers (n, count or all there are) of the proposed."""
    count = min(count, len(base) - (own is not None))
    best = torch.empty(len(query.rows), 0, dtype=query.rows.dtype)
    numbers = torch.empty(len(query.rows), 0, dtype=torch.int64)
    for first, block in base.blocks(_ROWS):
        squares = _products(query, _Operand.of(block, centre, query.rows.dtype))
        if own is not None:
            mine = ((own >= first) & (own < first + len(block))).nonzero()[0]
            squares[mine, own[mine] - first] = torch.inf
        values, columns = squares.topk(min(count, len(block)), dim=1, largest=False, sorted=False)
        best, numbers = torch.cat([best, values], dim=1), torch.cat([numbers, columns + first], dim=1)
        best, kept = best.topk(min(count, best.shape[1]), dim=1, largest=False, sorted=False)
        numbers = numbers.gather(1, kept)
    return best.amax(dim=1), numbers


def _products(one: _Operand, other: _Operand, radii: torch.Tensor | None = None) -> torch.Tensor:
    """Return squared distances (rows of one, rows of other), less those of `radii`, as a matrix product gives them."""
    offsets = other.squares if radii is None else other.squares - radii.square()
    return torch.addmm(offsets, one.rows, other.rows.T, alpha=-2).add_(one.squares[:, None])


def _relative_error(dimension: int, dtype: torch.dtype) -> float:
    """Return what `_products` may be wrong by, in units of |a|² + |b|²; rounding errors add up as a random walk."""
    return float(2 * (8 + math.sqrt(dimension)) * torch.finfo(dtype).eps)


def _exact_squares(rows: torch.Tensor, candidates: torch.Tensor, base: FeatureTable) -> torch.Tensor:
    """Return squared distances (n, candidates) in float64, from differences."""
    squares = torch.empty(candidates.shape, dtype=torch.float64)
    for first, block in base.blocks(_ROWS):
        one, place = ((candidates >= first) & (candidates < first + len(block))).nonzero(as_tuple=True)
        other = candidates[one, place] - first
        squares[one, place] = _squared_differences(rows, _tensor(block), one, other)
    return squares


def _squared_differences(
    rows: torch.Tensor, others: torch.Tensor, one: torch.Tensor, other: torch.Tensor
) -> torch.Tensor:
    """Return the squared distances (pairs,) float64 of rows[one] from others[other]."""
    return torch.cat(
        [
            (rows[a].double() - others[b].double()).square_().sum(dim=1)
            for a, b in _in_parts(one, other, max(1, _ELEMENTS // rows.shape[1]))
        ]
        or [torch.empty(0, dtype=torch.float64)]
    )


def _in_parts(one: torch.Tensor, other: torch.Tensor, count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for first in range(0, len(one), count):
        yield one[first : first + count], other[first : first + count]


def _inside(
    points: _Operand, centres: _Operand, limits: torch.Tensor, centre: torch.Tensor, with_edge: bool
) -> npt.NDArray[np.bool_]:
    """Return whether each point lies in each ball: (points, balls)."""
    dtype = points.rows.dtype
    beyond = _products(points, centres, limits.to(dtype))
    margin = _relative_error(points.rows.shape[1], dtype) * (points.squares + centres.squares.max())[:, None]
    if dtype == torch.float64:
        margin = margin + torch.finfo(torch.float32).eps * limits.double().square()  # radii are rounded
    # NumPy counts and finds the few that are true several times faster than torch.
    surely = (beyond < -margin).numpy()
    perhaps = ~(beyond > margin).numpy()  # also where a square overflowed
    doubtful = np.count_nonzero(perhaps) - np.count_nonzero(surely)
    if doubtful > _MANY and dtype == torch.float32:
        return _inside(points.in_float64(centre), centres.in_float64(centre), limits, centre, with_edge)
    if doubtful:
        one, other = (torch.from_numpy(numbers) for numbers in np.nonzero(perhaps & ~surely))
        # Rounded as radii are, so that a distance that a radius was made of equals it.
        distances = _squared_differences(points.raw, centres.raw, one, other).sqrt().float()
        surely[one, other] = (distances <= limits[other]) if with_edge else (distances < limits[other])
    return surely
