"""Packing: any source becomes a pack, once.

The pack is whole or absent, and found again by what was asked and what was read.
"""

from __future__ import annotations

import secrets
import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from ganzoo.data.packs import Pack, is_pack
from ganzoo.data.request import DataRequest
from ganzoo.data.sources.base import Source, digest_of
from ganzoo.data.specs import PackSource, open_source
from ganzoo.data.writing import Progress, pack_key, write_files
from ganzoo.errors import DataError
from ganzoo.files import atomic_folder, cache_home, locked, remove_leftovers

_UNKEYED = "unkeyed-"


def open_pack(
    spec: Any, request: DataRequest, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> Pack:
    """Return the pack of a source: found in the cache, or made now.

    Args:
        spec: anything that `open_source` takes, or a pack or its folder; such a pack is used as it is where its images
            have the wanted size and channels, else it is a source like any other.
        request: what is asked of every image.
        cache_dir: the folder of packs, by default `packs` in `ganzoo.files.cache_home()`.
        progress: called from time to time while a pack is made, and at its end.

    Raises:
        DataError: the source cannot be read or holds nothing usable, labels are asked for and it has none, or the disk
            is full.
        UnknownNameError: no such source.
        MissingDataError: data that cannot be fetched by itself.
    """
    with _opened(spec) as source:
        _check_labels(source, request)
        if isinstance(source, PackSource):
            if _fits(source.pack, request):
                return Pack(source.pack.path)
            request = replace(request, crop="none")  # its images are squares that were cropped before
        packs = (cache_home() / "packs") if cache_dir is None else Path(cache_dir)
        try:
            fingerprint = source.fingerprint()
            if fingerprint is None:
                return _pack_unkeyed(source, request, packs, progress)
            return _pack_keyed(source, fingerprint, request, packs, progress)
        except OSError as error:
            raise DataError(
                f"The {source.description} cannot be packed into {packs}: {error.strerror or error}.",
                "Set GANZOO_HOME to a folder that can be written.",
            ) from error


def write_pack(spec: Any, request: DataRequest, path: Path, *, progress: Progress | None = None) -> Pack:
    """Write the pack of a source to a folder of one's own and return it; the same pack that is there already is kept.

    Args:
        spec: anything that `open_source` takes.
        request: what is asked of every image.
        path: the folder; missing parents are made.
        progress: called from time to time.

    Raises:
        DataError: as `open_pack`; or `path` exists and is another thing.
    """
    with _opened(spec) as source:
        _check_labels(source, request)
        if isinstance(source, PackSource):
            request = replace(request, crop="none")
        fingerprint = source.fingerprint()
        key = pack_key(fingerprint, request) if fingerprint is not None else None
        if path.exists():
            if key is not None and is_pack(path) and (there := Pack(path)).manifest.key == key:
                return there
            raise DataError(f"{path} exists and is not the pack that was asked for.", "Choose another folder.")
        try:
            with locked(_lock_file(cache_home() / "packs", f"out-{digest_of([str(path.absolute())])}")) as alone:
                if alone:
                    remove_leftovers(path)
                with atomic_folder(path) as folder:
                    write_files(source, request, key, folder, progress)
        except OSError as error:
            raise DataError(
                f"{path} cannot be written: {error.strerror or error}.", "Choose another folder."
            ) from error
        return Pack(path)


def _opened(spec: Any) -> AbstractContextManager[Source]:
    """Return the source as a context that closes it, unless it is the caller's own."""
    return nullcontext(spec) if isinstance(spec, Source) else open_source(spec)


def _check_labels(source: Source, request: DataRequest) -> None:
    if request.labels and not source.labelled:
        raise DataError(
            f"The {source.description} has no labels, and labels are needed.",
            "Put each class into a folder of its own, or give a zip with dataset.json or an .npz with `labels`.",
        )


def _fits(pack: Pack, request: DataRequest) -> bool:
    few_enough = request.max_images is None or pack.count <= request.max_images
    return few_enough and (pack.image_size, pack.channels) == (request.image_size, request.channels)


def _pack_keyed(source: Source, fingerprint: str, request: DataRequest, packs: Path, progress: Progress | None) -> Pack:
    key = pack_key(fingerprint, request)
    if (found := _find(packs / key)) is not None:
        return found
    packs.mkdir(parents=True, exist_ok=True)
    with locked(_lock_file(packs, key)) as alone:
        if (found := _find(packs / key)) is not None:  # made by another process meanwhile
            return found
        _remove_dead_builds(packs, building=key if alone else None)
        if (packs / key).exists():  # a pack that is not whole any more
            shutil.rmtree(packs / key)
        try:
            with atomic_folder(packs / key) as folder:
                write_files(source, request, key, folder, progress)
        except FileExistsError:  # without locks: another process was first with the same pack
            pass
    return Pack(packs / key)


def _pack_unkeyed(source: Source, request: DataRequest, packs: Path, progress: Progress | None) -> Pack:
    """Pack a source that only its content can identify: the key is the content's hash, known at the end."""
    packs.mkdir(parents=True, exist_ok=True)
    name = _UNKEYED + secrets.token_hex(8)
    lock = _lock_file(packs, name)
    with locked(lock) as alone:
        _remove_dead_builds(packs, building=name if alone else None)
        with atomic_folder(packs / name) as folder:
            key = write_files(source, request, None, folder, progress).key
        if _find(packs / key) is not None:
            shutil.rmtree(packs / name)
        else:
            shutil.rmtree(packs / key, ignore_errors=True)
            (packs / name).rename(packs / key)
    lock.unlink(missing_ok=True)
    return Pack(packs / key)


def _find(folder: Path) -> Pack | None:
    if not folder.is_dir():
        return None
    try:
        return Pack(folder)
    except DataError:
        return None


def _lock_file(packs: Path, key: str) -> Path:
    return packs / ".locks" / key


def _remove_dead_builds(packs: Path, *, building: str | None) -> None:
    """Remove what killed processes left half made. A build holds its lock while it lives, so one whose lock is free is
    dead.

    Args:
        packs: the folder of packs.
        building: the name whose lock this process holds; None where the file system has no locks, so that nothing can
            be known.
    """
    if building is None:
        return
    begun = {one.name[1:].split(".")[0] for one in packs.glob(".*.tmp")}
    begun |= {one.name for one in packs.glob(f"{_UNKEYED}*")}
    for name in begun:
        if name == building:
            remove_leftovers(packs / name)
            continue
        with locked(_lock_file(packs, name), wait=False) as dead:
            if dead:
                remove_leftovers(packs / name)
                if name.startswith(_UNKEYED):
                    shutil.rmtree(packs / name, ignore_errors=True)
