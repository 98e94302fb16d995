"""The training that is timed: the trainer's own steps, and where their time goes."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_runs
import torch

from ganzoo.benchmarking.measuring import random_pack
from ganzoo.benchmarking.training import Training, Watch
from ganzoo.training.engines import choose_engine
from ganzoo.training.feeder import Feeder
from ganzoo.training.networks import build_step


def training(tmp_path: Path, **changes: object) -> Training:
    recipe = tiny_runs.recipe(**changes)
    pack = random_pack(recipe, tmp_path)
    return Training(recipe.to_dict(), "cpu", None, None, str(pack.path))


def test_it_takes_the_trainers_steps(tmp_path: Path) -> None:
    timed = training(tmp_path, **tiny_runs.CONDITIONAL)
    timed.train(3)
    recipe = timed.recipe
    step = build_step(recipe, torch.device("cpu"), "fp32", engine=choose_engine(recipe, torch.device("cpu")))
    feeder = Feeder(recipe, step.round, random_pack(recipe, tmp_path), torch.device("cpu"), step.dtype, resident=True)
    for number, batches in enumerate(feeder.rounds(0, 5)):  # two to warm up, and three
        step(number, batches)
    tiny_runs.assert_same(
        {name: one.numpy().tobytes() for name, one in timed.step.generator.state_dict().items()},
        {name: one.numpy().tobytes() for name, one in step.generator.state_dict().items()},
    )


@pytest.mark.parametrize(
    ("update", "parts"),
    [
        ("sequential", {"data", "discriminator", "generator", "optimizers", "rest"}),
        ("alternate_minibatches", {"data", "discriminator", "generator", "optimizers", "rest"}),
        ("simultaneous", {"data", "gradients", "optimizers", "rest"}),
    ],
)
def test_the_parts_are_all_of_the_time(tmp_path: Path, update: str, parts: set[str]) -> None:
    seconds, found = training(tmp_path, train__update=update).train(4)
    assert set(found) == parts
    assert 0.5 * seconds < sum(found.values()) <= seconds
    assert all(value > 0 for value in found.values())


def test_where_the_optimisers_are_not_seen_only_data_and_step_are_told() -> None:
    watch = Watch(build_step(tiny_runs.recipe(), torch.device("cpu"), "fp32"))
    watch.begin()
    watch.mark("data")
    watch.mark("rest")
    assert list(watch.parts()) == ["data", "step"]


def test_random_images_fit_the_recipe(tmp_path: Path) -> None:
    recipe = tiny_runs.recipe(**tiny_runs.CONDITIONAL)
    with random_pack(recipe, tmp_path) as pack:
        assert (pack.image_size, pack.channels) == (8, 1)
        assert pack.labels is not None
        assert set(pack.labels.tolist()) == {0, 1, 2}
