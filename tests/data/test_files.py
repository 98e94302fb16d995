"""Files and folders that are whole or absent."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from ganzoo.files import (
    atomic_folder,
    cache_home,
    leftovers,
    locked,
    remove_leftovers,
    sha256_of,
    temporary_sibling,
    write_atomically,
)


def test_the_cache_home_is_the_first_that_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GANZOO_HOME", str(tmp_path / "own"))
    assert cache_home() == tmp_path / "own"
    monkeypatch.delenv("GANZOO_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_home() == tmp_path / "xdg" / "ganzoo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert cache_home() == tmp_path / ".cache" / "ganzoo"


def test_the_hash_is_of_all_bytes(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "a").write_bytes(data)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"

    def fail(_: int) -> None:
        raise OSError("disk")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk"):
        write_atomically(path, b"three")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with atomic_folder(path) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("a")
        assert not path.exists()
    assert (path / "sub" / "a").read_text() == "a"
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "other") as folder:
        (folder / "nothing").read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_exists_is_kept_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with atomic_folder(path) as folder:
        (folder / "old").write_text("old")
    with pytest.raises(FileExistsError), atomic_folder(path):
        pass
    with atomic_folder(path, replace=True) as folder:
        (folder / "new").write_text("new")
    assert [one.name for one in path.iterdir()] == ["new"]
    with pytest.raises(FileExistsError), atomic_folder(tmp_path / "race"):
        write_atomically(tmp_path / "race" / "winner", b"was first")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "race"]


def test_leftovers_are_those_of_one_name_alone(tmp_path: Path) -> None:
    mine, other = temporary_sibling(tmp_path / "a"), temporary_sibling(tmp_path / "a.b")
    mine.mkdir()
    other.mkdir()
    (tmp_path / "a").mkdir()
    assert leftovers(tmp_path / "a") == [mine]
    remove_leftovers(tmp_path / "a")
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([other.name, "a"])


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "lock") as first:
        assert first
        with locked(tmp_path / "lock", wait=False) as second:
            assert not second
    with locked(tmp_path / "lock", wait=False) as third:
        assert third
