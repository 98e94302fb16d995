"""Fetching files: whole and checked, or not at all.

Several addresses may hold a file; they are tried in order, and what went wrong at each is told in one line at the end.
Bytes go into a hidden file. Too many of them stop the transfer at once, and the file takes its name, by a rename, only
after what was written has been read again and has the right digest. Of processes that want the same file at once, one
fetches it and the others find it there.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit

from ganzoo.errors import DownloadError
from ganzoo.files import atomic_file, leftovers, locked, remove_leftovers

SCHEMES = ("https", "http", "file")
TIMEOUT_SECONDS = 30.0

Progress = Callable[[int, int], None]
"""Is told the bytes that have come and how many there will be."""

_BLOCK = 1 << 20
_SLOWEST = 10_000  # bytes a second, on the whole: a server that drips is given up
_OFFLINE_VARIABLES = ("GANZOO_OFFLINE", "HF_HUB_OFFLINE")
_NO = ("", "0", "false", "no", "off")


def offline() -> bool:
    """Return whether nothing may be fetched: `GANZOO_OFFLINE` or `HF_HUB_OFFLINE` is set to anything but 0, false, no
    or off."""
    return any(os.environ.get(name, "").strip().lower() not in _NO for name in _OFFLINE_VARIABLES)


def file_address(folder: str, name: str) -> str:
    """Return the address of a file in a folder that is named by its address, with or without a slash at the end."""
    return f"{folder.rstrip('/')}/{quote(name)}"


def is_address(text: str) -> bool:
    """Return whether a text is an address from which something may be fetched: https, http or file."""
    if not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
    except ValueError:  # brackets that hold no IPv6 address
        return False
    return parts.scheme in SCHEMES and bool(parts.path if parts.scheme == "file" else parts.hostname)


@dataclass(frozen=True)
class Expected:
    """What a file has to be.

    Args:
        bytes: its size.
        digest: "sha256:…" or "md5:…", in hexadecimal.
        exact: whether it has just this size, or at most this.
        unpacked: whether the digest is of what the gzip holds: mirrors compress differently.
    """

    bytes: int
    digest: str
    exact: bool = True
    unpacked: bool = False


def fetch_file(
    urls: Sequence[str],
    target: Path,
    *,
    sha256: str,
    bytes: int,
    force: bool = False,
    progress: Progress | None = None,
    lock: Path | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> Path:
    """Fetch a file from the first address that has it, and return `target`; see `fetch_expected`.

    Args:
        urls: its addresses, in order.
        target: where it is put.
        sha256: of its bytes, in hexadecimal.
        bytes: its size.
        force: whether it is fetched although it is there.
        progress: is told the bytes that have come and the size.
        lock: the lock file; by default a hidden sibling of `target`.
        timeout: seconds to wait for a server that says nothing.

    Raises:
        DownloadError: see `fetch_expected`.
    """
    expected = Expected(bytes, f"sha256:{sha256}")
    return fetch_expected(urls, target, expected, force=force, progress=progress, lock=lock, timeout=timeout)


def fetch_expected(
    urls: Sequence[str],
    target: Path,
    expected: Expected,
    *,
    there: Callable[[Path], bool] | None = None,
    force: bool = False,
    progress: Progress | None = None,
    lock: Path | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> Path:
    """Fetch a file from the first address that has it whole, and return `target`; one that is there is not fetched.

    Args:
        urls: its addresses, in order.
        target: where it is put; missing parent folders are made.
        expected: what it has to be.
        there: whether a file that exists is the one that is wanted; by default `is_as_expected`.
        force: whether it is fetched although it is there.
        progress: is told the bytes that have come and the size.
        lock: the lock file; by default a hidden sibling of `target`, which stays.
        timeout: seconds to wait for a server that says nothing.

    Raises:
        DownloadError: nothing may be fetched, no address gives it, or it cannot be written. No partial file stays.
    """
    is_there = there or (lambda path: is_as_expected(path, expected))
    if not force and is_there(target):
        return target
    if offline():
        named = " or ".join(_OFFLINE_VARIABLES)
        raise DownloadError(
            f"{target.name} is not on this machine, and nothing may be fetched: {named} is set.",
            "Unset it, or put the file there from elsewhere.",
        )
    try:
        with locked(lock or target.with_name(f".{target.name}.lock")) as held:
            if not force and is_there(target):  # another process has fetched it meanwhile
                return target
            if held and leftovers(target):
                remove_leftovers(target)
            _fetch(urls, target, expected, progress, timeout)
    except OSError as error:
        raise DownloadError(
            f"{target} cannot be written: {error.strerror or error}.",
            "Free some space, or choose another folder: GANZOO_HOME names that of the caches.",
        ) from error
    return target


def is_as_expected(path: Path, expected: Expected) -> bool:
    """Return whether a file is there with the expected size and digest."""
    try:
        size = path.stat().st_size
        if not path.is_file() or size > expected.bytes or (expected.exact and size != expected.bytes):
            return False
        return _wrong_digest(path, expected) is None
    except OSError:
        return False


def _fetch(urls: Sequence[str], target: Path, expected: Expected, progress: Progress | None, timeout: float) -> None:
    from ganzoo.transport import RefusedError  # see there why it is imported only now

    failures = []
    for url in urls:
        try:
            with atomic_file(target) as file:
                _stream(url, file, expected, progress, timeout)
            return
        except RefusedError as error:
            failures.append(f"{url}: {error}")
    told = "; ".join(failures) or "no address is known"
    raise DownloadError(f"{target.name} cannot be fetched ({told}).", "Try again later, or look at the network.")


def _stream(url: str, file: IO[bytes], expected: Expected, progress: Progress | None, timeout: float) -> None:
    """Write what an address holds into a file.

    Raises:
        RefusedError: it cannot be had, or is not what was expected.
        OSError: the file cannot be written.
    """
    from ganzoo.transport import RefusedError, blocks, opened

    if not is_address(url):
        raise RefusedError(f"it is no address that begins with {', '.join(SCHEMES)}")
    received = 0
    with opened(url, timeout) as response:
        announced = response.headers.get("Content-Length") or ""
        if expected.exact and announced.isdecimal() and int(announced) != expected.bytes:
            raise RefusedError(f"it has {int(announced):,} bytes, not {expected.bytes:,}")
        for block in blocks(response, time.monotonic() + timeout + expected.bytes / _SLOWEST):
            received += len(block)
            if received > expected.bytes:
                raise RefusedError(f"it holds more than the {expected.bytes:,} bytes expected")
            file.write(block)
            if progress is not None:
                progress(received, expected.bytes)
    if expected.exact and received != expected.bytes:
        raise RefusedError(f"it ended after {received:,} of {expected.bytes:,} bytes")
    file.flush()
    if wrong := _wrong_digest(Path(file.name), expected):
        raise RefusedError(wrong)


def _wrong_digest(path: Path, expected: Expected) -> str | None:
    """Return what is wrong with the bytes of a file on the disk, or None.

    Raises:
        OSError: it cannot be read.
    """
    kind, _, digest = expected.digest.partition(":")
    if not expected.unpacked:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    elif (inside := _digest_of_unpacked(path, kind)) is None:
        return "it is a damaged gzip"
    else:
        found = inside
    return None if found == digest else f"its {kind} is {found}, not {digest}"


def _digest_of_unpacked(path: Path, kind: str) -> str | None:
    """Return the digest of what a gzip holds, or None where it is damaged."""
    import gzip
    import zlib

    digest = hashlib.new(kind, usedforsecurity=False)
    try:
        with gzip.open(path) as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return None
    return digest.hexdigest()
