from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_graphs import RESIDUAL, SMALL, Array, exported, folded, graph, inputs_of, kinds, run

from ganzoo.errors import GanzooError
from ganzoo.export.onnx.passes import (
    batch_norms,
    check_no_random,
    clean,
    fold_batch_norms,
    fold_shared_batch_norms,
    projection_to_gemm,
    subpixel,
)
from ganzoo.recipes.files import list_recipes

node = helper.make_node


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_same(one: Array, other: Array, relative: float = 1e-6) -> None:
    """Assert that two tensors differ by no more than a part of the largest value."""
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= relative * np.abs(other).max()


def transposed_by_hand(
    x: Array, weight: Array, bias: Array, stride: int, pads: Sequence[int], extra: Sequence[int]
) -> Array:
    """Return a transposed convolution from its definition, in float64: each pixel paints the kernel into the output."""
    batch, _, height, width = x.shape
    _, out, tall, wide = weight.shape
    full = np.zeros((batch, out, (height - 1) * stride + tall + extra[0], (width - 1) * stride + wide + extra[1]))
    for i, j in itertools.product(range(height), range(width)):
        painted = np.einsum("bc,coyx->boyx", x[:, :, i, j].astype(np.float64), weight.astype(np.float64))
        full[:, :, i * stride : i * stride + tall, j * stride : j * stride + wide] += painted
    cropped = full[:, :, pads[0] : full.shape[2] - pads[2], pads[1] : full.shape[3] - pads[3]]
    return cropped + bias.astype(np.float64)[:, None, None]


def transposed(
    out: int, kernel: int, stride: int, pads: Sequence[int], extra: Sequence[int], **attributes: Any
) -> tuple[onnx.ModelProto, Array, Array, Array]:
    """Return a model of one transposed convolution of 3 channels of 4 × 5 pixels, its weight, bias and an input."""
    weight, bias, x = numbers(3, out, kernel, kernel), numbers(out, seed=1), numbers(2, 3, 4, 5, seed=2)
    made = node(
        "ConvTranspose",
        ["x", "w", "b"],
        ["y"],
        strides=[stride, stride],
        pads=list(pads),
        output_padding=list(extra),
        **attributes,
    )
    return graph([made], {"w": weight, "b": bias}, ["batch", 3, 4, 5]), weight, bias, x


