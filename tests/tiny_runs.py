"""What the tests of training share: a recipe that trains in a blink, its images, and ways to look at a run."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import ganzoo
from ganzoo.building import load_recipe
from ganzoo.recipes import Recipe
from ganzoo.tensors import read_tensors
from ganzoo.training.events import Evaluating, Event, Progress
from ganzoo.training.trainer import TrainingResult

BATCH = 4
TABLE: dict[str, Any] = {
    "schema_version": 1,
    "name": "tiny",
    "data": {"source": "digits", "image_size": 8, "channels": 1},
    "generator": {"name": "dcgan", "latent_dim": 4, "widths": [8, 4], "kernel_size": 3},
    "discriminator": {"name": "dcgan", "widths": [4, 8], "kernel_size": 3},
    "objective": {"name": "non_saturating"},
    "optimizer": {"lr": 2e-3, "betas": [0.5, 0.9]},
    "ema": {"half_life_kimg": 0.02},
    "train": {
        "batch_size": BATCH,
        "kimg": 0.024,  # six steps
        "precision": "fp32",
        "log_every": 2,
        "sample_every": 3,
        "checkpoint_every": 4,
    },
}


def table(**changes: Any) -> dict[str, Any]:
    """The tiny recipe with entries changed: `table(train__seed=1)`; None removes one."""
    changed = copy.deepcopy(TABLE)
    for key, value in changes.items():
        *path, last = key.split("__")
        at = changed
        for part in path:
            at = at.setdefault(part, {})
        if value is None:
            at.pop(last, None)
        else:
            at[last] = value
    return changed


def recipe(**changes: Any) -> Recipe:
    return load_recipe(table(**changes))


CONDITIONAL = {
    "data__num_classes": 3,
    "data__mirror": True,
    "discriminator__norm": "none",
    "discriminator__dropout": 0.3,
}
"""Changes that bring in all that could differ between two ways to feed or to resume."""


def images(count: int = 10, size: int = 8, channels: int = 1) -> npt.NDArray[np.uint8]:
    """Images that are all different and not symmetric."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def labelled(count: int = 10, classes: int = 3) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    return images(count), np.arange(count, dtype=np.int64) % classes


def train(recipe: Any, out: Path | None, data: Any = None, **options: Any) -> TrainingResult:
    """Train on the CPU; data are ten images where none are given, and no recipe is no recipe."""
    given = options.pop("device", "cpu")
    return ganzoo.train(recipe, out=out, data=images() if data is None else data, device=given, **options)


class Recorder:
    """A reporter that keeps events, and does something at one of them."""

    def __init__(self, at: tuple[type[Event], int] | None = None, action: Any = None) -> None:
        self.events: list[Event] = []
        self._at, self._action = at, action

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Progress | Evaluating):
            self.events.append(event)
        if self._at is not None and isinstance(event, self._at[0]) and event.step == self._at[1]:
            self._action()

    @property
    def seen(self) -> list[tuple[str, int]]:
        return [(type(event).__name__, event.step) for event in self.events]

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes ten times as long as the rest of a tiny run: curves, TensorBoard, flushes to the disk."""

    def save_curves(rows: Sequence[Mapping[str, Any]], path: Path, **_: Any) -> None:
        path.write_bytes(b"curves")

    monkeypatch.setattr("ganzoo.training.publishing.save_curves", save_curves)
    monkeypatch.setattr("ganzoo.training.publishing.STATISTICS_IMAGES", 64)
    monkeypatch.setattr("ganzoo.training.alarms.loss_bounds", lambda objective: (0.0, 1.4))
    monkeypatch.setattr("ganzoo.training.reporters.TensorBoardReporter.available", lambda: False)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


WEIGHTS = ("model/generator.safetensors", "model/discriminator.safetensors")


def bytes_of(run: Path, *patterns: str) -> dict[str, bytes]:
    """The files of a run that match patterns, by default all that no interruption may change."""
    patterns = patterns or ("model/*", "samples/*.png", "evolution.gif", "recipe.toml", "run.json")
    found = {path.relative_to(run).as_posix(): path.read_bytes() for one in patterns for path in run.glob(one)}
    assert found, f"nothing in {run} is like {patterns}"
    return found


def weights(run: Path) -> dict[str, bytes]:
    """The tensors of a run's model, whatever its files say beside them of how it was trained, and its picture."""
    found = bytes_of(run, "model/samples.png")
    for name in WEIGHTS:
        if (run / name).exists():
            tensors = read_tensors(run / name)[0]
            found |= {f"{name}/{key}": tensor.numpy().tobytes() for key, tensor in tensors.items()}
    return found


def states(run: Path) -> dict[str, bytes]:
    """The tensors of a run's checkpoints."""
    return bytes_of(run, "checkpoints/*/state.safetensors")


def rows(run: Path, *without: str) -> list[dict[str, Any]]:
    """The rows of a run's metrics without timings (a checkpoint's size hangs on them), and without kinds named."""
    timings = {"seconds", "images_per_second", "bytes"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = [row for row in lines if row["event"] not in without]
    return [{key: one for key, one in row.items() if key not in timings} for row in kept]


def assert_same(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []


def tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
