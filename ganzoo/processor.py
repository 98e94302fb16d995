"""What a training asks of the processor: memory that stays with the process, and no more threads than it may run."""

from __future__ import annotations

import ctypes
import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

# Of glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_NEVER = (1 << 31) - 1
_GROWTH = 64 << 20  # bytes by which the heap grows at once


def keep_memory() -> bool:
    """Let memory that is freed stay with the process, where the C library is glibc; return whether it does.

    glibc hands every large block back to the kernel as soon as it is freed, and the next tensor of that size pays for
    its pages again: up to a sixth of a training's time on a processor. The settings are the whole process's and remain.
    """
    library = _glibc()
    if library is None:
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _GROWTH))
    done = [library.mallopt(parameter, value) == 1 for parameter, value in settings]
    return all(done)


@contextmanager
def kept_memory() -> Iterator[bool]:
    """Do `keep_memory`, and in the end give back what is free."""
    kept = keep_memory()
    try:
        yield kept
    finally:
        library = _glibc()
        if library is not None:
            library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


@contextmanager
def fitting_threads() -> Iterator[int]:
    """Within it, torch has no more threads than the container's share of the processors; gives how many it has.

    torch counts the machine's processors. In a container that may use two of 64, 64 threads would wait for each other
    at every operation. Who sets OMP_NUM_THREADS has decided.
    """
    was = torch.get_num_threads()
    share = None if "OMP_NUM_THREADS" in os.environ else processor_share()
    fitting = was if share is None else max(1, min(was, math.floor(share + 0.5)))
    if fitting == was:
        yield was
        return
    torch.set_num_threads(fitting)
    try:
        yield fitting
    finally:
        torch.set_num_threads(was)


def processor_share(root: Path = Path("/")) -> float | None:
    """Return how many processors' time this process's control group may use, or None where it is not limited.

    Args:
        root: where `proc` and `sys` are.
    """
    shares = [share for share in (_limit(root, line) for line in _groups(root)) if share is not None]
    return min(shares, default=None)


def _groups(root: Path) -> list[str]:
    try:
        return (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _limit(root: Path, line: str) -> float | None:
    """Return the least limit of one line of /proc/self/cgroup (number:controllers:path) and the groups above it."""
    _, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if controllers not in ("", "cpu", "cpu,cpuacct", "cpuacct,cpu"):
        return None
    mount = root / "sys/fs/cgroup"
    inside = Path(path.lstrip("/"))
    shares = []
    for group in (inside, *inside.parents):
        if controllers:  # version 1
            share = _ratio(
                _read(mount / "cpu" / group / "cpu.cfs_quota_us"), _read(mount / "cpu" / group / "cpu.cfs_period_us")
            )
        else:
            quota, _, period = _read(mount / group / "cpu.max").partition(" ")
            share = _ratio(quota, period)
        if share is not None:
            shares.append(share)
    return min(shares, default=None)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _ratio(quota: str, period: str) -> float | None:
    """Return quota / period, or None for "max", -1 and what is no number."""
    if not (quota.isdecimal() and period.isdecimal() and int(quota) and int(period)):
        return None
    return int(quota) / int(period)


__all__ = ["fitting_threads", "keep_memory", "kept_memory", "processor_share"]
