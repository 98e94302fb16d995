"""Several processes in a test: forks of the test's own, so that nothing is imported again, joined as torchrun would."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT_SECONDS = 60


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun sets."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def together(work: Callable[[int], Any], size: int = 2, **variables: str) -> list[Any]:
    """Call `work` with each rank in a process of its own; return what the calls return, or the exceptions they raise.

    Args:
        work: returns what can be pickled.
        size: how many processes.
        variables: further environment variables.
    """
    context = multiprocessing.get_context("fork")
    port, pipes, processes = free_port(), [], []
    for rank in range(size):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_child, args=(work, rank, environment(rank, size, port) | variables, theirs), daemon=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
            process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    found: list[Any] = []
    try:
        for rank, pipe in enumerate(pipes):
            assert pipe.poll(LIMIT_SECONDS), f"process {rank} does not end"
            try:
                found.append(pipe.recv())
            except EOFError:
                processes[rank].join()
                found.append(f"exit code {processes[rank].exitcode}")
    finally:
        for process in processes:
            process.join(5)
            process.kill()
    return found


def results(work: Callable[[int], Any], size: int = 2, **variables: str) -> list[Any]:
    """Like `together`; an exception of any process is raised here."""
    found = together(work, size, **variables)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


def _child(work: Callable[[int], Any], rank: int, variables: dict[str, str], pipe: Any) -> None:
    os.environ.update(variables)
    try:
        answer = work(rank)
    except BaseException as error:
        error.add_note(traceback.format_exc())
        answer = error
    with contextlib.suppress(BrokenPipeError):
        try:
            pipe.send(answer)
        except Exception as error:  # it cannot be pickled
            pipe.send(RuntimeError(f"{type(answer).__name__}: {answer} ({error})"))
    pipe.close()


def captured(work: Callable[[], Any], folder: Path, rank: int) -> tuple[Any, str, str]:
    """Return what `work` returns (the code, where it exits), with what it wrote on standard output and error."""
    files = [folder / f"{name}-{rank}.txt" for name in ("out", "err")]
    for number, path in enumerate(files, start=1):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    import sys

    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    try:
        answer = work()
    except SystemExit as error:
        answer = error.code
    sys.stdout.flush()
    sys.stderr.flush()
    return (answer, *(path.read_text(encoding="utf-8") for path in files))
