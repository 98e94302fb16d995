"""The process in which one runtime is measured, as its owner sees it."""

from __future__ import annotations

from pathlib import Path

from ganzoo.benchmarking.process import MeasuringProcess


class WorkerProcess(MeasuringProcess):
    """A process of `worker.py`; leaving the context ends it.

    Args:
        name: whose process it is, for messages.
        log: where what it prints is kept; its last line is quoted where the process dies.
    """

    def __init__(self, name: str, log: Path) -> None:
        remedy = "Too little memory ends processes so: try smaller --batch-sizes."
        super().__init__("ganzoo.export.benchmark.worker", name, log, remedy)
