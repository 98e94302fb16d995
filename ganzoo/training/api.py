"""Training as one call: `ganzoo.train(recipe, data=…)`, and `plan`, which tells what it would do."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import ganzoo
from ganzoo.building import build_discriminator, build_generator, build_objective, load_recipe
from ganzoo.devices import Precision, choose_device, choose_precision
from ganzoo.errors import RunError, UsageError
from ganzoo.files import locked
from ganzoo.models import weights_sha256
from ganzoo.recipes import Recipe, parse_recipe
from ganzoo.references import resolve_model
from ganzoo.shapes import shapes_only
from ganzoo.training.checkpoints import find_checkpoint
from ganzoo.training.events import Reporter
from ganzoo.training.networks import build_networks
from ganzoo.training.reporters import JsonLinesReporter, TensorBoardReporter, TextReporter
from ganzoo.training.rounds import make_round
from ganzoo.training.run import (
    FROM_PYTHON,
    LOCK,
    Facts,
    Run,
    check_new,
    check_same,
    check_same_data,
    create_run,
    is_run,
    next_run,
    open_run,
    reserve_run,
    update_recipe,
    writing,
)
from ganzoo.training.trainer import Trainer, TrainingResult, total_steps

if TYPE_CHECKING:
    from ganzoo.data import DataRequest, Pack, PackProgress


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
    """The arguments of `train`, resolved as far as can be without the data.

    Args:
        recipe: the whole of it, but for a length in epochs of data that are not known yet.
        path: the run folder where one was named.
        existing: the run that is there.
        device: where to train.
        precision: as it is settled for this run.
        data: what `open_pack` is given.
        other_data: whether an existing run was asked to go on with data of another name.
        init: the model folder or weights file to begin with.
        epochs: the length in epochs, until it is settled.
    """

    recipe: Recipe
    path: Path | None
    existing: Run | None
    device: torch.device
    precision: Precision
    data: Any
    other_data: bool
    init: Path | None
    epochs: float | None

    @property
    def images_per_step(self) -> int:
        return make_round(self.recipe.train, build_objective(self.recipe).generator_uses_real).reals

    def settled(self, images: int) -> Recipe:
        """Return the recipe with its length in kimg, given how many images the data have."""
        return self.recipe if self.epochs is None else _with(self.recipe, train={"kimg": self.epochs * images / 1000.0})

    @property
    def already_done(self) -> bool:
        """Whether the run's model was trained for as long as is asked."""
        if self.existing is None:
            return False
        kimg = self.settled(int(self.existing.facts.data["images"])).train.kimg
        return self.existing.finished_steps >= total_steps(kimg, self.images_per_step)


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
        data: in place of the recipe's source: a source as text, a path, a torch Dataset, or an array (N, H, W, C) of
            uint8.
        out: the run folder itself; a run that is there goes on. By default the next number under `runs`.
        runs: where numbered run folders are made.
        kimg, epochs, steps: length of the training, at most one of them; by default the recipe's.
        overrides: changes of the recipe like "optimizer.lr=1e-4".
        init: a reference to a model whose weights to begin with, as `ganzoo.references` reads it.
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

    if asked.already_done and not asked.other_data:
        return _done(asked)
    with open_pack(asked.data, _data_request(asked.recipe), progress=pack_progress) as pack:
        _check_data(asked, pack)
        if asked.already_done:
            return _done(asked)
        if asked.existing is None and asked.init is not None:
            build_networks(asked.recipe, asked.init)  # refused before there is a run that would have begun with it
        settled = asked.settled(len(pack))
        path = asked.path or reserve_run(Path(runs), settled.name)
        with _alone(path), contextlib.ExitStack() as closing:
            run = update_recipe(asked.existing, settled) if asked.existing else _create(asked, settled, path, pack)
            own: list[Reporter] = [JsonLinesReporter(run.metrics), TextReporter(path / "log.txt")]
            if TensorBoardReporter.available():
                tensorboard = TensorBoardReporter(path / "tensorboard")
                closing.callback(tensorboard.close)
                own.append(tensorboard)
            return Trainer(run, pack, asked.device, [*own, *reporters]).train()


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
    """Return what `train` with the same arguments would do; where `epochs` are given, the images are counted.

    Raises:
        GanzooError: as `train`.
    """
    asked = _resolve(recipe, data, out, kimg, epochs, steps, overrides, init, device, precision, seed, resume)
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
    """Return what holds. Where a run goes on:

    recipe      the one given, else the run's own; over it `overrides`, `seed`, `precision` and the length
    length      `kimg`, `epochs` or `steps`, else that recipe's
    data        `data`, else an override of data.source, else the run's own source
    precision   as it was settled when the run began
    init        the model that the run began with; a given one must be that

    and what then differs from the run, and may not, is refused.
    """
    overrides = (overrides,) if isinstance(overrides, str) else tuple(overrides)
    _check_lengths(kimg, epochs, steps)
    if resume is not None and out is not None and Path(resume).resolve() != Path(out).resolve():
        raise UsageError("--resume and --out name two folders.", "Give one of them.")
    named = resume if resume is not None else out
    path = Path(named) if named is not None else None
    existing = open_run(path) if path is not None and (resume is not None or is_run(path)) else None
    if recipe is None and existing is None:
        raise UsageError(
            "No recipe was named.", "`ganzoo list` shows them; the quick start is: ganzoo train dcgan-digits"
        )
    settled = load_recipe(recipe if recipe is not None else existing.recipe, overrides)  # type: ignore[union-attr]
    source = _source(data, overrides, existing)
    changes = {"kimg": None if kimg is None else float(kimg), "seed": seed, "precision": precision}
    settled = _with(settled, train=changes, data={"source": source})
    chosen = choose_device(device)
    asked = _Request(
        recipe=settled,
        path=path,
        existing=existing,
        device=chosen,
        precision=choose_precision(existing.facts.precision if existing else settled.train.precision, chosen),
        data=data if data is not None else settled.data.source,
        other_data=existing is not None and (data is not None or source != existing.recipe.data.source),
        init=_weights_of(init) if init is not None else None,
        epochs=epochs,
    )
    if data is None and settled.data.source == FROM_PYTHON:
        raise UsageError("This recipe's data were given from Python.", "Give them again: ganzoo.train(..., data=...)")
    if steps is not None:
        asked = replace(asked, recipe=_with(settled, train={"kimg": steps * asked.images_per_step / 1000.0}))
    if existing is not None:
        check_same(existing, asked.recipe)
        _check_init(existing, asked.init)
    elif path is not None:
        check_new(path)
    return asked


