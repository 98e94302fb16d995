"""Model references: how any command or call names a model.

    (nothing)                    the newest finished run
    ./NAME, ../NAME, /NAME, ~    a path: a run folder (its model), a model folder, a .safetensors or .onnx file
    FOLDER/NAME                  the same, where it exists
    NAME                         a model of the zoo; else a folder or file of that name in the current folder
    hf-hub:ORG/NAME[@REVISION]   a model on the Hugging Face Hub

A text that could be read in two ways is refused, with both readings offered, rather than guessed at: a guess would
draw images with other weights than were meant. This module imports neither torch nor NumPy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ganzoo.errors import ModelReferenceError, suggest
from ganzoo.model_config import CONFIG, GENERATOR
from ganzoo.recipes import list_recipes

Kind = Literal["folder", "safetensors", "onnx"]
Origin = Literal["run", "folder", "file", "zoo", "hub"]

HUB_PREFIX = "hf-hub"
FOREIGN_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".tar")
"""Checkpoints in other forms, which `ganzoo convert` reads, or says why it does not."""

_PREFIXED = re.compile(r"([A-Za-z][A-Za-z0-9_+.-]+):(.*)", re.DOTALL)  # two signs at least: C:\ is a drive
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_LONGEST_SHOWN = 80


@dataclass(frozen=True)
class ModelLocation:
    """Where a model is.

    Args:
        path: the model folder, or the file.
        kind: "folder", "safetensors" or "onnx".
        said: where the reference left something open, the line that tells what was taken.
        origin: "run", "folder", "file", "zoo" or "hub": what the reference named.
    """

    path: Path
    kind: Kind = "folder"
    said: str | None = None
    origin: Origin = "folder"


def resolve_model(
    reference: str | os.PathLike[str] | None,
    *,
    runs: str | os.PathLike[str] = "runs",
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ModelLocation:
    """Return where the model is that a reference means; a model of the zoo or the Hub is fetched if it is not here.

    Args:
        reference: as the module describes; a `Path` is always a path. None: the newest run that has a model.
        runs: where runs lie.
        revision: of a model on the Hub: a branch, a tag or a commit; as "@REVISION" in the reference.
        cache_dir: where fetched models are kept, instead of ganzoo's or the Hub's own cache.
        local_files_only: whether nothing may be fetched; so it is, too, with GANZOO_OFFLINE or HF_HUB_OFFLINE.
        force_download: whether what is here already is fetched anew.
        progress: is told, while a model of the zoo is fetched, the bytes that are here and their number in all.

    Raises:
        ModelReferenceError: it names nothing, or could mean two things; the message says what to write.
        DownloadError: it cannot be fetched.
    """
    text = None if reference is None else os.fspath(reference)
    hub = _hub_name(text) if isinstance(reference, str) else None
    if hub is not None:
        return _on_the_hub(hub, revision, cache_dir, local_files_only, force_download)
    if revision is not None:
        raise ModelReferenceError(
            f"A revision (={revision!r}) is of models on the Hub, and {_shown(text)} is none.",
            f"Leave it out, or name {HUB_PREFIX}:ORG/NAME.",
        )
    if text is None:
        return _newest(Path(runs))
    path = _path_of(text)
    if isinstance(reference, os.PathLike) or _looks_like_a_path(text):
        return _at(path, text)
    if _has_separator(text):
        if not path.exists():
            raise _two_readings(text)
        return _at(path, text)
    if path.suffix.lower() in (".safetensors", ".onnx") and path.exists():  # no zoo name ends so: the manifest can rest
        return _at(path, text)
    from ganzoo.weights import fetch_published, published_models

    if text in published_models():
        folder = fetch_published(
            text,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
            progress=progress,
        )
        said = f"Using the zoo's model {text}; what is called so here is ./{text}." if path.exists() else None
        return ModelLocation(folder, "folder", said, "zoo")
    if path.exists():
        return _at(path, text)
    raise _names_nothing(text)


# ---------------------------------------------------------------------------------------------------- what a text is


def _hub_name(text: str | None) -> str | None:
    """Return what follows "hf-hub:", or None where the text has no prefix.

    Raises:
        ModelReferenceError: another prefix, and no file is called so.
    """
    prefixed = _PREFIXED.fullmatch(text or "")
    if prefixed is None or text is None:
        return None
    prefix, name = prefixed[1], prefixed[2]
    if prefix == HUB_PREFIX:
        return name
    if _path_of(text).exists():
        return None
    on_the_hub = re.fullmatch(r"//(?:huggingface\.co|hf\.co)/([^/]+/[^/]+)/?", name)
    if on_the_hub is not None:
        raise ModelReferenceError(f"{_shown(text)} is an address.", f"Write {HUB_PREFIX}:{on_the_hub[1]}")
    if name.startswith("//"):
        raise ModelReferenceError(
            f"{_shown(text)} is an address, which is no model reference.", "Download the file and name its path."
        )
    remedy = f"Write {HUB_PREFIX}:{name}" if _HUB_NAME.match(name) else f"The only one is {HUB_PREFIX}:ORG/NAME."
    raise ModelReferenceError(f"{_shown(text)} has the prefix {prefix!r}, which is not known.", remedy)


def _has_separator(text: str) -> bool:
    return "/" in text or os.sep in text


def _looks_like_a_path(text: str) -> bool:
    """Return whether a text can only be a path: ".", "./x", "../x", "/x", "~", "~/x", and "C:\\x" on Windows."""
    return text in (".", "..") or text.startswith(("~", "./", "../", f".{os.sep}", f"..{os.sep}")) or _is_rooted(text)


def _is_rooted(text: str) -> bool:
    path = Path(text)
    return bool(path.anchor)


def _path_of(text: str) -> Path:
    """Return a text as a path.

    Raises:
        ModelReferenceError: it can be none: too long for the disk, empty, with a NUL, or not to be looked at.
    """
    if not text.strip():
        raise ModelReferenceError("The model's name is empty.", "Leave it out for the newest run.")
    try:
        path = Path(text).expanduser()
        path.stat()
    except FileNotFoundError:
        pass
    except NotADirectoryError:  # x.safetensors/y
        pass
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the home folder of a user that is not there
        raise ModelReferenceError(f"{_shown(text)} is no path: {getattr(error, 'strerror', None) or error}.") from error
    return path


def _shown(text: str | None) -> str:
    if text is None:
        return "the newest run"
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")


# ---------------------------------------------------------------------------------------------------- paths


def _at(path: Path, text: str) -> ModelLocation:
    """Return the model at a path.

    Args:
        path: where.
        text: the reference, for messages.

    Raises:
        ModelReferenceError: there is none.
    """
    if path.is_file():
        return ModelLocation(path, kind_of_file(path), None, "file")
    if (path / CONFIG).is_file():
        return ModelLocation(path)
    if (path / "model" / CONFIG).is_file():
        return ModelLocation(path / "model", "folder", None, "run")
    if (path / "run.json").is_file():
        raise ModelReferenceError(
            f"The run {text} has no model yet.", f"Let it go on to its end: ganzoo train --resume {text}"
        )
    if path.is_dir():
        files = sorted(one.name for one in path.iterdir() if one.suffix.lower() in (".safetensors", ".onnx"))
        raise ModelReferenceError(
            f"{text} is neither a run nor a model: it has no {CONFIG}.",
            f"Name the file: {path / files[0]}" if files else None,
        )
    raise ModelReferenceError(f"There is no {text}.", "A model is a run or model folder, or a weights or ONNX file.")


def kind_of_file(path: Path) -> Literal["safetensors", "onnx"]:
    """Return what a model's file is, by its suffix.

    Raises:
        ModelReferenceError: a checkpoint in another form, or no model at all.
    """
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return "safetensors"
    if suffix == ".onnx":
        return "onnx"
    if suffix in FOREIGN_SUFFIXES:
        raise ModelReferenceError(
            f"{path} is a checkpoint in another form than ganzoo's.", f"Convert it first: ganzoo convert {path} DST"
        )
    if suffix == ".toml":
        raise ModelReferenceError(f"{path} is a recipe, which has no weights.", f"Train it: ganzoo train {path}")
    beside = (path.parent / CONFIG).is_file() and (path.parent / GENERATOR).is_file()
    raise ModelReferenceError(
        f"{path} is no model: that is a folder with {CONFIG} and weights, or a .safetensors or .onnx file.",
        f"Name the folder: {path.parent}" if beside else None,
    )


def _newest(runs: Path) -> ModelLocation:
    found = [path for path in runs.glob("*") if (path / "model" / CONFIG).is_file()] if runs.is_dir() else []
    if not found:
        raise ModelReferenceError(
            f"No model was named, and there is no finished run in {runs}.",
            "Name one, or train: ganzoo train dcgan-digits",
        )
    newest = max(found, key=lambda path: (path / "model" / CONFIG).stat().st_mtime_ns)
    return ModelLocation(newest / "model", "folder", f"Using the newest run, {newest}.", "run")


# ---------------------------------------------------------------------------------------------------- the Hub


def _on_the_hub(
    name: str,
    revision: str | None,
    cache_dir: str | os.PathLike[str] | None,
    local_files_only: bool,
    force_download: bool,
) -> ModelLocation:
    repo, at, inside = name.partition("@")
    if not _HUB_NAME.fullmatch(repo) or (at and not inside):
        raise ModelReferenceError(
            f"{_shown(f'{HUB_PREFIX}:{name}')} names no model on the Hub.",
            f"Write {HUB_PREFIX}:ORG/NAME or {HUB_PREFIX}:ORG/NAME@REVISION.",
        )
    if inside and revision is not None and revision != inside:
        raise ModelReferenceError(
            f"The reference names the revision {inside!r}, and the call {revision!r}.", "Give one of them."
        )
    from ganzoo.hub import download_model

    folder = download_model(
        repo,
        inside or revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        force_download=force_download,
    )
    return ModelLocation(folder, "folder", None, "hub")


# ---------------------------------------------------------------------------------------------------- names nothing


def _two_readings(text: str) -> ModelReferenceError:
    if not _HUB_NAME.fullmatch(text.partition("@")[0]):
        return ModelReferenceError(
            f"There is no {_shown(text)} here.", "A model is a run or model folder, or a weights or ONNX file."
        )
    return ModelReferenceError(
        f"{_shown(text)} is not here, and could be a path or a model on the Hub.",
        f"Write {HUB_PREFIX}:{text} for the Hub, ./{text} for a path.",
    )


def _names_nothing(text: str) -> ModelReferenceError:
    from ganzoo.weights import published_models

    published = list(published_models())
    if text in list_recipes():
        remedy = f"Train it: ganzoo train {text}"
        if published:
            remedy += " (ganzoo list --pretrained shows those that have)"
        return ModelReferenceError(f"The recipe {text!r} has no published weights.", remedy)
    if text.endswith(FOREIGN_SUFFIXES) or text.endswith((".safetensors", ".onnx", ".toml")):
        return ModelReferenceError(f"There is no file {_shown(text)} here.")
    remedy = suggest(text, published) if published else "`ganzoo list` shows the recipes to train."
    return ModelReferenceError(f"There is no model {_shown(text)}: no zoo name, run or model folder, or file.", remedy)
