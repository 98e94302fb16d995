"""Starting and ending the processes that a benchmark measures in, and talking with them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ganzoo.errors import GanzooError

_PATIENCE = 5.0  # seconds that a process is given to end by itself


class MeasuringProcess:
    """A process of a module that answers commands (`serving.py`); leaving the context ends it.

    It gets no signal of the terminal, so that Ctrl-C is this process's to answer; should this one be killed, the
    other's standard input ends, and so does the other.

    Args:
        module: run with `python -m`; found on this process's path.
        name: whose process it is, for messages.
        log: where what it prints is kept; its last line is quoted where the process dies.
        remedy: what to do where it dies.
    """

    def __init__(self, module: str, name: str, log: Path, remedy: str) -> None:
        self._name, self._log, self._remedy = name, log, remedy
        # -P: a torch.py in the current folder is not torch. The rest of the path is this process's.
        path = os.pathsep.join(str(Path(one).absolute()) for one in sys.path if one)
        with log.open("wb") as printed:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
                text=True,
                encoding="utf-8",
                start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if kind is not None:
            self._process.terminate()
        with contextlib.suppress(OSError):  # of one that is dead already
            self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a command.

        Raises:
            GanzooError: the process answers with an error, or is dead.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line.endswith("\n"):
            raise GanzooError(self._epitaph(), self._remedy)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise GanzooError(answer["error"])
        return answer

    def _epitaph(self) -> str:
        code = self._process.wait()
        printed = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(printed) if line.strip()), "")
        return f"The process of {self._name} ended with exit code {code}" + (f": {last[:200]}" if last else ".")
