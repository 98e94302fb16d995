"""Damaged tars, parquet files and metadata: whatever is in them, nothing but ganzoo's own errors comes out, each one
line. GANZOO_FUZZ_TIMES multiplies the examples, as in tests/test_fuzz.py."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import png
from shard_files import hub_table, parquet_bytes, tar_bytes

from ganzoo.data import open_source
from ganzoo.data.sources.base import SkippedImage
from ganzoo.data.sources.labelling import read_metadata
from ganzoo.errors import GanzooError

TIMES = int(os.environ.get("GANZOO_FUZZ_TIMES", "1"))
PNGS = [png(number) for number in range(6)]
TAR = tar_bytes(
    {
        f"a/{number}.{kind}": data
        for number in range(6)
        for kind, data in (("png", PNGS[number]), ("json", b'{"label": 1}'))
    }
)
PARQUET = {
    codec: parquet_bytes(hub_table(PNGS, list(range(6)), list("abcdef")), row_group_size=4, compression=codec)
    for codec in ("none", "snappy", "zstd")
}
BYTES = st.binary(min_size=1, max_size=16) | st.sampled_from(
    [b"\0" * 64, b"\xff" * 12, b"0" * 12, b"7" * 12, b"x" * 512]
)


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Some bytes with others in one to three places, or cut."""
    edit = st.tuples(st.integers(0, len(whole)), st.integers(0, 600), BYTES)

    def apply(edits: list[tuple[int, int, bytes]], cut: int | None) -> bytes:
        data = whole
        for place, over, new in edits:
            data = data[:place] + new + data[place + (len(new) if over > 500 else over) :]
        return data if cut is None else data[:cut]

    return st.builds(apply, st.lists(edit, min_size=1, max_size=3), st.none() | st.integers(0, len(whole)))


def fuzz(examples: int, strategy: st.SearchStrategy[bytes]) -> Callable[[Callable[..., None]], Any]:
    asked = settings(
        max_examples=examples * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    return lambda function: asked(given(strategy)(function))


def is_one_line(error: Exception) -> None:
    assert "\n" not in str(error)
    assert 0 < len(str(error)) < 1000


def read_all(path: Path) -> None:
    """Read everything; only ganzoo's own errors may come out, each one line."""
    try:
        with open_source(path) as source:
            for index in range(min(len(source), 50)):
                try:
                    source.read(index)
                except SkippedImage as reason:
                    is_one_line(reason)
    except GanzooError as error:
        is_one_line(error)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def test_a_damaged_tar(place: Path) -> None:
    @fuzz(600, damaged(TAR))
    def check(data: bytes) -> None:
        (place / "a.tar").write_bytes(data)
        read_all(place / "a.tar")

    check()


@pytest.mark.parametrize("codec", PARQUET)
def test_a_damaged_parquet_file(place: Path, codec: str) -> None:
    @fuzz(250, damaged(PARQUET[codec]))
    def check(data: bytes) -> None:
        (place / "a.parquet").write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyarrow's, of odd time zones and the like in the metadata
            read_all(place / "a.parquet")

    check()


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("metadata.jsonl", b'{"file_name": "0.png", "label": "cat"}\n{"file_name": "1.png", "label": 3}\n'),
        ("metadata.csv", b'file_name,label\r\n0.png,cat\r\n"1.png","a ""dog"""\r\n'),
    ],
)
def test_damaged_metadata(name: str, whole: bytes) -> None:
    @fuzz(300, damaged(whole))
    def check(data: bytes) -> None:
        try:
            labels = read_metadata(name, io.BytesIO(data))
            assert all(isinstance(key, str) for key in labels)
        except GanzooError as error:
            is_one_line(error)

    check()
