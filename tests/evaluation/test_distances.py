"""Nearest neighbours and balls, against a plain count in float64, where rounding is hardest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ganzoo.errors import DataError, UsageError
from ganzoo.evaluation import distances
from ganzoo.evaluation.distances import count_in_balls, nearest
from ganzoo.evaluation.tables import FeatureTable, FileRows, TableWriter

Floats = npt.NDArray[np.float32]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that even small tables take several, the last one not full."""
    monkeypatch.setattr(distances, "_ROWS", 100)


def all_distances(one: Floats, other: Floats) -> npt.NDArray[np.float64]:
    differences = one[:, None].astype(np.float64) - other[None].astype(np.float64)
    return np.asarray(np.sqrt((differences**2).sum(axis=2)))


def expected(queries: Floats, base: Floats, k: int, same: bool) -> tuple[npt.NDArray[np.int64], Floats]:
    table = all_distances(queries, base)
    if same:
        np.fill_diagonal(table, np.inf)
    order = np.argsort(table, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(table, order, axis=1).astype(np.float32)


def gaussian(count: int, dimension: int, seed: int, scale: float = 1.0, offset: float = 0.0) -> Floats:
    return (offset + scale * np.random.default_rng(seed).normal(size=(count, dimension))).astype(np.float32)


def tight_clusters(count: int, seed: int, width: float, dimension: int = 20) -> Floats:
    random = np.random.default_rng(seed)
    centres = 100 * np.random.default_rng(5).normal(size=(4, dimension))
    return (centres[random.integers(0, 4, count)] + width * random.normal(size=(count, dimension))).astype(np.float32)


HARD = {
    "gaussian": (gaussian(130, 12, 1), gaussian(250, 12, 2)),
    "far from the origin": (gaussian(130, 12, 1, offset=1e4), gaussian(250, 12, 2, offset=1e4)),
    "tiny": (gaussian(130, 12, 1, scale=1e-24), gaussian(250, 12, 2, scale=1e-24)),
    "huge": (gaussian(130, 12, 1, scale=1e25), gaussian(250, 12, 2, scale=1e25)),
    "tight clusters": (tight_clusters(130, 1, 1e-3), tight_clusters(250, 2, 1e-3)),
    "few values": (np.round(gaussian(130, 2, 1)), np.round(gaussian(250, 2, 2))),
    "one place": (np.full((130, 3), 7.7, np.float32), np.full((250, 3), 7.7, np.float32)),
}


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("same", [False, True])
def test_neighbours_are_those_of_a_plain_count(kind: str, same: bool) -> None:
    queries, base = HARD[kind]
    queries = base if same else queries
    indices, found = nearest(FeatureTable.of(queries), FeatureTable.of(base), 5, same=same)
    wanted_indices, wanted = expected(queries, base, 5, same)
    assert indices.dtype == np.int64
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=2e-7)
    if kind not in ("few values", "one place"):  # with many equally distant ones any of these will do
        np.testing.assert_array_equal(indices, wanted_indices)
    else:
        chosen = np.take_along_axis(all_distances(queries, base), indices, axis=1)
        np.testing.assert_allclose(chosen, wanted, rtol=2e-7)
        assert all(len(set(row)) == 5 for row in indices.tolist())


def test_duplicates_far_from_the_origin_are_found_at_distance_zero() -> None:
    base = gaussian(1000, 224, 3, offset=3e4)
    queries = gaussian(300, 224, 4, offset=3e4)
    queries[::3] = base[500:600]
    indices, found = nearest(FeatureTable.of(queries), FeatureTable.of(base), 1)
    assert indices[::3, 0].tolist() == list(range(500, 600))
    assert (found[::3] == 0).all()
    assert (found[1::3] > 1).all()


def test_a_row_is_not_its_own_neighbour_but_its_duplicates_are() -> None:
    base = gaussian(300, 8, 5)
    base[250] = base[10]
    indices, found = nearest(FeatureTable.of(base), FeatureTable.of(base), 2, same=True)
    assert (indices != np.arange(300)[:, None]).all()
    assert (indices[10, 0], indices[250, 0]) == (250, 10)
    assert found[10, 0] == found[250, 0] == 0
    assert (np.delete(found, [10, 250], axis=0) > 0).all()


