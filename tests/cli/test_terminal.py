"""What a person sees of a training, fed with made-up events."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ganzoo.cli.terminal import PLAIN_SECONDS, REDRAW_SECONDS, TerminalReporter
from ganzoo.data import PackProgress
from ganzoo.evaluation.contract import Value
from ganzoo.evaluation.results import Evaluation
from ganzoo.training.events import Alarm, Checkpoint, Ended, Evaluated, Evaluating, Progress, Samples, Started, Tick

RUN = Path("runs") / "00003-dcgan-digits"
STARTED = Started(
    step=0,
    kimg=0.0,
    run=RUN,
    recipe="dcgan-digits",
    total_steps=3125,
    total_kimg=200.0,
    device="cpu",
    precision="fp32",
    images=1797,
    resumed=False,
    parameters={"generator": 1_034_567, "discriminator": 662_000},
    notes=("the data stay on the disk",),
)
STATISTICS = {"loss/discriminator": 0.891, "loss/generator": 2.131, "accuracy/real": 0.81, "accuracy/fake": 0.79}


EVALUATION = Evaluation(
    "dcgan-digits after 1,000 steps",
    (Value("fd-mnist-convnet", 12.3456, "lower"), Value("recall-mnist-convnet", 0.6, "higher")),
)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def tick(step: int) -> Tick:
    return Tick(step, step * 0.064, STATISTICS, 655.0, step / 10)


def progress(step: int) -> Progress:
    return Progress(step, step * 0.064, 662.3, 131.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def screen() -> Callable[..., Console]:
    def make(*, terminal: bool, width: int = 120, encoding: str = "utf-8") -> Console:
        file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n", write_through=True)
        return Console(
            file=file, force_terminal=terminal, width=width, height=20, color_system=None, highlight=False, emoji=False
        )

    return make


def written(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.TextIOWrapper)
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode(file.encoding)


def test_the_header_tells_all_that_one_wants_to_know(screen: Callable[..., Console]) -> None:
    console = screen(terminal=False)
    TerminalReporter(console)(STARTED)
    assert written(console).splitlines() == [
        "dcgan-digits, a new training",
        f"  run         {RUN}",
        "  device      cpu, fp32",
        "  data        1,797 images",
        "  parameters  generator 1.035 M, discriminator 662 k",
        "  length      200 kimg = 3,125 steps = 111 epochs",
        f"  samples     {RUN / 'samples'}",
        "  note        the data stay on the disk",
        "  Ctrl-C stops it; a checkpoint is written first.",
    ]


def test_a_resumed_training_says_from_where(screen: Callable[..., Console]) -> None:
    console = screen(terminal=False)
    TerminalReporter(console)(Started(**{**vars(STARTED), "resumed": True, "step": 500, "kimg": 32.0}))
    assert written(console).startswith("dcgan-digits, going on from 32.0 kimg\n")


def test_without_a_terminal_lines_are_plain_and_rare(screen: Callable[..., Console], clock: Clock) -> None:
    console = screen(terminal=False, width=40)
    with TerminalReporter(console, clock=clock) as reporter:
        reporter.status("Loading PyTorch ...")
        reporter(STARTED)
        before = len(written(console).splitlines())
        for second in range(61):
            clock.now += 1.0
            reporter(progress(second))
            reporter(tick(second))
    text = written(console)
    lines = text.splitlines()[before:]
    assert len(lines) == 1 + int(59 // PLAIN_SECONDS)
    assert lines[-1].startswith(
        "2.94/200.0 kimg  662 images/s  2 min 11 s left  loss D 0.891 G 2.131  D is right on real 81%"
    )
    assert "\x1b" not in text
    assert "\r" not in text
    assert "Loading" not in text


def test_on_a_terminal_there_is_one_line_that_is_redrawn_and_at_last_removed(
    screen: Callable[..., Console], clock: Clock
) -> None:
    console = screen(terminal=True)
    with TerminalReporter(console, clock=clock) as reporter:
        reporter(STARTED)
        header = written(console)
        for step in range(1, 1001):
            clock.now += REDRAW_SECONDS / 10
            reporter(progress(step))
        drawn = written(console)[len(header) :].count("662 images/s")
        assert 90 <= drawn <= 101  # a tenth of the events
    visible = render(written(console))
    assert visible[: len(header.splitlines())] == header.splitlines()
    assert not any("images/s" in line for line in visible)


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_the_live_line_fits_its_terminal(screen: Callable[..., Console], clock: Clock, width: int) -> None:
    console = screen(terminal=True, width=width)
    reporter = TerminalReporter(console, clock=clock)
    reporter(tick(1000))
    clock.now += 1
    reporter(progress(1001))
    line = render(written(console))[-1]
    assert len(line) <= width
    if width >= 80:
        assert "G 2.13" in line
        assert re.search(r"real 81% fake 79%$", line)
    reporter.close()


def test_what_is_worth_keeping_stays_on_the_screen(screen: Callable[..., Console], clock: Clock) -> None:
    console = screen(terminal=True)
    with TerminalReporter(console, clock=clock) as reporter:
        reporter(STARTED)
        header = len(render(written(console)))
        for event in (
            Samples(500, 32.0, RUN / "samples" / "000500.png", np.zeros((1, 4, 4, 1), np.uint8), 0.4123),
            Checkpoint(1000, 64.0, RUN / "checkpoints" / "00001000", 12_345_678),
            Evaluated(1000, 64.0, RUN / "evaluations" / "step-00001000.json", EVALUATION, 83.2),
            Alarm(1500, 96.0, "collapse", "The samples become alike.", "Lower the learning rate."),
        ):
            clock.now += 1
            reporter(progress(event.step))
            reporter(event)
        clock.now += 1
        reporter(progress(1501))
        reporter(Ended(3125, 200.0, RUN, RUN / "model", 152.0, "done"))
    assert render(written(console))[header:] == [
        "   32.0 kimg  samples     samples/000500.png   diversity 0.412",
        "   64.0 kimg  checkpoint  checkpoints/00001000   11.8 MiB",
        "   64.0 kimg  evaluation  fd-mnist-convnet 12.35   recall-mnist-convnet 0.6   (1 min 23 s)",
        "   96.0 kimg  warning: The samples become alike.",
        "              try: Lower the learning rate.",
    ]


def test_packing_shows_how_far_it_is(screen: Callable[..., Console], clock: Clock) -> None:
    for terminal in (True, False):
        console = screen(terminal=terminal)
        reporter = TerminalReporter(console, clock=clock)
        reporter.packing(PackProgress(1, 2000, 0, 250.0))
        clock.now += PLAIN_SECONDS
        reporter.packing(PackProgress(500, 2000, 3, 250.0))
        line = render(written(console))[-1]
        assert line.endswith("packing 500/2,000 images  250 images/s  6 s left  3 skipped")
        assert line.startswith("━" if terminal else "packing")
        assert terminal or len(written(console).splitlines()) == 1  # what is over at once needs no line
        reporter.close()


def test_an_evaluation_shows_how_far_it_is(screen: Callable[..., Console], clock: Clock) -> None:
    for terminal in (True, False):
        console = screen(terminal=terminal)
        reporter = TerminalReporter(console, clock=clock)
        reporter(Evaluating(500, 32.0, "features mnist-convnet", 100, 10_000))
        clock.now += PLAIN_SECONDS
        reporter(Evaluating(500, 32.0, "features mnist-convnet", 2500, 10_000))
        line = render(written(console))[-1]
        assert line.endswith("evaluating: features mnist-convnet 2,500/10,000")
        assert line.startswith("━" if terminal else "evaluating")
        assert terminal or len(written(console).splitlines()) == 1  # what is over at once needs no line
        reporter.close()


def test_fetching_shows_how_far_it_is(screen: Callable[..., Console], clock: Clock) -> None:
    for terminal in (True, False):
        console = screen(terminal=terminal)
        reporter = TerminalReporter(console, clock=clock)
        reporter.fetching(1 << 20, 3 << 20)
        clock.now += PLAIN_SECONDS
        reporter.fetching(2 << 20, 3 << 20)
        line = render(written(console))[-1]
        assert line.endswith("fetching 2.0 MiB of 3.0 MiB")
        assert line.startswith("━" if terminal else "fetching")
        reporter.close()


def test_signs_fall_back_to_ascii(screen: Callable[..., Console], clock: Clock) -> None:
    console = screen(terminal=True, encoding="ascii")
    with TerminalReporter(console, clock=clock) as reporter:
        reporter(Started(**{**vars(STARTED), "notes": ("images of 16×16 — small",)}))
        clock.now += 1
        reporter(progress(1000))
    text = written(console)
    assert "images of 16x16 - small" in text
    assert "===" in text


def render(text: str) -> list[str]:
    """Return what a terminal shows after all of the text: knows new lines, \\r, cursor up, and erase line."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[\??\d*[A-Za-z]|.|\n|\r", text):
        if part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif part == "\r":
            column = 0
        elif part.startswith("\x1b"):
            number = int(re.sub(r"\D", "", part) or 1)
            if part.endswith("A"):
                row = max(0, row - number)
            elif part.endswith("K"):
                lines[row] = ""
        else:
            lines[row] = lines[row].ljust(column)[:column] + part + lines[row][column + 1 :]
            column += 1
    lines = [line.rstrip() for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return lines
