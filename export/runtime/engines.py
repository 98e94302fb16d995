"""How a session of ONNX Runtime is run: plainly, or with inputs and outputs that stay on the GPU's side.

A CUDA graph replays kernels that were captured once, on the same memory and with the same shapes: the host launches one
graph in place of dozens of kernels, which is most of the time of a small generator. So batches are filled up to a few
sizes, and each size has its own buffers and its own graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ganzoo.export.runtime.providers import OpenedSession, import_runtime

_LARGEST_POWER = 64  # up to it batches are filled up to a power of two, beyond it to a multiple of it
OUTPUT = "image"

Inputs = Mapping[str, npt.NDArray[Any]]


class Engine(Protocol):
    """Computes images from the inputs of a session."""

    def __call__(self, inputs: Inputs) -> npt.NDArray[Any]:
        """Return the images of a batch: (batch, …).

        Args:
            inputs: name → (batch, …), at least one image.
        """


def choose_engine(opened: OpenedSession) -> Engine:
    """Return how to run a session: bound on CUDA, plainly elsewhere."""
    if opened.provider == "cuda":
        return BoundEngine(opened.session, "cuda", opened.device_id, graph=opened.graph)
    return PlainEngine(opened.session)


class PlainEngine:
    """Runs a session on arrays of any batch size."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __call__(self, inputs: Inputs) -> npt.NDArray[Any]:
        """Return the images of a batch."""
        images: npt.NDArray[Any] = self._session.run([OUTPUT], dict(inputs))[0]
        return images


@dataclass(frozen=True)
class _Bound:
    """The buffers of one batch size on the device, and how the session is run with them."""

    binding: Any
    inputs: Mapping[str, Any]
    output: Any
    options: Any


class BoundEngine:
    """Runs a session on buffers that lie on its device, one set for each size of batch.

    Args:
        session: of ONNX Runtime.
        device: the buffers' device: "cuda"; "cpu" computes the same without a GPU.
        device_id: which of them.
        graph: whether the session captures a CUDA graph; each size then has its own.
    """

    def __init__(self, session: Any, device: str, device_id: int, *, graph: bool) -> None:
        self._session, self._device, self._device_id, self._graph = session, device, device_id, graph
        self._sizes: dict[int, _Bound] = {}

    def __call__(self, inputs: Inputs) -> npt.NDArray[Any]:
        """Return the images of a batch."""
        count = len(next(iter(inputs.values())))
        size = filled_size(count)
        padded = {name: _padded(array, size) for name, array in inputs.items()}
        if size not in self._sizes:
            self._sizes[size] = self._bind(padded, size)
        bound = self._sizes[size]
        for name, array in padded.items():
            bound.inputs[name].update_inplace(array)
        self._session.run_with_iobinding(bound.binding, bound.options)
        images: npt.NDArray[Any] = bound.output.numpy()
        if images.base is not None:  # on the processor it is the buffer itself, into which the next batch is drawn
            images = images.copy()
        return images[:count]

    def _bind(self, inputs: Inputs, size: int) -> _Bound:
        runtime = import_runtime()
        place = (self._device, self._device_id)
        options = runtime.RunOptions()
        if self._graph:
            options.add_run_config_entry("gpu_graph_id", str(len(self._sizes) + 1))  # 0 is for runs without a name
        # Copies, for on the processor these would be the caller's own arrays, which the next batch is written into.
        values = {name: runtime.OrtValue.ortvalue_from_numpy(array.copy(), *place) for name, array in inputs.items()}
        (image,) = (one for one in self._session.get_outputs() if one.name == OUTPUT)
        kind = np.uint8 if "uint8" in image.type else np.float32
        output = runtime.OrtValue.ortvalue_from_shape_and_type([size, *image.shape[1:]], kind, *place)
        binding = self._session.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_ortvalue_output(OUTPUT, output)
        return _Bound(binding, values, output, options)


def filled_size(count: int) -> int:
    """Return to how many images a batch is filled up: a power of two up to 64, beyond it a multiple of 64.

    It hangs on nothing but the batch, so that the same call draws the same images whatever was drawn before.
    """
    if count > _LARGEST_POWER:
        return -(-count // _LARGEST_POWER) * _LARGEST_POWER
    return 1 << (count - 1).bit_length()


def _padded(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    if len(array) == size:
        return np.ascontiguousarray(array)
    padded = np.zeros((size, *array.shape[1:]), dtype=array.dtype)
    padded[: len(array)] = array
    return padded
