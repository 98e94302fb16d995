"""Where a conversion may write: never over its own source, over nothing but a model, and that only if asked to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from ganzoo.errors import UsageError
from ganzoo.model_config import CARD, CONFIG, DISCRIMINATOR, GENERATOR, METRICS, SAMPLES
from ganzoo.references import FOREIGN_SUFFIXES

Kind = Literal["folder", "safetensors"]

_MODEL_FILES = {CONFIG, GENERATOR, DISCRIMINATOR, CARD, SAMPLES, METRICS}


def kind_of_target(given: str | os.PathLike[str], path: Path) -> Kind:
    """Return whether a target is a model folder or one weights file.

    Args:
        given: as it was named; a trailing separator means a folder.
        path: the same, "~" resolved.

    Raises:
        UsageError: a file of a kind that ganzoo does not write here.
    """
    suffix, text = path.suffix.lower(), os.fspath(given)
    if not text.strip() or "\0" in text or path.name in ("", ".."):
        raise UsageError(f"{text!r} names no folder or file to write.", "Name a new one: ganzoo convert SRC DST")
    if suffix == ".onnx":
        raise UsageError(f"{text} would be an ONNX file.", f"Use: ganzoo export MODEL --onnx --out {text}")
    if suffix in FOREIGN_SUFFIXES:
        raise UsageError(f"{text} would be a {suffix} file, and ganzoo writes none.", "Use .safetensors, or a folder.")
    return "safetensors" if suffix == ".safetensors" and not text.endswith(("/", os.sep)) else "folder"


def check_apart(source: Path, target: Path) -> None:
    """Refuse a target that is the source, or that the source is in: replacing it would destroy what is converted."""
    one, other = source.resolve(), target.resolve()
    if one == other or (source.exists() and target.exists() and source.samefile(target)):
        raise UsageError(f"{target} is the source itself.", "Name another target.")
    if other in one.parents:
        raise UsageError(f"The source {source} lies in the target {target}.", "Name another target.")
    if one in other.parents and one.is_dir():
        raise UsageError(f"The target {target} lies in the source {source}.", "Name another target.")


def check_free(path: Path, kind: Kind, force: bool) -> None:
    """Refuse to overwrite: anything without `force`, and with it whatever is not a model."""
    if not (path.exists() or path.is_symlink()):
        return
    if kind == "safetensors" and not path.is_file():
        raise UsageError(f"{path} exists and is no file.", "Name another target.")
    if kind == "folder":
        if path.is_symlink() or not path.is_dir():
            what = "a link" if path.is_symlink() else "a file"
            raise UsageError(f"{path} is {what}.", "A model is a folder, or a file whose name ends in .safetensors.")
        inside = {entry.name for entry in path.iterdir()}
        if not inside:
            return
        if CONFIG not in inside:
            raise UsageError(f"{path} exists and is no model.", "Name another target.")
        if others := sorted(inside - _MODEL_FILES):
            raise UsageError(f"{path} holds more than a model: {', '.join(others[:3])}.", "Name another target.")
    if not force:
        raise UsageError(f"{path} exists already.", "Name another target, or replace it with --force.")
