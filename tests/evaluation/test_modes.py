"""Mode coverage: closed forms, both protocols on images whose modes are known, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ganzoo import registry
from ganzoo.data import DataRequest, open_pack
from ganzoo.errors import UsageError
from ganzoo.evaluation.channels import Channels
from ganzoo.evaluation.contract import ImageSet, Side, Subject, Value
from ganzoo.evaluation.image_sets import ArrayImages, PackImages
from ganzoo.evaluation.metrics.modes import Modes, counting_bias, divergence, is_stacked
from ganzoo.evaluation.tables import FeatureTable
from ganzoo.features.contract import Extracted, FeatureExtractor, InputSpec

Pixels = npt.NDArray[np.uint8]
STACKED = tuple(f"{number:03d}" for number in range(1000))


class Levels(FeatureExtractor):
    """Sees the tens of a grey image's brightness: 0 to 9 in class 0, 10 to 19 in class 1 …"""

    name, sha256, dimension, num_classes, batch_size = "mnist-convnet", "0" * 64, 1, 10, 50
    spec = InputSpec(0, 1, "none", 0.0, 255.0)

    def __init__(self, weights: Any = None, device: str = "auto") -> None: ...

    def extract(self, images: torch.Tensor) -> Extracted:
        assert images.shape[0] == self.batch_size
        assert images.shape[3] == 1
        level = images.float().mean(dim=(1, 2, 3))
        return Extracted(level[:, None], -(level[:, None] // 10 - torch.arange(10)).abs())


@pytest.fixture(autouse=True)
def _levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.feature_extractors._registered, "mnist-convnet", Levels)


def grey(classes: npt.ArrayLike, labels: npt.ArrayLike | None = None) -> ArrayImages:
    """Images 2×2 that `Levels` sees as these classes."""
    pixels = (np.asarray(classes) * 10 + 5).astype(np.uint8)
    return ArrayImages(np.broadcast_to(pixels[:, None, None, None], (len(pixels), 2, 2, 1)), labels)


def triples(numbers: npt.ArrayLike, labels: npt.ArrayLike | None = None) -> ArrayImages:
    """Images 2×2×3 whose colours `Levels` sees as the digits of these numbers."""
    numbers = np.asarray(numbers)
    digits = np.stack([numbers // 100, numbers // 10 % 10, numbers % 10], axis=1)
    pixels = (digits * 10 + 5).astype(np.uint8)
    images = np.broadcast_to(pixels[:, None, None, :], (len(pixels), 2, 2, 3))
    return ArrayImages(images, labels, classes=() if labels is None else STACKED)


def measure(generated: ImageSet, reference: ImageSet | None, **arguments: Any) -> dict[str, Value]:
    nothing = FeatureTable.of(np.zeros((1, 0)))
    sides = Side(generated, nothing), None if reference is None else Side(reference, nothing)
    return {value.name: value for value in Modes(**arguments).measure(Subject(*sides))}


# ------------------------------------------------------------------------------------------------------ the formulas


def test_the_divergence_has_its_closed_forms() -> None:
    assert divergence([5, 5, 5, 5]) == 0.0
    assert divergence([7, 0, 0, 0]) == pytest.approx(math.log(4), rel=1e-12)
    assert divergence([1, 3]) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), rel=1e-12)
    assert divergence([3, 1], [30, 10]) == pytest.approx(0.0, abs=1e-12)
    assert divergence([1, 1], [9, 1]) == pytest.approx(0.5 * math.log(5 / 9) + 0.5 * math.log(5), rel=1e-12)
    assert divergence([1, 1], [1, 0]) == math.inf
    assert divergence([1, 0], [1, 1]) == pytest.approx(math.log(2), rel=1e-12)


def test_what_counting_adds_is_what_even_draws_show() -> None:
    draws = np.random.default_rng(0).multinomial(26_000, [1e-3] * 1000, size=40)
    mean = np.mean([divergence(counts) for counts in draws])
    assert counting_bias(1000, 26_000) == pytest.approx(0.01921, abs=1e-5)
    assert mean == pytest.approx(counting_bias(1000, 26_000), rel=0.03)


# ----------------------------------------------------------------------------------------------- channels as images


def test_channels_are_the_colours_of_the_images_one_after_the_other() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    images, expected = Channels(ArrayImages(pixels)), pixels.transpose(0, 3, 1, 2).reshape(15, 4, 4, 1)
    assert (images.count, images.channels, images.image_size) == (15, 1, 4)
    for first in range(16):
        for last in range(first, 16):
            assert np.array_equal(images.read(first, last).numpy(), expected[first:last])
    wanted = np.array([14, 0, 3, 3, 7])
    assert np.array_equal(images.gather(wanted).numpy(), expected[wanted])


def test_channels_are_not_taken_for_the_images_that_they_are_of() -> None:
    one = ArrayImages(np.zeros((2, 4, 4, 3), dtype=np.uint8))
    other = ArrayImages(np.ones((2, 4, 4, 3), dtype=np.uint8))
    assert len({one.fingerprint(), Channels(one).fingerprint(), Channels(other).fingerprint()}) == 3


# ------------------------------------------------------------------------------------------------ classes as modes


def test_classes_that_occur_are_counted_and_their_shares_compared_with_the_real_ones() -> None:
    real = np.repeat(np.arange(10), [40, 20, 20, 20, 20, 20, 20, 20, 10, 10])
    found = measure(grey([0] * 30 + [1] * 10), grey(real, real))
    modes, kl = found["modes-mnist-convnet"], found["kl-mnist-convnet"]
    assert (modes.value, modes.reference) == (2.0, 10.0)
    assert modes.details["counts"] == {str(one): count for one, count in enumerate([30, 10] + [0] * 8)}
    assert modes.details["real_shares"]["0"] == 0.2
    assert kl.value == pytest.approx(0.75 * math.log(0.75 / 0.2) + 0.25 * math.log(0.25 / 0.1), rel=1e-12)
    assert kl.details["to_uniform"] == pytest.approx(0.75 * math.log(7.5) + 0.25 * math.log(2.5), rel=1e-12)
    assert kl.details["real_to_uniform"] == pytest.approx(divergence(np.bincount(real)), rel=1e-12)
    assert (modes.better, kl.better) == ("higher", "lower")
    assert kl.protocol["samples"] == kl.protocol["real"] == 40
    assert kl.protocol["classifier"]["name"] == "mnist-convnet"


def test_the_figure_of_real_images_compares_some_taken_evenly_with_the_others() -> None:
    real = np.random.default_rng(0).integers(0, 10, 300)
    some = np.linspace(0, 299, 60).astype(int)
    p, q = np.bincount(real[some]) / 60, np.bincount(np.delete(real, some)) / 240
    found = measure(grey(np.arange(60) % 10), grey(real, real))["kl-mnist-convnet"]
    assert found.reference == pytest.approx((p * np.log(p / q)).sum(), rel=1e-12)
    assert found.protocol["real"] == 60


def test_images_asked_for_by_class_are_judged_by_it_beside_the_real_ones() -> None:
    real, labels = np.arange(100) % 10, np.arange(100) % 10
    labels[:5] = (labels[:5] + 1) % 10
    asked = np.arange(40) % 10
    seen = asked.copy()
    seen[:10] = 3
    found = measure(grey(seen, asked), grey(real, labels))["label-accuracy-mnist-convnet"]
    assert (found.value, found.reference) == (31 / 40, 0.95)
    assert found.error == pytest.approx(math.sqrt(31 / 40 * 9 / 40 / 40), rel=1e-12)
    assert "label-accuracy-mnist-convnet" not in measure(grey(seen), grey(real, labels))


def test_as_many_samples_are_looked_at_as_are_asked_for_evenly_over_all() -> None:
    real = np.arange(100) % 10
    found = measure(grey(np.repeat(np.arange(10), 10)), grey(real, real), samples=20)["modes-mnist-convnet"]
    assert found.value == 10.0
    assert list(found.details["counts"].values()) == [2] * 10


# ------------------------------------------------------------------------------------------------ triples as modes


def test_triples_are_told_by_their_classes() -> None:
    numbers = np.arange(1000)
    assert is_stacked(triples(numbers, numbers))
    assert is_stacked(ArrayImages(np.zeros((1000, 2, 2, 3), dtype=np.uint8), numbers))  # numbers for names
    assert not is_stacked(triples(numbers))
    assert not is_stacked(ArrayImages(np.zeros((3, 2, 2, 3), dtype=np.uint8), [0, 1, 2]))
    assert not is_stacked(ArrayImages(np.zeros((1000, 2, 2, 1), dtype=np.uint8), numbers))


def test_the_digits_of_each_colour_make_the_mode_of_a_triple() -> None:
    real = np.arange(1000)
    generated = np.repeat(np.arange(250) * 4, 4)  # a quarter of all, evenly
    found = measure(triples(generated), triples(real, real))
    modes, kl = found["modes-mnist-convnet"], found["kl-mnist-convnet"]
    assert (modes.value, modes.reference) == (250.0, 1000.0)
    assert kl.value == pytest.approx(math.log(4), rel=1e-12)
    assert kl.reference == pytest.approx(0.0, abs=1e-12)
    assert kl.details["from_counting"] == counting_bias(1000, 1000)
    assert modes.details["missing"][:4] == ["001", "002", "003", "005"]
    assert modes.details["most_frequent"]["000"] == 4
    assert modes.details["digits"]["red"] == [100] * 10
    assert modes.details["digits"]["blue"] == [200, 0] * 5
    assert kl.protocol["target"] == "uniform over 1,000 triples"
    assert kl.protocol["samples"] == kl.protocol["real"] == 1000


def test_of_more_than_26_000_triples_the_protocol_takes_26_000(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Levels, "batch_size", 2000)
    rng = np.random.default_rng(0)
    real = rng.integers(0, 1000, 27_000)
    found = measure(triples(rng.integers(0, 1000, 26_500)), triples(real, real))["kl-mnist-convnet"]
    assert found.protocol["samples"] == found.protocol["real"] == 26_000
    assert found.value == pytest.approx(counting_bias(1000, 26_000), rel=0.15)
    assert found.reference == pytest.approx(counting_bias(1000, 26_000), rel=0.15)


def test_triples_asked_for_are_judged_whole() -> None:
    real = np.arange(1000)
    seen = real.copy()
    seen[:100] = (seen[:100] + 1) % 1000  # another blue digit
    found = measure(triples(seen, real), triples(real, real))["label-accuracy-mnist-convnet"]
    assert (found.value, found.reference) == (0.9, 1.0)


@pytest.mark.slow
def test_real_triples_have_the_figures_that_are_published_of_them(
    test_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(registry.feature_extractors._registered, "mnist-convnet")
    with open_pack(f"stackedmnist:{test_data / 'mnist'}", DataRequest(28, 3)) as pack:
        some, all_of_them = PackImages(pack, np.arange(1, 52_000, 2)), PackImages(pack)
        found = measure(some, all_of_them)
    modes, kl = found["modes-mnist-convnet"], found["kl-mnist-convnet"]
    assert modes.value == modes.reference == 1000.0
    # 0.0192 from counting, 0.0043 from MNIST's classes, which are not equally frequent.
    assert kl.value == pytest.approx(0.0235, abs=0.0015)
    assert kl.reference == pytest.approx(0.0235, abs=0.0015)
    assert found["label-accuracy-mnist-convnet"].value > 0.98


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("generated", "reference", "message"),
    [
        (grey(np.arange(20) % 10), None, "beside those of real images"),
        (grey(np.arange(20) % 10), grey(np.arange(20) % 10), "have no labels"),
        (grey(np.arange(20) % 10), grey(np.arange(20) % 10, (np.arange(20) + 5) % 10), "sees the class of 0% of"),
        (grey(np.arange(9)), grey(np.arange(20) % 10, np.arange(20) % 10), "9 samples are too few"),
        (grey(np.arange(20) % 10), grey(np.arange(10), np.arange(10)), "10 real images are too few"),
        (triples(np.arange(20)), grey(np.arange(20) % 10, np.arange(20) % 10), "coloured and the real images grey"),
        (triples(np.arange(999)), triples(np.arange(1000), np.arange(1000)), "999 samples are too few"),
        (triples(np.arange(1500) % 1000), triples(np.arange(1200) % 1000, np.arange(1200) % 1000), "there are 1,200"),
        (triples(np.arange(1000)), triples(np.arange(1000), 999 - np.arange(1000)), "sees the class of 0% of"),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(generated: Any, reference: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        measure(generated, reference)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_features_that_name_no_classes_count_no_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nameless(Levels):
        name, num_classes = "nameless", 0

    monkeypatch.setitem(registry.feature_extractors._registered, "nameless", Nameless)
    real = np.arange(20) % 10
    with pytest.raises(UsageError, match="nameless name 0 classes"):
        measure(grey(real), grey(real, real), classifier="nameless")
    with pytest.raises(UsageError, match="samples"):
        Modes(samples=0)
