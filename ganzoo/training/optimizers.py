"""Optimisers from recipes: torch's own, with settings that a schedule may change from step to step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ganzoo.recipes import OptimizerSection, Schedule, value_at

_ADAM, _RMSPROP = {"step", "exp_avg", "exp_avg_sq"}, {"step", "square_avg"}
"""What each optimiser remembers of a parameter."""


class ScheduledAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1) whose second beta is a tensor, so that a CUDA graph that has
    captured a step follows its schedule. torch's own reads such a tensor back from the device.

    Args:
        parameters: of one dtype.
        lr: 0-d, on their device.
        beta1: of the first moment.
        beta2: 0-d, float64, on their device.
        eps: added to the root of the second moment.
        l2: times the parameter is added to the gradient.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: torch.Tensor,
        beta1: float,
        beta2: torch.Tensor,
        eps: float,
        l2: float,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": l2})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Change the parameters that have gradients."""
        for group in self.param_groups:
            parameters: list[torch.Tensor] = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._change(parameters, group)

    def _change(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        (beta1, beta2), dtype = group["betas"], parameters[0].dtype
        entries = [self._entries(parameter) for parameter in parameters]
        steps, first, second = ([one[name] for one in entries] for name in ("step", "exp_avg", "exp_avg_sq"))
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
        torch._foreach_add_(steps, 1.0)
        torch._foreach_lerp_(first, gradients, 1.0 - beta1)
        torch._foreach_mul_(second, beta2.to(dtype))
        torch._foreach_addcmul_(second, torch._foreach_mul(gradients, (1.0 - beta2).to(dtype)), gradients)
        taken = torch.stack(steps).double()
        factor = (group["lr"].double() / (1.0 - beta1**taken)).to(dtype)  # lr / (1 - beta1^t)
        spread = (1.0 - beta2**taken).sqrt().to(dtype)  # sqrt(1 - beta2^t)
        divisors = list(torch._foreach_sqrt(second))
        torch._foreach_div_(divisors, list(spread.unbind()))
        torch._foreach_add_(divisors, group["eps"])
        torch._foreach_div_(divisors, list((-factor).unbind()))
        torch._foreach_addcdiv_(parameters, first, divisors)

    def _entries(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what is remembered of a parameter, under torch's names."""
        entries: dict[str, torch.Tensor] = self.state[parameter]
        if not entries:
            entries["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            entries["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            entries["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return entries


def make_optimizer(
    section: OptimizerSection, parameters: Iterable[nn.Parameter], *, capturable: bool = False
) -> torch.optim.Optimizer:
    """Return the optimiser of one network.

    `l2` is added to gradients as l2 · parameter (Kingma and Ba, arXiv 1412.6980, with L2 regularisation: not AdamW's
    decay).

    Args:
        section: this network's settings (`OptimizerSection.of`).
        parameters: of the network.
        capturable: whether everything that a schedule changes lies in tensors on the parameters' device
            (`scheduled_tensors`), so that a step can be captured in a CUDA graph.
    """
    parameters = list(parameters)
    device, rate = parameters[0].device, value_at(section.lr, 0.0)
    beta1, beta2 = section.betas
    lr = torch.tensor(rate, device=device)
    if section.name == "rmsprop":
        return torch.optim.RMSprop(
            parameters,
            lr=lr if capturable else rate,
            alpha=section.alpha,
            eps=section.eps,
            weight_decay=section.l2,
            foreach=capturable or None,  # only torch's foreach form leaves a tensor's rate on the device
            capturable=capturable,
        )
    if capturable and isinstance(beta2, Schedule):
        second = torch.tensor(beta2.at(0.0), dtype=torch.float64, device=device)
        return ScheduledAdam(parameters, lr, beta1, second, section.eps, section.l2)
    return torch.optim.Adam(
        parameters,
        lr=lr,
        betas=(beta1, value_at(beta2, 0.0)),
        eps=section.eps,
        weight_decay=section.l2,
        fused=True,
        capturable=capturable,
    )


def scheduled_tensors(
    optimizer: torch.optim.Optimizer, section: OptimizerSection
) -> list[tuple[torch.Tensor, float | Schedule]]:
    """Return the 0-d tensors of an optimiser that hold a number of the recipe, each with that number.

    Args:
        optimizer: from `make_optimizer`.
        section: what it was made from.
    """
    found: list[tuple[torch.Tensor, float | Schedule]] = []
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            found.append((group["lr"], section.lr))
        if isinstance(optimizer, ScheduledAdam):
            found.append((group["betas"][1], section.betas[1]))
    return found


def schedule_host(optimizer: torch.optim.Optimizer, section: OptimizerSection, kimg: float) -> float:
    """Set what a schedule changes and the host keeps to its value at this point, and return the learning rate.

    Args:
        optimizer: from `make_optimizer`.
        section: what it was made from.
        kimg: thousands of images drawn so far.
    """
    rate = value_at(section.lr, kimg)
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], torch.Tensor):
            group["lr"] = rate
        elif isinstance(optimizer, torch.optim.Adam):
            group["betas"] = (section.betas[0], value_at(section.betas[1], kimg))
    return rate


def schedule_optimizer(optimizer: torch.optim.Optimizer, section: OptimizerSection, kimg: float) -> float:
    """Set all that a schedule changes to its value at this point, and return the learning rate; see `schedule_host`."""
    for tensor, setting in scheduled_tensors(optimizer, section):
        tensor.fill_(value_at(setting, kimg))
    return schedule_host(optimizer, section, kimg)


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
    wanted = _RMSPROP if isinstance(optimizer, torch.optim.RMSprop) else _ADAM
    for name, found in entries.items():
        if found != wanted:
            raise RuntimeError(f"{name} has the entries {', '.join(sorted(found))}")
