"""Running images through an extractor: the same bytes however images are read, and a cache that is whole or absent."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ganzoo.errors import DataError, PluginError, UsageError
from ganzoo.evaluation import extraction, tables
from ganzoo.evaluation.extraction import extract_all, reference_table
from ganzoo.evaluation.tables import FeatureTable, Moments
from ganzoo.features import ConvNetFeatures, Extracted, FeatureExtractor, InputSpec
from ganzoo.features.classifier_files import save_classifier
from ganzoo.features.convnet import ConvNet
from ganzoo.features.resizing import prepare
from ganzoo.files import cache_home


class Noise:
    """Random images of 10×10, each always the same, that count how often they are read."""

    def __init__(self, count: int, *, labelled: bool = True, fingerprint: str | None = "noise") -> None:
        self.count, self.image_size, self.channels = count, 10, 1
        self.labels: npt.NDArray[np.int64] | None = np.arange(count) % 3 if labelled else None
        self.classes: tuple[str, ...] = ("a", "b", "c") if labelled else ()
        self.reads: list[tuple[int, int]] = []
        self._fingerprint = fingerprint

    def read(self, first: int, last: int) -> torch.Tensor:
        self.reads.append((first, last))
        return self.gather(np.arange(first, min(last, self.count)))

    def gather(self, indices: npt.NDArray[np.int64]) -> torch.Tensor:
        rows = [np.random.default_rng(int(one)).integers(0, 256, (10, 10, 1), dtype=np.uint8) for one in indices]
        return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, 10, 10, 1, dtype=torch.uint8)

    def fingerprint(self) -> str | None:
        return self._fingerprint

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "noise", "count": self.count}


class Sums(FeatureExtractor):
    """Sums of an image's rows, and two of them as logits; remembers the batches that it was given."""

    name, sha256, dimension, num_classes, batch_size = "sums", "a" * 64, 10, 2, 4
    spec = InputSpec(10, 1, "bilinear", 0.0, 1.0)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def extract(self, images: torch.Tensor) -> Extracted:
        self.batches.append(len(images))
        features = prepare(images, self.spec).sum(dim=3).flatten(1)
        return Extracted(features, features[:, :2].contiguous())


@pytest.fixture(scope="module")
def convnet(tmp_path_factory: pytest.TempPathFactory) -> ConvNetFeatures:
    """A real network, in which a batch's size may change the last bits of what comes out."""
    arguments = {"channels": 1, "stem": 8, "widths": (16, 32), "num_classes": 5}
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ConvNet(**arguments)  # type: ignore[arg-type]
    texts = dict.fromkeys(("data", "licence", "notice"), "none")
    save_classifier(path, "net", network, image_size=10, arguments=arguments, classes=list("abcde"), **texts)  # type: ignore[arg-type]
    extractor = ConvNetFeatures(path, device="cpu")
    extractor.batch_size = 16
    return extractor


def _same(one: FeatureTable, other: FeatureTable) -> bool:
    same = np.array_equal(one.features(), other.features()) and np.array_equal(one.labels, other.labels)  # type: ignore[arg-type]
    return same and (not one.num_classes or np.array_equal(one.logits(), other.logits()))


# ----------------------------------------------------------------------------------------------------------- all images


@pytest.mark.parametrize("on_disk", [False, True])
def test_every_image_has_its_features_logits_and_label(on_disk: bool, tmp_path: Path) -> None:
    images = Noise(11)
    table = extract_all(Sums(), images, folder=tmp_path / "new" / "folder" if on_disk else None)
    sums = images.gather(np.arange(11)).float().sum(dim=(2, 3)) / 255
    assert np.allclose(table.features(), sums.numpy(), atol=1e-5)
    assert np.array_equal(table.logits(), table.features()[:, :2])
    assert table.labels is not None
    assert table.labels.tolist() == [number % 3 for number in range(11)]


def test_batches_are_cut_at_multiples_of_the_extractors_size_and_the_last_is_filled_up() -> None:
    images, extractor = Noise(11), Sums()
    extract_all(extractor, images)
    assert images.reads == [(0, 4), (4, 8), (8, 11)]
    assert extractor.batches == [4, 4, 4]


