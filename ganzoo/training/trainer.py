"""The trainer: the loop around the step, with its checkpoints, sample grids, events and end."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ganzoo.data import Pack
from ganzoo.devices import crowding
from ganzoo.errors import CheckpointError, InterruptedTraining, NotFiniteError
from ganzoo.pictures import diversity, to_uint8
from ganzoo.processor import fitting_threads, kept_memory
from ganzoo.recipes import Recipe
from ganzoo.training.alarms import Alarms
from ganzoo.training.beginning import clear_later_records, initial_model, prepare, torch_settings
from ganzoo.training.checkpoints import (
    Counters,
    find_checkpoint,
    first_not_finite,
    load_checkpoint,
    load_state_tensors,
    save_checkpoint,
    settle,
    state_tensors,
)
from ganzoo.training.clock import Clock
from ganzoo.training.engines import choose_engine
from ganzoo.training.evaluating import Evaluator, is_due, was_evaluated
from ganzoo.training.events import Alarm, Checkpoint, Ended, Event, Progress, Reporter, Samples, Started, Tick
from ganzoo.training.feeder import Feeder
from ganzoo.training.graph import taking_steps
from ganzoo.training.networks import build_step
from ganzoo.training.processes import ALONE, StopVote, World
from ganzoo.training.publishing import (
    data_diversity,
    draw_pictures,
    draw_snapshot,
    save_snapshot,
    snapshot_path,
    write_model,
)
from ganzoo.training.run import Run, go_on, writing
from ganzoo.training.signals import StopRequest, stop_on_signals
from ganzoo.training.step import Step

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

    Of several processes the first one writes and speaks; the others compute.

    Args:
        run: the opened run folder; its recipe says everything.
        pack: the data.
        device: where to train.
        reporters: called with every event, in order; by the first process only.
        world: the processes that train together.
    """

    def __init__(
        self, run: Run, pack: Pack, device: torch.device, reporters: Sequence[Reporter], world: World = ALONE
    ) -> None:
        self.run, self.pack, self.device, self.reporters, self.world = run, pack, device, list(reporters), world
        self.recipe: Recipe = run.recipe
        self.step: Step | None = None
        self.done = 0
        self.seconds = 0.0
        self._evaluator: Evaluator | None = None

    # ------------------------------------------------------------------------------------------ the loop

    def train(self) -> TrainingResult | None:
        """Train to the end of the recipe, from the newest whole checkpoint where there is one.

        Returns:
            What was left behind; None in a process that is not the first.

        Raises:
            InterruptedTraining: SIGTERM or Ctrl-C; a checkpoint was written.
            NotFiniteError: NaN or Inf; the last good checkpoint is kept.
            CheckpointError: a checkpoint cannot be written or does not fit; or there were some, and none is whole.
            RunError: the run folder cannot be written.
            ProcessesError: another process ended before its time.
        """
        devices = [self.device] if self.device.type == "cuda" else []
        # The caller's random state comes back unchanged; within, it is a function of the recipe's seed and the step.
        with (
            fitting_threads(),
            kept_memory(),
            torch.random.fork_rng(devices=devices),
            torch_settings(self.recipe),
            stop_on_signals(patient=self.world.size > 1) as stop,
        ):
            return self._train(stop)

    def _train(self, stop: StopRequest) -> TrainingResult | None:
        first = self.world.is_first
        found, notes = prepare(self.run, self.world.size) if first else (None, ())
        init = initial_model(self.run) if first and found is None else None
        engine = choose_engine(self.recipe, self.device, self.world, fast=self.run.facts.fast)
        step = self.step = build_step(self.recipe, self.device, self.run.facts.precision, init, self.world, engine)
        last = total_steps(self.recipe.train.kimg, step.images)
        alarms = Alarms(data_diversity(self.pack), objective=step.objective)
        if found is not None:
            self._load(found, step, alarms)
        self._take_over(step)
        if first:
            self._begin(step, last, found, notes)
        if not self.world.tell(found is not None):
            self._snapshot(step, alarms)
            self._checkpoint(step, alarms)
        self._begin_evaluations(step, last, stop)
        if self.done < last:
            self._loop(step, alarms, last, stop)
        return self._finish(step) if first else None

    def _loop(self, step: Step, alarms: Alarms, last: int, stop: StopRequest) -> None:
        settings, world = self.recipe.train, self.world
        feeder = Feeder(
            self.recipe, step.round, self.pack, self.device, step.dtype, resident=self._resident(), world=world
        )
        take, feed = taking_steps(step, feeder, self._not_captured)
        clock, vote = Clock(self.done, self.seconds, step.images), StopVote(world)
        tick_step, tick_seconds = self.done, self.seconds
        with contextlib.closing(feed(self.done, last)) as rounds:
            for number, fed in enumerate(rounds, start=self.done):
                take(number, fed)
                self.done = number + 1
                self.seconds = clock.seconds()
                if clock.is_due():
                    rate = clock.rate(self.done)
                    left = (last - self.done) * step.images / rate
                    self._emit(Progress(self.done, self.kimg, images_per_second=rate, seconds_left=left))
                at_end = self.done == last
                asked = vote(stop.number)  # looked at once: a signal that comes from here on waits for a step
                stopping = asked > 0 and not at_end
                saves = self.done % settings.checkpoint_every == 0 or at_end or stopping
                if self.done % settings.log_every == 0 or at_end:
                    rate = (self.done - tick_step) * step.images / max(self.seconds - tick_seconds, 1e-9)
                    tick_step, tick_seconds = self.done, self.seconds
                    self._tick(step, alarms, rate)
                if self.done % settings.sample_every == 0 or at_end:
                    self._snapshot(step, alarms)
                if saves:
                    self._checkpoint(step, alarms)
                if not stopping and is_due(self.recipe, self.done, last):
                    # After the checkpoint: a kill in what may take minutes loses no training.
                    with clock.paused():
                        asked = self._evaluate(step)
                    stopping = asked > 0
                    if stopping and not saves:
                        self._checkpoint(step, alarms)
                if stopping:
                    vote.count()
                    self._interrupted(signal.Signals(asked))
        vote.count()

    def _not_captured(self, reason: str) -> None:
        self._emit(
            Alarm(
                self.done,
                self.kimg,
                name="not_captured",
                message=f"The step cannot be captured in a CUDA graph: {reason}.",
                advice="Training goes on operation by operation, slower, with the same numbers.",
            )
        )

    # ------------------------------------------------------------------------------------------ beginning and going on

    def _load(self, checkpoint: Path, step: Step, alarms: Alarms) -> None:
        counters = load_checkpoint(checkpoint, step)
        try:
            alarms.load(counters.alarms)
        except KeyError as error:
            raise CheckpointError(f"The checkpoint {checkpoint} lacks the alarms' {error}.") from error
        self.done, self.seconds = counters.step, counters.seconds

    def _take_over(self, step: Step) -> None:
        """Begin, in every process, where the first one does: with its weights and all else of its state."""
        if self.world.size == 1:
            return
        self.done, self.seconds = self.world.tell((self.done, self.seconds))
        state = self.world.tensors_of_first(state_tensors(step))
        if not self.world.is_first:
            load_state_tensors(step, state, "What the first process sent")

    def _begin(self, step: Step, last: int, found: Path | None, notes: tuple[str, ...]) -> None:
        """Put the run's records in order, and tell that training begins."""
        told = clear_later_records(self.run, self.done if found is not None else -1)
        if warning := crowding(self.device):
            notes += (warning,)
        if step.engine.why is not None:
            notes += (f"The steps are no CUDA graph: {step.engine.why}.",)
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
                engine=step.engine.name,
                images=len(self.pack),
                resumed=found is not None,
                parameters={name: _count(getattr(step, name)) for name in ("generator", "discriminator")},
                processes=self.world.size,
                notes=notes,
            )
        )
        if found is not None and not told:  # it was killed between writing the checkpoint and telling of it
            size = sum(one.stat().st_size for one in found.iterdir())
            self._emit(Checkpoint(self.done, self.kimg, path=found, bytes=size))

    def _resident(self) -> bool:
        """Return whether the pack is kept whole on the device."""
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            return self.pack.nbytes < _SHARE_OF_DEVICE * free
        return self.pack.nbytes <= _RESIDENT_ON_CPU // self.world.local_size

    # ------------------------------------------------------------------------------------------ at intervals

    def _tick(self, step: Step, alarms: Alarms, rate: float) -> None:
        self._check_losses(step)
        self.world.settle_(list(step.statistics.state().values()))
        if not self.world.is_first:
            step.statistics.read()
            return
        statistics = step.statistics.read()
        statistics |= {f"lr/{network}": value for network, value in step.learning_rates.items()}
        tick = Tick(self.done, self.kimg, statistics=statistics, images_per_second=rate, seconds=self.seconds)
        self._emit(tick)
        for alarm in alarms(tick):
            self._emit(alarm)

    def _snapshot(self, step: Step, alarms: Alarms) -> None:
        self._check_losses(step)
        if not self.world.is_first:
            return
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
        settle(step)
        self._check_state(step)
        if not self.world.is_first:
            return
        counters = Counters(self.done, self.seconds, alarms.state())
        path, size = save_checkpoint(self.run.path, step, counters, self.recipe.train.keep)
        self._emit(Checkpoint(self.done, self.kimg, path=path, bytes=size))

    # ------------------------------------------------------------------------------------------ evaluations

    def _begin_evaluations(self, step: Step, last: int, stop: StopRequest) -> None:
        """Prepare what the recipe's evaluations need, and make up for one that a kill or a signal has cut short."""
        section = self.recipe.evaluate
        if section is None or not section.every:
            return
        asked, missing = 0, False
        if self.world.is_first:
            self._evaluator = Evaluator(self.run, self.pack, self.device, self._emit, stop)
            asked = self._evaluator.prepare(self.done, self.kimg)
            missing = is_due(self.recipe, self.done, last) and not was_evaluated(self.run, self.done)
        asked, missing = self.world.tell((asked, missing))
        if missing and not asked:
            asked = self._evaluate(step)
        if asked:
            self._interrupted(signal.Signals(asked))

    def _evaluate(self, step: Step) -> int:
        """Judge the generator in the first process while the others wait; return the signal that cut it short, or 0."""
        self._check_losses(step)
        asked = 0
        if self._evaluator is not None:
            self._check_state(step)
            try:
                asked = self._evaluator(step, self.done, self.kimg)
            except NotFiniteError:
                self._not_finite(f"after step {self.done:,}: an image of the generator")
        told: int = self.world.tell(asked)
        return told

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

    def _interrupted(self, by: signal.Signals) -> NoReturn:
        self._emit(
            Ended(self.done, self.kimg, run=self.run.path, model=None, seconds=self.seconds, reason="interrupted")
        )
        raise InterruptedTraining(
            f"Stopped by {by.name} after step {self.done:,}; a checkpoint was written.",
            f"Go on with: {go_on(self.run)}",
        )

    def _check_losses(self, step: Step) -> None:
        """Stop where a loss or gradient was not finite in any process.

        Raises:
            NotFiniteError: with the first step at which it was, counted from 1, and its name.
        """
        if bad := self._first_bad(step):
            number, name = bad
            also = first_not_finite(step)
            beside = f"; after step {self.done:,} {also} is not either" if also is not None else ""
            self._not_finite(f"in step {number + 1:,}: {name}", beside)

    def _first_bad(self, step: Step) -> tuple[int, str] | None:
        """Return the first step of any process that had a loss or gradient that is not finite, and its name."""
        here, names = step.first_bad(), step.statistics.names
        if self.world.size == 1:
            return here
        never = 1 << 62
        first = self.world.least(never if here is None else here[0] * len(names) + names.index(here[1]))
        return None if first == never else (first // len(names), names[first % len(names)])

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


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
