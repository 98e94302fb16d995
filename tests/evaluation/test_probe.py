"""The probe: linear classifiers on a discriminator's features, and the baselines beside which it is read."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.svm import LinearSVC

import ganzoo
from ganzoo import registry
from ganzoo.errors import UsageError
from ganzoo.evaluation.contract import Side, Subject, Value
from ganzoo.evaluation.metrics.probe import Probe
from ganzoo.evaluation.probe import probing
from ganzoo.evaluation.probe.probing import (
    ProbeSettings,
    discriminator_extractor,
    draw_per_class,
    probe_baselines,
    probe_images,
    probe_tables,
)
from ganzoo.evaluation.tables import FeatureTable
from ganzoo.features.pixels import Pixels
from ganzoo.models import Model

Labels = npt.NDArray[np.int64]


class Shown:
    """Images in memory, as the contract of an image set has them."""

    classes = tuple("0123456789")

    def __init__(self, pixels: npt.NDArray[np.uint8], labels: Labels | None) -> None:
        self.pixels, self.labels, self.count = pixels, labels, len(pixels)
        self.image_size, self.channels = pixels.shape[1], pixels.shape[3]

    def read(self, first: int, last: int) -> torch.Tensor:
        return torch.from_numpy(self.pixels[first:last])

    def gather(self, indices: Labels) -> torch.Tensor:
        return torch.from_numpy(self.pixels[indices])

    def fingerprint(self) -> None:
        return None

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "data", "count": self.count}


@pytest.fixture(scope="module")
def digits() -> tuple[Shown, Shown]:
    """500 digits of 8×8 to train on, 300 to test."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8, 1) / 16 * 255).round().astype(np.uint8)
    return Shown(pixels[:500], labels[:500].astype(np.int64)), Shown(pixels[500:800], labels[500:800].astype(np.int64))


@pytest.fixture(scope="module")
def model() -> Model:
    """Untrained, 8×8 grey: maps of 8 and 4."""
    return ganzoo.create_model(
        "dcgan-imagenet32",
        **{
            "data.image_size": 8,
            "data.channels": 1,
            "generator.widths": [8],
            "generator.strides": [2],
            "discriminator.widths": [8, 16],
            "discriminator.strides": [1, 2],
        },
    )


SMALL = ProbeSettings(per_class=20, draws=2, costs=(1e-2, 1e-1))


def side(images: Shown) -> Side:
    return Side(images, FeatureTable.of(np.empty((images.count, 0), dtype=np.float32)))


def measured(probe: Probe, model: Model | None, digits: tuple[Shown, Shown], seed: int = 0) -> list[Value]:
    train, test = digits
    return probe.measure(Subject(side(train), side(train), side(test), None, model, seed))


def test_it_is_registered_and_needs_a_discriminator_and_two_sets() -> None:
    assert registry.metrics.get("probe") is Probe
    assert Probe.needs == {"discriminator", "reference", "test"}


def test_all_labels_give_the_accuracy_of_linear_svc_with_the_c_that_was_chosen(
    model: Model, digits: tuple[Shown, Shown]
) -> None:
    train, test = digits
    extractor = discriminator_extractor(model, train)
    result = probe_images(extractor, train, test, dataclasses.replace(SMALL, draws=0))
    assert result.all_labels is not None
    assert not result.draws
    features = [extractor.extract(torch.from_numpy(one.pixels)).features.double().numpy() for one in digits]
    cost = result.all_labels.choice.cost
    wanted = LinearSVC(loss="squared_hinge", dual=False, C=cost, tol=1e-7).fit(features[0], train.labels)
    assert result.all_labels.accuracy == pytest.approx(wanted.score(features[1], test.labels), abs=1.1 / test.count)
    assert result.all_labels.labels == 500
    assert result.all_labels.converged
    assert result.all_labels.accuracy > 0.85
    assert result.dimension == 8 * 16 + 16 * 16


def test_values_are_the_result_with_all_that_it_takes_to_repeat_them(model: Model, digits: tuple[Shown, Shown]) -> None:
    probe = Probe(draws=2, per_class=20, costs=(1e-2, 1e-1))
    whole, few = measured(probe, model, digits)
    result = probe_images(discriminator_extractor(model, digits[0]), *digits, SMALL)
    assert result.all_labels is not None
    assert (whole.name, few.name) == ("probe-accuracy", "probe-accuracy-20")
    assert whole.value == result.all_labels.accuracy
    accuracies = [one.accuracy for one in result.draws]
    assert few.value == pytest.approx(np.mean(accuracies))
    assert few.error == pytest.approx(np.std(accuracies, ddof=1))
    assert whole.error == pytest.approx(np.sqrt(whole.value * (1 - whole.value) / 300))
    assert few.value < whole.value
    protocol = whole.protocol
    assert protocol["cost"] in protocol["costs"]
    assert protocol["cost_chosen_by"] == "one of 5 parts of the training images, held out"
    assert protocol["discriminator"]["dimension"] == 384
    assert protocol["discriminator"]["layers"] == {"layers.0": [8, 4, 4], "layers.1": [16, 4, 4]}
    assert protocol["discriminator"]["pool"] == 4
    assert protocol["discriminator"]["batch_statistics"] == "of 500 images"
    assert protocol["tolerance"] == 1e-4
    assert few.protocol["labels_per_class"] == 20
    assert few.protocol["draws"] == 2
    assert len(few.protocol["cost"]) == 2
    assert few.protocol["cost_chosen_by"] == "5 of 5 folds, held out in turn of each draw"
    assert [one["labels"] for one in few.details["draws"]] == [200, 200]
    for value in (whole, few):
        json.dumps({"protocol": value.protocol, "details": value.details}, allow_nan=False)


