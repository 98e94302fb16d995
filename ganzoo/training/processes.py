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
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from ganzoo.devices import choose_device
from ganzoo.errors import InterruptedTraining, NotFiniteError, ProcessesError, UsageError
from ganzoo.torchrun import Place, place, under_agent

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others inside a step: the first one's sample grids and checkpoints take their time,
and a machine that lost its power says nothing."""

_PLACE_IN_CODE = re.compile(r"\[\S*\.(cc|cpp|h|hpp):\d+\]\s*")
_FAILED, _LEFT = "failed", "left"
_FAREWELL_SECONDS = 2.0
_LONGEST_PAUSE = 0.1  # seconds between two looks at the store
_JOINED = itertools.count()  # a process may train several times under one torchrun


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
        link: how they talk; `join_world` makes it.
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
        with _talking():
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
            with _talking():
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
            with _talking():
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
        with _talking():
            if self.is_first:
                self.link.store.set(name, json.dumps(value))
                return value
            self._await([name])
            return json.loads(self.link.store.get(name))

    def exchange(self, value: Any) -> list[Any]:
        """Return what every process gives, in the order of the ranks; raises as `tell`."""
        if self.link is None:
            return [value]
        name = self.link.next_name()
        names = [f"{name}/{rank}" for rank in range(self.size)]
        with _talking():
            self.link.store.set(names[self.rank], json.dumps(value))
            self._await(names)
            return [json.loads(self.link.store.get(one)) for one in names]

    def least(self, number: int) -> int:
        """Return the least of the whole numbers that the processes give, each below 2^63."""
        if self.link is None:
            return number
        tensor = torch.tensor(number, dtype=torch.int64)
        with _talking():
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
                with _talking():
                    dist.broadcast(packed, 0, group=self.link.control)
        return tensors if self.is_first else received

    def send(self, tensor: torch.Tensor) -> None:
        """Send a tensor on the CPU to the first process, which takes it by `receive`."""
        assert self.link is not None
        with _talking():
            dist.send(tensor, 0, group=self.link.control)

    def receive(self, tensor: torch.Tensor, rank: int) -> None:
        """Fill a tensor on the CPU with what a process sent."""
        assert self.link is not None
        with _talking():
            dist.recv(tensor, rank, group=self.link.control)

    def _await(self, names: Sequence[str]) -> None:
        """Wait until the store holds all names.

        Raises:
            ProcessesError: another process ended before.
        """
        assert self.link is not None
        pause = 0.001
        while not self.link.store.check(list(names)):
            if self.link.store.check([_FAILED]):
                raise _lost("it failed")
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
        with _talking():
            self._pending = dist.all_reduce(self._box, op=dist.ReduceOp.MAX, group=self._control, async_op=True)
        return before

    def count(self) -> int:
        """Return the outcome of the last vote; after the last step it must have been asked for."""
        if self._pending is None:
            return 0
        with _talking():
            self._pending.wait()
        self._pending = None
        return int(self._box)


def device_here(name: str, here: Place | None = None) -> torch.device:
    """Return the device that this process trains on: with several on a machine, each has a GPU of its own.

    Args:
        name: "auto", "cpu", "cuda"; "cuda:1" only where the process is alone.
        here: its place; by default as torchrun says.

    Raises:
        UsageError: a device that is not there, one GPU for several processes, or fewer GPUs than processes.
    """
    here = here or place()
    if here.size == 1 or name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return choose_device(name)
    if name not in ("auto", "cuda"):
        raise UsageError(f"{name} cannot be the device of {here.size} processes.", "Use --device cuda or cpu.")
    if torch.cuda.is_available() and (count := torch.cuda.device_count()) < here.local_size:
        raise UsageError(
            f"{here.local_size} processes were started here, and {count} GPU{' is' if count == 1 else 's are'} here.",
            f"Start {count}, or use --device cpu.",
        )
    return choose_device(f"cuda:{here.local_rank}" if torch.cuda.is_available() else "cuda")


@contextlib.contextmanager
def join_world(device: torch.device, here: Place | None = None) -> Iterator[World]:
    """Join the other processes that torchrun started, and leave them at the end; alone, this does nothing.

    When the block raises, the others are told. An exception that another process has told already carries
    `told_elsewhere = True`.

    Args:
        device: of this process, from `device_here`: NCCL is used between GPUs, gloo between processors.
        here: its place; by default as torchrun says.

    Raises:
        ProcessesError: another process could not be reached, or ended before its time.
    """
    here = here or place()
    if here.size == 1:
        yield ALONE
        return
    owns = not dist.is_initialized()
    with _talking():
        # The store outlives restarts of the processes, and so do the addresses that dead ones left in it.
        store = PrefixStore(f"ganzoo-{here.restarts}-{next(_JOINED)}", _store(here))
        if owns:
            _make_groups(store, here, device)
        control = dist.new_group(backend="gloo", timeout=TIMEOUT)
    assert isinstance(control, dist.ProcessGroup)
    world = World(here.rank, here.size, here.local_rank, here.local_size, Link(store, control))
    try:
        yield world
        _leave(world)
    except BaseException as error:
        error.told_elsewhere = _told_elsewhere(world, error)  # type: ignore[attr-defined]
        _break(device)
        raise
    if owns:
        dist.destroy_process_group()
    else:
        dist.destroy_process_group(control)


def _store(here: Place) -> Store:
    store: Store = next(rendezvous("env://", here.rank, here.size, timeout=TIMEOUT))[0]
    return store


def _make_groups(store: Store, here: Place, device: torch.device) -> None:
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=PrefixStore("groups", store),
        rank=here.rank,
        world_size=here.size,
        timeout=TIMEOUT,
        device_id=device if on_gpu else None,
    )


def _leave(world: World) -> None:
    """Say that all is done; the first one, which may hold the store, waits for the others."""
    assert world.link is not None
    with _talking():
        world.link.store.set(f"{_LEFT}/{world.rank}", "")
        if world.is_first:
            world._await([f"{_LEFT}/{rank}" for rank in range(world.size)])


def _told_elsewhere(world: World, error: BaseException) -> bool:
    """Tell the others that this process failed; return whether one of them says why.

    What all find together is told by the first; what one finds, by that one.
    """
    assert world.link is not None
    store = world.link.store
    try:
        before = bool(store.add(_FAILED, 1) > 1)
        store.set(f"{_LEFT}/{world.rank}", "")
        if world.is_first and not under_agent():
            _wait_a_moment(store, [f"{_LEFT}/{rank}" for rank in range(world.size)])
    except RuntimeError:  # the store went with the process that held it
        before = False
    if isinstance(error, InterruptedTraining | NotFiniteError):
        return not world.is_first
    return before


def _wait_a_moment(store: Store, names: Sequence[str]) -> None:
    """Give the others the time to learn what this process, which holds the store, will take with it."""
    end = time.monotonic() + _FAREWELL_SECONDS
    while not store.check(list(names)) and time.monotonic() < end:
        time.sleep(0.01)


def _break(device: torch.device) -> None:
    """Leave without waiting for processes that may be gone."""
    if device.type == "cuda" and dist.is_initialized():
        with contextlib.suppress(RuntimeError, AttributeError):
            group = dist.group.WORLD
            group._get_backend(device).abort()  # type: ignore[union-attr]
    with contextlib.suppress(RuntimeError, ValueError, AssertionError):
        if dist.is_initialized() and device.type != "cuda":
            dist.destroy_process_group()


@contextlib.contextmanager
def _talking() -> Iterator[None]:
    """Within it, what torch says of a connection that broke is said in one line."""
    try:
        yield
    except RuntimeError as error:
        raise _lost(_reason(error)) from error


def _reason(error: RuntimeError) -> str:
    """Return the first sentence of what torch says, without the places in its own code."""
    said = _PLACE_IN_CODE.sub("", (str(error).strip().splitlines() or [""])[0])
    return said.partition(". ")[0].rstrip(".")[:200] or type(error).__name__


def _lost(why: str) -> ProcessesError:
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
