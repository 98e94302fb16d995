"""Passes over ONNX graphs: pure functions from model to model, each of which leaves what the model computes unchanged.

In the order in which the exporter needs them:

    projection_to_gemm      a transposed convolution of a 1×1 image is a matrix product
    fold_batch_norms        batch norms into the layers before them, the first one too
    fold_shared_batch_norms batch norms of sums, which shortcuts read too
    subpixel                transposed convolutions as convolutions and DepthToSpace: for int8 all of them, for float32
                            those that run faster so on processors (`only_where_faster`)
    clean                   nothing left that depends on the process or tells of the machine
    check_no_random         no operator that draws random numbers
"""

from __future__ import annotations

from ganzoo.export.onnx.passes.batch_norm import batch_norms, fold_batch_norms
from ganzoo.export.onnx.passes.clean import check_no_random, clean
from ganzoo.export.onnx.passes.projection import projection_to_gemm
from ganzoo.export.onnx.passes.shared_norms import fold_shared_batch_norms
from ganzoo.export.onnx.passes.subpixel import subpixel

__all__ = [
    "batch_norms",
    "check_no_random",
    "clean",
    "fold_batch_norms",
    "fold_shared_batch_norms",
    "projection_to_gemm",
    "subpixel",
]
