"""Files that are whole or absent: atomic writes of files and folders, locks that die with their process, and where
caches live.

What is written goes to a temporary sibling first, is flushed to the disk, and takes its name by a rename, which the
file system does at once or not at all. So a crash, a kill or a full disk never leaves something that could be taken for
the finished thing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ganzoo.reading import open_ordinary

_TEMPORARY_SUFFIX = ".tmp"
_LOCK_POLL_SECONDS = 0.1


def cache_home() -> Path:
    """Return the folder of ganzoo's caches: `GANZOO_HOME`, else `$XDG_CACHE_HOME/ganzoo`, else `~/.cache/ganzoo`.

    It may not exist yet.
    """
    if home := os.environ.get("GANZOO_HOME"):
        return Path(home).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ganzoo"


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal; the file is read in blocks.

    Args:
        path: an ordinary file.

    Raises:
        OSError: it is not there, a folder, a pipe or a device, or may not be read.
    """
    with open_ordinary(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that it holds all of `data` or is what it was before; missing parent folders are made.

    Args:
        path: the file; replaced where it exists.
        data: its bytes.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    with atomic_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Give a temporary file to write, which becomes `path` when the block ends well, and vanishes when it raises.

    A process that is killed leaves a hidden sibling behind, which `remove_leftovers(path)` removes.

    Args:
        path: the file to be; replaced where it exists, missing parent folders are made.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(target)
    try:
        with temporary.open("wb") as file:
            yield file
            flush_to_disk(file)
        temporary.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(target)  # the name that the caller knows
        raise
    _sync_folder(target.parent)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Give an empty temporary folder that becomes `path` when the block ends well, and vanishes when it raises.

    Every file in it is flushed to the disk before the rename. A process that is killed leaves a hidden sibling behind,
    which `remove_leftovers(path)` removes.

    Args:
        path: the folder to be; missing parents are made.
        replace: whether a folder that is there already is replaced. The old one is moved aside, then removed.

    Raises:
        FileExistsError: `path` exists and `replace` is false (checked before and after the block).
        OSError: the folder cannot be written.
    """
    target = Path(path)
    if target.exists() and not replace:
        raise FileExistsError(f"{target} exists already")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(target)
    temporary.mkdir()
    aside: Path | None = None
    try:
        yield temporary
        _sync_tree(temporary)
        if replace and target.exists():
            aside = temporary_sibling(target)
            target.rename(aside)
        try:
            temporary.rename(target)
        except OSError as error:
            if aside is not None:
                aside.rename(target)
            if target.exists():
                raise FileExistsError(f"{target} exists already") from error
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(target.parent)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def temporary_sibling(path: Path) -> Path:
    """Return an unused hidden name beside `path`: on the same file system, so that a rename is one operation."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}{_TEMPORARY_SUFFIX}")


def leftovers(path: str | os.PathLike[str]) -> list[Path]:
    """Return the temporary siblings of `path` that killed writers (or writers at work) left."""
    target = Path(path)
    if not target.parent.is_dir():
        return []
    start = f".{target.name}."
    return sorted(
        one
        for one in target.parent.iterdir()
        if one.name.startswith(start)
        and one.name.endswith(_TEMPORARY_SUFFIX)
        and len(one.name) == len(start) + 12 + len(_TEMPORARY_SUFFIX)
    )


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what killed writers of `path` left beside it.

    The caller makes sure that no other process is writing it now.
    """
    for one in leftovers(path):
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one, ignore_errors=True)
        else:
            one.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file `path` for the block; the operating system frees it when the process ends, however it ends.

    Args:
        path: the lock file; made where it is missing, and left there.
        wait: whether to wait while another process holds it.

    Yields:
        Whether the lock is held: false where another process holds it (and `wait` is false), or where the file system
            has no locks.
    """
    lock = Path(path)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+b") as file:
        held = _try_lock(file)
        while held is False and wait:
            time.sleep(_LOCK_POLL_SECONDS)
            held = _try_lock(file)
        try:
            yield bool(held)
        finally:
            if held:
                _unlock(file)


def flush_to_disk(file: IO[bytes]) -> None:
    """Flush an open file through to the disk."""
    file.flush()
    os.fsync(file.fileno())


def _sync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            with Path(root, name).open("r+b") as file:
                os.fsync(file.fileno())
        _sync_folder(Path(root))


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse to; the rename itself has happened
        pass
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool | None:
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool | None:
        """Return whether the lock was taken; None where the file system has no locks."""
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)
