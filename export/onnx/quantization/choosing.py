"""How much of a net is int8: all of it, or all but the first layers.

Each quantised tensor adds noise, and in a residual net it stays in the sum until the end. A layer on a small map adds
as much as one on a large map and costs a small part of it, so that the first layers are the cheapest to keep in
float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

from ganzoo.export.onnx.parity import difference, open_session
from ganzoo.export.onnx.passes import clean
from ganzoo.export.onnx.passes.graph import Array
from ganzoo.export.onnx.quantization.quantizer import Quantizer

_MOST_WORK = 0.5  # of all multiplications; beyond it int8 is hardly faster


def quantize_within(
    model: onnx.ModelProto, calibration: Iterable[Mapping[str, Array]], trial: Mapping[str, Array], psnr: float
) -> tuple[onnx.ModelProto, int]:
    """Return the model in int8, with as few of its first layers in float32 as its images need.

    Args:
        model: float32, after `passes.fold_batch_norms` and `passes.subpixel`.
        calibration: inputs by name, in batches: the ranges of activations are measured on them.
        trial: inputs by name, on whose images it is measured how far int8 is away.
        psnr: what every image must have, in decibels; where half of the work in float32 does not reach it, that is what
            is returned.

    Returns:
        The model, and how many layers are in float32, those that read z not counted.

    Raises:
        GanzooError: as of `Quantizer`.
    """
    quantizer = Quantizer(model, calibration)
    wanted = _images(model, trial)

    def reaches(count: int) -> bool:
        drawn = _images(clean(quantizer.quantized(count)), trial)
        return difference(drawn, wanted).psnr >= psnr

    if reaches(0):
        return quantizer.quantized(0), 0
    low, high = 0, quantizer.most_in_float(_MOST_WORK)  # `low` does not reach it
    while high - low > 1:
        middle = (low + high) // 2
        if reaches(middle):
            high = middle
        else:
            low = middle
    return quantizer.quantized(high), high


def _images(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> Array:
    images: Array = open_session(model.SerializeToString(), 1).run(None, dict(inputs))[0]
    return images
