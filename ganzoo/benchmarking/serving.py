"""What a process of measurements does inside: it answers lines of JSON on standard input by lines on standard output.

What goes wrong is answered by {"error": …}. What libraries print goes to standard error. The process ends when its
standard input does, in the middle of a measurement too: whoever wanted the answer is gone.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from ganzoo.errors import GanzooError

Answer = Callable[[Mapping[str, Any]], dict[str, Any]]


def serve(answer: Answer, commands: Iterable[str], answers: IO[str]) -> None:
    """Answer commands until there are no more.

    Args:
        answer: a command → its answer.
        commands: lines, one JSON object each.
        answers: a text stream, the same.
    """
    for line in commands:
        try:
            said = answer(json.loads(line))
        except GanzooError as error:
            said = {"error": str(error)}
        except Exception as error:  # of a library or a plug-in: told, not shown
            said = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        answers.write(json.dumps(said) + "\n")
        answers.flush()


def serve_standard_input(answer: Answer) -> None:
    """Answer the commands on standard input, which is empty for all else: a process that is forked off closes it, and
    would wait for ever for the thread that reads commands."""
    commands = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    serve(answer, _lines_until_alone(commands), answers)


def _lines_until_alone(stream: IO[str]) -> Iterator[str]:
    """Yield a stream's lines; at its end the process ends, whatever it is doing."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


def peak_memory() -> int | None:
    """Return the most bytes of memory that this process has had, or None where the system does not tell."""
    try:
        # Not getrusage: on Linux its number begins with the memory of the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None
