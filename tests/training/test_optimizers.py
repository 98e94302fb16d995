"""Optimisers from recipes: their settings, their schedules, against the formulas of their papers; and their state."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from ganzoo.recipes import OptimizerSection, Recipe, Schedule, parse_recipe
from ganzoo.training.optimizers import (
    ScheduledAdam,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
    schedule_optimizer,
)

from tiny_runs import table  # isort: skip

GRADIENTS = (0.3, -1.5, 0.02, 4.0)


def section(**entries: Any) -> OptimizerSection:
    recipe: Recipe = parse_recipe(table(optimizer=entries))
    return recipe.optimizer


def run(chosen: OptimizerSection, kimg_a_step: float = 0.0, start: float = 0.7) -> list[float]:
    """The parameter after each of the gradients."""
    parameter = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = make_optimizer(chosen, [parameter])
    values = []
    for step, gradient in enumerate(GRADIENTS):
        schedule_optimizer(optimizer, chosen, step * kimg_a_step)
        parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
        values.append(parameter.item())
    return values


def adam(lr: Any, beta1: float, beta2: Any, eps: float, l2: float, start: float = 0.7) -> list[float]:
    """Kingma and Ba, arXiv 1412.6980, algorithm 1, with l2 · parameter added to the gradient."""
    value, first, second, values = start, 0.0, 0.0, []
    for step, gradient in enumerate(GRADIENTS):
        rate, late = lr(step), beta2(step)
        total = gradient + l2 * value
        first = beta1 * first + (1 - beta1) * total
        second = late * second + (1 - late) * total**2
        value -= rate * (first / (1 - beta1 ** (step + 1))) / (math.sqrt(second / (1 - late ** (step + 1))) + eps)
        values.append(value)
    return values


@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_adam_is_its_papers_with_l2_in_the_gradient(l2: float) -> None:
    chosen = section(lr=1e-2, betas=[0.5, 0.9], eps=1e-6, l2=l2)
    expected = adam(lambda _: 1e-2, 0.5, lambda _: 0.9, 1e-6, l2)
    assert run(chosen) == pytest.approx(expected, rel=1e-6)


def test_a_scheduled_rate_and_beta_are_those_of_each_step() -> None:
    chosen = section(
        lr={"schedule": "linear", "start": 1e-2, "end": 0.0, "kimg": 4.0},
        betas=[0.5, {"schedule": "linear", "start": 0.8, "end": 0.9, "kimg": 4.0}],
    )
    expected = adam(lambda step: 1e-2 * (1 - step / 4), 0.5, lambda step: 0.8 + 0.1 * step / 4, 1e-8, 0.0)
    assert run(chosen, kimg_a_step=1.0) == pytest.approx(expected, rel=1e-5)


def test_rmsprop_is_hintons_with_a_scheduled_rate() -> None:
    """Lecture 6e: the gradient over the root of the running mean of its square; torch adds eps to the root."""
    chosen = section(
        name="rmsprop", lr={"schedule": "cosine", "start": 1e-2, "end": 1e-3, "kimg": 3.0}, alpha=0.9, l2=0.1
    )
    value, square, expected = 0.7, 0.0, []
    for step, gradient in enumerate(GRADIENTS):
        total = gradient + 0.1 * value
        square = 0.9 * square + 0.1 * total**2
        rate = 1e-3 + 9e-3 * 0.5 * (1 + math.cos(math.pi * min(step / 3.0, 1.0)))
        value -= rate * total / (math.sqrt(square) + 1e-8)
        expected.append(value)
    assert run(chosen, kimg_a_step=1.0) == pytest.approx(expected, rel=1e-9)


def test_the_rate_of_the_moment_is_returned_and_set() -> None:
    chosen = section(lr={"schedule": "linear", "start": 1e-2, "end": 2e-2, "kimg": 10.0})
    optimizer = make_optimizer(chosen, [nn.Parameter(torch.zeros(1))])
    assert schedule_optimizer(optimizer, chosen, 5.0) == pytest.approx(1.5e-2)
    rate = optimizer.param_groups[0]["lr"]
    assert isinstance(rate, torch.Tensor)  # on the device: a captured graph sees its changes
    assert float(rate) == pytest.approx(1.5e-2)


def test_overrides_hold_for_their_network_alone() -> None:
    chosen = section(lr=1e-3, betas=[0.5, 0.9], l2=1e-5, discriminator={"lr": 4e-3}, generator={"betas": [0.0, 0.99]})
    generator, discriminator = chosen.of("generator"), chosen.of("discriminator")
    assert (generator.lr, generator.betas, generator.l2) == (1e-3, (0.0, 0.99), 1e-5)
    assert (discriminator.lr, discriminator.betas, discriminator.l2) == (4e-3, (0.5, 0.9), 1e-5)
    assert not isinstance(discriminator.lr, Schedule)


class Net(nn.Module):
    """Parameters in two layouts, and one without axes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 3, 3)
        self.gain = nn.Parameter(torch.tensor(1.5))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = (self.gain * self.convolution(x)).square().mean()
        return out


