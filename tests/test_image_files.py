"""Files of generated images: what is in them, whole or absent, the same bytes each time."""

from __future__ import annotations

import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ganzoo.errors import UsageError
from ganzoo.image_files import MOST_GRID_PIXELS, check_grid, kind_of, open_writer

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
SEEDS = np.array([0, 7, 12, 7, 100], dtype=np.uint64)
LABELS = np.array([0, 1, 2, 1, 9], dtype=np.int64)


def write(path: Path | str, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64] | None = None) -> None:
    with open_writer(path, len(images)) as writer:
        for part in (slice(0, 2), slice(2, None)):
            writer.add(images[part], SEEDS[part], None if labels is None else labels[part])


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image).reshape(image.height, image.width, -1)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.png", "grid"),
        ("A.PNG", "grid"),
        ("a.npz", "npz"),
        ("a.zip", "zip"),
        ("a", "folder"),
        ("a.b/", "folder"),
        ("v1.zip/x", "folder"),
    ],
)
def test_the_suffix_says_what_is_written(path: str, kind: str) -> None:
    assert kind_of(path) == kind


def test_a_folder_that_exists_is_a_folder_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "v1.0").mkdir()
    assert kind_of(tmp_path / "v1.0") == "folder"


@pytest.mark.parametrize("path", ["a.jpg", "a.tar", "v1.0"])
def test_an_unknown_suffix_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="is not known"):
        kind_of(path)


@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
def test_a_folder_holds_each_image_under_its_seed(tmp_path: Path, images: npt.NDArray[np.uint8]) -> None:
    write(tmp_path / "new" / "out", images, LABELS)
    names = ["seed00000000_label0", "seed00000007_label1", "seed00000012_label2", "seed00000100_label9"]
    assert sorted(one.stem for one in (tmp_path / "new" / "out").iterdir()) == names
    assert np.array_equal(pixels(tmp_path / "new" / "out" / "seed00000012_label2.png"), images[2])


def test_without_classes_a_name_is_the_seed_alone(tmp_path: Path) -> None:
    write(f"{tmp_path}/out/", GREY)
    assert (tmp_path / "out" / "seed00000100.png").is_file()


@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("labels", [None, LABELS], ids=["unconditional", "conditional"])
def test_an_npz_holds_the_arrays(
    tmp_path: Path, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64] | None
) -> None:
    write(tmp_path / "images.npz", images, labels)
    with np.load(tmp_path / "images.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"images", "seeds"} | ({"labels"} if labels is not None else set())
        assert np.array_equal(arrays["images"], images)
        assert (arrays["images"].dtype, arrays["seeds"].dtype) == (np.uint8, np.int64)
        assert arrays["seeds"].tolist() == SEEDS.tolist()
        if labels is not None:
            assert arrays["labels"].tolist() == labels.tolist()


def test_seeds_beyond_int64_are_kept_as_they_are(tmp_path: Path) -> None:
    seeds = np.array([2**64 - 1], dtype=np.uint64)
    with open_writer(tmp_path / "images.npz", 1) as writer:
        writer.add(GREY[:1], seeds, None)
    with np.load(tmp_path / "images.npz") as arrays:
        assert arrays["seeds"].tolist() == [2**64 - 1]


@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
def test_a_zip_holds_pngs_stored_as_stylegan_has_them(tmp_path: Path, images: npt.NDArray[np.uint8]) -> None:
    write(tmp_path / "images.zip", images, LABELS)
    with zipfile.ZipFile(tmp_path / "images.zip") as archive:
        assert archive.testzip() is None
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        names = [f"00000/img{index:08d}.png" for index in range(5)]
        assert archive.namelist() == [*names, "dataset.json"]
        assert json.loads(archive.read("dataset.json")) == {
            "labels": [list(pair) for pair in zip(names, LABELS.tolist(), strict=True)]
        }
        with archive.open(names[3]) as file, Image.open(file) as image:
            assert image.mode == ("L" if images.shape[3] == 1 else "RGB")
            assert np.array_equal(np.asarray(image).reshape(8, 8, -1), images[3])


def test_a_zip_without_classes_has_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "images.zip", GREY)
    with zipfile.ZipFile(tmp_path / "images.zip") as archive:
        assert "dataset.json" not in archive.namelist()


@pytest.mark.parametrize("name", ["grid.png", "images.npz", "images.zip"])
def test_the_same_images_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder / name, COLOUR, LABELS)
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("name", ["grid.png", "images.npz", "images.zip"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interruption_leaves_what_was_there_before(tmp_path: Path, name: str, error: type[BaseException]) -> None:
    (tmp_path / name).write_bytes(b"before")

    def interrupted() -> None:
        with open_writer(tmp_path / name, len(GREY)) as writer:
            writer.add(GREY[:2], SEEDS[:2], LABELS[:2])
            raise error

    with pytest.raises(error):
        interrupted()
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"before"


def test_an_npz_of_another_length_than_announced_is_not_written(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="5 images were announced and 2 given"),
        open_writer(tmp_path / "a.npz", 5) as writer,
    ):
        writer.add(GREY[:2], SEEDS[:2], None)
    assert list(tmp_path.iterdir()) == []


def test_a_zip_is_written_in_constant_memory(tmp_path: Path) -> None:
    batch = RANDOM.integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)  # noise: its PNGs are as large as its pixels

    def peak(batches: int) -> int:
        tracemalloc.start()
        with open_writer(tmp_path / "images.zip", 64 * batches) as writer:
            for index in range(batches):
                writer.add(batch, np.arange(64 * index, 64 * index + 64, dtype=np.uint64), None)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)
    few, many = peak(2), peak(20)
    # Only the zip's table of contents grows, by some hundred bytes an image of 3 KiB.
    assert many - few < 18 * batch.nbytes / 4


def test_a_grid_that_nobody_could_look_at_is_refused() -> None:
    check_grid(64, 64)
    check_grid(MOST_GRID_PIXELS // 64**2, 64)
    with pytest.raises(UsageError, match="too many for one picture"):
        check_grid(MOST_GRID_PIXELS // 64**2 + 1, 64)
