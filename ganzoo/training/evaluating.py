"""The generator judged while it is trained, by what the recipe's `[evaluate]` asks for.

What is judged is what would be published: a copy of the average with batch-norm statistics of its own, by images of the
seeds from 0 on, beside images of the training. Nothing of the training is touched, and no random state of the process
either, so a training with evaluations takes the same steps to the last bit as one without.

What can be found out before the first step is: whether the features are here, and those of the training's images, which
are kept in the cache. What fails later, after hours, is told as an alarm, and the training goes on.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ganzoo.data import Pack
from ganzoo.errors import GanzooError, NotFiniteError, UsageError
from ganzoo.files import write_atomically
from ganzoo.models import Model, ModelConfig, published_recipe
from ganzoo.recipes import Recipe
from ganzoo.recipes.evaluation import OFF, asked_metrics
from ganzoo.sampling import TorchSampler
from ganzoo.tensors import content_sha256
from ganzoo.training.events import Alarm, Evaluated, Evaluating, Event
from ganzoo.training.publishing import evaluation_path, standing_generator
from ganzoo.training.reporters import read_metrics
from ganzoo.training.run import Run
from ganzoo.training.signals import StopRequest
from ganzoo.training.step import Step

if TYPE_CHECKING:
    from ganzoo.evaluation.image_sets import PackImages
    from ganzoo.evaluation.results import Evaluation

_TELL_SECONDS = 0.5
_LONGEST_REASON = 300  # characters of a stranger's exception


class _GivenUp(Exception):
    """A signal came while the generator was judged."""


class Evaluator:
    """Judges the generator of a run, in the first process.

    Args:
        run: the run folder; its recipe has `[evaluate]`.
        pack: the images of the training.
        device: where features are computed.
        emit: is told of progress, results and alarms.
        stop: looked at while it works; a signal makes it give up.
    """

    def __init__(
        self, run: Run, pack: Pack, device: torch.device, emit: Callable[[Event], None], stop: StopRequest
    ) -> None:
        assert run.recipe.evaluate is not None
        self._run, self._pack, self._device, self._emit, self._stop = run, pack, device, emit, stop
        self._section = run.recipe.evaluate
        self._told = 0.0
        self._broken: BaseException | None = None  # what a reporter raised: it ends the training, as everywhere
        self._at = (0, 0.0)  # step and kimg of the events

    def prepare(self, done: int, kimg: float) -> int:
        """Compute the features of the training's images, or find them in the cache.

        Args:
            done: steps done so far.
            kimg: thousands of real images drawn.

        Returns:
            The signal that made it give up; 0 where it is done.

        Raises:
            GanzooError: features that cannot be had, or not be kept.
        """
        from ganzoo.evaluation.extraction import reference_table

        self._at = done, kimg
        asked = [one for one in asked_metrics(self._run.recipe) if "reference" in one.metric.needs]
        try:
            with _aside(self._device):
                for name in dict.fromkeys(one.extractor for one in asked if one.extractor is not None):
                    reference_table(_open(name, self._device), self._reference(), progress=self._progress)
        except _GivenUp:
            return self._stop.number
        finally:
            _free(self._device)
        return 0

    def __call__(self, step: Step, done: int, kimg: float) -> int:
        """Judge the generator, write what was found and tell of it; what fails is told as an alarm.

        Args:
            step: with the networks.
            done: steps done so far.
            kimg: thousands of real images drawn.

        Returns:
            The signal that made it give up, with nothing written; 0 else.

        Raises:
            NotFiniteError: the generator draws NaN or Inf.
        """
        self._at = done, kimg
        begun = time.monotonic()
        try:
            with _aside(self._device):
                evaluation = self._evaluate(step, done, kimg)
            path = evaluation_path(self._run, done)
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, evaluation.to_json().encode())
        except _GivenUp:
            return self._stop.number
        except NotFiniteError:
            raise
        except Exception as error:  # of a third party's metric, or of the machine: not worth a training
            if error is self._broken:
                raise
            self._emit(_failed(error, done, kimg))
            return 0
        finally:
            _free(self._device)
        self._emit(Evaluated(done, kimg, path=path, evaluation=evaluation, seconds=time.monotonic() - begun))
        return 0

    def _evaluate(self, step: Step, done: int, kimg: float) -> Evaluation:
        from ganzoo.evaluation.image_sets import SampledImages
        from ganzoo.evaluation.measuring import evaluate_images

        recipe, data = self._run.recipe, self._run.facts.data
        # Not in the memory format of training: so the images are those of the published model to the last bit.
        generator = standing_generator(step).to(memory_format=torch.contiguous_format)
        config = ModelConfig(published_recipe(recipe), "ema" if step.ema is not None else "raw", done, kimg, data)
        tensors = {name: tensor.cpu() for name, tensor in generator.state_dict().items()}
        facts = {
            "recipe": recipe.name,
            "step": done,
            "kimg": kimg,
            "weights": config.weights,
            "checkpoint": f"step {done}",
            "generator_tensors_sha256": content_sha256(tensors, {}),
            "runtime": "torch",
            "precision": "fp32",
            "device": self._device.type,
            "trained_on": {key: data[key] for key in ("description", "content_sha256", "images")},
        }
        generated = SampledImages(
            _Watched(Model(config, generator, None), self._look),
            np.arange(self._section.images, dtype=np.uint64),
            description=recipe.name,
            facts=facts,
            classes=tuple(self._pack.classes) if recipe.data.labelled else (),
        )
        return evaluate_images(
            generated,
            self._reference(),
            metrics=self._section.metrics,
            features=self._section.features,
            device=str(self._device),
            subject=f"{recipe.name} after {done:,} steps",
            progress=self._progress,
        )

    def _reference(self) -> PackImages:
        from ganzoo.evaluation.image_sets import PackImages, evenly

        return PackImages(self._pack, evenly(len(self._pack), self._section.reference))

    def _progress(self, what: str, done: int, total: int) -> None:
        self._look()
        now = time.monotonic()
        if now - self._told >= _TELL_SECONDS:
            self._told = now
            try:
                self._emit(Evaluating(*self._at, what=what, done=done, total=total))
            except Exception as error:
                self._broken = error
                raise

    def _look(self) -> None:
        if self._stop:
            raise _GivenUp


class _Watched(TorchSampler):
    """Draws with a generator in training: looks for signals before each batch, and for NaN and Inf after it.

    Args:
        model: with the generator, which stays where it is.
        look: raises where it is time to stop.
    """

    def __init__(self, model: Model, look: Callable[[], None]) -> None:
        super().__init__(model, device=None)
        self._look = look

    def _draw(self, z: npt.NDArray[np.float32], label: npt.NDArray[np.int64] | None) -> npt.NDArray[np.float32]:
        self._look()
        images = super()._draw(z, label)
        if not np.isfinite(images).all():
            raise NotFiniteError("An image of the generator is not finite.")
        return images


def check_possible(recipe: Recipe, images: int, device: torch.device) -> None:
    """Refuse, before there is a run, an `[evaluate]` for which something is not here.

    Args:
        recipe: whose.
        images: of the training, how many there are.
        device: where features are computed.

    Raises:
        UsageError: fewer images of the training than a metric needs, or features that name no classes for one that
            looks at these.
        GanzooError: features that cannot be had.
    """
    asked = asked_metrics(recipe)
    for one in asked:
        if "reference" in one.metric.needs and images < one.metric.fewest:
            raise UsageError(
                f"The metric {one.name!r} of [evaluate] needs at least {one.metric.fewest:,} images of the training, "
                f"and there are {images:,}.",
                f"Choose another metric; {OFF}",
            )
    for name in dict.fromkeys(one.extractor for one in asked if one.extractor is not None):
        classes = _open(name, device).num_classes
        if not classes and any("logits" in one.metric.needs for one in asked if one.extractor == name):
            raise UsageError(
                f"A metric of [evaluate] looks at the classes that features name, and {name!r} name none.",
                f"Choose another metric or other features; {OFF}",
            )


def is_due(recipe: Recipe, done: int, last: int) -> bool:
    """Return whether the generator is judged after so many steps.

    Args:
        recipe: with or without `[evaluate]`.
        done: steps done.
        last: steps in all.
    """
    section = recipe.evaluate
    return section is not None and section.every > 0 and done > 0 and (done % section.every == 0 or done == last)


def was_evaluated(run: Run, done: int) -> bool:
    """Return whether a run's metrics tell of an evaluation after so many steps."""
    return any(row["event"] == "evaluation" and row["step"] == done for row in read_metrics(run.metrics))


def _open(name: str, device: torch.device) -> Any:
    from ganzoo.features.contract import open_extractor

    return open_extractor(name, device=str(device))


def _failed(error: Exception, done: int, kimg: float) -> Alarm:
    known = isinstance(error, GanzooError)
    reason = " ".join((error.message if isinstance(error, GanzooError) else f"{type(error).__name__}: {error}").split())
    remedy = error.remedy if isinstance(error, GanzooError) else None
    return Alarm(
        done,
        kimg,
        "evaluation_failed",
        f"The evaluation failed, and the training goes on: {reason[: None if known else _LONGEST_REASON]}",
        remedy or OFF,
    )


def _free(device: torch.device) -> None:
    """Give back the device's memory that the features took."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextlib.contextmanager
def _aside(device: torch.device) -> Iterator[None]:
    """Within it, random numbers may be drawn: afterwards torch, NumPy and Python draw on as if none had been.

    cuDNN does not choose its algorithms by trying them there, for that gives other last bits from run to run.
    """
    numpy_state, python_state, benchmark = np.random.get_state(), random.getstate(), torch.backends.cudnn.benchmark
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.backends.cudnn.benchmark = False
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = benchmark
            np.random.set_state(numpy_state)
            random.setstate(python_state)
