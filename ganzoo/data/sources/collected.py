"""Sources of what others have found: a folder whose labels a file tells, and several sources as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ganzoo.data.sources.base import Sample, Source
from ganzoo.data.sources.folder import FolderSource
from ganzoo.data.sources.labelling import METADATA_FILES, Labels, labels_told, read_metadata
from ganzoo.files import sha256_of


def open_image_folder(root: Path) -> FolderSource:
    """Return the source of a folder of images; where `metadata.jsonl` or `metadata.csv` in it, or in a folder directly
    below it, tells labels of all images, those are the labels.

    Args:
        root: the folder.

    Raises:
        DataError: it holds no images, or a metadata file cannot be read.
    """
    source = FolderSource(root)
    names = [name for pattern in METADATA_FILES for place in (pattern, f"*/{pattern}") for name in root.glob(place)]
    files = sorted(path.relative_to(root).as_posix() for path in names if path.is_file() and not path.is_symlink())
    paths = [source.name(index) for index in range(len(source))]
    if files and (labels := read_labels(root, paths, files)) is not None:
        source.label(*labels, told_by=" ".join(sha256_of(root / file) for file in files))
    return source


def read_labels(root: Path, paths: Sequence[str], files: Sequence[str]) -> Labels | None:
    """Return the labels of images that metadata files tell; None where one of the images has none.

    Args:
        root: the folder that all paths are relative to.
        paths: of the images.
        files: of the metadata.

    Raises:
        DataError: a metadata file cannot be read.
    """
    told = []
    for name in files:
        with (root / name).open("rb") as file:
            told.append(read_metadata(name, file))
    return labels_told(paths, told)


class JoinedSource(Source):
    """Several sources, one after the other; it closes them. Classes are those of all, by name.

    Labels are kept where every source has them, and either all or none have names of classes.

    Args:
        parts: at least one.
        description: a few words.
        fingerprint: a text that changes when one of them changes.
    """

    def __init__(self, parts: Sequence[Source], *, description: str, fingerprint: str) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])
        self.description = description
        self._fingerprint = fingerprint
        self.parallel = all(part.parallel for part in parts)
        self.rejected = [one for part in parts for one in part.rejected]
        known = [part.labels for part in parts if part.labels is not None]
        named = [bool(part.classes) for part in parts]
        if len(known) == len(parts) and all(named):
            self.classes = tuple(sorted({name for part in parts for name in part.classes}))
            number = {name: index for index, name in enumerate(self.classes)}
            known = [
                np.array([number[name] for name in part.classes], dtype=np.int64)[labels]
                for part, labels in zip(parts, known, strict=True)
            ]
        if len(known) == len(parts) and all(named) == any(named):
            self.labels = np.concatenate(known)
            self.labelled = True

    def fingerprint(self) -> str:
        """Return what was given."""
        return self._fingerprint

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _place(self, index: int) -> tuple[Source, int]:
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._parts[part], index - int(self._starts[part])

    def name(self, index: int) -> str:
        """Return what its source calls the sample."""
        part, place = self._place(index)
        return part.name(place)

    def read(self, index: int) -> Sample:
        """Return the sample of its source, with the number of its class among all."""
        part, place = self._place(index)
        return Sample(part.read(place).image, None if self.labels is None else int(self.labels[index]))

    def close(self) -> None:
        """Close all."""
        for part in self._parts:
            part.close()
