"""The search for duplicates in a source, and the pack without them."""

from __future__ import annotations

import errno
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dedup_images import CHANGES, jpeg, middle, mirrored, scenes, stacked, write_scenes
from image_files import noise
from PIL import Image

from ganzoo.data import ArraySource, DataRequest, PackProgress, Sample, SkippedImage, Source, open_pack, open_source
from ganzoo.data import writing as writing_module
from ganzoo.data.dedup import DedupOptions, DedupProgress, Duplicates, deduplicate, find_duplicates
from ganzoo.data.dedup import autoencoder as autoencoder_module
from ganzoo.data.dedup.autoencoder import AutoencoderConfig
from ganzoo.data.dedup.finding import without
from ganzoo.data.dedup.result import read_duplicates
from ganzoo.errors import DataError, UsageError


def numbers(found: Duplicates) -> list[tuple[int, ...]]:
    return [group.numbers for group in found.groups]


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    short = functools.partial(AutoencoderConfig, images=2560, batch=64)
    monkeypatch.setattr(autoencoder_module, "AutoencoderConfig", short)


# ------------------------------------------------------------------ what is found


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change: str) -> None:
    images = scenes(30)
    copies = [CHANGES[change](image) for image in images[:10]]
    found = find_duplicates(stacked([*images, *copies]))
    groups = numbers(found)
    assert set(groups) <= {(number, 30 + number) for number in range(10)}
    assert len(groups) >= 8, change
    assert found.kept == 40 - len(groups)


def test_the_first_image_is_kept_and_all_its_copies_are_left_out() -> None:
    images = scenes(6)
    found = find_duplicates(stacked([jpeg(images[3]), *images, images[3], mirrored(images[3])]))
    assert numbers(found) == [(0, 4, 7, 8)]
    assert found.removed.tolist() == [4, 7, 8]
    assert found.groups[0].names == ("number 0", "number 4", "number 7", "number 8")


def test_identical_images_are_counted_among_the_duplicates() -> None:
    images = scenes(4)
    found = find_duplicates(stacked([*images, images[0], images[0], jpeg(images[0])]))
    assert numbers(found) == [(0, 4, 5, 6)]
    assert found.groups[0].identical == 2
    assert found.summary()["identical"] == 2


def test_without_flips_and_crops_they_are_not_duplicates() -> None:
    images = scenes(8)
    data = stacked([*images, *map(mirrored, images[:4]), *map(middle, images[4:])])
    assert len(numbers(find_duplicates(data))) >= 7
    assert numbers(find_duplicates(data, DedupOptions(flips=False, crops=False, distance=2))) == []


def test_flat_images_are_duplicates_only_where_they_are_equal() -> None:
    """Their hashes are all alike, and would make one group of them."""
    flat = np.repeat(np.arange(0, 200, 10, dtype=np.uint8), 32 * 32 * 3).reshape(20, 32, 32, 3).copy()
    noisy = flat + np.random.default_rng(0).integers(0, 3, flat.shape, dtype=np.uint8)
    found = find_duplicates(np.concatenate([flat, noisy, flat[5:7]]))
    assert numbers(found) == [(5, 40), (6, 41)]


def test_faint_shapes_on_other_colours_are_not_duplicates() -> None:
    """Freed of tint and contrast they would be the same."""
    ramp = np.tile(np.linspace(0, 6, 32), (32, 1))[..., None]
    colours = np.random.default_rng(1).integers(20, 230, (8, 1, 1, 3))
    assert numbers(find_duplicates((colours + ramp).astype(np.uint8))) == []


def test_the_same_shapes_in_other_colours_are_not_duplicates() -> None:
    """A grey hash cannot tell them apart; the comparison of pixels does."""
    shapes = stacked(scenes(12, seed=3))
    other = shapes.copy()
    other[..., 0], other[..., 2] = shapes[..., 2], shapes[..., 0]
    weights = np.array([0.299, 0.587, 0.114])
    level = np.clip((shapes @ weights - other @ weights)[..., None] + other, 0, 255).astype(np.uint8)
    assert numbers(find_duplicates(np.concatenate([shapes, level]))) == []
    assert len(numbers(find_duplicates(np.concatenate([shapes, level]), DedupOptions(compare=False)))) >= 6


