"""Running images through a feature extractor, and keeping what came out.

Images go through in batches of the extractor's own size, cut at its multiples, the last one filled up: an image's
features depend neither on how many others were asked for nor on how they were read. What is kept of reference images
lies in a folder of the cache that is whole or absent; its name tells extractor and images, its manifest the digests of
its files, which are compared before anything is taken from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ganzoo.errors import DataError, GanzooError, PluginError, UsageError
from ganzoo.evaluation.contract import ImageSet, Progress, silent
from ganzoo.evaluation.tables import NEIGHBOURS as REMEMBERED
from ganzoo.evaluation.tables import FeatureTable, FileRows, Floats, Moments, TableWriter
from ganzoo.features.contract import Extracted, FeatureExtractor
from ganzoo.files import (
    atomic_folder,
    cache_home,
    locked,
    remove_leftovers,
    sha256_of,
    temporary_sibling,
    write_atomically,
)
from ganzoo.strict_json import read_json
from ganzoo.tensors import read_tensors, save_tensors

SCHEMA_VERSION = 1
FEATURES, LOGITS, MANIFEST = "features.npy", "logits.npy", "manifest.json"
MOMENTS, NEIGHBOURS = "moments.safetensors", "neighbours.safetensors"
_LARGEST_MANIFEST = 1 << 20


def extract_all(
    extractor: FeatureExtractor,
    images: ImageSet,
    *,
    folder: Path | None = None,
    progress: Progress = silent,
) -> FeatureTable:
    """Return the features of all images, with the logits and labels that belong to them.

    Args:
        extractor: what makes them.
        images: what they are made of, at least one.
        folder: where they are written (`features.npy`, and `logits.npy` where there are logits), so that memory stays
            what one batch needs; made where it is missing. None: they stay in memory.
        progress: is told after each batch.

    Raises:
        UsageError: no images, or images that the extractor cannot take.
        PluginError: the extractor gives something else than it says, or what is not finite.
        DataError: the folder cannot be written; no part of a file is left.
    """
    if images.count < 1:
        raise UsageError("There are no images to compute features of.")
    count = images.count
    if folder is None:
        features = np.empty((count, extractor.dimension), dtype=np.float32)
        logits = np.empty((count, extractor.num_classes), dtype=np.float32) if extractor.num_classes else None
        for first, made in _batches(extractor, images, progress):
            features[first : first + len(made.features)] = made.features.numpy()
            if logits is not None and made.logits is not None:
                logits[first : first + len(made.logits)] = made.logits.numpy()
        return FeatureTable.of(features, logits, images.labels)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_written(folder / FEATURES, count, extractor.dimension))]
        if extractor.num_classes:
            files.append(stack.enter_context(_written(folder / LOGITS, count, extractor.num_classes)))
        for _, made in _batches(extractor, images, progress):
            for file, block in zip(files, (made.features, made.logits), strict=False):
                if block is not None:
                    with _clear_of_disk_errors(folder):
                        file.add(block.numpy())
    return _open_table(FeatureTable, folder, bool(extractor.num_classes), images.labels)


def reference_table(
    extractor: FeatureExtractor,
    images: ImageSet,
    *,
    cache_dir: Path | None = None,
    progress: Progress = silent,
) -> FeatureTable:
    """Return the features of all images as `extract_all`, found in the cache or made now and kept there.

    Images that only reading could tell from others (`fingerprint()` is None) are not kept. Mean, covariance and the
    distances of nearest neighbours are kept beside the features as soon as someone asks for them.

    Args:
        extractor: what makes them.
        images: what they are made of.
        cache_dir: the folder of kept tables, by default `features` in `ganzoo.files.cache_home()`.
        progress: is told after each batch; where all was found, nothing.

    Raises:
        UsageError: no images, or images that the extractor cannot take.
        PluginError: the extractor gives something else than it says.
        DataError: the cache cannot be written.
    """
    fingerprint = images.fingerprint()
    if fingerprint is None:
        return extract_all(extractor, images, progress=progress)
    tables = cache_home() / "features" if cache_dir is None else Path(cache_dir)
    subject = _subject(extractor, images, fingerprint)
    key = hashlib.sha256(subject.encode()).hexdigest()[:32]
    if (found := _find(tables / key, subject, extractor, images)) is not None:
        return found
    with contextlib.ExitStack() as stack:
        with _clear_of_disk_errors(tables):
            alone = stack.enter_context(locked(tables / ".locks" / key))
        if (found := _find(tables / key, subject, extractor, images)) is not None:  # made by another process meanwhile
            return found
        _make(tables / key, subject, extractor, images, progress, alone=alone)
    return _open_table(_KeptTable, tables / key, bool(extractor.num_classes), images.labels)


class _KeptTable(FeatureTable):
    """A table in the cache, which keeps there too what was computed of it."""

    folder: Path

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance; see `FeatureTable.moments`."""
        side, path = self.dimension, self.folder / MOMENTS
        shapes = {"mean": (side,), "covariance": (side, side)}
        if (found := _read_kept(path, shapes, np.float64, len(self))) is not None:
            return Moments(len(self), found["mean"], found["covariance"])
        made = super().moments
        _keep(path, {"mean": made.mean, "covariance": made.covariance}, len(self))
        return made

    def neighbour_distances(self, progress: Callable[[str, int, int], None] | None = None) -> Floats:
        """Distances of every row from its nearest others; see `FeatureTable.neighbour_distances`."""
        if self._neighbour_distances is None:
            path = self.folder / NEIGHBOURS
            shapes = {"distances": (len(self), min(REMEMBERED, len(self) - 1))}
            if (found := _read_kept(path, shapes, np.float32, len(self))) is not None:
                self._neighbour_distances = found["distances"]
            else:
                _keep(path, {"distances": super().neighbour_distances(progress)}, len(self))
        return super().neighbour_distances(progress)


