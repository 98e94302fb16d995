"""`[evaluate]`: a training that measures its generator on the way, and is the same training.

Features and metrics are those of `evaluated_runs`, which take no time.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluated_runs import EVALUATE, Classless, Gap, Quarters, registered
from several import results, together
from tiny_runs import (
    CONDITIONAL,
    Recorder,
    assert_same,
    bytes_of,
    images,
    labelled,
    quick,
    recipe,
    rows,
    states,
    table,
    train,
    weights,
)

import ganzoo
from ganzoo.errors import (
    CheckpointError,
    DownloadError,
    GanzooError,
    InterruptedTraining,
    NotFiniteError,
    RecipeError,
    RunError,
    UnknownNameError,
    UsageError,
)
from ganzoo.evaluation.contract import Subject
from ganzoo.evaluation.results import read_evaluation
from ganzoo.pictures import to_uint8
from ganzoo.recipes.evaluation import asked_metrics
from ganzoo.training.clock import Clock
from ganzoo.training.events import Alarm, Checkpoint, Ended, Evaluated, Event, Samples, Tick
from ganzoo.training.publishing import load_checkpoint_model
from ganzoo.training.reporters import JsonLinesReporter, read_evaluations

STEPS = 6
TABLE = table(evaluate=EVALUATE)
NAMES = ["gap-quarters", "spread-quarters"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    quick(monkeypatch)
    monkeypatch.setenv("GANZOO_HOME", str(tmp_path / "home"))
    with registered():
        yield


def evaluated(run: Path) -> list[int]:
    """The steps that a run's metrics tell evaluations of, which are those of its files."""
    steps = [row["step"] for row in rows(run) if row["event"] == "evaluation"]
    assert [f"step-{step:08d}.json" for step in steps] == sorted(path.name for path in run.glob("evaluations/*"))
    return steps


def everything(run: Path) -> dict[str, bytes]:
    """All that no interruption may change."""
    return bytes_of(run) | states(run) | bytes_of(run, "evaluations/*")


# ------------------------------------------------------------------ what may be asked for


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"every": -1}, RecipeError, "evaluate.every = -1 should be at least 0"),
        ({"every": 1.5}, RecipeError, "evaluate.every = 1.5 should be a whole number"),
        ({"every": None}, RecipeError, "evaluate.every is missing"),
        ({"metrics": []}, RecipeError, "evaluate.metrics = [] should be a list of at least 1 entry"),
        ({"metrics": "gap"}, RecipeError, "evaluate.metrics"),
        ({"metrics": ["gap", "gap"]}, RecipeError, "'gap' is there twice"),
        ({"metrics": ["gapp"]}, UnknownNameError, "gap"),
        ({"features": "quarter"}, UnknownNameError, "quarters"),
        ({"imges": 3}, RecipeError, "evaluate.imges is not a key"),
        ({"images": 1}, RecipeError, "evaluate.images = 1 should be at least 2"),
        ({"images": 3}, RecipeError, "'gap' needs at least 4 images, and evaluate.images is 3. Use --set evaluate.im"),
        ({"reference": 3}, RecipeError, "'gap' needs at least 4 images, and evaluate.reference is 3."),
        ({"metrics": ["of-test"]}, RecipeError, "'of-test' needs images that were not trained on. Use `ganzoo eval"),
        ({"metrics": ["of-discriminator"]}, RecipeError, "'of-discriminator' looks into the discriminator."),
        ({"metrics": ["of-labels"]}, RecipeError, "'of-labels' needs labels, and data.num_classes is 0."),
        ({"metrics": ["no-metric"]}, GanzooError, "The metric 'no-metric' is a NoMetric, no "),
    ],
    ids=str,
)
def test_what_means_nothing_in_a_training_is_refused_when_the_recipe_is_read(
    changes: dict[str, Any], kind: type[GanzooError], message: str, tmp_path: Path
) -> None:
    asked = table(evaluate={key: one for key, one in (EVALUATE | changes).items() if one is not None})
    with pytest.raises(kind) as refused:
        train(asked, tmp_path / "run")
    assert message in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_labels_that_are_not_used_are_as_good_as_none() -> None:
    changes = {"data__num_classes": 3, "data__labels": "random", "evaluate": EVALUATE | {"metrics": ["of-labels"]}}
    with pytest.raises(RecipeError, match="needs labels, and the data's labels are not used"):
        recipe(**changes)
    assert recipe(**changes | {"data__labels": "data"}).evaluate is not None


