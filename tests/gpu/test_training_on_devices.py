"""Training and sampling on a GPU: exact in deterministic mode, the CPU's images, and no waiting of host for device."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import (
    CONDITIONAL,
    WEIGHTS,
    Recorder,
    assert_same,
    bytes_of,
    images,
    labelled,
    recipe,
    rows,
    states,
    table,
    train,
)

from ganzoo.data import open_pack
from ganzoo.data.request import DataRequest
from ganzoo.devices import full_float32
from ganzoo.errors import InterruptedTraining, NotFiniteError
from ganzoo.models import load_model
from ganzoo.sampling import TorchSampler
from ganzoo.tensors import read_tensors
from ganzoo.training import trainer
from ganzoo.training.events import Samples, Started, Tick
from ganzoo.training.feeder import Feeder
from ganzoo.training.networks import build_step
from ganzoo.training.step import Step

both_devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
both_precisions = pytest.mark.parametrize("precision", ["fp32", "bf16"])

EVERYTHING = CONDITIONAL | {"discriminator__norm": "spectral", "train__deterministic": True}


@both_devices
@both_precisions
def test_an_interrupted_training_goes_on_exactly_in_deterministic_mode(
    device: str, precision: str, tmp_path: Path
) -> None:
    changes = table(**EVERYTHING, train__precision=precision)
    train(changes, tmp_path / "straight", labelled(), device=device)
    stop = Recorder((Samples, 3), lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(InterruptedTraining):
        train(changes, tmp_path / "run", labelled(), device=device, reporters=[stop])
    assert stop.of(Started)[0].precision == precision
    assert stop.of(Started)[0].device.startswith(device)
    train(changes, tmp_path / "run", labelled(), device=device)
    assert_same(bytes_of(tmp_path / "straight"), bytes_of(tmp_path / "run"))
    assert rows(tmp_path / "straight", "checkpoint") == rows(tmp_path / "run", "checkpoint")


@both_devices
@both_precisions
def test_data_on_the_device_and_streamed_data_give_the_same_bytes(
    device: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = table(**EVERYTHING, train__precision=precision)
    train(changes, tmp_path / "resident", labelled(), device=device)
    monkeypatch.setattr(trainer, "_RESIDENT_ON_CPU", -1)
    monkeypatch.setattr(trainer, "_SHARE_OF_DEVICE", 0.0)
    train(changes, tmp_path / "streaming", labelled(), device=device)
    assert_same(bytes_of(tmp_path / "resident", *WEIGHTS), bytes_of(tmp_path / "streaming", *WEIGHTS))
    assert_same(states(tmp_path / "resident"), states(tmp_path / "streaming"))


@both_devices
def test_the_first_weights_are_the_same_on_every_device(device: str, tmp_path: Path) -> None:
    for name, where in (("cpu", "cpu"), ("other", device)):
        train(table(), tmp_path / name, device=where, steps=1)
    first = "checkpoints/step-00000000/state.safetensors"
    assert (tmp_path / "cpu" / first).read_bytes() == (tmp_path / "other" / first).read_bytes()


@both_devices
def test_a_few_steps_go_the_same_way_on_every_device(device: str, tmp_path: Path) -> None:
    for name, where in (("cpu", "cpu"), ("other", device)):
        train(table(discriminator__norm="none"), tmp_path / name, device=where, steps=2)
    path = "checkpoints/step-00000002/state.safetensors"
    one, other = (read_tensors(tmp_path / name / path)[0] for name in ("cpu", "other"))
    for name, value in one.items():
        if name.startswith("discriminator/"):
            # Where a gradient is nearly zero, Adam makes its rounding as large as any step: so not of every element.
            assert float((value - other[name]).abs().median()) <= 1e-4, name


@both_devices
@pytest.mark.parametrize("classes", [0, 3])
def test_images_of_seeds_are_the_cpus(device: str, classes: int, tmp_path: Path) -> None:
    result = train(table(data__num_classes=classes), tmp_path / "run", labelled())
    assert result.model is not None
    expected = TorchSampler(load_model(result.model), "cpu").sample(range(20), batch_size=7)
    drawn = TorchSampler(load_model(result.model), device).sample(range(20))
    assert np.abs(drawn - expected).max() <= 1e-5


@both_devices
def test_the_callers_random_state_of_the_device_comes_back(device: str, tmp_path: Path) -> None:
    def state() -> torch.Tensor:
        return torch.cuda.get_rng_state() if device == "cuda" else torch.get_rng_state()

    torch.manual_seed(3)
    before = state()
    train(table(), tmp_path / "run", device=device)
    assert torch.equal(before, state())


@both_devices
def test_a_loss_that_is_not_finite_is_found_on_the_device(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = Step._note

    def spoilt(self: Step, name: str, value: torch.Tensor) -> None:
        spoils = (self._number == 2) & torch.tensor(name == "loss/generator", device=value.device)
        note(self, name, torch.where(spoils, float("inf"), value))

    monkeypatch.setattr(Step, "_note", spoilt)
    with pytest.raises(NotFiniteError, match=r"NaN or Inf in step 3: loss/generator is not finite"):
        train(table(), tmp_path / "run", device=device)


@contextmanager
def no_waiting(device: str) -> Iterator[None]:
    """Within it, an operation for which the host waits for the GPU raises."""
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")


ORDERS: list[dict[str, Any]] = [
    {},
    {"train__update": "simultaneous"},
    {"train__update": "alternate_minibatches"},
    {"train__reuse_fakes": True},
    {"train__real_fake_batches": "joined", "train__accumulate": 2},
    {"discriminator__norm": "none", "penalty": [{"weight": 1.0, "every": 2}]},
    {"discriminator__norm": "none", "penalty": [{"where": "line", "rule": "one_centered", "weight": 1.0}]},
    {"discriminator__norm": "spectral", "discriminator__dropout": 0.3, "data__num_classes": 3},
    {
        "objective__name": "relativistic",
        "optimizer__lr": {"schedule": "linear", "start": 1e-3, "end": 0.0, "kimg": 1.0},
    },
]


@both_devices
@both_precisions
@pytest.mark.parametrize("changes", ORDERS, ids=str)
def test_in_a_step_the_host_never_waits_for_the_device(changes: dict[str, Any], device: str, precision: Any) -> None:
    asked = recipe(**changes)
    step = build_step(asked, torch.device(device, 0) if device == "cuda" else torch.device(device), precision)
    with open_pack(labelled(), DataRequest(8, 1, labels=True)) as pack:
        feeder = Feeder(asked, step.round, pack, step.device, step.dtype, resident=True)
        for number, batches in enumerate(feeder.rounds(0, 6)):
            if number < 4:  # memory and optimisers' states are made in the first steps, and of lazy penalties later
                step(number, batches)
            else:
                with no_waiting(device):
                    step(number, batches)
    assert step.first_bad() is None
    assert all(np.isfinite(value) for value in step.statistics.read().values())


@both_devices
def test_everything_of_a_step_lies_on_its_device_channels_last(device: str) -> None:
    asked = recipe(discriminator__norm="none", penalty=[{"weight": 1.0}])
    step = build_step(asked, torch.device(device, 0) if device == "cuda" else torch.device(device), "fp32")
    for network in (step.generator, step.discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.device == step.device
            if parameter.dim() == 4:
                assert parameter.is_contiguous(memory_format=torch.channels_last), name
    with open_pack(images(), DataRequest(8, 1)) as pack:
        feeder = Feeder(asked, step.round, pack, step.device, step.dtype, resident=True)
        (batches,) = list(feeder.rounds(0, 1))
    step(0, batches)
    for batch in batches:
        for tensor in (batch.real, batch.z):
            assert tensor is None or tensor.device == step.device
    for optimizer in step.optimizers.values():
        for entries in optimizer.state.values():
            assert {value.device for value in entries.values()} == {step.device}
    assert step.first_bad_step.device == step.device


@pytest.mark.gpu
def test_float32_is_float32_while_images_are_drawn_and_what_it_was_afterwards() -> None:
    convolution: Any = torch.backends.cudnn
    before = convolution.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    with full_float32(torch.device("cuda")):
        assert convolution.conv.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert (convolution.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision) == before


@pytest.mark.gpu
def test_a_training_on_the_cpu_leaves_the_gpus_random_state_alone(tmp_path: Path) -> None:
    before = torch.cuda.get_rng_state()
    train(table(), tmp_path / "run", device="cpu")
    assert torch.equal(before, torch.cuda.get_rng_state())


@pytest.mark.gpu
def test_a_run_begun_on_the_cpu_goes_on_on_a_gpu(tmp_path: Path) -> None:
    recorder = Recorder()
    train(table(), tmp_path / "run", steps=4)
    result = train(table(), tmp_path / "run", device="cuda", reporters=[recorder])
    assert (recorder.of(Started)[0].step, result.step) == (4, 6)
    assert all(np.isfinite(value) for value in recorder.of(Tick)[-1].statistics.values())
