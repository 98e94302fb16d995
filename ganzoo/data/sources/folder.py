"""A folder of images, with all its folders. Links that lead out of it are refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ganzoo.data.images import ENCODED_LIMIT, is_image_name
from ganzoo.data.sources.base import Sample, SkippedImage, Source, class_labels, digest_of, first_reason, natural_order
from ganzoo.errors import DataError


class FolderSource(Source):
    """The image files below a folder, in natural order of their paths.

    Classes are the first folders that the paths do not all share, where every image lies in one. Hidden files and
    `__MACOSX` are passed over.

    Args:
        root: the folder.

    Raises:
        DataError: it holds no images.
    """

    parallel = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self.description = f"folder {root.resolve().name!r}"
        rejected: list[tuple[str, str]] = []
        self.rejected = rejected
        found = list(_scan(root, rejected))
        if not found:
            raise DataError(f"The {self.description} holds no images.", first_reason(rejected))
        found.sort(key=lambda one: natural_order(one[0]))
        self._paths = [path for path, _, _ in found]
        self._fingerprint = "folder " + digest_of(f"{path}\0{size}\0{time}" for path, size, time in found)
        if (labels := class_labels(self._paths)) is not None:
            self.classes, self.labels = labels
            self.labelled = True

    def label(self, classes: tuple[str, ...], labels: npt.NDArray[np.int64], *, told_by: str) -> None:
        """Take other labels than those of the folders.

        Args:
            classes: names of the classes, may be empty.
            labels: (N,) numbers of the classes.
            told_by: what becomes part of the fingerprint: a hash of what told them.
        """
        self.classes, self.labels, self.labelled = classes, labels, True
        self._fingerprint += f" labelled {told_by}"

    def fingerprint(self) -> str:
        """Return a hash of the relative paths, sizes and times of change."""
        return self._fingerprint

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        """Return the path relative to the folder."""
        return self._paths[index]

    def read(self, index: int) -> Sample:
        """Return the file's bytes and its class."""
        with (self.root / self._paths[index]).open("rb") as file:
            data = file.read(ENCODED_LIMIT + 1)
        if len(data) > ENCODED_LIMIT:
            raise SkippedImage(f"file of over {ENCODED_LIMIT >> 20} MiB")
        return Sample(data, None if self.labels is None else int(self.labels[index]))


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
