"""What is done to images before a network sees them, against Pillow, torch-fidelity and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ganzoo.errors import UsageError
from ganzoo.features.contract import InputSpec
from ganzoo.features.inception import Inception
from ganzoo.features.resizing import prepare, resize_like_tensorflow1, with_channels
from ganzoo.features.training import _normalised

_AS_TRAINED = InputSpec(image_size=28, channels=1, resize="bilinear", low=-1.0, high=1.0)


def _images(size: int, channels: int, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.randint(0, 256, (count, size, size, channels), dtype=torch.uint8, generator=generator)


def test_images_of_the_right_size_are_scaled_as_in_training_to_the_bit() -> None:
    every = torch.arange(256, dtype=torch.uint8).repeat(4)[: 28 * 28].view(1, 28, 28, 1)
    assert torch.equal(prepare(every, _AS_TRAINED), _normalised(every))
    assert prepare(every, _AS_TRAINED).min() == -1.0
    assert prepare(every, _AS_TRAINED).max() == 1.0


def test_luma_is_pillows_for_every_corner_and_a_thousand_colours() -> None:
    colours = torch.cat([_images(32, 3)[0].flatten(0, 1), torch.tensor([[0, 0, 0], [255, 255, 255], [255, 0, 0]])])
    colours = colours.to(torch.uint8)[None, None]  # (1, 1, n, 3)
    pillow = np.asarray(Image.fromarray(colours[0].numpy()).convert("L"))
    assert np.array_equal(with_channels(colours, 1)[0, :, :, 0].numpy(), pillow)


def test_grey_is_repeated_and_what_has_the_right_channels_is_left_alone() -> None:
    grey, colour = _images(5, 1), _images(5, 3)
    assert torch.equal(with_channels(grey, 3), torch.cat([grey] * 3, dim=3))
    assert with_channels(colour, 3) is colour
    assert with_channels(grey, 0) is grey
    assert with_channels(colour, 0) is colour


@pytest.mark.parametrize("size", [17, 28, 64, 100])
def test_bilinear_is_pillows_antialiased_filter_but_for_its_rounding(size: int) -> None:
    images = _images(size, 3)
    spec = InputSpec(image_size=28, channels=3, resize="bilinear", low=0.0, high=255.0)
    ours = prepare(images, spec).permute(0, 2, 3, 1)
    for one, given in zip(ours, images, strict=True):
        pillow = np.asarray(Image.fromarray(given.numpy()).resize((28, 28), Image.Resampling.BILINEAR))
        # Pillow rounds to bytes twice, once after each direction.
        assert (one - torch.from_numpy(pillow.copy()).float()).abs().max() <= 1.01


def test_a_shrunk_checkerboard_becomes_grey_with_bilinear_and_not_with_tensorflows() -> None:
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255).to(torch.uint8).view(1, 64, 64, 1)
    smooth = InputSpec(image_size=16, channels=1, resize="bilinear", low=0.0, high=255.0)
    coarse = InputSpec(image_size=16, channels=1, resize="tf1_bilinear", low=0.0, high=255.0)
    assert (prepare(board, smooth)[..., 2:-2, 2:-2] - 127.5).abs().max() < 1e-3
    assert prepare(board, coarse).abs().max() == 0.0  # every fourth pixel, at (0, 0), (0, 4) …


def test_tensorflows_resize_reads_at_i_old_over_new() -> None:
    row = torch.tensor([0.0, 10.0, 20.0, 40.0]).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    resized = resize_like_tensorflow1(row, 8)[0, 0, 0]
    assert resized.tolist() == [0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 40.0]


@pytest.mark.parametrize("size", [28, 32, 64, 299, 300])
def test_tensorflows_resize_is_torch_fidelitys_to_the_bit(size: int) -> None:
    library = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    images = _images(size, 3, count=1)
    pixels = images.permute(0, 3, 1, 2).float()
    theirs = library.interpolate_bilinear_2d_like_tensorflow1x(pixels, size=(299, 299), align_corners=False)
    assert torch.equal(resize_like_tensorflow1(pixels, 299), theirs)
    assert torch.equal(prepare(images, Inception.spec), (theirs - 128) / 128)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.zeros(1, 4, 4, 1), "images of bytes .uint8., not of float32"),
        (torch.full((1, 4, 4, 3), float("nan")), "not of float32"),
        (torch.zeros(4, 4, 1, dtype=torch.uint8), "not of .4, 4, 1."),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "1 or 3., not of .1, 3, 4, 4."),
        (torch.zeros(2, 0, 4, 1, dtype=torch.uint8), "not of .2, 0, 4, 1."),
        (np.zeros((1, 4, 4, 1), dtype=np.uint8), "not of a ndarray"),
    ],
)
def test_what_are_no_images_of_bytes_is_refused_in_one_line(given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        prepare(given, _AS_TRAINED)
