"""ONNX files for the tests: a tiny generator written by hand, as ganzoo exports it or with a fault, and its twin.

The generator is tanh(z · weight + table[label]), so NumPy can say what its images must be.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE, CHANNELS, LATENT_DIM, CLASSES = 4, 3, 6, 5


def weight() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(LATENT_DIM, CHANNELS * SIZE * SIZE)).astype(np.float32)


def table() -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(CLASSES, CHANNELS * SIZE * SIZE)).astype(np.float32)


def twin(z: npt.NDArray[Any], label: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float64]:
    """The images of z as NumPy draws them: (batch, channels, size, size) in [-1, 1]."""
    flat = z.astype(np.float64) @ weight() + (0.0 if label is None else table()[label])
    drawn: npt.NDArray[np.float64] = np.tanh(flat).reshape(-1, CHANNELS, SIZE, SIZE)
    return drawn


def said(*, classes: int = 0, pixels: str = "float", layout: str = "nchw", prior: str = "normal") -> dict[str, Any]:
    """What an export of the generator says of itself under the key "ganzoo"."""
    data = {"image_size": SIZE, "channels": CHANNELS, "num_classes": classes}
    return {
        "schema_version": 1,
        "version": "0.1.0",
        "recipe": "by-hand",
        "config": {"schema_version": 1, "recipe": {"name": "by-hand", "data": data}},
        "weights_sha256": "0" * 64,
        "precision": "fp32",
        "pixels": pixels,
        "layout": layout,
        "value_range": "[-1, 1]" if pixels == "float" else "0 to 255",
        "licence": None,
        "z": {"latent_dim": LATENT_DIM, "prior": prior, "formula": "philox4x32-10, docs/seeds.md"},
    }


def graph(*, classes: int = 0, pixels: str = "float", layout: str = "nchw") -> onnx.ModelProto:
    """The generator without metadata."""
    inputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", LATENT_DIM])]
    constants = {"weight": weight(), "shape": np.array([-1, CHANNELS, SIZE, SIZE], dtype=np.int64)}
    nodes = [helper.make_node("MatMul", ["z", "weight"], ["flat"])]
    last = "flat"

    def add(operator: str, *more: str, **attributes: Any) -> None:
        nonlocal last
        output = f"value{len(nodes)}"
        nodes.append(helper.make_node(operator, [last, *more], [output], **attributes))
        last = output

    if classes:
        inputs.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]))
        constants["table"] = table()[:classes]
        nodes.append(helper.make_node("Gather", ["table", "label"], ["row"]))
        add("Add", "row")
    add("Tanh")
    add("Reshape", "shape")
    axes: list[str | int] = ["batch", CHANNELS, SIZE, SIZE]
    if pixels == "uint8":
        constants |= {name: np.array(value, dtype=np.float32) for name, value in NUMBERS.items()}
        add("Mul", "scale")
        add("Add", "shift")
        add("Clip", "low", "high")
        add("Cast", to=TensorProto.UINT8)
    if layout == "nhwc":
        add("Transpose", perm=[0, 2, 3, 1])
        axes = ["batch", SIZE, SIZE, CHANNELS]
    nodes.append(helper.make_node("Identity", [last], ["image"]))
    kind = TensorProto.UINT8 if pixels == "uint8" else TensorProto.FLOAT
    made = helper.make_graph(
        nodes,
        "by-hand",
        inputs,
        [helper.make_tensor_value_info("image", kind, axes)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


NUMBERS = {"scale": 127.5, "shift": 128.0, "low": 0.0, "high": 255.0}


def write(path: Path, *, metadata: str | None = None, prior: str = "normal", **form: Any) -> Path:
    """Write the generator as ganzoo exports it, or with other text for metadata, and return the path."""
    model = graph(**form)
    text = json.dumps(said(prior=prior, **form)) if metadata is None else metadata
    helper.set_model_props(model, {"ganzoo": text, "recipe": "by-hand"})
    return save(model, path)


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path
