"""Where data are looked for and put, and how they are fetched: whole and checked, or not at all."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ganzoo.errors import MissingDataError
from ganzoo.files import cache_home, flush_to_disk, temporary_sibling

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 30


def data_folders() -> list[Path]:
    """Return the folders where data are looked for: `$GANZOO_DATA`, the current folder, `./data`, `$GANZOO_HOME/data`.

    As far as there.
    """
    named = [Path(one).expanduser() for one in os.environ.get("GANZOO_DATA", "").split(os.pathsep) if one]
    folders = [*named, Path(), Path("data"), download_folder()]
    return [folder for folder in folders if folder.is_dir()]


def download_folder() -> Path:
    """Return the folder into which data are fetched; it may not exist yet."""
    return cache_home() / "data"


def offline() -> bool:
    """Return whether nothing may be fetched (`GANZOO_OFFLINE`, default 0)."""
    return os.environ.get("GANZOO_OFFLINE", "0") not in ("", "0")


@dataclass(frozen=True)
class RemoteFile:
    """A file to be fetched.

    Args:
        name: under which it is kept.
        size: the most bytes it may have.
        digest: "md5:…" or "sha256:…" in hexadecimal; of the unpacked bytes where `unpacked`.
        unpacked: whether the digest and nothing else is of what the gzip holds: mirrors compress differently.
    """

    name: str
    size: int
    digest: str
    unpacked: bool = False


def fetch(file: RemoteFile, mirrors: Sequence[str], folder: Path) -> Path:
    """Fetch a file from the first mirror that has it whole, and return its path; one that is there already is returned
    at once.

    Args:
        file: what is fetched.
        mirrors: addresses of folders, with a slash at the end.
        folder: where it is kept.

    Raises:
        MissingDataError: nothing may be fetched, or no mirror gives it. No partial file stays.
    """
    target = folder / file.name
    if target.is_file():
        return target
    if offline():
        raise MissingDataError(f"{file.name} is not on this machine, and GANZOO_OFFLINE=1 forbids fetching it.")
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for mirror in mirrors:
        partial = temporary_sibling(target)
        try:
            _download(mirror + file.name, partial, file.size)
            _check(partial, file)
            partial.replace(target)
        except (OSError, ValueError, EOFError, zlib.error) as error:
            failures.append(f"{mirror}: {getattr(error, 'reason', None) or error}")
        else:
            return target
        finally:
            partial.unlink(missing_ok=True)
    raise MissingDataError(f"{file.name} cannot be fetched ({'; '.join(failures)}).")


def _download(address: str, path: Path, most: int) -> None:
    request = urllib.request.Request(address, headers={"User-Agent": "ganzoo"})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        raise
    with contextlib.closing(response), path.open("wb") as file:
        received = 0
        while block := response.read(_BLOCK):
            received += len(block)
            if received > most:
                raise ValueError(f"more than the {most:,} bytes expected")
            file.write(block)
        flush_to_disk(file)


def _check(path: Path, file: RemoteFile) -> None:
    kind, _, expected = file.digest.partition(":")
    digest = hashlib.new(kind, usedforsecurity=False)
    with gzip.open(path) if file.unpacked else path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise ValueError(f"its {kind} is {digest.hexdigest()}, not {expected}")
