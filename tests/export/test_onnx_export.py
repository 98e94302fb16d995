"""ONNX export: every recipe, plug-ins, precisions, pixels; the same bytes twice; what cannot be is refused in words."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exportable import ResNetGenerator, of_generator, quick, small

import ganzoo
from ganzoo.errors import GanzooError, UsageError, WeightsError
from ganzoo.export import export_onnx
from ganzoo.export.onnx import exporting, latency, parity, tracing
from ganzoo.export.onnx.exporting import ExportReport, calibration
from ganzoo.export.onnx.tracing import Interface
from ganzoo.files import sha256_of
from ganzoo.models import Model, load_model
from ganzoo.pictures import to_uint8
from ganzoo.recipes import list_recipes
from ganzoo.seeds import latents

_DIFFERENT = {"dcgan-digits", "dcgan-mnist-cond", "dcgan-tutorial64", "sngan-resnet-cifar10", "r3gan-cifar10"}
"""Recipes that differ in what they are made of; the others have these ones' parts at other sizes."""

Export = Callable[..., ExportReport]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """A function that exports a model to a file of this test."""

    def write(model: Model, **settings: Any) -> ExportReport:
        return export_onnx(model, tmp_path / "model.onnx", **settings)

    return write


@pytest.fixture(scope="module")
def digits() -> Model:
    return small("dcgan-digits")


@pytest.fixture(scope="module")
def conditional() -> Model:
    return small("dcgan-mnist-cond")


def draw(path: Path, model: Model, seeds: Any, labels: Any = None) -> np.ndarray:
    """Images of seeds, by nothing but ONNX Runtime."""
    recipe = model.config.recipe
    feed = {"z": latents(seeds, recipe.generator.latent_dim, recipe.generator.prior)}
    if labels is not None:
        feed["label"] = np.asarray(labels, dtype=np.int64)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images: np.ndarray = session.run(["image"], feed)[0]
    return images


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def of_recipe(name: str) -> Any:
    return name if name in _DIFFERENT else pytest.param(name, marks=pytest.mark.slow)


# ------------------------------------------------------------------ the same images


@pytest.mark.parametrize("name", [of_recipe(name) for name in list_recipes()])
def test_every_recipes_file_draws_the_same_images_and_has_no_batch_norm(name: str, export: Export) -> None:
    model = small(name)
    recipe = model.config.recipe
    report = export(model)
    assert [row.batch for row in report.parity] == [1, 2, 7, 64]
    assert all(0 <= row.mean_error <= row.max_error <= 1e-5 for row in report.parity)

    labels = np.arange(9) % recipe.data.num_classes if recipe.data.num_classes else None
    images = draw(report.path, model, range(9), labels)
    assert np.abs(images - model.sample(9, labels=labels).numpy()).max() <= 2e-5
    assert images.std() > 0.3
    assert np.abs(draw(report.path, model, [4], None if labels is None else labels[4:5]) - images[4]).max() <= 2e-5

    assert not operators(report.path) & {"BatchNormalization", "RandomNormalLike", "Dropout"}
    written = onnx.load(report.path)
    assert [(entry.domain, entry.version) for entry in written.opset_import] == [("", 18)]
    assert written.ir_version <= 10
    assert [value.name for value in written.graph.input] == ["z"] + ["label"] * (recipe.data.num_classes > 0)
    shape = [dim.dim_param or dim.dim_value for dim in written.graph.output[0].type.tensor_type.shape.dim]
    assert shape == ["batch", recipe.data.channels, recipe.data.image_size, recipe.data.image_size]


def test_a_conditional_file_draws_each_class_as_torch_does(conditional: Model, export: Export) -> None:
    report = export(conditional)
    seeds, labels = [3] * 10, np.arange(10)
    images = draw(report.path, conditional, seeds, labels)
    assert np.abs(images - conditional.sample(seeds=seeds, labels=labels).numpy()).max() <= 2e-5
    assert min(np.abs(images[0] - other).max() for other in images[1:]) > 0.05


@pytest.mark.parametrize("size", [pytest.param(15, id="odd")])
def test_sizes_that_are_no_multiples_of_the_strides_come_out_too(size: int, export: Export) -> None:
    model = small("dcgan-mnist", image_size=size)
    report = export(model)
    assert np.abs(draw(report.path, model, range(3)) - model.sample(3).numpy()).max() <= 2e-5


