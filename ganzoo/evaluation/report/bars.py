"""Tables with a bar a row: numbers of each class, and how often each class is drawn beside how often it is real."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ganzoo.evaluation.contract import Value
from ganzoo.evaluation.report.wording import DIRECTIONS, label, number

SHOWN_AS_BARS = (
    "by_class",
    "images_of_classes",
    "counts",
    "shares",
    "real_shares",
    "digits",
    "real_digits",
    "histogram",
)
"""The details of a value that are drawn; all others are told as text."""

_MOST_ROWS = 200


@dataclass(frozen=True)
class Bar:
    """A row.

    Attributes:
        name: of the class.
        text, real: the number, and that of real images; "" where there is none.
        width, real_width: of the bars, in per cent.
    """

    name: str
    text: str
    width: float
    real: str = ""
    real_width: float = 0.0


@dataclass(frozen=True)
class BarTable:
    """A table with bars.

    Attributes:
        title: what it is of.
        column: what its numbers are.
        rows: one a class.
        has_real: whether real images stand beside.
    """

    title: str
    column: str
    rows: tuple[Bar, ...]
    has_real: bool = False


def class_tables(values: Iterable[Value]) -> list[BarTable]:
    """Return a table for each value that was measured class by class (its details hold "by_class")."""
    given = ((value, value.details.get("by_class")) for value in values)
    tables = (
        _table(f"{value.name} ({DIRECTIONS.get(value.better, value.better)})", "value", one) for value, one in given
    )
    return [table for table in tables if table is not None]


def mode_tables(values: Iterable[Value]) -> list[BarTable]:
    """Return tables of how often modes are drawn: of classes ("shares"), or of the digits in each colour ("digits")."""
    return [table for value in values for table in _modes(value) if table is not None]


def _modes(value: Value) -> Iterator[BarTable | None]:
    details = value.details
    yield _table(f"{value.name}: the classes", "share", details.get("shares"), details.get("real_shares"))
    digits, real = details.get("digits"), details.get("real_digits")
    if isinstance(digits, Mapping):
        for colour, counts in digits.items():
            beside = real.get(colour) if isinstance(real, Mapping) else None
            yield _table(f"{value.name}: digits in {label(colour)}", "images", _numbered(counts), _numbered(beside))


def _table(title: str, column: str, given: Any, real: Any = None) -> BarTable | None:
    known, beside = _numbers(given), _numbers(real)
    if not known:
        return None
    largest = max((one for one in (*known.values(), *beside.values()) if one > 0), default=0.0)

    def width(value: float | None) -> float:
        return round(100 * max(value or 0.0, 0.0) / largest, 1) if largest else 0.0

    rows = (
        Bar(name, number(one), width(one), number(beside.get(name)), width(beside.get(name)))
        for name, one in list(known.items())[:_MOST_ROWS]
    )
    return BarTable(title, column, tuple(rows), bool(beside))


def _numbers(given: Any) -> dict[str, float]:
    pairs = given.items() if isinstance(given, Mapping) else ()
    return {str(name): float(one) for name, one in pairs if isinstance(one, int | float) and math.isfinite(one)}


def _numbered(counts: Any) -> Any:
    return dict(enumerate(counts)) if isinstance(counts, list | tuple) else None
