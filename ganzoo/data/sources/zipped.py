"""A zip of images: plain (classes from its folders), or StyleGAN's with `dataset.json` (classes from its labels).

Nothing is ever unpacked to the disk. Entries with paths that lead out, links, encrypted entries and such as unpack to
an implausible size are left out, each with its reason.
"""

from __future__ import annotations

import json
import re
import stat
import threading
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.data.images import ENCODED_LIMIT, is_image_name
from ganzoo.data.sources.base import Sample, SkippedImage, Source, class_labels, digest_of, first_reason, natural_order
from ganzoo.errors import DataError

_DEFLATE_LIMIT = (
    1032  # no deflated byte stands for more: an archive that declares more than this holds entries that overlap
)
_BOMB_BYTES = 16 << 20
_BOMB_RATIO = 100
_JSON_LIMIT = 1 << 30
_ENCRYPTED = 0x1


class ZipSource(Source):
    """The image files in a zip, in natural order of their paths.

    Args:
        path: the zip.

    Raises:
        DataError: it is no zip, declares more bytes than it can hold, or holds no images.
    """

    parallel = True

    def __init__(self, path: Path) -> None:
        self.description = f"zip {path.name!r}"
        self._lock = threading.Lock()
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise DataError(f"{path.name!r} cannot be opened as a zip: {error}.") from error
        try:
            self._index(path)
        except BaseException:
            self._zip.close()
            raise

    def _index(self, path: Path) -> None:
        every = self._zip.infolist()
        if sum(info.file_size for info in every) > _DEFLATE_LIMIT * path.stat().st_size:
            raise DataError(f"The {self.description} declares more bytes than it can hold: a zip bomb.")
        self.rejected = rejected = []
        taken = []
        for info in every:
            if info.is_dir() or not is_image_name(info.filename.replace("\\", "/").replace("../", "").lstrip("/")):
                continue
            if (reason := _reason_against(info)) is not None:
                rejected.append((info.filename, reason))
            else:
                taken.append(info)
        if not taken:
            raise DataError(f"The {self.description} holds no images.", first_reason(rejected))
        taken.sort(key=lambda info: natural_order(info.filename))
        self._infos = taken
        described = {info.filename: info for info in every}.get("dataset.json")
        self._fingerprint = "zip " + digest_of(
            f"{info.filename}\0{info.CRC}\0{info.file_size}" for info in (*taken, *((described,) if described else ()))
        )
        names = [info.filename for info in taken]
        if described is not None:
            self.labels = self._json_labels(described, names)
        elif (labels := class_labels(names)) is not None:
            self.classes, self.labels = labels
        self.labelled = self.labels is not None

    def _json_labels(self, info: zipfile.ZipInfo, names: list[str]) -> npt.NDArray[np.int64] | None:
        """Return the labels of StyleGAN's `dataset.json`, {"labels": [[file, number], …]} or {"labels": null}.

        For the named files.
        """
        if info.file_size > _JSON_LIMIT:
            raise DataError(f"The dataset.json of the {self.description} is over {_JSON_LIMIT >> 30} GiB.")
        try:
            content: Any = json.loads(self._zip.read(info))
            pairs = content["labels"]
            if pairs is None:
                return None
            labels = {str(name): number for name, number in pairs}
        except (ValueError, KeyError, TypeError, RecursionError, zipfile.BadZipFile) as error:
            raise DataError(
                f"The dataset.json of the {self.description} cannot be read: {type(error).__name__}: {error}.",
                'It holds {"labels": [["file.png", 0], …]} or {"labels": null}.',
            ) from error
        missing = [name for name in names if name not in labels]
        if missing:
            raise DataError(
                f"The dataset.json of the {self.description} has no label for {len(missing):,} files.",
                f"The first is {missing[0]!r}.",
            )
        numbers = [labels[name] for name in names]
        if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
            raise DataError(f"The labels in the dataset.json of the {self.description} are not all whole numbers.")
        return np.array(numbers, dtype=np.int64)

    def fingerprint(self) -> str:
        """Return a hash of the names, checksums and sizes in the zip's directory."""
        return self._fingerprint

    def __len__(self) -> int:
        return len(self._infos)

    def name(self, index: int) -> str:
        """Return the path inside the zip."""
        return self._infos[index].filename

    def read(self, index: int) -> Sample:
        """Return the file's bytes and its class."""
        info = self._infos[index]
        try:
            with self._lock:
                handle = self._zip.open(info)
            try:
                data = handle.read()  # at most what the directory declares, which was checked
            finally:
                with self._lock:
                    handle.close()
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise SkippedImage(str(error).split("\n")[0] or type(error).__name__) from error
        return Sample(data, None if self.labels is None else int(self.labels[index]))

    def close(self) -> None:
        """Close the zip."""
        self._zip.close()


def _reason_against(info: zipfile.ZipInfo) -> str | None:
    path = info.filename.replace("\\", "/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path) or ".." in path.split("/"):
        return "path that leads out of the zip"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "link"
    if info.flag_bits & _ENCRYPTED:
        return "encrypted"
    if info.file_size > ENCODED_LIMIT:
        return f"unpacks to over {ENCODED_LIMIT >> 20} MiB"
    if info.file_size > _BOMB_BYTES and info.file_size > _BOMB_RATIO * info.compress_size:
        return f"zip bomb: unpacks to over {_BOMB_RATIO} times its size"
    return None
