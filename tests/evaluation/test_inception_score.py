"""Inception score: closed forms, and torch-fidelity's number on the same splits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_features import Floats, NamedFeatures, relu_features, side

from ganzoo import registry
from ganzoo.errors import DataError, UsageError
from ganzoo.evaluation.contract import Subject, Value
from ganzoo.evaluation.metrics.inception_score import inception_scores
from ganzoo.evaluation.tables import FeatureTable


def table(logits: Floats) -> FeatureTable:
    return FeatureTable.of(np.zeros((len(logits), 1)), logits)


def measure(generated: Floats, reference: Floats | None = None, *, seed: int = 0, **arguments: int) -> Value:
    sides = [None if one is None else side(np.zeros((len(one), 1)), one) for one in (generated, reference)]
    assert sides[0] is not None
    judged = Subject(sides[0], sides[1], extractor=NamedFeatures("cifar-convnet"), seed=seed)
    (value,) = registry.metrics.get("is")(**arguments).measure(judged)
    assert isinstance(value, Value)
    return value


@pytest.mark.parametrize("seed", [0, 2020])
@pytest.mark.parametrize("count", [400, 403])
def test_it_is_torch_fidelitys_number_on_the_same_splits(count: int, seed: int) -> None:
    theirs = pytest.importorskip("torch_fidelity.metric_isc")
    logits = 6 * relu_features(count, 10)
    wanted = theirs.isc_features_to_metric(torch.from_numpy(logits), 10, True, seed)
    found = measure(logits, seed=seed)
    assert found.value == pytest.approx(wanted["inception_score_mean"], rel=1e-10)
    assert found.error == pytest.approx(wanted["inception_score_std"], rel=1e-9)


@pytest.mark.parametrize("classes", [2, 7])
def test_sure_of_every_image_and_all_classes_alike_gives_their_number(classes: int) -> None:
    logits = 1000 * np.eye(classes, dtype=np.float32)[np.arange(classes * 30) % classes]
    assert inception_scores(table(logits), splits=1).tolist() == pytest.approx([classes], rel=1e-12)


def test_images_that_all_look_alike_to_the_classifier_give_one() -> None:
    assert inception_scores(table(np.full((50, 7), -3.0, dtype=np.float32))).tolist() == pytest.approx([1.0] * 10)
    certain = np.zeros((50, 7), dtype=np.float32)
    certain[:, 3] = 1e4
    assert inception_scores(table(certain)).tolist() == pytest.approx([1.0] * 10)


def test_it_reads_in_blocks_and_does_not_depend_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = 3 * relu_features(333, 6)
    wanted = inception_scores(table(logits))
    monkeypatch.setattr("ganzoo.evaluation.metrics.inception_score.BLOCK_ROWS", 40)
    np.testing.assert_allclose(inception_scores(table(logits)), wanted, rtol=1e-13)


def test_the_reference_has_a_score_of_its_own_beside_it() -> None:
    value = measure(relu_features(60, 5), 4 * relu_features(80, 5, seed=1))
    assert value.reference == pytest.approx(inception_scores(table(4 * relu_features(80, 5, seed=1))).mean())
    assert value.better == "higher"
    assert value.name == "is-cifar-convnet"
    assert (value.protocol["splits"], value.protocol["order"]) == (10, "shuffled")
    assert value.protocol["error"] == "standard deviation over the splits"
    assert measure(relu_features(60, 5)).reference is None


def test_too_few_images_or_no_splits_are_refused() -> None:
    with pytest.raises(UsageError, match="9 judged images are too few: at least 10"):
        measure(relu_features(9, 5))
    assert measure(relu_features(9, 5), splits=9).value == pytest.approx(1.0)  # an image alone is its own split
    with pytest.raises(UsageError, match="0 splits"):
        measure(relu_features(9, 5), splits=0)


def test_features_without_logits_and_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UsageError, match="name classes"):
        registry.metrics.get("is")().measure(Subject(side(relu_features(20, 3)), extractor=NamedFeatures()))
    broken = relu_features(20, 3)
    broken[5, 0] = np.nan
    with pytest.raises(DataError, match="not finite"):
        measure(broken)
