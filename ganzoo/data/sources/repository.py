"""Which files of a data set's repository are wanted: its subsets ("configs") and splits, as the Hugging Face Hub tells
them.

The header of a repository's README may name the files of each config and split. Where it does not, a file belongs to
the split that its folders or its name say (`train/…`, `data/test-00000-of-00004.parquet`), and where none says anything
all are "train". The rules are those of https://huggingface.co/docs/hub/datasets-file-names-and-splits and
datasets-manual-configuration, told there in more detail.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from ganzoo.data.images import is_image_name
from ganzoo.data.sources.base import natural_order
from ganzoo.data.sources.labelling import METADATA_FILES
from ganzoo.errors import DataError, UnknownNameError, UsageError

Kind = Literal["parquet", "tar", "images", "zip"]

DEFAULT_SPLIT = "train"
_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF_WORD = {word: split for split, words in _SPLIT_WORDS.items() for word in words}
_SHARD = re.compile(r"(?P<split>\w+(?:\.\w+)*)-\d{4,6}-of-\d{4,6}\b.*")  # train-00000-of-00004-0123abcd.parquet
_CONVERTED = re.compile(r"(?P<config>[^/]+)/(?:partial-)?(?P<split>[^/]+)/\d{4}\.parquet")  # @refs/convert/parquet
_LONGEST_PATTERN = 300
_SHOWN_SUFFIXES = 6

Splits = dict[str, list[str]]
"""Split → its files."""


@dataclass(frozen=True)
class Selection:
    """The files of one split.

    Args:
        kind: what they are.
        files: their paths, in natural order.
        metadata: paths of the files `metadata.jsonl` and `metadata.csv` beside images.
        config: the subset that was chosen, or None where there are none.
        split: the split.
        folder_labels: whether the folders of images may be classes.
        class_names: column → names of its classes, as the README tells.
        bytes: of all of them.
    """

    kind: Kind
    files: tuple[str, ...]
    metadata: tuple[str, ...]
    config: str | None
    split: str
    folder_labels: bool
    class_names: Mapping[str, tuple[str, ...]]
    bytes: int

    @property
    def part(self) -> str:
        """What of the repository this is: "train", "plain_text/train"."""
        return self.split if self.config is None else f"{self.config}/{self.split}"


def select_files(sizes: Mapping[str, int], header: Mapping[str, Any], wanted: str, repo: str) -> Selection:
    """Return the files of the wanted split.

    Args:
        sizes: path → bytes of every file of the repository.
        header: of its README.
        wanted: "split", "config", "config/split", or "" for the split "train" of the default config.
        repo: the repository's name, for messages.

    Raises:
        UnknownNameError: it has no such config or split.
        UsageError: it has several, and which is wanted has to be said.
        DataError: it holds nothing that can be read.
    """
    named = _configs(header)
    paths = [path for path in sizes if _kind(path) is not None]
    if not named and paths and all(_CONVERTED.fullmatch(path) for path in paths):
        named = _converted_configs(paths)
    config, rest = _choose_config(wanted, named, header, paths, repo)
    subset = named[config] if config in named else _Config(_find_splits, folder=config or "")
    inside = _below(paths, subset.folder)
    kind = _largest_kind(inside, sizes)
    if kind is None:
        raise _nothing(repo, sizes)
    splits = subset.splits([path for path in inside if _kind(path) == kind])
    split = _choose_split(rest, splits, repo, config)
    files = tuple(sorted(splits[split], key=natural_order))
    metadata = [path for path in sizes if path.rpartition("/")[2] in METADATA_FILES] if kind == "images" else []
    return Selection(
        kind=kind,
        files=files,
        metadata=tuple(sorted(one for one in metadata if _tells_of(one, files))),
        config=config,
        split=split,
        folder_labels=not subset.drop_labels,
        class_names=_class_names(header, config),
        bytes=sum(sizes[path] for path in files),
    )


def _kind(path: str) -> Kind | None:
    name = path.rpartition("/")[2].lower()
    if any(part.startswith(".") or part in ("__MACOSX", "..") for part in path.split("/")) or path.startswith("/"):
        return None
    if name.endswith(".parquet") and not name.startswith("metadata"):
        return "parquet"
    if name.endswith(".tar"):
        return "tar"
    if name.endswith(".zip"):
        return "zip"
    return "images" if is_image_name(path) else None


def _largest_kind(paths: Iterable[str], sizes: Mapping[str, int]) -> Kind | None:
    """Return the kind of file that most bytes are of: a picture for the README does not make a folder of images."""
    totals: dict[Kind, int] = {}
    for path in paths:
        if (kind := _kind(path)) is not None:
            totals[kind] = totals.get(kind, 0) + sizes[path]
    return max(totals, key=totals.__getitem__, default=None)


def _nothing(repo: str, sizes: Mapping[str, int]) -> DataError:
    suffixes = sorted({path.rpartition("/")[2].partition(".")[2] or "no suffix" for path in sizes})
    shown = ", ".join(suffixes[:_SHOWN_SUFFIXES]) + (" …" if len(suffixes) > _SHOWN_SUFFIXES else "")
    return DataError(
        f"{repo} holds no images, parquet files, plain tars or zips, only: {shown[:200]}.",
        f"Try hf:{repo}@refs/convert/parquet, where the Hub keeps what it has converted itself.",
    )


def _tells_of(metadata: str, files: Sequence[str]) -> bool:
    folder = metadata.rpartition("/")[0]
    return not folder or any(path.startswith(f"{folder}/") for path in files)


def _below(paths: Sequence[str], folder: str) -> list[str]:
    return [path for path in paths if path.startswith(f"{folder}/")] if folder else list(paths)


# ------------------------------------------------------------------------------------------------------------ configs


@dataclass(frozen=True)
class _Config:
    """A subset as a README's header names it.

    Args:
        splits: (files of one kind) → files of each split.
        folder: that all of them lie in; "" for the whole repository.
        default: whether it is the one to take where none is named.
        drop_labels: whether folders are no classes.
    """

    splits: Callable[[Sequence[str]], Splits]
    folder: str = ""
    default: bool = False
    drop_labels: bool = False


def _configs(header: Mapping[str, Any]) -> dict[str, _Config]:
    """Return the subsets that a header names; what cannot be understood in it is passed over."""
    found = {}
    entries = header.get("configs")
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        name = entry.get("config_name", "default")
        folder = entry.get("data_dir")
        folder = folder.strip("./") if isinstance(folder, str) else ""
        patterns = _patterns(entry.get("data_files"))
        if not isinstance(name, str) or not (patterns or folder or "drop_labels" in entry):
            continue
        found[name] = _Config(
            splits=functools.partial(_matching, patterns, folder) if patterns else _find_splits,
            folder="" if patterns else folder,
            default=bool(entry.get("default")) or name == "default",
            drop_labels=bool(entry.get("drop_labels")),
        )
    return found


def _patterns(entry: Any) -> dict[str, list[str]]:
    """Return split → patterns of its files, of any of the forms that `data_files` may have."""
    if isinstance(entry, str | list) and all(isinstance(one, str) for one in entry):
        listed: list[tuple[Any, Any]] = [(DEFAULT_SPLIT, entry)]
    elif isinstance(entry, dict):
        listed = list(entry.items())
    elif isinstance(entry, list):
        listed = [(one.get("split", DEFAULT_SPLIT), one.get("path")) for one in entry if isinstance(one, dict)]
    else:
        listed = []
    found: dict[str, list[str]] = {}
    for split, one in listed:
        texts = [one] if isinstance(one, str) else one if isinstance(one, list) else []
        wanted = [text for text in texts if isinstance(text, str) and len(text) <= _LONGEST_PATTERN]
        if isinstance(split, str) and wanted:
            found.setdefault(split, []).extend(wanted)
    return found


def _matching(patterns: Mapping[str, Sequence[str]], folder: str, paths: Sequence[str]) -> Splits:
    splits: Splits = {}
    for split, wanted in patterns.items():
        rooted = [[*folder.split("/"), *one.split("/")] if folder else one.split("/") for one in wanted]
        plain = [[part for part in one if part not in ("", ".")] for one in rooted]
        if matched := [path for path in paths if any(_matches(path.split("/"), one) for one in plain)]:
            splits[split] = matched
    return splits


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a path is meant by a pattern, both in parts between the slashes: `**` is any number of parts, and
    a pattern that ends at a folder means all below."""
    reached = {0}  # numbers of the path's parts that the pattern may have used up
    for one in pattern:
        if one == "**":
            reached = set(range(min(reached), len(parts) + 1)) if reached else set()
        else:
            reached = {place + 1 for place in reached if place < len(parts) and fnmatchcase(parts[place], one)}
    folders_named = bool(pattern) and not any(mark in pattern[-1] for mark in "*?[")
    return len(parts) in reached or (folders_named and bool(reached))