@pytest.mark.parametrize("classes", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_a_third_partys_generator_is_exported_and_left_as_it_was(classes: int, export: Export) -> None:
    model = of_generator("export-resnet", classes=classes)
    before = {name: value.clone() for name, value in model.generator.state_dict().items()}
    labels = [2, 0, 1] if classes else None
    images = model.sample(3, labels=labels)
    assert images.std() > 0.1
    report = export(model)
    assert np.abs(draw(report.path, model, range(3), labels) - images.numpy()).max() <= 2e-5
    # Spectral norm is a number by now: no products of matrices but the projection's, and nothing divided.
    assert not operators(report.path) & {"MatMul", "Div"}

    assert isinstance(model.generator, ResNetGenerator)
    assert torch.equal(model.sample(3, labels=labels), images)
    after = model.generator.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_generator_with_spectral_norm_can_be_exported_twice(export: Export) -> None:
    """A copy shares its parametrised modules' classes with the original, which baking must not touch."""
    model = ganzoo.create_model("dcgan-digits", generator={"widths": [8, 8], "norm": "spectral"})
    images = model.sample(2)
    first = export(model)
    assert torch.equal(model.sample(2), images)
    assert export(model).sha256 == first.sha256


# ------------------------------------------------------------------ precisions, pixels, opsets


def test_fp16_is_half_the_size_with_float32_outside(digits: Model, export: Export) -> None:
    full = export(digits).bytes
    report = export(digits, precision="fp16")
    written = onnx.load(report.path).graph
    weights = {tensor.data_type for tensor in written.initializer if len(tensor.dims) > 1}
    assert weights == {onnx.TensorProto.FLOAT16}
    assert report.bytes < full
    images = draw(report.path, digits, range(5))
    assert images.dtype == np.float32
    error = np.abs(images - digits.sample(5).numpy()).max() / 2
    assert 1e-6 < error <= 5e-3
    assert max(row.max_error for row in report.parity) <= 5e-3


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_conditional_model_goes_into_every_precision(precision: Any, conditional: Model, export: Export) -> None:
    report = export(conditional, precision=precision, pixels="uint8")
    labels = np.arange(10)
    images = draw(report.path, conditional, labels, labels).astype(int)
    expected = to_uint8(conditional.sample(seeds=labels, labels=labels)).transpose(0, 3, 1, 2)
    assert np.abs(images - expected).mean() < 2
    assert ("QuantizeLinear" in operators(report.path)) == (precision == "int8")


def test_int8_is_calibrated_with_latents_that_neither_people_nor_the_proof_use(conditional: Model) -> None:
    interface = Interface.of(conditional)
    feeds = list(calibration(interface))
    z = np.concatenate([feed["z"] for feed in feeds])
    assert z.shape == (256, interface.latent_dim)
    assert set(np.concatenate([feed["label"] for feed in feeds]).tolist()) == set(range(10))
    used = [latents(range(256), interface.latent_dim, interface.prior), *(z for z, _ in parity.batches(interface))]
    assert not {row.tobytes() for row in z} & {row.tobytes() for rows in used for row in rows}


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_pixels_are_those_of_to_uint8(layout: Any, export: Export, digits: Model) -> None:
    report = export(digits, pixels="uint8", layout=layout)
    images = draw(report.path, digits, range(64))
    expected = to_uint8(digits.sample(64))
    assert images.dtype == np.uint8
    if layout == "nchw":
        expected = expected.transpose(0, 3, 1, 2)
    difference = np.abs(images.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3  # where rounding in float32 meets a border between two levels
    assert (expected.min(), expected.max()) == (0, 255)


@pytest.mark.parametrize("opset", [22, *(pytest.param(opset, marks=pytest.mark.slow) for opset in (19, 20, 21))])
def test_the_written_files_opset_is_the_one_asked_for(opset: int, conditional: Model, export: Export) -> None:
    report = export(conditional, opset=opset, pixels="uint8")
    written = onnx.load(report.path)
    assert [(entry.domain, entry.version) for entry in written.opset_import] == [("", opset)]
    assert (report.opset, written.ir_version <= 10) == (opset, True)


# ------------------------------------------------------------------ what is in the file


def test_the_metadata_say_what_the_file_is(tmp_path: Path, conditional: Model, export: Export) -> None:
    conditional.save(tmp_path / "model")
    model = load_model(tmp_path / "model")
    report = export(model, pixels="uint8", layout="nhwc")
    found = {entry.key: entry.value for entry in onnx.load(report.path).metadata_props}
    sha256 = sha256_of(tmp_path / "model" / "generator.safetensors")
    assert found.keys() == {"ganzoo", "recipe", "weights_sha256", "value_range", "licence", "version"}
    assert (found["recipe"], found["weights_sha256"]) == ("dcgan-mnist-cond", sha256)
    assert (found["value_range"], found["licence"]) == ("0 to 255", "not stated")
    assert json.loads(found["ganzoo"]) == {
        "schema_version": 1,
        "version": ganzoo.__version__,
        "recipe": "dcgan-mnist-cond",
        "config": json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8")),
        "weights_sha256": sha256,
        "precision": "fp32",
        "pixels": "uint8",
        "layout": "nhwc",
        "value_range": "0 to 255",
        "licence": None,
        "z": {"latent_dim": 100, "prior": "uniform", "formula": "philox4x32-10, docs/seeds.md"},
    }
    assert (report.bytes, report.sha256) == (report.path.stat().st_size, sha256_of(report.path))


def test_changed_weights_have_another_sha256_than_the_file_they_came_from(tmp_path: Path) -> None:
    from ganzoo.export.onnx.outputs import generator_sha256

    small("dcgan-digits").save(tmp_path / "one")
    model = load_model(tmp_path / "one")
    assert generator_sha256(model) == sha256_of(tmp_path / "one" / "generator.safetensors")
    with torch.no_grad():
        next(model.generator.parameters()).add_(1)
    model.save(tmp_path / "two")
    assert generator_sha256(model) == sha256_of(tmp_path / "two" / "generator.safetensors")


_ELSEWHERE = """
import sys
sys.path.insert(0, sys.argv[1])
from exportable import small
from ganzoo.export import export_onnx
from ganzoo.export.onnx import latency
latency._MOST = 1
for precision in sys.argv[3:]:
    export_onnx(small("dcgan-digits"), f"{sys.argv[2]}/{precision}.onnx", precision=precision)
"""


@pytest.mark.parametrize(
    "precisions", [["fp32"], pytest.param(["fp16", "int8"], marks=pytest.mark.slow)], ids=lambda names: "-".join(names)
)
def test_two_processes_in_two_folders_write_the_same_bytes(
    precisions: list[Any], tmp_path: Path, export: Export
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    arguments = [str(Path(__file__).parent), str(elsewhere), *precisions]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", _ELSEWHERE, *arguments], cwd=elsewhere, env=environment, check=True)
    for precision in precisions:
        report = export(small("dcgan-digits"), precision=precision)
        assert (elsewhere / f"{precision}.onnx").read_bytes() == report.path.read_bytes()


def test_nothing_of_the_machine_is_in_the_file(digits: Model, export: Export) -> None:
    content = export(digits, pixels="uint8").path.read_bytes()
    places = [Path.cwd(), Path.home(), Path(ganzoo.__file__).parent, Path(torch.__file__).parent, Path(sys.prefix)]
    for text in (*map(str, places), ".py", "forward", "torch", "site-packages"):
        assert text.encode() not in content, text


# ------------------------------------------------------------------ quietly


def test_an_export_prints_nothing_and_tells_its_progress(
    digits: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    said: list[str] = []
    monkeypatch.undo()  # a trace of its own
    monkeypatch.setattr(latency, "_MOST", 1)
    export_onnx(digits, tmp_path / "a" / "b.onnx", progress=said.append)
    assert capfd.readouterr() == ("", "")
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG] == []
    assert len(said) == 3
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.onnx"]


def test_importing_the_package_imports_neither_torch_nor_onnx() -> None:
    code = "import sys, ganzoo.export; print([name for name in ('torch', 'onnx', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_packages_public_names_are_what_their_modules_define() -> None:
    import ganzoo.export as package

    assert package.__all__ == sorted(package._LAZY) == dir(package)
    for name, module in package._LAZY.items():
        assert getattr(package, name) is getattr(sys.modules[module], name)
    with pytest.raises(AttributeError, match="no attribute 'import_onnx'"):
        package.import_onnx  # noqa: B018


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("export-noisy", r"draws random numbers of its own: the same z gives two images"),
        ("export-silent-noise", r"draws random numbers itself \(RandomNormalLike\)"),
        ("export-stuck", r"stays in train mode when asked for eval mode: drop"),
        ("export-batch", r"looks at the whole batch: an image alone and beside others"),
        ("export-shape", r"gives \(3, 15, 16\) for an image, not \(3, 16, 16\)"),
        ("export-fails", r"'export-fails' fails: 'no such layer'"),
        ("export-untranslatable", r"'export-untranslatable' cannot be exported to ONNX: "),
        ("export-fixed", r"'export-fixed' (cannot be exported to ONNX|fixes its batch size)"),
    ],
)
def test_a_generator_that_would_not_draw_the_same_images_is_refused_in_words(
    name: str, said: str, tmp_path: Path, export: Export
) -> None:
    with pytest.raises(GanzooError, match=said) as raised:
        export(of_generator(name))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_generator_in_train_mode_is_refused(tmp_path: Path, export: Export) -> None:
    model = small("dcgan-digits")
    model.generator.train()
    with pytest.raises(GanzooError, match=r"in train mode.*generator\.eval\(\)"):
        export(model)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_are_refused(export: Export) -> None:
    model = small("dcgan-digits")
    with torch.no_grad():
        next(model.generator.parameters())[0] = float("nan")
    with pytest.raises(WeightsError, match=r"hold NaN or Inf: project\.weight"):
        export(model)


def test_what_does_not_fit_into_one_file_is_refused(
    digits: Model, export: Export, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tracing, "MAX_BYTES", 1000)
    with pytest.raises(GanzooError, match="an ONNX file holds less than 2 GiB"):
        export(digits)
    monkeypatch.undo()
    monkeypatch.setattr(exporting, "MAX_BYTES", 1000)
    with pytest.raises(GanzooError, match=r"The export has .* an ONNX file holds less than 2 GiB"):
        export(digits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"opset": 17}, "Opset 17 is not supported. Choose one of 18 to 22"),
        ({"opset": 23}, "Opset 23 is not supported. Choose one of 18 to 22"),
        ({"opset": True}, "Opset True is not supported"),
        ({"precision": "bf16"}, r"`precision` \(='bf16'\) is none of fp32, fp16, int8"),
        ({"pixels": "png"}, r"`pixels` \(='png'\) is none of float, uint8"),
        ({"layout": "hwc"}, r"`layout` \(='hwc'\) is none of nchw, nhwc"),
        ({"layout": "nhwc"}, "Choose pixels uint8 too"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    settings: dict[str, Any], said: str, digits: Model, export: Export
) -> None:
    with pytest.raises(UsageError, match=said):
        export(digits, **settings)


