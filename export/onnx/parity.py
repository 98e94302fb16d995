"""The proof that an ONNX file draws the same pictures: of the exact bytes that are to be written, before they are.

1. onnx's checker accepts the file, with inferred shapes; inputs and outputs have their names, types and open batch; no
   operator draws random numbers.
2. ONNX Runtime on the CPU is held against the generator in torch on batches of 1, 2, 7 and 64 with fresh z, and on all
   classes. Errors are relative to the range of images, 2.0; those of uint8 are in levels.
3. An image is the same alone as beside others.

Fresh z are those of seeds from 2^63 on, which neither people nor the calibration of int8 use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from ganzoo.errors import GanzooError
from ganzoo.export.onnx.passes import check_no_random
from ganzoo.export.onnx.tracing import BATCH, IMAGE, LABEL, Interface, Z, draw
from ganzoo.export.runtime.providers import import_runtime
from ganzoo.pictures import to_uint8
from ganzoo.seeds import latents

BATCHES = (1, 2, 7, 64)
PROOF_SEED = 1 << 63
RANGE = 2.0  # of an image's numbers, -1 to 1
LEVELS = 255.0
MAX_ERRORS = {"fp32": 1e-5, "fp16": 5e-3}  # relative to the range
MAX_LEVELS = 1
MIN_PSNR = 35.0  # decibels, of int8: 4.5 of 255 levels, root mean square, as a good JPEG; trained nets have 42 to 51

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Parity:
    """How far ONNX Runtime's images of one batch are from torch's.

    Args:
        batch: images in it.
        max_error: the largest difference of a number; relative to the range of images (2.0), or in levels of uint8.
        mean_error: the mean difference, likewise.
        psnr: the lowest peak signal-to-noise ratio of its images, in decibels; infinite for equal images.
    """

    batch: int
    max_error: float
    mean_error: float
    psnr: float


@dataclass(frozen=True)
class Claim:
    """What a file claims to be, and so what it is held to.

    Args:
        precision: "fp32", "fp16" or "int8".
        pixels: "float" or "uint8".
        layout: "nchw" or "nhwc".
        opset: of its operators.
    """

    precision: str
    pixels: str
    layout: str
    opset: int

    @property
    def bound(self) -> str:
        """What it is held to, in words."""
        if self.precision == "int8":
            return f"PSNR of at least {MIN_PSNR:g} dB for every image"
        if self.pixels == "uint8":
            return f"largest difference of at most {MAX_LEVELS} level"
        return f"largest error of at most {MAX_ERRORS[self.precision]:g} of the range"

    def holds(self, parity: Parity) -> bool:
        """Return whether a batch is within the bound. NaN never is."""
        if self.precision == "int8":
            return parity.psnr >= MIN_PSNR
        if self.pixels == "uint8":
            return parity.max_error <= MAX_LEVELS
        return parity.max_error <= MAX_ERRORS[self.precision]


def check_file(content: bytes, claim: Claim, interface: Interface) -> None:
    """Check a file for what can be seen without running it.

    Args:
        content: the file's bytes.
        claim: what it claims to be.
        interface: of the model.

    Raises:
        GanzooError: it is no valid ONNX, not of this opset, not one file, has other inputs or outputs, or draws random
            numbers.
    """
    try:
        onnx.checker.check_model(content, full_check=True)
        graph = onnx.load_from_string(content)
    except Exception as error:  # the checker's, shape inference's and protobuf's errors have no common class
        reason = " ".join(str(error).split())
        raise GanzooError(f"The export is refused by onnx's checker: {reason[:300]}.") from error
    if (found := [(entry.domain, entry.version) for entry in graph.opset_import]) != [("", claim.opset)]:
        raise GanzooError(f"The export came out with the operators {found} instead of opset {claim.opset}.")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.graph.initializer):
        raise GanzooError("The export keeps weights outside its file.")
    check_no_random(graph)
    expected = _signature(claim, interface)
    given = {value.name: _type(value) for value in [*graph.graph.input, *graph.graph.output]}
    if given != expected:
        raise GanzooError(f"The export has other inputs and outputs than it should: {given} instead of {expected}.")


def _signature(claim: Claim, interface: Interface) -> dict[str, str]:
    channels, height, width = interface.image_shape
    image = (height, width, channels) if claim.layout == "nhwc" else (channels, height, width)
    expected = {Z: f"float32 ({BATCH}, {interface.latent_dim})"}
    if interface.num_classes:
        expected[LABEL] = f"int64 ({BATCH})"
    kind = "uint8" if claim.pixels == "uint8" else "float32"
    return {**expected, IMAGE: f"{kind} ({', '.join(map(str, (BATCH, *image)))})"}


def _type(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return f"{kind} ({', '.join(dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim)})"


def open_session(content: bytes, threads: int) -> Any:
    """Return a session of ONNX Runtime on the CPU.

    Args:
        content: a file's bytes.
        threads: of one operator.

    Raises:
        GanzooError: ONNX Runtime refuses the file.
    """
    onnxruntime = import_runtime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # so that torch beside it has the cores
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class of their own
        reason = " ".join(str(error).split())
        raise GanzooError(f"ONNX Runtime refuses the export: {reason[:300]}.") from error


def prove(session: Any, generator: nn.Module, claim: Claim, interface: Interface) -> tuple[Parity, ...]:
    """Hold ONNX Runtime against torch, and return how far apart they are, batch by batch.

    Args:
        session: from `open_session`, of the bytes that are to be written.
        generator: in torch, float32, eval.
        claim: what the file claims to be.
        interface: of the model.

    Raises:
        GanzooError: a batch is further away than the claim allows, or an image depends on its batch-mates; the message
            has the numbers.
    """
    rows = []
    for z, label in batches(interface):
        drawn = run(session, z, label)
        expected = draw(generator, torch.from_numpy(z), None if label is None else torch.from_numpy(label))
        rows.append(compare(drawn, expected, claim))
    if failed := [row for row in rows if not claim.holds(row)]:
        worst = min(failed, key=lambda row: row.psnr)
        raise GanzooError(
            f"The export does not draw the same images: {_numbers(worst, claim)} at batch {worst.batch}, "
            f"but {claim.precision} is held to a {claim.bound}. Nothing was written.",
            _remedy(claim),
        )
    _prove_independence(session, claim, interface)
    return tuple(rows)


def batches(interface: Interface) -> Iterator[tuple[Array, Array | None]]:
    """Yield z and labels of the batches; further ones of the largest size until every class was drawn."""
    first, drawn = PROOF_SEED, 0
    sizes = list(BATCHES)
    while sum(sizes) < interface.num_classes:
        sizes.append(BATCHES[-1])
    for batch in sizes:
        seeds = np.arange(batch, dtype=np.uint64) + np.uint64(first + drawn)
        label = (np.arange(batch) + drawn) % interface.num_classes if interface.num_classes else None
        yield latents(seeds, interface.latent_dim, interface.prior), label
        drawn += batch


def run(session: Any, z: Array, label: Array | None) -> Array:
    """Return a session's images of z (batch, latent_dim) and label (batch,) or None."""
    feed = {Z: z} if label is None else {Z: z, LABEL: label.astype(np.int64)}
    try:
        images: Array = session.run([IMAGE], feed)[0]
    except Exception as error:
        reason = " ".join(str(error).split())
        raise GanzooError(f"ONNX Runtime fails at a batch of {len(z)}: {reason[:300]}.") from error
    return images


