"""Real images that others are compared with, made ready as a training would make them.

What would change them more than a reader expects, enlarging or dropping colours, is refused unless it was asked for, or
was done for the training too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ganzoo.data.packing import open_pack
from ganzoo.data.request import DataRequest
from ganzoo.data.sources.base import Source
from ganzoo.data.specs import open_source
from ganzoo.errors import DataError, GanzooError, MissingDataError, UsageError
from ganzoo.evaluation.image_sets import PackImages, evenly
from ganzoo.evaluation.judged import Choice, Judged, chosen_count
from ganzoo.evaluation.native_sizes import some_shapes

if TYPE_CHECKING:
    from ganzoo.data.writing import PackProgress

Packing = Callable[["PackProgress"], None]


@dataclass(frozen=True)
class Wanted:
    """How real images are wanted.

    Attributes:
        request: size, channels, crop and resampling.
        image_size, channels: whether these were asked for, so that images may be enlarged, or lose their colours.
        trained_on: the content's SHA-256 of the images that the judged model was trained on, or None.
    """

    request: DataRequest
    image_size: bool = False
    channels: bool = False
    trained_on: str | None = None


def wanted_for(judged: Judged, choice: Choice) -> Wanted:
    """Return how the real images are wanted that something is compared with.

    A model's are prepared by its recipe; those of other images by the middle square, resized by Lanczos.

    Args:
        judged: what is judged.
        choice: what was asked for.
    """
    asked = choice.image_size is not None, choice.channels is not None
    if judged.config is None:
        return Wanted(DataRequest(judged.images.image_size, judged.images.channels), *asked)
    from ganzoo.training.request import data_request

    request = replace(data_request(judged.config.recipe), labels=False)
    return Wanted(request, *asked, judged.config.data.get("content_sha256"))


def open_real(
    spec: Any,
    wanted: Wanted,
    stack: ExitStack,
    *,
    count: int | None = None,
    packing: Packing | None = None,
) -> PackImages:
    """Return real images.

    Args:
        spec: anything that `ganzoo.data.open_source` takes.
        wanted: how they are wanted.
        stack: closes what is opened.
        count: at most so many, taken evenly; None for all.
        packing: is told while they are packed.

    Raises:
        DataError: they cannot be read, would be enlarged, or grey is compared with colours.
        MissingDataError: data that cannot be fetched.
        UnknownNameError: no such source.
    """
    source = spec if isinstance(spec, Source) else stack.enter_context(open_source(spec))
    source.prefer(wanted.request.image_size)
    refusal = _changed(source, wanted)
    if refusal is not None and wanted.trained_on is None:
        raise refusal
    pack = stack.enter_context(open_pack(source, wanted.request, progress=packing))
    same = pack.manifest.content_sha256 == wanted.trained_on
    if refusal is not None and not same:
        raise refusal
    if count is not None and count < 1:
        raise UsageError(f"{count:,} real images are asked for.", "Leave out --reference-count for all.")
    most = chosen_count(pack.count, None if count is None else min(count, pack.count), source.description)
    return PackImages(
        pack,
        evenly(pack.count, most),
        description=source.description,
        chosen=f"{most:,} of {pack.count:,}, evenly",
        facts=None if wanted.trained_on is None else {"is_training_data": same},
    )


def open_training_data(
    judged: Judged,
    wanted: Wanted,
    stack: ExitStack,
    *,
    count: int | None = None,
    packing: Packing | None = None,
) -> PackImages:
    """Return the images that a model was trained on.

    Args:
        judged: the model.
        wanted, stack, count, packing: as `open_real` takes them; sizes and colours are the training's own.

    Raises:
        MissingDataError: they are not on this machine.
    """
    remedy = "Name images to compare with: --data SOURCE."
    named = [one for one in (judged.source, _source_of_recipe(judged)) if one is not None]
    if not named:
        raise MissingDataError(f"{judged.subject} was trained on data that were given from Python.", remedy)
    reasons = []
    for number, source in enumerate(dict.fromkeys(named)):
        try:
            found = open_real(
                source, replace(wanted, image_size=True, channels=True), stack, count=count, packing=packing
            )
        except GanzooError as error:
            reasons.append(error)
            continue
        if number == 0 or found.pack.manifest.content_sha256 == wanted.trained_on:
            return found
        reasons.append(DataError(f"{source} holds others."))
    data = {} if judged.config is None else judged.config.data
    described = data.get("description") or judged.source
    told = " ".join(one.message for one in reasons)
    raise MissingDataError(
        f"{judged.subject} was trained on {described}, which cannot be read here: {told}", remedy
    ) from reasons[-1]


def _source_of_recipe(judged: Judged) -> str | None:
    """Return where ganzoo's own recipe of a model's name finds its images: a published model tells no paths, and may
    have been trained on a copy of the same ones."""
    from ganzoo.building import load_recipe
    from ganzoo.recipes import list_recipes

    if judged.config is None or judged.config.recipe.name not in list_recipes():
        return None
    return load_recipe(judged.config.recipe.name).data.source


def _changed(source: Source, wanted: Wanted) -> DataError | None:
    """Return why images would be changed more than a reader expects, or None."""
    size, channels = wanted.request.image_size, wanted.request.channels
    for shape in some_shapes(source):
        if not wanted.image_size and min(shape.width, shape.height) < size:
            return DataError(
                f"The images of the {source.description} would be enlarged: {shape.name} is {shape}, and {size}×{size} "
                "is wanted.",
                f"--image-size {size} does so all the same; or name larger images.",
            )
        if not wanted.channels and shape.channels != channels:
            have, others = ("grey", "in colours") if shape.channels == 1 else ("in colours", "grey")
            return DataError(
                f"The images of the {source.description} are {have}, and those that are judged are {others}.",
                f"--channels {channels} compares both as {'grey' if channels == 1 else 'RGB'}; or name others.",
            )
    return None