def _weights_of(init: str | os.PathLike[str]) -> Path:
    """Return the model folder or weights file of the model that a training shall begin with."""
    location = resolve_model(init)
    if location.kind == "onnx":
        raise UsageError(
            f"{location.path} is an ONNX file, which no training can begin with.",
            "Name the model that it was exported from.",
        )
    return location.path


def _check_lengths(kimg: float | None, epochs: float | None, steps: int | None) -> None:
    given = {"kimg": kimg, "epochs": epochs, "steps": steps}
    lengths = {name: length for name, length in given.items() if length is not None}
    if len(lengths) > 1:
        raise UsageError(f"{' and '.join(lengths)} all say how long to train.", "Give one of them.")
    for name, length in lengths.items():
        if not 0 < length < math.inf:
            raise UsageError(f"{name} (={length}) must be greater than 0 and finite.")


def _source(data: Any, overrides: Sequence[str], existing: Run | None) -> str | None:
    """Return what the recipe shall tell of the data's source; None: what it tells already."""
    if isinstance(data, str):
        return data
    if isinstance(data, os.PathLike):
        text = os.fspath(data)
        # As text a name wins over a path, so a path has to look like one.
        return text if any(mark in text for mark in ("/", os.sep)) else os.path.join(".", text)  # noqa: PTH118
    if data is not None:
        return FROM_PYTHON
    if existing is None or any(change.partition("=")[0].strip() == "data.source" for change in overrides):
        return None
    return existing.recipe.data.source


def _with(recipe: Recipe, **sections: Mapping[str, Any]) -> Recipe:
    """Return a recipe with entries of `data` or `train` changed; an entry that is None is left as it is.

    The schema is checked anew; whether the networks can be built does not hang on these entries.
    """
    table = recipe.to_dict()
    for section, entries in sections.items():
        table[section] |= {key: value for key, value in entries.items() if value is not None}
    return recipe if table == recipe.to_dict() else parse_recipe(table, recipe.name)


def _data_request(recipe: Recipe) -> DataRequest:
    from ganzoo.data import DataRequest

    data = recipe.data
    return DataRequest(
        image_size=data.image_size,
        channels=data.channels,
        crop=data.crop,
        resize=data.resize,
        max_images=data.max_images,
        labels=data.labelled,
    )


def _done(asked: _Request) -> TrainingResult:
    """Return the result of a run that is finished already."""
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


def _check_init(run: Run, init: Path | None) -> None:
    """Refuse to go on with a run as though it had begun with another model.

    Raises:
        RunError: it began with random weights, or with others.
    """
    if init is None:
        return
    began = run.facts.init
    if began is None or began["sha256"] != weights_sha256(init):
        what = "random weights" if began is None else f"the weights of {began['model']}"
        raise RunError(
            f"The run {run.path} was begun with {what}, not with those of {init}.",
            "Go on without --init, or begin a new run with --out.",
        )


def _check_data(asked: _Request, pack: Pack) -> None:
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


def _create(asked: _Request, recipe: Recipe, path: Path, pack: Pack) -> Run:
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
