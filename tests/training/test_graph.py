"""Steps by graphs against the same steps done operation by operation, bit for bit; a tape stands in for the graphs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tape import Tape
from tiny_runs import CONDITIONAL, labelled, recipe

from ganzoo.data import open_pack
from ganzoo.data.request import DataRequest
from ganzoo.errors import UsageError
from ganzoo.objectives.regularizers.lecam import LeCam
from ganzoo.recipes import Recipe
from ganzoo.training import graph
from ganzoo.training.checkpoints import load_state_tensors, state_tensors
from ganzoo.training.engines import Engine
from ganzoo.training.feeder import Feeder
from ganzoo.training.graph import WARM_UP, GraphedStep
from ganzoo.training.networks import build_step
from ganzoo.training.step import Step

CPU = torch.device("cpu")
GRAPH = Engine("graph", fast=True)
STEPS = 11


def schedule(start: float, end: float, kimg: float = 0.04) -> dict[str, Any]:
    return {"schedule": "linear", "start": start, "end": end, "kimg": kimg}


@pytest.fixture(autouse=True)
def _as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch lets RMSprop be capturable only on devices that have graphs, and looks at classes only elsewhere."""
    monkeypatch.setattr("torch.nn.functional.one_hot", _one_hot)
    module = importlib.import_module("torch.optim.rmsprop")
    monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda *_, **__: ["cpu"])


def _one_hot(label: torch.Tensor, num_classes: int) -> torch.Tensor:
    return (label[:, None] == torch.arange(num_classes, device=label.device)).long()


@contextmanager
def fed(settled: Recipe, resident: bool = True) -> Iterator[tuple[Step, Feeder]]:
    """A step whose optimisers are capturable, and its feeder, which draws on the device."""
    step = build_step(settled, CPU, "fp32", engine=GRAPH)
    with open_pack(labelled(), DataRequest(8, 1, labels=True)) as pack:
        yield step, Feeder(settled, step.round, pack, CPU, step.dtype, resident=resident, draws_on_device=True)


State = dict[str, torch.Tensor]


def state(step: Step) -> State:
    found = {name: tensor.detach().clone() for name, tensor in state_tensors(step).items()}
    return found | {"first_bad": step.first_bad_step.clone()}


def eagerly(settled: Recipe, steps: int = STEPS, resident: bool = True) -> State:
    with fed(settled, resident) as (step, feeder):
        for number, batches in enumerate(feeder.rounds(0, steps)):
            step(number, batches)
        return state(step)


def graphed(
    settled: Recipe, steps: int = STEPS, resident: bool = True, at_least: int = 1
) -> tuple[State, GraphedStep, Tape]:
    tape = Tape()
    with fed(settled, resident) as (step, feeder):
        engine = GraphedStep(step, feeder, tape, demanded=True)
        for number, parts in enumerate(feeder.given(0, steps)):
            engine(number, parts)
        assert engine.captured >= at_least
        assert tape.replays >= at_least
        return state(step), engine, tape


