"""Small ONNX graphs for tests: built by hand, or from the generators of recipes."""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from ganzoo.building import build_generator, load_recipe
from ganzoo.export.onnx.passes import fold_batch_norms, fold_shared_batch_norms, projection_to_gemm
from ganzoo.recipes import Recipe

Array = npt.NDArray[Any]

SMALL = {
    "dcgan-lsun": ("generator.widths=[48, 32, 16, 16]",),
    "dcgan-tutorial64": ("generator.widths=[48, 32, 16, 16]",),
    "dcgan-mnist-cond": ("generator.widths=[32, 16]", "generator.hidden=[24]"),
    "dcgan-mnist-tf": ("generator.widths=[32, 24, 16]",),
}
"""Recipes between them have all forms of the family, with the overrides that make them small."""


RESIDUAL = {
    "sngan-resnet-cifar10": ("generator.widths=[16, 16, 12, 12]",),
    "r3gan-cifar10": ("generator.widths=[16, 16, 8, 8]", "generator.blocks=1", "generator.cardinality=4"),
}
"""Recipes of the other families, with the overrides that make them small."""


def graph(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Array],
    shape: Sequence[int | str],
) -> onnx.ModelProto:
    """Return a model of nodes that read "x" and the constants and make "y"."""
    made = helper.make_graph(
        list(nodes),
        "by hand",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    model.graph.output[0].CopyFrom(inferred.graph.output[0])
    onnx.checker.check_model(model, full_check=True)
    return model


def session(model: onnx.ModelProto, *, optimised: Path | None = None) -> Any:
    """Return a session of ONNX Runtime on one thread; `optimised` is where its graph is written to."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto, **inputs: Array) -> Array:
    """Return the first output of a model."""
    images: Array = session(model).run(None, inputs)[0]
    return images


def kinds(model: onnx.ModelProto) -> Counter[str]:
    """Return how many nodes of each operator a model has."""
    return Counter(node.op_type for node in model.graph.node)


def inputs_of(recipe: Recipe, count: int, seed: int = 0) -> dict[str, Array]:
    """Return random inputs for the generator of a recipe."""
    random = np.random.default_rng(seed)
    inputs: dict[str, Array] = {"z": random.uniform(-1, 1, (count, recipe.generator.latent_dim)).astype(np.float32)}
    if recipe.data.num_classes:
        inputs["label"] = np.arange(count, dtype=np.int64) % recipe.data.num_classes
    return inputs


@functools.cache
def exported(name: str, *overrides: str) -> tuple[Recipe, onnx.ModelProto]:
    """Return a recipe, and its generator with random weights and statistics as torch exports it; do not change it."""
    recipe = load_recipe(name, overrides or SMALL.get(name) or RESIDUAL.get(name, ()))
    torch.manual_seed(0)
    generator = build_generator(recipe).eval().requires_grad_(False)
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.05, 0.2)
            if module.affine:
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0.0, 0.2)
    if recipe.generator.name != "dcgan":  # sums grow: with other statistics than their own, tanh would see thousands
        for module in generator.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        generator.train()(*(torch.from_numpy(value) for value in inputs_of(recipe, 32).values()))
        generator.eval()
    inputs = tuple(torch.from_numpy(value) for value in inputs_of(recipe, 2).values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own insides
        program = torch.onnx.export(
            generator,
            inputs,
            dynamo=True,
            optimize=True,
            verbose=False,
            opset_version=18,
            input_names=list(inputs_of(recipe, 2)),
            output_names=["image"],
            dynamic_shapes=tuple({0: "batch"} for _ in inputs),
        )
    assert program is not None
    return recipe, program.model_proto


def folded(name: str, *overrides: str) -> tuple[Recipe, onnx.ModelProto]:
    """Return `exported` with its projection and batch norms folded."""
    recipe, model = exported(name, *overrides)
    return recipe, fold_shared_batch_norms(fold_batch_norms(projection_to_gemm(model)))
