"""Options after a source's colon: `name=value`, separated by commas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ganzoo.errors import UsageError, suggest


def parse_options(source: str, argument: str, readers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """Return the options that a text gives, read; those that it does not give are absent.

    Args:
        source: the source's name, for messages.
        argument: such as "count=1000,seed=3"; may be empty.
        readers: option → function from its text to its value, which raises `ValueError` with what it should be.

    Raises:
        UsageError: no such option, given twice, without a value, or one that cannot be read.
    """
    found: dict[str, Any] = {}
    for part in argument.split(",") if argument else []:
        name, equals, text = (piece.strip() for piece in part.partition("="))
        if name not in readers:
            raise UsageError(f"The source {source!r} has no option {name!r}.", suggest(name, sorted(readers)))
        if not equals or not text:
            raise UsageError(f"The option {name!r} of {source!r} has no value.", f"Write {source}:{name}=VALUE.")
        if name in found:
            raise UsageError(f"The option {name!r} of {source!r} is given twice.", "Give it once.")
        try:
            found[name] = readers[name](text)
        except ValueError as error:
            raise UsageError(f"The option {name!r} of {source!r} is {text!r}.", f"It is {error}.") from error
    return found


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `low` to `high`; underscores may group digits."""

    def read(text: str) -> int:
        plain = text.replace("_", "")
        if not (plain.isascii() and plain.isdecimal()) or not low <= int(plain[:25]) <= high:
            raise ValueError(f"a whole number from {low:,} to {high:,}")
        return int(plain)

    return read


def one_of(*values: str) -> Callable[[str], str]:
    """Return a reader of one of some words."""

    def read(text: str) -> str:
        if text not in values:
            raise ValueError(f"one of {', '.join(values)}")
        return text

    return read
