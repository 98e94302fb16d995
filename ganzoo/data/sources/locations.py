"""Where data are looked for and put, and how they are fetched: whole and checked, or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ganzoo.errors import DownloadError, MissingDataError
from ganzoo.fetching import Expected, fetch_expected, file_address, offline
from ganzoo.files import cache_home

__all__ = ["RemoteFile", "data_folders", "download_folder", "fetch", "offline"]


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
        MissingDataError: nothing may be fetched, no mirror gives it, or it cannot be written. No partial file stays.
    """
    expected = Expected(file.size, file.digest, exact=False, unpacked=file.unpacked)
    addresses = [file_address(mirror, file.name) for mirror in mirrors]
    lock = folder.with_name(f".{folder.name}.lock")
    try:
        return fetch_expected(addresses, folder / file.name, expected, there=Path.is_file, lock=lock)
    except DownloadError as error:
        raise MissingDataError(error.message, error.remedy) from error