class TestSubpixel:
    @pytest.mark.parametrize("kernel", [2, 3, 4, 5])
    @pytest.mark.parametrize("stride", [1, 2, 3])
    def test_it_computes_the_transposed_convolution_for_all_paddings(self, kernel: int, stride: int) -> None:
        rewritten = 0
        for pad, extra, out in itertools.product(range(kernel), range(stride), (2, 16)):
            pads, extras = [pad, pad, max(pad - 1, 0), pad], [extra, 0]
            model, weight, bias, x = transposed(out, kernel, stride, pads, extras)
            wanted = transposed_by_hand(x, weight, bias, stride, pads, extras)
            assert_same(run(model, x=x), wanted)  # ONNX means the same by it
            changed = subpixel(model)
            onnx.checker.check_model(changed, full_check=True)
            assert_same(run(changed, x=x), wanted)
            rewritten += kinds(changed)["ConvTranspose"] == 0
        assert rewritten >= kernel  # at the least where the output is whole

    @pytest.mark.parametrize(("kernel", "pad", "extra"), [(3, 1, 1), (4, 1, 0), (5, 2, 1)])
    def test_wide_layers_become_phases_without_a_needless_multiplication(
        self, kernel: int, pad: int, extra: int
    ) -> None:
        model, weight, *_ = transposed(16, kernel, 2, [pad] * 4, [extra] * 2)
        changed = subpixel(model)
        assert kinds(changed) == {"Conv": 4, "Concat": 1, "DepthToSpace": 1}
        kernels = [tensor for tensor in changed.graph.initializer if len(tensor.dims) == 4]
        assert sum(numpy_helper.to_array(tensor).size for tensor in kernels) == weight.size

    @pytest.mark.parametrize(("kernel", "pad", "extra", "taps"), [(3, 1, 1, 2), (4, 1, 0, 2), (5, 2, 1, 3)])
    def test_narrow_layers_become_one_small_convolution(self, kernel: int, pad: int, extra: int, taps: int) -> None:
        changed = subpixel(transposed(2, kernel, 2, [pad] * 4, [extra] * 2)[0])
        assert kinds(changed)["Conv"] == kinds(changed)["DepthToSpace"] == 1
        (weight,) = (tensor for tensor in changed.graph.initializer if len(tensor.dims) == 4)
        assert list(weight.dims) == [8, 3, taps, taps]

    @pytest.mark.parametrize("out", [2, 16])
    @pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
    def test_an_activation_is_fused_into_each_convolution(self, out: int, activation: str) -> None:
        weight, x = numbers(3, out, 5, 5), numbers(2, 3, 4, 5, seed=1)
        layer = node("ConvTranspose", ["x", "w"], ["c"], strides=[2, 2], pads=[2] * 4, output_padding=[1, 1])
        model = graph([layer, node(activation, ["c"], ["y"])], {"w": weight}, ["batch", 3, 4, 5])
        changed = subpixel(model)
        assert kinds(changed)[activation] == kinds(changed)["Conv"] == (4 if out == 16 else 1)
        convolved = {made.output[0] for made in changed.graph.node if made.op_type == "Conv"}
        assert all(made.input[0] in convolved for made in changed.graph.node if made.op_type == activation)
        assert_same(run(changed, x=x), run(model, x=x))

    def test_an_activation_stays_where_something_else_reads_what_it_reads(self) -> None:
        layer = node("ConvTranspose", ["x", "w"], ["c"], strides=[2, 2])
        nodes = [layer, node("Relu", ["c"], ["r"]), node("Add", ["c", "r"], ["y"])]
        model = graph(nodes, {"w": numbers(3, 16, 4, 4)}, ["batch", 3, 4, 5])
        changed, x = subpixel(model), numbers(2, 3, 4, 5, seed=1)
        assert kinds(changed)["Relu"] == 1
        assert_same(run(changed, x=x), run(model, x=x))

    @pytest.mark.parametrize(
        "attributes", [{"group": 3}, {"dilations": [2, 2]}, {"strides": [1, 2]}, {"auto_pad": "SAME_UPPER"}]
    )
    def test_what_it_does_not_know_stays(self, attributes: dict[str, Any]) -> None:
        weight = numbers(3, 16 if "group" not in attributes else 5, 3, 3)
        layer = node("ConvTranspose", ["x", "w"], ["y"], **{"strides": [2, 2], **attributes})
        model = graph([layer], {"w": weight}, ["batch", 3, 4, 5])
        changed, x = subpixel(model), numbers(2, 3, 4, 5, seed=1)
        assert kinds(changed) == {"ConvTranspose": 1}
        np.testing.assert_array_equal(run(changed, x=x), run(model, x=x))

    @pytest.mark.parametrize(
        ("channels", "out", "kernel", "stride", "kept"),
        [
            (16, 64, 5, 2, False),
            (16, 48, 5, 2, True),
            (16, 64, 4, 2, True),
            (26, 64, 5, 2, True),
            (16, 72, 5, 2, True),
            (16, 64, 3, 1, False),
            (16, 3, 3, 1, True),
        ],
    )
    def test_in_float32_only_what_is_faster_is_rewritten(
        self, channels: int, out: int, kernel: int, stride: int, kept: bool
    ) -> None:
        layer = node("ConvTranspose", ["x", "w"], ["y"], strides=[stride, stride])
        model = graph([layer], {"w": numbers(channels, out, kernel, kernel)}, ["batch", channels, 4, 5])
        assert kinds(subpixel(model, only_where_faster=True))["ConvTranspose"] == int(kept)
        assert kinds(subpixel(model))["ConvTranspose"] == 0


def normed(x: Array, gain: Array, offset: Array, mean: Array, variance: Array, eps: float) -> Array:
    """Return batch norm from its definition, in float64; the statistics have the shape of a channel's place."""
    wide = [value.astype(np.float64) for value in (x, gain, offset, mean, variance)]
    result: Array = wide[1] * (wide[0] - wide[3]) / np.sqrt(wide[4] + eps) + wide[2]
    return result