@pytest.mark.parametrize("count", [1, 15, 16, 17, 31, 40])
def test_an_images_features_are_the_same_bytes_however_many_are_asked_for(convnet: ConvNetFeatures, count: int) -> None:
    whole = extract_all(convnet, Noise(48))
    part = extract_all(convnet, Noise(count))
    assert part.features().tobytes() == whole.features(0, count).tobytes()
    assert part.logits().tobytes() == whole.logits(0, count).tobytes()


def test_in_memory_and_on_the_disk_they_are_the_same_bytes_and_files(convnet: ConvNetFeatures, tmp_path: Path) -> None:
    memory = extract_all(convnet, Noise(21))
    assert _same(extract_all(convnet, Noise(21), folder=tmp_path / "a"), memory)
    extract_all(convnet, Noise(21), folder=tmp_path / "b")
    assert sorted(one.name for one in (tmp_path / "a").iterdir()) == ["features.npy", "logits.npy"]
    for name in ("features.npy", "logits.npy"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_extractor_tells_features_from_labels_and_logits_that_are_not_there(tmp_path: Path) -> None:
    class Plain(Sums):
        num_classes = 0

        def extract(self, images: torch.Tensor) -> Extracted:
            return Extracted(super().extract(images).features)

    for folder in (None, tmp_path):
        table = extract_all(Plain(), Noise(5, labelled=False), folder=folder)
        assert (table.num_classes, table.labels, len(table)) == (0, None, 5)
    assert [one.name for one in tmp_path.iterdir()] == ["features.npy"]


def test_progress_is_told_after_each_batch() -> None:
    told: list[tuple[str, int, int]] = []
    extract_all(Sums(), Noise(9), progress=lambda *one: told.append(one))
    assert told == [("features sums", 4, 9), ("features sums", 8, 9), ("features sums", 9, 9)]


def test_on_the_disk_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    class Wide(Sums):
        dimension, num_classes, batch_size = 20_000, 0, 8

        def extract(self, images: torch.Tensor) -> Extracted:
            return Extracted(images.flatten(1)[:, :1].float().expand(-1, self.dimension).contiguous())

    tracemalloc.start()
    table = extract_all(Wide(), Noise(160), folder=tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 160 * 20_000 * 4 / 4
    assert table.features(159, 160).shape == (1, 20_000)


def test_no_images_are_refused() -> None:
    with pytest.raises(UsageError, match="There are no images"):
        extract_all(Sums(), Noise(0))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            lambda count: Extracted(torch.zeros(count, 9), torch.zeros(count, 2)),
            r"gave \(4, 9\) of float32 as features",
        ),
        (lambda count: Extracted(torch.zeros(count, 10).double(), torch.zeros(count, 2)), "of float64 as features"),
        (lambda count: Extracted(torch.zeros(count, 10)), "gave nothing as logits, not .4, 2. of float32"),
        (
            lambda count: Extracted(torch.full((count, 10), float("nan")), torch.zeros(count, 2)),
            "features that are NaN",
        ),
        (
            lambda count: Extracted(torch.zeros(count, 10), torch.full((count, 2), float("inf"))),
            "logits that are NaN or Inf",
        ),
        (lambda count: Extracted(torch.zeros(1, 10), torch.zeros(count, 2)), r"gave \(1, 10\)"),
    ],
)
def test_an_extractor_that_breaks_its_word_is_named_and_leaves_no_file(
    made: Callable[[int], Extracted], said: str, tmp_path: Path
) -> None:
    extractor = Sums()
    extractor.extract = lambda images: made(len(images))  # type: ignore[method-assign]
    with pytest.raises(PluginError, match=f"The feature extractor 'sums' gave .*{said.removeprefix('gave ')}"):
        extract_all(extractor, Noise(5), folder=tmp_path / "made")
    assert not list((tmp_path / "made").iterdir())


