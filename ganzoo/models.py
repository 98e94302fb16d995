"""Model folders: what is published of a training, and how it is read again.

    config.json                 the recipe, which weights these are, what they were trained on
    generator.safetensors       the average's weights where the recipe keeps one
    discriminator.safetensors   optional
    README.md                   the card
    samples.png                 images of seeds 0 to 63
    metrics.json                the last statistics of training

Saving the same model twice gives the same bytes: no dates, no paths.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

import torch
from torch import nn

from ganzoo.building import build_discriminator, build_generator
from ganzoo.errors import RecipeError, UsageError, WeightsError
from ganzoo.files import sha256_of
from ganzoo.recipes import Recipe, parse_recipe
from ganzoo.registry import sources
from ganzoo.tensors import load_strictly, read_tensors, save_tensors

SCHEMA_VERSION = 1
CONFIG, GENERATOR, DISCRIMINATOR = "config.json", "generator.safetensors", "discriminator.safetensors"
_MAX_CONFIG_BYTES = 4 << 20


@dataclass(frozen=True)
class ModelConfig:
    """What a model folder's `config.json` says.

    Args:
        recipe: how it was trained; also what its networks are.
        weights: "ema" for an average, "raw" for the trained generator itself.
        step: rounds of updates that it was trained for.
        kimg: thousands of real images drawn.
        data: "description", "content_sha256", "images" and "classes" of its data.
    """

    recipe: Recipe
    weights: Literal["ema", "raw"]
    step: int
    kimg: float
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the text of `config.json`."""
        fields = {
            "schema_version": SCHEMA_VERSION,
            "recipe": self.recipe.to_dict(),
            "weights": self.weights,
            "step": self.step,
            "kimg": self.kimg,
            "data": dict(self.data),
        }
        return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Model:
    """A model in memory: networks in eval mode without gradients.

    Args:
        config: what they are.
        generator: z (and label) → image.
        discriminator: image (and label) → logit, where it was published.
    """

    config: ModelConfig
    generator: nn.Module
    discriminator: nn.Module | None


def published_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe as a model tells it: where its source is a path, only the path's last part remains, as "./NAME".

    So nothing of the machine that trained it gets out, and data that were moved give the same model.
    """
    source = recipe.data.source
    if source.partition(":")[0] in sources or not any(mark in source for mark in "/\\~"):
        return recipe
    name = PureWindowsPath(source).name  # of either kind of path
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"source": f"./{name}"})})


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 of a model's generator, and of its discriminator where it has one, in hexadecimal.

    Raises:
        WeightsError: they cannot be read.
    """
    files = [folder / GENERATOR, *(path for path in (folder / DISCRIMINATOR,) if path.exists())]
    try:
        return "+".join(sha256_of(path) for path in files)
    except OSError as error:
        raise WeightsError(f"{folder} cannot be read: {error.strerror}.") from error


def read_config(folder: Path) -> ModelConfig:
    """Return what a model folder's `config.json` says.

    Raises:
        WeightsError: there is none, it is damaged, or it was written by a newer ganzoo.
        UnknownNameError: it names a network that is not installed here.
    """
    path = folder / CONFIG
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise WeightsError(f"{path} is larger than 4 MiB: it is no model's config.")
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{folder} is no model folder: it has no {CONFIG}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read: {' '.join(str(error).split())}.") from error
    known = {"schema_version", "recipe", "weights", "step", "kimg", "data"}
    if not isinstance(fields, dict) or not isinstance(fields.get("schema_version"), int):
        raise WeightsError(f"{path} is not a model's config: it has no schema_version.")
    if fields["schema_version"] > SCHEMA_VERSION:
        raise WeightsError(
            f"{path}: schema_version = {fields['schema_version']} is newer than this ganzoo knows ({SCHEMA_VERSION}).",
            "Update ganzoo.",
        )
    if wrong := sorted(known ^ fields.keys()):
        raise WeightsError(f"{path}: these keys are missing or not known: {', '.join(wrong)}.")
    well = (
        isinstance(fields["recipe"], dict)
        and fields["weights"] in ("ema", "raw")
        and isinstance(fields["step"], int)
        and isinstance(fields["kimg"], int | float)
        and isinstance(fields["data"], dict)
    )
    if not well:
        raise WeightsError(f"{path}: recipe, weights, step, kimg or data is not what it should be.")
    try:
        recipe = parse_recipe(fields["recipe"], str(path))
    except RecipeError as error:
        raise WeightsError(error.message, error.remedy) from error
    return ModelConfig(recipe, fields["weights"], fields["step"], float(fields["kimg"]), fields["data"])


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> Model:
    """Return the model of a folder, in eval mode, without gradients.

    Args:
        folder: a model folder.
        device: where its networks are wanted.

    Raises:
        WeightsError: a file that is missing or damaged, or tensors that do not fit, listed.
    """
    folder = Path(folder)
    config = read_config(folder)
    try:
        generator = build_generator(config.recipe)
        discriminator = build_discriminator(config.recipe) if (folder / DISCRIMINATOR).exists() else None
    except UsageError as error:
        raise WeightsError(f"{folder}: {error.message}", error.remedy) from error
    load_strictly(generator, read_tensors(folder / GENERATOR)[0], str(folder / GENERATOR))
    if discriminator is not None:
        load_strictly(discriminator, read_tensors(folder / DISCRIMINATOR)[0], str(folder / DISCRIMINATOR))
        discriminator.to(device).eval().requires_grad_(False)
    return Model(config, generator.to(device).eval().requires_grad_(False), discriminator)


def save_model(folder: Path, config: ModelConfig, generator: nn.Module, discriminator: nn.Module | None) -> None:
    """Write config and weights into an existing folder; making it whole or absent (`atomic_folder`) is the caller's.

    Raises:
        OSError: it cannot be written.
    """
    metadata = {"recipe": config.recipe.name, "weights": config.weights, "step": config.step}
    (folder / CONFIG).write_text(config.to_json(), encoding="utf-8")
    save_tensors(folder / GENERATOR, generator.state_dict(), metadata)
    if discriminator is not None:
        save_tensors(folder / DISCRIMINATOR, discriminator.state_dict(), metadata)