def test_frames_of_a_slow_pan_do_not_all_become_one_image() -> None:
    wide = np.asarray(
        Image.fromarray(noise(6, 60, 3, seed=5)).resize((640, 64), Image.Resampling.BICUBIC), dtype=np.uint8
    )
    frames = np.stack([wide[:, left : left + 64] for left in range(0, 560, 2)])
    found = find_duplicates(frames)
    assert max(len(group.numbers) for group in found.groups) < 20
    assert found.kept > 30


def test_grey_images_and_one_image_and_equal_images() -> None:
    grey = stacked(scenes(6)).mean(axis=3).astype(np.uint8)
    assert numbers(find_duplicates(np.concatenate([grey, grey[2:3]]))) == [(2, 6)]
    assert numbers(find_duplicates(grey[:1])) == []
    every = find_duplicates(np.repeat(grey[:1], 50, axis=0))
    assert numbers(every) == [tuple(range(50))]
    assert every.groups[0].identical == 49


def test_the_search_is_the_same_each_time_and_uses_the_thumbnails_again(tmp_path: Path) -> None:
    images = scenes(12)
    data = stacked([*images, *map(jpeg, images[:5])])
    seen: list[Any] = []
    first = find_duplicates(data, progress=seen.append)
    assert any(isinstance(one, PackProgress) for one in seen)
    assert [one for one in seen if isinstance(one, DedupProgress)][-1].done == 4
    again: list[Any] = []
    second = find_duplicates(data, progress=again.append)
    assert (second, second.to_json()) == (first, first.to_json())
    assert not any(isinstance(one, PackProgress) for one in again)


def test_only_so_many_images_are_looked_at_and_named_by_their_place_in_the_source() -> None:
    images = scenes(20)
    data = stacked([*images, *images])
    assert numbers(find_duplicates(data, max_images=20)) == [(number, number + 20) for number in range(0, 20, 2)]
    with pytest.raises(UsageError, match="max_images"):
        find_duplicates(data, max_images=0)


# ------------------------------------------------------------------ the paper's method


def test_the_autoencoder_finds_copies(short_training: None) -> None:
    images = scenes(40)
    data = stacked([*images, *images[:5], *map(mirrored, images[5:10])])
    found = find_duplicates(data, DedupOptions(method="autoencoder"))
    assert numbers(found)[:10] == [(number, 40 + number) for number in range(10)]
    assert found.parameters["seed"] == 0
    assert "distance" not in found.parameters


def test_equal_seeds_give_equal_codes_and_others_do_not(short_training: None) -> None:
    images = stacked(scenes(60), size=32)
    with open_pack(images, DataRequest(32)) as pack:
        one, two, other = (autoencoder_module.train_autoencoder(pack, seed).codes(images) for seed in (1, 1, 2))
    assert one.shape == (60, 16)
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_the_code_is_the_sign_of_the_paper_nets_hidden_units(short_training: None) -> None:
    images = stacked(scenes(16), size=32)
    with open_pack(images, DataRequest(32)) as pack:
        model = autoencoder_module.train_autoencoder(pack, 0)
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    assert (shapes["encode.weight"], shapes["decode.weight"]) == ((128, 3072), (3072, 128))
    levels = images.reshape(16, -1).astype(np.float64)
    pixels = (levels - levels.mean(axis=1, keepdims=True)) / levels.std(axis=1, keepdims=True) - model.mean.numpy()
    hidden = pixels @ model.encode.weight.detach().numpy().T.astype(np.float64) + model.encode.bias.detach().numpy()
    assert np.array_equal(np.unpackbits(model.codes(images), axis=1), (hidden > 0).astype(np.uint8))


def test_training_lowers_the_error_of_rebuilding() -> None:
    import torch

    images = stacked(scenes(64), size=32)
    with open_pack(images, DataRequest(32)) as pack:
        short, long = (
            autoencoder_module.train_autoencoder(pack, 0, config=AutoencoderConfig(images=count, batch=64, passes=99))
            for count in (64, 64 * 60)
        )
    pixels = autoencoder_module.standardised(torch.from_numpy(images))
    with torch.no_grad():
        assert float(long.loss(pixels)) < 0.7 * float(short.loss(pixels))


