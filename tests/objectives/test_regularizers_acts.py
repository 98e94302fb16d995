"""What is done beside the losses: weight clipping and top-k."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from ganzoo.objectives.regularizers.top_k import TopK
from ganzoo.objectives.regularizers.weight_clipping import WeightClipping

# ------------------------------------------------------------------ weight clipping


def critic() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 1))


def test_every_number_is_put_back_to_the_nearer_limit_and_others_stay() -> None:
    network = critic()
    before = {name: one.detach().clone() for name, one in network.named_parameters()}
    statistics = {name: one.clone() for name, one in network.named_buffers()}
    WeightClipping(limit=0.05).after_discriminator(network)
    changed = 0
    for name, one in network.named_parameters():
        np.testing.assert_array_equal(one.detach().numpy(), np.clip(before[name].numpy(), -0.05, 0.05))
        changed += int((one != before[name]).sum())
        assert one.requires_grad
        assert one.is_leaf
    assert changed > 20
    assert all(torch.equal(one, statistics[name]) for name, one in network.named_buffers())


def test_clipping_bounds_the_slope() -> None:
    # |D(x) - D(y)| <= prod of the layers' norms |x - y|, and clipped to c a layer of m inputs and n outputs has a norm
    # of at most c sqrt(m n).
    network = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    with torch.no_grad():
        for one in network.parameters():
            one.mul_(100.0)
    clipping = WeightClipping(limit=0.1)
    assert clipping.bounds_slope
    clipping.after_discriminator(network)
    x = torch.randn(200, 6, requires_grad=True)
    (slope,) = torch.autograd.grad(network(x).sum(), x)
    assert slope.norm(dim=1).max() <= 0.1**2 * (48**0.5) * (8**0.5)


def test_weights_with_spectral_norm_are_left_alone() -> None:
    network = nn.Sequential(spectral_norm(nn.Linear(4, 4)), nn.Linear(4, 1))
    with torch.no_grad():
        network[0].bias.fill_(3.0)
    original = network[0].parametrizations.weight.original.detach().clone()
    WeightClipping(limit=0.01).after_discriminator(network)
    assert torch.equal(network[0].parametrizations.weight.original, original)
    assert network[0].bias.abs().max() <= 0.01
    assert network[1].weight.abs().max() <= 0.01


def test_a_limit_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        WeightClipping(limit=0.0)


# ------------------------------------------------------------------ top-k


def test_the_images_with_the_highest_logits_are_kept_in_their_order() -> None:
    logits = torch.tensor([0.3, -2.0, 5.0, 1.0, -0.5, 0.0])
    kept = TopK(floor=0.5, decay=0.5, decay_kimg=1.0).keep(logits, 100.0)
    assert kept is not None
    assert kept.tolist() == [0, 2, 3]


def test_the_share_falls_by_the_decay_down_to_the_floor() -> None:
    regularizer = TopK(floor=0.5, decay=0.9, decay_kimg=10.0)
    shares = [regularizer.share(kimg) for kimg in (0.0, 10.0, 25.0, 60.0, 70.0, 1e6)]
    assert shares == pytest.approx([1.0, 0.9, 0.9**2.5, 0.9**6, 0.5, 0.5], rel=1e-12)


def test_the_papers_constants_reach_the_floor_after_69_epochs_of_cifar() -> None:
    regularizer = TopK()
    assert regularizer.share(50.0) == 0.99
    assert regularizer.share(68 * 50.0) > 0.5
    assert regularizer.share(69 * 50.0) == 0.5


def test_the_number_kept_never_grows_and_ends_at_the_floor() -> None:
    logits = torch.randn(64)
    counts: list[int] = []
    for kimg in np.linspace(0.0, 5000.0, 200):
        kept = TopK().keep(logits, float(kimg))
        counts.append(64 if kept is None else len(kept))
    assert counts[0] == 64
    assert counts[-1] == 32
    assert all(first >= second for first, second in itertools.pairwise(counts))
    assert set(counts) == set(range(32, 65))


def test_a_batch_of_one_keeps_its_image() -> None:
    assert TopK().keep(torch.zeros(1), 1e6) is None
    kept = TopK(floor=0.01).keep(torch.zeros(2), 1e9)
    assert kept is not None
    assert len(kept) == 1


@pytest.mark.parametrize(
    "options", [{"floor": 0.0}, {"floor": 1.5}, {"decay": 1.0}, {"decay": 0.0}, {"decay_kimg": 0.0}], ids=str
)
def test_shares_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        TopK(**options)
