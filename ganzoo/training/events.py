"""What the trainer says while it works. Reporters listen; nothing else in training prints.

Every event carries the position in training: `step` (rounds of updates done) and `kimg` (thousands of real images
drawn).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ganzoo.evaluation.results import Evaluation


@dataclass(frozen=True)
class Event:
    """Something that happened in training."""

    step: int
    kimg: float


@dataclass(frozen=True)
class Started(Event):
    """Training begins, or goes on.

    Args:
        run: the run folder.
        recipe: its name.
        total_steps: where it will end.
        total_kimg: likewise in thousands of images.
        device: "cpu", "cuda:0" …
        precision: "fp32" or "bf16".
        images: number of images in the data.
        resumed: whether it goes on from a checkpoint.
        parameters: numbers of parameters, {"generator": …, "discriminator": …}.
        processes: how many train together.
        engine: "eager": operation by operation, or "graph": replayed from CUDA graphs.
        notes: what the user should know, a line each.
    """

    run: Path
    recipe: str
    total_steps: int
    total_kimg: float
    device: str
    precision: str
    images: int
    resumed: bool
    parameters: Mapping[str, int]
    processes: int = 1
    engine: str = "eager"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress(Event):
    """Training is alive; sent about twice a second, without reading anything from the device.

    Args:
        images_per_second: real images drawn per second, over the last seconds.
        seconds_left: estimate.
    """

    images_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Tick(Event):
    """Statistics of the steps since the last tick.

    Args:
        statistics: name → mean over those steps. Always: "loss/discriminator", "loss/generator", "logits/real",
            "logits/fake", "logits/real_std", "logits/fake_std", "accuracy/real", "accuracy/fake" (shares of logits on
            the right side of the objective's boundary, or of the middle where it has none), "gradient/generator",
            "gradient/discriminator" (norms over all parameters), "lr/generator", "lr/discriminator"; "penalty/<name>"
            for each penalty (unweighted).
        images_per_second: over those steps.
        seconds: of training so far, over all resumptions.
    """

    statistics: Mapping[str, float]
    images_per_second: float
    seconds: float


@dataclass(frozen=True)
class Samples(Event):
    """A grid was drawn from the fixed z.

    Args:
        path: the PNG.
        images: (n, H, W, C) uint8, what the grid shows.
        diversity: mean pairwise distance between the images (root mean square over pixels in [-1, 1]).
    """

    path: Path
    images: npt.NDArray[np.uint8]
    diversity: float


@dataclass(frozen=True)
class Evaluating(Event):
    """The generator is being judged, or that is being prepared; sent about twice a second.

    Args:
        what: is being done.
        done: how much of it.
        total: of how much.
    """

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Evaluated(Event):
    """The generator was judged.

    Args:
        path: the file of the evaluation, JSON.
        evaluation: the numbers with their protocol.
        seconds: how long it took, which does not count as training.
    """

    path: Path
    evaluation: Evaluation
    seconds: float


@dataclass(frozen=True)
class Checkpoint(Event):
    """A checkpoint was written.

    Args:
        path: its folder.
        bytes: its size.
    """

    path: Path
    bytes: int


@dataclass(frozen=True)
class Alarm(Event):
    """Something looks wrong.

    Args:
        name: "discriminator_wins", "collapse", "vanishing_gradient", "evaluation_failed" …
        message: what is seen, with numbers, one line.
        advice: what to try, one line.
    """

    name: str
    message: str
    advice: str


@dataclass(frozen=True)
class Ended(Event):
    """Training is over.

    Args:
        run: the run folder.
        model: the model folder, or None where training was interrupted.
        seconds: of training, over all resumptions.
        reason: "done", "interrupted" or "not_finite".
        pictures: what was drawn at the end, name → path: "evolution", "curves".
    """

    run: Path
    model: Path | None
    seconds: float
    reason: str
    pictures: Mapping[str, Path] = field(default_factory=dict)


class Reporter(Protocol):
    """Listens to a training's events."""

    def __call__(self, event: Event) -> None:
        """Take notice of an event; an exception ends the training."""
