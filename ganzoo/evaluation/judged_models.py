"""A model that is judged: which of a run's, by which runtime, and what its protocol tells."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.errors import UnknownNameError, UsageError
from ganzoo.evaluation.image_sets import SampledImages
from ganzoo.evaluation.judged import Choice, Judged, is_sampler
from ganzoo.files import sha256_of
from ganzoo.model_config import CONFIG, GENERATOR, ModelConfig, parse_config
from ganzoo.models import Model, load_model
from ganzoo.references import HUB_PREFIX, ModelLocation, resolve_model
from ganzoo.sampling import Sampler, TorchSampler, open_sampler
from ganzoo.seeds import MAX_SEEDS, as_seeds
from ganzoo.tensors import content_sha256

DEFAULT_COUNT = 50_000
"""Images drawn of a model: as many as published numbers rest on."""

_RUN = "run.json"


@dataclass(frozen=True)
class _Found:
    """A model that was found.

    Attributes:
        subject: what it is, one line without paths.
        model: with its networks; None where another runtime draws.
        sampler: draws its images; None: torch does.
        config: of the model, where it has one.
        run: the run that it is of.
        folder: the model folder, where it is one's own.
        checkpoint: what the protocol tells: "published", or the step of a checkpoint.
        notes: lines to tell.
    """

    subject: str
    model: Model | None = None
    sampler: Sampler | None = None
    config: ModelConfig | None = None
    run: Path | None = None
    folder: Path | None = None
    checkpoint: str = "published"
    notes: tuple[str, ...] = ()


def open_judged_model(what: Any, choice: Choice, fetching: Callable[[int, int], None] | None = None) -> Judged:
    """Return a model that is to be judged.

    Args:
        what: a model reference, a Model, a Sampler; None: the newest run.
        choice: which of its images.
        fetching: is told of a model that is fetched.

    Raises:
        ModelReferenceError: the reference names nothing.
        UsageError: a choice that the model does not have.
        CheckpointError: no such checkpoint of the run.
        WeightsError: the model cannot be read.
    """
    seeds = _seeds(choice)
    found = _find(what, choice, fetching)
    sampler = found.sampler or TorchSampler(_of(found.model), device=choice.device)
    for name in ("image_size", "channels"):
        wanted, own = getattr(choice, name), getattr(sampler, name)
        if wanted not in (None, own):
            raise UsageError(
                f"The model draws images of {name.replace('_', ' ')} {own}, so that they cannot be judged at {wanted}.",
                f"Leave out --{name.replace('_', '-')}.",
            )
    config = found.config
    images = SampledImages(
        sampler,
        seeds,
        description=found.subject,
        facts=_facts(found, sampler),
        classes=tuple(map(str, config.data.get("classes", ()))) if config is not None else (),
    )
    return Judged(
        images=images,
        subject=found.subject,
        name=re.sub(r"[^\w.-]+", "-", found.subject).strip("-."),
        config=config,
        model=found.model,
        run=found.run,
        folder=found.folder,
        source=_source(found),
        notes=found.notes,
    )


def _seeds(choice: Choice) -> npt.NDArray[np.uint64]:
    """Return the seeds of the images that are drawn.

    Raises:
        UsageError: both or impossible ones are given.
    """
    if choice.seeds is None:
        count = DEFAULT_COUNT if choice.count is None else choice.count
        if not 1 <= count <= MAX_SEEDS:
            raise UsageError(f"{count:,} images cannot be drawn.", f"At least 1, at most {MAX_SEEDS:,}.")
        return np.arange(count, dtype=np.uint64)
    if choice.count is not None:
        raise UsageError("Both a count and seeds are given, and each says how many images are drawn.", "Give one.")
    return as_seeds(choice.seeds)


# ---------------------------------------------------------------------------------------------------- which model


def _find(what: Any, choice: Choice, fetching: Callable[[int, int], None] | None) -> _Found:
    if isinstance(what, Model):
        _refuse_choice(choice, what.config.weights, "a Model", runtime=True)
        return _Found(what.config.recipe.name, what, config=what.config)
    if is_sampler(what):
        _refuse_choice(choice, None, f"a {type(what).__name__}", runtime=True)
        return _Found(type(what).__name__, sampler=what)
    path = None if what is None else Path(os.fspath(what)).expanduser()
    if path is not None and not os.fspath(what).startswith(f"{HUB_PREFIX}:") and (path / _RUN).is_file():
        return _of_run(path, choice)
    location = resolve_model(what, progress=fetching)
    run = _run_of(location)
    chosen = choice.checkpoint is not None or choice.weights is not None
    if run is not None and location.kind == "folder" and (location.origin == "run" or chosen):
        return _of_run(run, choice, location.said)
    return _published(location, what, choice)


def _of_run(run: Path, choice: Choice, said: str | None = None) -> _Found:
    """Return the model of a run: the published one unless another is asked for, or training went on after it."""
    from ganzoo.training.checkpoints import steps_of
    from ganzoo.training.publishing import load_checkpoint_model

    location = ModelLocation(run / "model", said=said, origin="run")
    published = read_step(run / "model")
    newest = max(steps_of(run), default=None)
    wanted = _step(choice.checkpoint)
    notes = [] if said is None else [said]
    if published is not None and choice.weights in (None, published[1]):
        if wanted == published[0] or (wanted is None and (newest is None or newest <= published[0])):
            return _published(location, run, replace(choice, checkpoint=None, weights=None))
        if wanted is None and choice.checkpoint is None:
            notes.append(f"The run went on after its model was published: judging its newest checkpoint, {newest:,}.")
    if choice.runtime not in ("auto", "torch"):
        raise UsageError("A checkpoint is drawn by torch.", f"Leave out --runtime {choice.runtime}.")
    model = load_checkpoint_model(run, wanted, choice.weights)
    name, config = run.resolve().name, model.config
    if published is None and choice.checkpoint is None:
        notes.append(f"The run {name} has no model yet: judging its checkpoint of step {config.step:,}.")
    subject = f"{name}, step {config.step:,}" + (", raw weights" if choice.weights == "raw" else "")
    return _Found(subject, model, config=config, run=run, checkpoint=f"step {config.step}", notes=tuple(notes))


def _published(location: ModelLocation, what: Any, choice: Choice) -> _Found:
    """Return a model as it was published."""
    subject = _subject(location, what)
    notes = () if location.said is None else (location.said,)
    run = _run_of(location)
    if location.kind == "onnx" or choice.runtime not in ("auto", "torch"):
        sampler = open_sampler(location, runtime=choice.runtime, device=choice.device)
        config = _config_of_onnx(sampler, location.path)
        _refuse_choice(choice, None if config is None else config.weights, subject)
        return _Found(subject, None, sampler, config, run, notes=notes)
    model = load_model(location.path)
    _refuse_choice(choice, model.config.weights, subject)
    own = location.origin in ("run", "folder") and location.kind == "folder"
    return _Found(subject, model, None, model.config, run, location.path if own else None, notes=notes)


def read_step(folder: Path) -> tuple[int, str] | None:
    """Return (step, "ema" or "raw") of the model in a folder, or None where there is none."""
    from ganzoo.model_config import read_config

    if not (folder / CONFIG).is_file():
        return None
    config = read_config(folder)
    return config.step, config.weights


def _config_of_onnx(sampler: Sampler, path: Path) -> ModelConfig | None:
    """Return the config that an exported file carries; None where its networks are not installed, for other runtimes
    than torch draw them all the same, and where a third party's sampler does not tell."""
    if (metadata := getattr(sampler, "metadata", None)) is None:
        return None
    try:
        return parse_config(metadata.config, str(path))
    except UnknownNameError:
        return None


