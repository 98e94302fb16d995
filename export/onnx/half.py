"""float16 inside, float32 outside: half the size, and on a GPU the speed of its half-precision units.

The folded float32 graph is converted, not the network: batch norms folded in float32 and rounded once come out nearer
(measured on trained nets: 6e-4 of the range at most, against 1e-3 for a graph traced from `module.half()`), and each
processor decides by itself what it computes in float16. On CPUs without such arithmetic ONNX Runtime computes in
float32, as fast as with the float32 file.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from ganzoo.errors import GanzooError
from ganzoo.export.onnx.passes import clean
from ganzoo.export.runtime.providers import import_runtime


def to_half(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph with weights and arithmetic in float16, where operators have it, and inputs and outputs as before.

    Args:
        graph: in float32; not changed.

    Raises:
        GanzooError: the converter cannot.
    """
    given = onnx.ModelProto()
    given.CopyFrom(graph)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = _converter()(given, keep_io_types=True)
            # The converter leaves its casts at the end of the list of nodes, and the types of before; cleaning puts
            # nodes into the order in which they are computed, and drops inferred types.
            return clean(converted)
    except Exception as error:  # the converter's errors have no common class
        reason = " ".join(str(error).split()) or type(error).__name__
        raise GanzooError(f"The graph cannot be converted to float16: {reason[:200]}.", "Use fp32.") from error


def _converter() -> Callable[..., Any]:
    """Return ONNX Runtime's converter, loaded as a file: its package would put a folder of scripts on the path."""
    place = Path(import_runtime().__file__).parent / "transformers" / "float16.py"
    spec = importlib.util.spec_from_file_location("ganzoo.export.onnx._float16", place)
    if spec is None or spec.loader is None:
        raise ImportError(f"{place} is no Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    converter: Callable[..., Any] = module.convert_float_to_float16
    return converter
