"""Kernel distance: the formula term by term, torch-fidelity's number, and an error that is what the numbers scatter."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from random_features import Floats, relu_features, subject

from ganzoo import registry
from ganzoo.errors import DataError, UsageError
from ganzoo.evaluation.contract import Value
from ganzoo.evaluation.metrics.kernel import kernel_distance
from ganzoo.evaluation.tables import FeatureTable


def measure(name: str, *arrays: Floats, extractor: str = "some", seed: int = 0, **arguments: int) -> Value:
    (value,) = registry.metrics.get(name)(**arguments).measure(subject(*arrays, extractor=extractor, seed=seed))
    assert isinstance(value, Value)
    return value


def test_it_is_the_formula_term_by_term() -> None:
    x, y = relu_features(6, 4), relu_features(6, 4, seed=1, shift=0.5)

    def kernel(a: Floats, b: Floats) -> float:
        return float((a.astype(np.float64) @ b.astype(np.float64) / 4 + 1) ** 3)

    within = sum(np.mean([kernel(rows[i], rows[j]) for i, j in permutations(range(6), 2)]) for rows in (x, y))
    across = np.mean([kernel(x[i], y[j]) for i, j in product(range(6), repeat=2)])
    found = kernel_distance(FeatureTable.of(x), FeatureTable.of(y), subsets=3, subset_size=6)
    assert found.mean == pytest.approx(within - 2 * across, rel=1e-12)
    assert found.deviation == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("seed", [0, 2020])
def test_it_is_torch_fidelitys_number_on_the_same_subsets(seed: int) -> None:
    theirs = pytest.importorskip("torch_fidelity.metric_kid")
    one, other = relu_features(300, 40), relu_features(400, 40, seed=1, scale=1.05)
    wanted = theirs.kid_features_to_metric(
        torch.from_numpy(one),
        torch.from_numpy(other),
        kid_subsets=12,
        kid_subset_size=100,
        rng_seed=seed,
        verbose=False,
    )
    found = measure("kd", one, other, seed=seed, subsets=12, subset_size=100)
    assert found.value == pytest.approx(wanted["kernel_inception_distance_mean"], rel=1e-4)
    assert found.protocol["deviation_over_subsets"] == pytest.approx(wanted["kernel_inception_distance_std"], rel=1e-4)


def test_sets_from_one_distribution_give_zero_within_the_error_and_others_do_not() -> None:
    one, same, other = relu_features(900, 16), relu_features(900, 16, seed=1), relu_features(900, 16, seed=2, scale=1.2)
    near = measure("kd", one, same, subsets=20, subset_size=200)
    far = measure("kd", other, same, subsets=20, subset_size=200)
    assert near.error is not None
    assert far.error is not None
    assert abs(near.value) < 3 * near.error
    assert far.value > 5 * far.error


@pytest.mark.parametrize("shift", [0.0, 0.15, 0.4])
@pytest.mark.parametrize(("size", "subsets"), [(150, 1), (50, 6)])
def test_the_error_is_what_the_number_scatters_by_when_all_images_are_drawn_anew(
    shift: float, size: int, subsets: int
) -> None:
    random = np.random.default_rng(7)
    found = [
        kernel_distance(
            FeatureTable.of(random.normal(size=(150, 8))),
            FeatureTable.of(random.normal(size=(200, 8)) + shift),
            subsets=subsets,
            subset_size=size,
            seed=number,
        )
        for number in range(120)
    ]
    scatter = np.std([one.mean for one in found])
    told = np.sqrt(np.mean([one.error**2 for one in found]))
    assert 0.75 < told / scatter < 1.35  # 120 draws tell a deviation to 7 %


def test_subsets_are_drawn_by_the_seed() -> None:
    rows = relu_features(100, 5), relu_features(100, 5, seed=1)

    def drawn(seed: int) -> Value:
        return measure("kd", *rows, seed=seed, subsets=4, subset_size=20)

    assert drawn(3) == drawn(3)
    assert drawn(3).value != drawn(4).value


def test_subsets_shrink_to_what_there_is_and_the_protocol_says_so() -> None:
    value = measure("kd", relu_features(30, 5), relu_features(100, 5, seed=1), relu_features(20, 5, seed=2), subsets=5)
    assert value.protocol["subset_size"] == 30
    assert value.protocol["subset_size_asked_for"] == 1000
    assert value.protocol["test_subset_size"] == 20
    assert "standard error of the mean" in value.protocol["error"]
    assert value.reference == pytest.approx(
        kernel_distance(
            FeatureTable.of(relu_features(20, 5, seed=2)),
            FeatureTable.of(relu_features(100, 5, seed=1)),
            subsets=5,
            subset_size=20,
        ).mean
    )


def test_only_inceptions_numbers_are_called_kid() -> None:
    rows = relu_features(20, 3), relu_features(20, 3, seed=1)
    assert measure("kd", *rows, extractor="cifar-convnet", subsets=2).name == "kd-cifar-convnet"
    assert measure("kid", *rows, extractor="inception", subsets=2).name == "kid"
    assert registry.metrics.get("kid").extractor == "inception"


def test_two_images_are_enough_and_one_is_refused() -> None:
    assert np.isfinite(measure("kd", relu_features(2, 3), relu_features(9, 3), subsets=3).value)
    with pytest.raises(UsageError, match="1 generated images are too few"):
        measure("kd", relu_features(1, 3), relu_features(9, 3))


def test_what_cannot_be_computed_is_refused() -> None:
    with pytest.raises(UsageError, match="0 subsets of 1000"):
        measure("kd", relu_features(9, 3), relu_features(9, 3), subsets=0)
    with pytest.raises(UsageError, match="100 subsets of 1 "):
        measure("kd", relu_features(9, 3), relu_features(9, 3), subset_size=1)
    table = FeatureTable.of(relu_features(9, 3))
    with pytest.raises(UsageError, match="Subsets of 10 cannot be drawn from 9 and 9"):
        kernel_distance(table, table, subset_size=10)
    broken = relu_features(9, 3)
    broken[2, 2] = np.inf
    with pytest.raises(DataError, match="not finite"):
        measure("kd", broken, relu_features(9, 3), subsets=2)
