"""Commands that run in several processes: under torchrun one of them speaks, and `--gpus N` starts them.

The processes that `--gpus` and `--processes` start are those of torchrun's own launcher on this machine, so that
whatever runs by the one runs by the other.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ganzoo.errors import GanzooError, ProcessesError, UsageError
from ganzoo.torchrun import RESTARTS, is_first

from . import output

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

MOST_RESTARTS = 3


@contextlib.contextmanager
def one_voice() -> Iterator[bool]:
    """Yield whether this process speaks for all; the others are silent, but for an error that none but them knows.

    Raises:
        click.exceptions.Exit: in place of an error that another process tells.
    """
    first = is_first()
    if not first:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # before torch is imported
    try:
        yield first
    except (click.exceptions.Exit, SystemExit):
        raise
    except (Exception, KeyboardInterrupt) as error:
        if not getattr(error, "told_elsewhere", not first):
            raise
        raise click.exceptions.Exit(error.exit_code if isinstance(error, GanzooError) else 1) from None


def launch(arguments: Sequence[str], count: int, *, on_gpus: bool) -> int:
    """Run a command of ganzoo in several processes on this machine and return its exit code.

    A process that a signal kills takes the others with it; all are started again, up to three times, and go on from
    the newest checkpoint. An error that ganzoo tells of is final. Ctrl-C and SIGTERM are passed on.

    Args:
        arguments: of `ganzoo`.
        count: of processes.
        on_gpus: whether each has a GPU of its own.

    Raises:
        UsageError: this is a process of torchrun already, or there are fewer GPUs.
        ProcessesError: they were killed again and again.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError("--gpus and --processes cannot be given under torchrun.", "Leave them out.")
    _check_devices(count, on_gpus=on_gpus)
    run_id = uuid.uuid4().hex
    os.environ.setdefault("OMP_NUM_THREADS", str(1 if on_gpus else max(1, (os.cpu_count() or 1) // count)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    killed = ""
    for attempt in range(MOST_RESTARTS + 1):
        if attempt:
            output.note(f"{killed}; going on from the newest checkpoint (restart {attempt} of {MOST_RESTARTS}).")
        os.environ[RESTARTS] = str(attempt)
        failed = _attempt(arguments, count, run_id)
        if isinstance(failed, int):
            return failed
        killed = failed
    raise ProcessesError(
        f"{killed}, and so it went {MOST_RESTARTS + 1} times.",
        "`ganzoo doctor` checks this machine; memory may be short.",
    )


def _check_devices(count: int, *, on_gpus: bool) -> None:
    import torch

    by_hand = f"torchrun --nproc-per-node {count} -m ganzoo ... --device cpu"
    if on_gpus and (there := torch.cuda.device_count()) < count:
        raise UsageError(
            f"--gpus {count}: {'no GPU is' if not there else f'only {there} GPU' + (' is' if there == 1 else 's are')} "
            "here that CUDA can use.",
            f"Use --processes {count} for processes on the CPU, or: {by_hand}",
        )


def _attempt(arguments: Sequence[str], count: int, run_id: str) -> int | str:
    """Run all processes once; return their exit code, or a sentence where a signal killed one of them."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory(prefix="ganzoo-", ignore_cleanup_errors=True) as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=run_id,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            elastic_launch(config, sys.executable)("-u", "-m", "ganzoo", *arguments)
        except ChildFailedError as error:
            return _what_failed(error)
        except SignalException:
            return 1  # the first process has told of it
    return 0


def _what_failed(error: ChildFailedError) -> int | str:
    """Return the exit code of the processes, or a sentence where a signal killed one of them.

    The launcher ends those that are left by SIGTERM: of that nothing follows.
    """
    codes = {rank: failure.exitcode for rank, failure in sorted(error.failures.items())}
    killed = [rank for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM]
    if killed:
        return f"Process {killed[0]} was killed by {signal.Signals(-codes[killed[0]]).name}"
    told = {rank: code for rank, code in codes.items() if code > 0}
    return told.get(0) or max(told.values(), default=1)