def test_images_that_cannot_be_read_are_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    class Gone(Noise):
        def read(self, first: int, last: int) -> torch.Tensor:
            if first:
                raise OSError(errno.EIO, os.strerror(errno.EIO), "photo.png")
            return super().read(first, last)

    class Short(Noise):
        def read(self, first: int, last: int) -> torch.Tensor:
            return super().read(first, last)[:3]

    for ask in (extract_all, reference_table):
        with pytest.raises(DataError, match=r"Images 4 to 7 cannot be read: photo\.png: Input/output error"):
            ask(Sums(), Gone(9))
        with pytest.raises(DataError, match="Of images 0 to 3 only 3 could be read"):
            ask(Sums(), Short(9))


# ------------------------------------------------------------------------------------------------------------ the cache


def _entries(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.name != ".locks")


def test_what_is_kept_is_found_again_and_nothing_is_computed(tmp_path: Path) -> None:
    images, extractor = Noise(9), Sums()
    told: list[Any] = []
    first = reference_table(extractor, images, cache_dir=tmp_path)
    images.reads.clear()
    extractor.batches.clear()
    second = reference_table(extractor, images, cache_dir=tmp_path, progress=lambda *one: told.append(one))
    assert [*images.reads, *extractor.batches, *told] == []
    assert _same(first, second)
    assert _same(second, extract_all(Sums(), Noise(9)))


def test_by_default_tables_are_kept_in_ganzoos_cache() -> None:
    reference_table(Sums(), Noise(3, fingerprint="by default"))
    assert len(_entries(cache_home() / "features")) >= 1


def test_labels_are_those_of_the_images_and_not_of_the_cache(tmp_path: Path) -> None:
    reference_table(Sums(), Noise(6), cache_dir=tmp_path)
    images = Noise(6)
    images.labels = np.full(6, 2)
    table = reference_table(Sums(), images, cache_dir=tmp_path)
    assert images.reads == []
    assert table.labels is not None
    assert table.labels.tolist() == [2] * 6


def test_other_images_extractors_and_settings_are_other_entries(tmp_path: Path) -> None:
    def kept(images: Noise, **changed: Any) -> list[tuple[int, int]]:
        extractor = Sums()
        for name, value in changed.items():
            setattr(extractor, name, value)
        reference_table(extractor, images, cache_dir=tmp_path)
        return images.reads

    assert kept(Noise(6))
    assert not kept(Noise(6))
    assert kept(Noise(6, fingerprint="other"))
    assert kept(Noise(5))
    assert kept(Noise(6), sha256="b" * 64)
    assert kept(Noise(6), name="sums-2")
    assert kept(Noise(6), batch_size=5)
    assert kept(Noise(6), spec=InputSpec(10, 1, "bilinear", -1.0, 1.0))
    assert len(_entries(tmp_path)) == 7


def test_images_without_a_fingerprint_are_not_kept(tmp_path: Path) -> None:
    images = Noise(6, fingerprint=None)
    for _ in range(2):
        images.reads.clear()
        assert len(reference_table(Sums(), images, cache_dir=tmp_path)) == 6
        assert images.reads
    assert not list(tmp_path.iterdir())


def _entry(folder: Path) -> Path:
    (entry,) = _entries(folder)
    return entry


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def _folder_in_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


_DAMAGES: dict[str, Callable[[Path], object]] = {
    "a bit of the features": lambda entry: _flip(entry / "features.npy"),
    "a bit of the logits": lambda entry: _flip(entry / "logits.npy"),
    "features cut short": lambda entry: os.truncate(entry / "features.npy", 130),
    "no features": lambda entry: (entry / "features.npy").unlink(),
    "no manifest": lambda entry: (entry / "manifest.json").unlink(),
    "a manifest of nothing": lambda entry: (entry / "manifest.json").write_text("[]"),
    "half a manifest": lambda entry: os.truncate(entry / "manifest.json", 40),
    "a folder in place of the features": lambda entry: _folder_in_place(entry / "features.npy"),
}


