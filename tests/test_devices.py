"""Devices: a busy machine is told of before it makes training slow."""

from __future__ import annotations

import os

import pytest
import torch

from ganzoo.devices import crowding

CPU = torch.device("cpu")


def on(monkeypatch: pytest.MonkeyPatch, *, load: float, threads: int, cores: int) -> str | None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    return crowding(CPU)


@pytest.mark.parametrize(
    ("load", "threads", "cores", "fewer"), [(1.1, 2, 2, 1), (8.0, 2, 2, 1), (6.2, 16, 16, 10), (1.0, 16, 16, 15)]
)
def test_threads_that_must_share_cores_are_told_of(
    load: float, threads: int, cores: int, fewer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = on(monkeypatch, load=load, threads=threads, cores=cores)
    assert line is not None
    assert f"load {load:.1f} on {cores} cores" in line
    assert line.endswith(f"OMP_NUM_THREADS={fewer}.")


@pytest.mark.parametrize(("load", "threads", "cores"), [(0.0, 2, 2), (0.6, 2, 2), (5.0, 1, 2), (7.0, 8, 16)])
def test_room_for_all_threads_is_no_news(
    load: float, threads: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert on(monkeypatch, load=load, threads=threads, cores=cores) is None


def test_a_gpu_does_not_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, load=9.0, threads=2, cores=2)
    assert crowding(torch.device("cuda")) is None
