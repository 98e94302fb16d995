"""Sets of images: the same bytes however they are read, drawn once, and told of without paths."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_runs import recipe

from ganzoo.data import DataRequest, open_pack
from ganzoo.errors import DataError, UsageError, WeightsError
from ganzoo.evaluation import working
from ganzoo.evaluation.image_sets import (
    ArrayImages,
    ChosenImages,
    PackImages,
    SampledImages,
    evenly,
    seeds_text,
    split_of,
)
from ganzoo.evaluation.working import KeptImages, keep, working_folder
from ganzoo.models import Model, ModelConfig
from ganzoo.sampling import TorchSampler, labels_of, parse_seeds
from ganzoo.training.networks import build_networks


class PlaceSampler:
    """A sampler whose image tells its seed and its place in the batch, as rounding may depend on it."""

    image_size, channels, num_classes, latent_dim, prior = 4, 1, 0, 2, "normal"

    def __init__(self, image_size: int = 4, num_classes: int = 0) -> None:
        self.image_size, self.num_classes = image_size, num_classes
        self.calls: list[int] = []
        self.labels: list[int] = []

    def pixels(
        self, seeds: npt.ArrayLike, labels: npt.ArrayLike | None = None, *, batch_size: int = 64, **_: Any
    ) -> npt.NDArray[np.uint8]:
        numbers = np.asarray(seeds)
        assert len(numbers) == batch_size
        self.calls.append(len(numbers))
        self.labels += [] if labels is None else np.asarray(labels).tolist()
        images = np.empty((len(numbers), self.image_size, self.image_size, 1), np.uint8)
        images[:, 0] = (numbers % 256)[:, None, None]
        images[:, 1:] = np.arange(len(numbers))[:, None, None, None]
        return images

    def sample(self, *_: Any, **__: Any) -> npt.NDArray[np.float32]:
        raise NotImplementedError


COUNT = 150


def parts(images: Any, step: int) -> npt.NDArray[np.uint8]:
    return np.concatenate([images.read(first, first + step).numpy() for first in range(0, images.count, step)])


@pytest.mark.parametrize("step", [1, 7, 64, 100, 1000])
def test_sampled_images_are_the_same_however_they_are_read(step: int) -> None:
    whole = SampledImages(PlaceSampler(), np.arange(COUNT)).read(0, COUNT).numpy()
    images = SampledImages(PlaceSampler(), np.arange(COUNT))
    assert np.array_equal(parts(images, step), whole)
    mixed = np.array([149, 3, 3, 77, 0])
    assert np.array_equal(images.gather(mixed).numpy(), whole[mixed])


def test_an_image_does_not_depend_on_how_many_are_asked_for() -> None:
    few = SampledImages(PlaceSampler(), np.arange(70)).read(0, 70)
    many = SampledImages(PlaceSampler(), np.arange(COUNT)).read(0, 70)
    assert torch.equal(few, many)


def test_reading_in_order_draws_every_batch_once_and_large_images_in_smaller_batches() -> None:
    sampler = PlaceSampler()
    parts(SampledImages(sampler, np.arange(COUNT)), 10)
    assert sampler.calls == [64, 64, 64]
    large = PlaceSampler(image_size=256)
    SampledImages(large, np.arange(20)).read(0, 20)
    assert large.calls == [16, 16]


def test_a_seed_names_its_class_unless_labels_are_given() -> None:
    sampler = PlaceSampler(num_classes=5)
    images = SampledImages(sampler, np.arange(10), classes=("a", "b"))
    assert images.labels is not None
    assert images.labels.tolist() == labels_of(np.arange(10), 5).tolist()
    assert images.classes == ("0", "1", "2", "3", "4")  # two names are not those of five classes
    assert images.to_dict()["labels"] == "of each seed, uniform"
    images.read(0, 10)
    assert sampler.labels[:10] == images.labels.tolist()
    chosen = SampledImages(sampler, np.arange(10), np.full(10, 2), classes=tuple("abcde"))
    assert chosen.labels is not None
    assert set(chosen.labels.tolist()) == {2}
    assert (chosen.classes, chosen.to_dict()["labels"]) == (("a", "b", "c", "d", "e"), "given")


def test_no_seeds_and_numbers_outside_are_refused() -> None:
    with pytest.raises(UsageError, match="nothing to draw"):
        SampledImages(PlaceSampler(), [])
    images = SampledImages(PlaceSampler(), range(5))
    for wrong in ([5], [-1]):
        with pytest.raises(IndexError, match="5 images"):
            images.gather(np.array(wrong))
    assert images.read(3, 99).shape == (2, 4, 4, 1)
    assert images.read(9, 12).shape == (0, 4, 4, 1)


def test_a_model_that_draws_nan_is_an_error_of_one_line() -> None:
    generator = build_networks(recipe())[0].eval()
    with torch.no_grad():
        next(iter(generator.parameters())).fill_(float("nan"))
    model = Model(ModelConfig(recipe(), "raw", 1, 0.0), generator, None)
    images = SampledImages(TorchSampler(model, device="cpu"), range(3))
    with pytest.raises(WeightsError, match="NaN or Inf") as caught:
        images.read(0, 3)
    assert "\n" not in str(caught.value)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_seeds_are_told_as_they_are_parsed(seeds: list[int]) -> None:
    assert parse_seeds(seeds_text(np.array(seeds, np.uint64))).tolist() == seeds


def test_many_scattered_seeds_are_told_by_a_checksum() -> None:
    assert seeds_text(np.arange(50_000, dtype=np.uint64)) == "0-49999"
    one, other = (seeds_text(np.arange(first, 4000, 2, dtype=np.uint64)) for first in (0, 2))
    assert one.startswith("2000 seeds, the first 0, sha256 ")
    assert one != other
    assert seeds_text(np.array([2**64 - 1], np.uint64)) == str(2**64 - 1)


@pytest.mark.parametrize(
    ("description", "split"),
    [
        ("MNIST", "train"),
        ("MNIST test", "test"),
        ("CIFAR-10 test", "test"),
        ("zip 'train.zip'", "train"),
        ("data set org/name (validation)", "validation"),
        ("folder 'latest'", None),
        ("folder 'train and test'", None),
        ("scikit-learn's digits", None),
    ],
)
def test_a_split_is_told_where_the_description_names_one(description: str, split: str | None) -> None:
    assert split_of(description) == split


# ------------------------------------------------------------------ packs, arrays, parts


def labelled_folder(path: Path) -> Path:
    for name, value in (("cat/1.png", 10), ("cat/2.png", 20), ("dog/1.png", 30), ("dog/2.png", 40)):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path / name)
    (path / "dog" / "3.png").write_bytes(b"broken")
    return path


def test_a_packs_images_all_or_some(tmp_path: Path) -> None:
    folder = labelled_folder(tmp_path / "pets")
    with open_pack(folder, DataRequest(8), cache_dir=tmp_path / "packs") as pack:
        whole, some = PackImages(pack), PackImages(pack, np.array([3, 0]), facts={"more": 1})
        assert whole.read(1, 3)[:, 0, 0, 0].tolist() == [20, 30]
        assert some.read(0, 9)[:, 0, 0, 0].tolist() == [40, 10]
        assert some.gather(np.array([1, 1]))[:, 0, 0, 0].tolist() == [10, 10]
        assert some.labels is not None
        assert (some.count, some.labels.tolist(), some.classes) == (2, [1, 0], ("cat", "dog"))
        assert len({whole.fingerprint(), some.fingerprint(), PackImages(pack, np.array([0, 3])).fingerprint()}) == 3
        told = some.to_dict()
        assert (told["count"], told["chosen"], told["skipped"], told["more"]) == (2, "2 of 4", 1, 1)
        assert told["skipped_examples"] == [["dog/3.png", "not an image that can be read"]]
        assert (told["crop"], told["resize"], whole.to_dict()["chosen"]) == ("center", "lanczos", "all")
        assert str(tmp_path) not in json.dumps(told)
        with pytest.raises(IndexError):
            PackImages(pack, np.array([4]))


def test_arrays_keep_their_pixels_and_are_told_by_their_content() -> None:
    array = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 3), np.uint8)
    images, same = ArrayImages(array, [0, 1, 2, 0, 1, 2]), ArrayImages(torch.from_numpy(array), [0, 1, 2, 0, 1, 2])
    assert np.array_equal(images.read(2, 4).numpy(), array[2:4])
    assert np.array_equal(images.gather(np.array([5, 0])).numpy(), array[[5, 0]])
    assert images.fingerprint() == same.fingerprint() != ArrayImages(array).fingerprint()
    assert images.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("array", "labels"),
    [
        (np.full((2, 4, 4, 3), np.nan), None),
        (np.zeros((2, 4, 4), np.uint8), None),
        (np.zeros((2, 4, 5, 3), np.uint8), None),
        (np.zeros((0, 4, 4, 3), np.uint8), None),
        (np.zeros((2, 4, 4, 2), np.uint8), None),
        (np.zeros((2, 4, 4, 3), np.uint8), [0]),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, -1]),
    ],
)
def test_what_is_no_array_of_images_is_refused(array: Any, labels: Any) -> None:
    with pytest.raises(DataError, match=r"array"):
        ArrayImages(array, labels)


def test_some_images_of_a_set_are_a_set() -> None:
    whole = ArrayImages(np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1), [0, 1, 0, 1, 0, 1], classes=("a", "b"))
    odd = ChosenImages(whole, np.array([1, 3, 5]), "class b")
    assert odd.read(1, 9).flatten().tolist() == [3, 5]
    assert odd.gather(np.array([2, 0])).flatten().tolist() == [5, 1]
    assert odd.labels is not None
    assert (odd.labels.tolist(), odd.classes, odd.to_dict()["chosen"]) == ([1, 1, 1], ("a", "b"), "class b")
    assert odd.fingerprint() not in (whole.fingerprint(), ChosenImages(whole, np.array([1, 3]), "").fingerprint())
    assert ChosenImages(SampledImages(PlaceSampler(), range(9)), np.array([1]), "one").fingerprint() is None


def test_images_are_chosen_evenly() -> None:
    assert evenly(10, None) is None
    assert evenly(10, 10) is None
    chosen = evenly(10, 4)
    assert chosen is not None
    assert chosen.tolist() == [0, 2, 5, 7]


# ------------------------------------------------------------------ drawn once


def test_kept_images_are_drawn_once_and_stay_the_same(tmp_path: Path) -> None:
    sampler = PlaceSampler()
    images = SampledImages(sampler, np.arange(COUNT))
    whole = SampledImages(PlaceSampler(), np.arange(COUNT)).read(0, COUNT).numpy()
    kept = KeptImages(images, tmp_path / "kept")
    mixed = np.array([130, 2, 2, 149])
    assert np.array_equal(kept.gather(mixed).numpy(), whole[mixed])
    assert np.array_equal(parts(kept, 33), whole)
    assert np.array_equal(kept.gather(mixed).numpy(), whole[mixed])
    assert sampler.calls == [64, 64, 64]
    assert (kept.fingerprint(), kept.to_dict()) == (None, images.to_dict())
    assert (tmp_path / "kept").stat().st_size == COUNT * 16
    with pytest.raises(IndexError):
        kept.gather(np.array([COUNT]))


def test_only_what_is_drawn_is_kept_and_only_where_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array, drawn = ArrayImages(np.zeros((3, 4, 4, 1), np.uint8)), SampledImages(PlaceSampler(), range(9))
    assert keep(array, tmp_path) is array
    kept = keep(drawn, tmp_path)
    assert isinstance(kept, KeptImages)
    assert keep(kept, tmp_path) is kept
    monkeypatch.setattr(working, "_MOST_KEPT", 9 * 16 - 1)
    assert keep(drawn, tmp_path) is drawn


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any, data: memoryview) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(working, "_write_all", full)
    kept = KeptImages(SampledImages(PlaceSampler(), range(9)), tmp_path / "kept")
    with pytest.raises(DataError, match="No space left on device") as caught:
        kept.read(0, 1)
    assert "GANZOO_HOME" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_working_folder_vanishes_however_the_evaluation_ends(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), working_folder(tmp_path) as folder:  # noqa: PT012
        (folder / "features").mkdir()
        (folder / "features" / "table.npy").write_bytes(b"numbers")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == [".locks"]
    assert list((tmp_path / ".locks").iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_lives_stays(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from ganzoo.evaluation.working import working_folder
        with working_folder(Path({str(tmp_path)!r})) as folder:
            (folder / "left").write_bytes(b"x")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    (dead,) = (one for one in tmp_path.iterdir() if one.name != ".locks")
    with working_folder(tmp_path) as alive:
        assert not dead.exists()
        (alive / "mine").write_bytes(b"x")
        with working_folder(tmp_path) as other:
            assert other != alive
        assert (alive / "mine").exists()


def test_a_working_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="GANZOO_HOME"), working_folder(tmp_path / "file"):
        pass
