"""Several processes that train one model together, and the single one that most trainings are.

Every process holds all weights and computes the gradients of its share of each batch; the mean over the processes is
what the optimisers see. Random numbers are keyed by the samples' global numbers, so shares draw what one process draws.

Tensors of the step travel by the process group of the device (NCCL or gloo); few numbers that the host needs travel by
a gloo group beside it; and what may have to be waited for long, the packing of data say, by torchrun's store.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import Store  # type: ignore[attr-defined]

from ganzoo.errors import ProcessesError

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others inside a step: the first one's sample grids and checkpoints take their time,
and a machine that lost its power says nothing."""

_PLACE_IN_CODE = re.compile(r"\[\S*\.(cc|cpp|h|hpp):\d+\]\s*")
FAILED = "failed"
"""The name under which a process that fails says so in the store."""
_LONGEST_PAUSE = 0.1  # seconds between two looks at the store


@dataclass(frozen=True)
class Link:
    """How the processes of a world talk beside the step.

    Args:
        store: torchrun's, under names of this world's own.
        control: a gloo group of all processes.
    """

    store: Store
    control: dist.ProcessGroup
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def next_name(self) -> str:
        """Return the name of the next message; all processes exchange the same ones in the same order."""
        return f"message-{next(self._numbers)}"


@dataclass(frozen=True)
class World:
    """The processes of a training, seen from one of them.

    Args:
        rank: number of this process, from 0.
        size: how many there are.
        local_rank: number of this process on its machine.
        local_size: how many there are on this machine.
        link: how they talk; `ganzoo.training.joining` makes it.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    link: Link | None = field(default=None, repr=False, compare=False)

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return which of `count` samples are this process's: an equal part, in the order of the ranks.

        Raises:
            ValueError: they cannot be shared equally.
        """
        part, rest = divmod(count, self.size)
        if rest:
            raise ValueError(f"{count} samples cannot be shared equally by {self.size} processes")
        return slice(self.rank * part, (self.rank + 1) * part)

    # ------------------------------------------------------------------------------------------ tensors of the step

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor over all processes, without a graph; alone, the tensor detached."""
        tensor = tensor.detach()
        if self.size == 1:
            return tensor
        total = tensor.clone()
        with talking():
            dist.all_reduce(total)
        return total / self.size

    @torch.no_grad()
    def mean_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors by their means over all processes, by one all-reduce for each kind of number.

        Args:
            tensors: floating-point ones on one device, of the same shapes in the same order in every process.
        """
        if self.size == 1:
            return
        for of_kind in _by_dtype(tensors):
            flat = _flat(of_kind)
            with talking():
                dist.all_reduce(flat)
            _spread(flat.div_(self.size), of_kind)

    @torch.no_grad()
    def settle_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace the numbers of tensors that differ between processes by their means; the others keep every bit.

        Args:
            tensors: as for `mean_`.
        """
        if self.size == 1:
            return
        for of_kind in _by_dtype(tensors):
            flat = _flat(of_kind)
            least, most = flat.clone(), flat.clone()
            with talking():
                dist.all_reduce(flat)
                dist.all_reduce(least, op=dist.ReduceOp.MIN)
                dist.all_reduce(most, op=dist.ReduceOp.MAX)
            _spread(torch.where(least == most, least, flat / self.size), of_kind)

    # ------------------------------------------------------------------------------------------ words between hosts

    def tell(self, value: Any = None) -> Any:
        """Return what the first process gives, in every process; the others wait for it as long as it takes.

        Args:
            value: anything that JSON holds; only the first one's counts.

        Raises:
            ProcessesError: another process ended before.
        """
        if self.link is None:
            return value
        name = self.link.next_name()
        with talking():
            if self.is_first:
                self.link.store.set(name, json.dumps(value))
                return value
            self.wait_for([name])
            return json.loads(self.link.store.get(name))

    def exchange(self, value: Any) -> list[Any]:
        """Return what every process gives, in the order of the ranks; raises as `tell`."""
        if self.link is None:
            return [value]
        name = self.link.next_name()
        names = [f"{name}/{rank}" for rank in range(self.size)]
        with talking():
            self.link.store.set(names[self.rank], json.dumps(value))
            self.wait_for(names)
            return [json.loads(self.link.store.get(one)) for one in names]

    def least(self, number: int) -> int:
        """Return the least of the whole numbers that the processes give, each below 2^63."""
        if self.link is None:
            return number
        tensor = torch.tensor(number, dtype=torch.int64)
        with talking():
            dist.all_reduce(tensor, op=dist.ReduceOp.MIN, group=self.link.control)
        return int(tensor)

    def tensors_of_first(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Return the named tensors of the first process, in the others on the CPU.

        Args:
            tensors: of any shapes and kinds; only the first one's count.
        """
        if self.link is None:
            return tensors
        kinds = {name: (str(one.dtype).removeprefix("torch."), list(one.shape)) for name, one in tensors.items()}
        received = {}
        for name, (dtype, shape) in self.tell(kinds).items():
            if self.is_first:
                packed = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            else:
                received[name] = torch.empty(shape, dtype=getattr(torch, dtype))
                packed = received[name].view(-1).view(torch.uint8)
            if packed.numel():
                with talking():
                    dist.broadcast(packed, 0, group=self.link.control)
        return tensors if self.is_first else received

    def send(self, tensor: torch.Tensor) -> None:
        """Send a tensor on the CPU to the first process, which takes it by `receive`."""
        assert self.link is not None
        with talking():
            dist.send(tensor, 0, group=self.link.control)

    def receive(self, tensor: torch.Tensor, rank: int) -> None:
        """Fill a tensor on the CPU with what a process sent."""
        assert self.link is not None
        with talking():
            dist.recv(tensor, rank, group=self.link.control)

    def wait_for(self, names: Sequence[str]) -> None:
        """Wait until the store holds all names.

        Raises:
            ProcessesError: another process ended before.
        """
        assert self.link is not None
        pause = 0.001
        while not self.link.store.check(list(names)):
            if self.link.store.check([FAILED]):
                raise lost("it failed")
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE)


