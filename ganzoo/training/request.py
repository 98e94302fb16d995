"""What a training is asked for: the arguments of `ganzoo.train` resolved to one recipe, one run and one device."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ganzoo.building import build_objective, load_recipe
from ganzoo.devices import Precision, choose_precision
from ganzoo.errors import RunError, UsageError
from ganzoo.models import weights_sha256
from ganzoo.recipes import Recipe, parse_recipe
from ganzoo.references import resolve_model
from ganzoo.training.engines import Engine, choose_engine
from ganzoo.training.processes import World
from ganzoo.training.rounds import make_round
from ganzoo.training.run import FROM_PYTHON, Run, check_new, check_same, is_run, open_run
from ganzoo.training.trainer import total_steps

if TYPE_CHECKING:
    from ganzoo.data import DataRequest


@dataclass(frozen=True)
class TrainingRequest:
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
        """Real images drawn by a round."""
        return make_round(self.recipe.train, build_objective(self.recipe).generator_uses_real).reals

    def engine(self, processes: int) -> Engine:
        """Return how steps are carried out by so many processes; raises as `choose_engine`."""
        fast = self.existing.facts.fast if self.existing is not None else None
        return choose_engine(self.recipe, self.device, World(size=processes), fast=fast)

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


def resolve(
    recipe: Any,
    data: Any,
    out: str | os.PathLike[str] | None,
    kimg: float | None,
    epochs: float | None,
    steps: int | None,
    overrides: Iterable[str],
    init: str | os.PathLike[str] | None,
    device: torch.device,
    precision: str | None,
    seed: int | None,
    resume: str | os.PathLike[str] | None,
    processes: int = 1,
    engine: str | None = None,
) -> TrainingRequest:
    """Return what holds, given the arguments of `ganzoo.train`, a device, and the number of processes.

    Where a run goes on:

    recipe      the one given, else the run's own; over it `overrides`, `seed`, `precision`, `engine`
                and the length
    length      `kimg`, `epochs` or `steps`, else that recipe's
    data        `data`, else an override of data.source, else the run's own source
    precision   as it was settled when the run began
    init        the model that the run began with; a given one must be that

    and what then differs from the run, and may not, is refused.

    Raises:
        GanzooError: what stands in the way, before anything is written.
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
    changes = {"kimg": None if kimg is None else float(kimg), "seed": seed, "precision": precision, "engine": engine}
    settled = _with(settled, train=changes, data={"source": source})
    asked = TrainingRequest(
        recipe=settled,
        path=path,
        existing=existing,
        device=device,
        precision=choose_precision(existing.facts.precision if existing else settled.train.precision, device),
        data=data if data is not None else settled.data.source,
        other_data=existing is not None and (data is not None or source != existing.recipe.data.source),
        init=_weights_of(init) if init is not None else None,
        epochs=epochs,
    )
    _check_processes(settled, device, processes)
    asked.engine(processes)  # refused before anything is written
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


def _check_processes(recipe: Recipe, device: torch.device, processes: int) -> None:
    """Refuse batches that so many processes cannot share, and what they could not compute.

    Raises:
        UsageError: with what would work.
    """
    train = recipe.train
    if processes == 1:
        return
    if train.sync_batch_norm and device.type != "cuda":
        raise UsageError(
            "train.sync_batch_norm needs CUDA: torch synchronises batch norm between GPUs only.",
            "Use --set train.sync_batch_norm=false: the processes then normalise their shares by themselves.",
        )
    together = processes * train.accumulate
    parts = f"{processes} processes" + (f" × accumulate (={train.accumulate})" if train.accumulate > 1 else "")
    for name in ("batch_size", "generator_batch_size"):
        size = getattr(train, name)
        if size is None or (size % together == 0 and size // together >= 2):
            continue
        fits = max(2, -(-size // together)) * together
        reason = "is not divisible by" if size % together else "leaves less than 2 images for each of"
        raise UsageError(f"train.{name} (={size}) {reason} {parts}.", f"Use --set train.{name}={fits}.")


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


def data_request(recipe: Recipe) -> DataRequest:
    """Return what a recipe asks of its data."""
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