def _refuse_choice(choice: Choice, weights: str | None, what: str, *, runtime: bool = False) -> None:
    """Refuse what only a run has to choose from.

    Args:
        choice: what was asked for.
        weights: that are there.
        what: is judged.
        runtime: whether only torch can draw it.

    Raises:
        UsageError: a checkpoint, or other weights than those that are there.
    """
    if choice.checkpoint is not None:
        raise UsageError(f"Only a run has checkpoints, and {what} is none.", "Leave out --checkpoint, or name a run.")
    if choice.weights is not None and choice.weights != weights:
        there = {"ema": "the average (EMA)", "raw": "raw weights"}.get(weights or "", "other weights")
        raise UsageError(f"{what} holds {there} only.", f"Leave out --weights {choice.weights}, or name a run.")
    if runtime and choice.runtime not in ("auto", "torch"):
        raise UsageError(f"{what} is no file that ONNX Runtime could draw.", "Leave out the runtime.")


def _step(checkpoint: int | str | None) -> int | None:
    """Return the step of a checkpoint as it was asked for; None for the last.

    Raises:
        UsageError: it is neither a step nor "last".
    """
    if checkpoint in (None, "last"):
        return None
    text = str(checkpoint).replace("_", "").replace(",", "")
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{str(checkpoint)[:40]!r} is no checkpoint.", "Give its step, such as 2000, or 'last'.")
    return int(text)


