"""Networks as shapes alone: the same names and shapes, no memory, and nothing imported that takes seconds."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from tiny_runs import recipe
from torch import nn

from ganzoo.building import build_discriminator, build_generator
from ganzoo.shapes import shapes_only

INITIALISATIONS = ["normal_0.02", "he", "orthogonal", "glorot_uniform"]


@pytest.mark.parametrize("init", INITIALISATIONS)
@pytest.mark.parametrize("norm", ["batch", "none", "spectral"])
def test_a_network_has_the_names_kinds_and_shapes_that_it_has_with_memory(init: str, norm: str) -> None:
    changes: dict[str, Any] = {f"{one}__init": init for one in ("generator", "discriminator")}
    made = recipe(**changes, generator__norm=norm, discriminator__norm=norm)
    for build in (build_generator, build_discriminator):
        with shapes_only():
            shapes = build(made).state_dict()
        real = build(made).state_dict()
        assert {name: (one.shape, one.dtype) for name, one in shapes.items()} == {
            name: (one.shape, one.dtype) for name, one in real.items()
        }
        assert all(one.is_meta for one in shapes.values())


def test_a_layer_larger_than_any_memory_is_made_at_once() -> None:
    with shapes_only():
        layer = nn.Linear(10**6, 10**9)
        nn.init.normal_(layer.weight)
    assert layer.weight.shape == (10**9, 10**6)


def test_what_has_memory_is_drawn_within_it_and_everything_after_it() -> None:
    with shapes_only():
        drawn = torch.zeros(8, device="cpu").normal_()
    assert drawn.abs().sum() > 0
    assert torch.zeros(8).normal_().abs().sum() > 0
    assert torch.zeros(1).device.type == "cpu"


@pytest.mark.parametrize("name", ["dcgan-mnist", "sngan-resnet-cifar10"])
def test_a_recipe_is_checked_without_torchs_compiler(name: str) -> None:
    program = (
        f"import sys, ganzoo; ganzoo.load_recipe({name!r}); "
        "print('torch' in sys.modules, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
