"""What torchrun tells a process of its place among the others, in environment variables; imported without torch.

The variables are those that torch.distributed.run documents: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE,
MASTER_ADDR, MASTER_PORT, TORCHELASTIC_RUN_ID, TORCHELASTIC_RESTART_COUNT.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ganzoo.errors import UsageError

RESTARTS = "GANZOO_RESTARTS"
"""How often `ganzoo train --gpus` has started its processes again; torchrun has its own variable for that."""

_UNNAMED = "none"  # torchrun's run id where it was given none


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that work together.

    Args:
        rank: its number, from 0.
        size: how many there are, on all machines.
        local_rank: its number on this machine.
        local_size: how many are on this machine.
        restarts: how often they were all started again.
        launch: what all restarts of one launch have in common, and no other launch; None where nothing is known.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    restarts: int = 0
    launch: str | None = None


def place(environment: Mapping[str, str] = os.environ) -> Place:
    """Return this process's place; alone where WORLD_SIZE is unset or 1.

    Args:
        environment: the variables.

    Raises:
        UsageError: variables that are missing or contradict each other.
    """
    size = _number(environment, "WORLD_SIZE", 1)
    if size == 1:
        return Place(restarts=_restarts(environment), launch=_launch(environment))
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]:
        raise UsageError(
            f"WORLD_SIZE is {size}, but {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set.",
            "Start the processes with torchrun, or unset WORLD_SIZE.",
        )
    rank = _number(environment, "RANK", 0)
    found = Place(
        rank,
        size,
        _number(environment, "LOCAL_RANK", rank),
        _number(environment, "LOCAL_WORLD_SIZE", size),
        _restarts(environment),
        _launch(environment),
    )
    if not (found.rank < size and found.local_rank < found.local_size <= size):
        raise UsageError(
            f"RANK (={found.rank}), LOCAL_RANK (={found.local_rank}), LOCAL_WORLD_SIZE (={found.local_size}) and "
            f"WORLD_SIZE (={size}) contradict each other.",
            "Start the processes with torchrun.",
        )
    return found


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process is the one that speaks for all; true where the variables make no sense."""
    return environment.get("RANK", "0") == "0" or environment.get("WORLD_SIZE", "1") == "1"


def under_agent(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether torchrun itself holds the store by which the processes find each other, and not the first one."""
    return environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _number(environment: Mapping[str, str], name: str, otherwise: int) -> int:
    text = environment.get(name, "")
    if not text:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) < 10) or (name.endswith("SIZE") and int(text) == 0):
        raise UsageError(f"{name} (={text!r}) is no number of processes.", f"Start with torchrun, or unset {name}.")
    return int(text)


def _restarts(environment: Mapping[str, str]) -> int:
    return max(_number(environment, name, 0) for name in ("TORCHELASTIC_RESTART_COUNT", RESTARTS))


def _launch(environment: Mapping[str, str]) -> str | None:
    """Return the run's id; where torchrun was given none, its process: the parent of all workers it ever starts."""
    run = environment.get("TORCHELASTIC_RUN_ID")
    if run != _UNNAMED:
        return run or None
    try:  # Linux: the time at which it began, for numbers of processes are used again
        began = Path(f"/proc/{os.getppid()}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        began = "0"
    return f"process-{os.getppid()}-{began}"
