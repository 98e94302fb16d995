"""What a training publishes: sample grids on its way, and at its end the pictures and the model folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ganzoo.building import build_objective
from ganzoo.card import Metric, model_card
from ganzoo.data import Pack
from ganzoo.errors import CheckpointError, UsageError, WeightsError
from ganzoo.files import atomic_folder
from ganzoo.models import Model, ModelConfig, load_model, published_recipe, save_companions, save_model
from ganzoo.pictures import diversity, grid, save_curves, save_evolution, save_png
from ganzoo.randomness import Stream
from ganzoo.recipes import Recipe
from ganzoo.tensors import load_strictly
from ganzoo.training.checkpoints import choose_checkpoint, network_tensors
from ganzoo.training.ema import estimate_batch_statistics
from ganzoo.training.feeder import fixed_latents, in_batches
from ganzoo.training.networks import build_networks, desynchronised
from ganzoo.training.reporters import read_metrics
from ganzoo.training.rounds import make_round
from ganzoo.training.run import Run, open_run
from ganzoo.training.step import Step

SNAPSHOT_IMAGES = 64
STATISTICS_IMAGES = 1024
"""z from which batch-norm statistics are estimated: at 7×7 and above, over 50,000 values a channel."""
_DATA_SAMPLE = 256


def standing_generator(step: Step) -> nn.Module:
    """Return a copy of the generator to judge, in eval mode, with batch-norm statistics that are its own."""
    return _standing(step.best_generator, step.recipe)


def _standing(trained: nn.Module, recipe: Recipe) -> nn.Module:
    generator = desynchronised(trained, recipe).eval().requires_grad_(False)
    first = next(generator.parameters())
    z, label = fixed_latents(
        recipe, STATISTICS_IMAGES, Stream.STATISTICS, Stream.STATISTICS_LABEL, first.device, first.dtype
    )
    estimate_batch_statistics(generator, in_batches(z, label, 128))
    return generator


def draw_snapshot(step: Step) -> torch.Tensor:
    """Return the images of the z that stay the same through a run: (64, C, H, W) float32 in [-1, 1], on the CPU."""
    z, label = fixed_latents(
        step.recipe, SNAPSHOT_IMAGES, Stream.SNAPSHOT, Stream.SNAPSHOT_LABEL, step.device, step.dtype
    )
    generator = standing_generator(step)
    with torch.no_grad():
        images: torch.Tensor = generator(z) if label is None else generator(z, label)
    return images.float().cpu()


def save_snapshot(run: Run, done: int, images: npt.NDArray[np.uint8]) -> Path:
    """Write a run's sample grid of a step and return its file."""
    path = snapshot_path(run, done)
    save_png(grid(images), path)
    return path


def snapshot_path(run: Run, done: int) -> Path:
    """Return the file of a run's sample grid after so many steps."""
    return run.samples / f"step-{done:08d}.png"


def snapshots(run: Run) -> list[tuple[int, Path]]:
    """Return a run's sample grids as (steps done, file), in order."""
    return sorted((int(path.stem.removeprefix("step-")), path) for path in run.samples.glob("step-*.png"))


def evaluation_path(run: Run, done: int) -> Path:
    """Return the file of a run's evaluation after so many steps."""
    return run.evaluations / f"step-{done:08d}.json"


def evaluations(run: Run) -> list[tuple[int, Path]]:
    """Return the files of a run's evaluations as (steps done, file), in order."""
    return sorted((int(path.stem.removeprefix("step-")), path) for path in run.evaluations.glob("step-*.json"))


def draw_pictures(run: Run, images_per_step: int, data_diversity: float) -> dict[str, Path]:
    """Draw a run's evolution and curves and return name → file.

    Args:
        run: with sample grids and metrics.
        images_per_step: real images drawn by a round.
        data_diversity: `diversity` of real images.
    """
    pictures = {"evolution": run.path / "evolution.gif", "curves": run.path / "curves.png"}
    frames = snapshots(run)
    captions = [f"step {done:,}   {done * images_per_step / 1000:,.0f} kimg" for done, _ in frames]
    save_evolution([path for _, path in frames], captions, pictures["evolution"])
    save_curves(read_metrics(run.metrics), pictures["curves"], data_diversity=data_diversity, title=run.recipe.name)
    return pictures


