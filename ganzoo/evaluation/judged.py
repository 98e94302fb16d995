"""What is judged: a model, whose images are drawn, or images that somebody has.

    a model     a zoo name, hf-hub:ORG/NAME, a .safetensors or .onnx file, the folder of a run or of a model;
                from Python also a Model or a Sampler
    images      whatever else is a source: a folder, a zip, .npz, a pack, the name of data; from Python also an array,
                a torch Dataset, a Pack or an ImageSet

A text that could be both is refused, with both ways to write it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from ganzoo.data.packing import open_pack
from ganzoo.data.packs import Pack
from ganzoo.data.request import DataRequest
from ganzoo.data.sources.base import Source
from ganzoo.data.specs import PackSource, open_source
from ganzoo.errors import DataError, ModelReferenceError, UsageError, suggest
from ganzoo.evaluation.contract import ImageSet
from ganzoo.evaluation.image_sets import ChosenImages, PackImages, evenly
from ganzoo.evaluation.native_sizes import EqualSource, first_shape
from ganzoo.model_config import CONFIG, ModelConfig
from ganzoo.references import FOREIGN_SUFFIXES, HUB_PREFIX
from ganzoo.registry import sources

if TYPE_CHECKING:
    from ganzoo.data.writing import PackProgress
    from ganzoo.models import Model

Weights = Literal["ema", "raw"]

_MODEL_FILES = (".safetensors", ".onnx", ".toml", *(one for one in FOREIGN_SUFFIXES if one != ".tar"))
_RUN = "run.json"
_ORG_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Choice:
    """Which images of what is judged.

    Attributes:
        count: how many; None: 50,000 of a model, all of a source.
        seeds: of a model's images, in place of the first `count`.
        checkpoint: of a run: "last", or its step; None: the published model.
        weights: "ema", "raw", or None for those that were published.
        runtime: "torch", "onnx", or "auto".
        device: "auto", "cpu", "cuda" ….
        image_size, channels: to which the images of a source are brought; None: their own.
    """

    count: int | None = None
    seeds: npt.ArrayLike | None = None
    checkpoint: int | str | None = None
    weights: Weights | None = None
    runtime: str = "auto"
    device: str = "auto"
    image_size: int | None = None
    channels: int | None = None


@dataclass(frozen=True)
class Judged:
    """What is judged, ready to be read.

    Attributes:
        images: its images.
        subject: what it is, one line without paths.
        name: the same as a part of a folder's name.
        config: of a model; None of images.
        model: with its networks, where torch draws.
        run: the folder of the run that it is of, or None.
        folder: the model folder, where it is one's own and holds what was judged; else None.
        source: the source that the model was trained on, or None.
        notes: lines to tell.
    """

    images: ImageSet
    subject: str
    name: str
    config: ModelConfig | None = None
    model: Model | None = None
    run: Path | None = None
    folder: Path | None = None
    source: str | None = None
    notes: tuple[str, ...] = ()


def is_model(what: Any) -> bool:
    """Return whether something is a model; else it is a source of images.

    Args:
        what: a text or path, or an object of Python's; None: the newest run.

    Raises:
        ModelReferenceError: a text that could be both, or is neither.
    """
    if what is None or is_sampler(what) or _is_loaded(what):
        return True
    if not isinstance(what, str | os.PathLike):
        return False
    text = os.fspath(what)
    if isinstance(what, str):
        if text.startswith(f"{HUB_PREFIX}:"):
            return True
        if text.partition(":")[0] in sources:
            _refuse_two_readings(text)
            return False
        if _in_zoo(text):
            return True
    path = _path_of(text)
    if text.lower().endswith(_MODEL_FILES) or holds_model(path):
        return True
    if path.exists() or "{" in text:  # shards/{000..099}.tar
        _refuse_folder_of_runs(path, text)
        return False
    raise _neither(text)


def is_sampler(what: Any) -> bool:
    """Return whether an object draws images from seeds."""
    return all(hasattr(what, name) for name in ("pixels", "latent_dim", "num_classes", "image_size"))


def is_image_set(what: Any) -> bool:
    """Return whether an object is an `ImageSet` already."""
    return all(hasattr(what, name) for name in ("read", "gather", "to_dict", "count", "image_size")) and not isinstance(
        what, Pack | Source
    )


def holds_model(path: Path) -> bool:
    """Return whether a folder is a run's or a model's."""
    return any((path / name).is_file() for name in (CONFIG, _RUN, f"model/{CONFIG}"))


def open_judged(
    what: Any,
    choice: Choice,
    working: Path,
    stack: ExitStack,
    *,
    fetching: Callable[[int, int], None] | None = None,
    packing: Callable[[PackProgress], None] | None = None,
) -> Judged:
    """Return what is to be judged.

    Args:
        what: as the module describes; None: the newest run.
        choice: which of its images.
        working: a folder in which images of others are packed.
        stack: closes what is opened.
        fetching, packing: are told of a model that is fetched, of images that are packed.

    Raises:
        ModelReferenceError: a text that names nothing, or two things.
        UsageError: a choice that it does not have.
        WeightsError: the model cannot be read.
        CheckpointError: no such checkpoint.
        DataError: images that cannot be read, or differ in size.
    """
    if is_model(what):
        from ganzoo.evaluation.judged_models import open_judged_model

        return open_judged_model(what, choice, fetching)
    for name in ("seeds", "checkpoint", "weights"):
        if getattr(choice, name) is not None:
            raise UsageError(f"--{name} is of models, and {_shown(what)} are images.", "Leave it out.")
    if choice.runtime != "auto":
        raise UsageError(f"--runtime is of models, and {_shown(what)} are images.", "Leave it out.")
    if is_image_set(what):
        return _given(what, choice)
    return _open_images(what, choice, working, stack, packing)


def chosen_count(available: int, count: int | None, what: str) -> int:
    """Return how many images are taken.

    Args:
        available: how many there are.
        count: how many are wanted; None for all.
        what: whose they are, for messages.

    Raises:
        UsageError: there are not so many.
    """
    if count is not None and not 1 <= count <= available:
        raise UsageError(f"{count:,} images are asked for, and the {what} holds {available:,}.", "Leave out --count.")
    return available if count is None else count


def _given(images: ImageSet, choice: Choice) -> Judged:
    """Return an ImageSet of the caller's, or some of its images."""
    for name in ("image_size", "channels"):
        wanted = getattr(choice, name)
        if wanted not in (None, getattr(images, name)):
            raise UsageError(f"{name} (={wanted}) is not that of the images (={getattr(images, name)}).")
    count = chosen_count(images.count, choice.count, "set")
    indices = evenly(images.count, count)
    if indices is not None:
        images = ChosenImages(images, indices, f"{count:,} of {images.count:,}, evenly")
    subject = str(images.to_dict().get("description", "images"))
    return Judged(images, subject, "images")