@pytest.mark.parametrize("damage", _DAMAGES)
def test_a_damaged_entry_is_made_anew(damage: str, tmp_path: Path) -> None:
    right = reference_table(Sums(), Noise(9), cache_dir=tmp_path).features()
    _DAMAGES[damage](_entry(tmp_path))
    images = Noise(9)
    table = reference_table(Sums(), images, cache_dir=tmp_path)
    assert images.reads
    assert np.array_equal(table.features(), right)
    again = Noise(9)
    assert np.array_equal(reference_table(Sums(), again, cache_dir=tmp_path).features(), right)
    assert again.reads == []


def test_an_entry_of_something_else_under_the_same_name_is_not_used(tmp_path: Path) -> None:
    reference_table(Sums(), Noise(9), cache_dir=tmp_path)
    manifest = _entry(tmp_path) / "manifest.json"
    fields = json.loads(manifest.read_text())
    fields["subject"]["images"]["fingerprint"] = "another"
    manifest.write_text(json.dumps(fields))
    images = Noise(9)
    reference_table(Sums(), images, cache_dir=tmp_path)
    assert images.reads


def test_an_interrupted_extraction_leaves_nothing(tmp_path: Path) -> None:
    class Interrupted(Noise):
        def read(self, first: int, last: int) -> torch.Tensor:
            if first:
                raise KeyboardInterrupt
            return super().read(first, last)

    with pytest.raises(KeyboardInterrupt):
        reference_table(Sums(), Interrupted(9), cache_dir=tmp_path)
    assert _entries(tmp_path) == []
    with pytest.raises(KeyboardInterrupt):
        extract_all(Sums(), Interrupted(9), folder=tmp_path / "own")
    assert list((tmp_path / "own").iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    reference_table(Sums(), Noise(9), cache_dir=tmp_path)
    entry = _entry(tmp_path)
    left = tmp_path / f".{entry.name}.0123456789ab.tmp"
    left.mkdir()
    (left / "features.npy").write_bytes(b"half")
    (entry / "manifest.json").unlink()
    reference_table(Sums(), Noise(9), cache_dir=tmp_path)
    assert _entries(tmp_path) == [entry]


@pytest.mark.parametrize("at", ["add", "close"])
def test_a_full_disk_is_one_line_and_leaves_nothing(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, *_: Any) -> None:
        if at == "close":
            self._file.close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tables.TableWriter, at, full)
    with pytest.raises(DataError, match="No space left on device") as caught:
        reference_table(Sums(), Noise(9), cache_dir=tmp_path)
    assert "GANZOO_HOME" in str(caught.value)
    assert _entries(tmp_path) == []
    with pytest.raises(DataError, match=r"Features cannot be written into .*own: No space left on device"):
        extract_all(Sums(), Noise(9), folder=tmp_path / "own")
    assert list((tmp_path / "own").iterdir()) == []


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match="Features cannot be written into"):
        reference_table(Sums(), Noise(9), cache_dir=tmp_path / "file" / "features")
    with pytest.raises(DataError, match="Features cannot be written into"):
        extract_all(Sums(), Noise(9), folder=tmp_path / "file")


# --------------------------------------------------------------------------------------------------------- kept moments


def test_moments_are_kept_beside_the_features_once_someone_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = reference_table(Sums(), Noise(9), cache_dir=tmp_path)
    assert not (_entry(tmp_path) / "moments.safetensors").exists()
    made = first.moments
    plain = extract_all(Sums(), Noise(9)).moments
    assert np.array_equal(made.covariance, plain.covariance)
    monkeypatch.setattr(FeatureTable, "blocks", None)  # nothing is summed any more
    kept = reference_table(Sums(), Noise(9), cache_dir=tmp_path).moments
    assert kept.count == 9
    assert kept.mean.dtype == kept.covariance.dtype == np.float64
    assert np.array_equal(kept.mean, made.mean)
    assert np.array_equal(kept.covariance, made.covariance)


