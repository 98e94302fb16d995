"""ONNX export: a generator as one file that draws the same pictures without torch, proven before it appears.

    torch module → graph (`tracing.py`) → folded and cleaned (`passes/`) → float16 or int8 (`half.py`,
    `quantization/`) → pixels and metadata (`outputs.py`) → proof on the exact bytes (`parity.py`) → file

The file's inputs are `z`, float32 (batch, latent_dim), and, of a conditional model, `label`, int64 (batch,); its output
is `image`. The same model and settings give the same bytes.
"""

from __future__ import annotations

import errno
import math
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
import torch
from torch import nn

from ganzoo.errors import GanzooError, UsageError
from ganzoo.export.onnx import latency, outputs, parity, passes
from ganzoo.export.onnx.half import to_half
from ganzoo.export.onnx.latency import Latency
from ganzoo.export.onnx.outputs import OPSETS
from ganzoo.export.onnx.parity import Claim, Parity
from ganzoo.export.onnx.tracing import LABEL, MAX_BYTES, Interface, Z, check_generator_is_a_function, frozen, to_graph
from ganzoo.files import write_atomically
from ganzoo.models import Model
from ganzoo.seeds import latents

Precision = Literal["fp32", "fp16", "int8"]
Pixels = Literal["float", "uint8"]
Layout = Literal["nchw", "nhwc"]

