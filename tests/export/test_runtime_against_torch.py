"""Same seed, same image: an exported file drawn by ONNX Runtime and OpenVINO against its model drawn by torch."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganzoo.export import export_onnx
from ganzoo.models import Model
from ganzoo.references import ModelLocation
from ganzoo.sampling import Sampler, TorchSampler, open_sampler
from ganzoo.zoo import create_model

TOLERANCE = 2e-5
RECIPES: dict[str, dict[str, Any]] = {
    "dcgan-mnist-cond": {"generator": {"widths": [12, 8]}},
    "dcgan-cifar10": {"generator": {"widths": [16, 12, 8]}},
    "dcgan-lsun": {"generator": {"widths": [12, 8, 8, 6]}},  # a uniform prior, the first batch norm per unit
}
SEEDS = [*range(69), 2**40]


def as_if_trained(model: Model) -> Model:
    """Give batch norms statistics and scales as training leaves them; those of new ones hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    for module in model.generator.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            for tensor, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.05, 0.5),
                (module.weight, 0.5, 2.0),
                (module.bias, -0.5, 0.5),
            ):
                if tensor is not None:
                    tensor.data.uniform_(low, high, generator=generator)
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Model]]:
    """A recipe's model and its file, each exported once."""

    @functools.cache
    def export(name: str) -> tuple[Path, Model]:
        model = as_if_trained(create_model(name, **RECIPES[name]))
        path = tmp_path_factory.mktemp("exported") / "model.onnx"
        export_onnx(model, path, timing=False)
        return path, model

    return export


@pytest.fixture(scope="module", params=itertools.product(RECIPES, ("onnx", "openvino")), ids="-".join)
def both(request: pytest.FixtureRequest, exported: Callable[[str], tuple[Path, Model]]) -> tuple[Sampler, TorchSampler]:
    """The samplers of one model, in another runtime and in torch."""
    name, runtime = request.param
    path, model = exported(name)
    drawn = open_sampler(ModelLocation(path, "onnx"), runtime=runtime, device="cpu")
    return drawn, TorchSampler(model, device="cpu")


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_same_seeds_are_the_same_images(both: tuple[Sampler, TorchSampler], batch_size: int) -> None:
    onnx, ours = both
    images = onnx.sample(SEEDS, batch_size=batch_size)
    expected = ours.sample(SEEDS)
    assert expected.std() > 0.05  # no picture of one grey
    assert np.abs(images - expected).max() <= TOLERANCE
    assert np.abs(onnx.pixels(SEEDS).astype(int) - ours.pixels(SEEDS)).max() <= 1


def test_truncation_and_labels_are_the_same(both: tuple[Sampler, TorchSampler]) -> None:
    onnx, ours = both
    labels = None if ours.num_classes == 0 else np.arange(len(SEEDS)) % ours.num_classes
    truncated = onnx.sample(SEEDS, labels, truncation=0.6)
    assert np.abs(truncated - ours.sample(SEEDS, labels, truncation=0.6)).max() <= TOLERANCE
    assert np.abs(truncated - ours.sample(SEEDS, labels)).max() > 100 * TOLERANCE
    if labels is not None:
        assert np.abs(truncated - ours.sample(SEEDS, truncation=0.6)).max() > 100 * TOLERANCE


def test_both_tell_the_same_of_the_model(both: tuple[Sampler, TorchSampler]) -> None:
    onnx, ours = both
    for name in ("image_size", "channels", "num_classes", "latent_dim", "prior"):
        assert getattr(onnx, name) == getattr(ours, name)
