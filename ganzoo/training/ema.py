"""The exponential moving average of a generator, and batch-norm statistics estimated anew.

The average's weights are a mixture of many past generators, so running statistics of any one of them do not fit it:
before it is judged or saved, the statistics of its batch norms are estimated from z of a fixed stream ("standing
statistics").
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ganzoo.recipes import EMASection, value_at


def ema_weight(section: EMASection, kimg: float, images: int) -> float:
    """Return how much of the current weights enters the average at one step: 1 - 0.5^(images / half-life).

    Args:
        section: the recipe's `[ema]`.
        kimg: thousands of images drawn so far.
        images: drawn by this step.
    """
    half_life = value_at(section.half_life_kimg, kimg)
    if section.ramp:
        half_life = min(half_life, section.ramp * kimg)
    return 1.0 - math.pow(0.5, images / max(half_life * 1000.0, 1e-8))


class EMA:
    """An exponential moving average of a network's parameters; buffers are copied.

    Args:
        network: what is averaged. The average starts as its copy.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._averages: list[torch.Tensor] = list(self.network.parameters())
        self._current: list[torch.Tensor] = list(network.parameters())
        self._buffers = (list(self.network.buffers()), list(network.buffers()))

    @torch.no_grad()
    def update(self, weight: torch.Tensor) -> None:
        """Move the average towards the network.

        Args:
            weight: 0-d, the share of the current weights; 1 makes the average equal to them.
        """
        difference = list(torch._foreach_sub(self._current, self._averages))
        torch._foreach_mul_(difference, weight)
        torch._foreach_add_(self._averages, difference)
        if self._buffers[0]:
            torch._foreach_copy_(*self._buffers)


@contextmanager
def _batch_norms_averaging(network: nn.Module) -> Iterator[bool]:
    """Within it, batch norms are in training mode and keep plain averages over batches; all else is as in eval."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    was = [(norm.training, norm.momentum) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None
    try:
        yield bool(norms)
    finally:
        for norm, (training, momentum) in zip(norms, was, strict=True):
            norm.train(training)
            norm.momentum = momentum


@torch.no_grad()
def estimate_batch_statistics(
    generator: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor | None]]
) -> None:
    """Set a generator's batch-norm statistics to averages over batches of z; one without batch norm is left as it is.

    Args:
        generator: in eval mode.
        batches: pairs of z (batch, latent_dim) and labels (batch,) or None.
    """
    with _batch_norms_averaging(generator) as needed:
        if needed:
            for z, label in batches:
                generator(z) if label is None else generator(z, label)
