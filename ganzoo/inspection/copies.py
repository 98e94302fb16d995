"""Does a model draw copies of what it was trained on? One call, from references and sources to neighbours and figures.

What is judged, its seeds and its real images are resolved as `ganzoo.evaluate` resolves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ganzoo.errors import UsageError
from ganzoo.evaluation.choosing import main_features
from ganzoo.evaluation.contract import ImageSet
from ganzoo.evaluation.evaluating import Listeners
from ganzoo.evaluation.image_sets import ChosenImages, evenly
from ganzoo.evaluation.judged import Choice, Judged, is_model, open_judged, skipped_notes
from ganzoo.evaluation.metrics.memorisation import Nearness, copied
from ganzoo.evaluation.real_images import Wanted, open_real, open_training_data, wanted_for
from ganzoo.evaluation.working import keep, working_folder
from ganzoo.image_files import MOST_GRID_PIXELS
from ganzoo.inspection.neighbours import PIXELS, NeighbourRows, Space
from ganzoo.seeds import as_seeds

if TYPE_CHECKING:
    from ganzoo.features.contract import FeatureExtractor

SHOWN, COUNTED, NEIGHBOURS = 16, 1000, 5
AUTO = "auto"


@dataclass(frozen=True)
class CopiesRequest:
    """What is asked for.

    Attributes:
        model_or_images: what is judged, as `ganzoo.evaluate` takes it; None: the newest run.
        data: what was trained on; None: what the model's recipe names.
        test_data: real images that were not trained on; None: there is nothing to compare the shares with.
        seeds: of the images that are shown; None: 0 to 15. Of images instead of a model, 16 are shown, taken evenly.
        spaces: where nearness is measured: "pixels", names of feature extractors, or "auto" for the one that suits the
            images' channels.
        neighbours: how many are shown of each.
        counted: how many images the shares rest on: seeds 0 to counted - 1, or images taken evenly; 0: no shares.
        choice: which model of a run, where it is computed, and the form of images; its count and seeds are not used.
    """

    model_or_images: Any = None
    data: Any = None
    test_data: Any = None
    seeds: npt.ArrayLike | None = None
    spaces: Sequence[str | FeatureExtractor] = (PIXELS, AUTO)
    neighbours: int = NEIGHBOURS
    counted: int = COUNTED
    choice: Choice = field(default_factory=Choice)


@dataclass(frozen=True)
class Found:
    """What was found in one space.

    Attributes:
        rows: the images that are shown, and their neighbours.
        samples: how near those are that are counted; None where none are.
        test: how near as many test images are; None where there are none.
    """

    rows: NeighbourRows
    samples: Nearness | None
    test: Nearness | None

    @property
    def copied(self) -> float | None:
        """Share of the samples that are copied, if the others are as near by chance as test images; None without."""
        return None if self.samples is None or self.test is None else copied(self.samples.share, self.test.share)


@dataclass(frozen=True)
class Copies:
    """What was found of a model or of images.

    Attributes:
        subject: what it is, one line.
        shown: what `numbers` are: "seed", or "image" for places in a source.
        numbers: (n,) of the images that are shown.
        found: one for each space, in the order asked for.
        protocol: what the figures rest on, JSON-able.
    """

    subject: str
    shown: Literal["seed", "image"]
    numbers: npt.NDArray[Any]
    found: tuple[Found, ...]
    protocol: dict[str, Any]


def look_for_copies(request: CopiesRequest, listeners: Listeners | None = None) -> Copies:
    """Return what a model draws beside the training images that are nearest, and how many samples are nearer than
    training images are to each other.

    Args:
        request: what is asked for.
        listeners: who is told what, while it goes on.

    Raises:
        UsageError: numbers out of range, too few images, sizes or channels that differ.
        GanzooError: what stands in the way of reading models, images or data, as of `ganzoo.evaluate`.
    """
    listeners = listeners or Listeners()
    if request.counted < 0:
        raise UsageError(f"`counted` (={request.counted}) must be at least 0.")
    if not request.spaces:
        raise UsageError("There is no space to measure nearness in.", "For example: pixels, mnist-convnet.")
    _spaces(request.spaces, 1)  # a name that is wrong is told of before anything is opened
    with ExitStack() as stack:
        working = stack.enter_context(working_folder())
        judged, numbers, parts = _open(request, working, stack, listeners)
        wanted = wanted_for(judged, request.choice)
        shown, counted = (_part(judged.images, part) for part in parts)
        assert shown is not None
        spaces = _spaces(request.spaces, judged.images.channels)
        _check_picture(shown, request.neighbours, len(spaces))
        training = _training(request, judged, wanted, stack, listeners)
        test = None
        if request.test_data is not None:
            test = open_real(request.test_data, _unlimited(wanted), stack, packing=listeners.packing)
        unseen = None if test is None or counted is None else _part(test, _evenly(test.count, counted.count))
        found = []
        for name in spaces:
            space = Space(training, name, device=request.choice.device, progress=listeners.progress)
            found.append(
                Found(
                    space.neighbours(shown, request.neighbours),
                    None if counted is None else space.nearness(counted),
                    None if unseen is None else space.nearness(unseen),
                )
            )
    return Copies(
        judged.subject,
        "seed" if is_model(request.model_or_images) else "image",
        numbers,
        tuple(found),
        {
            "generated": judged.images.to_dict() | {"counted": 0 if counted is None else counted.count},
            "training": training.to_dict(),
            "test": None if test is None else test.to_dict() | {"counted": 0 if unseen is None else unseen.count},
        },
    )


Parts = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def _open(
    request: CopiesRequest, working: Path, stack: ExitStack, listeners: Listeners
) -> tuple[Judged, npt.NDArray[Any], Parts]:
    """Return what is judged, the numbers of the images that are shown, and the places of those shown and counted."""
    of_model = is_model(request.model_or_images)
    choice, shown = replace(request.choice, count=None, seeds=None), np.arange(SHOWN, dtype=np.uint64)
    if of_model:
        shown = shown if request.seeds is None else as_seeds(request.seeds)
        choice = replace(choice, seeds=np.concatenate([shown, np.arange(request.counted, dtype=np.uint64)]))
    elif request.seeds is not None:
        choice = replace(choice, seeds=request.seeds)  # which is refused in the words of `ganzoo evaluate`
    opened = open_judged(
        request.model_or_images, choice, working, stack, fetching=listeners.fetching, packing=listeners.packing
    )
    for line in opened.notes:
        listeners.note(line)
    judged = replace(opened, images=keep(opened.images, working))
    if of_model:
        places = np.arange(len(shown), dtype=np.int64)
        return judged, shown, (places, len(shown) + np.arange(request.counted, dtype=np.int64))
    places = _evenly(judged.images.count, SHOWN)
    return judged, places, (places, _evenly(judged.images.count, request.counted))


def _training(
    request: CopiesRequest, judged: Judged, wanted: Wanted, stack: ExitStack, listeners: Listeners
) -> ImageSet:
    if request.data is None and judged.config is None:
        raise UsageError("Nothing tells what these images may be copies of.", "Name the training data: --data SOURCE.")
    if request.data is None:
        training = open_training_data(judged, wanted, stack, packing=listeners.packing)
    else:
        training = open_real(request.data, _unlimited(wanted), stack, packing=listeners.packing)
    for line in skipped_notes(training):
        listeners.note(line)
    if training.to_dict().get("is_training_data") is False:
        listeners.note("These are not the images that the model was trained on: copies of those are not found.")
    return training


def _unlimited(wanted: Wanted) -> Wanted:
    """Return the same without the limit of a recipe, which is of its own data."""
    return replace(wanted, request=replace(wanted.request, max_images=None))


def _check_picture(shown: ImageSet, neighbours: int, spaces: int) -> None:
    if shown.count * (1 + max(neighbours, 1) * spaces) * shown.image_size**2 > MOST_GRID_PIXELS:
        raise UsageError(
            f"{shown.count:,} images with {neighbours:,} neighbours each are too many for one picture.",
            "Show fewer of either.",
        )


def _spaces(spaces: Sequence[str | FeatureExtractor], channels: int) -> list[str | FeatureExtractor]:
    """Return spaces, each once, by name."""
    named = [main_features(space, channels) for space in spaces]
    return list(dict.fromkeys(named))


def _evenly(available: int, most: int) -> npt.NDArray[np.int64]:
    numbers = evenly(available, most)
    return np.arange(available, dtype=np.int64) if numbers is None else numbers


def _part(images: ImageSet, places: npt.NDArray[np.int64]) -> ImageSet | None:
    return ChosenImages(images, places, f"{len(places):,} of {images.count:,}") if len(places) else None
