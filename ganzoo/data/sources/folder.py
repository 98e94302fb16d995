"""A folder of images, with all its folders. Links that lead out of it are refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ganzoo.data.images import ENCODED_LIMIT, is_image_name
from ganzoo.data.sources.base import Sample, SkippedImage, Source, class_labels, digest_of, first_reason, natural_order
from ganzoo.errors import DataError


class FilesSource(Source):
    """Named image files.

    Args:
        root: the folder that the paths are relative to.
        paths: of the files, `/`-separated.
        labels: names of the classes and the number of each image's, or None.
        description: a few words.
        fingerprint: a text that changes when the files change.
    """

    parallel = True

    def __init__(
        self,
        root: Path,
        paths: Sequence[str],
        labels: tuple[tuple[str, ...], npt.NDArray[np.int64]] | None,
        *,
        description: str,
        fingerprint: str,
    ) -> None:
        self.root, self._paths = root, paths
        self.description = description
        self._fingerprint = fingerprint
        if labels is not None:
            self.classes, self.labels = labels
            self.labelled = True

    def fingerprint(self) -> str:
        """Return what was given."""
        return self._fingerprint

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        """Return the file's path."""
        return self._paths[index]

    def read(self, index: int) -> Sample:
        """Return the file's bytes and its class."""
        with (self.root / self._paths[index]).open("rb") as file:
            data = file.read(ENCODED_LIMIT + 1)
        if len(data) > ENCODED_LIMIT:
            raise SkippedImage(f"file of over {ENCODED_LIMIT >> 20} MiB")
        return Sample(data, None if self.labels is None else int(self.labels[index]))


class FolderSource(FilesSource):
    """The image files below a folder, in natural order of their paths.

    Classes are the first folders that the paths do not all share, where every image lies in one. Hidden files and
    `__MACOSX` are passed over.

    Args:
        root: the folder.

    Raises:
        DataError: it holds no images.
    """

    def __init__(self, root: Path) -> None:
        description = f"folder {root.resolve().name!r}"
        rejected: list[tuple[str, str]] = []
        self.rejected = rejected
        found = list(_scan(root, rejected))
        if not found:
            raise DataError(f"The {description} holds no images.", first_reason(rejected))
        found.sort(key=lambda one: natural_order(one[0]))
        paths = [path for path, _, _ in found]
        fingerprint = "folder " + digest_of(f"{path}\0{size}\0{time}" for path, size, time in found)
        super().__init__(root, paths, class_labels(paths), description=description, fingerprint=fingerprint)

    def label(self, classes: tuple[str, ...], labels: npt.NDArray[np.int64], *, told_by: str) -> None:
        """Take other labels than those of the folders.

        Args:
            classes: names of the classes, may be empty.
            labels: (N,) numbers of the classes.
            told_by: what becomes part of the fingerprint: a hash of what told them.
        """
        self.classes, self.labels, self.labelled = classes, labels, True
        self._fingerprint += f" labelled {told_by}"


def _scan(root: Path, rejected: list[tuple[str, str]]) -> list[tuple[str, int, int]]:
    """Return (path relative to root, size, time of change in ns) of the images below.

    `rejected` takes the rest with the reason.
    """
    real_root = os.path.realpath(root)
    found: list[tuple[str, int, int]] = []
    folders = [""]
    while folders:
        prefix = folders.pop()
        try:
            entries = sorted(os.scandir(root / prefix), key=lambda entry: entry.name)
        except OSError as error:
            rejected.append((prefix or ".", error.strerror or str(error)))
            continue
        for entry in entries:
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith(".") and entry.name != "__MACOSX":
                    folders.append(path + "/")
                continue
            if entry.is_symlink() and entry.is_dir():
                rejected.append((path, "link to a folder"))
            elif is_image_name(entry.name):
                _take_file(entry, path, real_root, found, rejected)
    return found


def _take_file(
    entry: os.DirEntry[str],
    path: str,
    real_root: str,
    found: list[tuple[str, int, int]],
    rejected: list[tuple[str, str]],
) -> None:
    if entry.is_symlink() and os.path.commonpath([real_root, os.path.realpath(entry.path)]) != real_root:
        rejected.append((path, "link that leads out of the folder"))
        return
    try:
        status = entry.stat()
    except OSError as error:
        rejected.append((path, error.strerror or str(error)))
        return
    if not stat.S_ISREG(status.st_mode):
        rejected.append((path, "not a file"))
        return
    found.append((path, status.st_size, status.st_mtime_ns))
