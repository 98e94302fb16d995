"""The order of the images in an epoch: computed ahead, and the same whoever computes it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from ganzoo.randomness import Stream, permutation, philox, split_seed
from ganzoo.training import epochs
from ganzoo.training.epochs import EpochOrders


@pytest.mark.parametrize("seed", [0, (1 << 63) + 77])
def test_the_order_is_that_of_the_random_keys_which_the_formula_gives(seed: int) -> None:
    length, epoch = 70_001, 5  # more than one chunk
    index = np.arange(length, dtype=np.int64)
    zero = np.zeros_like(index)
    counter = (index & 0xFFFFFFFF, zero + Stream.PERMUTATION, zero + epoch, index >> 32)
    high, low, _, _ = philox(split_seed(seed), counter)
    keys = high.astype(np.uint64).astype(object) * (1 << 32) + low.astype(object)
    signed = [key - (1 << 64) if key >= 1 << 63 else key for key in keys]
    assert permutation(length, seed, epoch).tolist() == sorted(range(length), key=signed.__getitem__)


@pytest.mark.parametrize("ahead", [False, True])
def test_epochs_in_any_order_and_from_several_threads_are_the_permutations(
    ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "_AHEAD_FROM", 1 if ahead else 1 << 20)
    orders = EpochOrders(100, 3)
    wrong: list[int] = []

    def read(first: int) -> None:
        for epoch in (*range(first, first + 30), 2, 0):
            if orders(epoch).tolist() != permutation(100, 3, epoch).tolist():
                wrong.append(epoch)

    threads = [threading.Thread(target=read, args=(first,)) for first in (0, 1, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(orders._orders) <= 6


def test_the_next_epochs_order_is_begun_while_this_one_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "_AHEAD_FROM", 1)
    begun: list[int] = []
    computed = threading.Event()

    def watched(length: int, seed: int, epoch: int) -> Any:
        begun.append(epoch)
        if epoch == 5:
            computed.set()
        return permutation(length, seed, epoch)

    monkeypatch.setattr(epochs, "permutation", watched)
    orders = EpochOrders(50, 0)
    orders(4)
    assert computed.wait(10)
    assert begun == [4, 5]
    orders(5)
    assert begun[:2] == [4, 5]
    assert begun.count(5) == 1


def test_orders_hold_half_the_memory_of_whole_numbers_of_64_bits() -> None:
    assert EpochOrders(1000, 0)(0).dtype == np.uint32
