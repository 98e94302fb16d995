"""The test kit's promises of generators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ganzoo.testing.cases import NetworkCase, class_counts
from ganzoo.testing.holding import BrokenPromise, hold
from ganzoo.testing.promises import BEFORE_OTHERS, OF_BOTH, Promises


def check_generator(
    factory: Callable[..., nn.Module],
    *,
    image_size: int = 32,
    channels: int = 3,
    latent_dim: int = 16,
    num_classes: int | None = None,
    batch_size: int = 4,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Hold a generator to its contract: `forward(z, label=None)` gives images, in eval mode in [-1, 1], and all of
    `GENERATOR_PROMISES`.

    Args:
        factory: the class.
        image_size: side of the square image in pixels, one that the network can make.
        channels: of the image, 1 or 3.
        latent_dim: length of z.
        num_classes: what to try; by default 0, and 3 too where the constructor takes `num_classes`.
        batch_size: at least 2.
        options: the constructor's other arguments, as a recipe's `[generator]` gives them; small widths make it fast.

    Raises:
        PluginError: a promise is not kept; the message names it, with the numbers.
    """
    given = {"image_size": image_size, "channels": channels, "latent_dim": latent_dim}
    shape = (channels, image_size, image_size)
    for classes in class_counts(factory, num_classes):
        case = NetworkCase("generator", factory, given, dict(options or {}), classes, batch_size, (latent_dim,), shape)
        hold(case.title, case, GENERATOR_PROMISES)


def _range(case: NetworkCase) -> None:
    with torch.no_grad():
        networks = (case.build().eval(), *(case.wild(seed) for seed in range(4)))
        largest = max(float(network(*case.inputs()).nan_to_num(0.0).abs().max()) for network in networks)
    if largest > 1.0 + 1e-6:
        raise BrokenPromise(
            f"with random parameters a pixel is {largest:.4g} in eval mode, outside of [-1, 1]",
            "End with tanh, or clamp in eval mode.",
        )


def _latent(case: NetworkCase) -> None:
    network = case.stirred(training=False)
    with torch.no_grad():
        one, other = network(*case.inputs(seed=2)), network(*case.inputs(seed=5))
    same = (one == other).flatten(1).all(dim=1)
    if bool(same.any()):
        raise BrokenPromise(f"{int(same.sum())} of {len(same)} images do not change with z", "Use z in forward.")


GENERATOR_PROMISES: Promises = {
    **BEFORE_OTHERS,
    "range": _range,
    "latent": _latent,
    **OF_BOTH,
}
"""What a generator promises, in the order in which it is checked; the comments of `DISCRIMINATOR_PROMISES` hold here
too.

"range": in eval mode images are in [-1, 1] whatever the parameters; in training mode they may leave it. "latent": they
change with z.
"""
