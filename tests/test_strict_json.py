"""JSON read strictly: what Python's reader lets through, and what would break later, is refused in one line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from ganzoo.strict_json import parse_json, read_json


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -3, 1 << 64, 0.1, -1e308, "", "ä → \U0001f600", [], {}, {"a": [1, {"b": None}], "": 0.5}, "\x7f"],
)
def test_what_is_json_is_read_as_python_reads_it(value: object) -> None:
    for content in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=2)):
        assert parse_json(content.encode()) == value
        assert parse_json(b"\xef\xbb\xbf" + content.encode()) == value


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not JSON (line 1, column 1: Expecting value)"),
        (b"{", "it is not JSON (line 1, column 2: "),
        (b"{} {}", "it is not JSON (line 1, column 4: Extra data)"),
        (b"'a'", "it is not JSON"),
        (b'"\xff"', "it is not UTF-8 text (byte 1)"),
        (b"\xff\xfe{\0}\0", "it is not UTF-8 text (byte 0)"),
        (b'{"a": NaN}', "it holds NaN, which is no number"),
        (b"[-Infinity]", "it holds -Infinity, which is no number"),
        (b"[1e999]", "its number '1e999' is too large"),
        (b"[" + b"9" * 5000 + b"]", "its number '" + "9" * 40 + "...' is too large"),
        (b"[18446744073709551617]", "its number '18446744073709551617' is too large"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "it holds the key 'c' twice"),
        (b'"\\ud800"', "'\\ud800' is not Unicode text"),
        (b'{"\\udfff": 1}', "'\\udfff' is not Unicode text"),
        (b"[" * 34 + b"]" * 34, "it is nested too deep"),
        (b"[" * 99_999, "it is nested too deep"),
        (b'{"a":' * 99_999, "it is nested too deep"),
    ],
    ids=range(17),
)
def test_what_is_no_json_or_cannot_be_held_is_refused_in_one_line(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]{1,200}$") as error:
        parse_json(content)
    assert type(error.value) is ValueError
    assert str(error.value).startswith(reason)


def test_thirty_two_levels_are_not_too_deep() -> None:
    assert parse_json(b"[" * 33 + b"]" * 33) is not None


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[" + " " * 2046 + "]")
    assert read_json(path, 2048) == []
    with pytest.raises(ValueError, match=r"^it is larger than 1 KiB$"):
        read_json(path, 1024)


def test_what_is_no_ordinary_file_is_an_error_of_the_operating_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none", 99)
    with pytest.raises(OSError, match="it is a folder, no ordinary file"):
        read_json(tmp_path, 99)
    with pytest.raises(OSError, match="embedded null byte"):
        read_json(tmp_path / "\0", 99)
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match="it is a named pipe, no ordinary file"):
            read_json(tmp_path / "pipe", 99)
