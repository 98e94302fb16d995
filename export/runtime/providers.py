"""ONNX Runtime's execution providers: which there are, and a session of which is known what computes it.

ONNX Runtime goes on without a word, or with red lines, on the processor where a provider cannot be loaded, and
`get_available_providers` names what was compiled in, not what works. So a session is asked what it really has, and what
was asked for by name and is not there is an error that says why.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganzoo.errors import MissingDependencyError, UsageError, WeightsError, suggest
from ganzoo.export.metadata import EXPORT_AGAIN

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
}
"""Names of providers, and ONNX Runtime's names of them."""

_PACKAGES = {
    "cuda": "onnxruntime-gpu[cuda,cudnn]",
    "tensorrt": "onnxruntime-gpu",
    "openvino": "onnxruntime-openvino",
    "directml": "onnxruntime-directml",
    "migraphx": "onnxruntime-migraphx",
}
_LIBRARIES = {"cuda": "onnxruntime_providers_cuda", "tensorrt": "onnxruntime_providers_tensorrt"}
_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_MOST_THREADS = 1024
_SILENT, _WARNINGS = 4, 2  # ONNX Runtime's levels of logging; the second is its default
_LONGEST = 300  # signs of a foreign message that are quoted
_RECORD = "session.record_ep_graph_assignment_info"
_WAITING = 500  # microseconds
_KNOWS_AN_END = (1, 26)  # of ONNX Runtime, the first version that bounds active waiting


@dataclass(frozen=True)
class OpenedSession:
    """A session, and what computes it.

    Args:
        session: `onnxruntime.InferenceSession`.
        provider: "cpu", "cuda" …, really active.
        device_id: which device of the provider.
        threads: of the processor.
        graph: whether runs are captured in CUDA graphs, which asks for bound inputs and outputs of fixed shapes.
    """

    session: Any
    provider: str
    device_id: int
    threads: int
    graph: bool


def open_session(
    path: Path, provider: str, *, threads: int | None = None, allow_tf32: bool = False, graph: bool = True
) -> OpenedSession:
    """Return a session of an ONNX file on a provider that works.

    Args:
        path: the file.
        provider: a name of `PROVIDERS`, "cuda:N" for a certain GPU, or "auto": CUDA where it works, else the processor.
        threads: of the processor; None for as many as `default_threads` says.
        allow_tf32: let a GPU multiply in TF32, which is faster and draws other images from the fourth digit on.
        graph: capture CUDA graphs where the model allows it.

    Raises:
        UsageError: there is no such provider, or it does not work here.
        WeightsError: the file cannot be read.
        MissingDependencyError: ONNX Runtime cannot be imported.
    """
    name, device_id = _parsed(provider)
    threads = check_threads(threads)
    runtime = import_runtime()
    if name == "auto":
        if _cuda_may_work(runtime):
            with contextlib.suppress(UsageError):
                return _open(runtime, path, "cuda", 0, threads, allow_tf32, graph)
        name = "cpu"
    return _open(runtime, path, name, device_id, threads, allow_tf32, graph)


def import_runtime() -> Any:
    """Return the module onnxruntime, which then tells nobody of its use.

    Left to itself, version 1.31 keeps an identifier of the machine in the cache folder and sends events to its maker.
    Who wants that sets `ORT_DISABLE_TELEMETRY=0`.

    Raises:
        MissingDependencyError: it cannot be imported.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported for the first time
    try:
        return importlib.import_module("onnxruntime")
    except Exception as error:  # a broken installation raises more than ImportError
        raise MissingDependencyError(
            f"ONNX Runtime cannot be imported: {one_line(error)}.", "Reinstall it: pip install onnxruntime"
        ) from error


def _parsed(provider: str) -> tuple[str, int]:
    name, colon, number = provider.partition(":")
    if name != "auto" and name not in PROVIDERS:
        raise UsageError(f"There is no provider {provider!r}.", suggest(name, ["auto", *PROVIDERS]))
    if colon and not (number.isascii() and number.isdecimal() and len(number) < 4 and name in ("cuda", "tensorrt")):
        raise UsageError(f"There is no provider {provider!r}.", "For example: cuda, cuda:1 or cpu.")
    return name, int(number or 0)


def _cuda_may_work(runtime: Any) -> bool:
    """Return whether it is worth to try CUDA: ONNX Runtime was built with it, and there is a driver."""
    return PROVIDERS["cuda"] in runtime.get_available_providers() and _reason_not_loaded(_DRIVER) is None


def _open(
    runtime: Any, path: Path, name: str, device_id: int, threads: int, allow_tf32: bool, graph: bool
) -> OpenedSession:
    _check_possible(runtime, name)
    with _quietly(runtime):
        if name in _LIBRARIES and hasattr(runtime, "preload_dlls"):
            runtime.preload_dlls()  # CUDA's libraries that pip installed, where the system's loader does not look
        failure: Exception
        for captured in (True, False) if name == "cuda" and graph else (False,):
            try:
                session = _session(runtime, path, name, _options_of(name, device_id, captured, allow_tf32), threads)
            except Exception as error:  # ONNX Runtime's errors have no base of their own
                failure = error
                continue
            if (reason := _reason_not_active(session, name)) is not None:
                raise UsageError(f"Provider {name} does not work here: {reason}.", _remedy(name))
            return OpenedSession(session, name, device_id, threads, captured)
        if name != "cpu":
            _open(runtime, path, "cpu", 0, threads, allow_tf32, False)  # where that fails too, the fault is the file's
            raise UsageError(f"Provider {name} does not work here: {one_line(failure)}.", _remedy(name)) from failure
    raise _refused(path, failure) from failure


def _session(runtime: Any, path: Path, name: str, provider_options: dict[str, str], threads: int) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = threads
    for key, value in waiting(runtime.__version__).items():
        options.add_session_config_entry(key, value)
    if name != "cpu":
        options.add_session_config_entry(_RECORD, "1")
    if name == "directml":  # which does without memory patterns
        options.enable_mem_pattern = False
    providers = [(PROVIDERS[name], provider_options)]
    # Without enable_fallback=False, a provider's failure is printed on standard output, and the processor taken.
    return runtime.InferenceSession(str(path), options, providers=providers, enable_fallback=False)


def waiting(version: str) -> dict[str, str]:
    """Return the settings of a session for how its threads wait for work: actively, for half a millisecond.

    Waking a thread takes as long as a layer of a small net: where threads wait actively between layers, single images
    take 0.6 to 0.8 of the time. Without an end, which is ONNX Runtime's default, they go on after the last layer and
    take cores from whatever else runs; versions that know no end are told not to.

    Args:
        version: of ONNX Runtime.
    """
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _KNOWS_AN_END:
        return {"session.intra_op.allow_spinning": "0"}
    return {"session.intra_op.allow_spinning": "1", "session.intra_op.spin_duration_us": str(_WAITING)}


def _options_of(name: str, device_id: int, graph: bool, allow_tf32: bool) -> dict[str, str]:
    if name == "cuda":
        return {
            "device_id": str(device_id),
            "cudnn_conv_algo_search": "HEURISTIC",  # EXHAUSTIVE, the default, searches anew for each batch size
            "use_tf32": str(int(allow_tf32)),
            "enable_cuda_graph": str(int(graph)),
        }
    return {"device_id": str(device_id)} if name == "tensorrt" else {}


def check_threads(threads: int | None) -> int:
    """Return a number of threads as asked for, or `default_threads` for None.

    Raises:
        UsageError: it is no such number.
    """
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise UsageError(f"`threads` (={threads!r}) must be a whole number, at least 1.")
    return threads or default_threads()


def default_threads() -> int:
    """Return what `OMP_NUM_THREADS` says, which torch obeys too, else one thread for each core that may be used.

    Left to itself, ONNX Runtime ties each thread to a core, busy or not, and asks for cores that a container was not
    given. A core's second thread (SMT) gives nothing to arithmetic, so it is not counted where the system tells of it.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isascii() and asked.isdecimal() and int(asked[:9]) > 0:
        return min(int(asked[:9]), _MOST_THREADS)
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    usable = os.sched_getaffinity(0)
    try:
        return len({Path(_SIBLINGS.format(number)).read_text(encoding="ascii") for number in usable})
    except OSError:
        return len(usable)


