"""Parquet files of images: read in any order by any number of threads, never held at once; broken ones are one line."""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from image_files import noise, png, write_images
from shard_files import hub_table, parquet_bytes, write_parquet

from ganzoo.data import DataRequest, open_pack, open_source
from ganzoo.data.sources import parquet
from ganzoo.data.sources.base import SkippedImage
from ganzoo.data.sources.parquet import ParquetSource
from ganzoo.errors import DataError, MissingDependencyError

RGB8 = DataRequest(8)
PNGS = [png(number) for number in range(100)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A hundred images in row groups of 30."""
    return write_parquet(tmp_path / "a.parquet", hub_table(PNGS), row_group_size=30)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the row groups that were begun to be read, in order."""
    begun: list[int] = []
    original = parquet._images

    def counting(file: Any, group: int, *rest: Any) -> Any:
        begun.append(group)
        return original(file, group, *rest)

    monkeypatch.setattr(parquet, "_images", counting)
    return begun


def test_images_labels_and_names_of_classes_are_those_of_the_file(tmp_path: Path) -> None:
    labels = [number % 3 for number in range(20)]
    table = hub_table(PNGS[:20], labels, ["cat", "dog", "owl"])
    with open_pack(write_parquet(tmp_path / "a.parquet", table), DataRequest(8, labels=True)) as pack:
        assert pack.classes == ("cat", "dog", "owl")
        assert pack.labels is not None
        assert pack.labels.tolist() == labels
        for number in range(20):
            assert np.array_equal(pack.image(number), noise(8, 8, 3, seed=number))


def test_every_image_is_read_in_any_order(file: Path) -> None:
    with open_source(file) as source:
        order = [*range(100), *reversed(range(100)), *random.Random(0).choices(range(100), k=200)]
        assert [source.read(index).image for index in order] == [PNGS[index] for index in order]
        assert source.name(75) == "a.parquet row 15 of group 2"


def test_reading_in_order_reads_every_row_group_once(file: Path, opened: list[int]) -> None:
    with open_source(file) as source:
        for index in range(100):
            source.read(index)
    assert opened == [0, 1, 2, 3]


def test_threads_that_read_side_by_side_get_their_own_images(file: Path, opened: list[int]) -> None:
    with open_source(file) as source, ThreadPoolExecutor(8) as pool:
        assert [one.image for one in pool.map(source.read, range(100))] == PNGS
    assert sorted(opened) == [0, 1, 2, 3]


def test_what_is_kept_is_bounded_and_what_was_dropped_is_read_again(
    file: Path, opened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 2)
    monkeypatch.setattr(parquet, "_KEPT_BYTES", 5 * len(PNGS[0]))
    with open_source(file) as source:
        assert isinstance(source, ParquetSource)
        for index in (*range(30), 0, *range(100)):
            assert source.read(index).image == PNGS[index]
            assert len(source._kept) <= parquet._LEAST_KEPT
            assert len(source._cursors) <= parquet._CURSORS
    assert opened.count(0) > 1


_READ_ALL = """
import sys
import pyarrow.parquet
from ganzoo.data import open_source
from ganzoo.data.sources import parquet
parquet._KEPT_BYTES = 16 << 20
def peak(): return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
before = peak()
with open_source(sys.argv[1]) as source:
    assert all(len(source.read(index).image) == 1 << 20 for index in range(len(source)))
print(len(source), (peak() - before) >> 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of a process's memory from /proc")
def test_a_row_group_is_never_held_at_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pa.table({"image": [rng.bytes(1 << 20) for _ in range(128)]})
    path = write_parquet(tmp_path / "a.parquet", table, use_dictionary=False, compression="none", write_batch_size=1)
    done = subprocess.run([sys.executable, "-c", _READ_ALL, str(path)], capture_output=True, text=True, check=True)
    rows, mebibytes = map(int, done.stdout.split())
    assert rows == 128
    assert mebibytes < 80


@pytest.mark.parametrize(
    ("table", "classes", "labels"),
    [
        (pa.table({"jpg": PNGS[:3], "label": ["b", "a", "b"]}), ("a", "b"), [1, 0, 1]),
        (
            pa.table({"img": pa.array(PNGS[:3], pa.large_binary()), "fine_label": [4, 0, 1], "label": [0, 0, 0]}),
            (),
            [4, 0, 1],
        ),
        (pa.table({"PNG": PNGS[:3], "other": [1, 2, 3]}), (), None),
        (hub_table(PNGS[:3], [-1, -1, -1], ["a", "b"]), (), None),
        (hub_table(PNGS[:3], [0, None, 1], ["a", "b"]), (), None),
        (hub_table(PNGS[:3], [0, 1, 1], None), (), [0, 1, 1]),
    ],
    ids=["text", "fine and coarse", "none", "a part without labels", "a missing label", "numbers alone"],
)
def test_labels_are_told_by_the_column_that_is_called_so(
    tmp_path: Path, table: pa.Table, classes: tuple[str, ...], labels: list[int] | None
) -> None:
    with open_source(write_parquet(tmp_path / "a.parquet", table)) as source:
        assert source.classes == classes
        assert (None if source.labels is None else source.labels.tolist()) == labels
        assert source.read(1).image == PNGS[1]
        assert source.read(1).label == (None if labels is None else labels[1])


def test_the_column_that_the_hub_marks_as_images_wins_over_others(tmp_path: Path) -> None:
    table = hub_table(PNGS[:2]).append_column("jpg", pa.array([b"other", b"bytes"]))
    with open_source(write_parquet(tmp_path / "a.parquet", table)) as source:
        assert source.read(0).image == PNGS[0]


def test_a_row_without_bytes_is_left_out_with_the_reason(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", hub_table([PNGS[0], None, PNGS[2]], [0, 1, 2], ["a", "b", "c"]))
    with open_source(path) as source, pytest.raises(SkippedImage, match="no image's bytes"):
        source.read(1)
    with open_pack(path, RGB8) as pack:
        assert pack.manifest.skipped_examples == (("a.parquet row 1 of group 0", "the row holds no image's bytes"),)
        assert pack.labels is not None
        assert pack.labels.tolist() == [0, 2]


def test_a_folder_of_parquet_is_read_in_natural_order_its_training_split_alone(tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    for number in (10, 9):
        write_parquet(folder / "data" / f"train-{number}.parquet", hub_table(PNGS[number : number + 1]))
    write_parquet(folder / "data" / "test-0.parquet", hub_table(PNGS[50:51]))
    (folder / "README.md").write_text("A data set.")
    write_images(folder, "look.png")
    with open_source(folder) as source:
        assert [source.read(index).image for index in range(len(source))] == [PNGS[9], PNGS[10]]
        assert source.description == "parquet 'clone (train)'"
    with open_source(str(folder / "data" / "{test-0,train-9}.parquet")) as source:
        assert [source.read(index).image for index in range(len(source))] == [PNGS[50], PNGS[9]]


def test_a_folder_of_more_images_than_parquet_is_a_folder_of_images(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", *(f"{number}.png" for number in range(30)))
    write_parquet(folder / "captions.parquet", pa.table({"text": ["a", "b"]}))
    assert len(open_source(folder)) == 30


def test_the_fingerprint_changes_with_the_content_and_not_with_the_place(tmp_path: Path) -> None:
    paths = [
        write_parquet(tmp_path / name, hub_table(PNGS[first : first + 3]))
        for name, first in (("a.parquet", 0), ("b/c.parquet", 0), ("d.parquet", 1))
    ]
    one, same, other = (open_source(path).fingerprint() for path in paths)
    assert one == same != other


def broken(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "broken.parquet"
    path.write_bytes(data)
    return path


def read_all(path: Path) -> None:
    with open_source(path) as source:
        for index in range(len(source)):
            source.read(index)


WHOLE = parquet_bytes(hub_table(PNGS, list(range(100))), row_group_size=30)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PAR1",
        b"no parquet at all" * 9,
        WHOLE[:-9],
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:600] + bytes(900) + WHOLE[1500:],
    ],
    ids=["empty", "magic", "text", "cut", "half", "hole"],
)
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match=r"'broken\.parquet' cannot be read") as caught:
        read_all(broken(tmp_path, data))
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_a_file_without_images_says_what_it_has(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", pa.table({"text": ["a"], "n": [1]}))
    with pytest.raises(DataError, match=r"no column of images; it has text \(string\), n \(int64\)"):
        open_source(path)
    with pytest.raises(DataError, match="has no rows"):
        open_source(write_parquet(tmp_path / "b.parquet", hub_table(PNGS[:1]).slice(0, 0)))


def test_shards_with_other_columns_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "s" / "0.parquet", hub_table(PNGS[:1]))
    write_parquet(tmp_path / "s" / "1.parquet", pa.table({"img": PNGS[1:2]}))
    with pytest.raises(DataError, match=r"'1\.parquet' has no column 'image'"):
        open_source(tmp_path / "s")


def test_more_rows_than_bytes_are_refused(tmp_path: Path) -> None:
    """A column of one value repeated takes next to nothing: no file of so many images is real."""
    table = pa.table({"image": pa.array([None] * 500_000, pa.binary())})
    with pytest.raises(DataError, match="declares 500,000 rows in"):
        open_source(write_parquet(tmp_path / "a.parquet", table))


def test_without_pyarrow_the_remedy_is_its_extra(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ganzoo\[parquet\]'"):
        open_source(file)