def _batches(extractor: FeatureExtractor, images: ImageSet, progress: Progress) -> Iterator[tuple[int, Extracted]]:
    """Yield (number of the first image, what the extractor makes of the next ones)."""
    size, count = extractor.batch_size, images.count
    for first in range(0, count, size):
        batch = _read(images, first, min(first + size, count))
        real = len(batch)
        if real < size:
            batch = torch.cat([batch, batch.new_zeros(size - real, *batch.shape[1:])])
        made = extractor.extract(batch)
        _check(extractor, made, size)
        logits = None if made.logits is None else made.logits[:real]
        yield first, Extracted(made.features[:real], logits)
        progress(f"features {extractor.name}", first + real, count)


def _read(images: ImageSet, first: int, last: int) -> torch.Tensor:
    try:
        batch = images.read(first, last)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise DataError(f"Images {first} to {last - 1} cannot be read: {where}{error.strerror or error}.") from error
    if len(batch) != last - first:
        raise DataError(f"Of images {first} to {last - 1} only {len(batch)} could be read.")
    return batch


def _check(extractor: FeatureExtractor, made: Extracted, size: int) -> None:
    """Refuse what an extractor should not give."""
    wanted: dict[str, tuple[torch.Tensor | None, int]] = {"features": (made.features, extractor.dimension)}
    if extractor.num_classes:
        wanted["logits"] = (made.logits, extractor.num_classes)
    for what, (tensor, columns) in wanted.items():
        shape = None if tensor is None else tuple(tensor.shape)
        if tensor is None or shape != (size, columns) or tensor.dtype != torch.float32 or tensor.requires_grad:
            kind = "nothing" if tensor is None else f"{shape} of {str(tensor.dtype).removeprefix('torch.')}"
            raise PluginError(
                f"The feature extractor {extractor.name!r} gave {kind} as {what}, not ({size}, {columns}) of float32.",
                "ganzoo.testing.check_feature_extractor tells what it should do.",
            )
        if not bool(torch.isfinite(tensor).all()):
            raise PluginError(f"The feature extractor {extractor.name!r} gave {what} that are NaN or Inf.")


