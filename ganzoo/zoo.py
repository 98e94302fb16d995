"""The zoo by name: which models there are, new ones from recipes, and published ones with their weights.

ganzoo.list_models("dcgan-*")
ganzoo.create_model("dcgan-mnist", generator={"widths": [64, 32]})       # random weights
ganzoo.load_pretrained("dcgan-mnist").sample(16).save("digits.png")
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ganzoo.errors import GanzooError, UnknownNameError
from ganzoo.model_config import CONFIG
from ganzoo.registry import natural_key

if TYPE_CHECKING:
    import torch

    from ganzoo.models import Model
    from ganzoo.recipes import Recipe


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Return the names of the zoo's models that match a shell pattern, in natural order.

    Args:
        pattern: such as "dcgan-*".
        pretrained: whether only those with published weights are wanted.
    """
    from ganzoo.recipes import list_recipes

    published = list_pretrained(pattern)
    return published if pretrained else sorted({*list_recipes(pattern), *published}, key=natural_key)


def list_pretrained(pattern: str = "*") -> list[str]:
    """Return the names of the models with published weights that match a shell pattern, in natural order."""
    from ganzoo.weights import published_models

    return sorted((name for name in published_models() if fnmatch.fnmatchcase(name, pattern)), key=natural_key)


@dataclass(frozen=True)
class PretrainedModel:
    """What a list says of a model with published weights.

    Args:
        name: by which it is loaded.
        recipe: the name of the recipe that it was trained by.
        images: what it draws: "28×28 grey, 10 classes".
        data: what it was trained on.
        licence: of its weights.
        bytes: size of its files.
        place: "packaged" with ganzoo, "cached" here, "remote": to be fetched, or "damaged": packaged, but its files
            are not what they should be, and there is nowhere to fetch them from.
    """

    name: str
    recipe: str
    images: str
    data: str
    licence: str
    bytes: int
    place: Literal["packaged", "cached", "remote", "damaged"]


def describe_pretrained(name: str) -> PretrainedModel:
    """Return what a list says of a model with published weights; nothing is fetched and torch is not imported.

    Raises:
        UnknownNameError: no model of that name has published weights.
    """
    from ganzoo.weights import cached_folder, differences, packaged_folder, published_models

    known = published_models()
    if name not in known:
        raise UnknownNameError("model with published weights", name, known)
    model = known[name]
    folder: Path | None = None
    place: Literal["packaged", "cached", "remote", "damaged"] = "remote"
    if model.packaged and not differences(packaged_folder(name), model, thoroughly=False):
        folder, place = packaged_folder(name), "packaged"
    elif not differences(cached_folder(model), model, thoroughly=False):
        folder, place = cached_folder(model), "cached"
    elif not model.urls:
        place = "damaged"
    return PretrainedModel(
        name, model.recipe, _images(model.recipe, folder), model.data, model.licence, model.bytes, place
    )


def _images(recipe: str, folder: Path | None) -> str:
    """Return what images a model draws, by its config where it is here, else by its recipe; "" where neither is."""
    from ganzoo.recipes import read_table
    from ganzoo.strict_json import read_json

    try:
        table = read_table(recipe)[0] if folder is None else read_json(folder / CONFIG, 4 << 20)["recipe"]
        data = table["data"]
        size, channels, classes = data["image_size"], data.get("channels", 3), data.get("num_classes", 0)
    except (GanzooError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""
    return f"{size}×{size} {'grey' if channels == 1 else 'RGB'}" + (f", {classes} classes" if classes else "")


def create_model(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe, /, *, seed: int | None = None, **overrides: Any
) -> Model:
    """Return a model with new, random weights: those that a training of the recipe with this seed begins with.

    Args:
        recipe: a recipe's name, the path of a TOML file, a table, or a `Recipe`.
        seed: of the weights, in [0, 2^63); None: the recipe's `train.seed`.
        overrides: changes of the recipe: tables, `generator={"widths": [64, 32]}`, or entries by their dotted names,
            `**{"data.image_size": 32}`.

    Raises:
        RecipeError: keys, types or combinations that cannot be, with the nearest that can.
        UnknownNameError: no recipe of that name.
    """
    from ganzoo.building import load_recipe
    from ganzoo.models import Model, ModelConfig, published_recipe
    from ganzoo.recipes import apply_changes
    from ganzoo.training.networks import build_networks

    asked = load_recipe(recipe)
    changes = dict(overrides) if seed is None else {**overrides, "train.seed": seed}
    if changes:
        asked = load_recipe(apply_changes(asked.to_dict(), changes, asked.name))
    generator, discriminator = (network.eval().requires_grad_(False) for network in build_networks(asked))
    return Model(ModelConfig(published_recipe(asked), "raw", 0, 0.0), generator, discriminator)


def load_pretrained(
    reference: str | os.PathLike[str] | None,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
) -> Model:
    """Return a trained model: networks in eval mode without gradients, its config and card, and `sample`.

    Args:
        reference: a zoo name ("dcgan-mnist"), "hf-hub:org/name@revision", a run or model folder, or a `.safetensors`
            file; `ganzoo.references` says how a text is read. None: the newest run.
        revision: of a model on the Hub: a branch, a tag or a commit.
        cache_dir: where fetched models are kept, instead of ganzoo's or the Hub's own cache.
        local_files_only: whether nothing may be fetched.
        force_download: whether what is here already is fetched anew.
        device: where its networks are wanted: "auto", "cpu", "cuda" …
        dtype: float32, bfloat16 or float16, a torch dtype or its name; None: float32.

    Raises:
        ModelReferenceError: the reference names nothing, could mean two things, or is an .onnx file.
        DownloadError: it cannot be fetched.
        WeightsError: it is damaged, or its tensors do not fit.
    """
    from ganzoo.references import resolve_model

    location = resolve_model(
        reference,
        revision=revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        force_download=force_download,
    )
    from ganzoo.models import load_model

    return load_model(location.path, device, dtype)
