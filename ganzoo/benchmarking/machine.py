"""What a figure was measured on, in words that name nobody's machine: processor, cores, GPU, versions."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

_MATRIX_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")


@dataclass(frozen=True)
class Machine:
    """A machine.

    Args:
        processor: its model, as the system names it.
        features: those of its instructions that matter for matrices.
        cores: that this process may use.
        gpu: its name, or None.
        python, torch: versions.
    """

    processor: str
    features: tuple[str, ...]
    cores: int
    gpu: str | None
    python: str
    torch: str

    def __str__(self) -> str:
        cores = f"{self.cores} core{'s' if self.cores != 1 else ''}"
        on = self.gpu or f"{cores} of {self.processor}"
        return f"{on}, torch {self.torch}, Python {self.python}"


def this_machine(device: str = "cpu") -> Machine:
    """Return what this machine is.

    Args:
        device: "cpu", or the CUDA device that computes.
    """
    facts = _cpuinfo()
    on_cuda = torch.device(device).type == "cuda"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    flags = set(facts.get("flags", "").split())
    return Machine(
        processor=facts.get("model name") or platform.processor() or platform.machine(),
        features=tuple(name for name in _MATRIX_FEATURES if name in flags),
        cores=cores,
        gpu=torch.cuda.get_device_name(device) if on_cuda else None,
        python=".".join(map(str, sys.version_info[:3])),
        torch=torch.__version__.partition("+")[0],
    )


def _cpuinfo() -> dict[str, str]:
    """Return what Linux tells of the first processor; elsewhere nothing."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
