"""LSUN (Yu et al., arXiv 1506.03365): LMDB folders whose values are encoded images, one folder a category and split."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from ganzoo.data.images import ENCODED_LIMIT
from ganzoo.data.sources.base import Sample, SkippedImage, Source
from ganzoo.data.sources.locations import data_folders
from ganzoo.errors import DataError, MissingDataError, MissingDependencyError, UnknownNameError

# category: (training images, GB of the training LMDB), from the data's own page
_SCENES = {
    "bedroom": (3_033_042, 43),
    "bridge": (818_687, 15),
    "church_outdoor": (126_227, 2.3),
    "classroom": (168_103, 3.1),
    "conference_room": (229_069, 3.8),
    "dining_room": (657_571, 11),
    "kitchen": (2_212_277, 33),
    "living_room": (1_315_802, 21),
    "restaurant": (626_331, 13),
    "tower": (708_264, 11),
}
_SPLITS = ("train", "val")
_VALIDATION_IMAGES = 300
_DOWNLOADS = "http://dl.yf.io/lsun/scenes"


def open_lsun(argument: str) -> LMDBSource:
    """Return a category of LSUN that lies on this machine.

    Args:
        argument: category and split, `bedroom_train`. Looked for as `bedroom_train_lmdb` in `$GANZOO_DATA`, the current
            folder, `./data` and `$GANZOO_HOME/data`, and in the folder `lsun` of each.

    Raises:
        UnknownNameError: LSUN has no such category.
        MissingDataError: it is not there; the remedy says where to get it.
    """
    known = [f"{category}_{split}" for category in _SCENES for split in _SPLITS]
    if argument not in known:
        raise UnknownNameError("LSUN category", argument, known)
    for folder in data_folders():
        for place in (folder / f"{argument}_lmdb", folder / "lsun" / f"{argument}_lmdb", folder / argument):
            if (place / "data.mdb").is_file():
                return LMDBSource(place)
    category, _, split = argument.rpartition("_")
    images, size = _SCENES[category] if split == "train" else (_VALIDATION_IMAGES, 0.01)
    raise MissingDataError(
        f"LSUN's {argument} is not on this machine, and is not fetched by itself: {images:,} images, {size:g} GB.",
        f"Get {_DOWNLOADS}/{argument}_lmdb.zip, unzip it, then `ganzoo train <recipe> --data PATH/{argument}_lmdb`; "
        "`--data digits` works at once.",
    )


class LMDBSource(Source):
    """The encoded images that are the values of an LMDB folder, in the order of their keys.

    Args:
        path: a folder with `data.mdb`.

    Raises:
        DataError: it cannot be opened, or is empty.
        MissingDependencyError: lmdb is not installed (asked for when the images are).
    """

    parallel = True

    def __init__(self, path: Path) -> None:
        self.description = f"LMDB {path.resolve().name!r}"
        self._path = path
        self._database: Any = None
        self._keys = b""
        self._ends: Any = None

    def fingerprint(self) -> str:
        """Return the size and time of change of `data.mdb`: the largest has 43 GB, too many to hash."""
        status = (self._path / "data.mdb").stat()
        return f"lmdb {status.st_size} bytes at {status.st_mtime_ns}"

    def __len__(self) -> int:
        self._open()
        return len(self._ends) - 1

    def name(self, index: int) -> str:
        """Return the key."""
        return self._key(index).decode("utf-8", "replace")

    def read(self, index: int) -> Sample:
        """Return the value of key number `index`."""
        self._open()
        with self._database.begin() as transaction:
            value = transaction.get(self._key(index))
        if value is None:
            raise SkippedImage("its key is gone")
        if len(value) > ENCODED_LIMIT:
            raise SkippedImage(f"over {ENCODED_LIMIT >> 20} MiB")
        return Sample(bytes(value))

    def close(self) -> None:
        """Close the database."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _key(self, index: int) -> bytes:
        return self._keys[self._ends[index] : self._ends[index + 1]]

    def _open(self) -> None:
        """Open the database and read its keys: one string and its divisions, for millions of them fit in memory so."""
        if self._database is not None:
            return
        lmdb = _import_lmdb()
        try:
            database = lmdb.open(str(self._path), readonly=True, lock=False, readahead=False, meminit=False)
            with database.begin() as transaction:
                keys = list(transaction.cursor().iternext(keys=True, values=False))
        except lmdb.Error as error:
            raise DataError(f"The {self.description} cannot be opened: {error}.") from error
        if not keys:
            database.close()
            raise DataError(f"The {self.description} is empty.")
        self._keys = b"".join(keys)
        self._ends = np.fromiter(accumulate(map(len, keys), initial=0), dtype=np.int64, count=len(keys) + 1)
        self._database = database


def _import_lmdb() -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise MissingDependencyError(
            f"LSUN's files need the package lmdb: {error}.", "Run `pip install 'ganzoo[lsun]'`."
        ) from error
    return lmdb
