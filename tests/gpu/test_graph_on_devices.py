"""Steps in a CUDA graph on a GPU: the steps done operation by operation, exactly where torch is set to be repeatable.

The twins on the CPU, with a tape for the graph, are in tests/training/test_graph.py.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import CONDITIONAL, WEIGHTS, Recorder, assert_same, bytes_of, labelled, recipe, rows, table, train

from ganzoo.data import open_pack
from ganzoo.data.request import DataRequest
from ganzoo.errors import InterruptedTraining, UsageError
from ganzoo.training import trainer
from ganzoo.training.checkpoints import state_tensors
from ganzoo.training.engines import Engine
from ganzoo.training.events import Alarm, Samples, Started
from ganzoo.training.feeder import Feeder
from ganzoo.training.graph import WARM_UP, GraphedStep
from ganzoo.training.networks import build_step
from ganzoo.training.step import Step

pytestmark = pytest.mark.gpu
both_precisions = pytest.mark.parametrize("precision", ["fp32", "bf16"])
STEPS = 3 * (WARM_UP + 3)


def schedule(start: float, end: float) -> dict[str, Any]:
    return {"schedule": "linear", "start": start, "end": end, "kimg": 0.1}


PLAIN_D = {"discriminator__norm": "none"}
RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "simultaneous": {"train__update": "simultaneous"},
    "alternate-minibatches": {"train__update": "alternate_minibatches"},
    "reuse-fakes": {"train__reuse_fakes": True},
    "joined-and-accumulated": {"train__real_fake_batches": "joined", "train__accumulate": 2},
    "everything-random": CONDITIONAL | {"discriminator__norm": "spectral"},
    "schedules": {
        "optimizer__lr": schedule(2e-3, 1e-4),
        "optimizer__betas": [0.5, schedule(0.9, 0.99)],
        "ema__half_life_kimg": schedule(0.001, 0.05),
        **PLAIN_D,
        "penalty": [{"weight": schedule(1.0, 0.1)}],
    },
    "rmsprop": {"optimizer": {"name": "rmsprop", "lr": schedule(1e-3, 1e-4)}},
    "lazy-penalty": PLAIN_D | {"penalty": [{"where": "line", "rule": "one_centered", "weight": 1.0, "every": 2}]},
    "ada-adaptive": {"augmentation": {"name": "ada", "probability": {"target": 0.0, "kimg": 0.02, "every": 3}}},
    "diffaugment": {"augmentation": {"name": "diffaugment"}},
    "lecam": {"regularizer": [{"name": "lecam", "weight": 0.3, "begin_kimg": 0.04}]},
    "top-k": {"regularizer": [{"name": "top_k", "decay": 0.5, "decay_kimg": 0.05}]},
    "classes": {"data__num_classes": 3, "regularizer": [{"name": "auxiliary_classifier", "weight": 1.0}]},
}


def trained(changes: dict[str, Any], precision: Any, graphed: bool) -> dict[str, torch.Tensor]:
    settled = recipe(**changes, train__deterministic=True)
    torch.use_deterministic_algorithms(True)
    try:
        step = build_step(settled, torch.device("cuda", 0), precision, engine=Engine("graph", fast=True))
        with open_pack(labelled(), DataRequest(8, 1, labels=True)) as pack:
            feeder = Feeder(settled, step.round, pack, step.device, step.dtype, resident=True)
            if graphed:
                engine = GraphedStep(step, feeder, demanded=True)
                for number, parts in enumerate(feeder.given(0, STEPS)):
                    engine(number, parts)
                assert engine.captured >= 1
            else:
                for number, batches in enumerate(feeder.rounds(0, STEPS)):
                    step(number, batches)
        assert step.first_bad() is None
        return {name: tensor.cpu() for name, tensor in state_tensors(step).items()}
    finally:
        torch.use_deterministic_algorithms(False)


@both_precisions
@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_replayed_steps_are_those_done_operation_by_operation(changes: dict[str, Any], precision: str) -> None:
    one, other = trained(changes, precision, graphed=True), trained(changes, precision, graphed=False)
    assert one.keys() == other.keys()
    for name, value in one.items():
        if value.is_floating_point():
            # Libraries may choose other algorithms in a capture: equal but for rounding, which Adam magnifies.
            apart = (value.double() - other[name].double()).abs()
            assert float(apart.median()) <= 1e-4 * (1.0 + float(other[name].double().abs().median())), name
        else:
            assert torch.equal(value, other[name]), name


@both_precisions
def test_an_interrupted_training_by_graphs_goes_on_exactly_in_deterministic_mode(
    precision: str, tmp_path: Path
) -> None:
    changes = table(
        **CONDITIONAL, train__deterministic=True, train__precision=precision, train__engine="graph", train__kimg=0.06
    )
    train(changes, tmp_path / "straight", labelled(), device="cuda")
    stop = Recorder((Samples, 9), lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(InterruptedTraining):
        train(changes, tmp_path / "run", labelled(), device="cuda", reporters=[stop])
    assert stop.of(Started)[0].engine == "graph"
    train(changes, tmp_path / "run", labelled(), device="cuda")
    assert_same(bytes_of(tmp_path / "straight"), bytes_of(tmp_path / "run"))
    assert rows(tmp_path / "straight", "checkpoint") == rows(tmp_path / "run", "checkpoint")


def test_streamed_images_are_those_that_lie_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = table(**CONDITIONAL, train__deterministic=True, train__engine="graph", train__kimg=0.06)
    train(changes, tmp_path / "resident", labelled(), device="cuda")
    monkeypatch.setattr(trainer, "_SHARE_OF_DEVICE", 0.0)
    train(changes, tmp_path / "streaming", labelled(), device="cuda")
    assert_same(bytes_of(tmp_path / "resident", *WEIGHTS), bytes_of(tmp_path / "streaming", *WEIGHTS))


def test_what_cannot_be_captured_goes_on_without_and_says_so_or_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = Step._note

    def reading(self: Step, name: str, value: torch.Tensor) -> None:
        float(value.detach())
        note(self, name, value)

    monkeypatch.setattr(Step, "_note", reading)
    recorder = Recorder()
    result = train(table(train__kimg=0.06), tmp_path / "auto", device="cuda", reporters=[recorder])
    assert result.step == 15
    assert [one.name for one in recorder.of(Alarm)].count("not_captured") == 1
    with pytest.raises(UsageError, match="cannot be captured in a CUDA graph"):
        train(table(train__kimg=0.06, train__engine="graph"), tmp_path / "graph", device="cuda")


def test_a_replay_waits_for_nothing(tmp_path: Path) -> None:
    settled = recipe(**CONDITIONAL)
    step = build_step(settled, torch.device("cuda", 0), "bf16", engine=Engine("graph", fast=True))
    with open_pack(labelled(), DataRequest(8, 1, labels=True)) as pack:
        feeder = Feeder(settled, step.round, pack, step.device, step.dtype, resident=True)
        engine = GraphedStep(step, feeder, demanded=True)
        for number, parts in enumerate(feeder.given(0, STEPS)):
            torch.cuda.set_sync_debug_mode("error" if number > WARM_UP else "default")
            try:
                engine(number, parts)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert engine.captured == 1
    assert all(np.isfinite(value) for value in step.statistics.read().values())
