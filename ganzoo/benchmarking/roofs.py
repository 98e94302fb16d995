"""What a device can do at most, measured: operations a second of large matrix products and convolutions, and bytes a
second of memory too large for any cache.

    python -m ganzoo.benchmarking.roofs

is the process that measures them for `ganzoo bench train`, told so by lines of JSON:

    {"open": {"device": …, "threads": …}} → {"threads": …}
    {"measure": seconds} → {"flops_per_second": {"fp32": …, "bf16": …}, "bytes_per_second": …}

The roof of a precision is the best that any of a few shapes reaches, which all suit the hardware: it is what torch gets
out of the device, not what its maker promises.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ganzoo.benchmarking.serving import serve_standard_input
from ganzoo.devices import choose_device

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_KERNEL = 3


@dataclass(frozen=True)
class Sizes:
    """How large the work is that a roof is measured with.

    Args:
        matrices: sides n of products n×n by n×n.
        batch, channels, side: of a convolution of kernel 3 from so many channels to as many.
        bytes: of each of the three arrays that a sum is read from and written to.
    """

    matrices: tuple[int, ...]
    batch: int
    channels: int
    side: int
    bytes: int


SIZES = {
    "cpu": Sizes((1024, 2048), batch=8, channels=256, side=32, bytes=64 << 20),
    "cuda": Sizes((4096, 8192), batch=256, channels=256, side=64, bytes=512 << 20),
}


@dataclass(frozen=True)
class Roofs:
    """What a device can do at most.

    Args:
        flops_per_second: precision → operations a second; a multiplication with its addition counts as two.
        bytes_per_second: of the sum of two arrays: both read, one written.
    """

    flops_per_second: Mapping[str, float]
    bytes_per_second: float


@dataclass(frozen=True)
class _Task:
    """Something that can be done again and again, and how much work that is."""

    work: float
    do: Callable[[], object]


class RoofMeter:
    """Measures the roofs of a device, with the threads that torch has now.

    Args:
        device: whose.
        sizes: of the work; by default what suits the kind of device.
    """

    def __init__(self, device: torch.device, sizes: Sizes | None = None) -> None:
        self._device, self._sizes = device, sizes or SIZES[device.type]
        self._compute = {name: self._products(dtype) for name, dtype in _DTYPES.items()}
        self._memory = self._sum()
        with torch.no_grad():
            for task in (*(one for tasks in self._compute.values() for one in tasks), self._memory):
                task.do()  # the first call chooses an algorithm and allocates

    def __call__(self, seconds: float) -> Roofs:
        """Return the roofs.

        Args:
            seconds: in all, shared out evenly; each task is done once at least.
        """
        share = seconds / (1 + sum(len(tasks) for tasks in self._compute.values()))
        with torch.no_grad():
            return Roofs(
                {name: max(self._rate(task, share) for task in tasks) for name, tasks in self._compute.items()},
                self._rate(self._memory, share),
            )

    def _products(self, dtype: torch.dtype) -> list[_Task]:
        sizes = self._sizes
        return [*(self._product(side, dtype) for side in sizes.matrices), self._convolution(dtype)]

    def _product(self, side: int, dtype: torch.dtype) -> _Task:
        left, right = (torch.randn(side, side, device=self._device).to(dtype) for _ in range(2))  # (side, side)
        return _Task(2.0 * side**3, lambda: left @ right)

    def _convolution(self, dtype: torch.dtype) -> _Task:
        sizes = self._sizes
        image = torch.randn(sizes.batch, sizes.channels, sizes.side, sizes.side, device=self._device)
        weight = torch.randn(sizes.channels, sizes.channels, _KERNEL, _KERNEL, device=self._device)
        image, weight = (one.to(dtype).to(memory_format=torch.channels_last) for one in (image, weight))
        work = 2.0 * image.numel() * sizes.channels * _KERNEL**2
        return _Task(work, lambda: torch.nn.functional.conv2d(image, weight, padding=_KERNEL // 2))

    def _sum(self) -> _Task:
        one, other, out = (torch.ones(self._sizes.bytes // 4, device=self._device) for _ in range(3))
        return _Task(3.0 * self._sizes.bytes, lambda: torch.add(one, other, out=out))

    def _rate(self, task: _Task, seconds: float) -> float:
        """Return the work a second of the fastest call."""
        end, best = time.perf_counter() + seconds, float("inf")
        while best == float("inf") or time.perf_counter() < end:
            synchronise(self._device)
            begun = time.perf_counter()
            task.do()
            synchronise(self._device)
            best = min(best, time.perf_counter() - begun)
        return task.work / best


def synchronise(device: torch.device) -> None:
    """Wait until a device has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_roofs(measured: Sequence[Roofs]) -> Roofs:
    """Return the median of each roof."""
    from statistics import median

    names = measured[0].flops_per_second
    return Roofs(
        {name: median(one.flops_per_second[name] for one in measured) for name in names},
        median(one.bytes_per_second for one in measured),
    )


def main() -> None:
    """Answer the commands on standard input."""
    meter: RoofMeter | None = None

    def answer(command: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal meter
        if "open" in command:
            asked = command["open"]
            if asked["threads"] is not None:
                torch.set_num_threads(asked["threads"])
            meter = RoofMeter(choose_device(asked["device"]))
            return {"threads": torch.get_num_threads()}
        assert meter is not None
        return asdict(meter(command["measure"]))

    serve_standard_input(answer)


if __name__ == "__main__":
    main()
