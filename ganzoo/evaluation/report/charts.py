"""The charts of a report: curves through training, and histograms, as coordinates that its template draws as SVG.

Coordinates are rounded to a tenth of a pixel, so that the same numbers give the same bytes on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ganzoo.evaluation.contract import Value
from ganzoo.evaluation.report.wording import number

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 58, 24, 12, 40  # of the field in which curves are drawn
_MOST_POINTS = 400  # more than pixels across
_LOGARITHMIC_FROM = 30.0  # largest ÷ smallest
_MOST_BARS = 2000

Ticks = tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Chart:
    """A curve or a histogram, ready to be drawn.

    Attributes:
        title: the number's name.
        summary: what the chart shows, in a sentence.
        points: of the line, or of the outline of the bars: "x,y x,y …".
        markers: (x, y) of single points, where they are few.
        across, up: ticks of the axes, (position in pixels, text).
        across_label: what the axis across counts.
        filled: whether it is an area down to the axis.
        level: (y in pixels, what it is) of a line to compare with.
    """

    title: str
    summary: str
    points: str
    markers: tuple[tuple[float, float], ...]
    across: Ticks
    up: Ticks
    across_label: str
    filled: bool = False
    level: tuple[float, str] | None = None


def curve_charts(curves: Mapping[str, Sequence[tuple[float, float]]]) -> list[Chart]:
    """Return a chart for each curve over kimg that has a finite point.

    Args:
        curves: name of a number → (kimg, value), in order.
    """
    return [chart for name, points in curves.items() if (chart := _curve(name, points)) is not None]


def histogram_charts(values: Iterable[Value]) -> list[Chart]:
    """Return a chart for each value whose details hold a "histogram": how often each mode was counted, as a list."""
    charts = (_histogram(value.name, _counts(value.details.get("histogram"))) for value in values)
    return [chart for chart in charts if chart is not None]


def _curve(name: str, points: Sequence[tuple[float, float]]) -> Chart | None:
    known = [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not known:
        return None
    known = [known[index] for index in _evenly(len(known), _MOST_POINTS)]
    across, up = [x for x, _ in known], [y for _, y in known]
    logarithmic = min(up) > 0 and max(up) / min(up) >= _LOGARITHMIC_FROM
    place_x, ticks_x = _axis(min(0.0, *across), max(across), LEFT, WIDTH - RIGHT)
    place_y, ticks_y = _axis(min(up), max(up), HEIGHT - BOTTOM, TOP, logarithmic=logarithmic)
    places = [(place_x(x), place_y(y)) for x, y in known]
    return Chart(
        title=name + (" (logarithmic)" if logarithmic else ""),
        summary=_told(known),
        points=_joined(places),
        markers=tuple(places) if len(places) <= 40 else (),
        across=ticks_x,
        up=ticks_y,
        across_label="kimg (thousands of real images)",
    )


def _told(known: Sequence[tuple[float, float]]) -> str:
    def at(point: tuple[float, float]) -> str:
        return f"{number(point[1])} at {round(point[0], 1):,.10g} kimg"

    if len(known) == 1:
        return f"One evaluation: {at(known[0])}."
    lowest, highest = min(known, key=lambda one: one[1]), max(known, key=lambda one: one[1])
    return f"{len(known)} points, from {at(known[0])} to {at(known[-1])}; lowest {at(lowest)}, highest {at(highest)}."


def _histogram(name: str, counts: Sequence[float]) -> Chart | None:
    if not counts:
        return None
    counts = sorted(counts, reverse=True)
    place, ticks = _axis(0.0, max(counts[0], 1.0), HEIGHT - BOTTOM, TOP)
    step = (WIDTH - LEFT - RIGHT) / len(counts)
    edges = [index for index in range(1, len(counts)) if counts[index] != counts[index - 1]]
    outline = [
        (round(LEFT + step * at, 1), place(counts[first]))
        for first, last in zip((0, *edges), (*edges, len(counts)), strict=True)
        for at in (first, last)
    ]
    even = sum(counts) / len(counts)
    return Chart(
        title=name,
        summary=(
            f"{sum(count > 0 for count in counts):,} of {len(counts):,} modes are drawn: the most frequent "
            f"{number(counts[0])} times, the rarest {number(counts[-1])} times; even would be {number(even)} each."
        ),
        points=_joined([(LEFT, place(0.0)), *outline, (WIDTH - RIGHT, place(0.0))]),
        markers=(),
        across=((LEFT, "1"), (WIDTH - RIGHT, f"{len(counts):,}")),
        up=ticks,
        across_label="modes, the most frequent first",
        filled=True,
        level=(place(even), "even"),
    )


def _counts(given: Any) -> list[float]:
    """Return a histogram's counts; none where it is no histogram."""
    if not isinstance(given, Sequence) or isinstance(given, str) or not 0 < len(given) <= _MOST_BARS:
        return []
    numbers = [float(one) for one in given if isinstance(one, int | float) and math.isfinite(one) and one >= 0]
    return numbers if len(numbers) == len(given) else []


def _axis(
    low: float, high: float, start: float, end: float, *, logarithmic: bool = False
) -> tuple[Callable[[float], float], Ticks]:
    """Return the function from values to pixels, and the ticks, of an axis from pixel `start` to `end`."""
    if logarithmic:
        marks = _decades(low, high)
        low, high = math.log10(min(low, marks[0])), math.log10(max(high, marks[-1]))
        ticks = [(math.log10(mark), f"{mark:,.10g}") for mark in marks]
    else:
        step = _step(low, high)
        first, last = math.floor(low / step), math.ceil(high / step)
        if first == last:  # one value: in the middle
            first, last = first - 1, last + 1
        low, high = first * step, last * step
        ticks = [(index * step, f"{index * step:,.10g}") for index in range(first, last + 1)]

    def place(value: float) -> float:
        return round(start + (end - start) * (value - low) / (high - low), 1)

    def at(value: float) -> float:
        return place(math.log10(value)) if logarithmic else place(value)

    return at, tuple((place(mark), text) for mark, text in ticks)


def _step(low: float, high: float) -> float:
    """Return the distance of ticks: 1, 2 or 5 times a power of ten, so that there are three to seven of them."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 5))
    return next(step * power for step in (1, 2, 5, 10) if span / (step * power) <= 6)


def _decades(low: float, high: float) -> list[float]:
    """Return ticks of a logarithmic axis that hold `low` and `high` between them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    fine = (1, 2, 5) if last - first <= 2 else (1,)
    marks = [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in fine]
    inside = [index for index, mark in enumerate(marks) if low <= mark <= high]
    return marks[max(0, inside[0] - 1) : inside[-1] + 2]


def _evenly(count: int, most: int) -> list[int]:
    return list(range(count)) if count <= most else [round(index * (count - 1) / (most - 1)) for index in range(most)]


def _joined(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)
