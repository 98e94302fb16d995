"""The trainer: what it does at intervals and at the ends, signals, numbers that are not finite, and that nothing beside
the recipe and the data changes what it trains.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import tomllib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import (
    BATCH,
    CONDITIONAL,
    WEIGHTS,
    Recorder,
    assert_same,
    bytes_of,
    images,
    labelled,
    quick,
    rows,
    states,
    table,
    train,
    weights,
)

import ganzoo
from ganzoo.errors import DataError, InterruptedTraining, NotFiniteError, RecipeError, UsageError, WeightsError
from ganzoo.models import load_model, weights_sha256
from ganzoo.objectives.adversarial import NonSaturating
from ganzoo.sampling import TorchSampler
from ganzoo.tensors import read_tensors
from ganzoo.training import publishing, trainer
from ganzoo.training.checkpoints import find_checkpoint, state_tensors
from ganzoo.training.events import Alarm, Checkpoint, Ended, Event, Progress, Samples, Started, Tick
from ganzoo.training.run import open_run
from ganzoo.training.step import Step

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "zoo_configs").glob("*.toml"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


def last_state(run: Path) -> dict[str, torch.Tensor]:
    """The tensors of the checkpoint of step 6."""
    return read_tensors(run / "checkpoints/step-00000006/state.safetensors")[0]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the conditional recipe that nothing disturbed."""
    out = tmp_path_factory.mktemp("straight") / "run"
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        train(table(**CONDITIONAL), out, labelled())
    return out


# ---------------------------------------------------------------------------------------------------- what happens when


def test_events_come_in_order_with_their_steps(tmp_path: Path) -> None:
    recorder = Recorder()
    result = train(table(), tmp_path / "run", reporters=[recorder])
    assert [event for event in recorder.seen if event[0] != "Alarm"] == [
        ("Started", 0),
        ("Samples", 0),
        ("Checkpoint", 0),
        ("Tick", 2),
        ("Samples", 3),
        ("Tick", 4),
        ("Checkpoint", 4),
        ("Tick", 6),
        ("Samples", 6),
        ("Checkpoint", 6),
        ("Ended", 6),
    ]
    assert all(event.kimg == event.step * BATCH / 1000 for event in recorder.events)
    started, ended = recorder.of(Started)[0], recorder.of(Ended)[0]
    assert (started.total_steps, started.total_kimg, started.images, started.resumed) == (6, 0.024, 10, False)
    assert (started.device, started.precision, started.recipe) == ("cpu", "fp32", "tiny")
    model = load_model(result.model) if result.model else None
    assert model is not None
    assert started.parameters["generator"] == sum(one.numel() for one in model.generator.parameters())
    assert (ended.reason, ended.model, ended.run) == ("done", tmp_path / "run" / "model", tmp_path / "run")
    assert (result.step, result.kimg, result.already_done) == (6, 0.024, False)
    assert result.seconds > 0


def test_what_events_name_is_there(tmp_path: Path) -> None:
    recorder = Recorder()
    result = train(table(), tmp_path / "run", reporters=[recorder])
    for samples in recorder.of(Samples):
        assert samples.images.shape == (64, 8, 8, 1)
        assert samples.images.dtype == np.uint8
        with Image.open(samples.path) as picture:
            picture.verify()
        assert samples.diversity > 0
    assert all(event.bytes > 0 for event in recorder.of(Checkpoint))
    assert recorder.of(Checkpoint)[-1].path == find_checkpoint(tmp_path / "run")[0]
    assert set(result.pictures) == {"samples", "evolution", "curves"}
    assert all(path.is_file() for path in result.pictures.values())
    with Image.open(result.pictures["evolution"]) as evolution:
        assert getattr(evolution, "n_frames", 1) == 3


