"""Reporters that write a training's events to files: metrics.jsonl, log.txt and TensorBoard's event files.

A reporter is any callable that takes an event; these keep nothing open between events but TensorBoard's writer, so that
a run killed at any moment leaves whole lines, and at worst one torn line at the end of metrics.jsonl.

A line of metrics.jsonl is a JSON object with "schema_version", "event" ("tick", "samples", "evaluation", "checkpoint"
or "alarm"), "step", "kimg" and the event's own fields, named as in `ganzoo.training.events`; an evaluation has
"values", from name to number, and a file of its own. Numbers that are not finite are null, paths are relative to the
file's folder. How often training was started is not in it: a resumed run's file reads as a straight one's.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ganzoo.errors import MissingDependencyError, RunError
from ganzoo.pictures import grid
from ganzoo.training.events import Alarm, Checkpoint, Ended, Evaluated, Event, Samples, Started, Tick
from ganzoo.training.run import writing

SCHEMA_VERSION = 1


# ------------------------------------------------------------------ metrics.jsonl


class JsonLinesReporter:
    """Appends one JSON object a line for each tick, sample grid, evaluation, checkpoint and alarm.

    Args:
        path: the file, usually RUN/metrics.jsonl; its folder must exist.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __call__(self, event: Event) -> None:
        """Write a line, where the event is one of those five."""
        fields = self._fields(event)
        if fields is None:
            return
        kind = "evaluation" if isinstance(event, Evaluated) else type(event).__name__.lower()
        row = {"schema_version": SCHEMA_VERSION, "event": kind, "step": event.step, "kimg": event.kimg} | fields
        _append(self.path, json.dumps(_finite(row), ensure_ascii=False, allow_nan=False) + "\n")

    def _fields(self, event: Event) -> dict[str, Any] | None:
        match event:
            case Tick():
                return {
                    "seconds": event.seconds,
                    "images_per_second": event.images_per_second,
                    "statistics": dict(event.statistics),
                }
            case Samples():
                return {"path": self._relative(event.path), "diversity": event.diversity}
            case Evaluated():
                return {"values": {value.name: value.value for value in event.evaluation.values}}
            case Checkpoint():
                return {"path": self._relative(event.path), "bytes": event.bytes}
            case Alarm():
                return {"name": event.name, "message": event.message, "advice": event.advice}
        return None

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.path.parent)).as_posix()


def read_metrics(path: Path | str) -> list[dict[str, Any]]:
    """Return the rows of a metrics.jsonl in order; none where there is no file; a torn last line is left out.

    Args:
        path: the file.

    Raises:
        RunError: a line before the last is no JSON object, or was written by a later ganzoo.
    """
    return [row for row, _ in _rows(Path(path))]


def read_evaluations(run: Path | str) -> dict[str, list[tuple[float, float]]]:
    """Return the curves of what was measured while a run was trained: name → [(kimg, value), …] in order.

    Args:
        run: the run folder. Where nothing was measured there are no curves; values that were not finite are left out.

    Raises:
        RunError: as `read_metrics`.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in read_metrics(Path(run) / "metrics.jsonl"):
        if row["event"] == "evaluation":
            for name, value in row["values"].items():
                if value is not None:
                    curves.setdefault(name, []).append((float(row["kimg"]), float(value)))
    return curves


def truncate_metrics(path: Path | str, step: int) -> int:
    """Drop the rows of steps beyond a given one, and a torn last line; return how many were dropped.

    So a run that goes on from its checkpoint does not report the same steps twice. The file is replaced at once, or
    left alone where nothing is to be dropped.

    Args:
        path: the metrics.jsonl; nothing is done where there is none.
        step: the checkpoint's.

    Raises:
        RunError: as `read_metrics`.
    """
    path = Path(path)
    if not path.is_file():
        return 0
    keep = [line for row, line in _rows(path) if row["step"] <= step]
    content = "".join(line + "\n" for line in keep).encode()
    before = path.read_bytes()
    if content == before:
        return 0
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return len(before.splitlines()) - len(keep)


def _rows(path: Path) -> list[tuple[dict[str, Any], str]]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        if number == len(lines):
            break  # what follows the last newline: nothing, or a line torn by a kill
        try:
            row = json.loads(line)
            version, *_ = row["schema_version"], row["event"], row["step"], row["kimg"]
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"Line {number} of {path} is no row of metrics ({type(error).__name__}).", "Delete that line."
            ) from error
        if version > SCHEMA_VERSION:
            raise RunError(
                f"Line {number} of {path} has schema_version {version}; this ganzoo reads {SCHEMA_VERSION}.",
                "Update ganzoo.",
            )
        rows.append((row, line))
    return rows


def _append(path: Path, text: str) -> None:
    with writing(path.parent), path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(text)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# ------------------------------------------------------------------ log.txt


class TextReporter:
    """Appends a line that a person reads, with the time of day, for each event but progress.

    Args:
        path: the file, usually RUN/log.txt; its folder must exist.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __call__(self, event: Event) -> None:
        """Write what happened."""
        lines = _sentences(event)
        if lines:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            _append(self.path, "".join(f"{stamp}  {line}\n" for line in lines))


