"""MS-SSIM: torchmetrics' numbers, closed forms, and pairs that are what they should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

from ganzoo import registry
from ganzoo.errors import UsageError
from ganzoo.evaluation.contract import Side, Subject, Value
from ganzoo.evaluation.image_sets import ArrayImages, ChosenImages
from ganzoo.evaluation.metrics.structural import Scales, ms_ssim, random_pairs, similarities
from ganzoo.evaluation.tables import FeatureTable

Pixels = npt.NDArray[np.uint8]


def smooth(count: int, size: int, channels: int, seed: int = 0) -> torch.Tensor:
    """Smooth random images: (count, channels, size, size) in [0, 255]."""
    coarse = torch.rand(count, channels, max(2, size // 5), max(2, size // 5), generator=torch.manual_seed(seed))
    return 255 * functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)


def as_images(images: torch.Tensor) -> ArrayImages:
    return ArrayImages(images.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous())


def measure(generated: Any, reference: Any = None, *, seed: int = 0, **arguments: int) -> Value:
    sides = [
        None if images is None else Side(images, FeatureTable.of(np.zeros((images.count, 0))))
        for images in (generated, reference)
    ]
    assert sides[0] is not None
    (value,) = registry.metrics.get("ms_ssim")(**arguments).measure(Subject(sides[0], sides[1], seed=seed))
    assert isinstance(value, Value)
    return value


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (28, 1), (32, 3), (64, 3), (112, 1), (176, 1), (201, 1)])
def test_it_is_torchmetrics_number(size: int, channels: int) -> None:
    theirs = pytest.importorskip("torchmetrics.functional.image")
    scales = Scales.of(size)
    one = smooth(4, size, channels)
    other = torch.stack([0.8 * one[0] + 0.2 * one[1], 255 - one[1], one[2].roll(2, 1), one[0]])
    wanted = [
        theirs.multiscale_structural_similarity_index_measure(
            one[i : i + 1],
            other[i : i + 1],
            sigma=scales.sigma,
            kernel_size=scales.window,
            data_range=255.0,
            betas=scales.weights,
        ).item()
        for i in range(4)
    ]
    found = ms_ssim(one, other)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-6)
    assert 0.5 < found[0] < 1.0


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 28, 29, 64])
def test_equal_images_are_at_one_and_no_pair_above_it(size: int) -> None:
    one, other = smooth(5, size, 3), smooth(5, size, 3, seed=1)
    np.testing.assert_allclose(ms_ssim(one, one), 1.0, rtol=1e-5)
    assert (ms_ssim(one, other) < 1.0).all()
    assert (ms_ssim(one, other) >= 0.0).all()
    np.testing.assert_allclose(ms_ssim(one, other), ms_ssim(other, one), rtol=1e-5, atol=1e-6)


def test_two_plain_images_differ_by_luminance_alone() -> None:
    dark, light = torch.full((1, 3, 64, 64), 50.0), torch.full((1, 3, 64, 64), 150.0)
    constant = (0.01 * 255) ** 2
    luminance = (2 * 50 * 150 + constant) / (50**2 + 150**2 + constant)
    weight = Scales.of(64).weights[-1]
    assert ms_ssim(dark, light).item() == pytest.approx(luminance**weight, rel=1e-4)


def test_an_image_and_its_negative_are_at_zero() -> None:
    one = smooth(3, 32, 1)
    assert ms_ssim(one, 255 - one).tolist() == [0.0] * 3


@pytest.mark.parametrize(
    ("size", "count", "window"),
    [
        (1, 1, 1),
        (4, 1, 3),
        (6, 1, 5),
        (8, 1, 7),
        (27, 1, 7),
        (28, 2, 7),
        (32, 2, 7),
        (55, 2, 7),
        (56, 3, 7),
        (64, 3, 7),
        (112, 4, 7),
        (128, 4, 7),
        (175, 4, 7),
        (176, 5, 11),
        (1024, 5, 11),
    ],
)
def test_scales_and_window_follow_the_image_size(size: int, count: int, window: int) -> None:
    scales = Scales.of(size)
    assert (scales.count, scales.window) == (count, window)
    assert sum(scales.weights) == pytest.approx(1.0)
    assert size >> (count - 1) >= window


@pytest.mark.parametrize("count", [2, 5, 1000])
def test_pairs_are_of_different_images_and_the_seed_chooses_them(count: int) -> None:
    pairs = random_pairs(count, 300, seed=1)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert pairs.min() >= 0
    assert pairs.max() < count
    assert len(pairs) == min(300, count * (count - 1) // 2)
    np.testing.assert_array_equal(pairs, random_pairs(count, 300, seed=1))
    if count == 1000:
        assert (pairs != random_pairs(count, 300, seed=2)).any()
    else:
        assert len({frozenset(pair) for pair in pairs.tolist()}) == len(pairs)


def test_all_pairs_are_equally_likely() -> None:
    pairs = random_pairs(60, 1700, seed=0)  # of 1770
    counted = np.zeros((60, 60))
    for number in range(200):
        np.add.at(counted, tuple(random_pairs(60, 1700, seed=number).T), 1)
    off_diagonal = counted[~np.eye(60, dtype=bool)]
    mean = 200 * 1700 / (60 * 59)
    assert len(pairs) == 1700
    assert ((off_diagonal - mean) ** 2 / mean).sum() == pytest.approx(60 * 59, rel=0.1)


def test_similarities_do_not_depend_on_how_many_pairs_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images = as_images(smooth(12, 28, 1))
    pairs = random_pairs(12, 50, seed=0)
    wanted = similarities(images, pairs)
    monkeypatch.setattr("ganzoo.evaluation.metrics.structural._PIXELS", 28 * 28 * 7)
    np.testing.assert_allclose(similarities(images, pairs), wanted, atol=1e-6)


def test_the_figure_of_the_real_images_stands_beside_it_and_collapse_lies_above() -> None:
    varied, real = smooth(60, 28, 1), smooth(60, 28, 1, seed=1)
    alike = 0.7 * smooth(1, 28, 1, seed=2) + 0.3 * varied
    good = measure(as_images(varied), as_images(real), pairs=400)
    bad = measure(as_images(alike), as_images(real), pairs=400)
    assert good.reference == bad.reference
    assert good.reference is not None
    assert good.error is not None
    assert abs(good.value - good.reference) < 6 * good.error
    assert bad.value > 2 * good.reference
    assert good.better == "reference"
    assert good.name == "ms-ssim"
    assert (good.protocol["pairs"], good.protocol["scales"], good.protocol["window"]) == (400, 2, 7)
    assert measure(as_images(varied), pairs=400).reference is None


def test_classes_are_measured_on_their_own_images() -> None:
    images = as_images(smooth(20, 28, 1))
    chosen = np.arange(5, 15)
    alone = measure(ArrayImages(images.gather(chosen)), pairs=30)
    assert measure(ChosenImages(images, chosen, "some"), pairs=30) == alone
    assert registry.metrics.get("ms_ssim").by_class


def test_one_image_no_pairs_and_real_images_of_another_size_are_refused() -> None:
    one, some = as_images(smooth(1, 28, 1)), as_images(smooth(5, 28, 1))
    with pytest.raises(UsageError, match="1 generated images are too few"):
        measure(one, some)
    with pytest.raises(UsageError, match="1 real images are too few"):
        measure(some, one)
    with pytest.raises(UsageError, match="0 pairs"):
        measure(some, pairs=0)
    with pytest.raises(UsageError, match="28×28×1 images cannot be set beside that of 32×32×3"):
        measure(some, as_images(smooth(5, 32, 3)))