def assert_same(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


PLAIN_D = {"discriminator__norm": "none"}
LABELS = {"data__num_classes": 3}
RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "simultaneous": {"train__update": "simultaneous"},
    "alternate-minibatches": {"train__update": "alternate_minibatches"},
    "reuse-fakes": {"train__reuse_fakes": True},
    "several-discriminator-steps": {"train__discriminator_steps": 3},
    "joined-and-accumulated": {"train__real_fake_batches": "joined", "train__accumulate": 2},
    "joined-with-dropout": {"train__real_fake_batches": "joined", "discriminator__dropout": 0.3},
    "other-generator-batch": {"train__generator_batch_size": 6, "objective__name": "relativistic_average"},
    "reused-reals": {"train__generator_reals": "reuse", "objective__name": "relativistic"},
    "everything-random": CONDITIONAL,
    "random-labels": LABELS | {"data__labels": "random", "discriminator__norm": "none"},
    "spectral-norm": {"discriminator__norm": "spectral"},
    "schedules": {
        "optimizer__lr": schedule(2e-3, 1e-4),
        "ema__half_life_kimg": schedule(0.001, 0.05),
        **PLAIN_D,
        "penalty": [{"weight": schedule(1.0, 0.1)}],
    },
    "ramped-average": {"ema__ramp": 0.1},
    "no-average": {"ema": None},
    "beta2": {"optimizer__betas": [0.5, schedule(0.9, 0.99)], "optimizer__l2": 1e-3},
    "beta2-of-one-network": {"optimizer__generator": {"betas": [0.0, schedule(0.9, 0.99)]}},
    "rmsprop": {"optimizer": {"name": "rmsprop", "lr": schedule(1e-3, 1e-4), "l2": 1e-3}},
    "lazy-penalty": PLAIN_D | {"penalty": [{"weight": 1.0, "every": 2}]},
    "two-lazy-penalties": PLAIN_D
    | {"penalty": [{"weight": 1.0, "every": 2}, {"where": "fake", "weight": 0.5, "every": 3}]},
    "penalty-on-the-line": PLAIN_D | {"penalty": [{"where": "line", "rule": "one_centered", "weight": 1.0}]},
    "penalty-around-real": PLAIN_D | {"penalty": [{"where": "around_real", "rule": "lipschitz", "weight": 1.0}]},
    "penalty-of-spectral-norm": {"discriminator__norm": "spectral", "penalty": [{"weight": 1.0}]},
    "diffaugment": {"augmentation": {"name": "diffaugment"}},
    "ada-adaptive": {"augmentation": {"name": "ada", "probability": {"target": 0.0, "kimg": 0.02, "every": 3}}},
    "ada-scheduled": {"augmentation": {"name": "ada", "probability": schedule(0.0, 1.0), "cutout": 1.0, "noise": 1.0}},
    "flip": {"augmentation": {"name": "flip", "probability": 0.5}},
    "lecam": {"regularizer": [{"name": "lecam", "weight": schedule(0.3, 0.1), "begin_kimg": 0.02}]},
    "top-k": {"regularizer": [{"name": "top_k", "decay": 0.5, "decay_kimg": 0.02}]},
    "consistency": PLAIN_D | {"regularizer": [{"name": "consistency", "weight": 1.0, "shift": 2}]},
    "latent-consistency": PLAIN_D | {"regularizer": [{"name": "latent_consistency", "weight": 1.0}]},
    "classifier": LABELS
    | {"regularizer": [{"name": "auxiliary_classifier", "weight": 1.0}], "discriminator__conditioning": "none"},
    "infogan": PLAIN_D | {"regularizer": [{"name": "infogan", "weight": 1.0, "continuous": 2}]},
    "weight-clipping": PLAIN_D | {"objective__name": "wasserstein", "regularizer": [{"name": "weight_clipping"}]},
    "first-order-augmented": PLAIN_D
    | {"penalty": [{"weight": 1.0}, {"where": "fake", "weight": 1.0}], "augmentation": {"name": "diffaugment"}},
}


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_replayed_steps_are_those_done_operation_by_operation(changes: dict[str, Any]) -> None:
    settled = recipe(**changes)
    found, _, tape = graphed(settled, 4 * STEPS if "penalty" in changes and len(changes["penalty"]) == 2 else STEPS)
    assert tape.recovered == 0
    assert_same(eagerly(settled, 4 * STEPS if "penalty" in changes and len(changes["penalty"]) == 2 else STEPS), found)


def test_a_recipe_of_two_lazy_penalties_is_captured_in_each_of_its_variants() -> None:
    settled = recipe(**RECIPES["two-lazy-penalties"])
    with fed(settled) as (step, _):
        variants = {step.variant(number) for number in range(12)}
    assert len(variants) == 4
    found, engine, _ = graphed(settled, 6 * (WARM_UP + 2), at_least=4)
    assert engine.captured == 4
    assert_same(eagerly(settled, 6 * (WARM_UP + 2)), found)


def test_images_that_are_streamed_are_those_that_lie_on_the_device() -> None:
    settled = recipe(**CONDITIONAL)
    found, _, _ = graphed(settled, resident=False)
    assert_same(eagerly(settled), found)


def test_of_more_variants_than_are_kept_the_oldest_is_captured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "MOST_GRAPHS", 1)
    monkeypatch.setattr(graph, "WARM_UP", 1)
    settled = recipe(**RECIPES["lazy-penalty"])
    found, engine, tape = graphed(settled, 12)
    assert engine.captured > 2
    assert tape.replays >= engine.captured
    assert_same(eagerly(settled, 12), found)


def test_a_capture_changes_nothing_and_its_step_is_done_once() -> None:
    settled = recipe()
    assert_same(graphed(settled, WARM_UP + 1)[0], eagerly(settled, WARM_UP + 1))


@pytest.mark.parametrize("at", [1, WARM_UP, WARM_UP + 3])
def test_a_training_goes_on_where_a_checkpoint_was_taken(at: int) -> None:
    settled = recipe(**(RECIPES["schedules"] | RECIPES["beta2"]))
    kept, _, _ = graphed(settled, at, at_least=0)
    with fed(settled) as (step, feeder):
        load_state_tensors(step, {name: value for name, value in kept.items() if "/" in name}, "the test")
        engine = GraphedStep(step, feeder, Tape(), demanded=True)
        for number, parts in enumerate(feeder.given(at, STEPS), start=at):
            engine(number, parts)
        assert_same(eagerly(settled), state(step))


