"""Drawing images from an exported ONNX file with ONNX Runtime: no torch, no onnx.

    from ganzoo.export import OnnxSampler
    images = OnnxSampler("model.onnx").sample(range(16))

The same seeds give the same images as in torch: z, labels and truncation come from `ganzoo.sampling` for both.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.errors import GanzooError, UsageError, WeightsError
from ganzoo.export.metadata import EXPORT_AGAIN, OnnxMetadata, read_metadata
from ganzoo.export.runtime.engines import OUTPUT, choose_engine
from ganzoo.export.runtime.providers import OpenedSession, one_line, open_session
from ganzoo.reading import START_BYTES, open_ordinary, what_it_is
from ganzoo.sampling import BaseSampler


class OnnxSampler(BaseSampler):
    """Draws images with an ONNX file that `ganzoo export` wrote.

    Args:
        path: the file.
        provider: what computes: "auto" (CUDA where it works, else the processor), "cpu", "cuda", "cuda:1", "tensorrt",
            "openvino", "coreml", "directml" or "migraphx"; one that is named and does not work is an error.
        threads: of the processor; None for `OMP_NUM_THREADS` where it is set, else one a core.
        allow_tf32: let a GPU multiply in TF32, which is faster and draws other images from the fourth digit on.

    Attributes:
        image_size, channels, num_classes, latent_dim, prior: of the model.
        metadata: what the file says of itself.
        provider: what computes: "cpu", "cuda" ….
        threads: of the processor.

    Raises:
        UsageError: no such provider, or one that does not work here.
        WeightsError: no ONNX file, a damaged one, or none that ganzoo exported.
        MissingDependencyError: ONNX Runtime cannot be imported.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        provider: str = "auto",
        threads: int | None = None,
        *,
        allow_tf32: bool = False,
    ) -> None:
        self.path = Path(path)
        _check_start(self.path)
        opened = open_session(self.path, provider, threads=threads, allow_tf32=allow_tf32)
        self.metadata = _read(opened.session, str(self.path))
        super().__init__(
            image_size=self.metadata.image_size,
            channels=self.metadata.channels,
            num_classes=self.metadata.num_classes,
            latent_dim=self.metadata.latent_dim,
            prior=self.metadata.prior,
        )
        self.provider, self.threads, self._engine = opened.provider, opened.threads, choose_engine(opened)
        if opened.provider != "cpu":
            self._settle(opened, provider, threads, allow_tf32)

    def _settle(self, opened: OpenedSession, provider: str, threads: int | None, allow_tf32: bool) -> None:
        """Draw an image, and take what is left where that fails: CUDA without graphs, or with "auto" the processor.

        A session may well open where no kernel runs, for want of memory or of kernels for this GPU.
        """
        left = [provider] if opened.graph else []
        left += ["cpu"] if provider == "auto" else []
        while (failure := self._failure()) is not None:
            if not left:
                raise UsageError(f"Provider {provider} does not work here. {failure.message}", "Use --provider cpu.")
            opened = open_session(self.path, left.pop(0), threads=threads, allow_tf32=allow_tf32, graph=False)
            self.provider, self._engine = opened.provider, choose_engine(opened)

    def _failure(self) -> GanzooError | None:
        """Return why an image cannot be drawn, or None where it can."""
        try:
            self.sample([0])
        except GanzooError as error:
            return error
        return None

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
        inputs: dict[str, npt.NDArray[Any]] = {"z": z} if label is None else {"z": z, "label": label}
        try:
            images: npt.NDArray[Any] = self._engine(inputs)
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            raise GanzooError(
                f"ONNX Runtime cannot draw {len(z)} images of {self.path} at once: {one_line(error)}.",
                "Try a smaller --batch-size.",
            ) from error
        return images


def _check_start(path: Path) -> None:
    """Refuse what is evidently something else before ONNX Runtime is even imported."""
    try:
        with open_ordinary(path) as file:
            start = file.read(START_BYTES)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    if (found := what_it_is(start, path)) is not None:
        what, remedy = found
        raise WeightsError(f"{path} is no ONNX file: it is {what}.", remedy or EXPORT_AGAIN)


def _read(session: Any, where: str) -> OnnxMetadata:
    """Return what a file says of itself, if it is as it says."""
    try:
        metadata = read_metadata(session.get_modelmeta().custom_metadata_map, where)
        _check_signature(session, metadata, where)
    except UnicodeDecodeError as error:  # ONNX Runtime itself does not care what bytes a name has
        raise WeightsError(f"{where} is damaged: a text in it is not UTF-8.", EXPORT_AGAIN) from error
    return metadata


def _check_signature(session: Any, metadata: OnnxMetadata, where: str) -> None:
    """Refuse a file whose inputs and output are not those that its metadata tell of.

    The first axis is the batch and must be free.
    """
    size, channels = metadata.image_size, metadata.channels
    image = [channels, size, size] if metadata.layout == "nchw" else [size, size, channels]
    expected = {"z": ("tensor(float)", [metadata.latent_dim])}
    if metadata.num_classes:
        expected["label"] = ("tensor(int64)", [])
    expected[OUTPUT] = ("tensor(uint8)" if metadata.pixels == "uint8" else "tensor(float)", image)
    found = {one.name: (one.type, list(one.shape)) for one in (*session.get_inputs(), *session.get_outputs())}
    if found.keys() != expected.keys():
        raise WeightsError(
            f"{where} has the inputs and outputs {', '.join(found)}, not {', '.join(expected)}.", EXPORT_AGAIN
        )
    for name, (kind, rest) in expected.items():
        found_kind, shape = found[name]
        if found_kind != kind or shape[1:] != rest or not shape or isinstance(shape[0], int):
            raise WeightsError(
                f"{where}: {name} is {found_kind} {_shape(shape)}, not {kind} {_shape(['batch', *rest])}.",
                EXPORT_AGAIN,
            )


def _shape(axes: Sequence[object]) -> str:
    return "(" + ", ".join("?" if axis is None else str(axis) for axis in axes) + ")"