@pytest.mark.parametrize(
    "damage", [_flip, lambda path: os.truncate(path, 50), lambda path: path.write_bytes(b"\x80\x04K\x01.")]
)
def test_damaged_moments_are_computed_anew(damage: Callable[[Path], object], tmp_path: Path) -> None:
    right = reference_table(Sums(), Noise(9), cache_dir=tmp_path).moments
    path = _entry(tmp_path) / "moments.safetensors"
    whole = path.read_bytes()
    damage(path)
    assert np.array_equal(reference_table(Sums(), Noise(9), cache_dir=tmp_path).moments.covariance, right.covariance)
    assert path.read_bytes() == whole


def test_moments_of_other_images_are_not_taken_for_these(tmp_path: Path) -> None:
    right = reference_table(Sums(), Noise(9), cache_dir=tmp_path).moments
    path = _entry(tmp_path) / "moments.safetensors"
    for other in (Moments(8, right.mean, right.covariance * 2), Moments(9, right.mean[:5], right.covariance[:5, :5])):
        extraction._keep(path, {"mean": other.mean, "covariance": other.covariance}, other.count)
        found = reference_table(Sums(), Noise(9), cache_dir=tmp_path).moments
        assert np.array_equal(found.covariance, right.covariance)


def test_distances_of_neighbours_are_kept_and_made_anew_where_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = reference_table(Sums(), Noise(9), cache_dir=tmp_path).neighbour_distances()
    assert right.shape == (9, 5)
    path = _entry(tmp_path) / "neighbours.safetensors"
    whole = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("ganzoo.evaluation.distances.nearest", None)  # not asked again
        assert np.array_equal(reference_table(Sums(), Noise(9), cache_dir=tmp_path).neighbour_distances(), right)
    _flip(path)
    assert np.array_equal(reference_table(Sums(), Noise(9), cache_dir=tmp_path).neighbour_distances(), right)
    assert path.read_bytes() == whole
    extraction._keep(path, {"distances": right[:8]}, 8)
    assert np.array_equal(reference_table(Sums(), Noise(9), cache_dir=tmp_path).neighbour_distances(), right)


def test_the_neighbours_of_a_part_are_looked_for_in_the_part(tmp_path: Path) -> None:
    table = reference_table(Sums(), Noise(9), cache_dir=tmp_path)
    whole = table.neighbour_distances()
    part = table.subset(np.arange(4)).neighbour_distances()
    assert part.shape == (4, 3)
    assert (part[:, 0] >= whole[:4, 0]).all()


def test_moments_of_a_part_are_not_those_of_the_whole(tmp_path: Path) -> None:
    table = reference_table(Sums(), Noise(9), cache_dir=tmp_path)
    whole = table.moments
    part = table.subset(np.arange(4)).moments
    assert (whole.count, part.count) == (9, 4)
    assert reference_table(Sums(), Noise(9), cache_dir=tmp_path).moments.count == 9


def test_a_disk_that_takes_no_moments_does_not_keep_them_from_being_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(extraction, "save_tensors", full)
    table = reference_table(Sums(), Noise(9), cache_dir=tmp_path)
    assert table.moments.count == 9
    assert sorted(one.name for one in _entry(tmp_path).iterdir()) == ["features.npy", "logits.npy", "manifest.json"]


# ------------------------------------------------------------------------------------------------------- two at a time


def test_of_two_processes_at_once_one_computes_and_both_have_the_same(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        from test_extraction import Noise, Sums, reference_table
        folder, me = Path(sys.argv[2]), sys.argv[3]

        class Slow(Noise):
            def read(self, first, last):
                (folder / f"read by {me}").touch()
                time.sleep(0.15)
                return super().read(first, last)

        (folder / f"ready {me}").touch()
        while len(list(folder.glob("ready *"))) < 2:
            time.sleep(0.01)
        print(reference_table(Sums(), Slow(12), cache_dir=folder / "cache").features().sum())
        """
    )
    arguments = [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)]
    both = [
        subprocess.Popen([*arguments, me], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for me in "ab"
    ]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert len(list(tmp_path.glob("read by *"))) == 1
    assert len(_entries(tmp_path / "cache")) == 1
