"""What an exported ONNX file says of itself, read strictly; `outputs.py` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ganzoo.errors import WeightsError
from ganzoo.strict_json import parse_json

SCHEMA_VERSION = 1
METADATA_KEY = "ganzoo"
EXPORT_AGAIN = "Export the model again: ganzoo export MODEL --onnx"
_LARGEST = 1 << 20  # of any size


@dataclass(frozen=True)
class OnnxMetadata:
    """What an exported file says of itself.

    Args:
        recipe: the name of the recipe.
        weights_sha256: of the weights that it was exported from.
        licence: of the weights, or None where nobody stated one.
        precision: "fp32", "fp16" or "int8".
        pixels: "float" for images in [-1, 1], "uint8" for 0 to 255.
        layout: "nchw" or "nhwc".
        config: the model's `config.json`.
        image_size, channels, num_classes, latent_dim, prior: as `ganzoo.sampling.Sampler` has them.
    """

    recipe: str
    weights_sha256: str
    licence: str | None
    precision: str
    pixels: str
    layout: str
    config: Mapping[str, Any]
    image_size: int
    channels: int
    num_classes: int
    latent_dim: int
    prior: str


def read_metadata(found: Mapping[str, str], where: str) -> OnnxMetadata:
    """Return what an exported file says of itself.

    Args:
        found: the custom metadata of the file.
        where: whose they are, for messages.

    Raises:
        WeightsError: it is none of ganzoo's, or a newer ganzoo wrote it.
    """
    if METADATA_KEY not in found:
        raise WeightsError(
            f"{where} was not exported by ganzoo: its metadata have no entry {METADATA_KEY!r}.",
            "Convert the weights that it was made from (ganzoo convert), then ganzoo export MODEL --onnx.",
        )
    try:
        fields = parse_json(found[METADATA_KEY].encode("utf-8", errors="surrogatepass"))
    except ValueError as error:
        raise _damaged(where, str(error)) from error
    if not isinstance(fields, dict) or type(fields.get("schema_version")) is not int:
        raise _damaged(where, "they have no schema_version")
    if fields["schema_version"] > SCHEMA_VERSION:
        raise WeightsError(
            f"{where}: schema_version = {fields['schema_version']} is newer than this ganzoo knows ({SCHEMA_VERSION}).",
            "Update ganzoo.",
        )
    try:
        return _metadata(fields)
    except KeyError as error:
        raise WeightsError(
            f"The metadata of {where} are damaged: they have no {error.args[0]}.", EXPORT_AGAIN
        ) from error
    except ValueError as error:
        raise _damaged(where, str(error)) from error


def _damaged(where: str, reason: str) -> WeightsError:
    return WeightsError(f"The metadata of {where} are damaged: {reason}.", EXPORT_AGAIN)


def _metadata(fields: Mapping[str, Any]) -> OnnxMetadata:
    data = _of_kind(_of_kind(_of_kind(fields, "config", dict), "recipe", dict), "data", dict)
    z = _of_kind(fields, "z", dict)
    return OnnxMetadata(
        recipe=_of_kind(fields, "recipe", str),
        weights_sha256=_of_kind(fields, "weights_sha256", str),
        licence=None if fields.get("licence") is None else _of_kind(fields, "licence", str),
        precision=_of_kind(fields, "precision", str),
        pixels=_one_of(fields, "pixels", ("float", "uint8")),
        layout=_one_of(fields, "layout", ("nchw", "nhwc")),
        config=fields["config"],
        image_size=_whole(data, "image_size", 1),
        channels=_whole(data, "channels", 1),
        num_classes=_whole(data, "num_classes", 0),
        latent_dim=_whole(z, "latent_dim", 1),
        prior=_one_of(z, "prior", ("uniform", "normal")),
    )


def _of_kind(fields: Mapping[str, Any], key: str, kind: type) -> Any:
    value = fields[key]
    if type(value) is not kind:
        raise ValueError(f"{key} is no {kind.__name__}")
    return value


def _one_of(fields: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    if (value := fields[key]) not in allowed:
        raise ValueError(f"{key} is not one of {', '.join(allowed)}")
    return str(value)


def _whole(fields: Mapping[str, Any], key: str, least: int) -> int:
    value: int = _of_kind(fields, key, int)
    if not least <= value < _LARGEST:
        raise ValueError(f"{key} = {value} cannot be")
    return value
