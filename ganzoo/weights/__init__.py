"""Published weights: the models that ganzoo's package holds, and those that it knows where to fetch.

    manifest.toml     which models there are: their files with sha256 and size, licence, data, metrics, addresses
    NAME/             the model folder of a model that is packaged

A model that is not packaged is fetched once, into `GANZOO_HOME/models/NAME/DIGEST/`; the digest is of all its files, so
that a newer version of a model never mixes with an older one.
"""

from __future__ import annotations

import os
from pathlib import Path

from ganzoo.errors import DownloadError, UnknownNameError, WeightsError
from ganzoo.fetching import (
    Expected,
    Progress,
    fetch_file,
    file_address,
    is_as_expected,
    offline,
)
from ganzoo.files import cache_home
from ganzoo.weights.manifest import Manifest, PublishedFile, PublishedModel, read_manifest

__all__ = [
    "Manifest",
    "PublishedFile",
    "PublishedModel",
    "cached_folder",
    "differences",
    "fetch_published",
    "packaged_folder",
    "published_models",
    "verify",
]

FOLDER = Path(__file__).resolve().parent
"""Where manifest.toml and the packaged models lie."""

_DIGITS_OF_DIGEST = 16


def published_models() -> dict[str, PublishedModel]:
    """Return all models with published weights, by name, in alphabetical order; torch is not imported.

    Raises:
        WeightsError: the manifest is missing or damaged.
    """
    return dict(read_manifest(FOLDER / "manifest.toml").models)


def packaged_folder(name: str) -> Path:
    """Return the folder in ganzoo's package that holds, or would hold, a model."""
    return FOLDER / name


def cached_folder(model: PublishedModel, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder into which a model is fetched; it may not exist yet.

    Args:
        model: of the manifest.
        cache_dir: the folder of fetched models; by default `GANZOO_HOME/models`.
    """
    root = cache_home() / "models" if cache_dir is None else Path(cache_dir).expanduser()
    return root / model.name / model.digest[:_DIGITS_OF_DIGEST]


def fetch_published(
    name: str,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Return the model folder of published weights: the packaged one, else the cached one, else it is fetched.

    A cached file is used only if its size and sha256 are those of the manifest; a damaged one is fetched again.

    Args:
        name: of a published model.
        cache_dir: the folder of fetched models; by default `GANZOO_HOME/models`.
        local_files_only: whether nothing may be fetched; `offline()` forbids it as well.
        force_download: whether it is fetched although it is in the cache. A packaged model is not fetched: its files
            are checked in full instead.
        progress: is told the bytes of the model that are there, and its size.

    Raises:
        UnknownNameError: no model of that name has published weights.
        WeightsError: the packaged files are damaged and there is no address to fetch them from.
        DownloadError: it is not here and may not be or cannot be fetched, or cannot be written.
    """
    known = published_models()
    if name not in known:
        raise UnknownNameError("model with published weights", name, known)
    model = known[name]
    if model.packaged:
        folder = packaged_folder(name)
        wrong = differences(folder, model, thoroughly=force_download)
        if not wrong:
            return folder
        if not model.urls:
            raise WeightsError(f"The packaged weights of {name!r} are damaged: {wrong[0]}.", "Install ganzoo again.")
    folder = cached_folder(model, cache_dir)
    missing = list(model.files) if force_download else _wrong_files(folder, model)
    if not missing:
        return folder
    if local_files_only or offline():
        why = "local_files_only is set" if local_files_only else "GANZOO_OFFLINE or HF_HUB_OFFLINE is set"
        raise DownloadError(
            f"The weights of {name!r} are not in the cache ({folder}), and nothing may be fetched: {why}.",
            "Load it once where the network may be used; the cache can be copied.",
        )
    _fetch_files(model, missing, folder, force_download, progress)
    return folder


def _fetch_files(model: PublishedModel, names: list[str], folder: Path, force: bool, progress: Progress | None) -> None:
    here = model.bytes - sum(model.files[name].bytes for name in names)
    for name in names:
        file = model.files[name]
        fetch_file(
            [file_address(url, name) for url in model.urls],
            folder / name,
            sha256=file.sha256,
            bytes=file.bytes,
            force=force,
            progress=_shifted(progress, here, model.bytes),
            lock=folder.with_name(f".{folder.name}.lock"),
        )
        here += file.bytes


def _shifted(progress: Progress | None, here: int, total: int) -> Progress | None:
    """Return a callback for one file that tells of all: `here` bytes are there already."""
    return None if progress is None else lambda done, _: progress(here + done, total)


def verify(folder: Path, model: PublishedModel) -> None:
    """Check that a folder holds a model's files, with the sizes and sha256 of the manifest, and nothing else.

    Raises:
        WeightsError: a file is missing, unexpected or another; all are named.
    """
    wrong = differences(folder, model)
    if folder.is_dir():
        wrong += [
            f"{path.name} is not in the manifest" for path in sorted(folder.iterdir()) if path.name not in model.files
        ]
    if wrong:
        raise WeightsError(f"{folder} is not {model.name!r} as published: {'; '.join(wrong)}.")


def differences(folder: Path, model: PublishedModel, *, thoroughly: bool = True) -> list[str]:
    """Return what is wrong with a model's files in a folder, one line each; empty where nothing is.

    Args:
        folder: where they are.
        model: what they should be.
        thoroughly: whether all bytes are read; else only sizes are compared.
    """
    wrong = []
    for name, file in model.files.items():
        try:
            size = (folder / name).stat().st_size
        except OSError as error:
            wrong.append(f"{name} cannot be read ({error.strerror or error})")
            continue
        if size != file.bytes:
            wrong.append(f"{name} has {size:,} bytes, not {file.bytes:,}")
        elif thoroughly and not _is_published(folder / name, file):
            wrong.append(f"{name} has another sha256 than the manifest's {file.sha256}")
    return wrong


def _wrong_files(folder: Path, model: PublishedModel) -> list[str]:
    return [name for name, file in model.files.items() if not _is_published(folder / name, file)]


def _is_published(path: Path, file: PublishedFile) -> bool:
    return is_as_expected(path, Expected(file.bytes, f"sha256:{file.sha256}"))