def test_the_same_seed_gives_the_same_numbers_and_another_other_draws(
    model: Model, digits: tuple[Shown, Shown]
) -> None:
    probe = Probe(draws=2, per_class=10, all_labels=False, costs=(1e-2,))
    one, again = measured(probe, model, digits), measured(probe, model, digits)
    assert one == again
    assert [value.name for value in one] == ["probe-accuracy-10"]
    assert measured(probe, model, digits, seed=1)[0].details != one[0].details


def test_features_that_lie_in_files_give_what_they_give_in_memory(
    model: Model, digits: tuple[Shown, Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = discriminator_extractor(model, digits[0])
    settings = ProbeSettings(per_class=10, draws=1, costs=(1e-2,))
    in_memory = probe_images(extractor, *digits, settings)
    monkeypatch.setattr(probing, "_IN_MEMORY", 0)
    assert probe_images(extractor, *digits, settings) == in_memory


def test_draws_take_as_many_of_each_class_without_repetition(digits: tuple[Shown, Shown]) -> None:
    labels = digits[0].labels
    assert labels is not None
    rows = draw_per_class(labels, 15, seed=3, draw=1)
    assert np.bincount(labels[rows]).tolist() == [15] * 10
    assert len(np.unique(rows)) == 150
    assert not np.array_equal(rows, draw_per_class(labels, 15, seed=3, draw=2))
    assert not np.array_equal(rows, draw_per_class(labels, 15, seed=4, draw=1))
    assert np.array_equal(rows, draw_per_class(labels, 15, seed=3, draw=1))


def test_baselines_are_random_weights_of_the_same_network_and_pixels(model: Model, digits: tuple[Shown, Shown]) -> None:
    settings = ProbeSettings(draws=0, costs=(1e-2, 1e-1))
    found = probe_baselines(model, *digits, settings, seed=5)
    pixels = probe_images(Pixels(image_size=8, channels=1), *digits, settings, seed=5)
    random = discriminator_extractor(ganzoo.create_model(model.config.recipe, seed=5), digits[0])
    assert found["pixels"].all_labels == pixels.all_labels
    assert found["random weights"].all_labels == probe_images(random, *digits, settings, seed=5).all_labels
    assert found["random weights"].features["sha256"] == random.sha256
    assert list(found) == ["random weights", "pixels"]


def test_labels_that_say_nothing_of_the_images_give_chance() -> None:
    random = np.random.default_rng(0)
    train, test = (
        FeatureTable.of(random.normal(size=(400, 5)).astype(np.float32), labels=np.arange(400) % 4) for _ in range(2)
    )
    result = probe_tables(train, test, ProbeSettings(draws=0, costs=(1e-2, 1e-1)))
    assert result.all_labels is not None
    assert result.all_labels.accuracy == pytest.approx(0.25, abs=0.08)


def test_a_model_without_discriminator_is_refused_with_a_remedy(model: Model, digits: tuple[Shown, Shown]) -> None:
    with pytest.raises(UsageError, match="without its discriminator") as refused:
        measured(Probe(draws=1, per_class=2), dataclasses.replace(model, discriminator=None), digits)
    assert refused.value.remedy
    with pytest.raises(UsageError, match="needs a model"):
        measured(Probe(), None, digits)


def test_images_without_labels_or_with_too_few_of_a_class_are_refused(
    model: Model, digits: tuple[Shown, Shown]
) -> None:
    train, test = digits
    with pytest.raises(UsageError, match="training images of the probe have no labels"):
        measured(Probe(), model, (Shown(train.pixels, None), test))
    with pytest.raises(UsageError, match="test images of the probe have no labels"):
        measured(Probe(), model, (train, Shown(test.pixels, None)))
    with pytest.raises(UsageError, match="the probe needs 400"):
        measured(Probe(), model, digits)
    assert train.labels is not None
    kept = train.labels != 7
    with pytest.raises(UsageError, match="Class 7 of the test images has no training image"):
        measured(Probe(draws=0), model, (Shown(train.pixels[kept], train.labels[kept]), test))


@pytest.mark.parametrize(
    "settings",
    [
        {"all_labels": False, "draws": 0},
        {"per_class": -1},
        {"per_class": 1},
        {"folds": 1},
        {"costs": ()},
        {"costs": (0.0,)},
        {"tolerance": 0.0},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="A probe"):
        Probe(**settings)
