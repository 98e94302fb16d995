"""Taking models out of PyTorch: installed as `ganzoo.export`.

    from ganzoo.export import OnnxSampler, OpenVINOSampler, convert, export_onnx

Importing this package imports neither torch nor onnx; what is asked for is imported then (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganzoo.export.conversion.converting import convert as convert
    from ganzoo.export.onnx.exporting import export_onnx as export_onnx
    from ganzoo.export.runtime.openvino import OpenVINOSampler as OpenVINOSampler
    from ganzoo.export.runtime.sampler import OnnxSampler as OnnxSampler

_LAZY = {
    "OnnxSampler": "ganzoo.export.runtime.sampler",
    "OpenVINOSampler": "ganzoo.export.runtime.openvino",
    "convert": "ganzoo.export.conversion.converting",
    "export_onnx": "ganzoo.export.onnx.exporting",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ganzoo.export' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
