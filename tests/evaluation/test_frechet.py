"""Fréchet distance: closed forms, another root in float64, torch-fidelity's number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_features import relu_features, subject

from ganzoo import registry
from ganzoo.errors import DataError, UsageError
from ganzoo.evaluation.contract import Value
from ganzoo.evaluation.metrics.frechet import frechet_distance
from ganzoo.evaluation.tables import FeatureTable, Moments

Matrix = npt.NDArray[np.float64]


def moments(mean: npt.ArrayLike, covariance: npt.ArrayLike) -> Moments:
    return Moments(100, np.array(mean, dtype=np.float64), np.array(covariance, dtype=np.float64))


def of(rows: npt.NDArray[np.floating]) -> Moments:
    return FeatureTable.of(rows).moments


def random_covariance(dimension: int, seed: int, rank: int | None = None) -> Matrix:
    factor = np.random.default_rng(seed).normal(size=(dimension, rank or 2 * dimension))
    return np.asarray(factor @ factor.T / factor.shape[1])


def measure(name: str, *arrays: npt.NDArray[np.float32], extractor: str = "some") -> Value:
    (value,) = registry.metrics.get(name)().measure(subject(*arrays, extractor=extractor))
    assert isinstance(value, Value)
    return value


@pytest.mark.parametrize("count", [10, 500])
def test_equal_sets_have_no_distance_even_with_fewer_images_than_features(count: int) -> None:
    one = of(relu_features(count, 60))
    assert frechet_distance(one, one) <= 1e-12 * np.trace(one.covariance)


@pytest.mark.parametrize("rank", [3, 40])
def test_a_shift_gives_the_square_of_its_length(rank: int) -> None:
    covariance = random_covariance(20, 1, rank)
    shift = np.arange(20) / 10
    distance = frechet_distance(moments(np.zeros(20), covariance), moments(shift, covariance))
    assert distance == pytest.approx(shift @ shift, rel=1e-12)


def test_scaling_by_a_gives_the_trace_times_the_square_of_a_less_one() -> None:
    covariance = random_covariance(20, 1)
    distance = frechet_distance(moments(np.zeros(20), covariance), moments(np.zeros(20), 2.25 * covariance))
    assert distance == pytest.approx((1.5 - 1) ** 2 * np.trace(covariance), rel=1e-12)


def test_commuting_covariances_give_the_squared_differences_of_their_deviations() -> None:
    one, other = np.array([4.0, 0.0, 1.0, 9.0]), np.array([1.0, 4.0, 0.0, 16.0])
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    distance = frechet_distance(
        moments(np.zeros(4), turn @ np.diag(one) @ turn.T), moments(np.zeros(4), turn @ np.diag(other) @ turn.T)
    )
    assert distance == pytest.approx(((np.sqrt(one) - np.sqrt(other)) ** 2).sum(), rel=1e-7)


@pytest.mark.parametrize(("rank", "other_rank"), [(80, 80), (5, 80), (5, 7)])
def test_it_is_what_a_matrix_root_in_complex_numbers_gives(rank: int, other_rank: int) -> None:
    one, other = random_covariance(30, 1, rank), random_covariance(30, 2, other_rank)
    eigenvalues = np.clip(np.real(scipy.linalg.eigvals(one @ other)), 0, None)
    wanted = np.trace(one) + np.trace(other) - 2 * np.sqrt(eigenvalues).sum()
    found = frechet_distance(moments(np.zeros(30), one), moments(np.zeros(30), other))
    assert found == pytest.approx(wanted, rel=1e-5 if rank < 30 else 1e-10)


@pytest.mark.parametrize(("count", "dimension"), [(800, 24), (300, 100), (60, 100)])
def test_it_is_torch_fidelitys_number(count: int, dimension: int) -> None:
    theirs = pytest.importorskip("torch_fidelity.metric_fid")
    one, other = relu_features(count, dimension), relu_features(count + 50, dimension, seed=1, scale=1.1, shift=0.05)
    wanted = theirs.fid_statistics_to_metric(
        *(theirs.fid_features_to_statistics(torch.from_numpy(rows)) for rows in (one, other)), False
    )["frechet_inception_distance"]
    assert measure("fd", one, other).value == pytest.approx(wanted, rel=1e-5)


def test_images_that_are_all_the_same_are_as_far_as_the_reference_spreads() -> None:
    still = np.full((50, 5), 3.0, dtype=np.float32)
    other = relu_features(200, 5)
    wanted = np.trace(of(other).covariance) + ((3.0 - of(other).mean) ** 2).sum()
    assert measure("fd", still, other).value == pytest.approx(wanted, rel=1e-9)
    assert measure("fd", still, still).value == 0.0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 40), other=st.integers(2, 40), dimension=st.integers(1, 12))
def test_it_is_symmetric_never_negative_and_blind_to_order_and_to_a_common_turn_and_shift(
    seed: int, count: int, other: int, dimension: int
) -> None:
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(count, dimension)), 2 * random.normal(size=(other, dimension)) + 1
    distance = frechet_distance(of(a), of(b))
    scale = np.trace(of(a).covariance) + np.trace(of(b).covariance)
    turn = np.linalg.qr(random.normal(size=(dimension, dimension)))[0]
    assert distance >= 0.0
    assert frechet_distance(of(b), of(a)) == pytest.approx(distance, rel=1e-7, abs=1e-7 * scale)
    assert frechet_distance(of(random.permutation(a)), of(b)) == pytest.approx(distance, rel=1e-6, abs=1e-6 * scale)
    assert frechet_distance(of(a @ turn + 3), of(b @ turn + 3)) == pytest.approx(distance, rel=1e-4, abs=1e-4 * scale)


def test_the_protocol_tells_counts_and_warns_of_fewer_images_than_features() -> None:
    few = measure("fd", relu_features(20, 30), relu_features(100, 30, seed=1)).protocol
    assert (few["generated_count"], few["reference_count"]) == (20, 100)
    assert few["warning"] == "20 images have no full covariance of 30 features: biased upwards"
    assert "warning" not in measure("fd", relu_features(31, 30), relu_features(100, 30, seed=1)).protocol


def test_test_images_give_the_figure_of_real_images() -> None:
    generated, reference, test = (relu_features(80, 6, seed=seed, scale=1 + seed) for seed in range(3))
    value = measure("fd", generated, reference, test)
    assert value.reference == frechet_distance(of(test), of(reference))
    assert value.protocol["test_count"] == 80
    assert measure("fd", generated, reference).reference is None


def test_only_inceptions_numbers_are_called_fid() -> None:
    rows = relu_features(20, 3), relu_features(20, 3, seed=1)
    assert measure("fd", *rows, extractor="mnist-convnet").name == "fd-mnist-convnet"
    assert measure("fd", *rows, extractor="inception-01234567").name == "fd-inception-01234567"
    assert measure("fid", *rows, extractor="inception").name == "fid"
    assert registry.metrics.get("fid").extractor == "inception"
    assert registry.metrics.get("fd").extractor is None


def test_one_image_is_refused() -> None:
    with pytest.raises(UsageError, match="1 generated images are too few: at least 2"):
        measure("fd", relu_features(1, 3), relu_features(20, 3))
    with pytest.raises(UsageError, match="1 real images are too few"):
        measure("fd", relu_features(20, 3), relu_features(1, 3))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match="3 and of 4"):
        measure("fd", relu_features(20, 3), relu_features(20, 4))
    with pytest.raises(UsageError, match="no real images"):
        measure("fd", relu_features(20, 3))
    broken = relu_features(20, 3)
    broken[7, 1] = np.nan
    with pytest.raises(DataError, match="not finite"):
        measure("fd", broken, relu_features(20, 3))
