"""Drawing with ONNX Runtime and OpenVINO: the images of the seeds, whatever the form of the file, and one line for what
is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_files
import pytest
from onnx import TensorProto, helper
from onnx_files import CHANNELS, CLASSES, LATENT_DIM, SIZE, twin

from ganzoo import registry
from ganzoo.errors import GanzooError, UsageError, WeightsError
from ganzoo.export import OnnxSampler, OpenVINOSampler
from ganzoo.export.runtime.exported import ExportedSampler
from ganzoo.pictures import to_uint8
from ganzoo.sampling import labels_of, latents

FORMS: list[dict[str, Any]] = [
    {},
    {"classes": CLASSES},
    {"prior": "uniform"},
    {"pixels": "uint8"},
    {"pixels": "uint8", "layout": "nhwc", "classes": CLASSES},
]


@pytest.fixture(params=["onnx", "openvino"])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(path: Path, runtime: str) -> ExportedSampler:
    return OnnxSampler(path, provider="cpu") if runtime == "onnx" else OpenVINOSampler(path)


def sampler(folder: Path, runtime: str = "onnx", **form: Any) -> ExportedSampler:
    return opened(onnx_files.write(folder / "model.onnx", **form), runtime)


# ------------------------------------------------------------------ images


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_images_are_those_of_the_seeds_in_every_form(
    tmp_path: Path, runtime: str, form: dict[str, Any], batch_size: int
) -> None:
    drawn = sampler(tmp_path, runtime, **form)
    seeds = [*range(69), 2**63]
    z = latents(seeds, LATENT_DIM, form.get("prior", "normal"))
    expected = twin(z, labels_of(seeds, CLASSES) if "classes" in form else None)
    images = drawn.sample(seeds, batch_size=batch_size)
    assert (images.shape, images.dtype) == ((70, CHANNELS, SIZE, SIZE), np.float32)
    assert np.abs(images - expected).max() <= (1 / 255 + 1e-6 if form.get("pixels") == "uint8" else 2e-6)
    pixels = drawn.pixels(seeds, batch_size=batch_size)
    assert (pixels.shape, pixels.dtype) == ((70, SIZE, SIZE, CHANNELS), np.uint8)
    exact = expected.transpose(0, 2, 3, 1) * 127.5 + 128
    sure = np.abs(exact - np.round(exact)) > 1e-3  # beside a boundary, rounding may fall to either side
    assert sure.mean() > 0.9
    assert np.array_equal(pixels[sure], np.floor(exact[sure]).clip(0, 255))
    assert np.array_equal(to_uint8(images), pixels)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_an_image_is_its_seeds_own_whatever_is_drawn_beside_it(
    tmp_path: Path, runtime: str, form: dict[str, Any]
) -> None:
    drawn = sampler(tmp_path, runtime, **form)
    together = drawn.sample(range(20))
    assert np.abs(drawn.sample([13]) - together[13]).max() <= 1e-6
    assert np.abs(drawn.sample([19, 2**40, 4])[[0, 2]] - together[[19, 4]]).max() <= 1e-6
    assert drawn.sample([]).shape == (0, CHANNELS, SIZE, SIZE)
    assert drawn.pixels([]).shape == (0, SIZE, SIZE, CHANNELS)


def test_labels_and_truncation_reach_the_network(tmp_path: Path, runtime: str) -> None:
    drawn = sampler(tmp_path, runtime, classes=CLASSES)
    z = latents(range(3), LATENT_DIM, "normal")
    assert np.abs(drawn.sample(range(3), [4, 0, 4]) - twin(z, np.array([4, 0, 4]))).max() <= 2e-6
    shorter = drawn.sample(range(3), [4, 0, 4], truncation=0.25)
    assert np.abs(shorter - twin(0.25 * z, np.array([4, 0, 4]))).max() <= 2e-6
    with pytest.raises(UsageError, match=f"classes 0 to {CLASSES - 1}"):
        drawn.sample(range(3), [0, 1, CLASSES])


def test_the_file_tells_what_it_draws(tmp_path: Path) -> None:
    drawn = OnnxSampler(
        onnx_files.write(tmp_path / "model.onnx", classes=CLASSES, pixels="uint8", layout="nhwc"), provider="cpu"
    )
    assert (drawn.image_size, drawn.channels, drawn.num_classes) == (SIZE, CHANNELS, CLASSES)
    assert (drawn.latent_dim, drawn.prior, drawn.provider) == (LATENT_DIM, "normal", "cpu")
    about = drawn.metadata
    assert (about.recipe, about.precision, about.pixels, about.layout) == ("by-hand", "fp32", "uint8", "nhwc")
    assert (about.licence, about.weights_sha256, about.config["schema_version"]) == (None, "0" * 64, 1)
    assert registry.samplers.get("onnx") is OnnxSampler


def test_what_the_network_cannot_draw_is_one_line(tmp_path: Path) -> None:
    """The table of this file has fewer rows than its metadata tell of classes."""
    text = json.dumps(onnx_files.said(classes=CLASSES))
    path = onnx_files.write(tmp_path / "model.onnx", classes=2, metadata=text)
    drawn = OnnxSampler(path, provider="cpu")
    assert drawn.sample([0], [1]).shape == (1, CHANNELS, SIZE, SIZE)
    with pytest.raises(GanzooError, match=r"cannot draw 2 images of .*model\.onnx at once: .*indices") as caught:
        drawn.sample([0, 1], [0, 4])
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ files that are none of ours


def refusal(path: Path, runtime: str) -> str:
    with pytest.raises(WeightsError) as caught:
        opened(path, runtime)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "FILE")


NO_ONNX = {
    "empty": (b"", "FILE is no ONNX file: it is empty."),
    "zeros": (bytes(5000), "FILE is no ONNX file: it is nothing but zeros"),
    "text": (b"hello\nworld\n", "FILE is no ONNX file: it is text ('hello')."),
    "page": (b"<!doctype html>\n<html>", "FILE is no ONNX file: it is a web page"),
    "torch": (
        b"PK\x03\x04" + bytes(range(256)),
        "FILE is no ONNX file: it is a zip archive, as torch.save makes them.",
    ),
    "noise": (bytes(range(255, 0, -1)) * 9, "FILE is no ONNX file, or not the whole of it. Export the model again"),
}


@pytest.mark.parametrize("name", NO_ONNX)
def test_what_is_no_onnx_file_is_told_in_one_line(
    tmp_path: Path, runtime: str, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content, message = NO_ONNX[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert refusal(path, runtime).startswith(message)
    assert capfd.readouterr() == ("", "")  # nor does ONNX Runtime say anything beside it


@pytest.mark.parametrize("part", [0.02, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_told_in_one_line(tmp_path: Path, runtime: str, part: float) -> None:
    path = onnx_files.write(tmp_path / "model.onnx")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    assert refusal(path, runtime).startswith("FILE is no ONNX file, or not the whole of it.")


def attempt(path: Path, runtime: str) -> str | None:
    """How ganzoo refuses a file, or None where it draws."""
    try:
        assert opened(path, runtime).sample([0]).shape == (1, CHANNELS, SIZE, SIZE)
    except GanzooError as error:
        return str(error)
    return None


def test_noise_in_a_file_raises_nothing_but_one_line(tmp_path: Path, runtime: str) -> None:
    path = onnx_files.write(tmp_path / "model.onnx")
    whole, random = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), random.integers(1, 4)):
            damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        answer = attempt(path, runtime)
        refused += answer is not None
        assert "\n" not in (answer or "")
    assert refused >= 20  # most bits are of weights, and change an image


def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.onnx cannot be read: No such file"):
        OnnxSampler(tmp_path / "absent.onnx")
    with pytest.raises(WeightsError, match="cannot be read: it is a folder"):
        OnnxSampler(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(WeightsError, match="cannot be read: it is a named pipe"):
            OnnxSampler(tmp_path / "pipe")


def test_anothers_onnx_file_is_told_in_one_line(tmp_path: Path, runtime: str) -> None:
    path = onnx_files.save(onnx_files.graph(), tmp_path / "model.onnx")
    assert refusal(path, runtime) == (
        "FILE was not exported by ganzoo: its metadata have no entry 'ganzoo'. "
        "Convert the weights that it was made from (ganzoo convert), then ganzoo export MODEL --onnx."
    )


def changed(**changes: Any) -> str:
    """Metadata with entries changed by dotted keys; None removes one."""
    fields = onnx_files.said()
    for key, value in changes.items():
        *path, last = key.split("__")
        at = fields
        for part in path:
            at = at[part]
        if value is None:
            del at[last]
        else:
            at[last] = value
    return json.dumps(fields)


METADATA = {
    "newer": (
        changed(schema_version=2),
        "FILE: schema_version = 2 is newer than this ganzoo knows (1). Update ganzoo.",
    ),
    "no version": (changed(schema_version=None), "The metadata of FILE are damaged: they have no schema_version."),
    "version of text": (changed(schema_version="1"), "The metadata of FILE are damaged: they have no schema_version."),
    "no JSON": ("{", "The metadata of FILE are damaged: it is not JSON"),
    "no object": ("[1]", "The metadata of FILE are damaged: they have no schema_version."),
    "twice": ('{"schema_version": 1, "schema_version": 2}', "The metadata of FILE are damaged: it holds the key"),
    "no config": (changed(config=None), "The metadata of FILE are damaged: they have no config."),
    "no z": (changed(z=None), "The metadata of FILE are damaged: they have no z."),
    "size": (changed(config__recipe__data__image_size=0), "The metadata of FILE are damaged: image_size = 0 cannot be"),
    "classes": (changed(config__recipe__data__num_classes=True), "The metadata of FILE are damaged: num_classes is no"),
    "huge": (changed(z__latent_dim=2**40), "The metadata of FILE are damaged: latent_dim = 1099511627776 cannot be."),
    "prior": (changed(z__prior="cauchy"), "The metadata of FILE are damaged: prior is not one of uniform, normal."),
    "pixels": (changed(pixels=[1]), "The metadata of FILE are damaged: pixels is not one of float, uint8."),
    "data": (changed(config__recipe__data=3), "The metadata of FILE are damaged: data is no dict."),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_that_cannot_be_are_told_in_one_line(tmp_path: Path, runtime: str, name: str) -> None:
    text, message = METADATA[name]
    path = onnx_files.write(tmp_path / "model.onnx", metadata=text)
    assert refusal(path, runtime).startswith(message)


def retyped(model: onnx.ModelProto, name: str, kind: int, shape: list[Any]) -> onnx.ModelProto:
    """The file with an input given another kind or shape; what it computes no longer matters."""
    for values in (model.graph.input, model.graph.output):
        for number, value in enumerate(values):
            if value.name == name:
                values[number].CopyFrom(helper.make_tensor_value_info(name, kind, shape))
    return model


SIGNATURES = {
    "other latent": (changed(z__latent_dim=7), "FILE: z is tensor(float) (batch, 6), not tensor(float) (batch, 7)."),
    "other size": (
        changed(config__recipe__data__image_size=8),
        "FILE: image is tensor(float) (batch, 3, 4, 4), not tensor(float) (batch, 3, 8, 8).",
    ),
    "other kind": (changed(pixels="uint8"), "FILE: image is tensor(float) (batch, 3, 4, 4), not tensor(uint8)"),
    "other layout": (
        changed(pixels="float", layout="nhwc"),
        "FILE: image is tensor(float) (batch, 3, 4, 4), not tensor(float) (batch, 4, 4, 3).",
    ),
    "classes": (
        changed(config__recipe__data__num_classes=2),
        "FILE has the inputs and outputs z, image, not z, label, image.",
    ),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_file_that_is_not_as_its_metadata_say_is_told_in_one_line(tmp_path: Path, runtime: str, name: str) -> None:
    text, message = SIGNATURES[name]
    path = onnx_files.write(tmp_path / "model.onnx", metadata=text)
    assert refusal(path, runtime).startswith(message)


def test_a_fixed_batch_is_refused(tmp_path: Path, runtime: str) -> None:
    model = retyped(onnx_files.graph(), "z", TensorProto.FLOAT, [2, LATENT_DIM])
    helper.set_model_props(model, {"ganzoo": json.dumps(onnx_files.said())})
    path = onnx_files.save(model, tmp_path / "model.onnx")
    assert refusal(path, runtime).startswith("FILE: z is tensor(float) (2, 6), not tensor(float) (batch, 6).")


# ------------------------------------------------------------------ without torch

DRAW = """
import sys
from ganzoo.export import OnnxSampler, OpenVINOSampler
from ganzoo.export.runtime.exported import ExportedSampler
assert OnnxSampler(sys.argv[1], provider="cpu").pixels(range(2)).shape == (2, 4, 4, 3)
print(*sorted(name for name in sys.modules if "." not in name))
"""


COMMAND = """
import sys
from ganzoo.cli.main import main
try:
    main()