def test_both_methods_find_what_either_finds(short_training: None) -> None:
    images = scenes(20)
    data = stacked([*images, *map(jpeg, images[:4])])
    either = {pair for method in ("phash", "autoencoder") for pair in numbers(find_duplicates(data, options(method)))}
    assert either <= set(numbers(find_duplicates(data, options("both"))))


def options(method: Any) -> DedupOptions:
    return DedupOptions(method=method)


@pytest.mark.parametrize(
    "wrong",
    [{"method": "md5"}, {"distance": 17}, {"distance": -1}, {"correlation": 1.5}, {"difference": 0.0}, {"seed": -1}],
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        DedupOptions(**wrong)


# ------------------------------------------------------------------ the pack without them


def test_the_clean_pack_keeps_labels_classes_factors_and_the_order(tmp_path: Path) -> None:
    images = scenes(8)
    source = ArraySource(
        stacked([*images[:4], images[1], *images[4:], images[6]]),
        np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1]),
        description="scenes",
        classes=("odd", "even"),
        notice="CC0",
    )
    source.factors = {"place": np.arange(10), "pair": np.arange(20.0).reshape(10, 2)}
    found = find_duplicates(source)
    assert numbers(found) == [(1, 4), (7, 9)]
    assert [group.mixed for group in found.groups] == [True, False]
    pack = deduplicate(source, DataRequest(48), tmp_path / "clean", duplicates=found)
    left = [0, 1, 2, 3, 5, 6, 7, 8]
    assert pack.path == tmp_path / "clean"
    assert np.array_equal(pack.gather(np.arange(8)).numpy(), source.images[left])
    assert pack.labels is not None
    assert pack.labels.tolist() == [0, 1, 0, 1, 1, 0, 1, 0]
    assert (pack.classes, pack.manifest.notice) == (("odd", "even"), "CC0")
    assert pack.factors is not None
    assert pack.factors["place"].tolist() == left
    assert pack.factors["pair"].shape == (8, 2)
    pack.verify()


def test_what_is_left_of_a_source_is_told_without_reading_it() -> None:
    images, labels = stacked(scenes(5)), np.array([4, 3, 2, 1, 0])
    source = ArraySource(np.concatenate([images[:4], images[:1]]), labels, description="scenes")
    left = without(source, find_duplicates(source))
    assert (len(left), left.name(3), left.labelled) == (4, "number 3", True)
    assert left.labels is not None
    assert left.labels.tolist() == [4, 3, 2, 1]
    assert left.fingerprint() != source.fingerprint()


