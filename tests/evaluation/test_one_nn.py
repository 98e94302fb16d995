"""The error of a nearest-neighbour classifier that knows generated images only."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from ganzoo import registry
from ganzoo.errors import UsageError
from ganzoo.evaluation.contract import Side, Subject, Value
from ganzoo.evaluation.metrics.one_nn import OneNN
from ganzoo.evaluation.tables import FeatureTable

Labels = npt.NDArray[np.int64]


class Shown:
    """Images in memory, as the contract of an image set has them."""

    def __init__(self, pixels: npt.NDArray[np.uint8], labels: Labels | None, classes: tuple[str, ...] = ()) -> None:
        self.pixels, self.labels, self.classes, self.count = pixels, labels, classes, len(pixels)
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
def digits() -> tuple[npt.NDArray[np.uint8], Labels]:
    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 8, 8, 1) / 16 * 255).round().astype(np.uint8), labels.astype(np.int64)


def measured(generated: Shown, reference: Shown | None, test: Shown | None, seed: int = 0) -> Value:
    def side(images: Shown) -> Side:
        return Side(images, FeatureTable.of(np.empty((images.count, 0), dtype=np.float32)))

    subject = Subject(
        side(generated),
        None if reference is None else side(reference),
        None if test is None else side(test),
        seed=seed,
    )
    (value,) = OneNN().measure(subject)
    return value


def test_it_is_registered() -> None:
    assert registry.metrics.get("one_nn") is OneNN
    assert OneNN.needs == {"labels", "test"}


def test_error_and_reference_are_those_of_scikit_learns_nearest_neighbour(
    digits: tuple[npt.NDArray[np.uint8], Labels],
) -> None:
    pixels, labels = digits
    noise = np.random.default_rng(0).integers(-60, 60, pixels[:300].shape)
    noisy = np.clip(pixels[:300] + noise, 0, 255).astype(np.uint8)
    value = measured(
        Shown(noisy, labels[:300]), Shown(pixels[300:600], labels[300:600]), Shown(pixels[600:900], labels[600:900])
    )
    errors = []
    for images, named in ((noisy, labels[:300]), (pixels[300:600], labels[300:600])):
        machine = KNeighborsClassifier(1).fit(images.reshape(300, -1).astype(float), named)
        errors.append(1 - machine.score(pixels[600:900].reshape(300, -1).astype(float), labels[600:900]))
    assert value.name == "one-nn-error"
    assert value.better == "lower"
    assert value.value == pytest.approx(errors[0], abs=1.1 / 300)  # equally near ones may be taken either way
    assert value.reference == pytest.approx(errors[1], abs=1.1 / 300)
    assert value.error == pytest.approx(np.sqrt(value.value * (1 - value.value) / 300))
    json.dumps({"protocol": value.protocol, "details": value.details}, allow_nan=False)


def test_the_reference_is_of_as_many_real_images_as_were_generated(
    digits: tuple[npt.NDArray[np.uint8], Labels],
) -> None:
    pixels, labels = digits
    test = Shown(pixels[900:1000], labels[900:1000])
    value = measured(Shown(pixels[:100], labels[:100]), Shown(pixels[:800], labels[:800]), test)
    assert value.details["reference_images"] == 100
    assert value.protocol["beside"] == "the same of 100 real training images"
    other = measured(Shown(pixels[:100], labels[:100]), Shown(pixels[:800], labels[:800]), test, seed=1)
    assert other.value == value.value
    few = measured(Shown(pixels[:100], labels[:100]), Shown(pixels[:50], labels[:50]), test)
    assert few.details["reference_images"] == 50


def test_the_images_themselves_err_in_nothing_and_shifted_labels_in_all(
    digits: tuple[npt.NDArray[np.uint8], Labels],
) -> None:
    pixels, labels = digits[0][:200], digits[1][:200]
    assert measured(Shown(pixels, labels), None, Shown(pixels, labels)).value == 0.0
    wrong = measured(Shown(pixels, (labels + 1) % 10), None, Shown(pixels, labels))
    assert wrong.value == 1.0
    assert wrong.reference is None
    assert set(wrong.details["by_class"].values()) == {1.0}


def test_errors_of_classes_carry_their_names(digits: tuple[npt.NDArray[np.uint8], Labels]) -> None:
    pixels, labels = digits
    test = Shown(pixels[200:400], labels[200:400], tuple(f"digit {one}" for one in range(10)))
    value = measured(Shown(pixels[:100], labels[:100]), None, test)
    by_class = value.details["by_class"]
    shares = [(labels[200:400] == one).mean() for one in range(10)]
    assert list(by_class) == [f"digit {one}" for one in range(10)]
    assert np.dot(list(by_class.values()), shares) == pytest.approx(value.value)


def test_what_cannot_be_measured_is_refused(digits: tuple[npt.NDArray[np.uint8], Labels]) -> None:
    pixels, labels = digits
    some, test = Shown(pixels[:100], labels[:100]), Shown(pixels[100:150], labels[100:150], tuple("0123456789"))
    with pytest.raises(UsageError, match="real test images"):
        measured(some, None, None)
    with pytest.raises(UsageError, match="the generated images have none"):
        measured(Shown(pixels[:100], None), None, test)
    with pytest.raises(UsageError, match="the test images have none"):
        measured(some, None, Shown(pixels[:50], None))
    with pytest.raises(UsageError, match="the training images have none"):
        measured(some, Shown(pixels[:50], None), test)
    kept = labels[:100] != 4
    with pytest.raises(UsageError, match=r"None of the \d+ generated images is of class '4'"):
        measured(Shown(pixels[:100][kept], labels[:100][kept]), None, test)
