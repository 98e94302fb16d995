"""Short trainings with every augmentation: they act, and an interrupted one goes on to the same bytes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import WEIGHTS, Recorder, assert_same, bytes_of, images, quick, rows, states, table, train

from ganzoo import registry
from ganzoo.errors import InterruptedTraining
from ganzoo.training.events import Samples

RAMP = {"schedule": "cosine", "start": 0.1, "end": 0.9, "kimg": 0.02}
ADAPTIVE = {"target": 0.0, "kimg": 0.05, "every": 1, "start": 0.5}
PENALISED = {
    "data__channels": 3,
    "discriminator__norm": "none",
    "penalty": [{"name": "gradient", "where": "real", "weight": 0.1}],
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without augmentation."""
    run = tmp_path_factory.mktemp("without") / "run"
    train(table(**PENALISED), run, images(channels=3))
    return run


@pytest.mark.parametrize(
    ("name", "probability"),
    [(name, ADAPTIVE if name == "ada" else RAMP) for name in registry.augmentations.names()],
)
def test_an_interrupted_training_with_it_goes_on_to_the_same_bytes(
    name: str, probability: dict[str, Any], without: Path, tmp_path: Path
) -> None:
    recipe = table(**PENALISED, augmentation={"name": name, "probability": probability})
    straight, run = tmp_path / "straight", tmp_path / "run"
    train(recipe, straight, images(channels=3))
    stop = Recorder((Samples, 3), lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(InterruptedTraining):
        train(recipe, run, images(channels=3), reporters=[stop])
    train(recipe, run, images(channels=3))
    assert_same(bytes_of(run), bytes_of(straight))
    assert states(straight).items() <= states(run).items()
    ticks = [row["statistics"]["augmentation/probability"] for row in rows(straight) if "statistics" in row]
    assert len(set(ticks)) == len(ticks) == 3
    assert all(bytes_of(straight, path) != bytes_of(without, path) for path in WEIGHTS)
