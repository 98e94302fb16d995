"""Generated images: still a tensor, and pictures and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ganzoo.errors import UsageError
from ganzoo.images import Images
from ganzoo.pictures import grid, to_uint8


def images(count: int = 5, channels: int = 3, labels: bool = False) -> Images:
    drawn = np.random.default_rng(0).uniform(-1, 1, (count, channels, 8, 8)).astype(np.float32)
    seeds = np.arange(count, dtype=np.uint64) + 40
    return Images.of(drawn, seeds, np.arange(count) % 3 if labels else None)


def test_they_are_a_tensor_and_what_is_selected_is_images_too() -> None:
    drawn = images()
    assert isinstance(drawn, torch.Tensor)
    assert (drawn.dtype, drawn.device.type) == (torch.float32, "cpu")
    assert torch.equal(drawn[1:3] + 0.0, torch.as_tensor(drawn.numpy()[1:3]))
    assert [picture.size for picture in drawn[1:3].to_pil()] == [(8, 8)] * 2
    assert drawn.seeds is not None
    assert drawn.seeds.tolist() == [40, 41, 42, 43, 44]
    assert drawn[1:3].seeds is None  # they were the seeds of all


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_pictures_are_the_pixels(channels: int, mode: str) -> None:
    drawn = images(channels=channels)
    pictures = drawn.to_pil()
    assert [picture.mode for picture in pictures] == [mode] * 5
    for picture, pixels in zip(pictures, to_uint8(drawn), strict=True):
        assert np.array_equal(np.asarray(picture).reshape(8, 8, channels), pixels)
    (single,) = drawn[3].to_pil()
    assert single == pictures[3]


def test_a_png_is_the_grid(tmp_path: Path) -> None:
    drawn = images()
    drawn.save(tmp_path / "new" / "grid.png", columns=2)
    with Image.open(tmp_path / "new" / "grid.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(grid(to_uint8(drawn), columns=2)))
    drawn[0].save(tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(grid(to_uint8(drawn)[:1])))


@pytest.mark.parametrize("labels", [False, True])
def test_files_tell_seeds_and_labels_where_they_are_known(labels: bool, tmp_path: Path) -> None:
    drawn = images(labels=labels)
    drawn.save(tmp_path / "folder/")
    drawn[:2].save(tmp_path / "unknown")
    suffix = ["_label0", "_label1", "_label2", "_label0", "_label1"] if labels else [""] * 5
    names = sorted(path.name for path in (tmp_path / "folder").iterdir())
    assert names == [f"seed000000{40 + index}{suffix[index]}.png" for index in range(5)]
    assert sorted(path.name for path in (tmp_path / "unknown").iterdir()) == [
        "image00000000.png",
        "image00000001.png",
    ]
    drawn.save(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as arrays:
        assert sorted(arrays) == (["images", "labels", "seeds"] if labels else ["images", "seeds"])
        assert arrays["seeds"].tolist() == [40, 41, 42, 43, 44]
        assert np.array_equal(arrays["images"], to_uint8(drawn))
    (drawn * 0.5).save(tmp_path / "changed.npz")  # type: ignore[attr-defined]
    with np.load(tmp_path / "changed.npz") as arrays:
        assert list(arrays) == ["images"]


@pytest.mark.parametrize(
    ("made_of", "message"),
    [
        (lambda drawn: drawn.mean(), r"A tensor of shape \(\) and type torch.float32 are no images"),
        (lambda drawn: drawn[:, :2], r"of shape \(5, 2, 8, 8\)"),
        (lambda drawn: drawn > 0, "torch.bool are no images"),
        (lambda drawn: drawn[:, :, :0], "are no images"),
        (lambda drawn: drawn[:0], "There is no image to save"),
        (lambda drawn: drawn / 0 * 0, "The images hold NaN"),
    ],
)
def test_what_are_no_images_are_refused_and_leave_no_file(made_of: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        made_of(images()).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="Images cannot be written to"):
        images().save(tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []
