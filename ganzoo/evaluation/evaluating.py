"""Evaluation as one call: `ganzoo.evaluate(model_or_images, data=…)`.

What is judged and what it is compared with are resolved here: references, sources, sizes, counts. The numbers are
computed in `measuring.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ganzoo.errors import MissingDataError
from ganzoo.evaluation.choosing import ALL, DEFAULT_METRICS, Metrics, main_features, metric_needs
from ganzoo.evaluation.contract import ImageSet, Progress
from ganzoo.evaluation.image_sets import PackImages, evenly
from ganzoo.evaluation.judged import Choice, Judged, Weights, open_judged, skipped_notes
from ganzoo.evaluation.measuring import evaluate_images
from ganzoo.evaluation.real_images import Wanted, open_real, open_training_data, wanted_for
from ganzoo.evaluation.results import Evaluation
from ganzoo.evaluation.working import keep, working_folder
from ganzoo.features.contract import FeatureExtractor

if TYPE_CHECKING:
    from ganzoo.data.writing import PackProgress
    from ganzoo.evaluation.report import ReportPictures

__all__ = [
    "ALL",
    "DEFAULT_METRICS",
    "Conducted",
    "EvaluationRequest",
    "Listeners",
    "conduct",
    "evaluate",
    "evaluate_images",
]

_SHOWN = 64  # images of a picture
_NEIGHBOURS, _NEIGHBOURED = 5, 16


def _silent(*_: Any) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What is asked of an evaluation; `evaluate` tells what each is."""

    model_or_images: Any = None
    data: Any = None
    test_data: Any = None
    metrics: Metrics = None
    features: str | FeatureExtractor = "auto"
    feature_weights: str | Path | None = None
    choice: Choice = field(default_factory=Choice)
    reference_count: int | None = None
    seed: int = 0
    by_class: bool = False
    pictures: bool = False


@dataclass(frozen=True)
class Listeners:
    """Who is told what, while it goes on.

    Attributes:
        progress: what is being measured, how much of it is done, of how much.
        packing: while images are packed.
        fetching: while a model is fetched, bytes done and in all.
        note: lines that tell what was taken where something was left open, or left out.
        opened: what is to be judged, before anything is computed.
    """

    progress: Progress = _silent
    packing: Callable[[PackProgress], None] = _silent
    fetching: Callable[[int, int], None] = _silent
    note: Callable[[str], None] = _silent
    opened: Callable[[Judged], None] = _silent


@dataclass(frozen=True)
class Conducted:
    """An evaluation and what belongs to it.

    Attributes:
        evaluation: the numbers.
        judged: what they are about.
        pictures: for a report, where they were asked for.
    """

    evaluation: Evaluation
    judged: Judged
    pictures: ReportPictures | None


def evaluate(
    model_or_images: Any,
    data: Any = None,
    *,
    test_data: Any = None,
    metrics: Metrics = None,
    features: str | FeatureExtractor = "auto",
    feature_weights: str | os.PathLike[str] | None = None,
    count: int | None = None,
    seeds: npt.ArrayLike | None = None,
    reference_count: int | None = None,
    seed: int = 0,
    by_class: bool = False,
    checkpoint: int | str | None = None,
    weights: Weights | None = None,
    runtime: str = "auto",
    device: str = "auto",
    image_size: int | None = None,
    channels: int | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress = _silent,
    packing: Callable[[PackProgress], None] = _silent,
) -> Evaluation:
    """Return numbers about a model or about images, each with its protocol.

    Args:
        model_or_images: a model: a zoo name, the folder of a run or of a model, a .safetensors or .onnx file,
            hf-hub:ORG/NAME, a `Model`, a `Sampler`. Or images: a folder, a zip, .npz, a source's name, an array, a
            torch Dataset, a `Pack`, an `ImageSet`.
        data: real images to compare with, as `ganzoo.data.open_source` takes them; None: for a model those that it was
            trained on, for images none.
        test_data: real images that were not trained on.
        metrics: names or metrics, in the order in which their values are wanted; "all"; None: the usual ones, as far
            as there is what they need.
        features: the extractor of the metrics that are bound to none: itself, its name, or "auto".
        feature_weights: a file of weights for an extractor that would fetch its own.
        count: how many images are judged; None: 50,000 of a model, all of a source.
        seeds: of a model's images, in place of the first `count`.
        reference_count: at most so many real images, taken evenly; None for all.
        seed: of every random choice of a metric (subsets, pairs); it does not change the images.
        by_class: whether each class is measured too.
        checkpoint: of a run: "last", or its step; None: the published model, which is that of the last checkpoint.
        weights: "ema" or "raw", of a run; None: those that are published.
        runtime: "torch", "onnx", or "auto".
        device: "auto", "cpu", "cuda" ….
        image_size, channels: to which images are brought; None: the images' own. Real images are enlarged, or lose
            their colours, only where this is given, or where the training did so.
        out: a folder for the report; None: nothing is written.
        progress: is told what is measured, how much of it is done, of how much.
        packing: is told how far the packing of images is.

    Raises:
        GanzooError: what stands in the way, in one line with its remedy; `ganzoo.errors` lists the kinds.
    """
    request = EvaluationRequest(
        model_or_images,
        data,
        test_data,
        metrics,
        features,
        feature_weights if feature_weights is None else Path(feature_weights),
        Choice(count, seeds, checkpoint, weights, runtime, device, image_size, channels),
        reference_count,
        seed,
        by_class,
        pictures=out is not None,
    )
    from ganzoo.evaluation.reporting import check_folder, save_report

    folder = None if out is None else check_folder(Path(out))
    conducted = conduct(request, Listeners(progress, packing))
    if folder is not None:
        save_report(conducted, folder)
    return conducted.evaluation