def statistics(channels: int) -> dict[str, Array]:
    variance = np.random.default_rng(9).uniform(0.05, 3.0, channels).astype(np.float32)
    return {
        "g": numbers(channels, seed=6),
        "o": numbers(channels, seed=7),
        "m": numbers(channels, seed=8),
        "v": variance,
    }


NORM = ["g", "o", "m", "v"]


class TestFoldBatchNorms:
    @pytest.mark.parametrize("group", [1, 2])
    @pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
    @pytest.mark.parametrize("bias", [False, True])
    def test_after_a_convolution(self, kind: str, group: int, bias: bool) -> None:
        weight = numbers(6, 4 // group, 3, 3) if kind == "Conv" else numbers(4, 6 // group, 3, 3)
        constants = {"w": weight, **statistics(6)} | ({"b": numbers(6, seed=3)} if bias else {})
        layer = node(kind, ["x", "w", *(["b"] if bias else [])], ["c"], group=group)
        norm = node("BatchNormalization", ["c", *NORM], ["y"], epsilon=1e-3)
        model = graph([layer, norm], constants, ["batch", 4, 5, 6])
        bare = graph([node(kind, layer.input, ["y"], group=group)], constants, ["batch", 4, 5, 6])
        x = numbers(2, 4, 5, 6, seed=4)
        changed = fold_batch_norms(model)
        assert kinds(changed) == {kind: 1}
        assert batch_norms(changed) == []
        stats = [constants[name][:, None, None] for name in NORM]
        assert_same(run(changed, x=x), normed(run(bare, x=x), *stats, eps=1e-3))

    @pytest.mark.parametrize("unit", [False, True])
    @pytest.mark.parametrize("layer", ["Gemm", "Gemm transB", "Gemm beta", "Gemm scalar", "MatMul"])
    def test_after_a_projection_per_channel_and_per_unit(self, layer: str, unit: bool) -> None:
        channels = 24 if unit else 6
        weight = numbers(7, 24)
        constants = {"w": weight, "b": numbers(24, seed=3), "s": np.array([-1, 6, 2, 2]), **statistics(channels)}
        wanted = numbers(3, 7, seed=4).astype(np.float64) @ weight.astype(np.float64)
        if layer == "MatMul":
            dense = node("MatMul", ["x", "w"], ["d"])
        elif layer == "Gemm transB":
            constants["w"] = np.ascontiguousarray(weight.T)
            dense = node("Gemm", ["x", "w"], ["d"], transB=1)
        elif layer == "Gemm scalar":
            constants["b"] = np.array(0.5, dtype=np.float32)
            dense, wanted = node("Gemm", ["x", "w", "b"], ["d"]), wanted + 0.5
        else:
            dense = node("Gemm", ["x", "w", "b"], ["d"], beta=0.5, alpha=2.0)
            wanted = 2.0 * wanted + 0.5 * constants["b"]
        norm = node("BatchNormalization", ["d" if unit else "r", *NORM], ["n"])
        reshape = node("Reshape", ["n" if unit else "d", "s"], ["y" if unit else "r"])
        if not unit:
            norm.output[0] = "y"
        nodes = [dense, norm, reshape] if unit else [dense, reshape, norm]
        model = graph(nodes, constants, ["batch", 7])
        stats = [constants[name] if unit else np.repeat(constants[name], 4) for name in NORM]
        wanted = normed(wanted, *stats, eps=1e-5).reshape(3, 6, 2, 2)
        x = numbers(3, 7, seed=4)
        assert_same(run(model, x=x), wanted)
        changed = fold_batch_norms(model)
        assert kinds(changed) == {"Gemm": 1, "Reshape": 1}
        assert_same(run(changed, x=x), wanted)

    def test_a_norm_that_is_written_out_is_folded_too(self) -> None:
        constants = {"w": numbers(6, 4, 3, 3)} | {name: value[:, None, None] for name, value in statistics(6).items()}
        nodes = [
            node("Conv", ["x", "w"], ["c"]),
            node("Sub", ["c", "m"], ["centred"]),
            node("Div", ["centred", "v"], ["scaled"]),
            node("Mul", ["g", "scaled"], ["gained"]),
            node("Add", ["gained", "o"], ["y"]),
        ]
        model, x = graph(nodes, constants, ["batch", 4, 5, 6]), numbers(2, 4, 5, 6, seed=4)
        changed = fold_batch_norms(model)
        assert kinds(changed) == {"Conv": 1}
        assert_same(run(changed, x=x), run(model, x=x))

    @pytest.mark.parametrize("shape", [(6,), (5, 6), (6, 5, 6), (2, 1, 1, 1), (1, 1, 6)])
    def test_constants_that_are_not_one_value_a_channel_stay(self, shape: tuple[int, ...]) -> None:
        constants = {"w": numbers(6, 4, 1, 1), "a": numbers(*shape, seed=2)}
        nodes = [node("Conv", ["x", "w"], ["c"]), node("Mul", ["c", "a"], ["y"])]
        model, x = graph(nodes, constants, [2, 4, 5, 6]), numbers(2, 4, 5, 6, seed=4)
        changed = fold_batch_norms(model)
        assert kinds(changed) == {"Conv": 1, "Mul": 1}
        np.testing.assert_array_equal(run(changed, x=x), run(model, x=x))

    def test_what_something_else_reads_too_stays_and_is_told(self) -> None:
        nodes = [
            node("Conv", ["x", "w"], ["c"]),
            node("BatchNormalization", ["c", *NORM], ["n"], name="kept"),
            node("Add", ["c", "n"], ["y"]),
        ]
        model = graph(nodes, {"w": numbers(6, 4, 3, 3), **statistics(6)}, ["batch", 4, 5, 6])
        changed, x = fold_batch_norms(model), numbers(2, 4, 5, 6, seed=4)
        assert batch_norms(changed) == ["kept"]
        np.testing.assert_array_equal(run(changed, x=x), run(model, x=x))

    def test_a_weight_that_two_layers_share_is_not_changed_for_the_other(self) -> None:
        nodes = [
            node("Conv", ["x", "w"], ["a"]),
            node("BatchNormalization", ["a", *NORM], ["n"]),
            node("Conv", ["x", "w"], ["b"]),
            node("Add", ["n", "b"], ["y"]),
        ]
        model = graph(nodes, {"w": numbers(6, 4, 3, 3), **statistics(6)}, ["batch", 4, 5, 6])
        changed, x = fold_batch_norms(model), numbers(2, 4, 5, 6, seed=4)
        assert kinds(changed) == {"Conv": 2, "Add": 1}
        assert_same(run(changed, x=x), run(model, x=x))

    def test_a_reshape_that_moves_features_into_the_batch_is_not_seen_through(self) -> None:
        nodes = [
            node("Gemm", ["x", "w"], ["d"]),
            node("Reshape", ["d", "s"], ["r"]),
            node("BatchNormalization", ["r", *NORM], ["y"]),
        ]
        constants = {"w": numbers(7, 24), "s": np.array([-1, 6, 2, 1]), **statistics(6)}
        changed = fold_batch_norms(graph(nodes, constants, ["batch", 7]))
        assert len(batch_norms(changed)) == 1


class TestProjectionToGemm:
    @pytest.mark.parametrize(
        "attributes",
        [
            {},
            {"strides": [4, 4]},
            {"pads": [1, 0, 1, 2]},
            {"dilations": [2, 3], "pads": [1, 0, 0, 1]},
            {"strides": [3, 3], "output_padding": [1, 2]},
        ],
    )
    @pytest.mark.parametrize("bias", [False, True])
    def test_it_draws_what_the_transposed_convolution_of_one_pixel_draws(
        self, attributes: dict[str, Any], bias: bool
    ) -> None:
        constants = {"w": numbers(7, 5, 4, 4), "axes": np.array([2, 3])} | ({"b": numbers(5)} if bias else {})
        nodes = [
            node("Unsqueeze", ["x", "axes"], ["pixel"]),
            node("ConvTranspose", ["pixel", "w", *(["b"] if bias else [])], ["y"], **attributes),
        ]
        model, x = graph(nodes, constants, ["batch", 7]), numbers(3, 7, seed=2)
        changed = projection_to_gemm(model)
        assert kinds(changed)["ConvTranspose"] == kinds(changed)["Unsqueeze"] == 0
        assert kinds(changed)["Gemm"] == 1
        assert_same(run(changed, x=x), run(model, x=x))

    def test_larger_images_and_groups_stay(self) -> None:
        grouped = node("ConvTranspose", ["x", "w"], ["y"], group=2)
        for model in (
            graph([grouped], {"w": numbers(4, 3, 2, 2)}, ["batch", 4, 1, 1]),
            graph([node("ConvTranspose", ["x", "w"], ["y"])], {"w": numbers(4, 3, 2, 2)}, ["batch", 4, 1, 2]),
        ):
            assert kinds(projection_to_gemm(model)) == {"ConvTranspose": 1}


def shuffled(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Return the same graph with other names, another order of nodes and constants, and texts about the machine."""
    order = random.Random(seed)
    other = onnx.ModelProto()
    other.CopyFrom(model)
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    names = {"": ""} | {name: name for name in kept}
    for made in other.graph.node:
        for name in (*made.input, *made.output):
            names.setdefault(name, f"t{order.randrange(10**9)}")
        made.input[:] = [names[name] for name in made.input]
        made.output[:] = [names[name] for name in made.output]
        made.name, made.doc_string = f"n{order.randrange(10**9)}", 'File "/home/someone/net.py"'
        made.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/someone/net.py:3")
    for tensor in other.graph.initializer:
        tensor.name, tensor.doc_string = names.get(tensor.name, "unread"), "/tmp/weights"
    ready = {name for name in names.values() if name in kept or name == ""}
    ready |= {tensor.name for tensor in other.graph.initializer}
    ready -= {value.name for value in model.graph.output}
    waiting, ordered = list(other.graph.node), []
    while waiting:
        made = order.choice([one for one in waiting if set(one.input) <= ready])
        waiting = [one for one in waiting if one is not made]
        ordered.append(made)
        ready.update(made.output)
    copies = [onnx.NodeProto.FromString(made.SerializeToString()) for made in ordered]
    del other.graph.node[:]
    other.graph.node.extend(copies)
    tensors = list(other.graph.initializer)
    order.shuffle(tensors)
    copied = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in tensors]
    del other.graph.initializer[:]
    other.graph.initializer.extend(copied)
    other.graph.name, other.doc_string = f"graph{seed}", "/home/someone"
    other.metadata_props.add(key="where", value="/home/someone")
    return other


class TestClean:
    def test_names_and_order_of_what_comes_in_do_not_matter(self) -> None:
        model = subpixel(folded("dcgan-mnist-cond")[1])
        wanted = clean(model).SerializeToString(deterministic=True)
        for seed in range(3):
            assert clean(shuffled(model, seed)).SerializeToString(deterministic=True) == wanted
        assert clean(clean(model)).SerializeToString(deterministic=True) == wanted

    def test_nothing_of_the_machine_stays(self) -> None:
        content = clean(shuffled(exported("dcgan-mnist-cond")[1], 0)).SerializeToString()
        for trace in (b"someone", b"/tmp", b"stack_trace", b".py", b"pkg."):
            assert trace not in content

    def test_dead_nodes_and_unread_constants_are_dropped(self) -> None:
        nodes = [node("Relu", ["x"], ["y"]), node("Add", ["x", "a"], ["nowhere"])]
        changed = clean(graph(nodes, {"a": numbers(4), "unread": numbers(3)}, ["batch", 4]))
        assert kinds(changed) == {"Relu": 1}
        assert len(changed.graph.initializer) == 0

    def test_old_names_that_are_new_names_of_others_do_no_harm(self) -> None:
        nodes = [node("Tanh", ["x"], ["Relu_0"]), node("Relu", ["Relu_0"], ["Tanh_0"]), node("Neg", ["Tanh_0"], ["y"])]
        model, x = graph(nodes, {}, ["batch", 4]), numbers(2, 4)
        np.testing.assert_array_equal(run(clean(model), x=x), run(model, x=x))
        assert [made.output[0] for made in clean(model).graph.node] == ["Tanh_0", "Relu_0", "y"]

    def test_graphs_inside_of_nodes_keep_reading_what_they_read(self) -> None:
        branches = {
            name: helper.make_graph(
                [node(kind, ["from outside", "c"], [f"{name} out"])],
                name,
                [],
                [helper.make_tensor_value_info(f"{name} out", TensorProto.FLOAT, None)],
            )
            for name, kind in (("then_branch", "Add"), ("else_branch", "Sub"))
        }
        nodes = [
            node("Relu", ["x"], ["from outside"]),
            node("ReduceSum", ["x"], ["sum"], keepdims=0),
            node("Greater", ["sum", "zero"], ["positive"]),
            node("If", ["positive"], ["y"], **branches),
        ]
        constants = {"c": numbers(4), "zero": np.array(0, dtype=np.float32)}
        model = graph(nodes, constants, ["batch", 4])
        for x in (np.ones((2, 4), dtype=np.float32), -np.ones((2, 4), dtype=np.float32)):
            np.testing.assert_array_equal(run(clean(model), x=x), run(model, x=x))


class TestCheckNoRandom:
    @pytest.mark.parametrize("kind", ["RandomNormalLike", "RandomUniformLike", "Bernoulli"])
    def test_random_operators_are_refused_by_name(self, kind: str) -> None:
        with pytest.raises(GanzooError, match=kind):
            check_no_random(graph([node(kind, ["x"], ["y"])], {}, ["batch", 4]))

    def test_also_inside_of_other_nodes(self) -> None:
        out = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
        branch = helper.make_graph([node("RandomNormal", [], ["r"], shape=[2])], "branch", [], out)
        same = helper.make_graph([node("RandomNormal", [], ["r"], shape=[2])], "branch", [], out)
        nodes = [
            node("ReduceSum", ["x"], ["sum"], keepdims=0),
            node("Greater", ["sum", "zero"], ["p"]),
            node("If", ["p"], ["y"], then_branch=branch, else_branch=same),
        ]
        with pytest.raises(GanzooError, match="RandomNormal"):
            check_no_random(graph(nodes, {"zero": np.array(0, dtype=np.float32)}, ["batch", 4]))

    @pytest.mark.parametrize("training", [False, True])
    def test_dropout_is_refused_only_in_training_mode(self, training: bool) -> None:
        constants = {"ratio": np.array(0.5, dtype=np.float32), "training": np.array(training)}
        model = graph([node("Dropout", ["x", "ratio", "training"], ["y"])], constants, ["batch", 4])
        if training:
            with pytest.raises(GanzooError, match="Dropout"):
                check_no_random(model)
        else:
            check_no_random(model)


def recipes() -> list[Any]:
    return [pytest.param(name, marks=() if name in SMALL | RESIDUAL else pytest.mark.slow) for name in list_recipes()]


@pytest.mark.parametrize("name", recipes())
def test_all_passes_leave_the_images_of_every_recipe_as_they_are(name: str) -> None:
    recipe, model = exported(name)
    before = model.SerializeToString()
    changed = clean(subpixel(fold_shared_batch_norms(fold_batch_norms(projection_to_gemm(model)))))
    assert model.SerializeToString() == before  # passes are pure
    onnx.checker.check_model(changed, full_check=True)
    check_no_random(changed)
    assert batch_norms(changed) == []
    assert kinds(changed)["ConvTranspose"] == 0
    for count in (1, 3):
        inputs = inputs_of(recipe, count, seed=count)
        images = run(model, **inputs)
        assert images.std() > 1e-3
        assert np.abs(run(changed, **inputs) - images).max() <= 2e-5  # 1e-5 of the range


def test_a_projections_activation_stands_beside_it() -> None:
    _, model = folded("dcgan-tutorial64")
    assert [made.op_type for made in clean(model).graph.node][:4] == ["Reshape", "Gemm", "Relu", "Reshape"]