def _sentences(event: Event) -> list[str]:
    where = f"step {event.step:,} · {event.kimg:,.1f} kimg"
    match event:
        case Started():
            sizes = ", ".join(f"{name} {count:,}" for name, count in event.parameters.items())
            return [
                f"{'resumed' if event.resumed else 'started'} {event.recipe} at {where}, of "
                f"{event.total_steps:,} steps and {event.total_kimg:,.1f} kimg",
                f"{event.device}{_times(event.processes)}, {event.precision}"
                f"{', CUDA graph' if event.engine == 'graph' else ''}; {event.images:,} images; parameters: {sizes}",
                *(f"note: {note}" for note in event.notes),
            ]
        case Tick():
            value = event.statistics.get
            nan = math.nan
            return [
                f"{where} · {event.images_per_second:,.0f} images/s · "
                f"loss D {value('loss/discriminator', nan):.4f} G {value('loss/generator', nan):.4f} · "
                f"D right on real {value('accuracy/real', nan):.0%} fake {value('accuracy/fake', nan):.0%}"
            ]
        case Samples():
            return [f"{where} · samples {event.path.name}, diversity {event.diversity:.4f}"]
        case Evaluated():
            values = ", ".join(f"{value.name} {value.value:.6g}" for value in event.evaluation.values)
            return [f"{where} · evaluation {event.path.name} in {event.seconds:,.1f} s: {values}"]
        case Checkpoint():
            return [f"{where} · checkpoint {event.path.name}, {event.bytes / 1e6:,.1f} MB"]
        case Alarm():
            return [f"{where} · ALARM {event.name}: {event.message}", f"advice: {event.advice}"]
        case Ended():
            return [f"{where} · ended ({event.reason}) after {event.seconds:,.1f} s of training"]
    return []


def _times(processes: int) -> str:
    return f" × {processes} processes" if processes > 1 else ""


# ------------------------------------------------------------------ TensorBoard


class TensorBoardReporter:
    """Writes scalars, sample grids, evaluations and alarms for TensorBoard.

    Going on from a checkpoint at step s tells TensorBoard to forget what it was told of later steps.

    Args:
        folder: for the event files, usually RUN/tensorboard.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path | str) -> None:
        if not self.available():
            raise MissingDependencyError("TensorBoard is not installed.", "Install it: pip install tensorboard.")
        self.folder = Path(folder)
        self._writer: Any = None

    @staticmethod
    def available() -> bool:
        """Return whether TensorBoard is installed; nothing is imported."""
        return importlib.util.find_spec("tensorboard") is not None

    def __call__(self, event: Event) -> None:
        """Write what the event holds."""
        with writing(self.folder.parent):
            self._write(event)

    def _write(self, event: Event) -> None:
        if isinstance(event, Started):
            self.close()
            self._open(event.step + 1 if event.resumed else None)
            return
        if isinstance(event, Ended):
            self.close()
            return
        if not isinstance(event, Tick | Samples | Evaluated | Alarm):
            return
        writer = self._writer or self._open(None)
        match event:
            case Tick():
                for name, value in event.statistics.items():
                    writer.add_scalar(name, value, event.step)
                writer.add_scalar("progress/images_per_second", event.images_per_second, event.step)
                writer.add_scalar("progress/kimg", event.kimg, event.step)
            case Samples():
                picture = np.asarray(grid(event.images).convert("RGB"))
                writer.add_image("samples", picture, event.step, dataformats="HWC")
                writer.add_scalar("samples/diversity", event.diversity, event.step)
            case Evaluated():
                for measured in event.evaluation.values:
                    writer.add_scalar(f"evaluation/{measured.name}", measured.value, event.step)
            case Alarm():
                writer.add_text(f"alarm/{event.name}", f"{event.message} {event.advice}", event.step)
        writer.flush()

    def close(self) -> None:
        """Close the event file; the next event opens another."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self, purge_step: int | None) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(log_dir=str(self.folder), purge_step=purge_step)
        return self._writer
