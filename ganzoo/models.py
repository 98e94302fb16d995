"""Models: what is published of a training, how it is read again, and drawing images with it.

    config.json                 the recipe, which weights these are, what they were trained on, their licence
    generator.safetensors       the average's weights where the recipe keeps one
    discriminator.safetensors   optional
    README.md                   the card
    samples.png                 images of seeds 0 to 63
    metrics.json                what was measured

Each weights file carries the whole config in its metadata, so that a generator taken out of its folder still says what
it is. Saving the same model twice gives the same bytes: no dates, no paths.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ganzoo.card import card_numbers, model_card
from ganzoo.devices import choose_device
from ganzoo.errors import ModelReferenceError, UsageError
from ganzoo.files import atomic_folder
from ganzoo.images import Images
from ganzoo.model_config import (
    CARD,
    CONFIG,
    DISCRIMINATOR,
    GENERATOR,
    METRICS,
    SAMPLES,
    ModelConfig,
    config_of_weights,
    parse_config,
    published_recipe,
    read_card,
    read_config,
    read_metrics,
    weights_sha256,
)
from ganzoo.model_files import (
    choose_dtype,
    read_network,
    save_model,
    weights_metadata,
)
from ganzoo.references import kind_of_file
from ganzoo.sampling import TorchSampler
from ganzoo.seeds import MAX_SEEDS, as_seeds, choose_labels
from ganzoo.tensors import read_metadata

__all__ = [
    "CONFIG",
    "DISCRIMINATOR",
    "GENERATOR",
    "Images",
    "Model",
    "ModelConfig",
    "load_model",
    "parse_config",
    "published_recipe",
    "read_config",
    "save_companions",
    "save_model",
    "weights_metadata",
    "weights_sha256",
]

CARD_SEEDS = np.arange(64)
"""The seeds of `samples.png`; with classes, each column is one class in turn."""


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A model in memory: networks in eval mode without gradients.

    Args:
        config: what they are.
        generator: z (and label) → image.
        discriminator: image (and label) → logit, where it was published.
        card: the Markdown text of its README.md; "" where there is none.
        path: the folder or file that it was read from; None where it was made here.
        metrics: what its metrics.json holds.
    """

    config: ModelConfig
    generator: nn.Module
    discriminator: nn.Module | None
    card: str = ""
    path: Path | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        data, z = self.config.recipe.data, self.config.recipe.generator
        classes = f", {data.num_classes} classes" if data.num_classes else ""
        return (
            f"<Model {self.config.recipe.name}: z of {z.latent_dim}, {z.prior} → "
            f"{data.channels}×{data.image_size}×{data.image_size}{classes}>"
        )

    def sample(
        self,
        n: int | None = None,
        *,
        seeds: npt.ArrayLike | None = None,
        seed: int = 0,
        labels: npt.ArrayLike | None = None,
        truncation: float | None = None,
        batch_size: int = 64,
    ) -> Images:
        """Return images: (n, channels, image_size, image_size), float32 in [-1, 1], on the CPU.

        `sample(n, seed=s)` is `sample(seeds=range(s, s + n))`, and a seed's image is the same whatever is drawn beside
        it. They are drawn where the generator is, in its kind of floating point.

        Args:
            n: how many.
            seeds: (n,), whole numbers in [0, 2^64), instead of `n`.
            seed: the first of `n` seeds.
            labels: (n,), classes of a conditional model, or one for all; None: each seed names its own.
            truncation: psi in (0, 1], by which z is multiplied: more typical images, less varied ones. None and 1
                change nothing.
            batch_size: how many are drawn at once.

        Raises:
            UsageError: both or neither of `n` and `seeds`; a number, seed, label, truncation or batch size that cannot
                be.
        """
        chosen = as_seeds(_seeds(n, seeds, seed))
        label = choose_labels(chosen, labels, self.config.recipe.data.num_classes)
        sampler = TorchSampler(self, device=None)
        return Images.of(sampler.sample(chosen, label, truncation=truncation, batch_size=batch_size), chosen, label)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the model folder, whole or not at all, and return its path. The same model gives the same bytes.

        The card and the metrics are those that the model has; samples.png is drawn anew.

        Args:
            folder: where; it must not exist, or be a model folder, which is replaced.

        Raises:
            UsageError: something else is there.
            OSError: it cannot be written.
        """
        target = Path(folder)
        if target.exists() and not (target / CONFIG).is_file() and not _is_empty(target):
            raise UsageError(f"{target} exists and is no model folder.", "Choose another folder.")
        with atomic_folder(target, replace=True) as temporary:
            save_model(temporary, self.config, self.generator, self.discriminator)
            save_companions(temporary, self)
        return target

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool = False,
        token: str | None = None,
        revision: str | None = None,
        message: str | None = None,
        licence: str | None = None,
    ) -> str:
        """Publish the model folder on the Hugging Face Hub and return its URL.

        Args:
            repo: "org/name"; made where it does not exist.
            private: whether a new one is private.
            token: of the Hub; None: the one that `hf auth login` keeps.
            revision: the branch; None: main.
            message: of the commit.
            licence: of the weights, an SPDX identifier; None: the config's.

        Raises:
            MissingDependencyError: huggingface_hub is not installed.
            GanzooError: the Hub cannot be reached, or refuses.
        """
        from ganzoo.hub import push_model

        more = {} if message is None else {"message": message}
        with tempfile.TemporaryDirectory(prefix="ganzoo-") as temporary:
            folder = self.save(Path(temporary) / "model")
            return push_model(folder, repo, private=private, token=token, revision=revision, licence=licence, **more)


def load_model(
    path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
) -> Model:
    """Return a model, in eval mode, without gradients.

    Args:
        path: a model folder, or a generator's `.safetensors` file that carries its config or lies beside it.
        device: where its networks are wanted: "auto", "cpu", "cuda" …
        dtype: float32, bfloat16 or float16, a torch dtype or its name; None: float32, whatever the file holds.

    Raises:
        UsageError: no such device or dtype.
        WeightsError: a file that is missing, damaged or no model, or tensors that do not fit, listed.
        UnknownNameError: it names a network that is not installed here.
    """
    path = Path(path)
    place = choose_device(device) if isinstance(device, str) else device
    kind = choose_dtype(dtype)
    if path.is_file():
        return _load_file(path, place, kind)
    config = read_config(path)
    generator = read_network(path / GENERATOR, config, "generator", place, kind)
    there = (path / DISCRIMINATOR).exists()
    discriminator = read_network(path / DISCRIMINATOR, config, "discriminator", place, kind) if there else None
    return Model(config, generator, discriminator, read_card(path / CARD), path, read_metrics(path / METRICS))


def _load_file(path: Path, device: torch.device, dtype: torch.dtype) -> Model:
    """Return the model of a single weights file."""
    if kind_of_file(path) == "onnx":
        raise ModelReferenceError(
            f"{path} is an ONNX file, which holds no torch weights.",
            f"Draw with it: ganzoo.export.OnnxSampler({str(path)!r}), or `ganzoo sample {path}`.",
        )
    config = config_of_weights(path, read_metadata(path))
    return Model(config, read_network(path, config, "generator", device, dtype), None, path=path)


def save_companions(folder: Path, model: Model) -> None:
    """Write card, pictures and metrics of a model into an existing folder.

    Args:
        folder: a model folder with config and weights.
        model: whose they are; where it has no card, one is made.

    Raises:
        OSError: they cannot be written.
    """
    classes = model.config.recipe.data.num_classes
    images = model.sample(seeds=CARD_SEEDS, labels=CARD_SEEDS % classes if classes else None)
    images.save(folder / SAMPLES)
    if model.metrics:
        text = json.dumps(dict(model.metrics), indent=2, sort_keys=True)
        (folder / METRICS).write_text(text + "\n", encoding="utf-8")
    card = model.card
    if not card:
        statistics, metrics = card_numbers(model.metrics)
        card = model_card(model.config, statistics, metrics=metrics)
    (folder / CARD).write_bytes(card.encode("utf-8"))


def _seeds(n: int | None, seeds: npt.ArrayLike | None, seed: int) -> npt.ArrayLike:
    """Return the seeds that the arguments of `Model.sample` name."""
    if (n is None) == (seeds is None):
        given = "Neither `n` nor `seeds` is" if n is None else "Both `n` and `seeds` are"
        raise UsageError(f"{given} given.", "Say how many, sample(16), or which, sample(seeds=[7, 9]).")
    if n is None:
        if seed != 0:
            raise UsageError(f"`seed` (={seed!r}) is the first of `n` seeds, and `seeds` names each.", "Leave it out.")
        return cast(npt.ArrayLike, seeds)
    whole = all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in (n, seed))
    if not whole or not 0 <= n <= MAX_SEEDS or not 0 <= seed <= (1 << 64) - n:
        raise UsageError(
            f"`n` (={n!r}) images from `seed` (={seed!r}) cannot be drawn.",
            f"`n` is a whole number up to {MAX_SEEDS:,}, seeds are in [0, 2^64).",
        )
    return np.arange(n, dtype=np.uint64) + np.uint64(seed)


def _is_empty(path: Path) -> bool:
    return path.is_dir() and next(path.iterdir(), None) is None
