"""From what a person writes or hands over to a source: a name with an argument, a path, or an object of Python's."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ganzoo.data.packs import Pack, is_pack
from ganzoo.data.sources.base import Sample, Source
from ganzoo.errors import DataError, UnknownNameError
from ganzoo.registry import sources

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_READABLE = (
    "a folder of images, a zip, plain tars (WebDataset), parquet files, an LSUN LMDB folder, MNIST's idx files, "
    "CIFAR's tar, .npy or .npz"
)
_SHARDS = (".parquet", ".tar")


class PackSource(Source):
    """A pack as a source, for images of another size.

    Args:
        pack: an opened pack; it stays the caller's.
    """

    parallel = True

    def __init__(self, pack: Pack) -> None:
        self.pack = pack
        self.description = pack.manifest.source
        self.classes = pack.classes
        self.labels = pack.labels
        self.labelled = pack.labels is not None
        self.factors = pack.factors
        self.notice = pack.manifest.notice

    def fingerprint(self) -> str:
        """Return the hash of the pack's content, and its classes and factors."""
        factors = f" {self.pack.manifest.factors_sha256}" if self.factors else ""
        return f"pack {self.pack.manifest.content_sha256} {self.classes}{factors}"

    def __len__(self) -> int:
        return len(self.pack)

    def read(self, index: int) -> Sample:
        """Return image `index` and its label."""
        return Sample(self.pack.image(index), None if self.labels is None else int(self.labels[index]))


def open_source(spec: Any) -> Source:
    """Return the source that a specification names. It is a context manager: leaving the block closes it.

    Args:
        spec: one of
            a name, with an argument after a colon where it takes one: `digits`, `mnist`, `lsun:bedroom_train`,
                `torchvision:SVHN`, `hf:org/name`, `hf:org/name@revision:config/split`;
            a path: a folder of images (classes from its folders, or from `metadata.jsonl` or `metadata.csv`), a zip,
                a WebDataset tar, tars by `path/{000000..000099}.tar` or their folder, a parquet file or a folder of
                them, an LSUN LMDB folder, MNIST's idx files or their folder, CIFAR's tar or its unpacked folder,
                `.npy`, `.npz`, a pack;
            an array or tensor of images, or a pair (images, labels);
            a map-style torch Dataset, or any sequence, of images or pairs (image, label);
            a `Source` or a `Pack`.
            A name wins over a path: write `./mnist` for a folder called mnist.

    Raises:
        UnknownNameError: no source has this name.
        DataError: there is nothing at the path, or nothing that can be read.
        MissingDataError: data that cannot be fetched by itself.
    """
    if isinstance(spec, Source):
        return spec
    if isinstance(spec, Pack):
        return PackSource(spec)
    if isinstance(spec, str):
        return _open_text(spec)
    if isinstance(spec, os.PathLike):
        return open_path(Path(spec))
    if _is_array(spec) or (isinstance(spec, tuple) and len(spec) == 2 and all(_is_array(one) for one in spec)):
        from ganzoo.data.sources.arrays import open_arrays

        return open_arrays(*spec) if isinstance(spec, tuple) else open_arrays(spec)
    from ganzoo.data.sources.datasets import DatasetSource

    return DatasetSource(spec)


def open_path(path: Path) -> Source:
    """Return the source that lies at a path; its kind is told by what is there.

    Args:
        path: a file or folder, or several tars or parquet files by `{000..099}` or `{a,b}`.

    Raises:
        DataError: nothing is there, or nothing that can be read.
        MissingDependencyError: pyarrow, or another package that this kind of file needs, is not installed.
    """
    path = path.expanduser()
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        from ganzoo.data.sources.shards import braced_files, has_braces

        if has_braces(str(path)):
            return _open_shards(braced_files(str(path)), path.name)
        raise DataError(f"There is nothing at {str(path)!r}.", f"A path leads to {_READABLE}.")
    name = path.name.lower()
    if name.endswith(".zip"):
        from ganzoo.data.sources.zipped import ZipSource

        return ZipSource(path)
    if name.endswith((".npy", ".npz")):
        from ganzoo.data.sources.arrays import open_array_file

        return open_array_file(path)
    if name.endswith(_ARCHIVES):
        return _open_tar(path)
    if name.endswith(".parquet"):
        return _open_shards([path], path.name)
    from ganzoo.data.sources.idx import is_images_file, open_idx_file

    if is_images_file(path):
        return open_idx_file(path)
    raise DataError(f"{path.name!r} is of no kind that can be read.", f"Give {_READABLE}.")


def _open_folder(path: Path) -> Source:
    from ganzoo.data.sources.cifar import is_cifar_folder, open_cifar
    from ganzoo.data.sources.collected import open_image_folder
    from ganzoo.data.sources.idx import find_images_file, open_idx_file

    if is_pack(path):
        return PackSource(Pack(path))
    if (path / "data.mdb").is_file():
        from ganzoo.data.sources.lsun import LMDBSource

        return LMDBSource(path)
    if (images := find_images_file(path)) is not None:
        return open_idx_file(images)
    if is_cifar_folder(path):
        return open_cifar(path)
    if (shards := _shards_in(path)) is not None:
        return shards
    return open_image_folder(path)


def _shards_in(folder: Path) -> Source | None:
    """Return the source of a folder of parquet files or tars; None where it holds none, or images of more bytes."""
    from ganzoo.data.images import EXTENSIONS
    from ganzoo.data.sources.repository import select_files
    from ganzoo.data.sources.shards import files_below

    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size for path in files_below(folder, _SHARDS + EXTENSIONS)
    }
    if not any(name.endswith(_SHARDS) for name in sizes):
        return None
    chosen = select_files(sizes, {}, "", folder.name)
    if chosen.kind not in ("parquet", "tar"):
        return None
    return _open_shards([folder / name for name in chosen.files], f"{folder.resolve().name} ({chosen.part})")


def _open_shards(paths: list[Path], shown: str) -> Source:
    """Return the source of parquet files, or of plain tars."""
    if all(path.name.lower().endswith(".parquet") for path in paths):
        from ganzoo.data.sources.parquet import ParquetSource

        return ParquetSource(paths, description=f"parquet {shown!r}")
    from ganzoo.data.sources.webdataset import WebDatasetSource

    return WebDatasetSource(paths, description=f"tar {shown!r}")


def _open_tar(path: Path) -> Source:
    from ganzoo.data.sources.cifar import is_cifar_name, open_cifar
    from ganzoo.data.sources.webdataset import first_names

    if any(map(is_cifar_name, first_names(path))):
        return open_cifar(path)
    return _open_shards([path], path.name)


def _open_text(spec: str) -> Source:
    name, _, argument = spec.partition(":")
    looks_like_path = len(name) == 1 or any(mark in name for mark in "/\\.~") or name == ""
    if not looks_like_path and name in sources:
        opened = sources.get(name)(argument)
        if not isinstance(opened, Source):
            raise DataError(f"The source {name!r} gave a {type(opened).__name__}, not a ganzoo.data.Source.")
        return opened
    if looks_like_path or Path(spec).exists():
        return open_path(Path(spec))
    raise UnknownNameError("source", name, sources.names())


def _is_array(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return isinstance(value, np.ndarray) or (torch is not None and isinstance(value, torch.Tensor))
