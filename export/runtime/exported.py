"""What all samplers of exported files share: the file is checked, and its images are brought to one form.

An exported file says of itself what it draws (`ganzoo.export.metadata`); it may draw numbers or pixels, channels first
or last. A subclass opens the file with its runtime and computes a batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ganzoo.errors import GanzooError, WeightsError
from ganzoo.export.metadata import EXPORT_AGAIN, OnnxMetadata
from ganzoo.export.runtime.engines import OUTPUT, Inputs
from ganzoo.export.runtime.providers import one_line
from ganzoo.reading import START_BYTES, open_ordinary, what_it_is
from ganzoo.sampling import BaseSampler


class ExportedSampler(BaseSampler):
    """A sampler of an exported file, all but the runtime. A subclass implements `_compute`.

    Args:
        path: the file.
        metadata: what it says of itself.

    Attributes:
        path, metadata: as given.
        runtime: the name under which the subclass is registered.
        title: what its runtime calls itself.
    """

    runtime: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, path: Path, metadata: OnnxMetadata) -> None:
        super().__init__(
            image_size=metadata.image_size,
            channels=metadata.channels,
            num_classes=metadata.num_classes,
            latent_dim=metadata.latent_dim,
            prior=metadata.prior,
        )
        self.path, self.metadata = path, metadata

    @abstractmethod
    def _compute(self, inputs: Inputs) -> npt.NDArray[Any]:
        """Return the images of a batch as the file draws them; whatever it raises is told in one line.

        Args:
            inputs: name → (batch, …), at least one image.
        """

    def pixels(
        self,
        seeds: npt.ArrayLike,
        labels: npt.ArrayLike | None = None,
        *,
        truncation: float | None = None,
        batch_size: int = 64,
    ) -> npt.NDArray[np.uint8]:
        """Return the images of seeds: (n, image_size, image_size, channels), uint8.

        Those of a file that draws uint8 are returned as they are; others are made by `ganzoo.pictures.to_uint8`.
        Arguments and errors are those of `sample`.
        """
        if self.metadata.pixels != "uint8":
            return super().pixels(seeds, labels, truncation=truncation, batch_size=batch_size)
        parts = [self._run(z, label) for z, label in self._batches(seeds, labels, truncation, batch_size)]
        if not parts:
            return np.empty((0, self.image_size, self.image_size, self.channels), dtype=np.uint8)
        images = np.concatenate(parts)
        return images if self.metadata.layout == "nhwc" else np.ascontiguousarray(images.transpose(0, 2, 3, 1))

    def _draw(self, z: npt.NDArray[np.float32], label: npt.NDArray[np.int64] | None) -> npt.NDArray[np.float32]:
        images = self._run(z, label)
        if self.metadata.layout == "nhwc":
            images = images.transpose(0, 3, 1, 2)
        if images.dtype == np.uint8:
            return images.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
        return images.astype(np.float32, copy=False)

    def _run(self, z: npt.NDArray[np.float32], label: npt.NDArray[np.int64] | None) -> npt.NDArray[Any]:
        try:
            return self._compute({"z": z} if label is None else {"z": z, "label": label})
        except Exception as error:  # the runtimes' errors have no base of their own
            raise GanzooError(
                f"{self.title} cannot draw {len(z)} images of {self.path} at once: {one_line(error)}.",
                "Try a smaller --batch-size.",
            ) from error


def check_start(path: Path) -> None:
    """Refuse what is evidently something else before a runtime is even imported.

    Raises:
        WeightsError: the file cannot be read, or is no ONNX file.
    """
    try:
        with open_ordinary(path) as file:
            start = file.read(START_BYTES)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    if (found := what_it_is(start, path)) is not None:
        what, remedy = found
        raise WeightsError(f"{path} is no ONNX file: it is {what}.", remedy or EXPORT_AGAIN)


def check_signature(found: Mapping[str, tuple[str, Sequence[Any]]], metadata: OnnxMetadata, where: str) -> None:
    """Refuse a file whose inputs and output are not those that its metadata tell of.

    The first axis is the batch and must be free.

    Args:
        found: name → (type as ONNX Runtime writes it, such as "tensor(float)"; sides: a number, or anything else for
            one that is free) of all inputs and outputs.
        metadata: of the file.
        where: whose they are, for messages.

    Raises:
        WeightsError: they are others.
    """
    size, channels = metadata.image_size, metadata.channels
    image = [channels, size, size] if metadata.layout == "nchw" else [size, size, channels]
    expected = {"z": ("tensor(float)", [metadata.latent_dim])}
    if metadata.num_classes:
        expected["label"] = ("tensor(int64)", [])
    expected[OUTPUT] = ("tensor(uint8)" if metadata.pixels == "uint8" else "tensor(float)", image)
    if found.keys() != expected.keys():
        raise WeightsError(
            f"{where} has the inputs and outputs {', '.join(found)}, not {', '.join(expected)}.", EXPORT_AGAIN
        )
    for name, (kind, rest) in expected.items():
        found_kind, shape = found[name]
        if found_kind != kind or list(shape[1:]) != rest or not shape or isinstance(shape[0], int):
            raise WeightsError(
                f"{where}: {name} is {found_kind} {_shape(shape)}, not {kind} {_shape(['batch', *rest])}.",
                EXPORT_AGAIN,
            )


def _shape(axes: Sequence[object]) -> str:
    return "(" + ", ".join("?" if axis is None else str(axis) for axis in axes) + ")"
