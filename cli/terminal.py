"""What a person sees of a training: a header, one live line, and lines that stay; on standard error.

Where standard error is no terminal there is no live line: a plain one is printed now and then instead, without control
characters. Events that come often cost next to nothing here: the live line is redrawn a few times a second at most.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ganzoo.training.events import (
    Alarm,
    Checkpoint,
    Ended,
    Evaluated,
    Evaluating,
    Event,
    Progress,
    Samples,
    Started,
    Tick,
)

from . import output

if TYPE_CHECKING:
    from ganzoo.data import PackProgress

REDRAW_SECONDS = 0.2
PLAIN_SECONDS = 15.0
_FIRST_PLAIN_SECONDS = 2.0  # what takes less needs no line
_WIDEST_BAR = 24
_NARROWEST_BAR = 6


class TerminalReporter:
    """Listens to a training and shows it. Use it as a context manager: leaving it puts the terminal in order.

    Args:
        console: where to write; standard error if left out.
        clock: seconds that only go forward; for tests.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console or Console(file=sys.stderr, highlight=False, emoji=False, markup=False)
        self._clock = clock
        self._live: Live | None = None
        self._drawn = clock() - PLAIN_SECONDS + _FIRST_PLAIN_SECONDS
        self._started: Started | None = None
        self._progress: Progress | None = None
        self._tick: Tick | None = None
        self._run = Path()
        self._packing = False
        self._measured: tuple[str, float, int] = ("", 0.0, 0)  # what, since when, from where

    def __enter__(self) -> TerminalReporter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the live line; the next event draws it anew."""
        if self._live is not None:
            self._live.update(Text(""))
            self._live.stop()
            self._live = None

    def status(self, text: str) -> None:
        """Show what is being waited for, on a terminal only, until something else is shown."""
        if self.console.is_terminal:
            self._draw(self._text(text, "dim"), at_once=True)

    def packing(self, progress: PackProgress) -> None:
        """Show how far the packing of the data is."""
        line = _pack_line(progress)
        if not self._packing:
            self._packing, self._drawn = True, self._clock() - PLAIN_SECONDS + _FIRST_PLAIN_SECONDS
        if self.console.is_terminal:
            self._draw(_with_bar(line, progress.done, progress.total or 0, self.console, self._ascii))
        elif self._is_time(PLAIN_SECONDS):
            self._print(line)

    def drawing(self, done: int, total: int, rate: float) -> None:
        """Show how many images were drawn, at what rate (images a second), while there are more to come."""
        line = f"drawing {done:,}/{total:,} images  {rate:,.0f} images/s  {output.duration((total - done) / rate)} left"
        if self.console.is_terminal:
            self._draw(_with_bar(line, done, total, self.console, self._ascii))
        elif done < total and self._is_time(PLAIN_SECONDS):
            self._print(line)

    def fetching(self, done: int, total: int) -> None:
        """Show how many bytes of a model were fetched, while there are more to come."""
        line = f"fetching {output.size_of(done)} of {output.size_of(total)}"
        if self.console.is_terminal:
            self._draw(_with_bar(line, done, total, self.console, self._ascii))
        elif done < total and self._is_time(PLAIN_SECONDS):
            self._print(line)

    def measuring(self, what: str, done: int, total: int) -> None:
        """Show what is being measured and how far it is, at what rate, and how long it will take."""
        now = self._clock()
        if what != self._measured[0]:
            self._measured = what, now, done
            self._drawn = now - PLAIN_SECONDS + _FIRST_PLAIN_SECONDS
        _, begun, first = self._measured
        line = f"{what}  {done:,}/{total:,}"
        if done > first and now > begun:
            rate = (done - first) / (now - begun)
            line += f"  {rate:,.{0 if rate >= 10 else 1}f}/s  {output.duration((total - done) / rate)} left"
        if self.console.is_terminal:
            self._draw(_with_bar(line, done, total, self.console, self._ascii))
        elif done < total and self._is_time(PLAIN_SECONDS):
            self._print(line)

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Started():
                self._show_header(event)
            case Progress():
                self._progress = event
                self._show_line(event)
            case Tick():
                self._tick = event
                self._show_line(event)
            case Samples():
                self._keep(event, f"samples     {self._short(event.path)}   diversity {event.diversity:.3f}")
            case Evaluating():
                self._show_evaluating(event)
            case Evaluated():
                values = "   ".join(f"{value.name} {value.value:.4g}" for value in event.evaluation.values)
                self._keep(event, f"evaluation  {values}   ({output.duration(event.seconds)})")
            case Checkpoint():
                self._keep(event, f"checkpoint  {self._short(event.path)}   {output.size_of(event.bytes)}")
            case Alarm():
                self._keep(event, f"warning: {event.message}", "bold yellow")
                self._print(f"{'':>12}  try: {event.advice}", "yellow")
            case Ended():
                if not self.console.is_terminal and self._tick is not None:
                    self._print(self._line(event))
                self.close()

    # ------------------------------------------------------------------------------------------------ the header

    def _show_header(self, event: Started) -> None:
        self.close()
        self._started, self._run = event, event.run
        epochs = event.total_kimg * 1000 / event.images if event.images else 0.0
        data = _data_of(event.run)
        images = f"{event.images:,} images" + (f" of {data}" if data else "")
        networks = ", ".join(f"{name} {output.count(number)}" for name, number in event.parameters.items())
        length = f"{event.total_kimg:,.6g} kimg = {event.total_steps:,} steps = {_epochs(epochs)}"
        title = f"{event.recipe}, " + (f"going on from {_kimg(event.kimg)} kimg" if event.resumed else "a new training")
        self._print(title, "bold")
        for name, value in (
            ("run", str(event.run)),
            (
                "device",
                f"{event.device}{output.times(event.processes)}, {event.precision}"
                + (", CUDA graph" if event.engine == "graph" else ""),
            ),
            ("data", images),
            ("parameters", networks),
            ("length", length),
            ("samples", str(event.run / "samples")),
        ):
            self._print(f"  {name:<11} {value}")
        for note in event.notes:
            self._print(f"  note        {note}", "yellow")
        self._print("  Ctrl-C stops it; a checkpoint is written first.", "dim")
        self._drawn = self._clock() - PLAIN_SECONDS + _FIRST_PLAIN_SECONDS

    # ------------------------------------------------------------------------------------------------ the line

    def _show_line(self, event: Event) -> None:
        if self.console.is_terminal:
            if self._is_time(REDRAW_SECONDS):
                total = self._started.total_kimg if self._started else 0.0
                self._draw(_with_bar(self._line(event), event.kimg, total, self.console, self._ascii), at_once=True)
        elif self._is_time(PLAIN_SECONDS):
            self._print(self._line(event))

    def _show_evaluating(self, event: Evaluating) -> None:
        line = f"evaluating: {event.what} {event.done:,}/{event.total:,}"
        if self.console.is_terminal:
            if self._is_time(REDRAW_SECONDS):
                bar = _with_bar(line, event.done, event.total, self.console, self._ascii)
                self._draw(bar, at_once=True)
        elif self._is_time(PLAIN_SECONDS):
            self._print(line)

    def _line(self, event: Event) -> str:
        """Return the line in the longest form for which there is room."""
        longest, *shorter = (self._parts(event, form) for form in range(3))
        if not self.console.is_terminal:
            return longest
        return next((line for line in (longest, *shorter) if len(line) <= self.console.width), shorter[-1])

    def _parts(self, event: Event, form: int) -> str:
        total = self._started.total_kimg if self._started else math.nan
        parts = [f"{_kimg(event.kimg)}/{_kimg(total)} kimg"]
        rate = self._progress or self._tick
        if rate is not None:
            parts.append(f"{rate.images_per_second:,.0f} {('images/s', 'images/s', 'img/s')[form]}")
        if self._progress is not None and not isinstance(event, Ended):
            parts.append(f"{output.duration(self._progress.seconds_left)} left")
        if self._tick is not None:
            value = self._tick.statistics.get
            generator, discriminator = value("loss/generator"), value("loss/discriminator")
            real, fake = _share(value("accuracy/real")), _share(value("accuracy/fake"))
            if form == 0:
                parts.append(f"loss D {_number(discriminator, 3)} G {_number(generator, 3)}")
                parts.append(f"D is right on real {real} fake {fake}")
            else:
                parts.append(f"D {_number(discriminator, 2)} G {_number(generator, 2)}")
                parts.append(f"real {real} fake {fake}")
        return "  ".join(parts)

    def _draw(self, line: Text, at_once: bool = False) -> None:
        if not at_once and not self._is_time(REDRAW_SECONDS):
            return
        if self._live is None:
            self._live = Live(
                console=self.console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        self._live.update(line, refresh=True)

    def _is_time(self, seconds: float) -> bool:
        now = self._clock()
        if now - self._drawn < seconds:
            return False
        self._drawn = now
        return True

    # ------------------------------------------------------------------------------------------------ lines that stay

    def _keep(self, event: Event, text: str, style: str = "") -> None:
        self._print(f"{_kimg(event.kimg):>7} kimg  {text}", style)

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(self._text(text, style), soft_wrap=True)

    def _text(self, text: str, style: str = "") -> Text:
        return Text(output.shown(text, self.console.file), style=style, no_wrap=True, overflow="ellipsis")

    def _short(self, path: Path) -> str:
        return path.relative_to(self._run).as_posix() if path.is_relative_to(self._run) else str(path)

    @property
    def _ascii(self) -> bool:
        return not self.console.encoding.lower().startswith("utf")


def _with_bar(line: str, done: float, total: float, console: Console, ascii_only: bool) -> Text:
    """Return the line with a bar before it, as wide as the terminal leaves room for."""
    room = min(console.width - len(line) - 3, _WIDEST_BAR)
    text = Text(no_wrap=True, overflow="ellipsis" if not ascii_only else "crop")
    if total > 0 and room >= _NARROWEST_BAR:
        filled = round(room * min(max(done / total, 0.0), 1.0))
        full, empty = ("=", "-") if ascii_only else ("━", "━")
        text.append(full * filled, style="green").append(empty * (room - filled), style="bright_black").append("  ")
    return text.append(line)


def _data_of(run: Path) -> str | None:
    """Return where a run's images come from, as its folder says."""
    from ganzoo.training.run import is_run, open_run

    return open_run(run).facts.data.get("description") if is_run(run) else None


def _pack_line(progress: PackProgress) -> str:
    of = f"/{progress.total:,}" if progress.total else ""
    skipped = f"  {progress.skipped:,} skipped" if progress.skipped else ""
    left = ""
    if progress.total and progress.images_per_second > 0:
        left = f"  {output.duration((progress.total - progress.done) / progress.images_per_second)} left"
    return f"packing {progress.done:,}{of} images  {progress.images_per_second:,.0f} images/s{left}{skipped}"


def _kimg(value: float) -> str:
    """Return a number of kimg with as many decimals as matter."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _epochs(epochs: float) -> str:
    shown = f"{epochs:,.0f}" if epochs >= 10 else f"{epochs:.2g}"
    return f"{shown} epoch" if shown == "1" else f"{shown} epochs"


def _number(value: float | None, decimals: int) -> str:
    return "?" if value is None else f"{value:.{decimals}f}" if abs(value) < 100 else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "?" if value is None else f"{value:.0%}"