def compare(drawn: Array, expected: torch.Tensor, claim: Claim) -> Parity:
    """Return how far a file's images are from torch's, in the units of the claim.

    Args:
        drawn: by ONNX Runtime, as the claim says.
        expected: by torch, (batch, channels, height, width) in [-1, 1].
        claim: of the file.

    Raises:
        GanzooError: they are of another shape.
    """
    if claim.pixels == "uint8":
        pixels = to_uint8(expected)  # (batch, height, width, channels)
        reference = pixels if claim.layout == "nhwc" else pixels.transpose(0, 3, 1, 2)
        unit, peak = 1.0, LEVELS
    else:
        reference, unit, peak = expected.numpy(), RANGE, RANGE
    if drawn.shape != reference.shape:
        raise GanzooError(f"The export draws images of {drawn.shape} instead of {reference.shape}.")
    return difference(drawn, reference, unit, peak)


def difference(drawn: Array, reference: Array, unit: float = RANGE, peak: float = RANGE) -> Parity:
    """Return how far images are from others of the same shape.

    Args:
        drawn: (batch, …), numbers.
        reference: likewise.
        unit: what errors are told in.
        peak: the signal of the signal-to-noise ratio.
    """
    error = np.abs(drawn.astype(np.float64) - reference.astype(np.float64))
    square = float((error**2).reshape(len(error), -1).mean(axis=1).max())
    psnr = 10.0 * math.log10(peak**2 / square) if square > 0 else math.inf if square == 0 else math.nan
    return Parity(len(drawn), float(error.max()) / unit, float(error.mean()) / unit, psnr)


def _prove_independence(session: Any, claim: Claim, interface: Interface) -> None:
    """Draw one batch whole and image by image."""
    z, label = next(inputs for inputs in batches(interface) if len(inputs[0]) == BATCHES[2])
    together = run(session, z, label)
    alone = np.concatenate(
        [run(session, z[i : i + 1], None if label is None else label[i : i + 1]) for i in range(len(z))]
    )
    unit, peak = (1.0, LEVELS) if claim.pixels == "uint8" else (RANGE, RANGE)
    apart = difference(alone, together, unit, peak)
    if not claim.holds(apart):
        raise GanzooError(
            f"In the export an image depends on its batch-mates: alone and in a batch of {len(z)}, "
            f"{_numbers(apart, claim)}. Nothing was written."
        )


def _numbers(parity: Parity, claim: Claim) -> str:
    unit = "levels" if claim.pixels == "uint8" else "of the range"
    return f"largest error {parity.max_error:.3g}, mean {parity.mean_error:.3g} {unit}, PSNR {parity.psnr:.1f} dB"


def _remedy(claim: Claim) -> str:
    if claim.precision == "fp32":
        return "This is a bug in an operator's translation: report it with the model."
    return "Export it with --precision fp32."
