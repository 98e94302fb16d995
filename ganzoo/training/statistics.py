"""Means of numbers over steps, summed on the device and read once a tick."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class Statistics:
    """Running sums of named 0-d tensors on one device.

    Args:
        names: what is collected; a name that is never added to is left out of what is read.
        device: where the numbers live.

    Attributes:
        names: what is collected, in order.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.names = tuple(names)
        self._index = {name: position for position, name in enumerate(names)}
        self._sums = torch.zeros(2, len(names), dtype=torch.float64, device=device)

    def add(self, name: str, value: torch.Tensor) -> None:
        """Add a 0-d tensor; nothing leaves the device."""
        position = self._index[name]
        self._sums[0, position] += value.detach()
        self._sums[1, position] += 1

    def read(self) -> dict[str, float]:
        """Return name → mean since the last reading, and begin anew."""
        sums, counts = self._sums.tolist()
        self._sums.zero_()
        return {name: sums[at] / counts[at] for name, at in self._index.items() if counts[at]}

    def state(self) -> dict[str, torch.Tensor]:
        """Return what a checkpoint must hold."""
        return {"sums": self._sums}


def distinct(names: Sequence[str]) -> list[str]:
    """Return the names with repeated ones numbered."""
    return [
        name if names.count(name) == 1 else f"{name}_{names[: index + 1].count(name)}"
        for index, name in enumerate(names)
    ]
