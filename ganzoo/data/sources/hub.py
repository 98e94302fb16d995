"""`hf:NAME[@REVISION][:PART]`: data sets of the Hugging Face Hub, as parquet files, folders or zips of images, or
WebDataset tars.

Only the files of one split are fetched, into huggingface_hub's own cache (`HF_HOME`), and a data set's own code is
never run. A revision becomes a commit at once; which files that commit has is kept in `$GANZOO_HOME/data/hub`, so that
what was fetched whole can be used without a network, and what was not is never taken for the whole.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

import ganzoo
from ganzoo.data.sources.base import Source, class_labels, digest_of
from ganzoo.data.sources.locations import download_folder, offline
from ganzoo.data.sources.repository import Selection, select_files
from ganzoo.errors import DownloadError, GanzooError
from ganzoo.files import write_atomically
from ganzoo.hub_access import check_dataset_name, endpoint, huggingface_hub, progress_bars
from ganzoo.hub_errors import Asked, in_one_line

_README = "README.md"
_README_LIMIT = 16 << 20
_LISTING_LIMIT = 1 << 30
_MOST_PATTERNS = 200
_SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class _Listing:
    """What a commit holds: its name, and path → bytes of every file."""

    commit: str
    sizes: Mapping[str, int]


def open_hf(argument: str) -> Source:
    """Return a data set of the Hub, fetched where the cache does not hold it.

    Args:
        argument: `org/name`, with `@` and a branch, tag or commit where another than `main` is wanted, and with `:` and
            a split, a config (a subset), or `config/split` where others than the split `train` of the default config
            are: `uoft-cs/cifar10`, `uoft-cs/cifar10:test`, `org/name@v1.0:small/validation`. Without configs in its
            README, a config is a folder of the repository.

    Raises:
        UsageError: no name of a data set, or the Hub shows none of that name, or it has no such part.
        DownloadError: it cannot be fetched, and the cache does not hold it.
        GanzooError: the Hub refuses it (gated, a wrong token), or the disk has no room.
        DataError: it holds no images that can be read.
        MissingDependencyError: huggingface_hub is not installed, or pyarrow for parquet files.
    """
    named, _, wanted = argument.partition(":")
    repo, at, revision = named.partition("@")
    hub = huggingface_hub()
    check_dataset_name(hub, repo, revision if at else None)
    asked = Asked(repo, revision if at else None, endpoint(hub), alone=offline(), dataset=True)
    listing = _listing(hub, asked)
    header = _header(hub, asked, listing)
    selection = select_files(listing.sizes, header, wanted.strip("/"), repo)
    root = _fetch(hub, asked, listing, (*selection.files, *selection.metadata), selection.bytes)
    source = _open(root, selection, repo, listing)
    licence = header.get("license")
    terms = f"licence: {licence}" if isinstance(licence, str) else "see its page for the licence"
    source.notice = f"{repo} on the Hugging Face Hub; {terms}"
    return source


def _open(root: Path, selection: Selection, repo: str, listing: _Listing) -> Source:
    description = f"data set {repo} ({selection.part})"
    chosen = digest_of([*selection.files, *selection.metadata])
    fingerprint = f"hf {repo} {listing.commit} {selection.kind} {chosen}"
    paths = [root / name for name in selection.files]
    if selection.kind == "parquet":
        from ganzoo.data.sources.parquet import ParquetSource

        names = selection.class_names
        return ParquetSource(paths, description=description, fingerprint=fingerprint, class_names=names)
    if selection.kind == "tar":
        from ganzoo.data.sources.webdataset import WebDatasetSource

        return WebDatasetSource(paths, description=description, fingerprint=fingerprint)
    from ganzoo.data.sources.collected import JoinedSource, read_labels
    from ganzoo.data.sources.folder import FilesSource

    if selection.kind == "zip":
        from ganzoo.data.sources.zipped import ZipSource

        return JoinedSource([ZipSource(path) for path in paths], description=description, fingerprint=fingerprint)
    labels = read_labels(root, selection.files, selection.metadata)
    if labels is None and selection.folder_labels:
        labels = class_labels(selection.files)
    return FilesSource(root, selection.files, labels, description=description, fingerprint=fingerprint)


# ----------------------------------------------------------------------------------------------- what there is to have


def _listing(hub: ModuleType, asked: Asked) -> _Listing:
    """Return the commit that was asked for and its files: from the Hub, or as they were when it was asked last where it
    cannot be reached."""
    kept = _kept_listing(asked)
    if asked.alone:
        if kept is None:
            raise _not_here(asked)
        return kept
    if kept is not None and kept.commit == asked.revision:
        return kept
    api = hub.HfApi(asked.endpoint, library_name="ganzoo", library_version=ganzoo.__version__)
    try:
        with in_one_line(asked, hub.errors):
            commit = str(api.dataset_info(asked.repo, revision=asked.revision).sha)
            if kept is not None and kept.commit == commit:
                return kept
            tree = api.list_repo_tree(asked.repo, recursive=True, revision=commit, repo_type="dataset")
            listing = _Listing(
                commit, {one.path: int(one.size) for one in tree if isinstance(one, hub.hf_api.RepoFile)}
            )
    except DownloadError:
        if kept is None:
            raise
        return kept
    _keep_listing(asked, listing)
    return listing


def _listing_file(asked: Asked) -> Path:
    return download_folder() / "hub" / quote(asked.repo, safe="") / f"{quote(asked.revision or 'main', safe='')}.json"


def _keep_listing(asked: Asked, listing: _Listing) -> None:
    path = _listing_file(asked)
    content = {"schema_version": 1, "commit": listing.commit, "files": dict(sorted(listing.sizes.items()))}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(content, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise GanzooError(
            f"What {asked.name} holds cannot be noted in {path.parent}: {error.strerror or error}.",
            "Set GANZOO_HOME to a folder that can be written.",
        ) from error


def _kept_listing(asked: Asked) -> _Listing | None:
    try:
        with _listing_file(asked).open("rb") as file:
            content = json.loads(file.read(_LISTING_LIMIT))
        files, commit = content["files"], content["commit"]
        if content["schema_version"] == 1 and isinstance(commit, str) and isinstance(files, dict):
            return _Listing(commit, {str(name): int(size) for name, size in files.items()})
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    return None


def _header(hub: ModuleType, asked: Asked, listing: _Listing) -> Mapping[str, Any]:
    """Return the table in the README's header, empty where there is none that can be read."""
    if listing.sizes.get(_README, _README_LIMIT + 1) > _README_LIMIT:
        return {}
    root = _fetch(hub, asked, listing, [_README], listing.sizes[_README])
    try:
        header = hub.metadata_load(root / _README)
    except Exception:  # YAML that people write can break its reader at any place, and data can be read without
        return {}
    return header if isinstance(header, dict) else {}