def stepped(network: Net, optimizer: torch.optim.Optimizer, seed: int) -> None:
    torch.manual_seed(seed)
    loss = network(torch.randn(2, 2, 5, 5))
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_the_state_goes_through_tensors_and_back(name: str) -> None:
    chosen = section(name=name, lr=1e-2)
    torch.manual_seed(0)
    one, other = Net(), Net()
    first, second = make_optimizer(chosen, one.parameters()), make_optimizer(chosen, other.parameters())
    assert optimizer_tensors(first, dict(one.named_parameters())) == {}
    for seed in range(3):
        stepped(one, first, seed)
    state = {key: value.clone() for key, value in optimizer_tensors(first, dict(one.named_parameters())).items()}
    moments = {"adam": {"exp_avg", "exp_avg_sq"}, "rmsprop": {"square_avg"}}[name]
    assert set(state) == {f"{key}/{entry}" for key, _ in one.named_parameters() for entry in moments | {"step"}}
    other.load_state_dict(one.state_dict())
    load_optimizer_tensors(
        second, dict(other.named_parameters()), {key: value.contiguous() for key, value in state.items()}
    )
    for parameter, entries in second.state.items():
        for value in entries.values():
            assert not value.dim() or value.stride() == parameter.stride()
    for seed in (7, 8):
        stepped(one, first, seed)
        stepped(other, second, seed)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def test_a_state_of_something_else_is_refused() -> None:
    chosen = section(lr=1e-2)
    network = Net()
    optimizer = make_optimizer(chosen, network.parameters())
    stepped(network, optimizer, 0)
    state = optimizer_tensors(optimizer, dict(network.named_parameters()))
    with pytest.raises(KeyError, match="other"):
        load_optimizer_tensors(optimizer, dict(network.named_parameters()), {"other/step": torch.ones(())})
    with pytest.raises(RuntimeError, match=r"convolution.bias/exp_avg has shape \(1,\), its parameter \(3,\)"):
        load_optimizer_tensors(
            optimizer, dict(network.named_parameters()), state | {"convolution.bias/exp_avg": torch.zeros(1)}
        )
    with pytest.raises(RuntimeError, match="gain has the entries step"):
        load_optimizer_tensors(optimizer, dict(network.named_parameters()), {"gain/step": torch.ones(())})


@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_adam_with_a_scheduled_beta_in_a_tensor_is_its_papers(l2: float) -> None:
    beta = {"schedule": "linear", "start": 0.5, "end": 0.9, "kimg": 4.0}
    chosen = section(lr={**beta, "start": 1e-2, "end": 1e-3}, betas=[0.5, beta], eps=1e-6, l2=l2)
    parameter = nn.Parameter(torch.tensor([0.7], dtype=torch.float64))
    optimizer = make_optimizer(chosen, [parameter], capturable=True)
    assert isinstance(optimizer, ScheduledAdam)
    values = []
    for step, gradient in enumerate(GRADIENTS):
        schedule_optimizer(optimizer, chosen, step)
        parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
        values.append(parameter.item())
    expected = adam(lambda step: 1e-2 - 0.9e-2 * step / 4, 0.5, lambda step: 0.5 + 0.4 * step / 4, 1e-6, l2)
    assert values == pytest.approx(expected, rel=1e-6)


def test_states_of_capturable_optimizers_are_those_of_the_others() -> None:
    beta = {"schedule": "linear", "start": 0.5, "end": 0.9, "kimg": 4.0}
    for entries in ({"lr": 1e-2, "betas": [0.5, beta]}, {"lr": 1e-2}):
        chosen, found = section(**entries), []
        for capturable in (False, True):
            parameter = nn.Parameter(torch.tensor([0.7]))
            optimizer = make_optimizer(chosen, [parameter], capturable=capturable)
            schedule_optimizer(optimizer, chosen, 0.0)
            parameter.grad = torch.full_like(parameter, 0.3)
            optimizer.step()
            state = optimizer_tensors(optimizer, {"weight": parameter})
            load_optimizer_tensors(optimizer, {"weight": parameter}, state)
            found.append({name: (value.dtype, value.shape, value.item()) for name, value in state.items()})
        assert found[0].keys() == found[1].keys()
        for name, (dtype, shape, value) in found[0].items():
            assert found[1][name][:2] == (dtype, shape)
            assert found[1][name][2] == pytest.approx(value, rel=1e-6)
