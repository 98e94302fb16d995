"""Model references: how commands and calls name a model.

A run folder (its finished model), a model folder, or nothing at all: the newest run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ganzoo.errors import ModelReferenceError
from ganzoo.models import CONFIG
from ganzoo.recipes import list_recipes


@dataclass(frozen=True)
class ModelLocation:
    """Where a model is.

    Args:
        path: the model folder.
        said: where the reference left something open, the line that tells what was taken.
    """

    path: Path
    said: str | None = None


def resolve_model(reference: str | os.PathLike[str] | None, runs: str | os.PathLike[str] = "runs") -> ModelLocation:
    """Return the model folder that a reference means.

    Args:
        reference: a run or model folder; None for the newest run that has a model.
        runs: where runs lie.

    Raises:
        ModelReferenceError: it names nothing; the message says what it looks like and what to do.
    """
    if reference is None:
        return _newest(Path(runs))
    text = str(reference)
    path = Path(reference)
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # a name that is too long for the disk, holds a NUL, or may not be looked at
        raise ModelReferenceError(f"{text[:80]!r} is no path: {getattr(error, 'strerror', None) or error}.") from error
    if (path / CONFIG).is_file():
        return ModelLocation(path)
    if (path / "model" / CONFIG).is_file():
        return ModelLocation(path / "model")
    if (path / "run.json").is_file():
        raise ModelReferenceError(
            f"The run {text} has no model yet.", f"Let it go on to its end: ganzoo train --resume {text}"
        )
    if text in list_recipes():
        raise ModelReferenceError(f"The recipe {text!r} has no published weights.", f"Train it: ganzoo train {text}")
    if path.is_dir():
        raise ModelReferenceError(f"{text} is neither a run nor a model: it has no {CONFIG}.")
    if path.is_file():
        raise ModelReferenceError(
            f"{text} is a file; a model is a folder with {CONFIG} and weights.", "Name the folder."
        )
    raise ModelReferenceError(f"There is no run or model folder {text}.", "`ganzoo list` shows the recipes to train.")


def _newest(runs: Path) -> ModelLocation:
    found = [path for path in runs.glob("*") if (path / "model" / CONFIG).is_file()] if runs.is_dir() else []
    if not found:
        raise ModelReferenceError(
            f"No model was named, and there is no finished run in {runs}.",
            "Name one, or train: ganzoo train dcgan-digits",
        )
    newest = max(found, key=lambda path: (path / "model" / CONFIG).stat().st_mtime_ns)
    return ModelLocation(newest / "model", f"Using the newest run, {newest}.")
