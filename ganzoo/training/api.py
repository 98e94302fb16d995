"""Training as one call: `ganzoo.train(recipe, data=…)`, and `plan`, which tells what it would do."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ganzoo
from ganzoo.building import build_discriminator, build_generator
from ganzoo.errors import RunError, UsageError
from ganzoo.files import locked
from ganzoo.models import weights_sha256
from ganzoo.recipes import Recipe
from ganzoo.shapes import shapes_only
from ganzoo.torchrun import Place, place
from ganzoo.training.checkpoints import find_checkpoint
from ganzoo.training.engines import Engine, asks_for_fast
from ganzoo.training.evaluating import check_possible
from ganzoo.training.events import Reporter
from ganzoo.training.following import follow, pack_of_machine, repeatable, tell_result, tell_run
from ganzoo.training.joining import device_here, join_world
from ganzoo.training.networks import build_networks
from ganzoo.training.processes import World
from ganzoo.training.reporters import JsonLinesReporter, TensorBoardReporter, TextReporter
from ganzoo.training.request import TrainingRequest, data_request, resolve
from ganzoo.training.run import (
    LOCK,
    Facts,
    Run,
    begun_before,
    check_same_data,
    create_run,
    mark_launch,
    next_run,
    reserve_run,
    update_recipe,
    writing,
)
from ganzoo.training.trainer import Trainer, TrainingResult, total_steps

if TYPE_CHECKING:
    from ganzoo.data import Pack, PackProgress


@dataclass(frozen=True)
class TrainingPlan:
    """What a training would do.

    Args:
        recipe: resolved.
        run: the run folder.
        device: "cpu", "cuda:0" …; of the first process.
        processes: how many would train together.
        precision: "fp32" or "bf16".
        engine: how its steps would be carried out.
        data: where its images would come from.
        total_steps: rounds of updates in all.
        total_kimg: thousands of real images drawn in all.
        images_per_step: real images drawn by a round.
        parameters: {"generator": …, "discriminator": …}.
        resumes_from: the checkpoint that it would go on from, or None.
    """

    recipe: Recipe
    run: Path
    device: str
    processes: int
    precision: str
    engine: Engine
    data: str
    total_steps: int
    total_kimg: float
    images_per_step: int
    parameters: Mapping[str, int]
    resumes_from: Path | None


def train(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe | None = None,
    *,
    data: Any = None,
    out: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    kimg: float | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    overrides: Iterable[str] = (),
    init: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: str | None = None,
    engine: str | None = None,
    seed: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    reporters: Sequence[Reporter] = (),
    pack_progress: Callable[[PackProgress], None] | None = None,
) -> TrainingResult:
    """Train a recipe, and return where everything is.

    Under torchrun, which starts this in several processes, they train one model together: the first process reads the
    arguments, writes and speaks; every process returns the result.

    Args:
        recipe: a recipe's name, the path of a TOML file, a table, or a `Recipe`; may be left out with `resume`.
        data: in place of the recipe's source: a source as text, a path, a torch Dataset, or an array (N, H, W, C) of
            uint8.
        out: the run folder itself; a run that is there goes on. By default the next number under `runs`.
        runs: where numbered run folders are made.
        kimg, epochs, steps: length of the training, at most one of them; by default the recipe's.
        overrides: changes of the recipe like "optimizer.lr=1e-4".
        init: a reference to a model whose weights to begin with, as `ganzoo.references` reads it.
        device: "auto", "cpu", "cuda", "cuda:1".
        precision: "auto", "fp32" or "bf16" in place of the recipe's.
        engine: "auto", "eager" or "graph" in place of the recipe's.
        seed: in place of the recipe's.
        resume: a run folder to go on with, from its newest whole checkpoint.
        reporters: called with every event, in the first process; metrics, log and TensorBoard's files are always
            written.
        pack_progress: called while the data are packed.

    Raises:
        GanzooError: what stands in the way, in one line with its remedy; `ganzoo.errors` lists the kinds.
    """
    here = place()
    on = device_here(device, here)
    with join_world(on, here) as world:
        if not world.is_first:
            return follow(world, data, on)
        if out is None and resume is None:
            out = begun_before(Path(runs), here)
        asked = resolve(
            recipe, data, out, kimg, epochs, steps, overrides, init, on, precision, seed, resume, world.size, engine
        )
        return tell_result(world, _lead(world, here, asked, Path(runs), reporters, pack_progress))


def _lead(
    world: World,
    here: Place,
    asked: TrainingRequest,
    runs: Path,
    reporters: Sequence[Reporter],
    pack_progress: Callable[[PackProgress], None] | None,
) -> TrainingResult:
    """Train as the first process, or the only one."""
    from ganzoo.data import open_pack

    repeatable(asked.recipe, asked.device)
    if asked.already_done and not asked.other_data:
        return _done(world, asked)
    with open_pack(asked.data, data_request(asked.recipe), progress=pack_progress) as pack:
        _check_data(asked, pack)
        if asked.already_done:
            return _done(world, asked)
        if asked.existing is None and asked.init is not None:
            build_networks(asked.recipe, asked.init)  # refused before there is a run that would have begun with it
        check_possible(asked.recipe, len(pack), asked.device)  # likewise
        settled = asked.settled(len(pack))
        path = asked.path
        if path is None:
            path = reserve_run(runs, settled.name)
            mark_launch(path, here)
        with _alone(path), contextlib.ExitStack() as closing:
            if asked.existing is not None:
                run = update_recipe(asked.existing, settled)
            else:
                run = _create(asked, settled, path, pack, world.size)
            tell_run(world, run)
            pack_of_machine(world, pack)
            own: list[Reporter] = [JsonLinesReporter(run.metrics), TextReporter(path / "log.txt")]
            if TensorBoardReporter.available():
                tensorboard = TensorBoardReporter(path / "tensorboard")
                closing.callback(tensorboard.close)
                own.append(tensorboard)
            result = Trainer(run, pack, asked.device, [*own, *reporters], world).train()
            assert result is not None
            return result


def plan(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe | None = None,
    *,
    data: Any = None,
    out: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    kimg: float | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    overrides: Iterable[str] = (),
    init: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: str | None = None,
    engine: str | None = None,
    seed: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    processes: int | None = None,
) -> TrainingPlan:
    """Return what `train` with the same arguments would do; where `epochs` are given, the images are counted.

    Args:
        recipe, data, out, runs, kimg, epochs, steps, overrides, init, device, precision, engine, seed, resume: as
            `train`.
        processes: how many would train together; by default as many as torchrun started.

    Raises:
        GanzooError: as `train`.
    """
    here = place() if processes is None else Place(size=processes, local_size=processes)
    on = device_here(device, here)
    asked = resolve(
        recipe, data, out, kimg, epochs, steps, overrides, init, on, precision, seed, resume, here.size, engine
    )
    images = 0
    if asked.epochs is not None:
        from ganzoo.data import open_source

        with open_source(asked.data) as source:
            images = min(len(source), asked.recipe.data.max_images or len(source))
    settled = asked.settled(images)
    per_step = asked.images_per_step
    last = total_steps(settled.train.kimg, per_step)
    with shapes_only():
        networks = {"generator": build_generator(settled), "discriminator": build_discriminator(settled)}
    return TrainingPlan(
        recipe=settled,
        run=asked.path or next_run(Path(runs), settled.name),
        device=str(asked.device),
        processes=here.size,
        precision=asked.precision,
        engine=asked.engine(here.size),
        data=settled.data.source,
        total_steps=last,
        total_kimg=last * per_step / 1000.0,
        images_per_step=per_step,
        parameters={name: sum(one.numel() for one in network.parameters()) for name, network in networks.items()},
        resumes_from=find_checkpoint(asked.existing.path)[0] if asked.existing is not None else None,
    )


def _done(world: World, asked: TrainingRequest) -> TrainingResult:
    """Return the result of a run that is finished already, so that the others need not train."""
    tell_run(world, None)
    run = asked.existing
    assert run is not None
    known = {
        "samples": run.model / "samples.png",
        "evolution": run.path / "evolution.gif",
        "curves": run.path / "curves.png",
    }
    pictures = {name: path for name, path in known.items() if path.is_file()}
    steps = run.finished_steps
    kimg = steps * asked.images_per_step / 1000.0
    return TrainingResult(run.path, run.model, steps, kimg, 0.0, pictures, already_done=True)


def _check_data(asked: TrainingRequest, pack: Pack) -> None:
    """Refuse labels that the recipe does not know, and other data than a run began with."""
    classes = asked.recipe.data.num_classes
    highest = int(pack.labels.max()) if asked.recipe.data.labelled and pack.labels is not None else -1
    if highest >= classes > 0:
        raise UsageError(
            f"The data have labels up to {highest}, but data.num_classes is {classes}.",
            f"Use --set data.num_classes={highest + 1}.",
        )
    if asked.existing is not None:
        check_same_data(asked.existing, pack.manifest.content_sha256, pack.manifest.source)


def _create(asked: TrainingRequest, recipe: Recipe, path: Path, pack: Pack, processes: int) -> Run:
    init = asked.init
    facts = Facts(
        precision=asked.precision,
        data={
            "description": pack.manifest.source,
            "content_sha256": pack.manifest.content_sha256,
            "images": len(pack),
            **({} if pack.manifest.notice is None else {"notice": pack.manifest.notice}),
        },
        init=None if init is None else {"model": str(init.resolve()), "sha256": weights_sha256(init)},
        versions={"ganzoo": ganzoo.__version__, "torch": importlib.metadata.version("torch")},
        processes=processes,
        fast=asks_for_fast(recipe),
    )
    return create_run(path, recipe, facts)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the run folder's lock.

    Raises:
        RunError: another process trains in this folder.
    """
    with contextlib.ExitStack() as stack:
        with writing(path):
            held = stack.enter_context(locked(path / LOCK, wait=False))
        if not held:
            raise RunError(
                f"Another process is training in {path}.", "Wait for it, or choose another folder with --out."
            )
        yield