def test_a_tick_tells_all_that_it_promises(tmp_path: Path) -> None:
    recorder = Recorder()
    lr = {"schedule": "linear", "start": 2e-3, "end": 0.0, "kimg": 0.024}
    changes = table(discriminator__norm="none", penalty=[{"weight": 1.0}], optimizer__lr=lr)
    train(changes, tmp_path / "run", reporters=[recorder])
    ticks = recorder.of(Tick)
    for tick in ticks:
        assert set(tick.statistics) == {
            "loss/discriminator",
            "loss/generator",
            "logits/real",
            "logits/fake",
            "logits/real_std",
            "logits/fake_std",
            "accuracy/real",
            "accuracy/fake",
            "gradient/generator",
            "gradient/discriminator",
            "lr/generator",
            "lr/discriminator",
            "penalty/real_zero_centered",
        }
        assert all(np.isfinite(value) for value in tick.statistics.values())
        assert 0 <= tick.statistics["accuracy/real"] <= 1
        assert tick.images_per_second > 0
    # The rate of the step just done: step 1 of 0..5 at the first tick, and so on.
    assert [tick.statistics["lr/generator"] for tick in ticks] == pytest.approx(
        [2e-3 * (1 - at / 6) for at in (1, 3, 5)]
    )
    seconds = [tick.seconds for tick in ticks]
    assert seconds == sorted(seconds)


def test_progress_is_told_between_ticks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganzoo.training.clock._PROGRESS_SECONDS", 0.0)
    heard: list[Event] = []
    train(table(), tmp_path / "run", reporters=[heard.append])
    progress = [event for event in heard if isinstance(event, Progress)]
    assert [event.step for event in progress] == [1, 2, 3, 4, 5, 6]
    assert all(event.images_per_second > 0 for event in progress)
    assert progress[-1].seconds_left == 0.0 < progress[0].seconds_left


def test_an_exception_of_a_reporter_ends_the_training_which_can_go_on(tmp_path: Path) -> None:
    def fail() -> None:
        raise LookupError("not mine")

    train(table(), tmp_path / "straight")
    with pytest.raises(LookupError, match="not mine"):
        train(table(), tmp_path / "run", reporters=[Recorder((Tick, 6), fail)])
    train(table(), tmp_path / "run")
    assert_same(bytes_of(tmp_path / "straight"), bytes_of(tmp_path / "run"))


# ---------------------------------------------------------------------------------------------------- what decides


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    changes = table(**CONDITIONAL)
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        train(changes, tmp_path / name, labelled(), seed=seed)
    one, again, other = (bytes_of(tmp_path / name) | states(tmp_path / name) for name in ("one", "again", "other"))
    assert_same(one, again)
    assert rows(tmp_path / "one") == rows(tmp_path / "again")
    assert [name for name in one if name.endswith((".safetensors", ".png")) and one[name] == other[name]] == []


