"""ONNX Runtime on a GPU: the processor's images, from graphs that were captured once, without torch in the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_files
import pytest

from ganzoo.export import OnnxSampler, export_onnx
from ganzoo.export.benchmark.measuring import benchmark_sampling
from ganzoo.export.runtime.engines import BoundEngine
from ganzoo.models import Model
from ganzoo.references import ModelLocation
from ganzoo.sampling import TorchSampler
from ganzoo.zoo import create_model

PROVIDERS = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SEEDS = range(70)
RECIPES: dict[str, dict[str, Any]] = {
    "dcgan-mnist-cond": {"generator": {"widths": [12, 8]}},
    "dcgan-cifar10": {"generator": {"widths": [32, 24, 16]}},
}


@pytest.fixture(scope="module", params=["dcgan-mnist-cond", pytest.param("dcgan-cifar10", marks=pytest.mark.gpu)])
def model(request: pytest.FixtureRequest) -> Model:
    return create_model(request.param, **RECIPES[request.param])


@pytest.fixture(scope="module")
def path(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("exported") / "model.onnx"
    export_onnx(model, made)
    return made


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_images_are_torchs_on_the_processor_at_every_batch_size(model: Model, path: Path, provider: str) -> None:
    expected = TorchSampler(model, device="cpu").sample(SEEDS)
    drawn = OnnxSampler(path, provider=provider)
    assert drawn.provider == provider
    for batch_size in (1, 7, 64, 70):
        assert np.abs(drawn.sample(SEEDS, batch_size=batch_size) - expected).max() <= 1e-4


@pytest.mark.parametrize("provider", PROVIDERS)
def test_drawing_again_gives_the_same_bytes_whatever_was_drawn_between(path: Path, provider: str) -> None:
    """A graph that is replayed, beside the first run that captured it."""
    drawn = OnnxSampler(path, provider=provider)
    first = {count: drawn.sample(range(count)) for count in (64, 1, 5)}
    for count in (5, 64, 1, 1, 64):
        assert np.array_equal(drawn.sample(range(count)), first[count])


@pytest.mark.gpu
def test_auto_takes_the_gpu_and_captures_graphs_on_it(path: Path) -> None:
    drawn = OnnxSampler(path)
    assert drawn.provider == "cuda"
    assert isinstance(drawn._engine, BoundEngine)
    assert drawn._engine._graph


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{"precision": "fp16"}, {"precision": "int8"}, {"pixels": "uint8"}], ids=str)
def test_every_kind_of_file_is_drawn_as_on_the_processor(
    model: Model, tmp_path: Path, settings: dict[str, Any]
) -> None:
    export_onnx(model, tmp_path / "model.onnx", **settings)
    there = OnnxSampler(tmp_path / "model.onnx", provider="cuda").sample(SEEDS)
    here = OnnxSampler(tmp_path / "model.onnx", provider="cpu").sample(SEEDS)
    assert np.sqrt(np.mean((there - here) ** 2)) <= 0.02  # of a range of 2: 40 dB


@pytest.mark.gpu
def test_tf32_is_off_unless_it_is_allowed(model: Model, path: Path) -> None:
    expected = TorchSampler(model, device="cpu").sample(SEEDS)
    exact = np.abs(OnnxSampler(path, provider="cuda").sample(SEEDS) - expected).max()
    allowed = np.abs(OnnxSampler(path, provider="cuda", allow_tf32=True).sample(SEEDS) - expected).max()
    assert exact <= 1e-4
    assert exact <= allowed <= 0.1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_it_works_without_torch_in_the_process(tmp_path: Path, provider: str) -> None:
    """Whose CUDA libraries it would otherwise find loaded already."""
    path = onnx_files.write(tmp_path / "model.onnx")
    code = (
        "import sys\n"
        "from ganzoo.export import OnnxSampler\n"
        "drawn = OnnxSampler(sys.argv[1], provider=sys.argv[2])\n"
        "print(drawn.provider, drawn.sample(range(3)).shape, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(path), provider]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert (done.stdout, done.stderr) == (f"{provider} (3, 3, 4, 4) False\n", "")


@pytest.mark.gpu
def test_a_gpu_that_is_not_there_is_an_error(path: Path) -> None:
    with pytest.raises(Exception, match="cuda does not work here") as caught:
        OnnxSampler(path, provider="cuda:63")
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
def test_the_benchmark_measures_on_the_gpu_and_counts_its_memory(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    done = benchmark_sampling(
        ModelLocation(tmp_path / "model"),
        runtimes=("torch", "onnx-fp32"),
        batch_sizes=(1, 64),
        seconds=0.5,
        device="cuda",
    )
    assert done.left_out == {}
    assert [result.computed_on.partition(":")[0] for result in done.results] == ["cuda", "cuda"]
    for result in done.results:
        assert result.device_memory_bytes is None or result.device_memory_bytes > 0
