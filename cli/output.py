"""What the commands print with: results on standard output, all else on standard error, in characters it has."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import IO, Any

import click

_ASCII = str.maketrans(
    {"×": "x", "→": "->", "–": "-", "—": "-", "…": "...", "·": "-", "−": "-", "│": "|", "─": "-", "━": "=", "±": "+-"}
)
_MIN_LAST_COLUMN = 24


def shown(text: str, stream: IO[str]) -> str:
    """Return the text in characters that a stream's encoding has: typographic signs as ASCII ones, others as "?"."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, errors="replace").decode(encoding)
    except LookupError:
        return text.translate(_ASCII)
    return text


def result(text: str = "") -> None:
    """Print a line of the result on standard output."""
    click.echo(shown(text, sys.stdout), color=_color())


def note(text: str = "") -> None:
    """Print a line that is not the result on standard error."""
    click.echo(shown(text, sys.stderr), err=True, color=_color())


def hint(text: str) -> None:
    """Print a hint on standard error, only where a person watches."""
    if sys.stderr.isatty():
        note(click.style(text, dim=True))


def result_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output. Numbers that are not finite become null, for JSON has none."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=True, allow_nan=False))


def error_line(message: str) -> None:
    """Print one line that begins with "ganzoo: error:" on standard error."""
    note(f"ganzoo: {click.style('error', fg='red', bold=True)}: {' '.join(message.split())}")


def warning_line(message: str) -> None:
    """Print one line that begins with "ganzoo: warning:" on standard error."""
    note(f"ganzoo: {click.style('warning', fg='yellow', bold=True)}: {' '.join(message.split())}")


def table(
    rows: Sequence[Sequence[str]], header: Sequence[str] = (), right: Sequence[int] = (), indent: str = ""
) -> list[str]:
    """Return the lines of a table in aligned columns.

    On a terminal the last column is wrapped to its width, if it is text; elsewhere every row is one line, to be
    searched.

    Args:
        rows: the cells, rows of equal length.
        header: the columns' names, or none.
        right: the columns that are aligned to the right (numbers).
        indent: what every line begins with.
    """
    every = [list(header), *map(list, rows)] if header else [list(row) for row in rows]
    if not every:
        return []
    widths = [max(len(row[column]) for row in every) for column in range(len(every[0]))]
    last = len(widths) - 1
    before = len(indent) + sum(widths[:-1]) + 2 * last
    room = max(terminal_width() - before, _MIN_LAST_COLUMN) if sys.stdout.isatty() else 0
    lines = []
    for number, row in enumerate(every):
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        start = indent + "".join(cell + "  " for cell in cells[:-1])
        wrap = room and last not in right and len(row[-1]) > room
        parts = textwrap.wrap(row[-1], room) if wrap else [cells[-1]]
        block = [(start + parts[0]).rstrip(), *(" " * before + part for part in parts[1:])]
        lines += [click.style(line, bold=True) for line in block] if header and number == 0 else block
    return lines


def terminal_width() -> int:
    """Return the terminal's width in characters (80 where there is none)."""
    return shutil.get_terminal_size((80, 24)).columns


def duration(seconds: float) -> str:
    """Return a time as people say it: "8 s", "2 min 31 s", "3 h 05 min", "2 d 04 h"."""
    if not seconds < float("inf"):
        return "?"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def count(number: float) -> str:
    """Return a number in four digits with a letter for its size: 742, 662 k, 18.89 M, 1.281 G."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.4g} {letter}"
    return f"{number:g}"


def times(processes: int) -> str:
    """Return " × 4 processes", or nothing for one."""
    return f" × {processes} processes" if processes > 1 else ""


def size_of(number: float) -> str:
    """Return a number of bytes in binary units: "512 B", "226.1 MiB"."""
    for size, unit in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f} B"


def _color() -> bool | None:
    return False if os.environ.get("NO_COLOR") else None


def _plain(value: Any) -> Any:
    """Return a value in what JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
