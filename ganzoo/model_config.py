"""What a model is, in words: `config.json` of a model folder, which every weights file carries in its metadata too.

This module imports neither torch nor pydantic; only reading a config does, for the recipe in it names networks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, Literal

from ganzoo.errors import RecipeError, WeightsError
from ganzoo.files import sha256_of
from ganzoo.reading import read_whole
from ganzoo.registry import sources
from ganzoo.strict_json import read_json

if TYPE_CHECKING:
    from ganzoo.recipes import Recipe

SCHEMA_VERSION = 1
CONFIG, GENERATOR, DISCRIMINATOR = "config.json", "generator.safetensors", "discriminator.safetensors"
CARD, SAMPLES, METRICS = "README.md", "samples.png", "metrics.json"

_KEYS = ("schema_version", "recipe", "weights", "step", "kimg", "licence", "data")
_OPTIONAL = ("licence",)  # configs of the first models have none
_MAX_CONFIG_BYTES = 4 << 20
_MAX_COMPANION_BYTES = 16 << 20


@dataclass(frozen=True)
class ModelConfig:
    """What a model folder's `config.json` says.

    Args:
        recipe: how it was trained; also what its networks are.
        weights: "ema" for an average, "raw" for the trained generator itself.
        step: rounds of updates that it was trained for.
        kimg: thousands of real images drawn.
        data: "description", "content_sha256", "images" and "classes" of its data.
        licence: of the weights, an SPDX identifier such as "Apache-2.0"; None where nobody stated one.
    """

    recipe: Recipe
    weights: Literal["ema", "raw"]
    step: int
    kimg: float
    data: Mapping[str, Any] = field(default_factory=dict)
    licence: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the object that `config.json` holds."""
        return {
            "schema_version": SCHEMA_VERSION,
            "recipe": self.recipe.to_dict(),
            "weights": self.weights,
            "step": self.step,
            "kimg": self.kimg,
            "licence": self.licence,
            "data": dict(self.data),
        }

    def to_json(self) -> str:
        """Return the text of `config.json`."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"


def parse_config(fields: object, where: str) -> ModelConfig:
    """Return the config that an object read from JSON holds.

    Args:
        fields: as `ModelConfig.to_dict` gives it.
        where: whose config it is, for messages.

    Raises:
        WeightsError: it is no config, or was written by a newer ganzoo.
        UnknownNameError: it names a network that is not installed here.
    """
    if not isinstance(fields, Mapping) or type(fields.get("schema_version")) is not int:
        raise WeightsError(f"{where} is not a model's config: it has no schema_version.")
    if fields["schema_version"] > SCHEMA_VERSION:
        raise WeightsError(
            f"{where}: schema_version = {fields['schema_version']} is newer than this ganzoo knows ({SCHEMA_VERSION}).",
            "Update ganzoo.",
        )
    if wrong := sorted(set(_KEYS) - set(_OPTIONAL) - fields.keys() | fields.keys() - set(_KEYS)):
        raise WeightsError(f"{where}: these keys are missing or not known: {_listed(wrong)}.")
    if wrong := [key for key in _KEYS[1:] if not _is_well(key, fields.get(key))]:
        raise WeightsError(f"{where}: {_listed(wrong)} {'is' if len(wrong) == 1 else 'are'} not what it should be.")
    from ganzoo.recipes import parse_recipe

    try:
        recipe = parse_recipe(fields["recipe"], where)
    except RecipeError as error:
        raise WeightsError(error.message, error.remedy) from error
    return ModelConfig(
        recipe=recipe,
        weights=fields["weights"],
        step=fields["step"],
        kimg=float(fields["kimg"]),
        data=fields["data"],
        licence=fields.get("licence"),
    )


def _is_well(key: str, value: Any) -> bool:
    """Return whether a key's value is of its kind; what is inside the recipe is checked elsewhere."""
    match key:
        case "recipe" | "data":
            return isinstance(value, Mapping)
        case "weights":
            return value in ("ema", "raw")
        case "step":
            return type(value) is int and 0 <= value < 1 << 63
        case "kimg":
            return type(value) in (int, float) and 0 <= value <= 1 << 62
        case _:
            return value is None or isinstance(value, str)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(_short(name) for name in names[:8]) + more


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def read_config(folder: Path) -> ModelConfig:
    """Return what a model folder's `config.json` says.

    Raises:
        WeightsError: there is none, it is damaged, or it was written by a newer ganzoo.
        UnknownNameError: it names a network that is not installed here.
    """
    path = folder / CONFIG
    try:
        fields = read_json(path, _MAX_CONFIG_BYTES)
    except FileNotFoundError:
        raise WeightsError(f"{folder} is no model folder: it has no {CONFIG}.") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    return parse_config(fields, str(path))


def config_of_weights(path: Path, metadata: Mapping[str, Any]) -> ModelConfig:
    """Return the config of a generator's weights file: the one that it carries, else the one that lies beside it.

    Args:
        path: the file.
        metadata: what ganzoo wrote into it beside its tensors.

    Raises:
        WeightsError: it is a discriminator's, has no config, or a damaged one.
        UnknownNameError: it names a network that is not installed here.
    """
    network = metadata.get("network", "generator")
    if network != "generator":
        raise WeightsError(
            f"{path} holds a {_short(network)}, and images are drawn with a generator.", "Name the folder."
        )
    if "config" in metadata:
        return parse_config(metadata["config"], str(path))
    if (path.parent / CONFIG).is_file():
        return read_config(path.parent)
    raise WeightsError(
        f"{path} does not say what network it is: it carries no config, and no {CONFIG} lies beside it.",
        f"Recognise it by its tensors: ganzoo convert {path} DST",
    )


def read_card(path: Path) -> str:
    """Return the text of a card; "" where there is none.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        return read_whole(path, _MAX_COMPANION_BYTES).decode("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def read_metrics(path: Path) -> dict[str, Any]:
    """Return what a model's metrics.json says; nothing where there is none.

    Raises:
        WeightsError: it is damaged.
    """
    try:
        metrics = read_json(path, _MAX_COMPANION_BYTES)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if not isinstance(metrics, dict):
        raise WeightsError(f"{path} holds no metrics: it is no JSON object.")
    return metrics


def weights_sha256(path: Path) -> str:
    """Return the SHA-256 of a model's generator, and of its discriminator where it has one, in hexadecimal.

    Args:
        path: a model folder, or a `.safetensors` file.

    Raises:
        WeightsError: they cannot be read.
    """
    files = [path] if path.is_file() else [path / GENERATOR]
    files += [one for one in (path / DISCRIMINATOR,) if one.exists()]
    try:
        return "+".join(sha256_of(one) for one in files)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from error


def published_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe as a model tells it: where its source is a path, only the path's last part remains, as "./NAME".

    So nothing of the machine that trained it gets out, and data that were moved give the same model.
    """
    source = recipe.data.source
    if source.partition(":")[0] in sources or not any(mark in source for mark in "/\\~"):
        return recipe
    name = PureWindowsPath(source).name  # of either kind of path
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"source": f"./{name}"})})