def _open_images(
    what: Any,
    choice: Choice,
    working: Path,
    stack: ExitStack,
    packing: Callable[[PackProgress], None] | None,
) -> Judged:
    """Return images of anybody, in their own size unless another was asked for."""
    source = what if isinstance(what, Source) else stack.enter_context(open_source(what))
    if choice.image_size is not None:
        source.prefer(choice.image_size)
    shape = first_shape(source)
    if choice.image_size is None and not shape.is_square:
        raise DataError(
            f"The images of the {source.description} are not square: {shape.name} is {shape}.",
            f"--image-size {min(shape.width, shape.height)} cuts out the middle square of each.",
        )
    request = DataRequest(choice.image_size or shape.width, choice.channels or shape.channels)
    alike = EqualSource(source, shape, size=choice.image_size is None, channels=choice.channels is None)
    named = isinstance(what, str) and what.partition(":")[0] in sources  # data that training packs in the same way
    read = source if isinstance(source, PackSource) else alike
    pack = stack.enter_context(
        open_pack(read, request, cache_dir=None if named else working / "packs", progress=packing)
    )
    count = chosen_count(pack.count, choice.count, source.description)
    indices, chosen = evenly(pack.count, count), f"{count:,} of {pack.count:,}, evenly"
    images = PackImages(pack, indices, description=source.description, kind="images", chosen=chosen)
    stem = Path(os.fspath(what)).stem if isinstance(what, str | os.PathLike) else "images"
    return Judged(images, source.description, stem, notes=skipped_notes(images))


