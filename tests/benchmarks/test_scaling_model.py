"""The model of several GPUs: its limits are what they must be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(FOLDER))
    import scaling_model  # type: ignore[import-not-found]

    yield scaling_model
    for name in ("scaling_model", "reporting"):
        sys.modules.pop(name, None)


def test_one_gpu_exchanges_nothing_and_is_all_efficient(model: Any) -> None:
    assert model.exchange_seconds(1e9, 1, model.Machine()) == 0
    assert model.efficiency(model.Net(), model.Machine(), 128, 1) == 1


def test_a_step_on_one_gpu_is_the_longest_of_its_parts_and_the_optimiser(model: Any) -> None:
    machine = model.Machine(peak=100.0, share=0.5, bandwidth=10.0, launch=0.5, graph=False)
    net = model.Net(operations=25.0, bytes_per_image=2.0, parameters=(1.0,), optimiser_bytes=30.0, kernels=4)
    assert model.step_seconds(net, machine, 8, 1)["step"] == pytest.approx(8 * 25 / 50 + 3)
    assert model.step_seconds(replace(net, bytes_per_image=10.0), machine, 8, 1)["step"] == pytest.approx(8 + 3)
    assert model.step_seconds(replace(net, kernels=40), machine, 8, 1)["step"] == pytest.approx(20 + 3)
    assert model.step_seconds(replace(net, kernels=40), replace(machine, graph=True), 8, 1)["launch"] == 0.5


@pytest.mark.parametrize("gpus", [2, 8, 64])
def test_links_of_no_resistance_cost_nothing(model: Any, gpus: int) -> None:
    infinite = float("inf")
    machine = model.Machine(intra=infinite, inter=infinite, intra_latency=0.0, inter_latency=0.0)
    assert model.efficiency(model.Net(), machine, 128, gpus) == 1


def test_a_ring_of_many_sends_every_byte_twice(model: Any) -> None:
    assert model.ring_seconds(100.0, 2, 10.0, 0.0) == pytest.approx(10.0)
    assert model.ring_seconds(100.0, 10**6, 10.0, 0.0) == pytest.approx(20.0, rel=1e-5)
    assert model.ring_seconds(0.0, 5, 10.0, 0.25) == pytest.approx(8 * 0.25)


def test_nodes_exchange_only_each_gpus_share_over_the_network(model: Any) -> None:
    machine = model.Machine(intra=10.0, inter=1.0, intra_latency=0.0, inter_latency=0.0, gpus_per_node=4)
    assert model.exchange_seconds(80.0, 4, machine) == pytest.approx(2 * 3 / 4 * 8)
    assert model.exchange_seconds(80.0, 8, machine) == pytest.approx(2 * 3 / 4 * 8 + 2 * 1 / 2 * 20)
    with pytest.raises(ValueError, match="whole nodes"):
        model.exchange_seconds(80.0, 6, machine)


def test_efficiency_falls_with_more_gpus_and_rises_with_larger_batches(model: Any) -> None:
    net, machine = model.Net(), model.Machine()
    falling = [model.efficiency(net, machine, 128, gpus) for gpus in (1, 2, 4, 8, 16, 64, 256)]
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) == len(falling)
    rising = [model.efficiency(net, machine, batch, 64) for batch in (64, 128, 256, 1024, 1 << 20)]
    assert rising == sorted(rising)
    assert rising[-1] == pytest.approx(1, abs=1e-3)


def test_the_papers_net_at_the_peak_has_the_rate_that_its_operations_allow(model: Any) -> None:
    machine = model.Machine(share=1.0)
    net = replace(model.Net(), optimiser_bytes=0.0)
    assert 128 / model.step_seconds(net, machine, 128, 1)["step"] == pytest.approx(790e12 / 15.3e9)
