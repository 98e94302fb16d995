"""How fast a recipe trains: its engines in turn, beside what the device can do at most.

Each engine trains in a process of its own (`training.py`), and one more measures the device's roofs (`roofs.py`). They
take turns, round by round and in changing order, so that what else the machine does strikes all alike; a rate is the
median of the rounds. The images are random: what a step costs does not hang on what it is shown.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from ganzoo.benchmarking.process import MeasuringProcess
from ganzoo.benchmarking.roofs import Roofs, median_roofs
from ganzoo.benchmarking.work import Work, step_work
from ganzoo.building import load_recipe
from ganzoo.data import DataRequest, Pack, open_pack
from ganzoo.devices import choose_device, choose_precision
from ganzoo.errors import GanzooError, UsageError
from ganzoo.recipes import Recipe
from ganzoo.training.engines import choose_engine

DEFAULT_RECIPE = "dcgan-tutorial64"
ROUNDS = 5
_ROOF_SECONDS = 0.6  # for all roofs, a round
_PACK_BYTES, _FEWEST, _MOST = 32 << 20, 64, 8192  # of the random images
_REMEDY = "Too little memory ends processes so: try a smaller --batch-size."

Progress = Callable[[str], None]


@dataclass(frozen=True)
class EngineResult:
    """How fast one engine trains.

    Args:
        engine: the value of `train.engine`.
        arithmetic: "plain" or "fast", as this engine chose it here.
        graph: whether its steps are captured in a CUDA graph.
        computed_on: "cpu", "cuda:0" …
        precision: "fp32" or "bf16".
        threads: of the processor.
        images_per_step: real images drawn by a step.
        steps: how many were timed.
        images_per_second: real images drawn; the median of the rounds.
        slowest, fastest: rounds, likewise.
        flops_per_second: operations of the plain step that this would take: `images_per_second` times
            `TrainingBenchmark.flops_per_image`.
        share_of_peak: of `TrainingBenchmark.roofs` in its precision.
        seconds: what a step goes to → seconds, on average: "data", "discriminator", "generator" (their gradients, with
            the fakes for D), "optimizers", "rest" (the average; all else); where networks are updated from one pass
            "gradients" of both; "data" and "step" where no more can be told.
        memory_bytes: the most memory that its process had, Python and torch included; None where the system does not
            tell.
        device_memory_bytes: the most of a GPU's memory that its tensors had; None on a CPU.
    """

    engine: str
    arithmetic: str
    graph: bool
    computed_on: str
    precision: str
    threads: int
    images_per_step: int
    steps: int
    images_per_second: float
    slowest: float
    fastest: float
    flops_per_second: float
    share_of_peak: float
    seconds: dict[str, float]
    memory_bytes: int | None
    device_memory_bytes: int | None


@dataclass(frozen=True)
class TrainingBenchmark:
    """What was measured of a recipe.

    Args:
        recipe: its name.
        image: (C, H, W).
        batch_size: the recipe's.
        flops_per_image: operations of the plain step for each real image that it draws (`work.py`).
        bytes_per_image: read and written, likewise; an estimate.
        roofs: of the device; the median of the rounds.
        limit: images a second if every operation ran at the roof of the first result's precision.
        results: of the engines, at least one.
        left_out: engine → why it could not be measured.
    """

    recipe: str
    image: tuple[int, int, int]
    batch_size: int
    flops_per_image: float
    bytes_per_image: float
    roofs: Roofs
    limit: float
    results: tuple[EngineResult, ...]
    left_out: dict[str, str]


def benchmark_training(
    recipe: Any = DEFAULT_RECIPE,
    *,
    overrides: Iterable[str] = (),
    engines: Sequence[str] | None = None,
    batch_size: int | None = None,
    precision: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    seconds: float = 10.0,
    steps: int | None = None,
    progress: Progress | None = None,
) -> TrainingBenchmark:
    """Return how fast a recipe trains on random images.

    Args:
        recipe, overrides: as `ganzoo.train` takes them.
        engines: values of `train.engine` to compare; None for the recipe's own.
        batch_size: in place of the recipe's.
        precision: "auto", "fp32" or "bf16" in place of the recipe's.
        device: "auto", "cpu", "cuda" or "cuda:N".
        threads: of the processor; None for `OMP_NUM_THREADS` where it is set, else one a core.
        seconds: how long each engine is timed, in all; one step a round at least.
        steps: how many steps each engine is timed for instead.
        progress: is told in words what is being done.

    Raises:
        UsageError: what cannot be asked for.
        RecipeError: a recipe that cannot be, or an engine that is none.
        GanzooError: no engine could be measured.
    """
    say = progress or _say_nothing
    if not 0 < seconds < math.inf:
        raise UsageError(f"seconds (={seconds}) must be greater than 0 and finite.")
    if steps is not None and steps < 1:
        raise UsageError(f"steps (={steps}) must be at least 1.")
    recipes = _recipes(recipe, [*overrides], engines, batch_size)
    first = next(iter(recipes.values()))
    on = choose_device(device)
    settled = choose_precision(precision or first.train.precision, on)
    left_out = _impossible(recipes, on)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ganzoo-bench-")))

        def process(module: str, name: str) -> MeasuringProcess:
            log = folder / f"{module}-{name}.log"
            return stack.enter_context(MeasuringProcess(f"ganzoo.benchmarking.{module}", name, log, _REMEDY))

        say("Counting the work of a step ...")
        meter = process("roofs", "roofs")  # all load torch while this process counts
        processes = {engine: process("training", engine) for engine in recipes if engine not in left_out}
        work = step_work(first, settled)
        pack = stack.enter_context(random_pack(first, folder / "packs"))
        say("Starting the measurement of the peak ...")
        meter.ask({"open": {"device": str(on), "threads": threads}})
        contenders = {}
        for engine, started in processes.items():
            say(f"Starting {first.name}, {engine} ...")
            asked = {"device": str(on), "precision": settled, "threads": threads, "pack": str(pack.path)}
            try:
                contenders[engine] = Contender(started, {"recipe": recipes[engine].to_dict(), **asked})
            except GanzooError as error:
                left_out[engine] = str(error)
        rounds = ROUNDS if steps is None else min(ROUNDS, steps)
        roofs = []
        for turn in range(rounds):
            say(f"Round {turn + 1} of {rounds} ...")
            roofs.append(_roofs(meter))
            _take_turns(contenders, turn, rounds, seconds, steps, left_out)
        roofs.append(_roofs(meter))
        if not contenders:
            raise GanzooError(" ".join(left_out.values()), "Nothing was left to measure.")
        found = median_roofs(roofs)
        results = tuple(one.result(engine, work, found) for engine, one in contenders.items())
    images = results[0].images_per_step
    data = first.data
    return TrainingBenchmark(
        recipe=first.name,
        image=(data.channels, data.image_size, data.image_size),
        batch_size=first.train.batch_size,
        flops_per_image=work.flops / images,
        bytes_per_image=work.bytes / images,
        roofs=found,
        limit=found.flops_per_second[settled] * images / work.flops,
        results=results,
        left_out=left_out,
    )


def _say_nothing(_: str) -> None:
    pass


def _impossible(recipes: Mapping[str, Recipe], device: torch.device) -> dict[str, str]:
    """Return why engines cannot be on a device, by name.

    Raises:
        UsageError: none of them can.
    """
    reasons = {}
    for engine, recipe in recipes.items():
        try:
            choose_engine(recipe, device)
        except UsageError as error:
            reasons[engine] = error
    if len(reasons) == len(recipes):
        raise next(iter(reasons.values()))
    return {engine: error.message for engine, error in reasons.items()}


def _recipes(
    recipe: Any, overrides: list[str], engines: Sequence[str] | None, batch_size: int | None
) -> dict[str, Recipe]:
    """Return the recipe of each engine."""
    if batch_size is not None:
        overrides = [*overrides, f"train.batch_size={batch_size}"]
    if engines is None:
        own = load_recipe(recipe, overrides)
        return {own.train.engine: own}
    return {engine: load_recipe(recipe, [*overrides, f"train.engine={engine}"]) for engine in dict.fromkeys(engines)}


def random_pack(recipe: Recipe, folder: Path) -> Pack:
    """Return a new pack of random images of a recipe's shape, with labels where it knows classes.

    Args:
        recipe: resolved.
        folder: where packs are kept.
    """
    data = recipe.data
    shape = (data.image_size, data.image_size, data.channels)
    count = max(_FEWEST, min(_MOST, _PACK_BYTES // math.prod(shape)))
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)  # (count, H, W, C)
    labels = np.arange(count, dtype=np.int64) % data.num_classes if data.labelled else None  # (count,)
    request = DataRequest(data.image_size, data.channels, crop="none", labels=data.labelled)
    return open_pack(images if labels is None else (images, labels), request, cache_dir=folder)


class Contender:
    """A training that has been opened and taken its first steps, and the times that are taken of it.

    Args:
        process: of `training.py`, or of a module that answers the same commands.
        asked: what it is opened with.

    Raises:
        GanzooError: it cannot be opened.
    """

    def __init__(self, process: MeasuringProcess, asked: dict[str, Any]) -> None:
        self._process = process
        self.told: dict[str, Any] = process.ask({"open": asked})
        self._rates: list[float] = []
        self._steps = 0
        self._parts: dict[str, float] = {}

    def train(self, steps: int) -> None:
        """Take steps, and keep their rate."""
        answer = self._process.ask({"train": steps})
        self._rates.append(steps * self.told["images_per_step"] / answer["seconds"])
        self._steps += steps
        for part, seconds in answer["parts"].items():
            self._parts[part] = self._parts.get(part, 0.0) + seconds

    def settle(self) -> None:
        """Take a step that does not count: the first one after others had their turn finds caches cold."""
        self._process.ask({"train": 1})

    def steps_in(self, seconds: float) -> int:
        """Return how many steps take about so long, one at least."""
        return max(1, round(seconds / float(self.told["seconds_per_step"])))

    @property
    def rates(self) -> tuple[float, ...]:
        """Images a second, of each round."""
        return tuple(self._rates)

    def result(self, engine: str, work: Work, roofs: Roofs) -> EngineResult:
        """Return what was measured.

        Args:
            engine: its name.
            work: of a step.
            roofs: of the device.
        """
        told, memory = self.told, self._process.ask({"memory": True})
        rate = median(self._rates)
        achieved = rate * work.flops / told["images_per_step"]
        return EngineResult(
            engine=engine,
            arithmetic=told["arithmetic"],
            graph=told["graph"],
            computed_on=told["computed_on"],
            precision=told["precision"],
            threads=told["threads"],
            images_per_step=told["images_per_step"],
            steps=self._steps,
            images_per_second=rate,
            slowest=min(self._rates),
            fastest=max(self._rates),
            flops_per_second=achieved,
            share_of_peak=achieved / roofs.flops_per_second[told["precision"]],
            seconds={part: seconds / self._steps for part, seconds in self._parts.items()},
            **memory,
        )


def _roofs(meter: MeasuringProcess) -> Roofs:
    return Roofs(**meter.ask({"measure": _ROOF_SECONDS}))


def _take_turns(
    contenders: dict[str, Contender],
    turn: int,
    rounds: int,
    seconds: float,
    steps: int | None,
    left_out: dict[str, str],
) -> None:
    """Let each contender train for its share of a round; every round begins with another of them."""
    names = list(contenders)
    first = turn % max(len(names), 1)
    for name in names[first:] + names[:first]:
        contender = contenders[name]
        share = contender.steps_in(seconds / rounds) if steps is None else steps // rounds + (turn < steps % rounds)
        try:
            contender.train(share)
        except GanzooError as error:
            left_out[name] = str(error)
            del contenders[name]