def test_a_file_that_is_no_export_is_kept_unless_forced_and_an_export_replaced(
    digits: Model, tmp_path: Path, export: Export
) -> None:
    path = tmp_path / "model.onnx"
    foreign = onnx.ModelProto(ir_version=8, producer_name="another")
    for content in (b"not ONNX at all", foreign.SerializeToString(), b""):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="is there already, and is no export of ganzoo"):
            export(digits)
        assert path.read_bytes() == content
    first = export(digits, force=True)
    assert export(digits, pixels="uint8").sha256 != first.sha256
    assert sha256_of(path) != first.sha256


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("model.pt", UsageError, "no name for an ONNX file. Let it end in .onnx"),
        ("a\0b.onnx", UsageError, "no name for an ONNX file"),
        ("folder.onnx", UsageError, "is a folder"),
        ("file/model.onnx", NotADirectoryError, "Not a directory"),
    ],
)
def test_a_path_that_cannot_hold_the_file_is_refused_before_any_work(
    name: str, error: type[Exception], said: str, digits: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.delattr(exporting, "to_graph")
    with pytest.raises(error, match=said):
        export_onnx(digits, tmp_path / name)


def test_a_folder_that_may_not_be_written_to_is_refused_before_any_work(
    digits: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # chmod does not bind root
    with pytest.raises(PermissionError) as raised:
        export_onnx(digits, tmp_path / "new" / "model.onnx")
    assert raised.value.filename == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_file_of_before(
    digits: Model, tmp_path: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = export(digits)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        export(digits, pixels="uint8")
    assert sha256_of(report.path) == report.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
