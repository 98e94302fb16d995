"""Drawing images from an exported ONNX file with OpenVINO, which comes with the extra `openvino`: no torch.

    from ganzoo.export import OpenVINOSampler
    images = OpenVINOSampler("model.onnx", precision="bf16").sample(range(16))

OpenVINO has bf16 convolutions for processors, which ONNX Runtime has not, and computes convolutions faster than
transposed ones: so these are written as convolutions when a file is read, which is exact (`passes.subpixel`). Left to
itself it computes in bf16 wherever the processor can; here it does so only where it is asked to.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ganzoo.errors import GanzooError, MissingDependencyError, UsageError, WeightsError, suggest
from ganzoo.export.metadata import EXPORT_AGAIN, OnnxMetadata, read_metadata
from ganzoo.export.runtime.engines import OUTPUT, Inputs
from ganzoo.export.runtime.exported import ExportedSampler, check_signature, check_start
from ganzoo.export.runtime.providers import check_threads, one_line
from ganzoo.sampling import check_exported_from, exported_file

if TYPE_CHECKING:
    import onnx

    from ganzoo.references import ModelLocation

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
"""What is computed in, and OpenVINO's names of it."""

_TELEMETRY = "openvino_telemetry"


class OpenVINOSampler(ExportedSampler):
    """Draws images on the processor with an ONNX file that `ganzoo export` wrote.

    It may be used by several threads: they draw one after the other.

    Args:
        path: the file.
        precision: of what the file does not compute in int8: "fp32", or "bf16", which is faster on processors that
            multiply it in hardware, and draws images that differ by rounding to 8 bits of mantissa.
        threads: of the processor; None for `OMP_NUM_THREADS` where it is set, else one a core.

    Attributes:
        image_size, channels, num_classes, latent_dim, prior: of the model.
        metadata: what the file says of itself.
        precision, threads: in use.

    Raises:
        UsageError: no such precision or number of threads, or bf16 on a processor that lacks it.
        WeightsError: no ONNX file, a damaged one, or none that ganzoo exported.
        MissingDependencyError: OpenVINO is not installed.
    """

    runtime, title = "openvino", "OpenVINO"

    def __init__(self, path: str | os.PathLike[str], *, precision: str = "fp32", threads: int | None = None) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"OpenVINO does not compute in {precision!r} here.", suggest(precision, PRECISIONS))
        self.precision, self.threads = precision, check_threads(threads)
        path = Path(path)
        check_start(path)
        model, metadata = _read(path)
        super().__init__(path, metadata)
        self._compiled = _compiled(model, path, precision, self.threads)
        self._request, self._turn = self._compiled.create_infer_request(), threading.Lock()

    @classmethod
    def open(
        cls, location: ModelLocation, *, device: str = "auto", provider: str = "auto", precision: str = "auto"
    ) -> OpenVINOSampler:
        """Return the sampler of a model, of the ONNX file beside its weights where it is none itself.

        Args:
            location: the model.
            device: "auto" or "cpu".
            provider: "auto": providers are of ONNX Runtime.
            precision: "auto" (fp32), "fp32" or "bf16".

        Raises:
            UsageError: no exported file, a provider or a device that cannot be, or bf16 on a processor that lacks it.
            WeightsError: the file cannot be read, or was exported from other weights than those beside it.
            MissingDependencyError: OpenVINO is not installed.
        """
        if provider != "auto":
            raise UsageError(f"A provider (={provider}) is of ONNX Runtime.", "Use --runtime onnx.")
        if device not in ("auto", "cpu"):
            raise UsageError(f"OpenVINO draws on the processor, not on {device}.", "Use --device cpu.")
        path = exported_file(location)
        sampler = cls(path, precision="fp32" if precision == "auto" else precision)
        check_exported_from(location, path, sampler.metadata.weights_sha256)
        return sampler

    def _compute(self, inputs: Inputs) -> npt.NDArray[Any]:
        with self._turn:  # a request serves one call at a time
            # Inputs are read where they lie; outputs are copied, for the next call draws into the same memory.
            images: npt.NDArray[Any] = self._request.infer(dict(inputs), share_inputs=True)[OUTPUT]
        return images


