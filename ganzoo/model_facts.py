"""What can be said of a model without drawing with it: its config, its files, what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ganzoo import registry
from ganzoo.card import Metric, card_numbers
from ganzoo.errors import WeightsError
from ganzoo.files import sha256_of
from ganzoo.model_config import (
    DISCRIMINATOR,
    GENERATOR,
    METRICS,
    ModelConfig,
    config_of_weights,
    parse_config,
    read_config,
    read_metrics,
)
from ganzoo.tensor_headers import read_metadata

if TYPE_CHECKING:
    from ganzoo.references import ModelLocation


@dataclass(frozen=True)
class ModelFacts:
    """What can be said of a model.

    Args:
        config: what it is.
        sha256: file → SHA-256 of its bytes.
        bytes: file → size.
        form: of an ONNX file, its precision, pixels, layout and the SHA-256 of the weights that it was exported from.
        metrics: measured numbers of image quality, each with its protocol.
    """

    config: ModelConfig
    sha256: Mapping[str, str]
    bytes: Mapping[str, int]
    form: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[Metric] = ()


def model_facts(location: ModelLocation) -> ModelFacts:
    """Return what can be said of a model.

    Args:
        location: from `ganzoo.references.resolve_model`.

    Raises:
        WeightsError: it cannot be read, or does not say what it is.
        UnknownNameError: it names a network that is not installed here.
    """
    path = location.path
    if location.kind == "folder":
        files = [one for one in (path / GENERATOR, path / DISCRIMINATOR) if one == path / GENERATOR or one.exists()]
        config = read_config(path)
        for one in files:
            read_metadata(one)  # what is no weights file is refused, and not told of as though it were one
        return ModelFacts(config, *_digests(files), metrics=_metrics(path / METRICS))
    if location.kind == "safetensors":
        return ModelFacts(config_of_weights(path, read_metadata(path)), *_digests([path]))
    metadata = registry.samplers.get("onnx")(path, provider="cpu").metadata
    form = {
        "precision": metadata.precision,
        "pixels": metadata.pixels,
        "layout": metadata.layout,
        "exported from sha256": metadata.weights_sha256,
    }
    return ModelFacts(parse_config(metadata.config, str(path)), *_digests([path]), form)


def _metrics(path: Path) -> list[Metric]:
    return card_numbers(read_metrics(path))[1]


def _digests(files: list[Path]) -> tuple[dict[str, str], dict[str, int]]:
    try:
        return {one.name: sha256_of(one) for one in files}, {one.name: one.stat().st_size for one in files}
    except OSError as error:
        raise WeightsError(f"{error.filename} cannot be read: {error.strerror}.") from error
