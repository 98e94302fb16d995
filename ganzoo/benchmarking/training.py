"""The process in which one engine trains a recipe and is timed.

    python -m ganzoo.benchmarking.training

It is told by lines of JSON on standard input and answers each by one on standard output:

    {"open": {"recipe": table, "device": …, "precision": …, "threads": …, "pack": folder}}
        → {"computed_on": …, "precision": …, "arithmetic": …, "graph": …, "threads": …, "images_per_step": …,
            "seconds_per_step": …}
    {"train": steps}
        → {"seconds": …, "parts": {what: seconds, …}}
    {"memory": true}
        → {"memory_bytes": …, "device_memory_bytes": …}

It is the trainer's loop: the step, fed by the feeder from a pack. Ticks, sample grids and checkpoints, which come at
intervals of the user's choice, are left out.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from ganzoo.benchmarking.roofs import synchronise
from ganzoo.benchmarking.serving import peak_memory, serve_standard_input
from ganzoo.building import load_recipe
from ganzoo.data import Pack
from ganzoo.devices import choose_device, choose_precision
from ganzoo.processor import fitting_threads, kept_memory
from ganzoo.training.beginning import torch_settings
from ganzoo.training.engines import choose_engine
from ganzoo.training.feeder import Feeder
from ganzoo.training.graph import WARM_UP as CAPTURE_AFTER
from ganzoo.training.graph import taking_steps
from ganzoo.training.networks import build_step
from ganzoo.training.step import Step

_WARM_UP = 1  # step that allocates and chooses algorithms, before one that tells how long a step takes
_LONGEST_WARM_UP = 500
_FOREVER = 1 << 40


class Training:
    """A training of a recipe that goes on for ever, some steps at a time.

    Args:
        recipe: its table.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "auto", "fp32" or "bf16"; None for the recipe's.
        threads: of the processor; None for torch's own choice.
        pack: the folder of a pack that is small enough for the trainer to keep in memory.
    """

    def __init__(
        self, recipe: Mapping[str, Any], device: str, precision: str | None, threads: int | None, pack: str
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.recipe = load_recipe(recipe)
        self.device = choose_device(device)
        self.precision = choose_precision(precision or self.recipe.train.precision, self.device)
        self._settings = ExitStack()  # the trainer's
        if threads is None:
            self._settings.enter_context(fitting_threads())
        self._settings.enter_context(kept_memory())
        self._settings.enter_context(torch_settings(self.recipe))
        self.engine = choose_engine(self.recipe, self.device)
        self.step = build_step(self.recipe, self.device, self.precision, engine=self.engine)
        opened = Pack(Path(pack))
        feeder = Feeder(self.recipe, self.step.round, opened, self.device, self.step.dtype, resident=True)
        self.not_captured: str | None = None
        self._take, feed = taking_steps(self.step, feeder, self._note_not_captured)
        self._rounds = feed(0, _FOREVER)
        self._done = 0
        self._watch = Watch(self.step)
        self.train(self._warm_up())
        self.seconds_per_step = self.train(1)[0]

    def _note_not_captured(self, reason: str) -> None:
        self.not_captured = reason

    def _warm_up(self) -> int:
        """Return how many steps come before those that are timed."""
        if self.engine.name == "eager":
            return _WARM_UP
        # Steps that take different penalties are captured one by one.
        cycle = math.lcm(*(section.every for section in self.recipe.penalty))
        return min((CAPTURE_AFTER + 2) * cycle, _LONGEST_WARM_UP)

    def train(self, steps: int) -> tuple[float, dict[str, float]]:
        """Take steps; return the seconds in all, and what they went to as far as can be told."""
        synchronise(self.device)
        self._watch.begin()
        begun = time.perf_counter()
        for _ in range(steps):
            batches = next(self._rounds)
            self._watch.mark("data")
            self._take(self._done, batches)
            self._done += 1
            self._watch.mark("rest")
        synchronise(self.device)
        return time.perf_counter() - begun, self._watch.parts()


class Watch:
    """Tells what the time of steps goes to, by the moments at which the optimisers begin and end.

    Up to D's optimiser a step computes D's gradients, with the fakes for it; up to G's, G's gradients. Where one
    update serves both networks, they cannot be told apart; where a graph is replayed, nothing can. On a GPU the moments
    are the device's, not the host's.

    Args:
        step: whose.
    """

    def __init__(self, step: Step) -> None:
        self._cuda = step.device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []
        together = any(part.role == "both" for part in step.round.parts)
        for network, optimizer in step.optimizers.items():
            begins = "gradients" if together else network
            optimizer.register_step_pre_hook(lambda *_, name=begins: self.mark(name))
            optimizer.register_step_post_hook(lambda *_: self.mark("optimizers"))

    def begin(self) -> None:
        """Forget what was, and start."""
        self._marks.clear()
        self.mark("")

    def mark(self, name: str) -> None:
        """Note that what went on until now was `name`."""
        if not self._cuda:
            self._marks.append((name, time.perf_counter()))
        elif not torch.cuda.is_current_stream_capturing():
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append((name, event))

    def parts(self) -> dict[str, float]:
        """Return the seconds of everything that was marked; the device has to be done with it."""
        found: Counter[str] = Counter()
        for (_, before), (name, after) in zip(self._marks[:-1], self._marks[1:], strict=True):
            found[name] += before.elapsed_time(after) / 1e3 if self._cuda else after - before
        if "optimizers" not in found:
            return {"data": found["data"], "step": found["rest"]}
        return dict(found)


def main() -> None:
    """Answer the commands on standard input."""
    training: Training | None = None

    def answer(command: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal training
        if "open" in command:
            training = Training(**command["open"])
            return {
                "computed_on": str(training.device),
                "precision": training.precision,
                "arithmetic": "fast" if training.engine.fast else "plain",
                "graph": training.engine.name == "graph" and training.not_captured is None,
                "threads": torch.get_num_threads(),
                "images_per_step": training.step.images,
                "seconds_per_step": training.seconds_per_step,
            }
        assert training is not None
        if "memory" in command:
            on_cuda = training.device.type == "cuda"
            most = torch.cuda.max_memory_allocated(training.device) if on_cuda else None
            return {"memory_bytes": peak_memory(), "device_memory_bytes": most}
        seconds, parts = training.train(command["train"])
        return {"seconds": seconds, "parts": parts}

    serve_standard_input(answer)


if __name__ == "__main__":
    main()