def _converted_configs(paths: Sequence[str]) -> dict[str, _Config]:
    """Return the subsets of the Hub's own conversion, `CONFIG/SPLIT/0000.parquet`."""
    names = {path.partition("/")[0] for path in paths}

    def splits(inside: Sequence[str]) -> Splits:
        found: Splits = {}
        for path in inside:
            if match := _CONVERTED.fullmatch(path):
                found.setdefault(match["split"], []).append(path)
        return found

    return {name: _Config(splits, folder=name, default=name == "default") for name in sorted(names)}


def _choose_config(
    wanted: str, named: Mapping[str, _Config], header: Mapping[str, Any], paths: Sequence[str], repo: str
) -> tuple[str | None, str]:
    """Return (config, or a folder where none are named, or None; what is wanted of it: a split or "")."""
    first, slash, rest = wanted.partition("/")
    default = _default_config(named)
    if not named:
        folders = {path.partition("/")[0] for path in paths if "/" in path}
        if first in folders and (slash or first not in _find_splits(list(paths))):
            return first, rest
        if slash:
            raise UnknownNameError(f"folder of {repo}", first, folders)
        return None, first
    if slash or (first in named and not (default is not None and first in _split_names(header, default))):
        if first not in named:
            raise UnknownNameError(f"config of {repo}", first, named)
        return first, rest
    if default is None:
        raise UsageError(
            f"{repo} has the configs {_listed(named)}, and one has to be named.",
            f"For example hf:{repo}:{next(iter(named))}/{first or DEFAULT_SPLIT}",
        )
    return default, first


