"""What a device can do at most: the arithmetic of the measurement, not its result."""

from __future__ import annotations

import pytest
import torch

from ganzoo.benchmarking import roofs
from ganzoo.benchmarking.roofs import RoofMeter, Roofs, Sizes, median_roofs

SMALL = Sizes((8, 16), batch=1, channels=2, side=4, bytes=1 << 10)


def test_roofs_are_rates_of_both_precisions() -> None:
    found = RoofMeter(torch.device("cpu"), SMALL)(0.01)
    assert set(found.flops_per_second) == {"fp32", "bf16"}
    assert min(*found.flops_per_second.values(), found.bytes_per_second) > 0


def test_a_roof_is_the_work_of_the_best_shape_over_the_time_of_its_fastest_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meter = RoofMeter(torch.device("cpu"), SMALL)
    now = [0.0]

    def clock() -> float:  # every look takes half a second: a call takes one interval
        now[0] += 0.5
        return now[0]

    monkeypatch.setattr(roofs.time, "perf_counter", clock)
    found = meter(0.0)
    largest = max(2 * 16**3, 2 * (1 * 2 * 4 * 4) * 2 * 9)
    assert found.flops_per_second["fp32"] == largest / 0.5
    assert found.bytes_per_second == 3 * (1 << 10) / 0.5


def test_the_convolution_has_the_operations_that_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    task = RoofMeter(torch.device("cpu"), SMALL)._convolution(torch.float32)
    with FlopCounterMode(display=False) as counter:
        task.do()
    assert task.work == counter.get_total_flops()


def test_the_median_is_taken_of_each_roof() -> None:
    measured = [Roofs({"fp32": one, "bf16": 10 * one}, 100 * one) for one in (3.0, 1.0, 2.0)]
    assert median_roofs(measured) == Roofs({"fp32": 2.0, "bf16": 20.0}, 200.0)
