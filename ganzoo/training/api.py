"""Training as one call: `ganzoo.train(recipe, data=…)`, and `plan`, which tells what it would do."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import ganzoo
from ganzoo.building import build_discriminator, build_generator, build_objective, load_recipe
from ganzoo.devices import choose_device, choose_precision
from ganzoo.errors import RunError, UsageError
from ganzoo.files import locked
from ganzoo.recipes import Recipe
from ganzoo.references import resolve_model
from ganzoo.training.checkpoints import find_checkpoint
from ganzoo.training.events import Reporter
from ganzoo.training.reporters import JsonLinesReporter, TensorBoardReporter, TextReporter
from ganzoo.training.rounds import make_round
from ganzoo.training.run import (
    Facts,
    Run,
    check_same,
    check_same_data,
    create_run,
    is_run,
    next_run,
    open_run,
    reserve_run,
    update_recipe,
)
from ganzoo.training.trainer import Trainer, TrainingResult, total_steps

if TYPE_CHECKING:
    from ganzoo.data import DataRequest, Pack, PackProgress

FROM_PYTHON = "given from Python"


@dataclass(frozen=True)
class TrainingPlan:
    """What a training would do.

    Args:
        recipe: resolved.
        run: the run folder.
        device: "cpu", "cuda:0" …
        precision: "fp32" or "bf16".
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
    precision: str
    data: str
    total_steps: int
    total_kimg: float
    images_per_step: int
    parameters: Mapping[str, int]
    resumes_from: Path | None


@dataclass(frozen=True)
class _Request:
    """The arguments of `train`, resolved as far as can be without the data."""

    recipe: Recipe
    path: Path | None
    existing: Run | None
    device: torch.device
    precision: str
    data: Any
    init: Path | None
    epochs: float | None
    steps: int | None

    @property
    def images_per_step(self) -> int:
        return make_round(self.recipe.train, build_objective(self.recipe).generator_uses_real).reals


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
    seed: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    reporters: Sequence[Reporter] = (),
    pack_progress: Callable[[PackProgress], None] | None = None,
) -> TrainingResult:
    """Train a recipe, and return where everything is.

    Args:
        recipe: a recipe's name, the path of a TOML file, a table, or a `Recipe`; may be left out with `resume`.
        data: in place of the recipe's source: a source as text, a path, a torch Dataset, or an array (N, H, W, C) of uint8.
        out: the run folder itself; a run that is there goes on. By default the next number under `runs`.
        runs: where numbered run folders are made.
        kimg, epochs, steps: length of the training, at most one of them; by default the recipe's.
        overrides: changes of the recipe like "optimizer.lr=1e-4".
        init: a model whose weights to begin with.
        device: "auto", "cpu", "cuda", "cuda:1".
        precision: "auto", "fp32" or "bf16" in place of the recipe's.
        seed: in place of the recipe's.
        resume: a run folder to go on with, from its newest whole checkpoint.
        reporters: called with every event; metrics, log and TensorBoard's files are always written.
        pack_progress: called while the data are packed.

    Raises:
        GanzooError: what stands in the way, in one line with its remedy; `ganzoo.errors` lists the kinds.
    """
    asked = _resolve(recipe, data, out, kimg, epochs, steps, overrides, init, device, precision, seed, resume)
    if asked.recipe.train.deterministic and asked.device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    from ganzoo.data import open_pack

    if finished := _finished(asked):
        return finished
    with open_pack(asked.data, _data_request(asked.recipe), progress=pack_progress) as pack:
        settled = _settle_length(asked, len(pack))
        path = asked.path or reserve_run(Path(runs), settled.name)
        with _alone(path):
            run = _open_or_create(asked, settled, path, pack)
            own: list[Reporter] = [JsonLinesReporter(run.metrics), TextReporter(path / "log.txt")]
            if TensorBoardReporter.available():
                own.append(TensorBoardReporter(path / "tensorboard"))
            return Trainer(run, pack, asked.device, [*own, *reporters], asked.init).train()


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
    seed: int | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> TrainingPlan:
    """Return what `train` with the same arguments would do; images are looked at only to count them where `epochs` are given.

    Raises:
        GanzooError: as `train`.
    """
    asked = _resolve(recipe, data, out, kimg, epochs, steps, overrides, init, device, precision, seed, resume)
    images = 0
    if asked.epochs is not None:
        from ganzoo.data import open_source

        with open_source(asked.data) as source:
            images = len(source)
    settled = _settle_length(asked, images)
    per_step = asked.images_per_step
    last = total_steps(settled.train.kimg, per_step)
    with torch.device("meta"):
        networks = {"generator": build_generator(settled), "discriminator": build_discriminator(settled)}
    return TrainingPlan(
        recipe=settled,
        run=asked.path or next_run(Path(runs), settled.name),
        device=str(asked.device),
        precision=asked.precision,
        data=settled.data.source,
        total_steps=last,
        total_kimg=last * per_step / 1000.0,
        images_per_step=per_step,
        parameters={name: sum(one.numel() for one in network.parameters()) for name, network in networks.items()},
        resumes_from=find_checkpoint(asked.existing.path)[0] if asked.existing is not None else None,
    )


