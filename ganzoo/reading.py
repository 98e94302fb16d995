"""Opening files that others made: ordinary ones only, never more of them than asked for, and what they really are.

A named pipe would keep a command waiting for ever, a device would never end, and what was downloaded in place of a file
(a page, a pointer, an error message) deserves a better answer than "damaged".
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

START_BYTES = 1024
"""How much of a file's beginning `what_it_is` wants to see."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_LEGACY_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # the pickled number that torch.save began with until 1.6
_CONVERT = "convert"
_BEGINNINGS: tuple[tuple[bytes, str, str | None], ...] = (
    (b"PK\x03\x04", "a zip archive, as torch.save makes them", _CONVERT),
    (_LEGACY_TORCH, "a pickle of torch.save's", _CONVERT),
    (b"version https://git-lfs", "a Git LFS pointer: only the address of the file", "`git lfs pull` fetches it."),
    (b"GGUF", "a GGUF file", None),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", None),
    (b"\x93NUMPY", "a NumPy array", None),
    (b"\x1f\x8b", "a gzip archive", "Unpack it first."),
    (b"\x89PNG", "a PNG image", None),
    (b"\xff\xd8\xff", "a JPEG image", None),
)
_HTML = (b"<!doctype html", b"<html", b"<?xml", b"<head", b"<!--")


def open_ordinary(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Return a file, open for reading; anything but an ordinary file is refused and not even opened.

    Raises:
        OSError: it is not there, a folder, a pipe or a device, or may not be read.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (the path of the message is the one that was given)
    except ValueError as error:  # a NUL in it
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from error
    if not stat.S_ISREG(mode):
        kind = next((name for is_one, name in _KINDS if is_one(mode)), "no file")
        raise OSError(errno.EINVAL, f"it is {kind}, no ordinary file", os.fspath(path))
    return Path(path).open("rb")


def read_whole(path: str | os.PathLike[str], largest: int) -> bytes:
    """Return a file's bytes.

    Args:
        path: an ordinary file.
        largest: bytes that it may have; one more is read at most.

    Raises:
        ValueError: it is larger.
        OSError: as `open_ordinary`.
    """
    with open_ordinary(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it is larger than {largest >> 10:,} KiB")
    return content


def what_it_is(start: bytes, path: str | os.PathLike[str]) -> tuple[str, str | None] | None:
    """Return what a file that is no safetensors file is, and what to do about it; None where that cannot be told.

    Args:
        start: its first `START_BYTES`.
        path: for the remedy.

    Returns:
        For example "a web page (HTML)", and a sentence.
    """
    if not start:
        return "empty", "Copy or download it again."
    if not start.strip(b"\0"):
        return "nothing but zeros at its beginning, as a broken download is", "Copy or download it again."
    for beginning, name, remedy in _BEGINNINGS:
        if start.startswith(beginning):
            return name, _convert(path) if remedy is _CONVERT else remedy
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:20].lower().startswith(_HTML):
        return "a web page (HTML)", 'Download the file itself: its address often holds "raw" or "resolve".'
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle", _convert(path)
    if text[:1] in (b"{", b"["):
        if b'"weight_map"' in start:
            return "an index of several files (sharded weights)", "Merge the files into one .safetensors first."
        return "JSON text", "Download the file itself." if b'"error"' in start.lower() else None
    if _is_text(start):
        return f"text ({_first_line(start)!r})", "Download the file itself."
    return None


def _convert(path: str | os.PathLike[str]) -> str:
    return f"`ganzoo convert {os.fspath(path)} MODEL` reads such files."


def _is_text(start: bytes) -> bool:
    """Whether it can be read as UTF-8 without control signs; the last sign may have been cut."""
    text = start.decode("utf-8", errors="ignore")
    return len(text.encode()) > len(start) - 4 and all(sign.isprintable() or sign.isspace() for sign in text)


def _first_line(start: bytes) -> str:
    line = start.decode("utf-8", errors="ignore").strip().partition("\n")[0].strip()
    return line if len(line) <= 40 else line[:37] + "..."
