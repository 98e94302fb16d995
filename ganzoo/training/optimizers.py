"""Optimisers from recipes: torch's own, with settings that a schedule may change from step to step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from ganzoo.recipes import OptimizerSection, value_at

_ENTRIES: dict[type[torch.optim.Optimizer], set[str]] = {
    torch.optim.Adam: {"step", "exp_avg", "exp_avg_sq"},
    torch.optim.RMSprop: {"step", "square_avg"},
}
"""What each optimiser remembers of a parameter."""


def make_optimizer(section: OptimizerSection, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser of one network.

    `l2` is added to gradients as l2 · parameter (Kingma and Ba, arXiv 1412.6980, with L2 regularisation: not AdamW's
    decay).

    Args:
        section: this network's settings (`OptimizerSection.of`).
        parameters: of the network.
    """
    parameters = list(parameters)
    if section.name == "rmsprop":
        return torch.optim.RMSprop(
            parameters, lr=value_at(section.lr, 0.0), alpha=section.alpha, eps=section.eps, weight_decay=section.l2
        )
    beta1, beta2 = section.betas
    return torch.optim.Adam(
        parameters,
        lr=torch.tensor(value_at(section.lr, 0.0), device=parameters[0].device),
        betas=(beta1, value_at(beta2, 0.0)),
        eps=section.eps,
        weight_decay=section.l2,
        fused=True,
    )


def schedule_optimizer(optimizer: torch.optim.Optimizer, section: OptimizerSection, kimg: float) -> float:
    """Set what the recipe schedules to its value at this point, and return the learning rate.

    Args:
        optimizer: from `make_optimizer`.
        section: what it was made from.
        kimg: thousands of images drawn so far.
    """
    lr = value_at(section.lr, kimg)
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
            group["betas"] = (section.betas[0], value_at(section.betas[1], kimg))
        else:
            group["lr"] = lr
    return lr


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, torch.Tensor]:
    """Return the optimiser's state as "parameter name/entry" → tensor; empty before the first step.

    Args:
        optimizer: of these parameters.
        parameters: name → parameter.
    """
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in parameters.items()}
    return {
        f"{names[parameter]}/{entry}": value
        for parameter, entries in optimizer.state.items()
        for entry, value in entries.items()
        if isinstance(value, torch.Tensor)
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Put back what `optimizer_tensors` returned.

    Raises:
        KeyError: an entry of a parameter that is not there.
        RuntimeError: an entry of another shape than its parameter, or entries of another optimiser.
    """
    entries: dict[str, set[str]] = {}
    optimizer.state.clear()
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        parameter = parameters[name]
        if entry != "step" and value.shape != parameter.shape:
            raise RuntimeError(f"{key} has shape {tuple(value.shape)}, its parameter {tuple(parameter.shape)}")
        if not value.is_floating_point() or (entry == "step" and value.dim()):
            raise RuntimeError(f"{key} is {value.dtype} of shape {tuple(value.shape)}")
        # `step` stays where it was saved; moments take their parameter's layout, as the optimiser itself makes them.
        if entry != "step":
            value = torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(value)
        optimizer.state[parameter][entry] = value.to(parameter.device)
        entries.setdefault(name, set()).add(entry)
    for name, found in entries.items():
        if found != _ENTRIES[type(optimizer)]:
            raise RuntimeError(f"{name} has the entries {', '.join(sorted(found))}")