def _run_of(location: ModelLocation) -> Path | None:
    """Return the run whose model this is, its folder or a file in it."""
    folder = location.path if location.kind == "folder" else location.path.parent
    return folder.parent if folder.name == "model" and (folder.parent / _RUN).is_file() else None


def _subject(location: ModelLocation, what: Any) -> str:
    """Return what a model is called, without the path to it."""
    if location.origin in ("zoo", "hub") and what is not None:
        return str(what)
    path = location.path.resolve()
    return path.parent.name if location.kind == "folder" and _run_of(location) is not None else path.name


# ---------------------------------------------------------------------------------------------------- what is told


def _facts(found: _Found, sampler: Sampler) -> dict[str, Any]:
    facts: dict[str, Any] = {"runtime": "torch" if found.sampler is None else type(sampler).__name__}
    metadata = getattr(sampler, "metadata", None)
    if metadata is not None:
        runtime, provider = (getattr(sampler, name, None) for name in ("runtime", "provider"))
        facts = {"runtime": runtime, "precision": metadata.precision, "provider": provider}
    elif found.sampler is None:
        facts |= {"precision": "fp32", "device": getattr(getattr(sampler, "device", None), "type", None)}
    if found.config is None:
        return facts
    config = found.config
    data = {key: config.data[key] for key in ("description", "content_sha256", "images") if key in config.data}
    sha = {"generator_sha256": metadata.weights_sha256} if metadata is not None else _sha_of(_of(found.model))
    return {
        "recipe": config.recipe.name,
        "step": config.step,
        "kimg": config.kimg,
        "weights": config.weights,
        "checkpoint": found.checkpoint,
        **sha,
        **facts,
        "trained_on": data,
    }


def _sha_of(model: Model) -> dict[str, str]:
    """Return the SHA-256 of a generator's file, or where it has none, of its tensors."""
    if model.path is None:
        tensors = {name: tensor.cpu() for name, tensor in model.generator.state_dict().items()}
        return {"generator_tensors_sha256": content_sha256(tensors, {})}
    return {"generator_sha256": sha256_of(model.path if model.path.is_file() else model.path / GENERATOR)}


def _source(found: _Found) -> str | None:
    """Return the source that a model was trained on: what the run tells, for a published recipe tells no paths."""
    if found.run is not None:
        from ganzoo.training.run import FROM_PYTHON, open_run

        source = open_run(found.run).recipe.data.source
        return None if source == FROM_PYTHON else source
    return None if found.config is None else found.config.recipe.data.source


def _of(model: Model | None) -> Model:
    assert model is not None
    return model
