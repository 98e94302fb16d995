"""Writing a pack: images are decoded and resized by threads and written in order, so that memory stays bounded whatever
their number.

Threads and not processes: Pillow decodes and resamples without holding Python's lock, threads start at once, and they
need neither sources that can be pickled nor a guarded main module.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ganzoo.data.factors import write_factors
from ganzoo.data.images import quiet_decoders, render
from ganzoo.data.packs import (
    IMAGES,
    LABELS,
    MANIFEST,
    SCHEMA_VERSION,
    WITHOUT_FACTORS,
    PackManifest,
    images_header,
    label_bytes,
)
from ganzoo.data.request import DataRequest
from ganzoo.data.sources.base import Sample, SkippedImage, Source, first_reason
from ganzoo.errors import DataError, GanzooError
from ganzoo.files import flush_to_disk

_RENDERING, _LAYOUT = 2, 1  # parts of every key: raised when `render` gives other pixels, or packs hold other files
_SKIPPED_SHOWN = 10
_CHUNK_IMAGES = 16  # few, so that at the end no thread is left with much while the others rest
_CHUNK_BYTES = 8 << 20
_SPARE_BYTES = 16 << 20  # labels, manifest, and the file system's own
_REPORT_SECONDS = 0.1
_NO_ROOM = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}


@dataclass(frozen=True)
class PackProgress:
    """How far packing is.

    Attributes:
        done: images read, skipped ones among them.
        total: images to read.
        skipped: images that could not be used.
        images_per_second: read so far, over the time since the start.
    """

    done: int
    total: int
    skipped: int
    images_per_second: float


Progress = Callable[[PackProgress], None]


def pack_key(fingerprint: str, request: DataRequest) -> str:
    """Return a pack's key: a hash of what was asked and what was read, 32 hexadecimal digits.

    Args:
        fingerprint: the source's.
        request: what is asked of every image; `labels` does not count.
    """
    text = json.dumps([_RENDERING, _LAYOUT, request.identity(), fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass
class _Rendered:
    """A chunk of images, in order."""

    images: npt.NDArray[np.uint8]  # (n, H, W, C)
    labels: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)  # numbers of the samples
    skipped: list[tuple[str, str]] = field(default_factory=list)
    read: int = 0


def write_files(
    source: Source, request: DataRequest, key: str | None, folder: Path, progress: Progress | None
) -> PackManifest:
    """Write a pack's files into a folder and return its manifest; a `key` of None becomes the content's."""
    wanted = _choose(len(source), request.max_images)
    if len(wanted) == 0:
        raise DataError(f"The {source.description} holds no images.", first_reason(source.rejected))
    _check_room(folder, len(wanted), request)
    source.prefer(request.image_size)
    digest, labels, kept = hashlib.sha256(), [], []
    skipped = list(source.rejected)
    report = _Reporter(progress, total=len(wanted))
    try:
        with (folder / IMAGES).open("wb") as file:
            file.write(images_header(request, len(wanted)))
            for chunk in _rendered_chunks(source, request, wanted):
                pixels = chunk.images.reshape(-1).data
                file.write(pixels)
                digest.update(pixels)
                labels += chunk.labels
                kept.append(np.array(chunk.kept, dtype=np.int64))
                skipped += chunk.skipped
                report(chunk.read, len(skipped))
            numbers = np.concatenate(kept)
            count = len(numbers)
            file.seek(0)
            file.write(images_header(request, count))
            flush_to_disk(file)
        if count == 0:
            raise DataError(
                f"None of the {len(wanted):,} images of the {source.description} can be used.", first_reason(skipped)
            )
        label_array = np.array(labels, dtype="<i8") if source.labelled else None
        if label_array is not None:
            np.save(folder / LABELS, label_array, allow_pickle=False)
        digest.update(label_bytes(label_array))
        content = digest.hexdigest()
        factors = source.factors or {}
        factors_sha256 = write_factors(folder, factors, numbers, source.description) if factors else None
        manifest = PackManifest(
            schema_version=SCHEMA_VERSION if factors else WITHOUT_FACTORS,
            key=key or pack_key(f"content {content}" + (f" {factors_sha256}" if factors else ""), request),
            source=source.description,
            request=request.identity(),
            count=count,
            image_size=request.image_size,
            channels=request.channels,
            bytes=count * request.image_bytes,
            classes=_class_names(source, label_array),
            labelled=source.labelled,
            skipped=len(skipped),
            skipped_examples=tuple(skipped[:_SKIPPED_SHOWN]),
            content_sha256=content,
            notice=source.notice,
            factors=tuple(factors),
            factors_sha256=factors_sha256,
        )
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _no_room(folder, len(wanted), request) from error
        raise
    report.finish()
    return manifest


def _rendered_chunks(source: Source, request: DataRequest, wanted: npt.NDArray[np.int64]) -> Iterator[_Rendered]:
    """Yield rendered chunks in the order of `wanted`; a bounded number of them is in work at any time."""
    size = max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // request.image_bytes))
    parts = (wanted[first : first + size] for first in range(0, len(wanted), size))
    workers = core_count() if source.parallel else 1
    pending: deque[Future[_Rendered]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ganzoo-pack")
    with quiet_decoders():
        try:
            for part in parts:
                pending.append(pool.submit(_render_chunk, source, request, part))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _render_chunk(source: Source, request: DataRequest, indices: npt.NDArray[np.int64]) -> _Rendered:
    shape = (len(indices), request.image_size, request.image_size, request.channels)
    chunk = _Rendered(np.empty(shape, dtype=np.uint8), read=len(indices))
    samples = _read_batch(source, indices)
    for place, index in enumerate(indices.tolist()):
        try:
            sample = source.read(index) if samples is None else samples[place]
            chunk.images[len(chunk.kept)] = render(sample.image, request)
        except SkippedImage as reason:
            chunk.skipped.append((source.name(index), str(reason)))
            continue
        except OSError as error:
            chunk.skipped.append((source.name(index), error.strerror or str(error)))
            continue
        except GanzooError:
            raise
        except Exception as error:  # a third party's source may raise anything
            raise _broken(source, source.name(index), error) from error
        chunk.kept.append(index)
        if source.labelled:
            chunk.labels.append(_checked_label(source, index, sample.label))
    chunk.images = chunk.images[: len(chunk.kept)]
    return chunk


def _read_batch(source: Source, indices: npt.NDArray[np.int64]) -> Sequence[Sample] | None:
    """Return the samples of a chunk where the source gives them at once."""
    try:
        samples = source.read_batch(indices)
    except GanzooError:
        raise
    except Exception as error:  # a third party's source may raise anything
        raise _broken(source, f"One of numbers {indices[0]} to {indices[-1]}", error) from error
    if samples is not None and len(samples) != len(indices):
        raise DataError(f"The {source.description} gave {len(samples)} samples where {len(indices)} were asked for.")
    return samples


def _broken(source: Source, name: str, error: Exception) -> DataError:
    return DataError(f"{name} of the {source.description} cannot be read: {type(error).__name__}: {error}.")


def _checked_label(source: Source, index: int, label: int | None) -> int:
    if label is None or label < 0:
        raise DataError(
            f"{source.name(index)} of the {source.description} has the label {label}.",
            "Labels are the numbers of classes, from 0, for all images or for none.",
        )
    return label


def _class_names(source: Source, labels: npt.NDArray[np.int64] | None) -> tuple[str, ...]:
    """Return a name for every class: the source's, else the numbers."""
    if labels is None:
        return ()
    classes = int(labels.max()) + 1
    if len(source.classes) >= classes:
        return tuple(source.classes)
    if classes > max(1000, len(labels)):
        raise DataError(
            f"The largest label of the {source.description} is {classes - 1:,}: these are not numbers of classes.",
            "Number the classes from 0.",
        )
    return tuple(str(number) for number in range(classes))


