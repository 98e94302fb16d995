"""How long a batch takes in ONNX Runtime and in eager torch: medians of runs that take turns, so that what else the
machine does strikes both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ganzoo.export.onnx.parity import PROOF_SEED, run
from ganzoo.export.onnx.tracing import Interface, draw
from ganzoo.seeds import latents

BATCHES = (1, 64)
_BUDGETS = ((1, 8.0), (3, 1.0))  # seconds after which no more than so many runs of each are wanted
_MOST = 25
_PAUSE_SECONDS = 0.002  # before each run, in which the threads of the other stop waiting actively


@dataclass(frozen=True)
class Latency:
    """Median milliseconds of one batch on the CPU.

    Args:
        batch: images in it.
        onnx_ms: in ONNX Runtime.
        torch_ms: in eager torch, float32, with as many threads.
    """

    batch: int
    onnx_ms: float
    torch_ms: float


def measure(session: Any, generator: nn.Module, interface: Interface) -> tuple[Latency, ...]:
    """Return the latencies at batch 1 and 64.

    Args:
        session: of ONNX Runtime on the CPU.
        generator: in torch, float32, eval.
        interface: of the model.
    """
    return tuple(_measure(session, generator, interface, batch) for batch in BATCHES)


def _measure(session: Any, generator: nn.Module, interface: Interface, batch: int) -> Latency:
    seeds = np.arange(batch, dtype=np.uint64) + np.uint64(PROOF_SEED)
    z = latents(seeds, interface.latent_dim, interface.prior)
    label = np.arange(batch) % interface.num_classes if interface.num_classes else None
    z_tensor, label_tensor = torch.from_numpy(z), None if label is None else torch.from_numpy(label)

    def in_onnx() -> None:
        run(session, z, label)

    def in_torch() -> None:
        draw(generator, z_tensor, label_tensor)

    times: tuple[list[float], list[float]] = [], []
    begun = time.perf_counter()
    for once in (in_onnx, in_torch):
        once()  # the first run of a size allocates
    while not _enough(len(times[0]), time.perf_counter() - begun):
        for taken, once in zip(times, (in_onnx, in_torch), strict=True):
            taken.append(_seconds(once))
    onnx_ms, torch_ms = (statistics.median(taken) * 1e3 for taken in times)
    return Latency(batch, onnx_ms, torch_ms)


def _enough(runs: int, seconds: float) -> bool:
    return runs >= _MOST or any(runs >= fewest and seconds >= budget for fewest, budget in _BUDGETS)


def _seconds(once: Callable[[], None]) -> float:
    time.sleep(_PAUSE_SECONDS)
    begun = time.perf_counter()
    once()
    return time.perf_counter() - begun