def conduct(request: EvaluationRequest, listeners: Listeners | None = None) -> Conducted:
    """Return an evaluation with what a report needs beside the numbers.

    Args:
        request: what is asked for.
        listeners: who is told what.

    Raises:
        GanzooError: as `evaluate`.
    """
    listeners = listeners or Listeners()
    needs = metric_needs(request.metrics)  # a name that is wrong is told of before anything is opened
    if isinstance(request.features, str) and request.features != "auto":
        main_features(request.features, 1)
    with ExitStack() as stack:
        working = stack.enter_context(working_folder())
        judged = open_judged(
            request.model_or_images,
            request.choice,
            working,
            stack,
            fetching=listeners.fetching,
            packing=listeners.packing,
        )
        for line in judged.notes:
            listeners.note(line)
        listeners.opened(judged)
        judged = replace(judged, images=keep(judged.images, working))
        wanted = wanted_for(judged, request.choice)
        reference = _reference(request, judged, wanted, needs, stack, listeners)
        test = _test(request, wanted, stack, listeners)
        evaluation = evaluate_images(
            judged.images,
            reference,
            test=test,
            metrics=request.metrics,
            features=request.features,
            feature_weights=request.feature_weights,
            by_class=request.by_class,
            model=judged.model,
            seed=request.seed,
            device=request.choice.device,
            subject=judged.subject,
            folder=working,
            progress=listeners.progress,
        )
        for name, reason in evaluation.protocol.get("left_out", {}).items():
            listeners.note(f"{name} is left out. {reason}")
        pictures = _pictures(judged, reference, request.choice.device, listeners) if request.pictures else None
        return Conducted(evaluation, judged, pictures)


def _reference(
    request: EvaluationRequest,
    judged: Judged,
    wanted: Wanted,
    needs: frozenset[str],
    stack: ExitStack,
    listeners: Listeners,
) -> PackImages | None:
    """Return the real images: those named, else those of the training; where these are away, nothing may need them."""
    if request.data is not None:
        if judged.config is not None:  # a limit of the recipe's is of its own data
            wanted = replace(wanted, request=replace(wanted.request, max_images=None))
        found = open_real(request.data, wanted, stack, count=request.reference_count, packing=listeners.packing)
    elif judged.config is not None:
        try:
            found = open_training_data(judged, wanted, stack, count=request.reference_count, packing=listeners.packing)
        except MissingDataError as error:
            if needs & {"reference", "labels"} or request.by_class:
                raise
            listeners.note(f"No real images stand beside the numbers. {error}")
            return None
        if found.to_dict().get("is_training_data") is False:
            described = found.to_dict()["description"]
            listeners.note(f"The images of {described} are not those that {judged.subject} was trained on (checksum).")
    else:
        return None
    for line in skipped_notes(found):
        listeners.note(line)
    return found


def _test(request: EvaluationRequest, wanted: Wanted, stack: ExitStack, listeners: Listeners) -> PackImages | None:
    if request.test_data is None:
        return None
    wanted = replace(wanted, request=replace(wanted.request, max_images=None))
    found = open_real(request.test_data, wanted, stack, packing=listeners.packing)
    for line in skipped_notes(found):
        listeners.note(line)
    return found


def _pictures(judged: Judged, reference: ImageSet | None, device: str, listeners: Listeners) -> ReportPictures:
    """Return what a report shows beside the numbers."""
    from ganzoo.evaluation.report import ReportPictures
    from ganzoo.inspection.neighbours import find_neighbours

    images, real, neighbours = judged.images, None, None
    if reference is not None:
        real = _first(reference, evenly(reference.count, _SHOWN))
        if reference.count > _NEIGHBOURS:
            neighbours = find_neighbours(
                images,
                reference,
                k=_NEIGHBOURS,
                count=min(_NEIGHBOURED, images.count),
                device=device,
                progress=listeners.progress,
            )
    return ReportPictures(_first(images, None), real, neighbours, _curves(judged.run))


def _first(images: ImageSet, indices: npt.NDArray[np.int64] | None) -> npt.NDArray[np.uint8]:
    chosen = images.read(0, min(_SHOWN, images.count)) if indices is None else images.gather(indices)
    shown: npt.NDArray[np.uint8] = chosen.numpy()
    return shown


def _curves(run: Path | None) -> dict[str, list[tuple[float, float]]] | None:
    """Return the numbers that were measured while a run was trained: name → (kimg, value)."""
    if run is None:
        return None
    from ganzoo.training.reporters import read_evaluations

    return read_evaluations(run) or None