ALONE = World()
"""A training of one process."""


class StopVote:
    """Lets all processes leave after the same step, when a signal came to any of them.

    A vote is cast after each step and counted after the next, so that no step waits for it.

    Args:
        world: the processes.
    """

    def __init__(self, world: World) -> None:
        self._control = world.link.control if world.link is not None else None
        self._box = torch.zeros((), dtype=torch.int64)
        self._pending: dist.Work | None = None

    def __call__(self, signal: int) -> int:
        """Return the largest signal that any process gave at the call before; alone, the one given.

        Args:
            signal: its number, or 0 for none.

        Raises:
            ProcessesError: another process is gone.
        """
        if self._control is None:
            return signal
        before = self.count()
        self._box.fill_(signal)
        with talking():
            self._pending = dist.all_reduce(self._box, op=dist.ReduceOp.MAX, group=self._control, async_op=True)
        return before

    def count(self) -> int:
        """Return the outcome of the last vote; after the last step it must have been asked for."""
        if self._pending is None:
            return 0
        with talking():
            self._pending.wait()
        self._pending = None
        return int(self._box)


@contextlib.contextmanager
def talking() -> Iterator[None]:
    """Within it, what torch says of a connection that broke is said in one line."""
    try:
        yield
    except RuntimeError as error:
        raise lost(_reason(error)) from error


def _reason(error: RuntimeError) -> str:
    """Return the first sentence of what torch says, without the places in its own code."""
    said = _PLACE_IN_CODE.sub("", (str(error).strip().splitlines() or [""])[0])
    return said.partition(". ")[0].rstrip(".")[:200] or type(error).__name__


def lost(why: str) -> ProcessesError:
    """Return the error that says that another process is gone.

    Args:
        why: a few words.
    """
    return ProcessesError(
        f"Another process of the same torchrun has died or cannot be reached ({why}).",
        "The same command goes on from the newest checkpoint; torchrun --max-restarts 3 starts it again by itself.",
    )


def _by_dtype(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
        yield [tensor for tensor in tensors if tensor.dtype == dtype]


def _flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _spread(flat: torch.Tensor, tensors: Sequence[torch.Tensor]) -> None:
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))
