"""Several processes that train one model together, and the single one that most trainings are.

Every process holds all weights and computes the gradients of its share of each batch; the mean over the processes is
what the optimisers see. Random numbers are keyed by the samples' global numbers, so shares draw what one process draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """The processes of a training, seen from one of them.

    Args:
        rank: number of this process, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return which of `count` samples are this process's: an equal part, in the order of the ranks.

        Raises:
            ValueError: they cannot be shared equally.
        """
        part, rest = divmod(count, self.size)
        if rest:
            raise ValueError(f"{count} samples cannot be shared equally by {self.size} processes")
        return slice(self.rank * part, (self.rank + 1) * part)

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor over all processes, without a graph; alone, the tensor detached."""
        tensor = tensor.detach()
        if self.size == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        return total / self.size

    @torch.no_grad()
    def mean_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors by their means over all processes, by one all-reduce for each kind of number.

        Args:
            tensors: floating-point ones on one device, of the same shapes in the same order in every process.
        """
        if self.size == 1:
            return
        for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
            of_kind = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in of_kind])
            dist.all_reduce(flat)
            flat /= self.size
            parts = flat.split([tensor.numel() for tensor in of_kind])
            for tensor, part in zip(of_kind, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))


ALONE = World()
"""A training of one process."""
