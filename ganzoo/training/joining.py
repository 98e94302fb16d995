"""How a process joins the others that torchrun started, and leaves them, whatever happens.

A process that fails tells the others through torchrun's store, so that those that wait for it need not wait in vain,
and so that one process alone tells the user why.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from ganzoo.devices import choose_device
from ganzoo.errors import InterruptedTraining, NotFiniteError, UsageError
from ganzoo.torchrun import Place, place, under_agent
from ganzoo.training.processes import ALONE, FAILED, TIMEOUT, Link, World, talking

_LEFT = "left"
_FAREWELL_SECONDS = 2.0
_JOINED = itertools.count()  # a process may train several times under one torchrun


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
    with talking():
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
    with talking():
        world.link.store.set(f"{_LEFT}/{world.rank}", "")
        if world.is_first:
            world.wait_for([f"{_LEFT}/{rank}" for rank in range(world.size)])


def _told_elsewhere(world: World, error: BaseException) -> bool:
    """Tell the others that this process failed; return whether one of them says why.

    What all find together is told by the first; what one finds, by that one.
    """
    assert world.link is not None
    store = world.link.store
    try:
        before = bool(store.add(FAILED, 1) > 1)
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
