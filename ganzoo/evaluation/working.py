"""What lies on the disk while something is evaluated: drawn images and features, in a folder that vanishes.

50,000 drawn images are read by every extractor and metric, and drawing is what takes longest. So each is drawn once and
kept in a file. The folder is removed when the evaluation ends, however it ends; what a killed process left is removed
by the next one, which finds its lock free.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ganzoo.errors import DataError
from ganzoo.evaluation.contract import ImageSet
from ganzoo.files import cache_home, locked

if TYPE_CHECKING:
    import torch

_LOCKS = ".locks"
_BLOCK = 64  # images that are drawn together
_MOST_KEPT = 16 << 30  # bytes; more is drawn anew each time


@contextlib.contextmanager
def working_folder(parent: Path | None = None) -> Iterator[Path]:
    """Give an empty folder that is removed when the block ends, however it ends.

    Args:
        parent: where it is made; None: "evaluating" in `ganzoo.files.cache_home()`.

    Raises:
        DataError: it cannot be made.
    """
    parent = cache_home() / "evaluating" if parent is None else parent
    name = secrets.token_hex(8)
    lock, folder = parent / _LOCKS / name, parent / name
    with contextlib.ExitStack() as stack:
        try:
            alone = stack.enter_context(locked(lock))
            if alone:  # else the file system has no locks, and nothing is known of the others
                _remove_dead(parent, but=name)
            folder.mkdir()
        except OSError as error:
            raise DataError(
                f"No working folder can be made in {parent}: {error.strerror or error}.",
                "Set GANZOO_HOME to a folder that can be written.",
            ) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                lock.unlink(missing_ok=True)


def _remove_dead(parent: Path, *, but: str) -> None:
    """Remove the folders of processes that were killed: their locks are free."""
    for lock in (parent / _LOCKS).iterdir():
        if lock.name == but:
            continue
        with contextlib.suppress(OSError), locked(lock, wait=False) as dead:
            if dead:
                shutil.rmtree(parent / lock.name, ignore_errors=True)
                lock.unlink(missing_ok=True)


class KeptImages:
    """Images that cost something to read, written to a file as they are read first; then they are read from there.

    Args:
        images: what is read at most once.
        path: the file, made anew; removing it is the caller's.

    Attributes:
        count, image_size, channels, labels, classes: as `ImageSet` has them.

    Raises:
        DataError: the file cannot be made.
    """

    def __init__(self, images: ImageSet, path: Path) -> None:
        self._images, self._path = images, path
        self.count, self.image_size, self.channels = images.count, images.image_size, images.channels
        self.labels, self.classes = images.labels, images.classes
        self._row = images.image_size**2 * images.channels
        self._there = np.zeros(-(-images.count // _BLOCK), dtype=np.bool_)
        self._lock = threading.Lock()
        with self._writing():
            path.touch()

    def read(self, first: int, last: int) -> torch.Tensor:
        """Return images `first` to `last`, exclusive: (n, H, W, C) uint8, on the CPU.

        Raises:
            DataError: the disk is full.
        """
        first, last = max(0, first), min(last, self.count)
        return self.gather(np.arange(first, max(first, last), dtype=np.int64))

    def gather(self, indices: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return images by number: (len(indices), H, W, C) uint8, on the CPU.

        Raises:
            IndexError: a number outside of the set.
            DataError: the disk is full.
        """
        import torch

        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= self.count):
            raise IndexError(f"a number is outside of the {self.count:,} images")
        gathered = torch.empty(len(wanted), self.image_size, self.image_size, self.channels, dtype=torch.uint8)
        rows = gathered.numpy().reshape(len(wanted), self._row)
        with self._lock, self._writing(), self._path.open("r+b", buffering=0) as file:
            for number in np.unique(wanted // _BLOCK):
                if not self._there[number]:
                    first = int(number) * _BLOCK
                    block = self._images.read(first, min(first + _BLOCK, self.count)).contiguous().numpy()
                    file.seek(first * self._row)
                    _write_all(file, block.reshape(-1).data)
                    self._there[number] = True
            for place in np.argsort(wanted, kind="stable"):
                file.seek(int(wanted[place]) * self._row)
                _read_all(file, rows[place].data)
        return gathered

    def fingerprint(self) -> str | None:
        """Return what the images that are kept return."""
        return self._images.fingerprint()

    def to_dict(self) -> dict[str, Any]:
        """Return what a protocol tells of them."""
        return self._images.to_dict()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            needed = self.count * self._row / 2**30
            raise DataError(
                f"The {self.count:,} drawn images cannot be kept in {self._path.parent}: {error.strerror or error}.",
                f"They need {needed:.2f} GiB: set GANZOO_HOME to a disk with room, or draw fewer.",
            ) from error


def keep(images: ImageSet, folder: Path) -> ImageSet:
    """Return images that are drawn once, where there is room for them; others as they are.

    Args:
        images: those of a `SampledImages`, or any others that have no fingerprint.
        folder: the working folder.
    """
    size = images.count * images.image_size**2 * images.channels
    if images.fingerprint() is not None or isinstance(images, KeptImages) or size > _MOST_KEPT:
        return images
    if shutil.disk_usage(folder).free < 2 * size:  # features need room too
        return images
    return KeptImages(images, folder / f"images-{secrets.token_hex(4)}")


def _write_all(file: Any, data: memoryview) -> None:
    done = 0
    while done < len(data):
        done += file.write(data[done:])


def _read_all(file: Any, into: memoryview) -> None:
    done = 0
    while done < len(into):
        got = file.readinto(into[done:])
        if not got:
            raise OSError(f"{file.name} became shorter while it was read")
        done += got
