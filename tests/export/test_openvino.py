"""OpenVINO's own: precisions, quiet, and what it says where it is missing."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import exportable
import numpy as np
import onnx
import onnx_files
import pytest
from onnx_files import CHANNELS, CLASSES, SIZE

from ganzoo.errors import MissingDependencyError, UsageError, WeightsError
from ganzoo.export import OpenVINOSampler, export_onnx
from ganzoo.export.runtime import openvino
from ganzoo.models import Model
from ganzoo.sampling import TorchSampler
from ganzoo.zoo import create_model


@pytest.fixture(scope="module")
def model() -> Model:
    return exportable.lively(create_model("dcgan-digits", generator={"widths": [16, 16]}))


@pytest.fixture(scope="module")
def files(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model's exports."""
    folder = tmp_path_factory.mktemp("exports")
    for precision in ("fp32", "fp16", "int8"):
        export_onnx(model, folder / f"{precision}.onnx", precision=precision, timing=False)  # type: ignore[arg-type]
    return folder


def images(path: Path, **options: Any) -> Any:
    return OpenVINOSampler(path, **options).sample(range(32))


def psnr(drawn: Any, wanted: Any) -> float:
    return float(10 * np.log10(4.0 / ((drawn - wanted) ** 2).reshape(len(drawn), -1).mean(axis=1).max()))


# ------------------------------------------------------------------ precisions


def test_every_precision_of_a_file_draws_torchs_images_within_its_bound(files: Path, model: Model) -> None:
    wanted = TorchSampler(model, device="cpu").sample(range(32))
    assert np.abs(images(files / "fp32.onnx") - wanted).max() <= 2e-5
    assert np.abs(images(files / "fp16.onnx") - wanted).max() <= 1e-2
    assert psnr(images(files / "int8.onnx"), wanted) >= 35


def test_float32_is_computed_where_nothing_is_asked_for(files: Path) -> None:
    """OpenVINO's own default is bf16 where the processor has it."""
    drawn = OpenVINOSampler(files / "fp32.onnx")
    assert drawn.precision == "fp32"
    assert drawn._compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


def test_bf16_is_computed_where_it_is_asked_for_and_nowhere_else(files: Path) -> None:
    has = openvino.import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in has:
        with pytest.raises(UsageError, match=r"This processor has no bf16\. Use --precision fp32"):
            OpenVINOSampler(files / "fp32.onnx", precision="bf16")
        return
    drawn = OpenVINOSampler(files / "fp32.onnx", precision="bf16")
    assert drawn._compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "bf16"
    assert 40 <= psnr(drawn.sample(range(32)), images(files / "fp32.onnx")) <= 100


def test_bf16_is_refused_on_a_processor_without_it(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino.import_openvino(), "Core", Core)
    with pytest.raises(UsageError, match=r"This processor has no bf16\. Use --precision fp32"):
        OpenVINOSampler(files / "fp32.onnx", precision="bf16")


def test_transposed_convolutions_are_computed_as_convolutions(files: Path) -> None:
    drawn = OpenVINOSampler(files / "fp32.onnx")
    kinds = {node.get_rt_info()["layerType"].astype(str) for node in drawn._compiled.get_runtime_model().get_ops()}
    assert "Convolution" in kinds
    assert "Deconvolution" not in kinds


def test_the_threads_are_as_asked_for(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert OpenVINOSampler(files / "fp32.onnx", threads=1).threads == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    drawn = OpenVINOSampler(files / "fp32.onnx")
    assert (drawn.threads, drawn._compiled.get_property("INFERENCE_NUM_THREADS")) == (1, 1)
    with pytest.raises(UsageError, match=r"`threads` \(=0\) must be a whole number"):
        OpenVINOSampler(files / "fp32.onnx", threads=0)
    with pytest.raises(UsageError, match="OpenVINO does not compute in 'fp8' here"):
        OpenVINOSampler(files / "fp32.onnx", precision="fp8")


def test_several_threads_draw_their_own_images(files: Path) -> None:
    drawn = OpenVINOSampler(files / "fp32.onnx", threads=1)
    wanted = drawn.sample(range(40))
    found: dict[int, Any] = {}

    def draw(first: int) -> None:
        found[first] = drawn.sample(range(first, first + 10), batch_size=1)

    workers = [threading.Thread(target=draw, args=(first,)) for first in (0, 10, 20, 30)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert np.abs(np.concatenate([found[first] for first in (0, 10, 20, 30)]) - wanted).max() <= 1e-5


def test_what_was_drawn_stays_when_more_is_drawn(files: Path) -> None:
    drawn = OpenVINOSampler(files / "fp32.onnx")
    first = drawn._compute({"z": np.ones((2, drawn.latent_dim), np.float32)})
    kept = first.copy()
    drawn._compute({"z": -np.ones((2, drawn.latent_dim), np.float32)})
    assert np.array_equal(first, kept)


# ------------------------------------------------------------------ files


def test_weights_outside_the_file_are_refused(tmp_path: Path) -> None:
    made = onnx.load(onnx_files.write(tmp_path / "model.onnx"))
    onnx.save(made, tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    with pytest.raises(WeightsError, match=r"model\.onnx (is damaged|keeps weights outside itself)") as caught:
        OpenVINOSampler(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ installed or not, and quiet


def test_it_is_told_in_one_line_that_it_is_not_installed(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingDependencyError) as caught:
        OpenVINOSampler(files / "fp32.onnx")
    assert str(caught.value) == "OpenVINO is not installed. Install it: pip install 'ganzoo[openvino]'"


@pytest.mark.parametrize(
    "error", [ImportError("libtbb.so: cannot open\nit"), ModuleNotFoundError("No module named 'numpy'", name="numpy")]
)
def test_a_broken_installation_is_told_in_one_line(
    files: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(name: str) -> Any:
        raise error

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(MissingDependencyError, match=r"OpenVINO cannot be imported: .*Reinstall it") as caught:
        OpenVINOSampler(files / "fp32.onnx")
    assert "\n" not in str(caught.value)


DRAW = """
import sys
from ganzoo.export import OpenVINOSampler
assert OpenVINOSampler(sys.argv[1]).pixels(range(2)).shape == (2, 4, 4, 3)
print(*sorted(name for name in sys.modules if "." not in name))
"""


def test_nobody_is_told_and_torch_is_not_imported(tmp_path: Path) -> None:
    """OpenVINO's telemetry would leave an identifier in the home folder and send an event."""
    path = onnx_files.write(tmp_path / "model.onnx")
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", DRAW, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert list(home.iterdir()) == []
    imported = set(done.stdout.split())
    assert "openvino" in imported
    assert not imported & {"openvino_telemetry", "torch", "onnxruntime", "pydantic", "click"}
    assert done.stderr == ""


def test_another_program_keeps_its_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: Any = object()
    monkeypatch.setitem(sys.modules, "openvino_telemetry", chosen)
    openvino.import_openvino()
    assert sys.modules["openvino_telemetry"] is chosen
    monkeypatch.delitem(sys.modules, "openvino_telemetry")
    openvino.import_openvino()
    assert "openvino_telemetry" not in sys.modules


def test_a_class_reaches_the_network(tmp_path: Path) -> None:
    drawn = OpenVINOSampler(onnx_files.write(tmp_path / "model.onnx", classes=CLASSES))
    one, other = drawn.sample([3], [0]), drawn.sample([3], [4])
    assert one.shape == (1, CHANNELS, SIZE, SIZE)
    assert np.abs(one - other).max() > 0.1