@pytest.mark.parametrize("objective", ["non_saturating", "relativistic"])
def test_streaming_and_resident_data_give_the_same_bytes(
    objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten images steps of four cross the epochs' ends, while labels are asked for by another thread than images."""
    changes = table(**CONDITIONAL, objective__name=objective)
    train(changes, tmp_path / "resident", labelled(), steps=20)
    monkeypatch.setattr(trainer, "_RESIDENT_ON_CPU", -1)
    train(changes, tmp_path / "streaming", labelled(), steps=20)
    assert_same(bytes_of(tmp_path / "resident"), bytes_of(tmp_path / "streaming"))
    assert_same(states(tmp_path / "resident"), states(tmp_path / "streaming"))


def test_how_often_it_is_looked_at_changes_nothing_in_what_is_trained(tmp_path: Path) -> None:
    changes = CONDITIONAL | {"discriminator__norm": "batch"}
    often = table(**changes, train__sample_every=1, train__log_every=1, train__checkpoint_every=1, train__keep=9)
    never = table(**changes, train__sample_every=99, train__log_every=99, train__checkpoint_every=99)
    train(often, tmp_path / "often", labelled())
    train(never, tmp_path / "never", labelled())
    assert_same(*(weights(tmp_path / name) for name in ("often", "never")))
    one, other = (
        read_tensors(tmp_path / name / "checkpoints/step-00000006/state.safetensors")[0] for name in ("often", "never")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_the_callers_comes_back_unchanged_and_changes_nothing(tmp_path: Path) -> None:
    train(table(), tmp_path / "plain")
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            train(table(), tmp_path / "run")
            assert torch.is_inference_mode_enabled()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.benchmark is False
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # type: ignore[index]
    assert before[2] == random.getstate()
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    assert_same(bytes_of(tmp_path / "plain"), bytes_of(tmp_path / "run"))


def test_the_random_state_comes_back_after_a_failure_too(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    with pytest.raises(InterruptedTraining):
        train(table(), tmp_path / "run", reporters=[Recorder((Tick, 2), lambda: signal.raise_signal(signal.SIGINT))])
    assert torch.equal(state, torch.get_rng_state())


def test_samples_are_drawn_from_the_same_z_by_the_average_with_statistics_of_its_own(tmp_path: Path) -> None:
    recorder = Recorder()
    result = train(table(), tmp_path / "run", reporters=[recorder])
    assert result.model is not None
    model = load_model(result.model)
    assert model.config.weights == "ema"
    trained = last_state(tmp_path / "run")
    generator = model.generator.state_dict()
    weights = [name for name in generator if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(generator[name], trained[f"ema/{name}"]) for name in weights)
    assert not torch.equal(generator[weights[0]], trained[f"generator/{weights[0]}"])
    statistics = [name for name in generator if name.endswith("running_mean")]
    assert statistics
    assert not torch.equal(generator[statistics[0]], trained[f"ema/{statistics[0]}"])
    # The grids of step 0 show the untrained generator: the same for each run of this seed, whatever is trained after.
    longer = Recorder()
    train(table(optimizer__lr=1e-4), tmp_path / "other", reporters=[longer])
    assert np.array_equal(recorder.of(Samples)[0].images, longer.of(Samples)[0].images)
    assert not np.array_equal(recorder.of(Samples)[-1].images, longer.of(Samples)[-1].images)


def test_a_recipe_without_an_average_publishes_the_generator_itself(tmp_path: Path) -> None:
    result = train(table(ema=None, generator__norm="none"), tmp_path / "run")
    assert result.model is not None
    model = load_model(result.model)
    assert model.config.weights == "raw"
    trained = last_state(tmp_path / "run")
    assert all(torch.equal(value, trained[f"generator/{name}"]) for name, value in model.generator.state_dict().items())


# ---------------------------------------------------------------------------------------------------- lengths


@pytest.mark.parametrize(
    ("length", "steps"), [({"steps": 3}, 3), ({"kimg": 0.012}, 3), ({"kimg": 0.013}, 4), ({"epochs": 2}, 5), ({}, 6)]
)
def test_the_length_is_in_kimg_steps_or_epochs_of_the_data(length: dict[str, Any], steps: int, tmp_path: Path) -> None:
    assert train(table(), tmp_path / "run", **length).step == steps


@pytest.mark.parametrize("length", [{"steps": 0}, {"kimg": -1.0}, {"epochs": float("nan")}, {"steps": float("inf")}])
def test_a_length_is_positive_and_finite(length: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(length))} .* must be greater than 0 and finite"):
        train(table(), tmp_path / "run", **length)
    assert not (tmp_path / "run").exists()


def test_only_one_length_can_be_given(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="kimg and steps all say how long to train"):
        train(table(), tmp_path / "run", kimg=1, steps=1)


# ---------------------------------------------------------------------------------------------------- data from Python


class Pictures(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """The ten images and their labels as a torch Dataset of float tensors C×H×W."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(images()[index]).permute(2, 0, 1) / 255, index % 3


def test_an_array_a_tensor_a_file_and_a_dataset_of_the_same_images_train_the_same(tmp_path: Path) -> None:
    pixels, label = labelled()
    np.savez(tmp_path / "images.npz", images=pixels, labels=label)
    kinds: dict[str, Any] = {
        "array": (pixels, label),
        "tensor": (torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(label)),
        "dataset": Pictures(),
        "file": tmp_path / "images.npz",
        "text": str(tmp_path / "images.npz"),
    }
    found = {}
    for name, data in kinds.items():
        train(table(data__num_classes=3), tmp_path / name, data)
        found[name] = weights(tmp_path / name)
    assert [name for name in found if found[name] != found["array"]] == []


def test_missing_labels_are_answered(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no labels, and labels are needed"):
        train(table(data__num_classes=3), tmp_path / "run", images())
    assert not (tmp_path / "run").exists()


def test_labels_beyond_the_recipes_classes_are_answered_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"labels up to 4, but data\.num_classes is 3") as error:
        train(table(data__num_classes=3), None, labelled(classes=5), runs=tmp_path / "runs")
    assert error.value.remedy == "Use --set data.num_classes=5."
    assert not (tmp_path / "runs").exists()


def test_more_classes_than_labels_are_fine(tmp_path: Path) -> None:
    assert train(table(data__num_classes=7), tmp_path / "run", labelled()).step == 6


# ---------------------------------------------------------------------------------------------------- every recipe


def cut(path: Path) -> dict[str, Any]:
    """A recipe of the zoo with narrow networks and small batches."""
    narrow = tomllib.loads(path.read_text(encoding="utf-8"))
    for network in ("generator", "discriminator"):
        for key in ("widths", "hidden"):
            if key in narrow[network]:
                narrow[network][key] = [max(width // 64, 2) for width in narrow[network][key]]
        if "cardinality" in narrow[network]:
            narrow[network]["cardinality"] = 2
    narrow["train"] |= {"batch_size": 2, "precision": "fp32"}
    return narrow


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_trains_end_to_end(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "STATISTICS_IMAGES", 8)
    monkeypatch.setattr(publishing, "SNAPSHOT_IMAGES", 4)
    narrow = cut(path)
    size, channels, classes = (narrow["data"].get(key, 0) for key in ("image_size", "channels", "num_classes"))
    pixels = images(9, size, channels or 3)
    data: Any = (pixels, np.arange(9) % classes) if classes else pixels
    recorder = Recorder()
    result = train(narrow, tmp_path / "run", data, steps=2, reporters=[recorder])
    assert result.step == 2
    assert all(np.isfinite(value) for value in recorder.of(Tick)[-1].statistics.values())
    assert result.model is not None
    drawn = TorchSampler(load_model(result.model), "cpu").sample(range(3))
    assert drawn.shape == (3, channels or 3, size, size)
    assert np.isfinite(drawn).all()
    first, last = (read_tensors(tmp_path / f"run/checkpoints/step-{at:08d}/state.safetensors")[0] for at in (0, 2))
    still = [name for name in first if name.endswith("weight") and torch.equal(first[name], last[name])]
    assert still == []


@pytest.mark.parametrize(
    "changes",
    [
        {"train__update": "simultaneous"},
        {"train__update": "alternate_minibatches"},
        {"train__real_fake_batches": "joined", "discriminator__dropout": 0.2},
        {"train__reuse_fakes": True},
        {"train__discriminator_steps": 2, "train__generator_batch_size": 6},
        {"train__accumulate": 2},
        {"objective__name": "relativistic", "train__generator_reals": "reuse"},
        {"objective__name": "wasserstein", "penalty": [{"where": "line", "rule": "one_centered", "weight": 10.0}]},
        {"objective__name": "hinge", "optimizer__name": "rmsprop", "optimizer__betas": None},
        {"penalty": [{"where": "real", "weight": 1.0, "every": 3}, {"where": "fake", "weight": 1.0}]},
    ],
    ids=lambda changes: "-".join(str(value) for value in changes.values() if isinstance(value, str | int)),
)
def test_every_order_of_updates_goes_on_exactly_after_an_interruption(changes: dict[str, Any], tmp_path: Path) -> None:
    changed = table(**CONDITIONAL | changes, train__log_every=4)
    train(changed, tmp_path / "straight", labelled(), steps=6)
    stop = Recorder((Samples, 3), lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(InterruptedTraining):
        train(changed, tmp_path / "run", labelled(), steps=6, reporters=[stop])
    train(changed, tmp_path / "run", labelled(), steps=6)
    assert_same(bytes_of(tmp_path / "straight"), bytes_of(tmp_path / "run"))


# ---------------------------------------------------------------------------------------------------- signals


def interrupted(out: Path, at: tuple[type[Event], int], number: int = signal.SIGINT, **options: Any) -> Recorder:
    recorder = Recorder(at, lambda: signal.raise_signal(number))
    with pytest.raises(InterruptedTraining) as error:
        train(table(**CONDITIONAL), out, labelled(), reporters=[recorder], **options)
    stopped = recorder.of(Ended)[0].step
    assert (
        error.value.message
        == f"Stopped by {signal.Signals(number).name} after step {stopped}; a checkpoint was written."
    )
    assert (out / f"checkpoints/step-{stopped:08d}").is_dir()
    assert recorder.of(Ended)[0].reason == "interrupted"
    assert recorder.of(Ended)[0].model is None
    assert not (out / "model").exists()
    return recorder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [(Started, 0), (Samples, 0), (Tick, 2), (Samples, 3), (Checkpoint, 4)])
def test_a_signal_at_any_moment_leaves_a_checkpoint_from_which_it_goes_on_exactly(
    number: int, at: tuple[type[Event], int], straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    recorder = interrupted(out, at, number)
    assert recorder.of(Ended)[0].step == at[1] + 1  # the step in hand when it came was finished, no more was begun
    second = Recorder()
    train(table(**CONDITIONAL), out, labelled(), reporters=[second])
    assert second.of(Started)[0].resumed
    assert second.of(Started)[0].step == at[1] + 1
    assert_same(bytes_of(straight), bytes_of(out))
    assert rows(straight, "checkpoint") == rows(out, "checkpoint")
    last = "checkpoints/step-00000006/state.safetensors"
    assert (straight / last).read_bytes() == (out / last).read_bytes()


def test_a_signal_in_the_last_step_lets_the_run_finish(tmp_path: Path) -> None:
    recorder = Recorder((Tick, 6), lambda: signal.raise_signal(signal.SIGTERM))
    assert train(table(), tmp_path / "run", reporters=[recorder]).step == 6
    assert recorder.of(Ended)[0].reason == "done"


def test_the_message_says_how_to_go_on(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images())
    out = tmp_path / "my run"
    for data, remedy in (
        (images(), f"Go on with: ganzoo.train(resume={str(out)!r}, data=...)"),
        (tmp_path / "images.npy", f'Go on with: ganzoo train --resume "{out}"'),
    ):
        with pytest.raises(InterruptedTraining) as error:
            train(table(), out, data, reporters=[Recorder((Started, 0), lambda: signal.raise_signal(signal.SIGINT))])
        assert error.value.remedy == remedy
        out = out.with_name("my run")
        for path in sorted(out.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()


def test_a_second_ctrl_c_stops_at_once_and_the_run_still_goes_on_exactly(tmp_path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(table(), tmp_path / "run", reporters=[Recorder((Tick, 6), twice)])
    assert find_checkpoint(tmp_path / "run")[0] == tmp_path / "run/checkpoints/step-00000004"
    train(table(), tmp_path / "run")
    train(table(), tmp_path / "straight")
    assert_same(bytes_of(tmp_path / "straight"), bytes_of(tmp_path / "run"))
    assert rows(tmp_path / "straight") == rows(tmp_path / "run")


CHILD = textwrap.dedent(
    """
    import sys, ganzoo
    recipe, data, out = sys.argv[1:]
    report = lambda event: print(type(event).__name__, flush=True)
    try:
        ganzoo.train(recipe, data=data, out=out, steps=1_000_000, device="cpu", reporters=[report])
    except ganzoo.GanzooError as error:
        print(type(error).__name__, error)
    """
)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_sigterm_from_outside_ends_the_process_with_a_checkpoint(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images())
    recipe = ganzoo.load_recipe(table(train__log_every=20, train__checkpoint_every=10**6, train__sample_every=10**6))
    (tmp_path / "tiny.toml").write_text(recipe.to_toml())
    arguments = [str(tmp_path / name) for name in ("tiny.toml", "images.npy", "run")]
    child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    while (line := child.stdout.readline()) and not line.startswith("Tick"):
        pass
    child.send_signal(signal.SIGTERM)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 0, said
    checkpoint = find_checkpoint(tmp_path / "run")[0]
    assert checkpoint is not None
    step = int(checkpoint.name.removeprefix("step-"))
    assert step >= 20
    assert said.splitlines()[-1] == (
        f"InterruptedTraining Stopped by SIGTERM after step {step:,}; a checkpoint was written. "
        f"Go on with: ganzoo train --resume {tmp_path / 'run'}"
    )
    again = ganzoo.train(resume=tmp_path / "run", steps=step + 2, device="cpu")
    assert again.step == step + 2


# ---------------------------------------------------------------------------------------------------- NaN and Inf


def spoil(monkeypatch: pytest.MonkeyPatch, method: str, call: int, value: float) -> None:
    """Let an objective's method give another value at its call of that number, from 0."""
    method_was = getattr(NonSaturating, method)
    calls = iter(range(10**6))

    def spoilt(self: NonSaturating, *logits: torch.Tensor | None) -> torch.Tensor:
        loss: torch.Tensor = method_was(self, *logits)
        return loss * value if next(calls) == call else loss

    monkeypatch.setattr(NonSaturating, method, spoilt)


INTERVALS = {  # which of the three looks first after step 6
    "tick": {"train__log_every": 8, "train__sample_every": 50, "train__checkpoint_every": 5},
    "samples": {"train__log_every": 50, "train__sample_every": 8, "train__checkpoint_every": 5},
    "checkpoint": {"train__log_every": 50, "train__sample_every": 50, "train__checkpoint_every": 4},
}


@pytest.mark.parametrize("first", INTERVALS)
@pytest.mark.parametrize(
    ("method", "name"), [("generator_loss", "loss/generator"), ("discriminator_loss", "loss/discriminator")]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_named_with_its_step_and_nothing_bad_is_written(
    first: str, method: str, name: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 6 gives it, at the latest step 8 looks, and the checkpoint of step 4 or 5 stays the last."""
    recorder = Recorder()
    with monkeypatch.context() as patch:
        spoil(patch, method, 5, value)
        with pytest.raises(NotFiniteError) as error:
            train(table(**INTERVALS[first]), tmp_path / "run", steps=20, reporters=[recorder])
    assert error.value.message.startswith(f"NaN or Inf in step 6: {name} is not finite")
    kept = "step-00000004" if first == "checkpoint" else "step-00000005"
    assert f"The last good checkpoint, {kept}, is kept." in str(error.value.remedy)
    found, notes = find_checkpoint(tmp_path / "run")
    assert (found, notes) == (tmp_path / "run/checkpoints" / kept, ())
    state, _ = read_tensors(tmp_path / "run/checkpoints" / kept / "state.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())
    assert recorder.of(Ended)[0].reason == "not_finite"
    assert max(event.step for event in recorder.of(Tick)) < 6 if recorder.of(Tick) else True
    # With the cause gone, it goes on from there as though nothing had been.
    train(table(**INTERVALS[first]), tmp_path / "run", steps=8)
    train(table(**INTERVALS[first]), tmp_path / "straight", steps=8)
    assert_same(bytes_of(tmp_path / "straight"), bytes_of(tmp_path / "run"))


@pytest.mark.parametrize("where", ["generator", "ema", "discriminator"])
def test_a_state_that_is_not_finite_is_named_though_the_losses_were(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Step.__call__
    name = ""

    def spoilt(self: Step, number: int, batches: Any) -> None:
        nonlocal name
        call(self, number, batches)
        if number == 2:
            name, tensor = next(one for one in state_tensors(self).items() if one[0].startswith(f"{where}/"))
            tensor.view(-1)[0] = float("nan")

    monkeypatch.setattr(Step, "__call__", spoilt)
    with pytest.raises(NotFiniteError) as error:
        train(table(), tmp_path / "run")
    assert error.value.message == f"NaN or Inf after step 3: {name} is not finite."
    assert not (tmp_path / "run/samples/step-00000003.png").exists()


def test_a_learning_rate_that_blows_training_up_ends_it_in_words(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"NaN or Inf in step \d+: ") as error:
        train(table(optimizer__lr=1e30), tmp_path / "run", steps=40)
    assert "Try a lower optimizer.lr" in str(error.value)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------------------------------------------- precision


def test_bf16_trains_resumes_exactly_and_keeps_fp32_weights(tmp_path: Path) -> None:
    changes = table(**CONDITIONAL, train__precision="bf16")
    recorder = Recorder()
    train(changes, tmp_path / "straight", labelled(), reporters=[recorder])
    assert recorder.of(Started)[0].precision == "bf16"
    stop = Recorder((Tick, 2), lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(InterruptedTraining):
        train(changes, tmp_path / "run", labelled(), reporters=[stop])
    train(changes, tmp_path / "run", labelled())
    assert_same(bytes_of(tmp_path / "straight"), bytes_of(tmp_path / "run"))
    state, _ = read_tensors(tmp_path / "run/checkpoints/step-00000006/state.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.float32, torch.float64, torch.int64}
    train(table(**CONDITIONAL), tmp_path / "fp32", labelled())
    assert bytes_of(tmp_path / "fp32", *WEIGHTS) != bytes_of(tmp_path / "run", *WEIGHTS)


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"train\.precision"):
        train(table(), tmp_path / "run", precision="fp8")


# ---------------------------------------------------------------------------------------------------- --init


def first_state(run: Path) -> dict[str, torch.Tensor]:
    return read_tensors(run / "checkpoints/step-00000000/state.safetensors")[0]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    train(table(), tmp_path / "finished")
    return tmp_path / "finished"


def test_init_takes_the_weights_of_a_model(finished: Path, tmp_path: Path) -> None:
    train(table(optimizer__lr=1e-4), tmp_path / "run", init=finished, steps=2)
    state, model = first_state(tmp_path / "run"), load_model(finished / "model")
    assert model.discriminator is not None
    for network, module in (("generator", model.generator), ("discriminator", model.discriminator)):
        assert all(torch.equal(state[f"{network}/{name}"], value) for name, value in module.state_dict().items())
    assert all(torch.equal(state[f"ema/{name}"], value) for name, value in model.generator.state_dict().items())


def test_init_without_a_discriminator_takes_a_new_one(finished: Path, tmp_path: Path) -> None:
    (finished / "model/discriminator.safetensors").unlink()
    train(table(), tmp_path / "run", init=finished / "model", steps=2)
    train(table(), tmp_path / "plain", steps=2)
    state, plain = first_state(tmp_path / "run"), first_state(tmp_path / "plain")
    assert all(torch.equal(state[name], plain[name]) for name in state if name.startswith("discriminator/"))
    assert not all(torch.equal(state[name], plain[name]) for name in state if name.startswith("generator/"))


def test_init_takes_a_weights_file_and_what_the_zoo_has(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = finished / "model/generator.safetensors"
    monkeypatch.setattr("ganzoo.weights.published_models", lambda: {"tiny-in-the-zoo": None})
    monkeypatch.setattr("ganzoo.weights.fetch_published", lambda name, **_: finished / "model")
    train(table(), tmp_path / "file", init=generator, steps=2)
    train(table(), tmp_path / "zoo", init="tiny-in-the-zoo", steps=2)
    weights = load_model(finished / "model").generator.state_dict()
    for run in ("file", "zoo"):
        state = first_state(tmp_path / run)
        assert all(torch.equal(state[f"generator/{name}"], value) for name, value in weights.items())
    assert train(table(), tmp_path / "file", init=generator, steps=3).step == 3
    assert open_run(tmp_path / "file").facts.init == {"model": str(generator), "sha256": weights_sha256(generator)}


def test_init_of_what_has_no_weights_for_torch_is_refused(tmp_path: Path) -> None:
    for name, message in (("model.onnx", "is an ONNX file, which no training can begin with"), ("a.pt", "convert")):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ganzoo.GanzooError, match=message):
            train(table(), None, init=tmp_path / name, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_init_of_weights_that_do_not_fit_is_refused_before_there_is_a_run(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"of another shape: .*instead of"):
        train(table(generator__widths=[6, 4]), None, init=finished, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_run_killed_before_its_first_checkpoint_begins_with_its_model_again(finished: Path, tmp_path: Path) -> None:
    def fail() -> None:
        raise LookupError

    train(table(), tmp_path / "straight", init=finished)
    with pytest.raises(LookupError):
        train(table(), tmp_path / "run", init=finished, reporters=[Recorder((Samples, 0), fail)])
    train(None, tmp_path / "run", resume=tmp_path / "run")
    assert_same(bytes_of(tmp_path / "straight"), bytes_of(tmp_path / "run"))


def test_the_model_a_run_began_with_is_not_needed_any_more_nor_another_taken(finished: Path, tmp_path: Path) -> None:
    train(table(), tmp_path / "run", init=finished, steps=3)
    train(table(), tmp_path / "other", steps=3)
    with pytest.raises(ganzoo.GanzooError, match=r"was begun with the weights of .*finished.model, not with those of"):
        train(table(), tmp_path / "run", init=tmp_path / "other")
    with pytest.raises(ganzoo.GanzooError, match="was begun with random weights, not with those of"):
        train(table(), tmp_path / "other", init=finished)
    assert train(table(), tmp_path / "run", init=finished, steps=4).step == 4
    (finished / "model/generator.safetensors").unlink()
    assert train(table(), tmp_path / "run", steps=5).step == 5


def test_a_model_that_changed_since_is_not_begun_with(finished: Path, tmp_path: Path) -> None:
    def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        train(table(), tmp_path / "run", init=finished, reporters=[Recorder((Started, 0), fail)])
    train(table(), finished, steps=7)
    with pytest.raises(WeightsError, match="has other weights by now"):
        train(table(), tmp_path / "run")


# ---------------------------------------------------------------------------------------------------- all of it


def test_a_run_as_a_user_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, numbered, with the real picture of the curves, on the digits that come with scikit-learn."""
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    small = ["generator.widths=[8,4]", "discriminator.widths=[4,8]", "data.max_images=40", "train.batch_size=8"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = ganzoo.train("dcgan-digits", overrides=small, epochs=1, device="cpu")
    assert result.run == Path("runs/00000-dcgan-digits")
    assert result.step == 5
    with Image.open(result.pictures["curves"]) as curves:
        assert min(curves.size) > 100
    written = {path.name for path in result.run.iterdir()}
    assert {"recipe.toml", "run.json", "log.txt", "metrics.jsonl", "samples", "checkpoints", "model"} <= written
    model = {path.name for path in (result.run / "model").iterdir()}
    assert model == {
        "config.json",
        "generator.safetensors",
        "discriminator.safetensors",
        "README.md",
        "samples.png",
        "metrics.json",
    }
    log = (result.run / "log.txt").read_text()
    assert "started dcgan-digits" in log
    assert "ended (done)" in log


def test_an_alarm_is_told_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainer hands ticks and samples to the alarms, and their alarms to the reporters right after."""

    def alarming(self: object, event: Event) -> list[Alarm]:
        return [Alarm(event.step, event.kimg, "collapse", "all alike", "try")] if event.step == 3 else []

    monkeypatch.setattr(trainer.Alarms, "__call__", alarming)
    recorder = Recorder()
    train(table(), tmp_path / "run", reporters=[recorder])
    at = recorder.seen.index(("Alarm", 3))
    assert recorder.seen[at - 1] == ("Samples", 3)
    assert [row["name"] for row in rows(tmp_path / "run") if row["event"] == "alarm"] == ["collapse"]
