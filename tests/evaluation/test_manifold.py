"""Precision, recall, density, coverage: their definitions, other packages' numbers, and what must not change them."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_features import Floats, relu_features, subject

from ganzoo import registry
from ganzoo.errors import DataError, UsageError
from ganzoo.evaluation.contract import Value
from ganzoo.evaluation.metrics.manifold import density_coverage, precision_recall, radii
from ganzoo.evaluation.tables import FeatureTable

SETS = [
    (relu_features(220, 16), relu_features(260, 16, seed=1)),
    (relu_features(220, 16, scale=1.3), relu_features(180, 16, seed=1)),
    (relu_features(150, 64, shift=100.0), relu_features(190, 64, seed=1, scale=0.9, shift=100.0)),
]


def measure(name: str, *arrays: Floats, **arguments: int) -> dict[str, Value]:
    values = registry.metrics.get(name)(**arguments).measure(subject(*arrays))
    return {value.name.removesuffix("-some"): value for value in values}


@pytest.mark.parametrize(("generated", "reference"), SETS)
@pytest.mark.parametrize("k", [1, 3, 8])
def test_precision_and_recall_are_torch_fidelitys(generated: Floats, reference: Floats, k: int) -> None:
    theirs = pytest.importorskip("torch_fidelity.metric_prc")
    wanted = theirs.prc_features_to_metric(
        torch.from_numpy(generated).double(),
        torch.from_numpy(reference).double(),
        prc_neighborhood=k,
        verbose=False,
    )
    found = measure("pr", generated, reference, k=k)
    assert found["precision"].value == pytest.approx(wanted["precision"], abs=1e-6)
    assert found["recall"].value == pytest.approx(wanted["recall"], abs=1e-6)
    assert 0.05 < found["recall"].value <= 1.0


@pytest.mark.parametrize(("generated", "reference"), SETS)
@pytest.mark.parametrize("k", [1, 5])
def test_all_four_are_those_of_prdc(generated: Floats, reference: Floats, k: int) -> None:
    prdc = pytest.importorskip("prdc")
    with contextlib.redirect_stdout(io.StringIO()):
        wanted = prdc.compute_prdc(reference.astype(np.float64), generated.astype(np.float64), k)
    found = measure("pr", generated, reference, k=k) | measure("dc", generated, reference, k=k)
    assert {name: value.value for name, value in found.items()} == pytest.approx(wanted, rel=1e-9)


def test_on_a_line_they_are_what_one_counts_by_hand() -> None:
    reference = np.array([0, 1, 2, 10, 12], dtype=np.float32)[:, None]  # balls of one neighbour: 1, 1, 1, 2, 2
    generated = np.array([0.5, 1.5, 3, 8, 100], dtype=np.float32)[:, None]  # 1, 1, 1.5, 5, 92
    both = measure("pr", generated, reference, k=1)
    assert both["precision"].value == 4 / 5  # 3 and 8 lie on an edge; 100 in no ball
    assert both["recall"].value == 5 / 5  # even 12, in the ball of 100, which is 92 wide, and in that of 8
    dense = measure("dc", generated, reference, k=1)
    assert dense["density"].value == (2 + 2 + 0 + 0 + 0) / 5
    assert dense["coverage"].value == 3 / 5


def test_equal_sets_cover_each_other() -> None:
    rows = relu_features(120, 10)
    assert {name: value.value for name, value in measure("pr", rows, rows).items()} == {"precision": 1, "recall": 1}
    dense = measure("dc", rows, rows)
    assert dense["density"].value == pytest.approx(1.0)  # the image itself and four of its five neighbours
    assert dense["coverage"].value == 1.0


def test_dropping_half_of_the_modes_halves_recall_and_coverage_and_noise_lowers_precision_and_density() -> None:
    random = np.random.default_rng(0)
    centres = 50 * random.normal(size=(8, 6))

    def draw(modes: int, count: int = 320, noise: float = 0.0) -> Floats:
        rows = centres[np.arange(count) % modes] + random.normal(size=(count, 6))
        return (rows + noise * random.normal(size=rows.shape)).astype(np.float32)

    real = draw(8)
    half = measure("pr", draw(4), real) | measure("dc", draw(4), real)
    assert half["precision"].value > 0.8
    assert half["density"].value > 0.8
    assert half["recall"].value == pytest.approx(0.5, abs=0.08)
    assert half["coverage"].value == pytest.approx(0.5, abs=0.08)
    noisy = measure("pr", draw(8, noise=3.0), real) | measure("dc", draw(8, noise=3.0), real)
    assert noisy["precision"].value < 0.3
    assert noisy["density"].value < 0.2


def test_all_images_alike_have_no_recall_and_no_coverage() -> None:
    real = relu_features(200, 8)
    still = np.repeat(real[:1] + np.float32(1e-3), 100, axis=0)
    found = measure("pr", still, real) | measure("dc", still, real)
    assert found["precision"].value == 1.0
    assert found["recall"].value == 0.0
    assert found["coverage"].value < 0.1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.integers(-1000, 1000))
def test_order_common_shifts_and_scales_change_nothing(seed: int, shift: int) -> None:
    random = np.random.default_rng(seed)
    one, other = (random.integers(-20, 20, size=(count, 3)).astype(np.float32) for count in (30, 40))

    def all_four(a: Floats, b: Floats) -> list[float]:
        tables = FeatureTable.of(a), FeatureTable.of(b)
        return [*precision_recall(*tables), *density_coverage(*tables)]

    wanted = all_four(one, other)
    assert all_four(random.permutation(one), random.permutation(other)) == pytest.approx(wanted, rel=1e-12)
    assert all_four(one + shift, other + shift) == wanted
    assert all_four(4 * one, 4 * other) == wanted


def test_precision_is_the_recall_of_the_sets_exchanged() -> None:
    one, other = (FeatureTable.of(rows) for rows in SETS[1])
    assert precision_recall(one, other) == precision_recall(other, one)[::-1]


def test_radii_are_the_distances_of_the_kth_neighbours() -> None:
    rows = np.array([[0, 0], [3, 4], [0, 1], [6, 8]], dtype=np.float32)
    assert radii(FeatureTable.of(rows), 2).tolist() == pytest.approx([5, 5, 18**0.5, 85**0.5])


def test_test_images_give_the_figures_of_real_images_and_the_protocol_tells_k_and_edge() -> None:
    generated, reference = SETS[0]
    test = relu_features(90, 16, seed=5)
    for name, function, k, edge in (
        ("pr", precision_recall, 3, "inside"),
        ("dc", density_coverage, 5, "outside"),
    ):
        values = list(measure(name, generated, reference, test).values())
        wanted = function(FeatureTable.of(test), FeatureTable.of(reference))
        assert [value.reference for value in values] == list(wanted)
        assert [(value.protocol["k"], value.protocol["on_the_edge"]) for value in values] == [(k, edge)] * 2
        assert values[0].better == "higher"


@pytest.mark.parametrize(("name", "fewest"), [("pr", 4), ("dc", 6)])
def test_no_more_images_than_neighbours_are_refused(name: str, fewest: int) -> None:
    rows, few = relu_features(30, 4), relu_features(fewest - 1, 4)
    with pytest.raises(UsageError, match=f"{fewest - 1} generated images are too few: at least {fewest}"):
        measure(name, few, rows)
    with pytest.raises(UsageError, match=f"{fewest - 1} real images are too few"):
        measure(name, rows, few)
    assert registry.metrics.get(name).fewest == fewest
    assert len(measure(name, relu_features(fewest, 4), rows)) == 2


def test_no_neighbours_and_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UsageError, match="neighbours of 0"):
        measure("pr", *SETS[0], k=0)
    broken = SETS[0][0].copy()
    broken[3, 3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        measure("dc", broken, SETS[0][1])
