"""Labels from where they are told beside images."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from image_files import write_images

from ganzoo.data import DataRequest, open_pack, open_source
from ganzoo.data.sources.labelling import number_labels, read_metadata
from ganzoo.errors import DataError


@pytest.mark.parametrize(
    ("values", "classes", "labels"),
    [
        ([2, 0, 1], (), [2, 0, 1]),
        (["2", "0", 10], (), [2, 0, 10]),
        (["dog", "cat", "dog"], ("cat", "dog"), [1, 0, 1]),
        (["9a", "10a"], ("9a", "10a"), [0, 1]),
        (["cat", 3], ("3", "cat"), [1, 0]),
    ],
)
def test_labels_become_numbers_of_classes(values: list[Any], classes: tuple[str, ...], labels: list[int]) -> None:
    numbered = number_labels(values)
    assert numbered is not None
    assert (numbered[0], numbered[1].tolist(), numbered[1].dtype) == (classes, labels, "int64")


@pytest.mark.parametrize("values", [[], [None, 1], [-1, 1], [1 << 40], ["9999999999"]])
def test_what_is_no_number_of_a_class_makes_images_unlabelled(values: list[Any]) -> None:
    assert number_labels(values) is None


def write_metadata(folder: Path, labels: dict[str, Any]) -> Path:
    lines = [json.dumps({"caption": "x", "file_name": name, "label": label}) for name, label in labels.items()]
    (folder / "metadata.jsonl").write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    return folder


def test_metadata_win_over_the_folders(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "pets", "x/0.png", "y/1.png", "y/2.png")
    before = open_source(folder)
    assert before.classes == ("x", "y")
    write_metadata(folder, {"x/0.png": "owl", "y/1.png": "cat", "./y/2.png": "owl"})
    with open_pack(folder, DataRequest(8, labels=True)) as pack:
        assert pack.classes == ("cat", "owl")
        assert pack.labels is not None
        assert pack.labels.tolist() == [1, 0, 1]
    after = open_source(folder).fingerprint()
    assert after != before.fingerprint()
    write_metadata(folder, {"x/0.png": "cat", "y/1.png": "cat", "./y/2.png": "owl"})
    assert open_source(folder).fingerprint() != after


def test_metadata_of_some_images_alone_label_none(tmp_path: Path) -> None:
    folder = write_metadata(write_images(tmp_path / "pets", "0.png", "1.png"), {"0.png": 3})
    assert not open_source(folder).labelled


def test_metadata_in_the_folders_below_are_relative_to_them(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "pets", "train/0.png", "train/1.png")
    (folder / "train" / "metadata.csv").write_text('file_name,class\r\n1.png,"a, b"\r\n0.png,c\r\n')
    source = open_source(folder)
    assert source.classes == ("a, b", "c")
    assert source.labels is not None
    assert source.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("metadata.jsonl", b"{", "cannot be read"),
        ("metadata.jsonl", b"[1]", "Entry 1 of .* has no file_name"),
        ("metadata.jsonl", b'{"file_name": "a"}\n{"file_name": 1}', "Entry 2"),
        ("metadata.jsonl", b"\xff\xfe{}", "cannot be read"),
        ("metadata.jsonl", b"[" * 100_000, "cannot be read"),
        ("metadata.jsonl", b'"' + b"x" * (1 << 21), "a line of over 1 MiB"),
        ("metadata.csv", b"label\n3\n", "Entry 1"),
        ("metadata.csv", b'file_name\n"' + b"x" * 200_000, "cannot be read"),
    ],
)
def test_broken_metadata_are_one_line(name: str, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_metadata(name, io.BytesIO(data))
    assert "\n" not in str(caught.value)
