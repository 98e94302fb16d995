"""The kind of numbers that weights are kept in (float32, float16, bfloat16), and what a change does to images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from ganzoo.errors import WeightsError
from ganzoo.export.conversion.planning import Plan
from ganzoo.export.conversion.proof import build_model, images

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""What can be asked for."""


def as_dtype(plan: Plan, dtype: str | None) -> tuple[Plan, float | None]:
    """Return a plan with its floating-point tensors in a kind of numbers, and how much that changes its images.

    Args:
        plan: what is to be written.
        dtype: of `DTYPES`; None: as they are, but what no network computes in (float64) as float32.

    Returns:
        The plan with a note, and the largest difference of a pixel on [-1, 1]; None where no digits were lost, or only
            those of float64.

    Raises:
        WeightsError: numbers too large for that kind.
    """
    states = {
        role: {name: _cast(name, tensor, dtype) for name, tensor in state.items()}
        for role, state in plan.states.items()
    }
    changed = [
        (_name_of(tensor.dtype), _name_of(states[role][name].dtype))
        for role, state in plan.states.items()
        for name, tensor in state.items()
        if states[role][name].dtype != tensor.dtype
    ]
    converted = replace(plan, states=states)
    if not changed:
        return converted, None
    before, after = (", ".join(sorted(set(side))) for side in zip(*changed, strict=True))
    why = "" if dtype else ", as ganzoo's networks compute"
    if after == "float32":
        exactly = "" if "float64" in before else ", exactly"
        return replace(converted, notes=(*plan.notes, f"{before} became {after}{exactly}{why}.")), None
    difference = float(np.abs(images(build_model(plan)) - images(build_model(converted))).max())
    note = f"{before} became {after}: pixels differ by at most {difference:.1e} on [-1, 1]."
    return replace(converted, notes=(*plan.notes, note)), difference


def _cast(name: str, tensor: torch.Tensor, dtype: str | None) -> torch.Tensor:
    plain = tensor.detach().contiguous()
    if not plain.is_floating_point():
        return plain
    wanted = DTYPES[dtype] if dtype else plain.dtype if plain.dtype in DTYPES.values() else torch.float32
    cast = plain.to(wanted)
    if not bool(torch.isfinite(cast).all()) and bool(torch.isfinite(plain).all()):
        raise WeightsError(
            f"{name} holds numbers up to {float(plain.abs().max()):.3g}, and {dtype or 'float32'} ends at "
            f"{torch.finfo(wanted).max:.3g}.",
            "Use --dtype bf16 or fp32.",
        )
    return cast


def kinds_of(plan: Plan) -> tuple[str, ...]:
    """Return the kinds of floating-point numbers in a plan: ("float32",)."""
    tensors = [tensor for state in plan.states.values() for tensor in state.values()]
    return tuple(sorted({_name_of(tensor.dtype) for tensor in tensors if tensor.is_floating_point()}))


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