DEFAULT_OPSET = 18  # ONNX Runtime's CUDA provider runs some operators of 19 and later, such as Resize, on the CPU
CALIBRATION_SEED = 1 << 62
CALIBRATION_IMAGES, CALIBRATION_BATCH = 256, 16
_PSNR_MARGIN = 0.5  # of int8 over its bound, in decibels: the proof draws other images


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how it compares to the generator in torch.

    Args:
        path: the file.
        bytes: its size.
        sha256: of its bytes, in hexadecimal.
        precision: "fp32", "fp16" or "int8".
        pixels: "float" or "uint8".
        layout: "nchw" or "nhwc".
        opset: the version of its operators.
        float_layers: how many of an int8 file's first layers compute in float32, because the bound needs it.
        bound: what its parity was held to, in words.
        parity: of ONNX Runtime's images with torch's, batch by batch.
        latency: of both on the CPU.
        threads: that both used.
        next_command: what to do with the file.
    """

    path: Path
    bytes: int
    sha256: str
    precision: str
    pixels: str
    layout: str
    opset: int
    float_layers: int
    bound: str
    parity: tuple[Parity, ...]
    latency: tuple[Latency, ...]
    threads: int
    next_command: str

    def to_dict(self) -> dict[str, Any]:
        """Return the report in what JSON has; an infinite PSNR (equal images) is None."""
        rows = [{**asdict(row), "psnr": row.psnr if math.isfinite(row.psnr) else None} for row in self.parity]
        return {
            **asdict(self),
            "path": str(self.path),
            "parity": rows,
            "latency": [asdict(one) for one in self.latency],
        }


def export_onnx(
    model: Model,
    path: str | os.PathLike[str],
    *,
    precision: Precision = "fp32",
    pixels: Pixels = "float",
    layout: Layout = "nchw",
    opset: int = DEFAULT_OPSET,
    subpixel: bool | None = None,
    force: bool = False,
    timing: bool = True,
    progress: Callable[[str], None] | None = None,
) -> ExportReport:
    """Write a model's generator as an ONNX file, after proving that it draws the same images; report on both.

    Args:
        model: from `ganzoo.load_pretrained`, `ganzoo.create_model` or `ganzoo.models.load_model`.
        path: the file, ending in .onnx; a file there that ganzoo exported is replaced.
        precision: "fp32"; "fp16", with weights and arithmetic in float16 where the processor has it; "int8", quantised
            with the model's own latents. Inputs and outputs are the same in all.
        pixels: "float", numbers in [-1, 1], or "uint8", 0 to 255, as `ganzoo.pictures.to_uint8` rounds them.
        layout: of `image`: "nchw", or with uint8 "nhwc".
        opset: the version of ONNX's operators, 18 to 22.
        subpixel: whether transposed convolutions of stride 2 are written as convolutions and DepthToSpace, which is
            exact; None: where it is faster on processors: for int8 all of them, for fp32 those of large kernels and
            many channels.
        force: whether a file that ganzoo did not export is replaced too.
        timing: whether both are timed; without it the report's `latency` is empty.
        progress: is told in words what is being done.

    Raises:
        UsageError: settings that cannot be, or a path that is not for an ONNX file, or is taken.
        WeightsError: the weights hold NaN or Inf.
        GanzooError: the generator cannot be exported, or the file would not draw the same images. No file is written.
        OSError: it cannot be written.
    """
    path = Path(path)
    _check_settings(precision, pixels, layout, opset)
    _check_target(path, force)
    say = progress or _say_nothing
    interface = Interface.of(model)
    claim = Claim(precision, pixels, layout, opset)
    say("Exporting ...")
    generator = frozen(model)
    check_generator_is_a_function(generator, interface)
    graph, float_layers = _graph(generator, interface, claim, subpixel)
    outputs.set_header(graph, opset)
    outputs.set_metadata(graph, model, precision=precision, pixels=pixels, layout=layout)
    content = _serialised(graph)
    say("Proving ...")
    parity.check_file(content, claim, interface)
    threads = torch.get_num_threads()
    session = parity.open_session(content, threads)
    rows = parity.prove(session, generator, claim, interface)
    times: tuple[Latency, ...] = ()
    if timing:
        say("Timing ...")
        times = latency.measure(session, generator, interface)
    write_atomically(path, content)
    return ExportReport(
        path=path,
        bytes=len(content),
        sha256=outputs.digest(content),
        precision=precision,
        pixels=pixels,
        layout=layout,
        opset=opset,
        float_layers=float_layers,
        bound=claim.bound,
        parity=rows,
        latency=times,
        threads=threads,
        next_command=f"ganzoo sample {shlex.quote(str(path))}",
    )


def _graph(
    generator: nn.Module, interface: Interface, claim: Claim, subpixel: bool | None
) -> tuple[onnx.ModelProto, int]:
    """Return the graph of a file, but for its metadata, and how many layers of an int8 one are in float32."""
    float_layers = 0
    graph = to_graph(generator, interface, claim.opset)
    graph = passes.fold_shared_batch_norms(passes.fold_batch_norms(passes.projection_to_gemm(graph)))
    if subpixel or (subpixel is None and claim.precision != "fp16"):
        graph = passes.subpixel(graph, only_where_faster=subpixel is None and claim.precision == "fp32")
    graph = passes.clean(graph)
    if claim.precision == "fp16":
        graph = to_half(graph)
    elif claim.precision == "int8":
        from ganzoo.export.onnx.quantization import quantize_within

        trial = inputs_of(interface, CALIBRATION_IMAGES, parity.BATCHES[-1])
        graph, float_layers = quantize_within(graph, calibration(interface), trial, parity.MIN_PSNR + _PSNR_MARGIN)
    if claim.pixels == "uint8":
        graph = outputs.add_pixels(graph, interface, claim.layout)
    return passes.clean(graph), float_layers


def calibration(interface: Interface) -> Iterator[dict[str, Any]]:
    """Yield what int8's ranges are measured on: inputs by name, of 256 latents of the model's own prior and all its
    classes in turn. Their seeds begin at 2^62, apart from those that people use and from those of the proof."""
    for first in range(0, CALIBRATION_IMAGES, CALIBRATION_BATCH):
        yield inputs_of(interface, first, CALIBRATION_BATCH)


def inputs_of(interface: Interface, first: int, count: int) -> dict[str, Any]:
    """Return a batch of a model's inputs by name, of seeds beyond the calibration's first, and the classes in turn."""
    number = np.arange(first, first + count, dtype=np.uint64)
    feed = {Z: latents(number + np.uint64(CALIBRATION_SEED), interface.latent_dim, interface.prior)}
    if interface.num_classes:
        feed[LABEL] = (number % np.uint64(interface.num_classes)).astype(np.int64)
    return feed


def _check_settings(precision: str, pixels: str, layout: str, opset: int) -> None:
    for name, value, kind in (
        ("precision", precision, Precision),
        ("pixels", pixels, Pixels),
        ("layout", layout, Layout),
    ):
        if value not in get_args(kind):
            raise UsageError(f"`{name}` (={value!r}) is none of {', '.join(get_args(kind))}.")
    if layout == "nhwc" and pixels != "uint8":
        raise UsageError("The layout nhwc is one of pixels: numbers are nchw.", "Choose pixels uint8 too.")
    if isinstance(opset, bool) or not isinstance(opset, int) or opset not in OPSETS:
        raise UsageError(f"Opset {opset!r} is not supported.", f"Choose one of {OPSETS[0]} to {OPSETS[-1]}.")


def _check_target(path: Path, force: bool) -> None:
    """Refuse, before any work, a path that the file cannot have."""
    if path.suffix.lower() != ".onnx" or "\0" in str(path):
        raise UsageError(f"{str(path)!r} is no name for an ONNX file.", "Let it end in .onnx.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder.", f"Name a file, such as {path / 'model.onnx'}")
    if path.exists() and not force and not outputs.is_export(path):
        raise UsageError(
            f"{path} is there already, and is no export of ganzoo.", "Choose another name, or replace it with --force."
        )
    parent = next(one for one in path.absolute().parents if one.exists())
    if not parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent))
    if not os.access(parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(parent))


def _serialised(graph: onnx.ModelProto) -> bytes:
    size = graph.ByteSize()
    if size > MAX_BYTES:
        raise GanzooError(
            f"The export has {size / (1 << 30):.2f} GiB: an ONNX file holds less than 2 GiB.", "Choose fp16 or int8."
        )
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def _say_nothing(_: str) -> None:
    pass