finally:
    print(*sorted(name for name in sys.modules if "." not in name))
"""


def test_neither_torch_nor_onnx_nor_pydantic_is_imported(tmp_path: Path) -> None:
    path = onnx_files.write(tmp_path / "model.onnx")
    done = subprocess.run([sys.executable, "-c", DRAW, str(path)], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert {"onnxruntime", "numpy", "ganzoo"} <= imported
    assert not imported & {"torch", "onnx", "onnxscript", "pydantic", "rich", "click", "matplotlib", "safetensors"}


def test_nothing_is_written_beside_the_images_and_nobody_told(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry would leave an identifier in the home and files among the temporary ones."""
    path = onnx_files.write(tmp_path / "model.onnx")
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "TMPDIR": str(scratch)}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", DRAW, str(path)], capture_output=True, env=environment, check=True)
    assert [*home.iterdir(), *scratch.iterdir()] == []


def test_the_command_draws_an_onnx_file_without_torch(tmp_path: Path) -> None:
    """The whole process: reading the reference, drawing, writing the picture."""
    path = onnx_files.write(tmp_path / "model.onnx", pixels="uint8")
    out = tmp_path / "images.npz"
    command = ["sample", str(path), "--seeds", "3,9", "--provider", "cpu", "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", COMMAND, *command], capture_output=True, text=True, check=True)
    result, imported = done.stdout.split("\n", 1)
    assert result == str(out)
    assert not set(imported.split()) & {"torch", "onnx", "onnxscript", "pydantic", "matplotlib", "sklearn"}
    with np.load(out) as arrays:
        assert np.array_equal(arrays["images"], OnnxSampler(path, provider="cpu").pixels([3, 9]))
