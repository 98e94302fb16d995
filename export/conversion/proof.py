"""What is proven of a conversion before its files take their names: that the tensors fit the networks, that these draw
and judge, and that what was written is what was to be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ganzoo.building import build_discriminator, build_generator
from ganzoo.errors import WeightsError
from ganzoo.export.conversion.fitting import State
from ganzoo.export.conversion.planning import Plan
from ganzoo.models import Model
from ganzoo.tensors import check_finite, load_strictly, read_tensors

_SEEDS = 8


def build_model(plan: Plan) -> Model:
    """Return the model of a plan, its tensors loaded strictly.

    Raises:
        WeightsError: they do not fit, or hold NaN or Inf.
    """
    recipe = plan.config.recipe
    networks = {"generator": build_generator(recipe)}
    if "discriminator" in plan.states:
        networks["discriminator"] = build_discriminator(recipe)
    for role, state in plan.states.items():
        check_finite(state, f"the {role}")
        load_strictly(networks[role], state, f"the {role}")
        networks[role].eval().requires_grad_(False)
    return Model(plan.config, networks["generator"], networks.get("discriminator"))


def images(model: Model) -> npt.NDArray[np.float32]:
    """Return the images of a few seeds: (8, C, H, W)."""
    return model.sample(seeds=range(_SEEDS)).numpy()


def check_draws(model: Model, source: str) -> None:
    """Refuse weights that draw nothing finite, or whose discriminator judges nothing.

    Raises:
        WeightsError: they do.
    """
    images = model.sample(seeds=range(_SEEDS))  # which refuses NaN and Inf itself
    if model.discriminator is not None:
        classes = model.config.recipe.data.num_classes
        label = [torch.zeros(len(images), dtype=torch.int64)] if classes else []
        with torch.inference_mode():
            logits = model.discriminator(images.as_subclass(torch.Tensor), *label)
        if not bool(torch.isfinite(logits).all()):
            raise WeightsError(f"The discriminator of {source} gives logits that are NaN or Inf.")


def compare(written: Path, state: State, path: Path) -> None:
    """Refuse a file that does not hold, bit by bit, what was to be written.

    Raises:
        WeightsError: it differs; the disk or its file system is broken.
    """
    again = read_tensors(written)[0]
    for name in sorted(state.keys() | again.keys()):
        if name not in again or name not in state or not _same_bits(state[name], again[name]):
            raise WeightsError(f"{path} was not written: read again, {name} is not what it was.", "Check the disk.")


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    first, second = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(first, second)
