"""SIGTERM and Ctrl-C as a wish to stop: the step in hand is finished and a checkpoint written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether a signal asked for the end, and which."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def number(self) -> int:
        """The signal's number; 0 where none came."""
        return 0 if self.signal is None else int(self.signal)


@contextmanager
def stop_on_signals(*, patient: bool = False) -> Iterator[StopRequest]:
    """Within it, the first SIGINT or SIGTERM sets the request; a second SIGINT raises KeyboardInterrupt at once.

    Outside the main thread, where Python cannot set handlers, nothing is changed.

    Args:
        patient: whether further SIGINTs change nothing: torchrun passes on what came from the terminal already, and
            ends what does not stop in time.
    """
    request = StopRequest()

    def handle(number: int, _: FrameType | None) -> None:
        if request and number == signal.SIGINT and not patient:
            raise KeyboardInterrupt
        request.signal = signal.Signals(number)

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    was = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in was.items():
            signal.signal(number, handler)
