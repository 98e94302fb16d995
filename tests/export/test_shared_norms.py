"""Batch norms of residual nets: folded where the images stay the same, and left alone where they would not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_graphs import RESIDUAL, Array, exported, graph, kinds, run

from ganzoo.export.onnx.passes import batch_norms, clean, fold_batch_norms, fold_shared_batch_norms, projection_to_gemm

node = helper.make_node
_SIDE = 5


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def block(
    *,
    gain: Array | None = None,
    offset: Array | None = None,
    sum_of_two: bool = True,
    reader: str = "Conv",
    **conv: Any,
) -> onnx.ModelProto:
    """A sum of two convolutions, one of them doubled before, that a batch norm and a shortcut read."""
    constants = {
        "a": numbers(4, 3, 3, 3),
        "a_bias": numbers(4, seed=1),
        "b": numbers(4, 3, 1, 1, seed=2),
        "gain": numbers(4, seed=3) if gain is None else gain,
        "offset": numbers(4, seed=4) if offset is None else offset,
        "mean": numbers(4, seed=5),
        "variance": np.abs(numbers(4, seed=6)) + 0.5,
        "c": numbers(2, 4, conv.get("kernel", 1), conv.get("kernel", 1), seed=7),
        "scales": np.array([1, 1, 2, 2], dtype=np.float32),
    }
    pads = [conv.get("kernel", 1) // 2] * 4
    left = [
        node("Resize", ["x", "", "scales"], ["big"], mode="nearest"),
        node("Conv", ["big", "a", "a_bias"], ["p"], pads=[1] * 4),
    ]
    right = [node("Conv", ["x", "b"], ["small"]), node("Resize", ["small", "", "scales"], ["q"], mode="linear")]
    total = [node("Add", ["p", "q"], ["s"])] if sum_of_two else [node("Identity", ["p"], ["s"])]
    beside = node("Conv", ["s", "c"], ["t"], pads=pads) if reader == "Conv" else node(reader, ["s"], ["t"])
    nodes = [
        *left,
        *(right if sum_of_two else []),
        *total,
        node("BatchNormalization", ["s", "gain", "offset", "mean", "variance"], ["n"]),
        node("Relu", ["n"], ["r"]),
        beside,
        node("Concat", ["r", "t"], ["y"], axis=1),
    ]
    read = {name for one in nodes for name in one.input}
    return graph(nodes, {name: value for name, value in constants.items() if name in read}, ["batch", 3, _SIDE, _SIDE])


def assert_same(one: onnx.ModelProto, other: onnx.ModelProto) -> None:
    x = numbers(3, 3, _SIDE, _SIDE, seed=9)
    wanted = run(one, x=x)
    assert np.abs(run(other, x=x) - wanted).max() <= 2e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("sum_of_two", [True, False])
def test_a_norm_of_a_sum_goes_into_what_makes_it_and_back_out_of_the_shortcut(sum_of_two: bool) -> None:
    model = block(sum_of_two=sum_of_two)
    before = model.SerializeToString()
    changed = clean(fold_shared_batch_norms(model))
    assert model.SerializeToString() == before
    onnx.checker.check_model(changed, full_check=True)
    assert batch_norms(model) != []
    assert batch_norms(changed) == []
    assert kinds(changed)["Mul"] == kinds(changed)["Sub"] == 0
    assert_same(model, changed)


@pytest.mark.parametrize(
    "arguments",
    [
        {"gain": np.array([1, 0, 1, 1], dtype=np.float32)},
        {"offset": np.array([1, 1, 1e4, 1], dtype=np.float32)},
        {"reader": "Relu"},
        {"kernel": 3},
    ],
    ids=["a gain of zero", "a great offset", "another reader", "a padded reader"],
)
def test_a_norm_stays_where_there_is_no_way_back(arguments: dict[str, Any]) -> None:
    model = block(**arguments)
    changed = clean(fold_shared_batch_norms(model))
    assert len(batch_norms(changed)) == 1
    assert_same(model, changed)


@pytest.mark.parametrize("name", RESIDUAL)
def test_residual_nets_have_no_batch_norm_left(name: str) -> None:
    model = fold_batch_norms(projection_to_gemm(exported(name)[1]))
    assert (batch_norms(model) != []) is (name == "sngan-resnet-cifar10")
    assert batch_norms(fold_shared_batch_norms(model)) == []