# ------------------------------------------------------------------------------------------------------------ fetching


def _fetch(hub: ModuleType, asked: Asked, listing: _Listing, names: Sequence[str], size: int) -> Path:
    """Return the folder of the cache in which files of a commit lie, fetched where they do not yet.

    Args:
        hub: the package.
        asked: what was asked for.
        listing: the commit.
        names: the files.
        size: bytes of all of them.

    Raises:
        DownloadError: they cannot be fetched.
        GanzooError: the disk has no room.
    """
    if (root := _cached(hub, asked, listing, names)) is not None:
        return root
    if asked.alone:
        raise _not_here(asked)
    _check_room(hub, asked, size)
    with in_one_line(asked, hub.errors):
        root = Path(
            hub.snapshot_download(
                asked.repo,
                repo_type="dataset",
                revision=listing.commit,
                allow_patterns=_patterns(names),
                endpoint=asked.endpoint,
                library_name="ganzoo",
                library_version=ganzoo.__version__,
                tqdm_class=progress_bars(hub),
            )
        )
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise DownloadError(f"{asked.name} did not come whole: {missing[0]!r} is missing.", "Try again.")
    return root


def _cached(hub: ModuleType, asked: Asked, listing: _Listing, names: Sequence[str]) -> Path | None:
    """Return the folder of the cache that holds all of these files whole, or None."""
    found = hub.try_to_load_from_cache(asked.repo, names[0], revision=listing.commit, repo_type="dataset")
    if not isinstance(found, str):
        return None
    root = Path(found[: len(found) - len(names[0])])
    try:
        whole = all((root / name).stat().st_size == listing.sizes[name] for name in names)
    except OSError:
        return None
    return root if whole else None


def _check_room(hub: ModuleType, asked: Asked, size: int) -> None:
    place = Path(hub.constants.HF_HUB_CACHE)
    there = next(one for one in (place, *place.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free
    if free < size + _SPARE_BYTES:
        raise GanzooError(
            f"{asked.name} has {size / 2**30:.2f} GiB, and the disk of {place} has {free / 2**30:.2f} GiB free.",
            "Set HF_HOME to a disk with room.",
        )


def _patterns(names: Sequence[str]) -> list[str]:
    """Return patterns for `snapshot_download`: the names themselves, or, for thousands, their folders and suffixes,
    since every file of a repository is compared with every pattern."""
    if len(names) <= _MOST_PATTERNS:
        return [glob.escape(name) for name in names]
    folders = {(os.path.dirname(name), os.path.splitext(name)[1]) for name in names}  # noqa: PTH120, PTH122 - no paths of this machine
    if len(folders) > _MOST_PATTERNS:
        folders = {(folder.partition("/")[0], suffix) for folder, suffix in folders}
    return sorted(
        f"{glob.escape(folder)}/*{glob.escape(suffix)}" if folder else f"*{suffix}" for folder, suffix in folders
    )


def _not_here(asked: Asked) -> DownloadError:
    return DownloadError(
        f"The cache does not hold the whole of {asked.name}, and nothing may be fetched.",
        "Unset GANZOO_OFFLINE and HF_HUB_OFFLINE, or name the cache that does hold it (HF_HOME); "
        "`--data digits` works at once.",
    )