def test_a_state_that_is_loaded_between_replays_is_what_they_go_on_from() -> None:
    settled = recipe(**RECIPES["everything-random"])
    with fed(settled) as (step, feeder):
        engine = GraphedStep(step, feeder, Tape(), demanded=True)
        for number, parts in enumerate(feeder.given(0, STEPS)):
            if number == WARM_UP + 2:
                for network in (step.generator, step.discriminator):
                    network.eval()  # as drawing samples and judging them may leave it
                assert step.ema is not None
                step.statistics.read()
            engine(number, parts)
        found = state(step)
    expected = eagerly(settled)
    for states in (found, expected):
        del states["statistics/sums"]
    assert_same(found, expected)


@pytest.mark.parametrize("bad", [1, WARM_UP + 2])
def test_a_loss_that_is_not_finite_is_found_with_the_number_of_its_step(
    bad: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = Step._note

    def spoilt(self: Step, name: str, value: torch.Tensor) -> None:
        at = (self._number == bad) & torch.full((), name == "loss/generator")
        note(self, name, torch.where(at, torch.full_like(value, torch.nan), value))

    monkeypatch.setattr(Step, "_note", spoilt)
    with fed(recipe()) as (step, feeder):
        engine = GraphedStep(step, feeder, Tape(), demanded=True)
        for number, parts in enumerate(feeder.given(0, STEPS)):
            engine(number, parts)
        assert step.first_bad() == (bad, "loss/generator")


BAKED: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "the number of the step": (Step, "variant", lambda original: lambda self, number: original(self, 0)),
    "where a regularizer begins": (LeCam, "variant", lambda original: lambda self, kimg, batch: None),
    "the numbers of the samples": (
        Feeder,
        "batch",
        lambda original: (
            lambda self, given: original(
                self, type(given)(given.reals, torch.tensor(given.latents.tolist()), given.images, given.label)
            )
        ),
    ),
    "a scheduled number": (
        Step,
        "scheduled_tensors",
        lambda original: property(lambda self: [one.clone() for one in original.fget(self)]),
    ),
}


@pytest.mark.parametrize("what", BAKED)
def test_what_a_capture_bakes_in_would_be_seen(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above would fail: a tape, like a graph, knows the host's numbers of the one step that it recorded."""
    owner, name, spoil = BAKED[what]
    settled = recipe(
        **PLAIN_D,
        optimizer__lr=schedule(2e-3, 1e-4),
        penalty=[{"weight": 1.0, "every": 2}],
        regularizer=[{"name": "lecam", "weight": 0.3, "begin_kimg": 0.04}],
    )
    expected = eagerly(settled, 24)
    monkeypatch.setattr(owner, name, spoil(vars(owner)[name]))
    try:
        found, _, _ = graphed(settled, 24)
    except UsageError as error:
        assert "reads a tensor back" in str(error)  # noqa: PT017, either way it is seen
        return
    assert [one for one in expected if not torch.equal(expected[one], found[one])]


def test_a_capture_that_fails_is_an_error_where_it_was_demanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Step, "_note", lambda self, name, value: float(value.detach()))
    with pytest.raises(UsageError, match=r"cannot be captured in a CUDA graph: .* reads a tensor back"):
        graphed(recipe())


def test_where_it_was_not_demanded_training_goes_on_with_the_same_numbers_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    note = Step._note

    def reading(self: Step, name: str, value: torch.Tensor) -> None:
        float(value.detach())
        note(self, name, value)

    monkeypatch.setattr(Step, "_note", reading)
    settled = recipe(**RECIPES["lazy-penalty"])
    expected, told, tape = eagerly(settled), [], Tape()
    with fed(settled) as (step, feeder):
        engine = GraphedStep(step, feeder, tape, told=told.append)
        for number, parts in enumerate(feeder.given(0, STEPS)):
            engine(number, parts)
        assert_same(expected, state(step))
    assert (engine.captured, tape.replays, tape.recovered) == (0, 0, 1)
    assert told == ["aten._local_scalar_dense.default reads a tensor back"]


def test_state_that_a_capture_makes_anew_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "WARM_UP", 0)  # the optimisers have no state yet
    with pytest.raises(UsageError, match="tensors of the training's state were made anew"):
        graphed(recipe())
