"""Frequency bands, noise and cutouts against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from augmented_images import always, even_numbers, only, random_images, random_numbers
from scipy import stats

from ganzoo.augmentation.corruption import amplify_bands, balanced_gains, cut_square
from ganzoo.augmentation.wavelets import BANDS, band_filters
from ganzoo.randomness import normals, words

CPU = torch.device("cpu")


def test_the_bands_are_octaves_that_add_up_to_the_image() -> None:
    size = 257  # of a cosine with a whole number of half periods: an eigenvector of every filter
    bands = band_filters(size, torch.float64, CPU).numpy()
    np.testing.assert_allclose(bands.sum(axis=0), np.eye(size), atol=1e-11)
    place = np.arange(size)
    for band, (low, high) in enumerate([(0.0, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2), (1 / 2, 1.0)]):
        wave = np.cos(np.pi * round((low + high) / 2 * (size - 1)) / (size - 1) * place)
        gains = [float(matrix @ wave @ wave / (wave @ wave)) for matrix in bands]
        assert int(np.argmax(gains)) == band
        assert gains[band] > 0.6
        for matrix, gain in zip(bands, gains, strict=True):
            np.testing.assert_allclose(matrix @ wave, gain * wave, atol=1e-10)
            assert gain > -1e-10


def test_amplifying_all_bands_alike_multiplies_the_image_twice() -> None:
    images = random_images(2, 3, 6, 9)
    gains = torch.tensor([[1.0] * BANDS, [3.0] * BANDS], dtype=torch.float64)
    amplified = amplify_bands(images, gains)
    assert torch.allclose(amplified, images * torch.tensor([1.0, 9.0])[:, None, None, None], atol=1e-10)


def test_the_expected_power_is_kept() -> None:
    power = torch.tensor([10.0, 1.0, 1.0, 1.0], dtype=torch.float64) / 13
    amplitudes = torch.exp2(random_images(50, 1, 1, BANDS)[:, 0, 0] * 3.0)
    for band in range(BANDS):
        alone = torch.ones_like(amplitudes)
        alone[:, band] = amplitudes[:, band]
        gains = balanced_gains(alone)
        assert torch.allclose((power * gains.square()).sum(dim=1), torch.ones(50, dtype=torch.float64))
        others = [other for other in range(BANDS) if other != band]
        assert torch.allclose(gains[:, band] / gains[:, others[0]], amplitudes[:, band])
    product = torch.ones_like(amplitudes)
    for band in range(BANDS):
        alone = torch.ones_like(amplitudes)
        alone[:, band] = amplitudes[:, band]
        product = product * balanced_gains(alone)
    assert torch.allclose(balanced_gains(amplitudes), product)


def test_noise_is_philoxs_normal_numbers_for_the_key_times_a_half_normal_deviation() -> None:
    ada, images = only("noise"), random_images(5, 3, 5)
    numbers = random_numbers(5, 4)
    changed = ada(images, numbers, always())
    for image, (_, level, low, high), seen in zip(images.numpy(), numbers.numpy(), changed.numpy(), strict=True):
        key = int(low * 2**24) + (int(high * 2**24) << 32)
        drawn = normals(words(key, 0, np.array([0]), 76))[0, :75].reshape(3, 5, 5)
        np.testing.assert_allclose(seen, image + 0.1 * abs(stats.norm.ppf(level)) * drawn, atol=1e-12)


def test_noise_differs_from_image_to_image_and_is_standard_normal() -> None:
    ada = only("noise")
    numbers = even_numbers(64, 4)
    numbers[:, 1] = stats.norm.cdf(10.0 * 0.1)  # a deviation of 0.1
    noise = ada(torch.zeros(64, 3, 16, 16, dtype=torch.float64), numbers, always()).flatten(1) * 10.0
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 0.01
    assert float(torch.corrcoef(noise).fill_diagonal_(0.0).abs().max()) < 0.2


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 9)])
def test_a_cutout_takes_the_pixels_whose_centre_lies_in_the_square(height: int, width: int) -> None:
    ada, images, numbers = only("cutout"), random_images(60, 3, height, width), random_numbers(60, 3)
    changed = ada(images, numbers, always())
    for image, (_, y, x), seen in zip(images.numpy(), numbers.numpy(), changed.numpy(), strict=True):
        wanted = image.copy()
        for row in range(height):
            for column in range(width):
                if abs((row + 0.5) / height - y) < 0.25 and abs((column + 0.5) / width - x) < 0.25:
                    wanted[:, row, column] = 0.0
        np.testing.assert_array_equal(seen, wanted)
    nothing = cut_square(images, numbers[:, 1:], torch.zeros(60))
    assert torch.equal(nothing, images)
