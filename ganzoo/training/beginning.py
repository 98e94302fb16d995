"""How a training begins or goes on: what killed processes left is cleared, and the newest whole checkpoint found."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ganzoo.errors import CheckpointError, WeightsError
from ganzoo.models import weights_sha256
from ganzoo.recipes import Recipe
from ganzoo.training.checkpoints import find_checkpoint, remove_dead_writes, steps_of
from ganzoo.training.publishing import evaluations, snapshots
from ganzoo.training.reporters import read_metrics, truncate_metrics
from ganzoo.training.run import Run, writing


def prepare(run: Run, processes: int) -> tuple[Path | None, tuple[str, ...]]:
    """Clear what killed processes left, and return the checkpoint to go on from and what the user should know.

    Args:
        run: the opened run folder.
        processes: how many train together now.

    Raises:
        CheckpointError: there were checkpoints beyond the start, and none is whole: to begin again from the start,
            unasked, would be the loss of what was trained.
        RunError: the run folder cannot be written.
    """
    with writing(run.path):
        remove_dead_writes(run.path)
        run.samples.mkdir(exist_ok=True)
    found, notes = find_checkpoint(run.path)
    if found is not None:
        return found, (*notes, *_not_bit_for_bit(run, processes))
    rows = read_metrics(run.metrics)
    trained = [*steps_of(run.path), *(row["step"] for row in rows if row["event"] == "checkpoint")]
    if max(trained, default=0) > 0:
        raise CheckpointError(
            f"The run {run.path} has no whole checkpoint left to go on from. {' '.join(notes)}".strip(),
            "Bring one back from a copy, or begin a new run with --out.",
        )
    return None, notes


def _not_bit_for_bit(run: Run, processes: int) -> Iterator[str]:
    """Yield a line for each thing that is allowed to differ from the run's start, but rounds differently."""
    began, now = run.facts.versions.get("torch"), importlib.metadata.version("torch")
    if began != now:
        yield f"The run was begun with torch {began}; with {now} it may not go on bit for bit as it would."
    if run.facts.processes != processes:
        before = f"{run.facts.processes} process{'es' if run.facts.processes > 1 else ''}"
        yield f"The run was begun with {before}; with {processes} it may not go on bit for bit as it would."


def initial_model(run: Run) -> Path | None:
    """Return the model that a run begins with, or None.

    Raises:
        WeightsError: it is not there any more, or is another by now.
    """
    init = run.facts.init
    if init is None:
        return None
    model = Path(init["model"])
    if weights_sha256(model) != init["sha256"]:
        raise WeightsError(
            f"{model}, whose weights the run {run.path} begins with, has other weights by now.",
            "Begin a new run with --out.",
        )
    return model


def clear_later_records(run: Run, done: int) -> bool:
    """Forget metrics, sample grids and evaluations of steps that are taken again.

    Args:
        run: the run.
        done: steps done in its checkpoint; -1 where there is none.

    Returns:
        Whether the metrics tell of that checkpoint.
    """
    with writing(run.path):
        truncate_metrics(run.metrics, done)
        for taken, path in (*snapshots(run), *evaluations(run)):
            if taken > done:
                path.unlink()
    return any(row["event"] == "checkpoint" and row["step"] == done for row in read_metrics(run.metrics))


@contextmanager
def torch_settings(recipe: Recipe) -> Iterator[None]:
    """Within it, torch's global switches are as the recipe asks, or as they are by default; afterwards as they were."""
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    benchmark, dtype, device = torch.backends.cudnn.benchmark, torch.get_default_dtype(), torch.get_default_device()
    on_cpu = contextlib.nullcontext() if device.type == "cpu" else torch.device("cpu")
    torch.use_deterministic_algorithms(recipe.train.deterministic)
    torch.backends.cudnn.benchmark = not recipe.train.deterministic
    torch.set_default_dtype(torch.float32)
    try:
        with on_cpu, torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        torch.set_default_dtype(dtype)
