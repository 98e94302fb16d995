"""How long a training has taken, and how fast it is."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_PROGRESS_SECONDS = 0.5
_RATE_SECONDS = 10.0


class Clock:
    """Seconds of training over all resumptions, and the rate over the last few of them.

    Args:
        done: steps done before.
        seconds: of training before.
        images_per_step: real images drawn by a round.
    """

    def __init__(self, done: int, seconds: float, images_per_step: int) -> None:
        self._start = time.monotonic() - seconds
        self._images = images_per_step
        self._marks: deque[tuple[float, int]] = deque([(seconds, done)])
        self._shown = seconds

    def seconds(self) -> float:
        """Return the seconds of training so far."""
        return time.monotonic() - self._start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within it, no time passes for the training."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._start += time.monotonic() - begun

    def is_due(self) -> bool:
        """Return whether it is time to show progress again."""
        now = self.seconds()
        if now - self._shown < _PROGRESS_SECONDS:
            return False
        self._shown = now
        return True

    def rate(self, done: int) -> float:
        """Return images per second over the last seconds.

        Args:
            done: steps done so far.
        """
        now = self.seconds()
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] > _RATE_SECONDS:
            self._marks.popleft()
        then, before = self._marks[0]
        return max((done - before) * self._images / max(now - then, 1e-9), 1e-9)