def import_openvino() -> Any:
    """Return the module openvino, which then tells nobody of its use.

    Left to itself it keeps an identifier in the home folder and sends an event to its maker when it is imported.

    Raises:
        MissingDependencyError: it is not installed, or broken.
    """
    try:
        with _without_telemetry():
            return importlib.import_module("openvino")
    except ModuleNotFoundError as error:
        if error.name != "openvino":
            raise _broken(error) from error
        raise MissingDependencyError(
            "OpenVINO is not installed.", "Install it: pip install 'ganzoo[openvino]'"
        ) from None
    except Exception as error:  # a broken installation raises more than ImportError
        raise _broken(error) from error


def _broken(error: BaseException) -> MissingDependencyError:
    return MissingDependencyError(
        f"OpenVINO cannot be imported: {one_line(error)}.", "Reinstall it: pip install --force-reinstall openvino"
    )


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """Within it there is no package of telemetry to import; OpenVINO then does without."""
    if _TELEMETRY in sys.modules:  # the program's own choice
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]


def _read(path: Path) -> tuple[onnx.ModelProto, OnnxMetadata]:
    """Return the model of a file and what it says of itself, if it is as it says."""
    import onnx

    where = str(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's errors have no common class
        raise WeightsError(f"{path} is no ONNX file, or not the whole of it.", EXPORT_AGAIN) from error
    said, signature = {entry.key: entry.value for entry in model.metadata_props}, _signature(model)
    if not all(isinstance(text, str) for text in (*said, *said.values(), *signature)):  # bytes where it cannot be read
        raise WeightsError(f"{path} is damaged: a text in it is not UTF-8.", EXPORT_AGAIN)
    metadata = read_metadata(said, where)
    check_signature(signature, metadata, where)
    try:
        onnx.checker.check_model(content, full_check=True)
    except Exception as error:  # the checker's and shape inference's errors have no common class
        raise WeightsError(f"{path} is damaged: {one_line(error)}.", EXPORT_AGAIN) from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise WeightsError(f"{path} keeps weights outside itself.", EXPORT_AGAIN)
    return model, metadata


def _signature(model: onnx.ModelProto) -> dict[str, tuple[str, list[Any]]]:
    """Return the kind and the sides of all inputs and outputs, as `check_signature` wants them."""
    import onnx

    kinds = {onnx.TensorProto.FLOAT: "float", onnx.TensorProto.INT64: "int64", onnx.TensorProto.UINT8: "uint8"}
    given = {tensor.name for tensor in model.graph.initializer}
    found = {}
    for value in (*(one for one in model.graph.input if one.name not in given), *model.graph.output):
        tensor = value.type.tensor_type
        sides = [side.dim_value if side.HasField("dim_value") else side.dim_param or None for side in tensor.shape.dim]
        found[value.name] = (f"tensor({kinds.get(tensor.elem_type, tensor.elem_type)})", sides)
    return found


def _compiled(model: onnx.ModelProto, path: Path, precision: str, threads: int) -> Any:
    """Return a model compiled for the processor."""
    from ganzoo.export.onnx.passes import subpixel

    openvino = import_openvino()
    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UsageError("This processor has no bf16.", "Use --precision fp32.")
    settings = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # a thread tied to a core waits for it, busy or not; untied ones were as fast
    }
    try:
        read = core.read_model(subpixel(model).SerializeToString())
        return core.compile_model(read, "CPU", settings)
    except GanzooError:
        raise
    except Exception as error:  # OpenVINO raises RuntimeError for all that it does not take
        raise WeightsError(f"OpenVINO does not take {path}: {one_line(error)}.", EXPORT_AGAIN) from error
