"""What the benchmarks share: contenders that take turns, tables on the terminal, results as JSON."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def in_turn(contenders: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every call. The contenders take turns, so that what else the machine does strikes all.

    Args:
        contenders: what is measured, by name.
        rounds: calls of each that count; one before them does not.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, contender in contenders.items():
            begun = time.perf_counter()
            contender()
            if number:
                taken[name].append(time.perf_counter() - begun)
    return taken


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median of values, the least and the greatest."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def print_table(title: str, rows: Sequence[Row]) -> None:
    """Print rows under their keys as a table that Markdown reads too; numbers with three digits that count.

    Args:
        title: a line above.
        rows: at least one; all with the keys of the first.
    """
    columns = list(rows[0])
    cells = [columns, *([shown(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    print(
        f"\n{title}\n\n{lines[0]}\n|{'|'.join('-' * (width + 2) for width in widths)}|",
        *lines[1:],
        sep="\n",
        flush=True,
    )


def shown(value: Any) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return "not measured"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def write_json(path: Path | None, told: Mapping[str, Any]) -> None:
    """Write results with the machine that they are of; nothing where `path` is None."""
    if path is None:
        return
    from ganzoo.benchmarking.machine import this_machine

    path.write_text(json.dumps({"machine": asdict(this_machine()), **told}, indent=1) + "\n", encoding="utf-8")
    print(f"\n{path}")
