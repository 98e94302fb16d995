"""Drawing images from an exported ONNX file with ONNX Runtime: no torch, no onnx.

    from ganzoo.export import OnnxSampler
    images = OnnxSampler("model.onnx").sample(range(16))

The same seeds give the same images as in torch: z, labels and truncation come from `ganzoo.sampling` for both.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ganzoo.errors import GanzooError, UsageError, WeightsError
from ganzoo.export.metadata import EXPORT_AGAIN, OnnxMetadata, read_metadata
from ganzoo.export.runtime.engines import Inputs, choose_engine
from ganzoo.export.runtime.exported import ExportedSampler, check_signature, check_start
from ganzoo.export.runtime.providers import OpenedSession, open_session
from ganzoo.sampling import check_exported_from, exported_file

if TYPE_CHECKING:
    from ganzoo.references import ModelLocation


class OnnxSampler(ExportedSampler):
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

    runtime, title = "onnx", "ONNX Runtime"

    def __init__(
        self,
        path: str | os.PathLike[str],
        provider: str = "auto",
        threads: int | None = None,
        *,
        allow_tf32: bool = False,
    ) -> None:
        path = Path(path)
        check_start(path)
        opened = open_session(path, provider, threads=threads, allow_tf32=allow_tf32)
        super().__init__(path, _read(opened.session, str(path)))
        self.provider, self.threads, self._engine = opened.provider, opened.threads, choose_engine(opened)
        if opened.provider != "cpu":
            self._settle(opened, provider, threads, allow_tf32)

    @classmethod
    def open(
        cls, location: ModelLocation, *, device: str = "auto", provider: str = "auto", precision: str = "auto"
    ) -> OnnxSampler:
        """Return the sampler of a model, of the ONNX file beside its weights where it is none itself.

        Args:
            location: the model.
            device: of the same name as the provider: "auto", "cpu", "cuda" ….
            provider: of ONNX Runtime.
            precision: "auto", or the file's own: a file computes in what it was exported in.

        Raises:
            UsageError: no exported file, another precision than its own, or a provider that does not work here.
            WeightsError: the file cannot be read, or was exported from other weights than those beside it.
            MissingDependencyError: ONNX Runtime cannot be imported.
        """
        path = exported_file(location)
        sampler = cls(path, provider=_provider(device, provider))
        own = sampler.metadata.precision
        if precision not in ("auto", own):
            raise UsageError(
                f"{path} computes in {own} in ONNX Runtime, not in {precision}.",
                "Leave out --precision, or choose --runtime torch or openvino.",
            )
        check_exported_from(location, path, sampler.metadata.weights_sha256)
        return sampler

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

    def _compute(self, inputs: Inputs) -> npt.NDArray[Any]:
        return self._engine(inputs)


def _provider(device: str, provider: str) -> str:
    if "auto" in (device, provider):
        return provider if device == "auto" else device
    if provider != device:
        raise UsageError(f"The device {device} and the provider {provider} are two places.", "Give one of them.")
    return provider


def _read(session: Any, where: str) -> OnnxMetadata:
    """Return what a file says of itself, if it is as it says."""
    try:
        metadata = read_metadata(session.get_modelmeta().custom_metadata_map, where)
        values = (*session.get_inputs(), *session.get_outputs())
        check_signature({one.name: (one.type, one.shape) for one in values}, metadata, where)
    except UnicodeDecodeError as error:  # ONNX Runtime itself does not care what bytes a name has
        raise WeightsError(f"{where} is damaged: a text in it is not UTF-8.", EXPORT_AGAIN) from error
    return metadata
