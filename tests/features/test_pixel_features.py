"""Pixels as features."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from ganzoo.errors import UsageError
from ganzoo.features import Pixels, open_extractor


def test_images_of_32_by_32_in_colours_are_their_bytes_over_255_in_their_order() -> None:
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    made = open_extractor("pixels").extract(images)
    assert made.logits is None
    assert torch.equal(made.features, images.flatten(1).float() / 255.0)
    assert made.features[0, 3 * 32 * 5 + 3 * 7 + 1] == images[0, 5, 7, 1] / 255.0


def test_other_sizes_and_grey_images_come_to_the_same_length() -> None:
    extractor = open_extractor("pixels")
    for size, channels in ((28, 1), (64, 3), (1, 1)):
        flat = torch.full((2, size, size, channels), 51, dtype=torch.uint8)
        assert torch.allclose(extractor.extract(flat).features, torch.full((2, 3072), 0.2), atol=1e-6)
    assert extractor.dimension == 3072


def test_a_size_and_channels_of_ones_own_keep_grey_images_as_they_are() -> None:
    images = torch.randint(0, 256, (2, 28, 28, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    extractor = Pixels(image_size=28, channels=1)
    assert torch.equal(extractor.extract(images).features, images.flatten(1).float() / 255.0)
    assert extractor.to_dict()["input"]["image_size"] == 28


def test_there_are_no_weights_and_the_sha256_says_so() -> None:
    assert Pixels.sha256 == hashlib.sha256(b"").hexdigest()
    with pytest.raises(UsageError, match="bring their own weights"):
        open_extractor("pixels", weights=Path("some.pth"))


@pytest.mark.parametrize(("size", "channels"), [(0, 3), (65, 3), (32, 2)])
def test_sizes_beyond_the_limits_are_refused(size: int, channels: int) -> None:
    with pytest.raises(UsageError, match="at most 64×64"):
        Pixels(image_size=size, channels=channels)  # type: ignore[arg-type]
