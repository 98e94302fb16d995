"""Weights files of models: networks from them and into them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn

from ganzoo.building import build_discriminator, build_generator
from ganzoo.errors import UsageError, WeightsError
from ganzoo.model_config import CONFIG, DISCRIMINATOR, GENERATOR, SCHEMA_VERSION, ModelConfig, parse_config
from ganzoo.tensors import check_finite, load_network, read_metadata, save_tensors

if TYPE_CHECKING:
    from ganzoo.recipes import Recipe

Network = Literal["generator", "discriminator"]

_DTYPES = {
    "fp32": torch.float32,
    "float32": torch.float32,
    "bf16": torch.bfloat16,
    "bfloat16": torch.bfloat16,
    "fp16": torch.float16,
    "float16": torch.float16,
}


def read_network(
    path: Path, config: ModelConfig, network: Network, device: torch.device, dtype: torch.dtype
) -> nn.Module:
    """Return a network of a config with the weights of a file, in eval mode, without gradients.

    Args:
        path: a weights file.
        config: whose network it is.
        network: which of the two.
        device, dtype: where and as what it is wanted.

    Raises:
        WeightsError: a file that is missing, damaged or of another network, tensors that do not fit, listed, or hold
            NaN or Inf; a recipe whose network cannot be built here.
        UnknownNameError: a network that is not installed here.
    """
    build = build_generator if network == "generator" else build_discriminator
    built = load_network(lambda: build(config.recipe), path).to(device, dtype)
    _check_says_the_same(path, config, network)
    check_finite(built.state_dict(), str(path))  # again: what float32 holds may be too large for float16
    return built.eval().requires_grad_(False)


def _check_says_the_same(path: Path, config: ModelConfig, network: Network) -> None:
    """Refuse a file whose metadata speak of another network than the config: its shapes alone may well be the same.

    Raises:
        WeightsError: they do.
    """
    metadata = read_metadata(path)
    if metadata.get("network", network) != network:
        raise WeightsError(f"{path} holds a {str(metadata['network'])[:40]}, and a {network} is wanted.")
    if "config" not in metadata:
        return
    own, wanted = parse_config(metadata["config"], str(path)).recipe, config.recipe
    if getattr(own, network) != getattr(wanted, network) or _image(own) != _image(wanted):
        raise WeightsError(
            f"{path} holds the weights of another {network} (recipe {own.name}) than {CONFIG} speaks of "
            f"(recipe {wanted.name}).",
            "Put the files together that belong together.",
        )


def _image(recipe: Recipe) -> tuple[int, int, int]:
    return recipe.data.image_size, recipe.data.channels, recipe.data.num_classes


def choose_dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    """Return the dtype of a name; float32 for None.

    Raises:
        UsageError: one that no network computes in.
    """
    named = _DTYPES.get(dtype) if isinstance(dtype, str) else torch.float32 if dtype is None else dtype
    if named not in _DTYPES.values():
        raise UsageError(f"A model cannot be of the dtype {dtype!r}.", "Use float32, bfloat16 or float16.")
    return cast(torch.dtype, named)


def save_model(folder: Path, config: ModelConfig, generator: nn.Module, discriminator: nn.Module | None) -> None:
    """Write config and weights into an existing folder; making it whole or absent (`atomic_folder`) is the caller's.

    Raises:
        OSError: it cannot be written.
    """
    (folder / CONFIG).write_text(config.to_json(), encoding="utf-8")
    save_tensors(folder / GENERATOR, generator.state_dict(), weights_metadata(config, "generator"))
    if discriminator is not None:
        save_tensors(folder / DISCRIMINATOR, discriminator.state_dict(), weights_metadata(config, "discriminator"))


def weights_metadata(config: ModelConfig, network: Network) -> dict[str, Any]:
    """Return what a weights file carries beside its tensors, so that it says what it is without its folder."""
    return {"schema_version": SCHEMA_VERSION, "network": network, "config": config.to_dict()}