# ------------------------------------------------------------------ why a provider does not work


def _check_possible(runtime: Any, name: str) -> None:
    """Refuse a provider that is not worth a try."""
    available = runtime.get_available_providers()
    if PROVIDERS[name] not in available:
        known = {long: short for short, long in PROVIDERS.items()}
        has = ", ".join(known.get(one, one) for one in available)
        raise UsageError(f"Provider {name} is not in this ONNX Runtime, which has {has}.", _remedy(name))
    if name in _LIBRARIES and (reason := _reason_not_loaded(_DRIVER)) is not None:
        raise UsageError(
            f"Provider {name} does not work here: there is no NVIDIA driver ({reason}).",
            "Install the driver, or use --provider cpu.",
        )


def _reason_not_active(session: Any, name: str) -> str | None:
    """Return why a session computes nothing on a provider that it was made for, or None."""
    if PROVIDERS[name] not in session.get_providers():
        library = _library(name)
        reason = _reason_not_loaded(str(library)) if library is not None else None
        return reason or "ONNX Runtime could not start it"
    if name == "cpu" or not hasattr(session, "get_provider_graph_assignment_info"):  # since ONNX Runtime 1.24
        return None
    parts = session.get_provider_graph_assignment_info()
    return None if any(part.ep_name == PROVIDERS[name] for part in parts) else "it can compute nothing of this model"


def _library(name: str) -> Path | None:
    """Return the shared library of a provider in ONNX Runtime's folder."""
    if name not in _LIBRARIES:
        return None
    folder = Path(importlib.import_module("onnxruntime").__file__ or "").parent / "capi"
    return next(iter(sorted(folder.glob(f"*{_LIBRARIES[name]}.*"))), None)


def _reason_not_loaded(library: str) -> str | None:
    """Return why a shared library cannot be loaded, or None where it can."""
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return one_line(error)
    return None


def _remedy(name: str) -> str:
    if name in _PACKAGES:
        return f"Install what it needs (pip install '{_PACKAGES[name]}'), or use --provider cpu."
    return "Use --provider cpu."


def _refused(path: Path, error: Exception) -> WeightsError:
    """Return the error of a file that ONNX Runtime does not take."""
    if type(error).__name__ == "InvalidProtobuf":
        return WeightsError(f"{path} is no ONNX file, or not the whole of it.", EXPORT_AGAIN)
    reason = one_line(error).removeprefix(f"Load model from {path} failed:")
    return WeightsError(f"ONNX Runtime does not take {path}: {reason}.", EXPORT_AGAIN)


def one_line(error: BaseException) -> str:
    """Return an error of a foreign library as one line, without ONNX Runtime's code at its beginning."""
    text = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
    text = re.sub(r"^\d+ : [A-Z_]+ : ", "", text).rstrip(".")
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..." if text else type(error).__name__


@contextlib.contextmanager
def _quietly(runtime: Any) -> Iterator[None]:
    """Within it ONNX Runtime logs nothing and its Python prints nothing: what matters is raised, in one line.

    The default logger, which speaks while providers are loaded, has no session's options.
    """
    runtime.set_default_logger_severity(_SILENT)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        runtime.set_default_logger_severity(_WARNINGS)
