"""The trainer: the loop around the step, with its checkpoints, sample grids, events and end."""

from __future__ import annotations

import contextlib
import importlib.metadata
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ganzoo.data import Pack
from ganzoo.devices import crowding
from ganzoo.errors import CheckpointError, InterruptedTraining, NotFiniteError, WeightsError
from ganzoo.models import weights_sha256
from ganzoo.pictures import diversity, to_uint8
from ganzoo.recipes import Recipe
from ganzoo.training.alarms import Alarms
from ganzoo.training.checkpoints import (
    Counters,
    find_checkpoint,
    first_not_finite,
    load_checkpoint,
    remove_dead_writes,
    save_checkpoint,
    steps_of,
)
from ganzoo.training.events import Checkpoint, Ended, Event, Progress, Reporter, Samples, Started, Tick
from ganzoo.training.feeder import Feeder
from ganzoo.training.networks import build_step
from ganzoo.training.publishing import (
    data_diversity,
    draw_pictures,
    draw_snapshot,
    save_snapshot,
    snapshot_path,
    snapshots,
    write_model,
)
from ganzoo.training.reporters import read_metrics, truncate_metrics
from ganzoo.training.run import Run, go_on, writing
from ganzoo.training.signals import StopRequest, stop_on_signals
from ganzoo.training.step import Step

_PROGRESS_SECONDS = 0.5
_RATE_SECONDS = 10.0
_SHARE_OF_DEVICE = 0.5
_RESIDENT_ON_CPU = 1 << 30


@dataclass(frozen=True)
class TrainingResult:
    """What a training left behind.

    Args:
        run: the run folder.
        model: the model folder.
        step: rounds of updates done.
        kimg: thousands of real images drawn.
        seconds: of training, over all resumptions.
        pictures: name → path: "samples", "evolution", "curves".
        already_done: whether the run was finished before, so that nothing was done.
    """

    run: Path
    model: Path | None
    step: int
    kimg: float
    seconds: float
    pictures: Mapping[str, Path] = field(default_factory=dict)
    already_done: bool = False


