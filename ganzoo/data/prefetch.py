"""Batches read ahead in a background thread, while the device works on those before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ganzoo.data.packs import Pack

if TYPE_CHECKING:
    import torch

_WAIT_SECONDS = 0.05


class Prefetcher:
    """An iterator of batches, (batch, H, W, C) uint8 on the CPU, in the order of `index_batches`; a context manager
    that ends its thread.

    An error in the thread, also one of `index_batches`, is raised where the batch would have been taken.

    Args:
        pack: what is read.
        index_batches: one array of image numbers a batch, (batch,) int64; it is iterated in the thread.
        depth: at most so many batches wait to be taken.
        pin_memory: whether batches are put into page-locked memory, from where a copy to a CUDA device runs beside the
            computation.
    """

    def __init__(
        self,
        pack: Pack,
        index_batches: Iterable[npt.NDArray[np.int64]],
        depth: int = 4,
        pin_memory: bool = False,
    ) -> None:
        if depth < 1:
            raise ValueError(f"`depth` (={depth}) must be at least 1")
        self._queue: queue.Queue[torch.Tensor | BaseException | None] = queue.Queue(maxsize=depth)
        self._stopping = threading.Event()
        self._ended = False
        self._thread = threading.Thread(
            target=self._work, args=(pack, index_batches, pin_memory), name="ganzoo-prefetch", daemon=True
        )
        self._thread.start()

    def __iter__(self) -> Iterator[torch.Tensor]:
        return self

    def __next__(self) -> torch.Tensor:
        if self._ended:
            raise StopIteration
        item = self._queue.get()
        if item is None or isinstance(item, BaseException):
            self._ended = True
            self._thread.join()
            if item is None:
                raise StopIteration
            raise item
        return item

    def close(self) -> None:
        """End the thread and forget the batches that wait."""
        self._ended = True
        self._stopping.set()
        self._thread.join()

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self, pack: Pack, index_batches: Iterable[npt.NDArray[np.int64]], pin_memory: bool) -> None:
        last: BaseException | None = None
        try:
            for indices in index_batches:
                batch = pack.gather(indices)
                if not self._put(batch.pin_memory() if pin_memory else batch):
                    return
        except BaseException as error:  # handed to the consumer, whatever it is
            last = error
        self._put(last)

    def _put(self, item: torch.Tensor | BaseException | None) -> bool:
        while not self._stopping.is_set():
            try:
                self._queue.put(item, timeout=_WAIT_SECONDS)
            except queue.Full:
                continue
            return True
        return False