@contextlib.contextmanager
def _written(path: Path, rows: int, columns: int) -> Iterator[TableWriter]:
    """Give a writer of a table that takes its name when the block ends well and vanishes when it raises."""
    temporary = temporary_sibling(path)
    try:
        with _clear_of_disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = TableWriter(temporary, rows, columns)
        try:
            yield writer
        finally:
            with _clear_of_disk_errors(path.parent):
                writer.close()
        with _clear_of_disk_errors(path.parent):
            temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _clear_of_disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into one line that names the folder."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"Features cannot be written into {folder}: {error.strerror or error}.",
            "Free some space, or choose another folder: GANZOO_HOME names that of the caches.",
        ) from error


def _subject(extractor: FeatureExtractor, images: ImageSet, fingerprint: str) -> str:
    """Return what a kept table is of: equal texts, equal features."""
    return json.dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "extractor": extractor.to_dict() | {"batch_size": extractor.batch_size},
            "images": {"fingerprint": fingerprint, "count": images.count},
        },
        sort_keys=True,
    )


def _find(folder: Path, subject: str, extractor: FeatureExtractor, images: ImageSet) -> FeatureTable | None:
    """Return a kept table, or None where it is missing, damaged or of something else."""
    if not folder.is_dir():
        return None
    try:
        manifest = read_json(folder / MANIFEST, _LARGEST_MANIFEST)
        if manifest["subject"] != json.loads(subject):
            return None
        for name in _names(extractor):
            if manifest["files"][name] != sha256_of(folder / name):
                return None
        return _open_table(_KeptTable, folder, bool(extractor.num_classes), images.labels)
    except (OSError, ValueError, KeyError, TypeError, GanzooError):
        return None


def _make(
    folder: Path, subject: str, extractor: FeatureExtractor, images: ImageSet, progress: Progress, *, alone: bool
) -> None:
    """Make the folder of a kept table in place of what is there."""
    with _clear_of_disk_errors(folder.parent), contextlib.suppress(FileExistsError):
        # FileExistsError where there are no locks: another process was first with the same table.
        if alone:
            remove_leftovers(folder)
        if folder.exists():
            shutil.rmtree(folder)
        with atomic_folder(folder) as temporary:
            extract_all(extractor, images, folder=temporary, progress=progress)
            digests = {name: sha256_of(temporary / name) for name in _names(extractor)}
            manifest = {"schema_version": SCHEMA_VERSION, "subject": json.loads(subject), "files": digests}
            write_atomically(temporary / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())


def _names(extractor: FeatureExtractor) -> list[str]:
    return [FEATURES, LOGITS] if extractor.num_classes else [FEATURES]


def _open_table(
    kind: type[FeatureTable], folder: Path, logits: bool, labels: npt.NDArray[np.int64] | None
) -> FeatureTable:
    table = kind(
        FileRows(folder / FEATURES),
        FileRows(folder / LOGITS) if logits else None,
        None if labels is None else np.asarray(labels, dtype=np.int64),
    )
    if isinstance(table, _KeptTable):
        table.folder = folder
    return table


def _read_kept(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: type[np.floating], count: int
) -> dict[str, npt.NDArray[Any]] | None:
    """Return what was computed of a table and kept, or None where it is missing, damaged or of other rows."""
    if not path.is_file():
        return None
    try:
        tensors, metadata = read_tensors(path)
        found = {name: tensors[name].numpy() for name in shapes}
    except (GanzooError, KeyError):
        return None
    fits = all(found[name].shape == shape and found[name].dtype == dtype for name, shape in shapes.items())
    return found if fits and metadata.get("count") == count else None


def _keep(path: Path, arrays: Mapping[str, npt.NDArray[Any]], count: int) -> None:
    """Keep what was computed of a table; what a full disk or a removed folder forbids is done without."""
    temporary = temporary_sibling(path)
    with contextlib.suppress(OSError):
        try:
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            save_tensors(temporary, tensors, {"schema_version": SCHEMA_VERSION, "count": count})
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