def _resolve(
    recipe: Any,
    data: Any,
    out: str | os.PathLike[str] | None,
    kimg: float | None,
    epochs: float | None,
    steps: int | None,
    overrides: Iterable[str],
    init: str | os.PathLike[str] | None,
    device: str,
    precision: str | None,
    seed: int | None,
    resume: str | os.PathLike[str] | None,
) -> _Request:
    if sum(length is not None for length in (kimg, epochs, steps)) > 1:
        raise UsageError("kimg, epochs and steps all say how long to train.", "Give one of them.")
    for name, length in (("kimg", kimg), ("epochs", epochs), ("steps", steps)):
        if length is not None and not length > 0:
            raise UsageError(f"{name} (={length}) must be greater than 0.")
    if resume is not None and out is not None and Path(resume).resolve() != Path(out).resolve():
        raise UsageError("--resume and --out name two folders.", "Give one of them.")
    path = Path(resume if resume is not None else out) if (resume is not None or out is not None) else None
    existing = open_run(path) if path is not None and (resume is not None or is_run(path)) else None
    if recipe is None and existing is None:
        raise UsageError("No recipe was named.", "`ganzoo list` shows them; the quick start is: ganzoo train dcgan-digits")
    settled = load_recipe(recipe if recipe is not None else existing.recipe, overrides)  # type: ignore[union-attr]
    changes: dict[str, Any] = {}
    if kimg is not None:
        changes["kimg"] = float(kimg)
    elif existing is not None and epochs is None and steps is None and recipe is None:
        changes["kimg"] = settled.train.kimg
    if seed is not None:
        changes["seed"] = seed
    if precision is not None:
        changes["precision"] = precision
    if changes:
        settled = load_recipe(
            {**settled.to_dict(), "train": {**settled.to_dict()["train"], **changes}}, ()
        )
    if isinstance(data, str | os.PathLike):
        settled = settled.model_copy(update={"data": settled.data.model_copy(update={"source": str(data)})})
    elif data is not None:
        settled = settled.model_copy(update={"data": settled.data.model_copy(update={"source": FROM_PYTHON})})
    elif existing is not None and existing.recipe.data.source != FROM_PYTHON:
        data = existing.recipe.data.source
        settled = settled.model_copy(update={"data": existing.recipe.data})if recipe is None else settled
    chosen = choose_device(device)
    resolved = existing.facts.precision if existing is not None else choose_precision(settled.train.precision, chosen)
    if existing is not None:
        check_same(existing, settled)
    return _Request(
        recipe=settled,
        path=path,
        existing=existing,
        device=chosen,
        precision=resolved,
        data=data if data is not None else settled.data.source,
        init=resolve_model(init).path if init is not None else None,
        epochs=epochs,
        steps=steps,
    )


def _data_request(recipe: Recipe) -> DataRequest:
    from ganzoo.data import DataRequest

    data = recipe.data
    return DataRequest(
        image_size=data.image_size,
        channels=data.channels,
        crop=data.crop,
        resize=data.resize,
        max_images=data.max_images,
        labels=data.num_classes > 0,
    )


def _settle_length(asked: _Request, images: int) -> Recipe:
    """Return the recipe with its length in kimg, from epochs or steps where those were given."""
    if asked.steps is not None:
        kimg = asked.steps * asked.images_per_step / 1000.0
    elif asked.epochs is not None:
        kimg = asked.epochs * images / 1000.0
    else:
        return asked.recipe
    return asked.recipe.model_copy(update={"train": asked.recipe.train.model_copy(update={"kimg": kimg})})


def _finished(asked: _Request) -> TrainingResult | None:
    """Return the result of a run that is finished already, or None."""
    run = asked.existing
    if run is None or asked.epochs is not None:
        return None
    last = total_steps(_settle_length(asked, 0).train.kimg, asked.images_per_step)
    if not run.is_finished(last):
        return None
    pictures = {"samples": run.model / "samples.png", "evolution": run.path / "evolution.gif", "curves": run.path / "curves.png"}
    there = {name: path for name, path in pictures.items() if path.is_file()}
    return TrainingResult(
        run.path, run.model, last, last * asked.images_per_step / 1000.0, 0.0, there, already_done=True
    )


def _open_or_create(asked: _Request, recipe: Recipe, path: Path, pack: Pack) -> Run:
    labels = pack.labels
    classes = recipe.data.num_classes
    if classes and labels is not None and int(labels.max()) >= classes:
        raise UsageError(
            f"The data have labels up to {int(labels.max())}, but data.num_classes is {classes}.",
            f"Use --set data.num_classes={int(labels.max()) + 1}.",
        )
    if asked.existing is not None:
        check_same_data(asked.existing, pack.manifest.content_sha256, pack.manifest.source)
        return update_recipe(asked.existing, recipe)
    facts = Facts(
        precision="bf16" if asked.precision == "bf16" else "fp32",
        data={
            "description": pack.manifest.source,
            "content_sha256": pack.manifest.content_sha256,
            "images": len(pack),
        },
        init=str(asked.init) if asked.init is not None else None,
        versions={"ganzoo": ganzoo.__version__, "torch": importlib.metadata.version("torch")},
    )
    return create_run(path, recipe, facts)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the run folder's lock.

    Raises:
        RunError: another process trains in this folder.
    """
    with locked(path / ".lock", wait=False) as held:
        if not held:
            raise RunError(f"Another process is training in {path}.", "Wait for it, or choose another folder with --out.")
        yield
