"""The average of the generator: its half-life, ramp, buffers, and batch-norm statistics estimated anew."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import recipe, tensors
from torch import nn

from ganzoo.building import build_generator
from ganzoo.randomness import Stream
from ganzoo.recipes import EMASection, Schedule
from ganzoo.training.ema import EMA, ema_weight, estimate_batch_statistics
from ganzoo.training.feeder import fixed_latents, in_batches

CPU = torch.device("cpu")


def test_after_its_half_life_half_of_the_past_is_forgotten() -> None:
    section = EMASection(half_life_kimg=0.5)
    kept = math.prod(1.0 - ema_weight(section, 0.1 * step, 100) for step in range(5))
    assert kept == pytest.approx(0.5, rel=1e-12)
    assert ema_weight(section, 3.0, 500) == pytest.approx(0.5, rel=1e-12)
    assert ema_weight(section, 3.0, 250) == pytest.approx(1.0 - math.sqrt(0.5), rel=1e-12)


def test_the_weight_does_not_hang_on_the_batch_size() -> None:
    """Two steps of 32 forget what one of 64 forgets: the half-life is in images."""
    section = EMASection(half_life_kimg=2.0)
    one, half = 1.0 - ema_weight(section, 1.0, 64), 1.0 - ema_weight(section, 1.0, 32)
    assert half * half == pytest.approx(one, rel=1e-12)


def test_with_a_ramp_the_half_life_is_a_share_of_what_was_drawn() -> None:
    section = EMASection(half_life_kimg=10.0, ramp=0.05)
    assert ema_weight(section, 0.0, 4) == 1.0  # at first the average is the generator
    assert ema_weight(section, 20.0, 1000) == pytest.approx(0.5, rel=1e-12)  # 0.05 of 20
    assert ema_weight(section, 10_000.0, 10_000) == pytest.approx(0.5, rel=1e-12)  # 10 is the bound


def test_a_scheduled_half_life_is_that_of_the_moment() -> None:
    section = EMASection(half_life_kimg=Schedule(schedule="linear", start=1.0, end=3.0, kimg=10.0))
    assert ema_weight(section, 5.0, 2000) == pytest.approx(0.5, rel=1e-12)


class Counting(nn.Module):
    """A network with parameters and buffers of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(2))


def test_the_average_is_the_weighted_sum_and_buffers_are_copied() -> None:
    torch.manual_seed(0)
    network = Counting()
    average = EMA(network)
    expected = {name: value.detach().double() for name, value in network.named_parameters()}
    for weight in (0.1, 0.5, 0.25):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
            network.get_buffer("seen").add_(1)
            network.get_buffer("mean").normal_()
        average.update(torch.tensor(weight))
        for name, value in network.named_parameters():
            expected[name] = (1 - weight) * expected[name] + weight * value.detach().double()
    for name, value in average.network.named_parameters():
        assert torch.allclose(value.double(), expected[name], atol=1e-6)
        assert not value.requires_grad
    assert int(average.network.get_buffer("seen")) == 3
    assert torch.equal(average.network.get_buffer("mean"), network.get_buffer("mean"))


def test_a_weight_of_one_makes_it_equal_and_zero_leaves_it() -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    average = EMA(network)
    before = tensors(average.network)
    with torch.no_grad():
        network.weight.normal_()
    average.update(torch.tensor(0.0))
    assert all(torch.equal(value, before[name]) for name, value in average.network.state_dict().items())
    average.update(torch.tensor(1.0))
    assert torch.allclose(average.network.weight, network.weight, atol=1e-7)


def test_it_begins_as_a_copy_of_its_own_and_leaves_the_network_as_it_is() -> None:
    network = nn.Linear(3, 2).train()
    average = EMA(network)
    assert torch.equal(average.network.weight, network.weight)
    assert average.network.weight.data_ptr() != network.weight.data_ptr()
    assert network.training
    assert network.weight.requires_grad
    assert not average.network.training


# ---------------------------------------------------------------------------------------------------- statistics


def generator(**changes: Any) -> nn.Module:
    torch.manual_seed(1)
    return build_generator(recipe(**changes)).eval().requires_grad_(False)


def batches(count: int, size: int, **changes: Any) -> Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor | None]]]:
    z, label = fixed_latents(recipe(**changes), count, Stream.STATISTICS, Stream.STATISTICS_LABEL, CPU, torch.float32)
    return lambda: in_batches(z, label, size)


def inputs_of_norms(network: nn.Module, feed: Callable[[], Iterator[Any]]) -> list[torch.Tensor]:
    """What each batch norm is given, (values, channels) in float64, when all use the statistics of one batch."""
    found: dict[int, torch.Tensor] = {}
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    hooks = [
        norm.register_forward_pre_hook(
            lambda _, inputs, at=at: found.__setitem__(at, inputs[0].double().transpose(0, 1).flatten(1).T)  # type: ignore[misc]
        )
        for at, norm in enumerate(norms)
    ]
    trained = network.train()
    (batch,) = list(feed())
    trained(*[one for one in batch if one is not None])
    for hook in hooks:
        hook.remove()
    return [found[at] for at in range(len(norms))]


@pytest.mark.parametrize("classes", [0, 3])
def test_estimated_statistics_are_those_of_the_images_of_many_z(classes: int) -> None:
    """In one batch: exactly its mean and unbiased variance, layer by layer."""
    network = generator(data__num_classes=classes)
    feed = batches(600, 600, data__num_classes=classes)
    true = inputs_of_norms(copy.deepcopy(network), feed)
    estimate_batch_statistics(network, feed())
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == len(true) == 2
    for norm, values in zip(norms, true, strict=True):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert torch.allclose(norm.running_mean.double(), values.mean(0), atol=1e-5)
        assert torch.allclose(norm.running_var.double(), values.var(0), rtol=1e-4)


def test_several_batches_are_averaged_alike_whatever_was_there_before() -> None:
    one, other = generator(), generator()
    for norm in other.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None:
            norm.running_mean.fill_(99.0)
    feed = batches(512, 128)
    estimate_batch_statistics(one, feed())
    estimate_batch_statistics(other, feed())
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    whole = generator()
    estimate_batch_statistics(whole, batches(512, 512)())
    for name, value in one.state_dict().items():
        if name.endswith("running_mean"):
            spread = float(whole.state_dict()[name.replace("mean", "var")].sqrt().max())
            assert torch.allclose(value, whole.state_dict()[name], atol=0.2 * spread)


def test_estimating_changes_nothing_but_the_statistics() -> None:
    network = generator()
    before = tensors(network)
    modes = {name: module.training for name, module in network.named_modules()}
    momenta = {name: module.momentum for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    estimate_batch_statistics(network, batches(64, 64)())
    assert modes == {name: module.training for name, module in network.named_modules()}
    assert momenta == {
        name: module.momentum for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)
    }
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.rsplit(".", 1)[1] in ("running_mean", "running_var", "num_batches_tracked") for name in changed)


def test_a_network_without_batch_norm_is_left_as_it_is_and_not_even_run() -> None:
    network = generator(generator__norm="none")
    before = tensors(network)

    def never() -> Iterator[tuple[torch.Tensor, None]]:
        raise AssertionError("nothing is to be drawn")
        yield

    estimate_batch_statistics(network, never())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_with_its_statistics_an_image_does_not_hang_on_its_batch_mates() -> None:
    network = generator()
    estimate_batch_statistics(network, batches(256, 128)())
    z = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32))
    assert torch.allclose(network(z)[2:3], network(z[2:3]), atol=1e-6)
