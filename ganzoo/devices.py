"""Devices and precisions by name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Literal

import torch

from ganzoo.errors import UsageError

Precision = Literal["fp32", "bf16"]


def choose_device(name: str) -> torch.device:
    """Return the device of a name: "auto" (CUDA where it works, else the CPU), "cpu", "cuda", "cuda:1".

    Raises:
        UsageError: a name that is no device, or a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"{name!r} is no device.", "Use auto, cpu, cuda or cuda:N.") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"ganzoo trains on cpu and cuda, not on {device.type}.", "Use --device cpu.")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("CUDA is not available here.", "`ganzoo doctor` says why; --device cpu works everywhere.")
        if (device.index or 0) >= torch.cuda.device_count():
            raise UsageError(f"There is no {name}: {torch.cuda.device_count()} CUDA devices are here.")
        device = torch.device("cuda", device.index if device.index is not None else torch.cuda.current_device())
    return device


def choose_precision(name: str, device: torch.device) -> Precision:
    """Return the precision of a name: "auto" is bf16 where the device multiplies bf16 in hardware, else fp32.

    Raises:
        UsageError: bf16 on a GPU that lacks it.
    """
    if name == "fp32":
        return "fp32"
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
        if name == "bf16" and not supported:
            raise UsageError("This GPU has no bf16.", "Use --precision fp32.")
    else:
        supported = cpu_multiplies_bf16()
    return "bf16" if name == "bf16" or supported else "fp32"


def cpu_multiplies_bf16() -> bool:
    """Return whether the processor has bf16 matrix instructions (AVX512-BF16 or AMX)."""
    if not hasattr(torch.cpu, "get_capabilities"):  # torch 2.11 has only the private form
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(key, False)) for key in ("avx512_bf16", "amx_bf16"))


_CROWDED = 0.7  # of a core: less is the noise of an idle machine


def crowding(device: torch.device) -> str | None:
    """Return a line of warning where torch's threads will have to share cores with what runs already, or None.

    Threads that compute together wait for each other at every operation; where one of them has lost its core, all lose
    its time slice. On two cores with one busy, training was seen to drop to a tenth, and one thread to be faster.

    Args:
        device: where training is to run.
    """
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    if device.type != "cpu" or threads == 1 or not hasattr(os, "getloadavg"):
        return None
    load = os.getloadavg()[0]
    if load + threads <= cores + _CROWDED:
        return None
    fewer = max(1, min(threads - 1, cores - round(load)))
    return (
        f"This machine is busy (load {load:.1f} on {cores} cores), and {threads} threads that wait for each other can "
        f"then be ten times slower. If training is slow, stop it and begin anew with OMP_NUM_THREADS={fewer}."
    )


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which networks run: bf16 autocast with fp32 parameters, or nothing."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Within it, a GPU multiplies float32 as float32: no TF32, which cuDNN's convolutions use by default.

    Args:
        device: where it matters; on the CPU nothing is changed.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    backends = (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)
    was = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, was, strict=True):
            backend.fp32_precision = precision


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's own generators of the CPU and of one device; `torch.manual_seed` would seed every device's.

    Args:
        seed: in [0, 2^64).
        device: "cpu", or a CUDA device with its index.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)