def core_count() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _choose(available: int, most: int | None) -> npt.NDArray[np.int64]:
    """Return the numbers of the samples to take, evenly over all of them: sources are sorted by class.

    And a start would be one class.
    """
    if most is None or available <= most:
        return np.arange(available, dtype=np.int64)
    return np.arange(most, dtype=np.int64) * available // most


def _check_room(folder: Path, count: int, request: DataRequest) -> None:
    if shutil.disk_usage(folder).free < count * request.image_bytes + _SPARE_BYTES:
        raise _no_room(folder, count, request)


def _no_room(folder: Path, count: int, request: DataRequest) -> DataError:
    return DataError(
        f"The pack needs {count * request.image_bytes / 2**30:.2f} GiB, and the disk of {folder.parent} has "
        f"{shutil.disk_usage(folder.parent).free / 2**30:.2f} GiB free.",
        "Set GANZOO_HOME to a disk with room, or ask for fewer or smaller images.",
    )


class _Reporter:
    """Calls back with the progress, at most ten times a second."""

    def __init__(self, progress: Progress | None, *, total: int) -> None:
        self._progress, self._total = progress, total
        self._start = self._last = time.monotonic()
        self._done = self._skipped = 0

    def __call__(self, read: int, skipped: int) -> None:
        self._done += read
        self._skipped = skipped
        if time.monotonic() - self._last >= _REPORT_SECONDS:
            self.finish()

    def finish(self) -> None:
        self._last = time.monotonic()
        if self._progress is not None:
            rate = self._done / max(self._last - self._start, 1e-9)
            self._progress(PackProgress(self._done, self._total, self._skipped, rate))