def _default_config(named: Mapping[str, _Config]) -> str | None:
    if len(named) == 1:
        return next(iter(named))
    return next((name for name, config in named.items() if config.default), None)


def _split_names(header: Mapping[str, Any], config: str) -> set[str]:
    """Return the splits that a header names for a config."""
    entries = header.get("configs")
    found: set[str] = set()
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("config_name", "default") == config:
            found |= _patterns(entry.get("data_files")).keys()
    return found


# ------------------------------------------------------------------------------------------------------------- splits


def _find_splits(paths: Sequence[str]) -> Splits:
    """Return the files of each split, as their folders or names say. Where none says anything, all are "train"."""
    sharded: Splits = {}
    for path in paths:
        if match := _SHARD.fullmatch(path.rpartition("/")[2]):
            sharded.setdefault(match["split"], []).append(path)
    if sharded and sum(map(len, sharded.values())) == len(paths):
        return sharded
    by_folder = {path: split for path in paths if (split := _word_of(path.split("/")[:-1])) is not None}
    by_name = {path: split for path in paths if (split := _word_of([path.rpartition("/")[2]])) is not None}
    # A picture of a "steam train.jpg" makes no split, unless every file's name tells one.
    told = by_folder or (by_name if len(by_name) == len(paths) or not any(map(is_image_name, paths)) else {})
    if not told:
        return {DEFAULT_SPLIT: list(paths)} if paths else {}
    splits: Splits = {}
    for path, split in told.items():
        splits.setdefault(split, []).append(path)
    return splits


def _word_of(parts: Sequence[str]) -> str | None:
    """Return the split that the first word that means one names."""
    for part in parts:
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _SPLIT_OF_WORD:
                return _SPLIT_OF_WORD[word]
    return None


def _choose_split(wanted: str, splits: Splits, repo: str, config: str | None) -> str:
    if wanted:
        if wanted not in splits:
            raise UnknownNameError(f"split of {repo}" + (f" ({config})" if config else ""), wanted, splits)
        return wanted
    if DEFAULT_SPLIT in splits or len(splits) == 1:
        return DEFAULT_SPLIT if DEFAULT_SPLIT in splits else next(iter(splits))
    if not splits:
        raise DataError(
            f"The README of {repo} names files that it does not hold.",
            f"Look at it, or try another: hf:{repo}@REVISION",
        )
    part = f"{config}/" if config else ""
    raise UsageError(
        f"{repo} has the splits {_listed(splits)}, and one has to be named.",
        f"For example hf:{repo}:{part}{next(iter(splits))}",
    )


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")


# ------------------------------------------------------------------------------------------------------------ classes


def _class_names(header: Mapping[str, Any], config: str | None) -> dict[str, tuple[str, ...]]:
    """Return column → names of its classes, from a header's `dataset_info`."""
    info = header.get("dataset_info")
    entries = [one for one in (info if isinstance(info, list) else [info]) if isinstance(one, dict)]
    chosen = [one for one in entries if one.get("config_name") == config] or (entries if len(entries) == 1 else [])
    names: dict[str, tuple[str, ...]] = {}
    for entry in chosen:
        features = entry.get("features")
        for feature in features if isinstance(features, list) else []:
            dtype = feature.get("dtype") if isinstance(feature, dict) else None
            told = dtype.get("class_label") if isinstance(dtype, dict) else None
            found = _ordered(told.get("names")) if isinstance(told, dict) else ()
            if found and isinstance(feature.get("name"), str):
                names[feature["name"]] = found
    return names


def _ordered(names: Any) -> tuple[str, ...]:
    """Return the names that a list, or a table of number → name, holds."""
    if isinstance(names, list):
        return tuple(map(str, names))
    if not isinstance(names, dict):
        return ()
    by_number = {str(number): str(name) for number, name in names.items()}
    ordered = [by_number.get(str(number)) for number in range(len(by_number))]
    return tuple(name for name in ordered if name is not None) if None not in ordered else ()