def test_tables_in_files_subsets_and_read_only_arrays_give_the_same(tmp_path: Path) -> None:
    base, queries = gaussian(250, 6, 6), gaussian(130, 6, 7)
    with TableWriter(tmp_path / "base.npy", 250, 6) as writer:
        writer.add(base)
    base.flags.writeable = False
    wanted = nearest(FeatureTable.of(queries), FeatureTable.of(base), 3)
    mixed = np.random.default_rng(8).permutation(250)
    for table, number_of in (
        (FeatureTable(FileRows(tmp_path / "base.npy")), np.arange(250)),
        (FeatureTable.of(base[mixed]).subset(np.argsort(mixed)), np.arange(250)),
    ):
        indices, found = nearest(FeatureTable.of(queries), table, 3)
        np.testing.assert_array_equal(number_of[indices], wanted[0])
        np.testing.assert_array_equal(found, wanted[1])


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[str, int, int]] = []
    tables = FeatureTable.of(gaussian(130, 3, 1)), FeatureTable.of(gaussian(40, 3, 2))
    nearest(*tables, 1, progress=lambda *one: told.append(one))
    count_in_balls(*tables, np.ones(40, np.float32), with_edge=True, progress=lambda *one: told.append(one))
    assert [one[1:] for one in told] == [(100, 130), (130, 130)] * 2


@pytest.mark.parametrize("k", [0, -1, 40, 41])
def test_a_number_of_neighbours_that_there_are_not_is_refused(k: int) -> None:
    table = FeatureTable.of(gaussian(40, 3, 1))
    with pytest.raises(UsageError, match=f"{k} nearest neighbours .* among 40 images"):
        nearest(table, table, k, same=True)


def test_every_neighbour_but_oneself_can_be_asked_for() -> None:
    table = FeatureTable.of(gaussian(12, 3, 1))
    indices, _ = nearest(table, table, 11, same=True)
    assert [sorted([*row, own]) for own, row in enumerate(indices.tolist())] == [list(range(12))] * 12


def test_features_of_two_lengths_are_refused() -> None:
    one, other = FeatureTable.of(gaussian(40, 3, 1)), FeatureTable.of(gaussian(40, 4, 1))
    with pytest.raises(UsageError, match="3 and of 4"):
        nearest(one, other, 1)
    with pytest.raises(UsageError, match="3 and of 4"):
        count_in_balls(one, other, np.ones(40, np.float32), with_edge=True)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("in_base", [False, True])
def test_features_that_are_not_finite_are_refused(broken: float, in_base: bool) -> None:
    queries, base = gaussian(250, 3, 1), gaussian(130, 3, 2)
    (base if in_base else queries)[117, 1] = broken
    with pytest.raises(DataError, match="not finite"):
        nearest(FeatureTable.of(queries), FeatureTable.of(base), 2)
    with pytest.raises(DataError, match="not finite"):
        count_in_balls(FeatureTable.of(queries), FeatureTable.of(base), np.ones(130, np.float32), with_edge=True)


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("with_edge", [False, True])
@pytest.mark.parametrize("many", [0, 1 << 40])
def test_balls_hold_what_a_plain_count_finds_in_them(
    kind: str, with_edge: bool, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With radii that are distances of other rows, so that many lie on an edge; by differences, and all in float64."""
    monkeypatch.setattr(distances, "_MANY", many)
    points, centres = HARD[kind]
    table = all_distances(points, centres)
    radii = table[np.arange(250) % 130, np.arange(250)].astype(np.float32)
    found = count_in_balls(FeatureTable.of(points), FeatureTable.of(centres), radii, with_edge=with_edge)
    rounded = table.astype(np.float32)
    inside = rounded <= radii if with_edge else rounded < radii
    np.testing.assert_array_equal(found.around_point, inside.sum(axis=1))
    np.testing.assert_array_equal(found.in_ball, inside.sum(axis=0))


def test_balls_out_to_the_kth_neighbour_hold_k_rows_and_their_centre() -> None:
    rows = FeatureTable.of(gaussian(260, 24, 9, offset=500))
    _, found = nearest(rows, rows, 4, same=True)
    radii = found[:, 3].copy()
    assert (count_in_balls(rows, rows, radii, with_edge=True).in_ball == 5).all()
    assert (count_in_balls(rows, rows, radii, with_edge=False).in_ball == 4).all()
