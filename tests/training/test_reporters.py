"""Reporters: what they write, what a resumed run makes of it, and what a kill leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ganzoo.errors import MissingDependencyError, RunError
from ganzoo.training.events import Alarm, Checkpoint, Ended, Event, Progress, Samples, Started, Tick
from ganzoo.training.reporters import (
    JsonLinesReporter,
    TensorBoardReporter,
    TextReporter,
    read_metrics,
    truncate_metrics,
)

STATISTICS = {
    "loss/discriminator": 0.75,
    "loss/generator": 1.5,
    "accuracy/real": 0.875,
    "accuracy/fake": 0.5,
    "gradient/generator": math.inf,
}


def started(run: Path, step: int = 0, *, resumed: bool = False) -> Started:
    return Started(
        step,
        step * 0.064,
        run=run,
        recipe="dcgan-digits",
        total_steps=1000,
        total_kimg=64.0,
        device="cpu",
        precision="fp32",
        images=1797,
        resumed=resumed,
        parameters={"generator": 1234567, "discriminator": 89},
        notes=("no labels were found",),
    )


def events(run: Path, steps: range = range(10, 31, 10)) -> list[Event]:
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
    found: list[Event] = []
    for step in steps:
        found += [
            Progress(step, step * 0.064, 100.0, 5.0),
            Tick(step, step * 0.064, STATISTICS, 123.4, step / 10),
            Samples(step, step * 0.064, run / "samples" / f"{step:06d}.png", images, 0.25),
            Checkpoint(step, step * 0.064, run / "checkpoints" / f"{step:06d}", 2_500_000),
            Alarm(step, step * 0.064, "collapse", "Alike: “0.1”.", "Try less."),
        ]
    return found


def tell(reporter: Callable[[Event], None], told: list[Event]) -> None:
    for event in told:
        reporter(event)


# ------------------------------------------------------------------ metrics.jsonl


def test_each_event_becomes_a_row_with_its_place_and_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tell(JsonLinesReporter(path), [started(tmp_path), *events(tmp_path, range(10, 11))])
    rows = read_metrics(path)
    assert [row["event"] for row in rows] == ["tick", "samples", "checkpoint", "alarm"]
    assert all((row["schema_version"], row["step"], row["kimg"]) == (1, 10, 0.64) for row in rows)
    one, grid, checkpoint, alarm = rows
    assert one["statistics"] == {**STATISTICS, "gradient/generator": None}
    assert (one["images_per_second"], one["seconds"]) == (123.4, 1.0)
    assert (grid["path"], grid["diversity"]) == ("samples/000010.png", 0.25)
    assert (checkpoint["path"], checkpoint["bytes"]) == ("checkpoints/000010", 2_500_000)
    assert (alarm["name"], alarm["message"], alarm["advice"]) == ("collapse", "Alike: “0.1”.", "Try less.")


def test_every_line_is_strict_json_and_whole_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reporter = JsonLinesReporter(path)

    def strict(name: str) -> float:
        raise AssertionError(f"{name} is no JSON")

    for count, event in enumerate([event for event in events(tmp_path) if not isinstance(event, Progress)], start=1):
        reporter(event)
        text = path.read_text(encoding="utf-8")
        assert text.endswith("\n")
        assert len([json.loads(line, parse_constant=strict) for line in text.splitlines()]) == count


def test_a_resumed_runs_file_reads_as_a_straight_ones(tmp_path: Path) -> None:
    straight, resumed = tmp_path / "straight.jsonl", tmp_path / "resumed.jsonl"
    tell(JsonLinesReporter(straight), [started(tmp_path), *events(tmp_path, range(10, 61, 10))])
    tell(JsonLinesReporter(resumed), [started(tmp_path), *events(tmp_path, range(10, 51, 10))])
    with resumed.open("a") as file:
        file.write('{"schema_version": 1, "event": "ti')  # killed in the middle of a line
    assert truncate_metrics(resumed, 30) == 2 * 4 + 1
    assert read_metrics(resumed)[-1]["step"] == 30
    tell(JsonLinesReporter(resumed), [started(tmp_path, 30, resumed=True), *events(tmp_path, range(40, 61, 10))])
    assert resumed.read_bytes() == straight.read_bytes()


def test_a_torn_last_line_is_not_read_even_if_it_is_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tell(JsonLinesReporter(path), events(tmp_path))
    whole = path.read_bytes()
    for rest in (b'{"schema_version": 1, "event": "tick", "step": 3, "kimg": 1}', b"{", b'{"a": "\xe2\x82'):
        path.write_bytes(whole + rest)
        assert len(read_metrics(path)) == 12
        assert truncate_metrics(path, 30) == 1
        assert path.read_bytes() == whole


def test_truncating_what_is_short_enough_touches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert truncate_metrics(path, 10) == 0
    assert not path.exists()
    tell(JsonLinesReporter(path), events(tmp_path))
    before = path.stat()
    assert truncate_metrics(path, 30) == 0
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert truncate_metrics(path, 0) == 12
    assert path.read_bytes() == b""
    assert [one.name for one in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_no_file_holds_no_rows(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("line", ["{torn", "[1]", '"text"', '{"schema_version": 1}', ""])
def test_a_broken_line_in_the_middle_is_told_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    tell(JsonLinesReporter(path), events(tmp_path, range(10, 11)))
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + line + "\n" + whole, encoding="utf-8")
    with pytest.raises(RunError, match=r"Line 5 of .*metrics\.jsonl"):
        read_metrics(path)


def test_a_later_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"schema_version": 2, "event": "tick", "step": 1, "kimg": 0.1}\n')
    with pytest.raises(RunError, match="Update ganzoo"):
        read_metrics(path)


# ------------------------------------------------------------------ log.txt


def test_the_log_says_in_words_what_happened(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    told = [started(tmp_path), *events(tmp_path, range(10, 11))]
    told += [started(tmp_path, 10, resumed=True), Ended(20, 1.28, tmp_path, None, 61.5, "interrupted")]
    tell(TextReporter(path), told)
    lines = [line.split("  ", 1)[1] for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == "started dcgan-digits at step 0 · 0.0 kimg, of 1,000 steps and 64.0 kimg"
    assert lines[1] == "cpu, fp32; 1,797 images; parameters: generator 1,234,567, discriminator 89"
    assert lines[2] == "note: no labels were found"
    assert lines[3] == "step 10 · 0.6 kimg · 123 images/s · loss D 0.7500 G 1.5000 · D right on real 88% fake 50%"
    assert lines[4] == "step 10 · 0.6 kimg · samples 000010.png, diversity 0.2500"
    assert lines[5] == "step 10 · 0.6 kimg · checkpoint 000010, 2.5 MB"
    assert lines[6] == "step 10 · 0.6 kimg · ALARM collapse: Alike: “0.1”."
    assert lines[7] == "advice: Try less."
    assert lines[8].startswith("resumed dcgan-digits at step 10")
    assert lines[-1] == "step 20 · 1.3 kimg · ended (interrupted) after 61.5 s of training"


# ------------------------------------------------------------------ TensorBoard


def accumulated(folder: Path) -> object:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    reader.Reload()
    return reader


def test_tensorboard_reads_scalars_grids_and_alarms_and_forgets_what_was_undone(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    finite = {name: value for name, value in STATISTICS.items() if math.isfinite(value)}
    first = TensorBoardReporter(tmp_path / "tb")
    tell(first, [started(tmp_path), *events(tmp_path, range(10, 51, 10))])
    first.close()  # killed; the checkpoint is that of step 30
    second = TensorBoardReporter(tmp_path / "tb")
    tell(second, [started(tmp_path, 30, resumed=True), *events(tmp_path, range(40, 61, 10))])
    second(Ended(60, 3.84, tmp_path, None, 6.0, "done"))
    reader = accumulated(tmp_path / "tb")
    for name, value in finite.items():
        scalars = reader.Scalars(name)  # type: ignore[attr-defined]
        assert [one.step for one in scalars] == [10, 20, 30, 40, 50, 60]
        assert {one.value for one in scalars} == {value}
    assert [one.step for one in reader.Images("samples")] == [10, 20, 30, 40, 50, 60]  # type: ignore[attr-defined]
    assert reader.Images("samples")[0].width == 134  # type: ignore[attr-defined]
    assert [one.value for one in reader.Scalars("samples/diversity")] == [0.25] * 6  # type: ignore[attr-defined]
    assert "alarm/collapse/text_summary" in reader.Tags()["tensors"]  # type: ignore[attr-defined]


def test_without_tensorboard_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not TensorBoardReporter.available()
    with pytest.raises(MissingDependencyError, match="pip install"):
        TensorBoardReporter(tmp_path)
