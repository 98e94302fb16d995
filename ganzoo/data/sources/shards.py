"""Data in numbered files, shards: `path/{000000..000099}.tar`, and what identifies them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ganzoo.data.sources.base import HASHED_UP_TO, digest_of, file_fingerprint, natural_order
from ganzoo.errors import DataError, UsageError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,12})\.\.(\d{1,12})")
_MOST = 1_000_000


def has_braces(text: str) -> bool:
    """Return whether a path stands for several: it has a range or a choice in braces."""
    return any(".." in inside or "," in inside for inside in _BRACES.findall(text))


def expand_braces(text: str) -> list[str]:
    """Return the paths that one with braces stands for, in order.

    `{000..099}` is the numbers from 000 to 099, all as wide as the first; `{a,b}` is a choice. Several multiply.

    Raises:
        UsageError: a range that goes down, or over a million paths.
    """
    pieces: list[Sequence[str]] = []
    count, end = 1, 0
    for match in _BRACES.finditer(text):
        choices = _choices(text, match.group(1))
        if choices is None:
            continue
        pieces += [[text[end : match.start()]], choices]
        end = match.end()
        count *= len(choices)
        if count > _MOST:
            raise UsageError(f"{text!r} stands for over {_MOST:,} files.", "Name fewer, or give their folder.")
    return ["".join(parts) for parts in itertools.product(*pieces, [text[end:]])]


def _choices(text: str, inside: str) -> Sequence[str] | None:
    if match := _RANGE.fullmatch(inside):
        first, last = match.groups()
        if int(last) < int(first):
            raise UsageError(f"The range {{{inside}}} in {text!r} goes down.", "Write the smaller number first.")
        if int(last) - int(first) >= _MOST:
            raise UsageError(f"{text!r} stands for over {_MOST:,} files.", "Name fewer, or give their folder.")
        return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return inside.split(",") if "," in inside else None


def braced_files(text: str) -> list[Path]:
    """Return the files that a path with braces stands for.

    Raises:
        DataError: one of them is not there.
        UsageError: see `expand_braces`.
    """
    paths = [Path(one).expanduser() for one in expand_braces(text)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing):,} of the {len(paths):,} files of {text!r} are not there.",
            f"The first is {str(missing[0])!r}.",
        )
    return paths


def files_below(folder: Path, suffixes: tuple[str, ...], *, within: Sequence[str] = ("", "data")) -> list[Path]:
    """Return the files of a folder, and of the folder `data` in it, that end with one of the suffixes, in natural
    order."""
    found = []
    for place in (folder / one for one in within):
        if place.is_dir():
            found += [one for one in place.iterdir() if one.name.lower().endswith(suffixes) and one.is_file()]
    shown = [one for one in found if not one.name.startswith(".")]
    return sorted(shown, key=lambda one: natural_order(one.relative_to(folder).as_posix()))


def shards_fingerprint(paths: Iterable[Path]) -> str:
    """Return a text that changes when one of the files changes: their SHA-256s, or sizes and times of change where they
    have over 1 GiB together."""
    paths = list(paths)
    states = [path.stat() for path in paths]
    if sum(state.st_size for state in states) <= HASHED_UP_TO:
        return digest_of([file_fingerprint(*paths)])
    return digest_of(f"{state.st_size} bytes at {state.st_mtime_ns}" for state in states)