def test_the_clean_pack_is_the_same_bytes_wherever_it_is_made(tmp_path: Path) -> None:
    images = scenes(6)
    data = stacked([*images, images[2]])
    one, two = (deduplicate(data, DataRequest(32), tmp_path / name) for name in ("one", "two"))
    for name in ("images.npy", "manifest.json"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()
    assert deduplicate(data, DataRequest(32), tmp_path / "one").path == one.path  # it is there
    cached = deduplicate(data, DataRequest(32))
    assert (len(cached), cached.manifest.key) == (6, one.manifest.key)
    assert open_pack(data, DataRequest(32)).manifest.key != one.manifest.key


def test_a_folder_and_its_pack_have_the_same_duplicates(tmp_path: Path) -> None:
    images = scenes(4)
    folder = write_scenes(
        tmp_path / "pets",
        {"cat/1.png": images[0], "cat/2.png": images[1], "dog/1.png": images[0], "dog/2.png": images[2]},
    )
    found = find_duplicates(folder)
    assert [(group.names, group.mixed) for group in found.groups] == [(("cat/1.png", "dog/1.png"), True)]
    with open_pack(folder, DataRequest(48)) as pack:
        assert numbers(find_duplicates(pack)) == [(0, 2)]
        clean = deduplicate(pack, DataRequest(48, crop="celeba"), tmp_path / "clean")  # a pack is not cropped again
        assert np.array_equal(clean.gather(np.arange(3)).numpy(), pack.gather(np.array([0, 1, 3])).numpy())
    assert sorted(path.name for path in folder.rglob("*.png")) == ["1.png", "1.png", "2.png", "2.png"]


def test_corrupt_files_are_left_out_and_counted(tmp_path: Path) -> None:
    images = scenes(3)
    folder = write_scenes(tmp_path / "images", {f"{number}.png": image for number, image in enumerate(images)})
    (folder / "0a.png").write_bytes(b"broken")
    (folder / "9.png").write_bytes((folder / "2.png").read_bytes())
    found = find_duplicates(folder)
    assert (found.images, found.skipped, found.kept) == (4, 1, 3)
    assert [group.names for group in found.groups] == [("2.png", "9.png")]
    pack = deduplicate(folder, DataRequest(16), tmp_path / "clean", duplicates=found)
    assert (len(pack), pack.manifest.skipped, pack.manifest.skipped_examples[0][0]) == (3, 1, "0a.png")


def test_duplicates_of_another_source_are_refused(tmp_path: Path) -> None:
    found = find_duplicates(stacked(scenes(5)))
    with pytest.raises(DataError, match=r"of 5 samples; .* has 4"):
        deduplicate(stacked(scenes(4)), DataRequest(16), tmp_path / "clean", duplicates=found)
    assert not (tmp_path / "clean").exists()


class Breaking(Source):
    """Scenes, of which some are read before an exception is raised."""

    description = "breaking scenes"

    def __init__(self, error: BaseException | None, after: int) -> None:
        self._images = stacked(scenes(12))
        self.error, self._left = error, after

    def fingerprint(self) -> str:
        return "breaking"

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> Sample:
        self._left -= 1
        if self._left < 0 and self.error is not None:
            raise self.error
        return Sample(self._images[index % 6])


@pytest.mark.parametrize("after", [3, 15], ids=["while looking", "while writing"])
def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path, home: Path, after: int) -> None:
    source = Breaking(KeyboardInterrupt(), after)
    with pytest.raises(KeyboardInterrupt):
        deduplicate(source, DataRequest(16), tmp_path / "clean")
    packs = [one for one in (home / "packs").iterdir() if one.name != ".locks"]
    assert len(packs) == (0 if after == 3 else 1)  # the thumbnails are whole or absent
    assert sorted(one.name for one in tmp_path.iterdir()) == ["home"]
    source.error = None
    assert len(deduplicate(source, DataRequest(16), tmp_path / "clean")) == 6


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = stacked(scenes(6))
    found = find_duplicates(data)

    def full(file: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing_module, "flush_to_disk", full)
    with pytest.raises(DataError, match="GiB free"):
        deduplicate(data, DataRequest(16), tmp_path / "clean", duplicates=found)
    with pytest.raises(DataError, match="GiB free"):
        find_duplicates(data[:5])
    assert sorted(one.name for one in tmp_path.iterdir()) == ["home"]


def test_a_source_of_nothing_usable_is_an_error(tmp_path: Path) -> None:
    class Empty(Breaking):
        def read(self, index: int) -> Sample:
            raise SkippedImage("never")

    with pytest.raises(DataError, match="None of the 12 images"):
        find_duplicates(Empty(None, 0))
    with pytest.raises(DataError, match="holds no images"):
        find_duplicates(np.zeros((0, 8, 8, 3), np.uint8))


# ------------------------------------------------------------------ the list


def test_the_list_is_json_that_can_be_read_again(tmp_path: Path) -> None:
    images = scenes(5)
    folder = write_scenes(
        tmp_path / "ünïcode", {f"{name}.png": images[name] for name in range(4)} | {"é.png": images[0]}
    )
    found = find_duplicates(folder)
    found.save(tmp_path / "duplicates.json")
    text = (tmp_path / "duplicates.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    told = json.loads(text)
    assert (told["schema_version"], told["images"], told["duplicates"], told["kept"]) == (1, 5, 1, 4)
    assert told["found"] == [
        {"kept": "0.png", "numbers": [0, 4], "names": ["0.png", "é.png"], "identical": 1, "mixed": False}
    ]
    again = read_duplicates(tmp_path / "duplicates.json")
    assert again == found
    with open_source(folder) as source:
        assert len(deduplicate(source, DataRequest(8), tmp_path / "clean", duplicates=again)) == 4


def test_a_list_without_duplicates_is_json_too(tmp_path: Path) -> None:
    assert json.loads(find_duplicates(stacked(scenes(3))).to_json())["found"] == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 2}', '{"schema_version": 1, "found": [{}]}'])
def test_what_is_no_list_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "duplicates.json"
    path.write_text(text)
    with pytest.raises(DataError, match="no list of duplicates"):
        read_duplicates(path)
