from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_graphs import SMALL, Array, folded, graph, inputs_of, kinds, run, session

from ganzoo.errors import GanzooError
from ganzoo.export.onnx.passes import clean, subpixel
from ganzoo.export.onnx.quantization import Quantizer, quantize, quantize_within, weight_steps
from ganzoo.export.onnx.quantization.layout import channels_last
from ganzoo.export.onnx.quantization.ranges import scale_of
from ganzoo.pictures import to_uint8
from ganzoo.recipes import Recipe

node = helper.make_node


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def calibration(recipe: Recipe, batches: int = 4) -> Iterator[dict[str, Array]]:
    for seed in range(batches):
        yield inputs_of(recipe, 20, seed=1000 + seed)


def int8(name: str) -> tuple[Recipe, onnx.ModelProto, onnx.ModelProto]:
    """Return a recipe, its generator in float32, and in int8."""
    recipe, model = folded(name)
    model = clean(subpixel(model))
    return recipe, model, clean(quantize(model, calibration(recipe)))


def one_convolution(weight: Array, bias: Array | None = None, activation: str | None = "Relu") -> onnx.ModelProto:
    """Return a model of one convolution of 8 × 8 pixels."""
    constants = {"w": weight} | ({} if bias is None else {"b": bias})
    last = "c" if activation else "y"
    nodes = [node("Conv", ["x", *constants], [last], pads=[1] * 4, kernel_shape=list(weight.shape[2:]))]
    if activation:
        nodes.append(node(activation, ["c"], ["y"]))
    return graph(nodes, constants, ["batch", weight.shape[1], 8, 8])


