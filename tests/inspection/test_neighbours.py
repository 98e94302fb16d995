"""Nearest training images: what is found in pixels and in features, and the picture of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

from ganzoo.errors import UnknownNameError, UsageError
from ganzoo.evaluation.image_sets import ArrayImages
from ganzoo.features.contract import Extracted, FeatureExtractor, InputSpec
from ganzoo.inspection.neighbours import NeighbourRows, PixelRows, find_neighbours, picture

Pixels = npt.NDArray[np.uint8]


def noise(count: int, size: int = 6, channels: int = 1, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


class Brightness(FeatureExtractor):
    """The mean of each image, and nothing else."""

    name, sha256, dimension, batch_size = "brightness", "0" * 64, 1, 4
    spec = InputSpec(0, 0, "none", 0.0, 255.0)

    def extract(self, images: torch.Tensor) -> Extracted:
        return Extracted(images.float().mean(dim=(1, 2, 3))[:, None])


@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_neighbours_are_those_of_an_independent_search(channels: int) -> None:
    training, images = noise(40, channels=channels), noise(5, channels=channels, seed=1)
    images[2] = training[17]
    rows = find_neighbours(ArrayImages(images), ArrayImages(training), k=3)
    apart = (images[:, None].astype(np.float64) - training[None]).reshape(5, 40, -1) / 255
    distances = np.sqrt((apart**2).sum(axis=2))
    order = np.argsort(distances, axis=1)[:, :3]
    assert rows.space == "pixels"
    assert np.array_equal(rows.queries, images)
    assert np.array_equal(rows.indices, order)
    assert rows.distances == pytest.approx(np.take_along_axis(distances, order, axis=1), rel=1e-5)
    assert np.array_equal(rows.neighbours, training[order])
    assert (rows.indices[2, 0], rows.distances[2, 0]) == (17, 0.0)


def test_feature_neighbours_are_near_in_features(tmp_path: Path) -> None:
    training, images = noise(30), noise(3, seed=1)
    rows = find_neighbours(
        ArrayImages(images), ArrayImages(training), space=Brightness(), k=4, cache_dir=tmp_path / "features"
    )
    apart = np.abs(images.mean(axis=(1, 2, 3))[:, None] - training.mean(axis=(1, 2, 3)))
    assert rows.space == "brightness"
    assert np.take_along_axis(apart, rows.indices, axis=1) == pytest.approx(rows.distances, abs=1e-3)
    assert rows.distances == pytest.approx(np.sort(apart, axis=1)[:, :4], abs=1e-3)
    assert any((tmp_path / "features").iterdir())  # kept for the next time


def test_of_many_images_some_are_shown_evenly() -> None:
    images = noise(10)
    rows = find_neighbours(ArrayImages(images), ArrayImages(noise(20, seed=1)), k=1, count=4)
    assert np.array_equal(rows.queries, images[[0, 2, 5, 7]])
    assert len(find_neighbours(ArrayImages(images), ArrayImages(noise(20, seed=1)), k=1, count=99).queries) == 10


def test_large_images_are_compared_at_64_pixels() -> None:
    images = ArrayImages(noise(2, 128, 3))
    rows = PixelRows(images, 64)
    assert rows.shape == (2, 64 * 64 * 3)
    small = functional.interpolate(images.read(0, 2).permute(0, 3, 1, 2).float(), (64, 64), mode="area") / 255
    assert rows.read(0, 2).mean() == pytest.approx(float(small.mean()), abs=1e-3)
    training = ArrayImages(noise(5, 128, 3, seed=1))
    found = find_neighbours(images, training, k=2)
    apart = np.linalg.norm(rows.read(0, 2)[:, None] - PixelRows(training, 64).read(0, 5), axis=2)
    assert found.distances == pytest.approx(np.sort(apart, axis=1)[:, :2], rel=1e-5)
    assert found.neighbours.shape == (2, 2, 128, 128, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_picture_shows_each_image_then_a_gap_then_its_neighbours(channels: int) -> None:
    queries, neighbours = noise(2, 6, channels), noise(6, 6, channels, seed=1).reshape(2, 3, 6, 6, channels)
    rows = NeighbourRows(queries, neighbours, np.zeros((2, 3), np.int64), np.zeros((2, 3), np.float32), "pixels")
    drawn = picture(rows)
    scale, step = 8, 6 * 8 + 2  # the largest scale, and two pixels of white between images
    left = 2 + step + 6 * scale // 2 + 2  # where the neighbours begin: a query, and a gap of half of one
    assert drawn.dtype == np.uint8
    assert drawn.shape == (2 + 2 * step, left + 3 * step, channels)

    def tile(row: int, at: int) -> Pixels:
        top = 2 + row * step
        return drawn[top : top + 6 * scale : scale, at : at + 6 * scale : scale]

    for row in range(2):
        assert np.array_equal(tile(row, 2), queries[row])
        for place in range(3):
            assert np.array_equal(tile(row, left + place * step), neighbours[row, place])
    assert (drawn[:, 2 + 6 * scale : left] == 255).all()


def test_several_spaces_stand_beside_each_other() -> None:
    training, images = ArrayImages(noise(20)), ArrayImages(noise(2, seed=1))
    one = find_neighbours(images, training, k=2)
    other = NeighbourRows(one.queries, one.neighbours[:, ::-1], one.indices, one.distances, "else")
    drawn, alone = picture(one, other), picture(one)
    assert drawn.shape[1] > alone.shape[1]
    assert drawn.shape[0] == alone.shape[0]
    assert np.array_equal(drawn[:, : alone.shape[1]], alone)
    with pytest.raises(ValueError, match="same images"):
        picture(one, find_neighbours(training, images, k=1))
    with pytest.raises(ValueError, match="same images"):
        picture()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"k": 0}, "`k` \\(=0\\)"), ({"k": 20}, "less than the 20 training images"), ({"count": 0}, "`count` \\(=0\\)")],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_neighbours(ArrayImages(noise(3)), ArrayImages(noise(20)), **arguments)


def test_images_of_another_form_and_unknown_features_are_refused() -> None:
    with pytest.raises(UsageError, match="6×6×1 and the training images 6×6×3"):
        find_neighbours(ArrayImages(noise(3)), ArrayImages(noise(20, channels=3)))
    with pytest.raises(UnknownNameError, match="'nothing-such'"):
        find_neighbours(ArrayImages(noise(3)), ArrayImages(noise(20)), space="nothing-such")
