"""Which engine a training gets, who is told, and what of it is remembered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tiny_runs import Recorder, assert_same, quick, recipe, table, train, weights

import ganzoo
from ganzoo import registry
from ganzoo.augmentation.flip import Flip
from ganzoo.errors import RunError, UsageError
from ganzoo.objectives.regularizers.top_k import TopK
from ganzoo.training.api import plan
from ganzoo.training.engines import PLAIN, Engine, choose_engine, is_capturable, why_not_captured
from ganzoo.training.events import Started
from ganzoo.training.processes import World

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


class Silent(Flip):
    """Of a third party, and says nothing of captures; what its parent says does not count."""


class Willing(Flip):
    """Of a third party, and says so."""

    capturable: ClassVar[bool] = True


def put(monkeypatch: pytest.MonkeyPatch, registered: Any, name: str, part: Any) -> None:
    get = registered.get
    monkeypatch.setattr(registered, "get", lambda asked: part if asked == name else get(asked))


def augmented(**changes: Any) -> Any:
    return recipe(augmentation={"name": "flip"}, **changes)


@pytest.mark.parametrize(
    ("asked", "device", "expected"),
    [
        ("eager", CPU, PLAIN),
        ("eager", CUDA, PLAIN),
        ("auto", CPU, Engine("eager", fast=True)),
        ("auto", CUDA, Engine("graph", fast=True)),
        ("graph", CUDA, Engine("graph", fast=True)),
    ],
)
def test_an_engine_is_what_is_asked_for_where_it_can_be(asked: str, device: torch.device, expected: Engine) -> None:
    assert choose_engine(recipe(train__engine=asked), device) == expected


def test_what_stands_against_a_graph_is_said_or_an_error_where_a_graph_is_demanded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    several = World(size=2)
    why = "2 processes exchange their gradients within a step"
    assert choose_engine(recipe(), CUDA, several) == Engine("eager", fast=True, why=why)
    with pytest.raises(UsageError, match=f"cannot be: {why}"):
        choose_engine(recipe(train__engine="graph"), CUDA, several)
    with pytest.raises(UsageError, match="a CUDA graph needs CUDA, not cpu"):
        choose_engine(recipe(train__engine="graph"), CPU)
    put(monkeypatch, registry.augmentations, "flip", Silent)
    found = choose_engine(augmented(), CUDA)
    assert (found.name, found.fast) == ("eager", True)
    assert found.why == "the augmentation 'flip' does not say that it can be captured (`capturable = True`)"
    with pytest.raises(UsageError, match="does not say that it can be captured"):
        choose_engine(augmented(train__engine="graph"), CUDA)
    put(monkeypatch, registry.augmentations, "flip", Willing)
    assert choose_engine(augmented(), CUDA).name == "graph"


def test_two_regularizers_that_choose_images_are_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    one = recipe(regularizer=[{"name": "top_k"}])
    two = recipe(regularizer=[{"name": "top_k"}, {"name": "top_k"}])
    assert why_not_captured(one) is None
    assert "two regularizers choose" in (why_not_captured(two) or "")


@pytest.mark.parametrize(
    "known",
    [
        registry.generators,
        registry.discriminators,
        registry.objectives,
        registry.penalties,
        registry.regularizers,
        registry.augmentations,
    ],
    ids=lambda known: known.kind,
)
def test_all_of_ganzoos_own_parts_say_that_they_can_be_captured(known: Any) -> None:
    own = [known.get(name) for name in known.names() if known.get(name).__module__.startswith("ganzoo.")]
    assert own
    assert [part for part in own if not is_capturable(part)] == []


def test_a_variant_tells_how_many_images_are_kept() -> None:
    regularizer = TopK(decay=0.5, decay_kimg=1.0, floor=0.25)
    for kimg in (0.0, 0.3, 0.9, 1.5, 9.0):
        kept = regularizer.keep(torch.arange(16.0), kimg)
        assert regularizer.variant(kimg, 16) == (16 if kept is None else len(kept))


# -------------------------------------------------------------------------------------------------- runs


def test_every_recipe_of_the_zoo_can_be_captured() -> None:
    for name in ganzoo.list_recipes():
        assert why_not_captured(ganzoo.load_recipe(name)) is None, name


@pytest.mark.parametrize(("engine", "fast"), [("auto", True), ("eager", False)])
def test_a_run_remembers_its_arithmetic_and_tells_its_engine(engine: str, fast: bool, tmp_path: Path) -> None:
    recorder = Recorder()
    train(table(train__engine=engine), tmp_path / "run", steps=2, reporters=[recorder])
    assert json.loads((tmp_path / "run/run.json").read_text())["fast"] is fast
    assert recorder.of(Started)[0].engine == "eager"


def test_a_run_begun_before_there_were_engines_goes_on_in_plain_arithmetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"discriminator__norm": "none", "penalty": [{"weight": 1.0}]}
    train(table(**changes, train__engine="eager"), tmp_path / "plain")
    train(table(**changes, train__engine="eager"), tmp_path / "old", steps=4)
    facts = tmp_path / "old/run.json"
    text = facts.read_text()
    facts.write_text(text.replace(',\n  "fast": false', ""))
    assert facts.read_text() != text
    path = tmp_path / "old/recipe.toml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("engine")))
    train(table(**changes), tmp_path / "old")
    assert_same(weights(tmp_path / "plain"), weights(tmp_path / "old"))
    train(table(**changes), tmp_path / "fast")
    assert weights(tmp_path / "fast") != weights(tmp_path / "plain")  # or nothing could be seen


def test_a_run_goes_on_with_the_engine_that_it_began_with(tmp_path: Path) -> None:
    train(table(train__engine="eager"), tmp_path / "run", steps=2)
    with pytest.raises(RunError, match=r'train\.engine: "eager" → "auto"'):
        train(table(), tmp_path / "run")


def test_a_graph_that_cannot_be_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs CUDA, not cpu"):
        train(table(), tmp_path / "run", engine="graph")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="needs CUDA, not cpu"):
        plan(table(), engine="graph", device="cpu")
    assert plan(table(), device="cpu").engine == Engine("eager", fast=True)
