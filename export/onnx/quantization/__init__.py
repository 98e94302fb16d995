"""int8 for processors: static quantisation in QDQ form, laid out so that ONNX Runtime's int8 kernels take all of it.

    activations   uint8, one scale and zero point a tensor, so that they span what the calibration saw
    weights       int8, symmetric, one scale an output channel
    biases        int32, scale of the input × scale of the weights

Convolutions and dense layers run in int8, and so does what only moves elements between them (Concat, Reshape,
Transpose, DepthToSpace, Slice): all tensors around such an operator share one scale, so that nothing is converted. ONNX
Runtime has no int8 transposed convolution, and would convert back and forth around a float32 one: run `passes.subpixel`
first.

Images depend on z finely: 8 bits of it cost single images up to 13 dB of PSNR. So a layer that reads z reads it as the
sum of two uint8 tensors, 16 bits in all.

uint8 × int8 is the pair that x86 has instructions for; ONNX Runtime's kernels of other pairs take 2 to 6 times as long.

The sums of residual nets are float32: rounding them too was measured to cost as much as all else in a block. Each block
adds its own noise, so that deep nets may miss the bound; then the first layers compute in float32 (`choosing`), on
small maps, where they cost least.

    groups        which tensors share a scale       ranges, activations, weights   numbers → integers
    layout        channels last                     quantizer, choosing            the whole, and how much of it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

from ganzoo.export.onnx.passes.graph import Array
from ganzoo.export.onnx.quantization.choosing import quantize_within
from ganzoo.export.onnx.quantization.quantizer import Quantizer
from ganzoo.export.onnx.quantization.weights import weight_steps

__all__ = ["Quantizer", "quantize", "quantize_within", "weight_steps"]


def quantize(model: onnx.ModelProto, calibration: Iterable[Mapping[str, Array]]) -> onnx.ModelProto:
    """Return the model with all its layers in int8; arguments, result and errors as of `Quantizer`."""
    return Quantizer(model, calibration).quantized()
