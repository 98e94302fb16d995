"""Memorisation: closed forms on a line, an independent count, and copies that were planted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ganzoo import registry
from ganzoo.errors import UsageError
from ganzoo.evaluation.contract import Side, Subject, Value
from ganzoo.evaluation.image_sets import ArrayImages
from ganzoo.evaluation.metrics.memorisation import Memorisation, copied, nearness
from ganzoo.evaluation.tables import FeatureTable
from ganzoo.features.contract import Extracted, FeatureExtractor, InputSpec

Floats = npt.NDArray[np.float64]


class Some(FeatureExtractor):
    """Features that were made elsewhere."""

    name, sha256, dimension, spec = "some", "0" * 64, 1, InputSpec(0, 0, "none", 0.0, 1.0)

    def extract(self, images: Any) -> Extracted:
        raise NotImplementedError


def line(*places: float) -> FeatureTable:
    return FeatureTable.of(np.array(places)[:, None])


def measure(generated: Floats, training: Floats, test: Floats | None = None, **arguments: Any) -> Value:
    def side(rows: Floats) -> Side:
        return Side(ArrayImages(np.zeros((len(rows), 1, 1, 1), dtype=np.uint8)), FeatureTable.of(rows))

    subject = Subject(side(generated), side(training), None if test is None else side(test), Some())
    (value,) = registry.metrics.get("memorisation")(**arguments).measure(subject)
    assert isinstance(value, Value)
    return value


def test_a_sample_counts_that_is_as_near_to_a_training_image_as_that_is_to_another_or_nearer() -> None:
    training = line(0, 10, 30)
    found = nearness(line(1, -10, -11, 50, 51, 22), training)
    assert found.to_training.tolist() == [1, 10, 11, 20, 21, 8]
    assert found.own.tolist() == [10, 10, 10, 20, 20, 20]
    assert found.share == 4 / 6  # 1, -10 (a tie), 50 (a tie), 22
    assert found.near_copies() == 1
    assert found.near_copies(0.4) == 2
    assert found.median_ratio == 1.0
    assert found.error == pytest.approx(math.sqrt(4 / 6 * 2 / 6 / 6), rel=1e-12)


def test_training_images_that_are_there_several_times_have_no_distance_of_their_own() -> None:
    training = line(0, 0, 0, 0, 8, 8, 20)
    found = nearness(line(0, 0.5, 8, 21), training)
    assert found.own.tolist() == [0, 0, 0, 12]
    assert found.share == 0.75  # the copies of 0 and 8, and 21
    assert found.median_ratio == 0.0
    assert nearness(line(0.5, 0.25, 9), training).to_dict()["median_ratio"] is None  # infinite


def test_the_figures_are_those_of_an_independent_count() -> None:
    rng = np.random.default_rng(0)
    images, training = rng.normal(size=(70, 6)), rng.normal(size=(200, 6))
    among = np.linalg.norm(training[:, None] - training[None], axis=2)
    np.fill_diagonal(among, np.inf)
    across = np.linalg.norm(images[:, None] - training[None], axis=2)
    own = among.min(axis=1)[across.argmin(axis=1)]
    found = nearness(FeatureTable.of(images), FeatureTable.of(training))
    assert found.to_training == pytest.approx(across.min(axis=1), rel=1e-6)
    assert found.own == pytest.approx(own, rel=1e-6)
    assert 0.2 < found.share == (across.min(axis=1) <= own).mean() < 0.8
    assert found.median_ratio == pytest.approx(np.sort(across.min(axis=1) / own)[34], rel=1e-6)


@pytest.mark.parametrize("planted", [0.0, 0.1, 0.5])
def test_planted_copies_are_found_beyond_what_unseen_images_show(planted: float) -> None:
    rng = np.random.default_rng(1)
    training, test, generated = (rng.normal(size=(count, 12)) for count in (1500, 1000, 1000))
    number = round(planted * 1000)
    generated[:number] = training[rng.permutation(1500)[:number]] + 0.01 * rng.normal(size=(number, 12))
    found = measure(generated, training, test)
    assert found.reference is not None
    expected = planted + (1 - planted) * found.reference
    assert found.value == pytest.approx(expected, abs=4 * math.sqrt(0.5 / 1000))
    assert found.details["copied"] == pytest.approx(planted, abs=0.07)
    assert abs(found.details["samples"]["near_copies"] - number) <= 3
    assert found.details["test"]["near_copies"] <= 3
    assert found.details["samples"]["images"] == 1000


def test_copied_solves_for_the_share_that_was_copied() -> None:
    assert copied(0.4, 0.4) == 0.0
    assert copied(0.3 + 0.7 * 0.4, 0.4) == pytest.approx(0.3)
    assert copied(1.0, 0.4) == 1.0
    assert copied(1.0, 1.0) == 0.0


def test_without_test_images_there_is_the_share_alone_and_the_protocol_says_so() -> None:
    rng = np.random.default_rng(0)
    generated, training = rng.normal(size=(50, 3)), rng.normal(size=(60, 3))
    alone, beside = measure(generated, training), measure(generated, training, training[:20] + 1.0)
    assert alone.name == "memorisation-some"
    assert alone.reference is None
    assert "no test images" in alone.protocol["beside"]
    assert (alone.value, alone.error) == (beside.value, beside.error)
    assert beside.reference is not None
    assert beside.better == "reference"


def test_what_means_nothing_is_refused() -> None:
    rows = np.zeros((2, 3))
    with pytest.raises(UsageError, match="2 training images tell nothing"):
        measure(rows, rows)
    with pytest.raises(UsageError, match="against training images"):
        Memorisation().measure(Subject(Side(ArrayImages(np.zeros((1, 1, 1, 1), dtype=np.uint8)), line(0))))
    for ratio in (0.0, 1.5, math.nan):
        with pytest.raises(UsageError, match="near_copy"):
            Memorisation(near_copy=ratio)
