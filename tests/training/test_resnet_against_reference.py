"""Steps of the residual family against the independent float64 account of them (`reference_resnet.py`)."""

from __future__ import annotations

import pytest
from test_step_against_reference import Pair, Table, merged

TINY: Table = {
    "schema_version": 1,
    "name": "tiny",
    "data": {"source": "made-up", "image_size": 8, "channels": 3},
    "generator": {"name": "resnet", "latent_dim": 3, "widths": [3, 2, 4]},
    "discriminator": {"name": "resnet", "widths": [4, 5, 5], "downsample": [True, True, False]},
    "objective": {"name": "hinge"},
    "optimizer": {"lr": 1e-2, "betas": [0.5, 0.9], "eps": 1e-4},
    "ema": {"half_life_kimg": 0.01},
    "train": {"batch_size": 4, "kimg": 1},
}
CLASSES: Table = {"data": {"num_classes": 3}}
PENALTY: Table = {"penalty": [{"where": "line", "rule": "one_centered", "weight": 10.0}]}

CASES: dict[str, Table] = {
    "as SNGAN": {},
    "as WGAN-GP": merged(
        PENALTY, {"objective": {"name": "wasserstein"}, "discriminator": {"norm": "none", "pooling": "mean"}}
    ),
    "as torch-mimicry": {"generator": {"upsample": "bilinear"}, "discriminator": {"shortcut": "activated"}},
    "layer norm": merged(PENALTY, {"discriminator": {"norm": "layer", "norm_eps": 0.01}}),
    "layer norm, activated shortcut": {"discriminator": {"norm": "layer", "shortcut": "activated"}},
    "batch norm in both": {"generator": {"norm_eps": 0.1}, "discriminator": {"norm": "batch"}},
    "no norm": {"generator": {"norm": "none"}, "discriminator": {"norm": "none", "output_bias": False}},
    "slopes": {"generator": {"activation": "leaky_relu_0.3"}, "discriminator": {"activation": "leaky_relu_0.1"}},
    "other blocks": {
        "data": {"image_size": 12, "channels": 1},
        "generator": {"widths": [2, 3, 3]},
        "discriminator": {"widths": [3, 3, 2, 4], "downsample": [False, True, False, True]},
    },
    "one block": {"generator": {"widths": [3, 2]}, "discriminator": {"widths": [3], "downsample": [True]}},
    "classes": CLASSES,
    "classes beside z": merged(CLASSES, {"generator": {"norm": "none", "conditioning": "concat"}}),
    "classes beside z and batch norm": merged(CLASSES, {"generator": {"conditioning": "concat"}}),
    "classes unseen by the discriminator": merged(CLASSES, {"discriminator": {"conditioning": "none"}}),
    "classes, mean of layer norm": merged(CLASSES, {"discriminator": {"norm": "layer", "pooling": "mean"}}),
}


@pytest.mark.parametrize("case", CASES)
def test_networks_of_every_kind(case: str) -> None:
    Pair(merged(TINY, CASES[case])).run(0, 1)


@pytest.mark.parametrize("order", ["simultaneous", "alternate_minibatches"])
def test_statistics_shared_by_classes_in_other_orders_of_updates(order: str) -> None:
    Pair(merged(TINY, merged(CLASSES, {"train": {"update": order}, "objective": {"name": "relativistic"}}))).run(0, 1)
