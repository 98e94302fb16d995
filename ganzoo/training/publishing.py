"""What a training publishes: sample grids on its way, and at its end the pictures and the model folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ganzoo.card import model_card
from ganzoo.data import Pack
from ganzoo.files import atomic_folder
from ganzoo.models import ModelConfig, load_model, published_recipe, save_companions, save_model
from ganzoo.pictures import diversity, grid, save_curves, save_evolution, save_png
from ganzoo.randomness import Stream
from ganzoo.training.ema import estimate_batch_statistics
from ganzoo.training.feeder import fixed_latents, in_batches
from ganzoo.training.networks import desynchronised
from ganzoo.training.reporters import read_metrics
from ganzoo.training.run import Run
from ganzoo.training.step import Step

SNAPSHOT_IMAGES = 64
STATISTICS_IMAGES = 1024
"""z from which batch-norm statistics are estimated: at 7×7 and above, over 50,000 values a channel."""
_DATA_SAMPLE = 256


def standing_generator(step: Step) -> nn.Module:
    """Return a copy of the generator to judge, in eval mode, with batch-norm statistics that are its own."""
    generator = desynchronised(step.best_generator, step.recipe).eval().requires_grad_(False)
    z, label = fixed_latents(
        step.recipe, STATISTICS_IMAGES, Stream.STATISTICS, Stream.STATISTICS_LABEL, step.device, step.dtype
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
    with atomic_folder(run.model, replace=True) as folder:
        save_model(folder, config, standing_generator(step), step.discriminator)
        model = replace(
            load_model(folder, step.device),
            card=model_card(config, statistics),
            metrics={"schema_version": 1, "step": done, "kimg": kimg, "training": statistics},
        )
        save_companions(folder, model)


def data_diversity(pack: Pack) -> float:
    """Return the diversity of a sample of real images, taken evenly over the pack."""
    chosen = np.linspace(0, len(pack) - 1, min(_DATA_SAMPLE, len(pack))).astype(np.int64)
    return diversity(pack.gather(chosen).numpy())
