"""Stacked digits: three of MNIST's as the colours of one image, a thousand classes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from image_files import noise

from ganzoo.data import DataRequest, open_pack, open_source
from ganzoo.errors import DataError, MissingDataError, UsageError


def idx(array: npt.NDArray[Any]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_digits(folder: Path, *, train: int = 20, test: int = 10) -> Path:
    """Write digits of which each pixel tells which one it is: the label in tens, the file's number in units."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, count) in enumerate((("train", train), ("t10k", test))):
        if count:
            labels = np.arange(count) % 10
            images = np.broadcast_to((labels * 10 + number)[:, None, None], (count, 28, 28))
            (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
            (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


def test_a_label_tells_the_digits_in_red_green_and_blue(tmp_path: Path) -> None:
    with open_source(f"stackedmnist:{write_digits(tmp_path / 'digits')},count=500") as source:
        assert (len(source), len(source.classes), source.classes[7]) == (500, 1000, "007")
        assert source.labels is not None
        files = set()
        for number in range(500):
            sample = source.read(number)
            pixels = np.asarray(sample.image)
            assert pixels.shape == (28, 28, 3)
            assert (pixels == pixels[0, 0]).all()
            red, green, blue = (pixels[0, 0] // 10).tolist()
            assert sample.label == source.labels[number] == 100 * red + 10 * green + blue
            files |= set((pixels[0, 0] % 10).tolist())
        assert files == {0, 1}  # training and test images


def test_digits_are_chosen_evenly_and_independently(tmp_path: Path) -> None:
    source = open_source(f"stackedmnist:{write_digits(tmp_path / 'digits')},count=20_000")
    assert source.labels is not None
    digits = np.stack([source.labels // 100, source.labels // 10 % 10, source.labels % 10])
    for channel in digits:
        assert np.bincount(channel) / 20_000 == pytest.approx([0.1] * 10, abs=0.01)
    assert np.abs(np.corrcoef(digits) - np.eye(3)).max() < 0.03
    assert len(np.unique(source.labels)) == 1000


def test_an_image_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits")
    few, many, other = (
        open_source(f"stackedmnist:{folder},{options}") for options in ("count=9", "count=900", "count=900,seed=1")
    )
    assert few.labels is not None
    assert many.labels is not None
    assert other.labels is not None
    assert np.array_equal(many.labels[:9], few.labels)
    assert not np.array_equal(other.labels[:9], few.labels)
    assert np.array_equal(np.asarray(few.read(8).image), np.asarray(many.read(8).image))
    assert len({one.fingerprint() for one in (few, many, other)}) == 3


def test_it_is_packed_with_a_thousand_classes(tmp_path: Path) -> None:
    with open_pack(f"stackedmnist:{write_digits(tmp_path / 'digits')},count=64", DataRequest(28, labels=True)) as pack:
        assert pack.shape == (64, 28, 28, 3)
        assert len(pack.classes) == 1000
        assert pack.labels is not None
        assert (pack.gather(np.array([5])).numpy()[0, 0, 0] // 10 @ [100, 10, 1]) == pack.labels[5]


def test_the_files_at_a_path_are_used_as_far_as_there(tmp_path: Path) -> None:
    both = write_digits(tmp_path / "both")
    training = write_digits(tmp_path / "training", test=0)
    odd = write_digits(tmp_path / "a=b, c")
    assert open_source(f"stackedmnist:{both}").description == "stacks of three of 30 digits"
    assert len(open_source(f"stackedmnist:{both}")) == 128_000
    assert open_source(f"stackedmnist:{training}").description == "stacks of three of 20 digits"
    file = both / "t10k-images-idx3-ubyte"
    assert open_source(f"stackedmnist:{file}").description == "stacks of three of 10 digits"
    assert open_source(f"stackedmnist:{odd},count=3").description == "stacks of three of 30 digits"


def test_without_a_path_mnist_is_found_where_data_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingDataError, match="MNIST is not on this machine"):
        open_source("stackedmnist")
    write_digits(tmp_path / "store" / "MNIST" / "raw")
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "store"))
    assert open_source("stackedmnist:count=7").description == "stacks of three of 30 digits"
    (tmp_path / "store" / "MNIST" / "raw" / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(MissingDataError, match="t10k-images"):  # the protocol's 70,000 digits, or nothing
        open_source("stackedmnist")


@pytest.mark.parametrize(
    ("argument", "error", "match"),
    [
        ("cuont=5", UsageError, "no option 'cuont'"),
        ("count=many", UsageError, "'count' of 'stackedmnist' is 'many'"),
        ("/nowhere", DataError, "no idx files of images at '/nowhere'"),
        (".", DataError, "no idx files of images"),
    ],
)
def test_what_cannot_be_opened_is_told(argument: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        open_source(f"stackedmnist:{argument}")


def test_digits_without_labels_or_with_letters_are_refused(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "train-images-idx3-ubyte").write_bytes(idx(noise(4, 28, 28)))
    letters = write_digits(tmp_path / "letters")
    (letters / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(20)))
    for folder in (bare, letters):
        with pytest.raises(DataError, match="cannot be stacked"):
            open_source(f"stackedmnist:{folder}")


def test_mnist_is_fetched_with_its_test_images(monkeypatch: pytest.MonkeyPatch, test_data: Path) -> None:
    from ganzoo.data.sources import downloads

    monkeypatch.setenv("GANZOO_OFFLINE", "0")
    monkeypatch.setattr(downloads, "_MNIST_MIRRORS", (f"{(test_data / 'mnist').as_uri()}/",))
    source = open_source("stackedmnist")
    assert (len(source), source.description) == (128_000, "stacks of three of 70,000 digits")
    assert source.labels is not None
    counts = np.bincount(source.labels, minlength=1000)
    assert counts.min() > 60  # about 128 of each: ones are more, fives fewer
    assert counts.max() < 230
