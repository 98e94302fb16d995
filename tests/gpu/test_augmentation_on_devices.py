"""Augmentation on a GPU: the CPU's images and gradients, repeatable where torch is set to be, the host not asked.

The CPU's twins run everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from ganzoo import registry

both_devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
every_augmentation = pytest.mark.parametrize(
    ("name", "options"),
    [("ada", {}), ("ada", {"filter": 1.0, "noise": 1.0, "cutout": 1.0}), ("diffaugment", {}), ("flip", {})],
    ids=["ada", "ada-corrupting", "diffaugment", "flip"],
)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was)


def given(name: str, options: dict[str, Any], device: str, batch: int = 16) -> tuple[Any, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(6)
    augmentation = registry.augmentations.get(name)(**options)
    image = torch.rand(batch, 3, 16, 16, generator=generator) * 2.0 - 1.0
    numbers = torch.rand(batch, augmentation.numbers, generator=generator)
    return augmentation, image.to(device), numbers.to(device), torch.tensor(0.8, device=device)


def penalised(augmentation: Any, image: Tensor, numbers: Tensor, probability: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Changed images, a gradient through them, and a gradient of that gradient's square."""
    image = image.detach().requires_grad_()
    changed = augmentation(image, numbers, probability)
    (gradient,) = torch.autograd.grad(torch.tanh(changed).sum(), image, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), image)
    return changed.detach(), gradient.detach(), second


@both_devices
@every_augmentation
@pytest.mark.parametrize("fixed", [False, True], ids=["fast", "deterministic"])
def test_every_device_draws_the_cpus_images_and_gradients(
    name: str, options: dict[str, Any], device: str, fixed: bool
) -> None:
    wanted = penalised(*given(name, options, "cpu"))
    with deterministic(fixed):
        for seen, expected in zip(penalised(*given(name, options, device)), wanted, strict=True):
            torch.testing.assert_close(seen.cpu(), expected, atol=1e-3, rtol=1e-3)


@both_devices
@every_augmentation
def test_it_is_repeatable_to_the_bit_where_torch_is_set_to_be(name: str, options: dict[str, Any], device: str) -> None:
    arguments = given(name, options, device, batch=64)
    with deterministic(True):
        first = penalised(*arguments)
        for _ in range(3):
            assert all(torch.equal(one, other) for one, other in zip(first, penalised(*arguments), strict=True))


@pytest.mark.gpu
@every_augmentation
def test_it_can_be_captured_in_a_cuda_graph_and_follows_what_its_inputs_become(
    name: str, options: dict[str, Any]
) -> None:
    augmentation, image, numbers, probability = given(name, options, "cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            penalised(augmentation, image, numbers, probability)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = penalised(augmentation, image, numbers, probability)
    image.copy_(image.flip(0))
    numbers.copy_(numbers.roll(1, 0))
    probability.fill_(0.5)
    graph.replay()
    torch.cuda.synchronize()
    for seen, expected in zip(captured, penalised(augmentation, image, numbers, probability), strict=True):
        torch.testing.assert_close(seen, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
@every_augmentation
def test_nothing_is_read_back(name: str, options: dict[str, Any]) -> None:
    arguments = given(name, options, "cuda")
    penalised(*arguments)  # fills the caches of constant matrices
    torch.cuda.set_sync_debug_mode("error")
    try:
        penalised(*arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")
