"""Tables of features: moments against NumPy, rows by number, files that are whole or refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ganzoo.errors import DataError
from ganzoo.evaluation import tables
from ganzoo.evaluation.tables import ArrayRows, FeatureTable, FileRows, TableWriter

Floats = npt.NDArray[np.float32]


def _numbers(rows: int = 23, columns: int = 5, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def _file(path: Path, array: Floats, parts: int = 3) -> FileRows:
    with TableWriter(path, *array.shape) as writer:
        for part in np.array_split(array, parts):
            writer.add(part)
    return FileRows(path)


@pytest.fixture(params=["memory", "file"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureTable:
    """A table of 23 rows with logits and labels, in memory or in files."""
    if request.param == "memory":
        return FeatureTable.of(_numbers(), _numbers(columns=2, seed=1), np.arange(23) % 4)
    features = _file(tmp_path / "features.npy", _numbers())
    return FeatureTable(features, _file(tmp_path / "logits.npy", _numbers(columns=2, seed=1)), np.arange(23) % 4)


# ---------------------------------------------------------------------------------------------------------- moments


def _check_moments(features: Floats, blocks: int, monkeypatch: pytest.MonkeyPatch, tolerance: float = 1e-12) -> None:
    monkeypatch.setattr(FeatureTable.blocks, "__defaults__", (blocks,))
    found = FeatureTable.of(features).moments
    exact = features.astype(np.longdouble)
    mean = exact.mean(axis=0)
    covariance = (exact - mean).T @ (exact - mean) / (len(exact) - 1)
    scale = float(np.abs(covariance).max())
    assert found.count == len(features)
    assert found.mean.dtype == found.covariance.dtype == np.float64
    assert np.abs(found.mean - mean).max() <= tolerance * np.abs(mean).max()
    assert np.abs(found.covariance - covariance).max() <= tolerance * scale
    assert np.array_equal(found.covariance, found.covariance.T)


@pytest.mark.parametrize("blocks", [1, 2, 7, 100])
def test_moments_are_numpys_however_the_rows_are_read(blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _check_moments(_numbers(50, 4), blocks, monkeypatch)
    features = _numbers(50, 4)
    found = FeatureTable.of(features).moments
    assert np.allclose(found.covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-12)


def test_features_far_from_zero_lose_no_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    offset = np.array([1e6, -3e5, 1.0, 0.0], dtype=np.float32)
    _check_moments(_numbers(200, 4) + offset, 16, monkeypatch)


def test_one_first_row_far_from_all_others_does_not_spoil_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    features = _numbers(200, 3)
    features[0, 0] = 1e8
    monkeypatch.setattr(FeatureTable.blocks, "__defaults__", (16,))
    found = FeatureTable.of(features).moments
    exact = np.cov(features.astype(np.longdouble), rowvar=False)
    assert np.allclose(found.covariance[1:, 1:], exact[1:, 1:].astype(float), rtol=1e-12, atol=0)


def test_constant_features_have_no_variance_at_all() -> None:
    moments = FeatureTable.of(np.full((9, 3), 0.1, dtype=np.float32)).moments
    assert np.array_equal(moments.mean, np.full(3, np.float64(np.float32(0.1))))
    assert not moments.covariance.any()


def test_moments_of_a_subset_are_of_its_rows_with_their_repeats() -> None:
    features, chosen = _numbers(), np.array([3, 3, 19, 0])
    found = FeatureTable.of(features).subset(chosen).moments
    assert np.allclose(found.covariance, np.cov(features[chosen].astype(np.float64), rowvar=False), rtol=1e-12)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_have_no_covariance(rows: int) -> None:
    with pytest.raises(DataError, match=f"{rows} images have no covariance"):
        _ = FeatureTable.of(_numbers(rows)).moments


# ------------------------------------------------------------------------------------------------------ rows by number


def test_features_logits_and_labels_are_those_that_were_given(table: FeatureTable) -> None:
    assert (len(table), table.dimension, table.num_classes) == (23, 5, 2)
    assert np.array_equal(table.features(), _numbers())
    assert np.array_equal(table.features(4, 9), _numbers()[4:9])
    assert np.array_equal(table.logits(), _numbers(columns=2, seed=1))
    assert table.labels is not None
    assert table.labels.tolist() == [number % 4 for number in range(23)]
    assert np.array_equal(np.concatenate([block for _, block in table.blocks(4)]), _numbers())
    assert [first for first, _ in table.blocks(10)] == [0, 10, 20]


@pytest.mark.parametrize(
    "indices", [[], [0], [22, 0, 22, 22, 5, 4, 6], list(range(23)), [7, 7, 7], list(range(22, -1, -1)), [1, 3, 5, 7]]
)
def test_rows_by_number_come_in_the_order_asked_for(table: FeatureTable, indices: list[int]) -> None:
    wanted = np.array(indices, dtype=np.int64)
    assert np.array_equal(table.gather(wanted), _numbers()[wanted])
    part = table.subset(wanted)
    assert len(part) == len(indices)
    assert np.array_equal(part.features(), _numbers()[wanted])
    assert np.array_equal(part.logits(1, 3), _numbers(columns=2, seed=1)[wanted][1:3])
    assert part.labels is not None
    assert part.labels.tolist() == [index % 4 for index in indices]


def test_a_subset_of_a_subset_counts_in_the_subset(table: FeatureTable) -> None:
    outer = table.subset(np.array([20, 3, 3, 11, 0]))
    inner = outer.subset(np.array([3, 0, 1, 1]))
    rows = [11, 20, 3, 3]
    assert np.array_equal(inner.features(), _numbers()[rows])
    assert np.array_equal(inner.gather(np.array([3, 0])), _numbers()[[3, 11]])
    assert inner.labels is not None
    assert inner.labels.tolist() == [3, 0, 3, 3]


def test_long_runs_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BLOCK_ROWS", 4)
    rows = _file(tmp_path / "rows.npy", _numbers())
    longest = 0
    read = FileRows._read

    def watched(self: FileRows, file: io.FileIO, first: int, last: int) -> Floats:
        nonlocal longest
        longest = max(longest, last - first)
        return read(self, file, first, last)

    monkeypatch.setattr(FileRows, "_read", watched)
    assert np.array_equal(rows.gather(np.arange(2, 21)), _numbers()[2:21])
    assert longest == 4


@pytest.mark.parametrize("indices", [[23], [-1], [0, 24], [0.5], [True, False], [[0]]])
def test_rows_that_are_not_there_are_refused(table: FeatureTable, indices: list[float]) -> None:
    for ask in (table.gather, table.subset, table.subset(np.arange(23)).gather):
        with pytest.raises(IndexError):
            ask(np.array(indices))


def test_reading_beyond_the_ends_gives_what_is_there(table: FeatureTable) -> None:
    for one in (table, table.subset(np.arange(23))):
        assert np.array_equal(one.features(20, 99), _numbers()[20:])
        assert one.features(30, 40).shape == (0, 5)
        assert one.features(7, 3).shape == (0, 5)
        assert np.array_equal(one.features(-3, 2), _numbers()[:2])


def test_logits_that_are_not_there_are_an_error() -> None:
    table = FeatureTable.of(_numbers())
    assert table.num_classes == 0
    assert table.labels is None
    with pytest.raises(DataError, match="without logits"):
        table.logits()


def test_numbers_of_rows_that_do_not_agree_are_refused() -> None:
    with pytest.raises(DataError, match="23 features come with 22 logits"):
        FeatureTable.of(_numbers(), _numbers(22))
    with pytest.raises(DataError, match="23 features come with 3 labels"):
        FeatureTable.of(_numbers(), labels=[1, 2, 3])
    with pytest.raises(DataError, match=r"has the shape \(3,\)"):
        ArrayRows(np.zeros(3))


def test_tables_without_columns_still_have_rows(tmp_path: Path) -> None:
    for rows in (ArrayRows(np.empty((6, 0))), _file(tmp_path / "none.npy", np.empty((6, 0), dtype=np.float32))):
        table = FeatureTable(rows)
        assert len(table) == 6
        assert table.features().shape == (6, 0)
        assert table.gather(np.array([5, 0])).shape == (2, 0)


# --------------------------------------------------------------------------------------------------------------- files


def test_what_is_written_is_an_npy_file_that_numpy_reads(tmp_path: Path) -> None:
    _file(tmp_path / "rows.npy", _numbers(), parts=5)
    assert np.array_equal(np.load(tmp_path / "rows.npy", allow_pickle=False), _numbers())
    again = tmp_path / "again.npy"
    _file(again, _numbers(), parts=1)
    assert again.read_bytes() == (tmp_path / "rows.npy").read_bytes()


def _npy(array: npt.NDArray[np.generic], version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version, allow_pickle=True)  # type: ignore[no-untyped-call]
    return file.getvalue()


def _with_header(text: str) -> bytes:
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


_GOOD = _npy(_numbers())
_BAD = {
    "cut short": _GOOD[:-4],
    "too long": _GOOD + b"\0",
    "no rows at all": _GOOD[:128],
    "empty": b"",
    "text": b"features\n",
    "of float64": _npy(_numbers().astype(np.float64)),
    "of big-endian numbers": _npy(_numbers().astype(">f4")),
    "of one dimension": _npy(_numbers().reshape(-1)),
    "of objects": _npy(np.array([["a", None]], dtype=object)),
    "in Fortran's order": _npy(np.asfortranarray(_numbers())),
    "of a later format": _npy(_numbers(), version=(2, 0)),
    "endless": _with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (10**40, 1)}"),
    "larger than any": _with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**40}, 1)}}"),
    "negative": _with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1)}"),
    "unclosed": _with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1, "),
    "code": _with_header("__import__('os').mkdir('x')"),
}


@pytest.mark.parametrize("kind", _BAD)
def test_a_file_that_is_no_whole_table_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    path.write_bytes(_BAD[kind])
    with pytest.raises(DataError, match=r"rows\.npy is (no|not a whole) table of features") as caught:
        FileRows(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_becomes_shorter_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    with pytest.raises(DataError, match="cannot be read: No such file"):
        FileRows(path)
    rows = _file(path, _numbers())
    path.write_bytes(_GOOD[:-4])
    assert np.array_equal(rows.read(0, 22), _numbers()[:22])
    with pytest.raises(DataError, match="became shorter while it was read"):
        rows.read(20, 23)
    with pytest.raises(DataError, match="became shorter while it was read"):
        rows.gather(np.array([22, 0]))
    path.unlink()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        rows.read(0, 1)


def test_a_writer_closes_its_file_when_the_block_raises(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path / "rows.npy", 2, 2)
    with pytest.raises(RuntimeError, match="broken off"), writer:
        raise RuntimeError("broken off")
    with pytest.raises(ValueError, match="closed"):
        writer.add(np.zeros((1, 2), dtype=np.float32))