@pytest.mark.parametrize("changes", [{"features": "inception"}, {"metrics": ["of-inception"]}])
def test_inception_without_its_package_is_refused(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch_fidelity" else find(name))
    with pytest.raises(RecipeError, match=r"'inception', and torch-fidelity is not installed\. pip install"):
        recipe(evaluate=EVALUATE | changes)
    assert recipe(evaluate=EVALUATE).evaluate is not None


def test_one_that_is_off_asks_for_nothing(tmp_path: Path) -> None:
    train(table(evaluate={"every": 0, "metrics": ["not here"], "features": "nowhere"}), tmp_path / "run")
    assert evaluated(tmp_path / "run") == []
    assert not (tmp_path / "run/evaluations").exists()


def test_defaults_are_what_the_documents_say() -> None:
    assert asked_metrics(recipe()) == []
    assert "evaluate" not in recipe().to_dict()
    asked = recipe(evaluate={"every": 500, "metrics": ["gap"]})
    assert asked.evaluate is not None
    assert (asked.evaluate.features, asked.evaluate.images, asked.evaluate.reference) == ("auto", 10_000, None)
    assert type(asked.evaluate).model_fields["metrics"].default == ("fd",)
    assert [one.extractor for one in asked_metrics(asked)] == ["mnist-convnet"]
    colours = recipe(data__channels=3, evaluate={"every": 1, "metrics": ["gap"]})
    assert [one.extractor for one in asked_metrics(colours)] == ["cifar-convnet"]


def test_the_command_line_can_ask_for_it(tmp_path: Path) -> None:
    changes = ["evaluate.every=3", 'evaluate.metrics=["gap"]', "evaluate.features=quarters", "evaluate.images=8"]
    train(table(), tmp_path / "run", overrides=changes)
    assert evaluated(tmp_path / "run") == [3, 6]


# ------------------------------------------------------------------ what is measured


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return train(TABLE, tmp_path / "run").run


def test_it_is_measured_at_its_steps_and_after_the_last(tmp_path: Path) -> None:
    recorder = Recorder()
    train(table(evaluate=EVALUATE | {"every": 4}), tmp_path / "run", reporters=[recorder])
    assert [name for name in recorder.seen if name[1] >= 4] == [
        ("Tick", 4), ("Checkpoint", 4), ("Evaluated", 4),
        ("Tick", 6), ("Samples", 6), ("Checkpoint", 6), ("Evaluated", 6), ("Ended", 6),
    ]  # fmt: skip
    assert evaluated(tmp_path / "run") == [4, 6]
    for event in recorder.of(Evaluated):
        assert read_evaluation(event.path) == event.evaluation
        assert [value.name for value in event.evaluation.values] == NAMES
        assert event.seconds > 0.0


def test_the_numbers_are_those_of_the_published_generator_and_of_the_images_of_training(run: Path) -> None:
    """Computed again, from the model folder and the images, by another way."""

    def quarters(pixels: Any) -> Any:
        return np.asarray(pixels, dtype=np.float64).reshape(-1, 2, 4, 2, 4).mean(axis=(2, 4)).reshape(-1, 4) / 255.0

    evaluation = read_evaluation(run / "evaluations/step-00000006.json")
    generated = quarters(to_uint8(ganzoo.load_pretrained(str(run)).sample(20)))
    assert evaluation["gap-quarters"].value == pytest.approx(
        np.abs(generated.mean(axis=0) - quarters(images()).mean(axis=0)).sum(), rel=1e-5
    )
    assert evaluation["spread-quarters"].value == pytest.approx(generated.std(), rel=1e-5)


def test_the_protocol_says_what_was_judged(run: Path) -> None:
    evaluation = read_evaluation(run / "evaluations/step-00000004.json")
    assert evaluation.subject == "tiny after 4 steps"
    generated, reference = evaluation.protocol["generated"], evaluation.protocol["reference"]
    told = {key: generated[key] for key in ("recipe", "step", "kimg", "weights", "seeds", "count")}
    assert told == {"recipe": "tiny", "step": 4, "kimg": 0.016, "weights": "ema", "seeds": "0-19", "count": 20}
    assert (reference["count"], reference["chosen"]) == (10, "all")
    assert evaluation.protocol["features"]["quarters"]["sha256"] == Quarters.sha256
    assert str(run) not in (run / "evaluations/step-00000004.json").read_text()


def test_a_part_of_the_training_images_is_taken_evenly(tmp_path: Path) -> None:
    seen: list[Any] = []
    Gap.before = staticmethod(lambda subject: seen.append(subject.reference.images.gather(np.arange(5)).numpy()))
    train(table(evaluate=EVALUATE | {"every": 6, "reference": 5}), tmp_path / "run")
    assert np.array_equal(seen[0], images()[::2])
    reference = read_evaluation(tmp_path / "run/evaluations/step-00000006.json").protocol["reference"]
    assert reference["chosen"] == "5 of 10"


def test_a_conditional_generator_draws_the_classes_that_its_seeds_name(tmp_path: Path) -> None:
    seen: list[Subject] = []
    Gap.before = staticmethod(seen.append)
    changes = CONDITIONAL | {"evaluate": EVALUATE | {"every": 6, "metrics": ["gap", "of-labels"]}}
    train(table(**changes), tmp_path / "run", labelled())
    labels = seen[0].generated.images.labels
    assert labels is not None
    assert labels.tolist() == ganzoo.load_pretrained(str(tmp_path / "run")).sample(20).labels.tolist()
    assert len(set(labels.tolist())) == 3


def test_the_features_of_the_training_images_are_computed_once_and_before_the_first_step(tmp_path: Path) -> None:
    seen: list[int] = []
    extract = Quarters.extract

    def counting(self: Quarters, batch: torch.Tensor) -> Any:
        seen.append(len(batch))
        return extract(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Quarters, "extract", counting)
        patch.setattr("ganzoo.training.evaluating._TELL_SECONDS", 0.0)
        counts: list[tuple[int, int]] = []
        train(TABLE, tmp_path / "run", reporters=[lambda event: counts.append((event.step, len(seen)))])
    assert max(count for step, count in counts if step < 2) == 2  # ten images in batches of eight
    assert len(seen) == 2 + 3 * 3  # and twenty drawn ones, three times
    train(TABLE, tmp_path / "again")
    assert len(list((tmp_path / "home/features").glob("[0-9a-f]*"))) == 1


# ------------------------------------------------------------------ the same training


def test_a_training_that_is_evaluated_is_the_training_that_is_not(tmp_path: Path) -> None:
    """With batch norm, dropout, mirrored images, classes, an average; and whatever the interval."""
    changes = CONDITIONAL | {"discriminator__norm": "batch", "train__checkpoint_every": 1, "train__keep": 9}
    train(table(**changes), tmp_path / "without", labelled())
    train(table(**changes, evaluate=EVALUATE | {"every": 1}), tmp_path / "with", labelled())
    assert evaluated(tmp_path / "with") == [1, 2, 3, 4, 5, 6]
    assert_same(states(tmp_path / "without"), states(tmp_path / "with"))
    assert_same(weights(tmp_path / "without"), weights(tmp_path / "with"))
    assert rows(tmp_path / "without") == rows(tmp_path / "with", "evaluation")


def test_nobody_s_random_numbers_are_drawn(tmp_path: Path) -> None:
    """The features draw some of each kind; what the process would draw next is the same before and after."""
    seen: dict[str, Any] = {}

    def look(event: Event) -> None:
        key, place = np.random.get_state()[1:3]
        state = torch.get_rng_state().tolist(), key.tolist(), place, random.getstate()
        seen[f"{type(event).__name__} {event.step}"] = state

    train(TABLE, tmp_path / "run", reporters=[look])
    assert seen["Started 0"][1:] == seen["Ended 6"][1:]
    assert seen["Checkpoint 4"] == seen["Evaluated 4"]
    assert seen["Checkpoint 6"] == seen["Evaluated 6"]


def test_every_entry_may_change_when_a_run_goes_on(tmp_path: Path) -> None:
    train(table(), tmp_path / "run")
    train(table(), tmp_path / "run", steps=8, overrides=["evaluate.every=1", *overrides("gap", "quarters", 8)])
    assert evaluated(tmp_path / "run") == [6, 7, 8]
    changed = ["evaluate.every=2", *overrides("of-logits", "quarters", 12), "evaluate.reference=9"]
    train(None, None, resume=tmp_path / "run", steps=10, overrides=changed)
    train(table(), tmp_path / "run", steps=12)  # the same command as at first: no table at all
    assert evaluated(tmp_path / "run") == [6, 7, 8, 10]
    train(table(), tmp_path / "straight", steps=12)
    assert_same(weights(tmp_path / "straight"), weights(tmp_path / "run"))


def overrides(metric: str, features: str, count: int) -> list[str]:
    return [f'evaluate.metrics=["{metric}"]', f"evaluate.features={features}", f"evaluate.images={count}"]


# ------------------------------------------------------------------ kills, signals, failures


def fail(*_: Any) -> None:
    raise LookupError("killed here")


@pytest.fixture
def straight(tmp_path: Path) -> Path:
    return train(table(evaluate=EVALUATE, train__keep=9), tmp_path / "straight").run


@pytest.mark.parametrize(
    "where",
    [(Evaluated, 2), (Tick, 4), (Checkpoint, 4), (Evaluated, 4), (Samples, 6), (Checkpoint, 6), (Evaluated, 6)],
    ids=lambda where: f"{where[0].__name__}-{where[1]}",
)
def test_killed_around_an_evaluation_gives_the_same_bytes_and_no_row_twice(
    where: tuple[type[Event], int], straight: Path, tmp_path: Path
) -> None:
    """(Checkpoint, n) is before the evaluation of a step, (Evaluated, n) after it and before the next checkpoint."""
    asked = table(evaluate=EVALUATE, train__keep=9)
    with pytest.raises(LookupError):
        train(asked, tmp_path / "run", reporters=[Recorder(where, fail)])
    train(asked, tmp_path / "run")
    assert evaluated(tmp_path / "run") == [2, 4, 6]
    assert_same(everything(straight), everything(tmp_path / "run"))
    assert rows(straight) == rows(tmp_path / "run")


@pytest.mark.parametrize("step", [2, 4, 6])
def test_killed_within_an_evaluation_gives_the_same_bytes(step: int, straight: Path, tmp_path: Path) -> None:
    def die(subject: Subject) -> None:
        if subject.generated.images.to_dict()["step"] == step:
            raise KeyboardInterrupt  # as a kill, nothing may catch it

    asked = table(evaluate=EVALUATE, train__keep=9)
    Gap.before = staticmethod(die)
    with pytest.raises(KeyboardInterrupt):
        train(asked, tmp_path / "run")
    Gap.before = None
    assert evaluated(tmp_path / "run") == list(range(2, step, 2))
    train(asked, tmp_path / "run")
    assert evaluated(tmp_path / "run") == [2, 4, 6]
    assert_same(everything(straight), everything(tmp_path / "run"))
    assert rows(straight) == rows(tmp_path / "run")


def test_evaluations_of_steps_taken_again_are_forgotten(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        train(TABLE, tmp_path / "run", reporters=[Recorder((Tick, 4), fail)])
    assert evaluated(tmp_path / "run") == [2]
    train(table(evaluate=EVALUATE | {"every": 5}), tmp_path / "run")
    assert evaluated(tmp_path / "run") == [5, 6]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [2, 4, 6])
def test_a_signal_within_an_evaluation_ends_it_at_once_with_a_checkpoint(
    step: int, number: signal.Signals, straight: Path, tmp_path: Path
) -> None:
    asked, drawn = table(evaluate=EVALUATE, train__keep=9), []
    extract = Quarters.extract

    def signalled(self: Quarters, batch: torch.Tensor) -> Any:
        drawn.append(1)
        if len(drawn) == 2 + 3 * (step // 2 - 1) + 1:  # the first batch of that step's generated images
            signal.raise_signal(number)
        return extract(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Quarters, "extract", signalled)
        with pytest.raises(InterruptedTraining, match=f"Stopped by {number.name} after step {step}; a checkpoint was"):
            train(asked, tmp_path / "run")
    assert len(drawn) == 2 + 3 * (step // 2 - 1) + 1  # not one batch more
    assert evaluated(tmp_path / "run") == list(range(2, step, 2))
    assert not (tmp_path / "run/model").exists()
    assert list((tmp_path / "home/evaluating").glob("[0-9a-f]*")) == []
    train(asked, tmp_path / "run")
    assert evaluated(tmp_path / "run") == [2, 4, 6]
    one, other = everything(straight), everything(tmp_path / "run")
    one, other = ({key: one for key, one in of.items() if "00000002/" not in key} for of in (one, other))
    assert_same(one, other)  # but for the checkpoint of step 2, which a straight run does not have


def test_a_signal_while_it_is_prepared_stops_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract = Quarters.extract

    def signalled(self: Quarters, batch: torch.Tensor) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return extract(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Quarters, "extract", signalled)
        with pytest.raises(InterruptedTraining, match="after step 0; a checkpoint was written"):
            train(TABLE, tmp_path / "run")
    train(TABLE, tmp_path / "run")
    assert evaluated(tmp_path / "run") == [2, 4, 6]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UsageError("Too few images.", "Take more."), "Too few images. Take more."),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (RuntimeError("CUDA out of memory\nTried to"), "RuntimeError: CUDA out of memory Tried to"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_one_that_fails_is_told_of_and_the_training_goes_on(error: Exception, message: str, tmp_path: Path) -> None:
    def broken(subject: Subject) -> None:
        if subject.generated.images.to_dict()["step"] == 4:
            raise error

    Gap.before = staticmethod(broken)
    recorder = Recorder()
    train(TABLE, tmp_path / "run", reporters=[recorder])
    assert evaluated(tmp_path / "run") == [2, 6]
    (alarm,) = recorder.of(Alarm)
    assert (alarm.name, alarm.step) == ("evaluation_failed", 4)
    assert alarm.message.startswith("The evaluation failed, and the training goes on: ")
    assert message in f"{alarm.message} {alarm.advice}"
    assert "\n" not in alarm.message
    Gap.before = None
    train(table(), tmp_path / "without")
    assert_same(weights(tmp_path / "without"), weights(tmp_path / "run"))


def test_what_a_reporter_raises_ends_the_training_as_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganzoo.training.evaluating._TELL_SECONDS", 0.0)

    def report(event: Event) -> None:
        if type(event).__name__ == "Evaluating" and event.step == 4:
            raise LookupError("of the reporter")

    with pytest.raises(LookupError, match="of the reporter"):
        train(TABLE, tmp_path / "run", reporters=[report])


def test_nan_images_stop_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganzoo.sampling import TorchSampler

    draw = TorchSampler._draw
    monkeypatch.setattr(TorchSampler, "_draw", lambda *given: draw(*given) * np.nan)
    with pytest.raises(NotFiniteError, match="NaN or Inf after step 2: an image of the generator is not finite"):
        train(TABLE, tmp_path / "run")
    assert [row["step"] for row in rows(tmp_path / "run") if row["event"] == "checkpoint"] == [0]


def test_features_that_are_not_here_are_missed_before_there_is_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(self: Quarters, weights: Path | None = None, device: str = "auto") -> None:
        raise DownloadError("The weights cannot be fetched.", "Go online.")

    monkeypatch.setattr(Quarters, "__init__", offline)
    with pytest.raises(DownloadError, match=r"The weights cannot be fetched\. Go online\."):
        train(TABLE, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert train(TABLE, tmp_path / "run", overrides=["evaluate.every=0"]).step == STEPS


def test_features_without_the_classes_that_a_metric_looks_at_are_refused(tmp_path: Path) -> None:
    asked = table(evaluate=EVALUATE | {"metrics": ["of-logits"], "features": "classless"})
    with pytest.raises(UsageError, match="'classless' name none"):
        train(asked, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert Classless.num_classes == 0


def test_too_few_images_of_the_training_are_refused_before_there_is_a_run(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="'gap' of \\[evaluate\\] needs at least 4 images of the training, and there a"
    ):
        train(TABLE, tmp_path / "run", images(3))
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------ several processes


def slow(seconds: float) -> None:
    Gap.before = staticmethod(lambda _: time.sleep(seconds))


def test_the_first_of_several_processes_evaluates_and_the_others_wait(tmp_path: Path) -> None:
    changes = {"train__batch_size": 8, "evaluate": EVALUATE}

    def work(rank: int) -> tuple[int, int]:
        Quarters.opened = 0
        slow(0.2)
        return train(table(**changes), tmp_path / "run", images(30)).step, Quarters.opened

    (first, opened), (second, never) = results(work)
    assert (first, second) == (3, 3)
    assert opened > 0
    assert never == 0
    assert evaluated(tmp_path / "run") == [2, 3]
    results(lambda _: train(table(train__batch_size=8), tmp_path / "without", images(30)))
    assert_same(states(tmp_path / "without"), states(tmp_path / "run"))


def test_a_signal_within_the_evaluation_of_several_processes_stops_all(tmp_path: Path) -> None:
    changes = {"train__batch_size": 8, "evaluate": EVALUATE}

    def work(rank: int) -> Any:
        if rank == 0:
            Gap.before = staticmethod(
                lambda subject: (os.kill(os.getpid(), signal.SIGTERM), subject.progress("x", 0, 1))
            )
        return train(table(**changes), tmp_path / "run", images(30))

    found = together(work)
    assert [type(one) for one in found] == [InterruptedTraining] * 2
    assert [str(one).partition(";")[0] for one in found] == ["Stopped by SIGTERM after step 2"] * 2
    results(lambda _: train(table(**changes), tmp_path / "run", images(30)))
    assert evaluated(tmp_path / "run") == [2, 3]


# ------------------------------------------------------------------ what is told


def test_rows_and_log_and_curves_tell_of_it(run: Path) -> None:
    measured = [row for row in rows(run) if row["event"] == "evaluation"]
    evaluations = [read_evaluation(path) for path in sorted((run / "evaluations").iterdir())]
    assert [row["values"] for row in measured] == [
        {value.name: value.value for value in one.values} for one in evaluations
    ]
    assert set(measured[0]) == {"schema_version", "event", "step", "kimg", "values"}
    curves = read_evaluations(run)
    assert list(curves) == NAMES
    assert [kimg for kimg, _ in curves["gap-quarters"]] == [0.008, 0.016, 0.024]
    assert curves["gap-quarters"][2][1] == evaluations[2]["gap-quarters"].value
    assert (run / "log.txt").read_text().count("evaluation step-0000000") == 3
    assert f"gap-quarters {evaluations[0]['gap-quarters'].value:.6g}" in (run / "log.txt").read_text()


def test_a_run_without_evaluations_has_no_curves_of_them(tmp_path: Path) -> None:
    assert read_evaluations(train(table(), tmp_path / "run").run) == {}


def test_values_that_are_not_finite_are_null_in_rows_and_left_out_of_curves(tmp_path: Path) -> None:
    from ganzoo.evaluation.contract import Value
    from ganzoo.evaluation.results import Evaluation

    found = Evaluation("x", (Value("a", float("nan"), "lower"), Value("b", 2.0, "lower")))
    JsonLinesReporter(tmp_path / "metrics.jsonl")(Evaluated(4, 0.5, tmp_path / "e.json", found, 1.0))
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["values"] == {"a": None, "b": 2.0}
    assert read_evaluations(tmp_path) == {"b": [(0.5, 2.0)]}


def test_tensorboard_gets_every_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganzoo.training.reporters import TensorBoardReporter

    written: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, **_: Any) -> None: ...

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def flush(self) -> None: ...

    monkeypatch.undo()
    pytest.importorskip("tensorboard")
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", Writer)
    from ganzoo.evaluation.contract import Value
    from ganzoo.evaluation.results import Evaluation

    found = Evaluation("x", (Value("fid", 12.5, "lower"), Value("recall", 0.5, "higher")))
    TensorBoardReporter(tmp_path)(Evaluated(4, 0.5, tmp_path / "e.json", found, 1.0))
    assert written == [("evaluation/fid", 12.5, 4), ("evaluation/recall", 0.5, 4)]


def test_the_model_carries_the_numbers_of_its_last_step_with_their_protocol(run: Path) -> None:
    metrics = json.loads((run / "model/metrics.json").read_text())["metrics"]
    last = read_evaluation(run / "evaluations/step-00000006.json")
    assert [one["name"] for one in metrics] == NAMES
    assert [one["value"] for one in metrics] == pytest.approx([value.value for value in last.values], rel=1e-5)
    assert all("20" in one["protocol"] and "quarters" in one["protocol"] for one in metrics)
    card = (run / "model/README.md").read_text()
    assert "Not evaluated" not in card
    assert all(name in card for name in NAMES)
    assert ganzoo.load_pretrained(str(run)).metrics["metrics"] == metrics


def test_the_model_never_carries_the_numbers_of_an_earlier_step(tmp_path: Path) -> None:
    def broken(subject: Subject) -> None:
        if subject.generated.images.to_dict()["step"] == STEPS:
            raise UsageError("Not now.")

    Gap.before = staticmethod(broken)
    train(TABLE, tmp_path / "run")
    assert evaluated(tmp_path / "run") == [2, 4]
    assert "metrics" not in json.loads((tmp_path / "run/model/metrics.json").read_text())
    assert "Not evaluated" in (tmp_path / "run/model/README.md").read_text()


def test_the_time_of_evaluations_is_not_that_of_training(tmp_path: Path) -> None:
    slow(0.4)
    recorder = Recorder()
    result = train(TABLE, tmp_path / "run", reporters=[recorder])
    assert all(event.seconds > 0.4 for event in recorder.of(Evaluated))
    spent = sum(event.seconds for event in recorder.of(Evaluated))
    assert spent > 1.2
    assert result.seconds + 1.2 < spent + recorder.of(Ended)[0].seconds + 1e-9
    for tick in recorder.of(Tick):
        assert tick.seconds <= result.seconds


def test_a_clock_that_is_paused_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("ganzoo.training.clock.time.monotonic", lambda: now[0])
    clock = Clock(0, 5.0, 10)
    now[0] += 2.0
    with clock.paused():
        now[0] += 1000.0
    now[0] += 1.0
    assert clock.seconds() == pytest.approx(8.0)
    assert clock.rate(3) == pytest.approx(10.0)


# ------------------------------------------------------------------ models of checkpoints


@pytest.mark.parametrize("changes", [{}, CONDITIONAL, {"ema": None}], ids=["ema", "conditional", "raw"])
def test_the_last_checkpoint_s_model_is_the_run_s_bit_for_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    run = train(table(**changes), tmp_path / "run", labelled() if changes is CONDITIONAL else None).run
    ours, published = load_checkpoint_model(run), ganzoo.load_pretrained(str(run))
    for one, other in ((ours.generator, published.generator), (ours.discriminator, published.discriminator)):
        assert one is not None
        assert other is not None
        mine, theirs = one.state_dict(), other.state_dict()
        assert mine.keys() == theirs.keys()
        assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
        assert not one.training
        assert not any(parameter.requires_grad for parameter in one.parameters())
    assert np.array_equal(ours.sample(9), published.sample(9))
    assert (ours.config.weights, ours.config.step, ours.config.kimg) == (
        published.config.weights, published.config.step, published.config.kimg,
    )  # fmt: skip
    assert ours.config.recipe == published.config.recipe


def test_an_unfinished_run_has_models_of_its_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        train(table(), tmp_path / "run", reporters=[Recorder((Tick, 6), fail)])
    model = load_checkpoint_model(tmp_path / "run", 4)
    assert (model.config.step, model.config.kimg) == (4, 0.016)
    train(table(), tmp_path / "short", steps=4)
    assert np.array_equal(model.sample(5), ganzoo.load_pretrained(str(tmp_path / "short")).sample(5))
    raw = load_checkpoint_model(tmp_path / "run", 4, "raw")
    assert raw.config.weights == "raw"
    assert not np.array_equal(model.sample(5), raw.sample(5))


@pytest.mark.parametrize("changes", [{}, CONDITIONAL], ids=["plain", "conditional"])
def test_the_numbers_of_a_checkpoint_are_those_that_were_measured_in_training(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    """To the last bit: the same images, whoever draws them."""
    run = train(table(**changes, evaluate=EVALUATE), tmp_path / "run", labelled() if changes else None).run
    for step, where in ((4, load_checkpoint_model(run, 4)), (6, run), (6, ganzoo.load_pretrained(str(run)))):
        measured = read_evaluation(run / f"evaluations/step-{step:08d}.json")
        again = ganzoo.evaluate(
            where, labelled() if changes else images(), metrics=["gap"], features="quarters", count=20, device="cpu"
        )
        assert [(one.name, one.value) for one in again.values] == [(one.name, one.value) for one in measured.values]


@pytest.mark.parametrize(
    ("step", "weights_", "kind", "message"),
    [
        (5, None, CheckpointError, "has no checkpoint of step 5. Checkpoints are there of steps 0, 4, 6."),
        (6, "ema", UsageError, "keeps no average of its generator (EMA). Ask for the raw weights."),
    ],
)
def test_what_a_run_does_not_have_is_said(
    step: int, weights_: Any, kind: type[GanzooError], message: str, tmp_path: Path
) -> None:
    run = train(table(ema=None), tmp_path / "run").run
    with pytest.raises(kind) as refused:
        load_checkpoint_model(run, step, weights_)
    assert message in str(refused.value)


def test_damaged_checkpoints_are_refused_and_the_newest_whole_one_is_the_default(tmp_path: Path) -> None:
    run = train(table(), tmp_path / "run").run
    damaged = run / "checkpoints/step-00000006/state.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"step-00000006 is damaged: state\.safetensors is not what"):
        load_checkpoint_model(run, 6)
    assert load_checkpoint_model(run).config.step == 4
    for folder in (run / "checkpoints").iterdir():
        (folder / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no whole checkpoint\. The checkpoint step-00000006 is passed over"):
        load_checkpoint_model(run)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no run folder"):
        load_checkpoint_model(tmp_path)
