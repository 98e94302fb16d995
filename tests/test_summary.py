"""Shapes, parameters and operations of networks, against the paper's numbers and against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ganzoo.building import build_generator, load_recipe
from ganzoo.recipes import list_recipes
from ganzoo.summary import summarize, summarize_network


def test_the_papers_networks_have_the_papers_numbers() -> None:
    summary = summarize(load_recipe("dcgan-lsun"))
    generator, discriminator = summary.generator, summary.discriminator
    assert round(generator.parameters / 1e6, 2) == 18.89
    assert round(discriminator.parameters / 1e6, 2) == 17.23
    assert round(generator.flops / 1e9, 3) == 1.281
    assert round(discriminator.flops / 1e9, 3) == 1.278
    assert (generator.input, generator.output) == ((100,), (3, 64, 64))
    assert (discriminator.input, discriminator.output) == ((3, 64, 64), ())


def test_a_step_costs_what_its_passes_cost() -> None:
    # Minibatches in turn for G and D. Backward costs one forward for the weights and one for the inputs.
    # G's update: G forward and backward (but for z), D forward and backward for the image.
    # D's update: G forward, D on two batches forward and backward (but for the images).
    recipe = load_recipe("dcgan-lsun")
    summary = summarize(recipe)
    generator, discriminator = summary.generator, summary.discriminator
    project = next(layer.flops for layer in generator.layers if layer.path == "project")
    first = next(layer.flops for layer in discriminator.layers if layer.path == "layers.0.conv")
    of_generator = 3 * generator.flops - project + 2 * discriminator.flops
    of_discriminator = generator.flops + 2 * (3 * discriminator.flops - first)
    assert summary.step_flops == pytest.approx((of_generator + of_discriminator) / 2, rel=1e-6)


def test_a_lazy_penalty_counts_for_its_share() -> None:
    base = ["discriminator.norm=none", "data.image_size=8", "discriminator.widths=[8]", "generator.widths=[8]"]

    def cost(*overrides: str) -> float:
        return summarize(load_recipe("dcgan-digits", [*base, *overrides])).step_flops

    plain = cost("penalty=[]")
    always = cost("penalty=[{where='real', rule='zero_centered', weight=1.0}]")
    lazy = cost("penalty=[{where='real', rule='zero_centered', weight=1.0, every=4}]")
    assert always > plain
    assert lazy - plain == pytest.approx((always - plain) / 4)


def test_torch_counts_the_same() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    recipe = load_recipe("dcgan-mnist-cond")
    with torch.device("meta"):
        network = build_generator(recipe).eval()
        z, label = torch.empty(2, recipe.generator.latent_dim), torch.zeros(2, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        network(z, label)
    assert counter.get_total_flops() == 2 * summarize(recipe).generator.flops


@pytest.mark.parametrize("name", list_recipes())
def test_the_rows_add_up_to_the_totals(name: str) -> None:
    summary = summarize(load_recipe(name))
    for network in (summary.generator, summary.discriminator):
        assert sum(layer.parameters for layer in network.layers) == network.parameters > 0
        assert sum(layer.flops for layer in network.layers) == network.flops > 0
    assert summary.step_flops > summary.generator.flops + summary.discriminator.flops


class _Odd(nn.Module):
    """Shared weights, a parameter of its own, operations outside any layer, spectral norm, an unused layer."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(3, 3)
        self.again = nn.Linear(3, 3)
        self.again.weight = self.shared.weight
        self.normed = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4, bias=False))
        self.gain = nn.Parameter(torch.ones(4, 5))
        self.unused = nn.Linear(7, 7)
        self.identity = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.normed(self.identity(self.again(self.shared(self.shared(x))))) @ self.gain
        return out


def test_an_odd_network_is_counted_rightly() -> None:
    with torch.device("meta"):
        network = _Odd().train()
        summary = summarize_network(network, (torch.empty(2, 3),), "odd")
    rows = {layer.path: layer for layer in summary.layers}
    assert set(rows) == {"shared", "again", "normed", "", "unused"}
    assert (rows["shared"].calls, rows["shared"].parameters, rows["shared"].flops) == (2, 12, 2 * 2 * 9)
    assert (rows["again"].parameters, rows["again"].flops) == (3, 2 * 9)
    assert (rows["normed"].type, rows["normed"].parameters, rows["normed"].output) == ("Linear", 12, ((4,),))
    assert (rows[""].parameters, rows[""].flops) == (20, 2 * 20)
    assert (rows["unused"].calls, rows["unused"].output, rows["unused"].parameters) == (0, (), 56)
    assert summary.parameters == sum(parameter.numel() for parameter in network.parameters()) == 12 + 3 + 12 + 20 + 56
    assert network.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
