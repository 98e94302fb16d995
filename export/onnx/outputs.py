"""What a graph is given at its end: pixels instead of numbers in [-1, 1], and metadata that say what the file is."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

import ganzoo
from ganzoo.errors import GanzooError, WeightsError
from ganzoo.export.metadata import METADATA_KEY, SCHEMA_VERSION
from ganzoo.export.onnx.tracing import BATCH, IMAGE, Interface
from ganzoo.files import sha256_of
from ganzoo.models import GENERATOR, Model, published_recipe, save_model
from ganzoo.tensors import read_tensors

VALUE_RANGES = {"float": "[-1, 1]", "uint8": "0 to 255"}
OPSETS = range(18, 23)  # 18 is the least that torch's exporter writes; above 22 a file needs IR version 11
MAX_IR_VERSION = 10
_NUMBERS = "image_numbers"
_LICENCE_NOT_STATED = "not stated"


def add_pixels(graph: onnx.ModelProto, interface: Interface, layout: str) -> onnx.ModelProto:
    """Return a graph that gives pixels: floor(x · 127.5 + 128), held to [0, 255], in uint8, as `to_uint8` does.

    Clipping first makes every number positive, and what turns a positive number into uint8 cuts its fraction off, so
    floor needs no operator of its own.

    Args:
        graph: with the output `image`, float32 (batch, channels, height, width) in [-1, 1].
        interface: of the model.
        layout: of the new output `image`: "nchw" (batch, channels, height, width) or "nhwc" (…, height, width,
            channels).
    """
    made = onnx.ModelProto()
    made.CopyFrom(graph)
    body = made.graph
    for node in body.node:
        for names in (node.input, node.output):
            names[:] = [_NUMBERS if name == IMAGE else name for name in names]
    constants = {"pixel_scale": 127.5, "pixel_offset": 128.0, "pixel_least": 0.0, "pixel_most": 255.0}
    body.initializer.extend(
        onnx.numpy_helper.from_array(np.array(value, dtype=np.float32), name) for name, value in constants.items()
    )
    last = IMAGE if layout == "nchw" else "pixels"
    body.node.extend(
        [
            onnx.helper.make_node("Mul", [_NUMBERS, "pixel_scale"], ["pixels_scaled"], "pixels_scaled"),
            onnx.helper.make_node("Add", ["pixels_scaled", "pixel_offset"], ["pixels_shifted"], "pixels_shifted"),
            onnx.helper.make_node(
                "Clip", ["pixels_shifted", "pixel_least", "pixel_most"], ["pixels_clipped"], "pixels_clipped"
            ),
            onnx.helper.make_node("Cast", ["pixels_clipped"], [last], last, to=onnx.TensorProto.UINT8),
        ]
    )
    shape = list(interface.image_shape)
    if layout == "nhwc":
        body.node.append(onnx.helper.make_node("Transpose", [last], [IMAGE], IMAGE, perm=[0, 2, 3, 1]))
        shape = [*shape[1:], shape[0]]
    body.output[0].CopyFrom(onnx.helper.make_tensor_value_info(IMAGE, onnx.TensorProto.UINT8, [BATCH, *shape]))
    return made


def set_header(graph: onnx.ModelProto, opset: int) -> None:
    """Say in a graph who made it, and ask for the least IR version that its operators allow, so that more can read it.

    Raises:
        GanzooError: the graph is not of this opset, or needs a newer IR version.
    """
    found = {entry.domain or "ai.onnx": entry.version for entry in graph.opset_import}
    used = {node.domain or "ai.onnx" for node in graph.graph.node}
    if found.get("ai.onnx") != opset or not used <= {"ai.onnx"}:
        raise GanzooError(
            f"The graph came out with the operators {_shown(found)} instead of opset {opset}.",
            f"Choose another opset of {OPSETS[0]} to {OPSETS[-1]}.",
        )
    del graph.opset_import[:]
    graph.opset_import.append(onnx.helper.make_opsetid("", opset))
    graph.ir_version = onnx.helper.find_min_ir_version_for(graph.opset_import)
    if graph.ir_version > MAX_IR_VERSION:
        raise GanzooError(f"Opset {opset} needs IR version {graph.ir_version}, which few runtimes read yet.")
    graph.producer_name, graph.producer_version = "ganzoo", ganzoo.__version__
    graph.domain, graph.doc_string, graph.model_version = "", "", 0


def set_metadata(graph: onnx.ModelProto, model: Model, *, precision: str, pixels: str, layout: str) -> None:
    """Write into a graph what it is: one JSON object under the key "ganzoo", and its main entries for people.

    Neither dates nor paths are in it: the same model and settings give the same bytes.

    Args:
        graph: changed in place.
        model: that it was made of.
        precision: "fp32", "fp16" or "int8".
        pixels: "float" or "uint8".
        layout: "nchw" or "nhwc".
    """
    config, interface = model.config, Interface.of(model)
    config = replace(config, recipe=published_recipe(config.recipe))
    said: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "version": ganzoo.__version__,
        "recipe": config.recipe.name,
        "config": config.to_dict(),
        "weights_sha256": generator_sha256(model),
        "precision": precision,
        "pixels": pixels,
        "layout": layout,
        "value_range": VALUE_RANGES[pixels],
        "licence": config.licence,
        "z": {
            "latent_dim": interface.latent_dim,
            "prior": interface.prior,
            "formula": "philox4x32-10, docs/seeds.md",
        },
    }
    plain = {key: said[key] for key in ("recipe", "weights_sha256", "value_range", "version")}
    plain["licence"] = config.licence or _LICENCE_NOT_STATED
    plain[METADATA_KEY] = json.dumps(said, sort_keys=True, separators=(",", ":"))
    onnx.helper.set_model_props(graph, dict(sorted(plain.items())))


def generator_sha256(model: Model) -> str:
    """Return the SHA-256 of a model's `generator.safetensors`, in hexadecimal.

    Of a model that was read and is unchanged, it is that of the file it was read from; of any other, that of the file
    that saving it would write.
    """
    source = _source(model)
    if source is not None and _holds(source, model.generator.state_dict()):
        return sha256_of(source)
    with tempfile.TemporaryDirectory(prefix="ganzoo-") as folder:
        save_model(Path(folder), model.config, model.generator, None)
        return sha256_of(Path(folder) / GENERATOR)


def _source(model: Model) -> Path | None:
    if model.path is None:
        return None
    file = model.path / GENERATOR if model.path.is_dir() else model.path
    return file if file.is_file() else None


def _holds(file: Path, state: Mapping[str, torch.Tensor]) -> bool:
    """Return whether a weights file holds these tensors, bit by bit."""
    try:
        tensors = read_tensors(file)[0]
    except WeightsError:  # it was replaced since by something else
        return False
    return tensors.keys() == state.keys() and all(
        tensors[name].dtype == value.dtype and torch.equal(tensors[name], value.cpu()) for name, value in state.items()
    )


def digest(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def is_export(path: Path) -> bool:
    """Return whether a file is an ONNX file that ganzoo wrote."""
    try:
        graph = onnx.load(path, load_external_data=False)
    except Exception:  # protobuf's errors have no common class
        return False
    return any(entry.key == METADATA_KEY for entry in graph.metadata_props)


def _shown(found: dict[str, int]) -> str:
    return ", ".join(f"{domain} {version}" for domain, version in sorted(found.items()))
