"""Whole trainings with penalties at first-order cost: beside the plain path, in several processes, and interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from first_order_steps import FAST, Watched
from several import results
from tiny_runs import assert_same, images, labelled, quick, rows, states, table, train, weights

from ganzoo.tensors import read_tensors
from ganzoo.training.first_order import FirstOrder
from ganzoo.training.joining import join_world
from ganzoo.training.step import Step

MODERN: dict[str, Any] = {
    "data__channels": 3,
    "discriminator__norm": "none",
    "discriminator__bias": True,
    "discriminator__init": "he",
    "objective__name": "relativistic",
    "penalty": [
        {"where": "real", "weight": 0.5},
        {"where": "fake", "weight": 0.5},
        {"where": "line", "rule": "one_centered", "weight": 1.0, "every": 2},
    ],
    "train__kimg": 0.064,  # eight steps
}
EVERYTHING: dict[str, Any] = {
    **MODERN,
    "data__num_classes": 3,
    "discriminator__dropout": 0.3,
    "augmentation": {"name": "diffaugment", "probability": 0.5},
    "train__accumulate": 2,
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each update at first-order cost."""
    seen: list[int] = []
    update = Step._update_at_first_order

    def count(self: Step, *arguments: Any) -> None:
        seen.append(len(seen))
        update(self, *arguments)

    monkeypatch.setattr(Step, "_update_at_first_order", count)
    return seen


def data() -> tuple[Any, Any]:
    return images(channels=3), labelled()[1]


def parameters(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for name in ("generator", "discriminator"):
        found |= {f"{name}/{key}": one for key, one in read_tensors(run / "model" / f"{name}.safetensors")[0].items()}
    return found


@pytest.mark.parametrize("changes", [MODERN, EVERYTHING], ids=["modern", "everything"])
def test_it_trains_to_the_same_networks_as_the_plain_path(
    changes: dict[str, Any], tmp_path: Path, calls: list[int]
) -> None:
    given = data() if "data__num_classes" in changes else data()[0]
    counts = []
    for engine in ("eager", "auto"):
        train(table(**changes, train__engine=engine, optimizer__eps=1e-4), tmp_path / engine, given)
        counts.append(len(calls))
    assert counts == [0, 8 * changes.get("train__accumulate", 1)]
    plain, fast = (parameters(tmp_path / engine) for engine in ("eager", "auto"))
    assert plain.keys() == fast.keys()
    for name, one in plain.items():
        assert torch.allclose(one, fast[name], rtol=1e-3, atol=2e-5), name
    ticks = [[row for row in rows(tmp_path / engine) if row["event"] == "tick"] for engine in ("eager", "auto")]
    for one_tick, other_tick in zip(*ticks, strict=True):
        numbers = one_tick["statistics"]
        assert {"penalty/real_zero_centered", "gradient/discriminator"} <= numbers.keys()
        assert other_tick["statistics"] == pytest.approx(numbers, rel=1e-3, abs=1e-4)


def test_interrupted_anywhere_it_goes_on_to_the_same_bytes(tmp_path: Path, calls: list[int]) -> None:
    changes = table(**EVERYTHING, train__engine="auto", train__checkpoint_every=1, train__keep=20)
    train(changes, tmp_path / "straight", data())
    straight = len(calls)
    for kimg in (0.004, 0.02, 0.064):  # one step, five, eight
        train(changes, tmp_path / "parts", data(), kimg=kimg)
    assert len(calls) == 2 * straight > 0
    assert_same(weights(tmp_path / "straight"), weights(tmp_path / "parts"))
    last = "checkpoints/step-00000008/state.safetensors"
    assert states(tmp_path / "straight")[last] == states(tmp_path / "parts")[last]


def test_two_processes_find_what_one_finds() -> None:
    changes = {
        "penalty": MODERN["penalty"],
        "generator__norm": "none",
        "data__num_classes": 3,
        "discriminator__dropout": 0.3,
    }
    alone = Watched(changes, FAST)
    alone.run(0, 1)

    def work(rank: int) -> dict[str, np.ndarray[Any, Any]]:
        with join_world(torch.device("cpu")) as world:
            watched = Watched(changes, FAST, world=world)
            assert isinstance(watched.step.first_order, FirstOrder)
            watched.run(0, 1)
            return {name: one.detach().numpy() for name, one in watched.step.trained("discriminator").items()}

    for found in results(work):
        for name, one in alone.step.trained("discriminator").items():
            assert np.allclose(found[name], one.detach().numpy(), rtol=1e-12, atol=1e-12), name