def skipped_notes(images: PackImages) -> tuple[str, ...]:
    """Return a line about the images of a source that were left out, where there are any."""
    manifest = images.pack.manifest
    if not manifest.skipped:
        return ()
    names = ", ".join(f"{name!r} ({reason})" for name, reason in manifest.skipped_examples[:3])
    more = f" and {manifest.skipped - 3:,} more" if manifest.skipped > 3 else ""
    are = "image is" if manifest.skipped == 1 else "images are"
    return (f"{manifest.skipped:,} {are} left out of the {images.to_dict()['description']}: {names}{more}.",)


# ---------------------------------------------------------------------------------------------------- what a text is


def _refuse_two_readings(text: str) -> None:
    """Refuse the name of data where a model lies here by the same name.

    Raises:
        ModelReferenceError: it does.
    """
    if ":" not in text and (holds_model(Path(text)) or _in_zoo(text)):
        model = f"./{text}" if holds_model(Path(text)) else f"the folder of the model {text}"
        raise ModelReferenceError(
            f"{text!r} could be the data of that name, or a model.",
            f"Write {text}: for the data, {model} for the model.",
        )


def _refuse_folder_of_runs(path: Path, text: str) -> None:
    """Refuse a folder whose images are the pictures of trainings.

    Raises:
        ModelReferenceError: it holds runs.
    """
    runs = sorted(path.glob(f"*/{_RUN}"))
    if runs:
        raise ModelReferenceError(f"{text!r} holds runs, and is none.", f"Name one of them: {runs[-1].parent}")


def _neither(text: str) -> ModelReferenceError:
    from ganzoo.recipes import list_recipes
    from ganzoo.weights import published_models

    published = list(published_models())
    if text in list_recipes():
        return ModelReferenceError(
            f"The recipe {text!r} has no published weights.",
            f"Train it: ganzoo train {text} (ganzoo list --pretrained shows those that have)",
        )
    shown = repr(text if len(text) <= 80 else f"{text[:80]}...")
    if _looks_like_a_path(text):
        hub = (
            f"; on the Hub: {HUB_PREFIX}:{text} for a model, hf:{text} for images" if _ORG_NAME.fullmatch(text) else ""
        )
        return ModelReferenceError(
            f"There is nothing at {shown}.",
            f"A model is a run or model folder, a .safetensors or .onnx file; images are a folder, a zip, .npz{hub}.",
        )
    return ModelReferenceError(
        f"There is neither a model nor are there images called {shown}.", suggest(text, [*published, *sources.names()])
    )


def _in_zoo(text: str) -> bool:
    from ganzoo.weights import published_models

    return text in published_models()


def _is_loaded(what: Any) -> bool:
    import sys

    models = sys.modules.get("ganzoo.models")  # a Model cannot be there if its module is not
    return models is not None and isinstance(what, models.Model)


def _looks_like_a_path(text: str) -> bool:
    return text in (".", "..") or text.startswith(("~", ".")) or "/" in text or os.sep in text


def _path_of(text: str) -> Path:
    """Return a text as a path.

    Raises:
        ModelReferenceError: it can be none.
    """
    if not text.strip():
        raise ModelReferenceError("The model's name is empty.", "Leave it out for the newest run.")
    try:
        path = Path(text).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the home folder of a user that is not there
        raise ModelReferenceError(f"{text[:80]!r} is no path: {getattr(error, 'strerror', None) or error}.") from error
    return path


def _shown(what: Any) -> str:
    return f"{os.fspath(what)!r}" if isinstance(what, str | os.PathLike) else f"the {type(what).__name__}"
