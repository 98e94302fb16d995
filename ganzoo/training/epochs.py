"""The order of the images in every epoch, ready when the epoch begins.

For ten million images it takes two seconds, in which nothing would be trained; so while one epoch is drawn a thread
computes the next one's. The order is a function of the seed and the epoch alone: whoever computes it, and when, the
images are the same.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from ganzoo.randomness import permutation

_AHEAD_FROM = 1 << 17  # images; below, it takes some milliseconds, and the next epoch may never come
_KEPT = 3  # epochs: the one that is drawn, the one that a thread which reads ahead may be in, and the next

Order = npt.NDArray[np.uint32] | npt.NDArray[np.int64]


class EpochOrders:
    """Gives the order of an epoch's images: a permutation of range(length). Safe to use from several threads.

    Args:
        length: number of images.
        seed: in [0, 2^64).
    """

    def __init__(self, length: int, seed: int) -> None:
        self._length, self._seed = length, seed
        self._lock = threading.Lock()
        self._orders: dict[int, Future[Order]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ganzoo-epochs")

    def __call__(self, epoch: int) -> Order:
        """Return the order of an epoch, from 0: (length,), whole numbers."""
        with self._lock:
            for wanted in (epoch, epoch + 1) if self._length >= _AHEAD_FROM else (epoch,):
                if wanted not in self._orders:
                    self._orders[wanted] = self._begin(wanted)
            for old in sorted(self._orders)[:-_KEPT]:
                if old not in (epoch, epoch + 1):
                    del self._orders[old]
            order = self._orders[epoch]
        return order.result()

    def _begin(self, epoch: int) -> Future[Order]:
        if self._length >= _AHEAD_FROM:
            return self._thread.submit(self._order, epoch)
        ready: Future[Order] = Future()
        ready.set_result(self._order(epoch))
        return ready

    def _order(self, epoch: int) -> Order:
        order = permutation(self._length, self._seed, epoch)
        return order.astype(np.uint32) if self._length <= 1 << 32 else order  # half the memory
