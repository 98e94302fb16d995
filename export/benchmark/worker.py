"""The process in which one runtime is measured: it opens one model and draws batches when it is told to.

    python -m ganzoo.export.benchmark.worker

It is told by lines of JSON on standard input and answers each by one on standard output:

    {"open": {"runtime": …, "path": …, "device": …, "threads": …, "batch_sizes": […]}}
        → {"computed_on": …, "threads": …, "memory_bytes": …}
    {"draw": batch size, "seconds": …, "from_seeds": …}
        → {"seconds": [of each draw]}

A process of its own makes the memory that is counted the runtime's alone, and keeps the threads of two runtimes apart.
`ganzoo.benchmarking.serving` has the rest.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.benchmarking.serving import Answer, peak_memory, serve_standard_input
from ganzoo.errors import UsageError

if TYPE_CHECKING:
    from ganzoo.sampling import BaseSampler

_FIRST_SEED = 1 << 40


class _Worker:
    """A sampler, and z and labels of the batches that it is to draw, made beforehand."""

    def __init__(self, runtime: str, path: str, device: str, threads: int | None, batch_sizes: Sequence[int]) -> None:
        import numpy as np

        from ganzoo.seeds import labels_of, latents

        self._sampler, self.computed_on, self.threads = _open(runtime, Path(path), device, threads)
        self._batches = {}
        for size in sorted(batch_sizes):
            seeds = np.arange(size, dtype=np.uint64) + np.uint64(_FIRST_SEED)
            z = latents(seeds, self._sampler.latent_dim, self._sampler.prior)
            classes = self._sampler.num_classes
            self._batches[size] = (z, labels_of(seeds, classes) if classes else None)
            for _ in range(2):  # the first draws of a size choose algorithms, allocate and capture
                self._sampler._draw(*self._batches[size])

    def draw(self, size: int, seconds: float, *, from_seeds: bool = False) -> list[float]:
        """Return the seconds of each draw of a batch: one draw at least.

        Args:
            size: images in it.
            seconds: after which no further one is begun.
            from_seeds: time all that `sample` does; else from z on the host to images on the host.
        """
        batch, seeds = self._batches[size], range(_FIRST_SEED, _FIRST_SEED + size)
        taken: list[float] = []
        end = time.perf_counter() + seconds
        while not taken or time.perf_counter() < end:
            begun = time.perf_counter()
            if from_seeds:
                self._sampler.sample(seeds, batch_size=size)
            else:
                self._sampler._draw(*batch)
            taken.append(time.perf_counter() - begun)
        return taken


def _open(runtime: str, path: Path, device: str, threads: int | None) -> tuple[BaseSampler, str, int]:
    """Return a runtime's sampler of a model, the name of what computes, and the processor's threads that it uses."""
    if runtime.startswith("onnx"):
        from ganzoo.export.runtime.sampler import OnnxSampler

        sampler = OnnxSampler(path, provider=device, threads=threads)
        return sampler, sampler.provider, sampler.threads
    if runtime.startswith("openvino"):
        from ganzoo.export.runtime.openvino import OpenVINOSampler

        if device not in ("auto", "cpu"):
            raise UsageError(f"OpenVINO draws on the processor, not on {device}.")
        precision = "bf16" if runtime.endswith("bf16") else "fp32"
        drawn = OpenVINOSampler(path, precision=precision, threads=threads)
        return drawn, "cpu", drawn.threads
    import torch

    from ganzoo.references import ModelLocation
    from ganzoo.sampling import TorchSampler

    if threads is not None:
        torch.set_num_threads(threads)
    location = ModelLocation(path, "folder" if path.is_dir() else "safetensors")
    made = TorchSampler.open(location, device=device, precision="bf16" if runtime == "torch-bf16" else "fp32")
    if runtime == "torch-compile":
        made._generator = torch.compile(made._generator, dynamic=False)  # type: ignore[assignment]
    return made, str(made.device), torch.get_num_threads()


def answering() -> Answer:
    """Return what answers the commands of one process."""
    worker: _Worker | None = None

    def answer(command: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal worker
        if "open" in command:
            worker = _Worker(**command["open"])
            return {
                "computed_on": worker.computed_on,
                "threads": worker.threads,
                "memory_bytes": peak_memory(),
            }
        assert worker is not None
        from_seeds = command.get("from_seeds", False)
        return {"seconds": worker.draw(command["draw"], command["seconds"], from_seeds=from_seeds)}

    return answer


if __name__ == "__main__":
    serve_standard_input(answering())