def total_steps(kimg: float, images_per_step: int) -> int:
    """Return how many rounds it takes to draw so many thousands of images."""
    return max(1, -(-round(kimg * 1000) // images_per_step))


class Trainer:
    """Trains one run to its end.

    Args:
        run: the opened run folder; its recipe says everything.
        pack: the data.
        device: where to train.
        reporters: called with every event, in order.
    """

    def __init__(self, run: Run, pack: Pack, device: torch.device, reporters: Sequence[Reporter]) -> None:
        self.run, self.pack, self.device, self.reporters = run, pack, device, list(reporters)
        self.recipe: Recipe = run.recipe
        self.step: Step | None = None
        self.done = 0
        self.seconds = 0.0

    # ------------------------------------------------------------------------------------------ the loop

    def train(self) -> TrainingResult:
        """Train to the end of the recipe, from the newest whole checkpoint where there is one.

        Raises:
            InterruptedTraining: SIGTERM or Ctrl-C; a checkpoint was written.
            NotFiniteError: NaN or Inf; the last good checkpoint is kept.
            CheckpointError: a checkpoint cannot be written or does not fit; or there were some, and none is whole.
            RunError: the run folder cannot be written.
        """
        devices = [self.device] if self.device.type == "cuda" else []
        # The caller's random state comes back unchanged; within, it is a function of the recipe's seed and the step.
        with torch.random.fork_rng(devices=devices), _settings(self.recipe), stop_on_signals() as stop:
            return self._train(stop)

    def _train(self, stop: StopRequest) -> TrainingResult:
        found, notes = self._prepare()
        if warning := crowding(self.device):
            notes += (warning,)
        init = self._initial_model() if found is None else None
        step = self.step = build_step(self.recipe, self.device, self.run.facts.precision, init)
        last = total_steps(self.recipe.train.kimg, step.images)
        alarms = Alarms(data_diversity(self.pack), objective=step.objective)
        if found is not None:
            self._load(found, step, alarms)
        told = self._clear_later_records(found is not None)
        self._emit(
            Started(
                self.done,
                self.kimg,
                run=self.run.path,
                recipe=self.recipe.name,
                total_steps=last,
                total_kimg=last * step.images / 1000.0,
                device=str(self.device),
                precision=self.run.facts.precision,
                images=len(self.pack),
                resumed=found is not None,
                parameters={name: _count(getattr(step, name)) for name in ("generator", "discriminator")},
                notes=notes,
            )
        )
        if found is None:
            self._snapshot(step, alarms)
            self._checkpoint(step, alarms)
        elif not told:  # it was killed between writing the checkpoint and telling of it
            self._emit(
                Checkpoint(self.done, self.kimg, path=found, bytes=sum(one.stat().st_size for one in found.iterdir()))
            )
        if self.done < last:
            self._loop(step, alarms, last, stop)
        return self._finish(step)

    def _loop(self, step: Step, alarms: Alarms, last: int, stop: StopRequest) -> None:
        settings = self.recipe.train
        feeder = Feeder(self.recipe, step.round, self.pack, self.device, step.dtype, resident=self._resident())
        clock = _Clock(self.done, self.seconds, step.images)
        tick_step, tick_seconds = self.done, self.seconds
        with contextlib.closing(feeder.rounds(self.done, last)) as rounds:
            for number, batches in enumerate(rounds, start=self.done):
                step(number, batches)
                self.done = number + 1
                self.seconds = clock.seconds()
                if clock.is_due():
                    rate = clock.rate(self.done)
                    left = (last - self.done) * step.images / rate
                    self._emit(Progress(self.done, self.kimg, images_per_second=rate, seconds_left=left))
                at_end = self.done == last
                stopping = bool(stop) and not at_end  # looked at once: one that comes from here on waits for a step
                if self.done % settings.log_every == 0 or at_end:
                    rate = (self.done - tick_step) * step.images / max(self.seconds - tick_seconds, 1e-9)
                    tick_step, tick_seconds = self.done, self.seconds
                    self._tick(step, alarms, rate)
                if self.done % settings.sample_every == 0 or at_end:
                    self._snapshot(step, alarms)
                if self.done % settings.checkpoint_every == 0 or at_end or stopping:
                    self._checkpoint(step, alarms)
                if stopping:
                    self._interrupted(stop)

    # ------------------------------------------------------------------------------------------ beginning and going on

    def _prepare(self) -> tuple[Path | None, tuple[str, ...]]:
        """Clear what killed processes left, and return the checkpoint to go on from and what the user should know.

        Raises:
            CheckpointError: there were checkpoints beyond the start, and none is whole: to begin again from the start,
                unasked, would be the loss of what was trained.
        """
        with writing(self.run.path):
            remove_dead_writes(self.run.path)
            self.run.samples.mkdir(exist_ok=True)
        found, notes = find_checkpoint(self.run.path)
        if found is not None:
            began, now = self.run.facts.versions.get("torch"), importlib.metadata.version("torch")
            if began != now:
                notes += (
                    f"The run was begun with torch {began}; with {now} it may not go on bit for bit as it would.",
                )
            return found, notes
        rows = read_metrics(self.run.metrics)
        trained = [*steps_of(self.run.path), *(row["step"] for row in rows if row["event"] == "checkpoint")]
        if max(trained, default=0) > 0:
            raise CheckpointError(
                f"The run {self.run.path} has no whole checkpoint left to go on from. {' '.join(notes)}".strip(),
                "Bring one back from a copy, or begin a new run with --out.",
            )
        return None, notes

    def _initial_model(self) -> Path | None:
        """Return the model that the run begins with.

        Raises:
            WeightsError: it is not there any more, or is another by now.
        """
        init = self.run.facts.init
        if init is None:
            return None
        model = Path(init["model"])
        if weights_sha256(model) != init["sha256"]:
            raise WeightsError(
                f"{model}, whose weights the run {self.run.path} begins with, has other weights by now.",
                "Begin a new run with --out.",
            )
        return model

    def _load(self, checkpoint: Path, step: Step, alarms: Alarms) -> None:
        counters = load_checkpoint(checkpoint, step)
        try:
            alarms.load(counters.alarms)
        except KeyError as error:
            raise CheckpointError(f"The checkpoint {checkpoint} lacks the alarms' {error}.") from error
        self.done, self.seconds = counters.step, counters.seconds

    def _clear_later_records(self, resumed: bool) -> bool:
        """Forget metrics and sample grids of steps that are taken again; return whether this checkpoint was told of."""
        last_step = self.done if resumed else -1
        with writing(self.run.path):
            truncate_metrics(self.run.metrics, last_step)
            for taken, path in snapshots(self.run):
                if taken > last_step:
                    path.unlink()
        rows = read_metrics(self.run.metrics)
        return any(row["event"] == "checkpoint" and row["step"] == self.done for row in rows)

    def _resident(self) -> bool:
        """Return whether the pack is kept whole on the device."""
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            return self.pack.nbytes < _SHARE_OF_DEVICE * free
        return self.pack.nbytes <= _RESIDENT_ON_CPU

    # ------------------------------------------------------------------------------------------ at intervals

    def _tick(self, step: Step, alarms: Alarms, rate: float) -> None:
        self._check_losses(step)
        statistics = step.statistics.read()
        statistics |= {f"lr/{network}": value for network, value in step.learning_rates.items()}
        tick = Tick(self.done, self.kimg, statistics=statistics, images_per_second=rate, seconds=self.seconds)
        self._emit(tick)
        for alarm in alarms(tick):
            self._emit(alarm)

    def _snapshot(self, step: Step, alarms: Alarms) -> None:
        self._check_losses(step)
        self._check_state(step)
        images, path = self._draw_grid(step)
        event = Samples(self.done, self.kimg, path=path, images=images, diversity=diversity(images))
        self._emit(event)
        for alarm in alarms(event):
            self._emit(alarm)

    def _draw_grid(self, step: Step) -> tuple[npt.NDArray[np.uint8], Path]:
        """Draw the images of the fixed z, write their grid, and return both images and file."""
        drawn = draw_snapshot(step)
        if not bool(torch.isfinite(drawn).all()):
            self._not_finite(f"after step {self.done:,}: an image of the generator")
        images = to_uint8(drawn)
        with writing(self.run.path):
            return images, save_snapshot(self.run, self.done, images)

    def _checkpoint(self, step: Step, alarms: Alarms) -> None:
        self._check_losses(step)
        self._check_state(step)
        counters = Counters(self.done, self.seconds, alarms.state())
        path, size = save_checkpoint(self.run.path, step, counters, self.recipe.train.keep)
        self._emit(Checkpoint(self.done, self.kimg, path=path, bytes=size))

    # ------------------------------------------------------------------------------------------ ends

    def _finish(self, step: Step) -> TrainingResult:
        """Draw the pictures and write the model; the model comes last, for a run that has it is finished."""
        if not snapshot_path(self.run, self.done).exists():
            self._draw_grid(step)
        with writing(self.run.path):
            pictures = draw_pictures(self.run, step.images, data_diversity(self.pack))
            write_model(self.run, step, self.done, self.kimg, self.pack.classes)
        pictures["samples"] = self.run.model / "samples.png"
        self._emit(
            Ended(
                self.done,
                self.kimg,
                run=self.run.path,
                model=self.run.model,
                seconds=self.seconds,
                reason="done",
                pictures=pictures,
            )
        )
        return TrainingResult(self.run.path, self.run.model, self.done, self.kimg, self.seconds, pictures)

    def _interrupted(self, stop: StopRequest) -> None:
        self._emit(
            Ended(self.done, self.kimg, run=self.run.path, model=None, seconds=self.seconds, reason="interrupted")
        )
        name = stop.signal.name if stop.signal is not None else "a signal"
        raise InterruptedTraining(
            f"Stopped by {name} after step {self.done:,}; a checkpoint was written.",
            f"Go on with: {go_on(self.run)}",
        )

    def _check_losses(self, step: Step) -> None:
        """Stop where a loss or gradient was not finite.

        Raises:
            NotFiniteError: with the first step at which it was, counted from 1, and its name.
        """
        if bad := step.first_bad():
            number, name = bad
            also = first_not_finite(step)
            beside = f"; after step {self.done:,} {also} is not either" if also is not None else ""
            self._not_finite(f"in step {number + 1:,}: {name}", beside)

    def _check_state(self, step: Step) -> None:
        """Stop where a tensor of the state is not finite.

        Raises:
            NotFiniteError: with its name.
        """
        if name := first_not_finite(step):
            self._not_finite(f"after step {self.done:,}: {name}")

    def _not_finite(self, what: str, beside: str = "") -> NoReturn:
        self._emit(
            Ended(self.done, self.kimg, run=self.run.path, model=None, seconds=self.seconds, reason="not_finite")
        )
        kept, _ = find_checkpoint(self.run.path)
        last = f"The last good checkpoint, {kept.name}, is kept. " if kept is not None else ""
        raise NotFiniteError(
            f"NaN or Inf {what} is not finite{beside}.",
            f"{last}Try a lower optimizer.lr, --precision fp32 or a gradient penalty in a new run.",
        )

    # ------------------------------------------------------------------------------------------ small things

    def _emit(self, event: Event) -> None:
        for reporter in self.reporters:
            reporter(event)

    @property
    def kimg(self) -> float:
        """Thousands of real images drawn so far."""
        return self.done * self.step.images / 1000.0 if self.step is not None else 0.0


class _Clock:
    """Seconds of training over all resumptions, and the rate over the last few of them."""

    def __init__(self, done: int, seconds: float, images_per_step: int) -> None:
        self._start = time.monotonic() - seconds
        self._images = images_per_step
        self._marks: deque[tuple[float, int]] = deque([(seconds, done)])
        self._shown = seconds

    def seconds(self) -> float:
        return time.monotonic() - self._start

    def is_due(self) -> bool:
        """Return whether it is time to show progress again."""
        now = self.seconds()
        if now - self._shown < _PROGRESS_SECONDS:
            return False
        self._shown = now
        return True

    def rate(self, done: int) -> float:
        """Return images per second over the last seconds."""
        now = self.seconds()
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] > _RATE_SECONDS:
            self._marks.popleft()
        then, before = self._marks[0]
        return max((done - before) * self._images / max(now - then, 1e-9), 1e-9)


@contextmanager
def _settings(recipe: Recipe) -> Iterator[None]:
    """Within it, torch's global switches are as the recipe asks, or as they are by default; afterwards as they were."""
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    benchmark, dtype, device = torch.backends.cudnn.benchmark, torch.get_default_dtype(), torch.get_default_device()
    on_cpu = contextlib.nullcontext() if device.type == "cpu" else torch.device("cpu")
    torch.use_deterministic_algorithms(recipe.train.deterministic)
    torch.backends.cudnn.benchmark = not recipe.train.deterministic
    torch.set_default_dtype(torch.float32)
    try:
        with on_cpu, torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        torch.set_default_dtype(dtype)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