def write_model(run: Run, step: Step, done: int, kimg: float, classes: tuple[str, ...]) -> None:
    """Write a run's model folder, whole or not at all.

    Args:
        run: whose model it is.
        step: the trained networks.
        done: steps done.
        kimg: thousands of real images drawn.
        classes: names of the data's classes.
    """
    config = ModelConfig(
        published_recipe(run.recipe),
        "ema" if step.ema is not None else "raw",
        done,
        kimg,
        dict(run.facts.data) | {"classes": list(classes)},
    )
    rows = [row for row in read_metrics(run.metrics) if row["event"] == "tick"]
    statistics = rows[-1]["statistics"] if rows else {}
    measured = _measured(run, done)
    fields = {"schema_version": 1, "step": done, "kimg": kimg, "training": statistics}
    with atomic_folder(run.model, replace=True) as folder:
        save_model(folder, config, standing_generator(step), step.discriminator)
        model = replace(
            load_model(folder, step.device),
            card=model_card(config, statistics, metrics=measured),
            metrics=fields | ({"metrics": measured} if measured else {}),
        )
        save_companions(folder, model)


def _measured(run: Run, done: int) -> list[Metric]:
    """Return the numbers of quality of what is published: those of the last step, never an earlier step's."""
    path = evaluation_path(run, done)
    if not path.is_file():
        return []
    from ganzoo.evaluation.report.model_card import card_metrics
    from ganzoo.evaluation.results import read_evaluation

    return card_metrics(read_evaluation(path))


def load_checkpoint_model(run: Path, step: int | None = None, weights: Literal["ema", "raw"] | None = None) -> Model:
    """Return the model that a run would have published at a checkpoint, on the CPU.

    Its batch-norm statistics are estimated as at publication, so that the last checkpoint of a run that was trained on
    the CPU gives, bit for bit, the run's own model.

    Args:
        run: the run folder, finished or not.
        step: of the checkpoint; None: the newest whole one.
        weights: "ema", the average; "raw", the trained generator itself; None: what the run publishes, the average
            where it keeps one.

    Raises:
        RunError: it is no run folder.
        CheckpointError: no such checkpoint, with those that there are, or a damaged one.
        UsageError: "ema" of a run that keeps no average.
    """
    opened = open_run(run)
    recipe = opened.recipe
    if weights == "ema" and not recipe.ema.enabled:
        raise UsageError(f"The run {run} keeps no average of its generator (EMA).", "Ask for the raw weights.")
    chosen: Literal["ema", "raw"] = weights or ("ema" if recipe.ema.enabled else "raw")
    folder = choose_checkpoint(run, step)
    tensors = network_tensors(folder)
    # In the memory format of training, on which the last bits of the statistics hang.
    generator, discriminator = (one.float().to(memory_format=torch.channels_last) for one in build_networks(recipe))
    try:
        load_strictly(generator, tensors.get("ema" if chosen == "ema" else "generator", {}), str(folder))
        load_strictly(discriminator, tensors.get("discriminator", {}), f"The discriminator of {folder}")
    except WeightsError as error:
        raise CheckpointError(f"The checkpoint {folder} does not fit the run: {error.message}") from error
    done = int(folder.name.removeprefix("step-"))
    kimg = done * make_round(recipe.train, build_objective(recipe).generator_uses_real).reals / 1000.0
    return Model(
        ModelConfig(published_recipe(recipe), chosen, done, kimg, dict(opened.facts.data)),
        _standing(generator, recipe).to(memory_format=torch.contiguous_format),
        discriminator.to(memory_format=torch.contiguous_format).eval().requires_grad_(False),
    )


def data_diversity(pack: Pack) -> float:
    """Return the diversity of a sample of real images, taken evenly over the pack."""
    chosen = np.linspace(0, len(pack) - 1, min(_DATA_SAMPLE, len(pack))).astype(np.int64)
    return diversity(pack.gather(chosen).numpy())