def optimised(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Return a model as ONNX Runtime runs it."""
    path = folder / "optimised.onnx"
    session(model, optimised=path)
    return onnx.load(path)


@pytest.mark.parametrize("name", SMALL)
def test_all_layers_run_in_int8_and_nothing_is_converted_between_them(name: str, tmp_path: Path) -> None:
    _, model, quantized = int8(name)
    onnx.checker.check_model(quantized, full_check=True)
    ran, before, classes = kinds(optimised(quantized, tmp_path)), kinds(model), name == "dcgan-mnist-cond"
    assert ran["QLinearConv"] == before["Conv"]
    assert ran["QGemm"] == before["Gemm"] + 1  # the layer that reads z reads it twice
    for kind in ("Conv", "FusedConv", "ConvTranspose", "ConvInteger", "Gemm", "FusedGemm", "MatMulInteger"):
        assert ran[kind] == 0
    assert ran["Relu"] == ran["FusedConv"] == 0
    assert ran["LeakyRelu"] == (1 if name == "dcgan-mnist-tf" else 0)  # of the projection
    assert ran["QLinearLeakyRelu"] == before["LeakyRelu"] - ran["LeakyRelu"]
    assert ran["Concat"] == int(classes)  # of z with the classes
    assert ran["DequantizeLinear"] == 2  # of z, for its rest, and before tanh
    assert ran["QuantizeLinear"] == 3 + 3 * classes  # z, its rest, the projection; classes for each later layer


def test_classes_are_exact_wherever_they_are_read() -> None:
    _, model, quantized = int8("dcgan-mnist-cond")
    names = [made.input[0] for made in quantized.graph.node if made.op_type in ("Conv", "Gemm")]
    assert len(names) == 2 + kinds(model)["Conv"] + 1
    probe = onnx.ModelProto()
    probe.CopyFrom(quantized)
    concats = [made for made in quantized.graph.node if made.op_type == "Concat" and len(made.input) == 2]
    for made in concats:
        probe.graph.output.add().name = made.input[1]
    inputs = inputs_of(folded("dcgan-mnist-cond")[0], 20)
    maps = session(probe).run([made.input[1] for made in concats], inputs)
    wanted = np.eye(10, dtype=np.float32)[inputs["label"]]
    seen = 0
    for value in maps:
        if value.shape[1] == 10:
            seen += 1
            np.testing.assert_array_equal(value.reshape(20, 10, -1).mean(axis=2), wanted)
    assert seen >= 4  # at z, the dense layer and both convolutions


def test_layers_that_read_z_read_more_than_eight_bits_of_it() -> None:
    weight = np.eye(8, dtype=np.float32)
    model, z = graph([node("Gemm", ["x", "w"], ["y"])], {"w": weight}, ["batch", 8]), numbers(64, 8)
    quantized = quantize(model, [{"x": z}])
    wild = (
        1.9 * np.abs(z).max() * np.sign(numbers(64, 8, seed=1))
    )  # of a normal z some are larger than those seen before
    for given in (z, wild):
        assert np.abs(run(quantized, x=given) - given).max() <= np.abs(z).max() / 4000


def test_a_later_dense_layer_with_its_weights_either_way_runs_in_int8(tmp_path: Path) -> None:
    z, first = numbers(64, 8), numbers(8, 16)
    images = []
    for turned in (0, 1):
        second = numbers(16, 32, seed=1)
        constants = {"w": first, "v": second.T.copy() if turned else second, "b": numbers(32, seed=2)}
        nodes = [
            node("Gemm", ["x", "w"], ["h"]),
            node("Relu", ["h"], ["a"]),
            node("Gemm", ["a", "v", "b"], ["y"], transB=turned),
        ]
        model = graph(nodes, constants, ["batch", 8])
        quantized = quantize(model, [{"x": z}])
        assert kinds(optimised(quantized, tmp_path))["QGemm"] == 3
        images.append(run(quantized, x=z))
        wanted = run(model, x=z)
        assert np.abs(images[-1] - wanted).max() <= 0.02 * np.abs(wanted).max()
    np.testing.assert_array_equal(*images)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "dcgan-mnist-cond"])
def test_images_stay_channels_last_from_the_first_convolution_to_the_last(name: str, tmp_path: Path) -> None:
    ran = kinds(optimised(int8(name)[2], tmp_path))
    assert ran["Transpose"] + ran["NhwcTranspose"] <= 2


@pytest.mark.parametrize("name", SMALL)
def test_images_are_those_of_float32_to_a_few_levels(name: str) -> None:
    recipe, model, quantized = int8(name)
    inputs = inputs_of(recipe, 20, seed=5)
    wanted, images = run(model, **inputs), run(quantized, **inputs)
    assert wanted.std() > 0.01
    assert np.abs(images - wanted).max() > 0  # it is another arithmetic
    assert peak_signal_to_noise(wanted, images) > 38.0


def peak_signal_to_noise(wanted: Array, images: Array) -> float:
    """Return the PSNR in dB of two batches as pixels."""
    apart = to_uint8(images).astype(np.float64) - to_uint8(wanted).astype(np.float64)
    return float(10 * np.log10(255**2 / max(float(np.mean(apart**2)), 1e-9)))


def test_the_same_model_and_calibration_give_the_same_bytes() -> None:
    recipe, model = folded("dcgan-mnist-cond")
    model = clean(subpixel(model))
    before = model.SerializeToString()
    one, other = (clean(quantize(model, calibration(recipe))).SerializeToString() for _ in range(2))
    assert one == other
    assert model.SerializeToString() == before


def test_weights_are_int8_and_activations_uint8() -> None:
    _, _, quantized = int8("dcgan-lsun")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    levels = {made.input[0]: made for made in quantized.graph.node if made.op_type == "DequantizeLinear"}
    weights = [name for name in levels if name in constants and constants[name].ndim == 4]
    assert len(weights) == kinds(quantized)["Conv"]
    for name in weights:
        scale, zero = (constants[operand] for operand in levels[name].input[1:])
        assert constants[name].dtype == np.int8
        assert scale.shape == zero.shape == (len(constants[name]),)
        assert not zero.any()
    for made in quantized.graph.node:
        if made.op_type == "QuantizeLinear":
            assert constants[made.input[2]].dtype == np.uint8
            assert constants[made.input[1]].shape == ()


@pytest.mark.parametrize("shape", [(6, 8, 3, 3), (6, 7, 3, 3), (6, 1, 2, 2), (6, 5, 1, 1)])
def test_no_two_neighbours_can_overflow_sixteen_bits(shape: tuple[int, ...], tmp_path: Path) -> None:
    weight = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    x = numbers(4, shape[1], 8, 8)
    quantized = quantize(one_convolution(weight), [{"x": x}])
    tensors = [numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer]
    (levels,) = (tensor for tensor in tensors if tensor.dtype == np.int8 and tensor.ndim == 4)
    rows = levels.astype(int).transpose(0, 2, 3, 1).reshape(len(levels), -1)
    pairs = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).reshape(len(rows), -1, 2)
    assert np.abs(255 * pairs.sum(axis=-1)).max() < 1 << 15
    assert np.abs(levels).max() > 60  # the range is used


def test_steps_span_the_largest_weight_of_each_channel() -> None:
    weight = np.zeros((3, 2, 1, 2), dtype=np.float32)
    weight[0, 0, 0, 1] = -2.54  # alone
    weight[1, :, 0, 0] = 0.635  # two neighbours of one sign
    np.testing.assert_allclose(weight_steps(weight), [0.02, 0.01, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "step", "zero"),
    [(0.0, 25.5, 0.1, 0), (-12.75, 12.75, 0.1, 128), (3.0, 25.5, 0.1, 0), (-25.5, -3.0, 0.1, 255), (0.0, 0.0, 1.0, 0)],
)
def test_scales_span_the_range_and_zero(low: float, high: float, step: float, zero: int) -> None:
    scale = scale_of(low, high)
    assert scale.step == pytest.approx(step)
    assert abs(scale.zero_point - zero) <= (0 if low * high >= 0 else 1)


@pytest.mark.parametrize("activation", ["Relu", None])
def test_dead_channels_and_great_biases_stay_what_they_are(activation: str | None) -> None:
    weight, bias = numbers(4, 3, 3, 3), np.array([0.5, -3.0, 1e6, 0.0], dtype=np.float32)
    weight[0], weight[2] = 0.0, 1e-12  # the bias alone; a weight that is nothing beside its bias
    model, x = one_convolution(weight, bias, activation), numbers(4, 3, 8, 8)
    images, wanted = run(quantize(model, [{"x": x}]), x=x), run(model, x=x)
    assert np.isfinite(images).all()
    assert np.abs(images - wanted).max() <= 1e6 / 255


def test_what_goes_to_tanh_spends_no_levels_beyond_what_can_be_seen() -> None:
    weight = 10 * numbers(4, 3, 3, 3)  # results far beyond where tanh is ±1
    x = numbers(4, 3, 8, 8)
    quantized = clean(quantize(one_convolution(weight, activation="Tanh"), [{"x": x}]))
    steps = {
        tensor.name: float(numpy_helper.to_array(tensor))
        for tensor in quantized.graph.initializer
        if tensor.name.endswith("scale") and not tensor.dims
    }
    (last,) = (made for made in quantized.graph.node if made.op_type == "QuantizeLinear" and made.input[0] == "Conv_0")
    assert steps[last.input[1]] == pytest.approx(2 * 3.2 / 255)


@pytest.mark.parametrize("out", [16, 20])
@pytest.mark.parametrize(("kernel", "extra"), [(4, 0), (5, 1), (5, 0)])
def test_phases_side_by_side_with_the_channels_last_are_the_same_image(out: int, kernel: int, extra: int) -> None:
    pads = [(kernel - 1) // 2] * 4
    layer = node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], pads=pads, output_padding=[extra] * 2)
    phases = subpixel(graph([layer], {"w": numbers(3, out, kernel, kernel)}, ["batch", 3, 4, 5]))
    changed, x = channels_last(phases), numbers(2, 3, 4, 5)
    assert kinds(changed)["DepthToSpace"] == 0
    assert kinds(changed)["Transpose"] == 5
    np.testing.assert_array_equal(run(changed, x=x), run(phases, x=x))


def test_depth_to_space_of_something_else_stays() -> None:
    model = graph([node("DepthToSpace", ["x"], ["y"], blocksize=2)], {}, ["batch", 8, 3, 3])
    assert kinds(channels_last(model)) == {"DepthToSpace": 1}


def test_a_convolution_that_reads_the_input_itself_and_one_whose_result_is_the_output(tmp_path: Path) -> None:
    model, x = one_convolution(numbers(4, 3, 3, 3), numbers(4), activation=None), numbers(4, 3, 8, 8)
    quantized = quantize(model, [{"x": x}])
    assert kinds(optimised(quantized, tmp_path))["QLinearConv"] == 1
    assert [value.name for value in (*quantized.graph.input, *quantized.graph.output)] == ["x", "y"]
    wanted = run(model, x=x)
    assert np.abs(run(quantized, x=x) - wanted).mean() < 0.01 * np.abs(wanted).max()


class TestWhatCannotBe:
    def test_nothing_to_quantise(self) -> None:
        with pytest.raises(GanzooError, match="no layer"):
            quantize(graph([node("Relu", ["x"], ["y"])], {}, ["batch", 4]), [{"x": numbers(1, 4)}])

    @pytest.mark.parametrize(
        ("batches", "said"),
        [
            ([], "calibration is empty"),
            ([{"z": numbers(1, 3, 8, 8)}], r"\['z'\].*\['x'\]"),
            ([{"x": numbers(1, 4, 8, 8)}], "does not fit"),
            ([{"x": np.full((1, 3, 8, 8), np.nan, dtype=np.float32)}, {"x": numbers(1, 3, 8, 8)}], "NaN"),
        ],
    )
    def test_a_calibration_that_is_none(self, batches: list[dict[str, Any]], said: str) -> None:
        with pytest.raises(GanzooError, match=said):
            quantize(one_convolution(numbers(4, 3, 3, 3)), batches)


# ------------------------------------------------------------------------------------------------ residual nets


def residual() -> tuple[Recipe, onnx.ModelProto]:
    recipe, model = folded("sngan-resnet-cifar10")
    return recipe, clean(model)


def test_a_residual_net_runs_in_int8_but_for_its_sums(tmp_path: Path) -> None:
    recipe, model = residual()
    ran = kinds(optimised(clean(quantize(model, calibration(recipe))), tmp_path))
    before = kinds(model)
    assert before["Conv"] == 10
    assert ran["QLinearConv"] == 10
    assert ran["Conv"] == ran["FusedConv"] == 0
    assert ran["Resize"] == before["Resize"] == 6
    # What is doubled is uint8, in and out: nothing is converted on the large map.
    quantized = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "optimised.onnx"))
    levels = {one.output[0] for one in quantized.graph.node if one.op_type in ("QuantizeLinear", "QLinearConv")}
    moved = {one.output[0] for one in quantized.graph.node if one.op_type in ("Transpose", "NhwcTranspose")}
    assert all(one.input[0] in levels | moved for one in quantized.graph.node if one.op_type == "Resize")


@pytest.mark.parametrize("count", [0, 3, 10])
def test_the_first_layers_stay_in_float_with_weights_in_int8(count: int, tmp_path: Path) -> None:
    recipe, model = residual()
    quantized = clean(Quantizer(model, calibration(recipe)).quantized(count))
    onnx.checker.check_model(quantized, full_check=True)
    ran = kinds(optimised(quantized, tmp_path))
    assert ran["QLinearConv"] == 10 - count
    assert ran["Conv"] + ran["FusedConv"] == count
    names = {one.name: one for one in quantized.graph.initializer}
    weights = [value for value in names.values() if len(value.dims) == 4]
    assert [value.data_type for value in weights] == [onnx.TensorProto.INT8] * 10


def test_no_more_layers_are_kept_in_float_than_the_images_need() -> None:
    recipe, model = residual()
    batches, trial = list(calibration(recipe)), inputs_of(recipe, 16, seed=5)
    wanted = run(model, **trial)

    def noise(quantized: onnx.ModelProto) -> float:
        apart = (run(clean(quantized), **trial).astype(np.float64) - wanted) ** 2
        return float(10 * np.log10(4 / apart.mean(axis=(1, 2, 3)).max()))

    quantizer = Quantizer(model, batches)
    at = [noise(quantizer.quantized(count)) for count in range(10)]
    most = quantizer.most_in_float(0.5)
    assert 0 < most < 9
    assert at[most] > at[0]
    assert quantize_within(model, batches, trial, at[0] - 0.1)[1] == 0
    for psnr in (at[0] + 0.05, (at[0] + at[most]) / 2):
        quantized, count = quantize_within(model, batches, trial, psnr)
        assert 0 < count <= most
        assert noise(quantized) >= psnr > at[count - 1]
    assert quantize_within(model, batches, trial, at[most] + 20.0)[1] == most


def test_half_of_the_work_is_counted_in_multiplications() -> None:
    recipe, model = residual()
    quantizer = Quantizer(model, calibration(recipe))
    # 16, 16, 12, 12 channels on 8 to 32 pixels: the first four layers do 18 % of it, the fifth would make it 26 %.
    assert [quantizer.most_in_float(share) for share in (0.0, 1.0)] == [0, 10]
    assert quantizer.most_in_float(0.25) == 4
