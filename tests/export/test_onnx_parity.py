"""The proof: it finds what is wrong with a file, and then there is no file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exportable import quick, small, trace

from ganzoo.errors import GanzooError
from ganzoo.export import export_onnx
from ganzoo.export.onnx import exporting, parity, passes, tracing
from ganzoo.export.onnx.outputs import set_header
from ganzoo.export.onnx.parity import Claim, Parity
from ganzoo.export.onnx.tracing import Interface
from ganzoo.models import Model
from ganzoo.pictures import to_uint8

_FLOAT = Claim("fp32", "float", "nchw", 18)


@pytest.fixture(scope="module")
def model() -> Model:
    return small("dcgan-digits")


@pytest.fixture(scope="module")
def _graph(model: Model) -> onnx.ModelProto:
    graph = passes.clean(trace(tracing.frozen(model), Interface.of(model), 18))
    set_header(graph, 18)
    return graph


@pytest.fixture
def graph(_graph: onnx.ModelProto) -> onnx.ModelProto:
    """A good export, to be spoilt."""
    copy = onnx.ModelProto()
    copy.CopyFrom(_graph)
    return copy


def prove(graph: onnx.ModelProto, model: Model, claim: Claim = _FLOAT) -> tuple[Parity, ...]:
    content = graph.SerializeToString()
    interface = Interface.of(model)
    parity.check_file(content, claim, interface)
    return parity.prove(parity.open_session(content, 1), model.generator, claim, interface)


def test_a_good_file_passes_with_errors_of_rounding(graph: onnx.ModelProto, model: Model) -> None:
    rows = prove(graph, model)
    assert [row.batch for row in rows] == [1, 2, 7, 64]
    assert all(1e-9 < row.mean_error < row.max_error < 1e-5 and row.psnr > 100 for row in rows)


def test_one_changed_weight_is_found_with_the_numbers(graph: onnx.ModelProto, model: Model) -> None:
    weight = next(tensor for tensor in graph.graph.initializer if len(tensor.dims) == 4)
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0, 0] += 0.01
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    with pytest.raises(GanzooError, match=r"largest error 0\.\d+, mean .* but fp32 is held to a largest error"):
        prove(graph, model)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda graph: graph.graph.node.pop(), "refused by onnx's checker"),
        (lambda graph: graph.graph.input[0].type.tensor_type.shape.dim[0].Clear(), "other inputs and outputs"),
        (lambda graph: graph.opset_import[0].__setattr__("version", 17), "instead of opset 18|checker"),
    ],
)
def test_a_file_that_is_not_what_it_claims_is_refused(
    spoil: Any, said: str, graph: onnx.ModelProto, model: Model
) -> None:
    spoil(graph)
    with pytest.raises(GanzooError, match=said):
        prove(graph, model)


def test_a_random_operator_is_found(graph: onnx.ModelProto, model: Model) -> None:
    last = graph.graph.node[-1]
    last.output[0] = "before"
    graph.graph.node.extend(
        [
            onnx.helper.make_node("RandomNormalLike", ["before"], ["noise"], scale=1e-9),
            onnx.helper.make_node("Add", ["before", "noise"], ["image"]),
        ]
    )
    with pytest.raises(GanzooError, match="RandomNormalLike"):
        prove(graph, model)


def test_an_image_that_depends_on_its_batch_mates_is_found(
    graph: onnx.ModelProto, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(session: Any, z: np.ndarray, label: Any) -> np.ndarray:
        images = real(session, z, label)
        return images if len(z) > 1 else images + 0.01

    real = parity.run
    monkeypatch.setattr(parity, "run", run)
    monkeypatch.setattr(parity, "BATCHES", (2, 7, 7, 64))  # so that only the batch of one itself is off
    with pytest.raises(GanzooError, match=r"depends on its batch-mates: alone and in a batch of 7"):
        prove(graph, model)


def test_a_failed_proof_leaves_no_file_and_keeps_the_old_one(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    old = export_onnx(model, tmp_path / "old.onnx")

    def spoilt(*arguments: Any) -> onnx.ModelProto:
        graph = trace(*arguments)
        tanh = next(node for node in graph.graph.node if node.op_type == "Tanh")
        tanh.op_type = "Softsign"  # of the same range, and nearly of the same form
        return graph

    monkeypatch.setattr(exporting, "to_graph", spoilt)
    for name in ("new.onnx", "old.onnx"):
        with pytest.raises(GanzooError, match=r"largest error 0\.1\d+, .* Nothing was written"):
            export_onnx(model, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["old.onnx"]
    assert (tmp_path / "old.onnx").stat().st_size == old.bytes


def test_all_classes_are_drawn_however_many_there_are() -> None:
    for classes in (3, 10, 100, 1000):
        interface = Interface("any", 8, 1, classes, 4, "normal")
        batches = list(parity.batches(interface))
        assert [len(z) for z, _ in batches[:4]] == [1, 2, 7, 64]
        assert {int(one) for _, label in batches if label is not None for one in label} == set(range(classes))
        every = np.concatenate([z for z, _ in batches])
        assert len(np.unique(every, axis=0)) == len(every)


def test_errors_are_relative_to_the_range_and_psnr_is_that_of_the_worst_image() -> None:
    images = np.zeros((4, 1, 2, 2), dtype=np.float32)
    drawn = images.copy()
    drawn[2, 0, 0, 0] = 0.2
    assert parity.difference(images, images) == Parity(4, 0.0, 0.0, math.inf)
    found = parity.difference(drawn, images)
    assert (found.max_error, found.mean_error) == (pytest.approx(0.1), pytest.approx(0.1 / 16))
    assert found.psnr == pytest.approx(10 * math.log10(2.0**2 / (0.2**2 / 4)))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("pixels", ["float", "uint8"])
def test_nan_is_within_no_bound(precision: str, pixels: str) -> None:
    claim = Claim(precision, pixels, "nchw", 18)
    nan = np.full((2, 1, 4, 4), np.nan)
    assert not claim.holds(parity.difference(nan, np.zeros_like(nan)))
    assert claim.holds(parity.difference(np.zeros_like(nan), np.zeros_like(nan)))


def test_the_bounds_are_those_that_are_promised() -> None:
    def least_that_fails(claim: Claim, *sizes: float) -> float:
        return next(size for size in sizes if not claim.holds(Parity(1, size, 0.0, 0.0)))

    assert least_that_fails(Claim("fp32", "float", "nchw", 18), 9e-6, 1.1e-5) == 1.1e-5
    assert least_that_fails(Claim("fp16", "float", "nchw", 18), 4.9e-3, 5.1e-3) == 5.1e-3
    assert least_that_fails(Claim("fp16", "uint8", "nchw", 18), 1, 2) == 2
    assert not Claim("int8", "uint8", "nchw", 18).holds(Parity(1, 0.0, 0.0, parity.MIN_PSNR - 0.1))


def test_pixels_are_compared_in_levels(model: Model) -> None:
    claim = Claim("fp32", "uint8", "nhwc", 18)
    images = model.sample(2)
    pixels = to_uint8(images)
    pixels[1, 0, 0, 0] = 255 - pixels[1, 0, 0, 0]
    found = parity.compare(pixels, images, claim)
    assert found.max_error == abs(255 - 2 * int(pixels[1, 0, 0, 0]))
