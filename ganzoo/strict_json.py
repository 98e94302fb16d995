"""JSON as ganzoo's own files hold it, read strictly: configs, headers, manifests.

Python's reader takes more than JSON: NaN and Infinity, keys given twice (the last one wins), numbers that become
infinite, halves of surrogate pairs that cannot be written again. What takes them in passes them on, and something else
breaks later. Here they are refused at the door, and so is what is nested deeper or is longer than any real file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from typing import Any, NoReturn

from ganzoo.reading import read_whole

_MAX_DEPTH = 32
_MAX_DIGITS = 20  # of 2^64
_SHOWN = 40  # signs of a value that a message quotes


def parse_json(content: bytes) -> Any:
    """Return what a JSON text says.

    Args:
        content: UTF-8, a byte order mark at its beginning or not.

    Raises:
        ValueError: it is no JSON, or holds a key twice, a number beyond ±2^64 or no number at all (NaN), half a
            surrogate pair, or over 32 levels; one line says which.
    """
    try:
        value = json.loads(
            content.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_constant=_no_number,
            parse_int=_whole,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from error
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    for depth, one in _walk(value):
        if depth > _MAX_DEPTH:
            raise ValueError("it is nested too deep")
        if isinstance(one, str):
            try:
                one.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"{_shown(one)} is not Unicode text") from error
    return value


def read_json(path: str | os.PathLike[str], largest: int) -> Any:
    """Return what a JSON file says.

    Args:
        path: an ordinary file.
        largest: bytes that it may have.

    Raises:
        ValueError: as `parse_json`, or it is larger.
        OSError: it is not there, no ordinary file, or cannot be read.
    """
    return parse_json(read_whole(path, largest))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"it holds the key {_shown(twice)} twice")
    return made


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"it holds {text}, which is no number")


def _whole(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_DIGITS or abs(int(text)) > 1 << 64:
        raise ValueError(f"its number {_shown(text)} is too large")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"its number {_shown(text)} is too large")
    return number


def _walk(value: Any) -> Iterator[tuple[int, Any]]:
    """Yield every value and key with its depth, without recursion."""
    waiting = [(0, value)]
    while waiting:
        depth, one = waiting.pop()
        yield depth, one
        if isinstance(one, dict):
            waiting += [(depth + 1, key) for key in one]
            waiting += [(depth + 1, inner) for inner in one.values()]
        elif isinstance(one, list):
            waiting += [(depth + 1, inner) for inner in one]


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
