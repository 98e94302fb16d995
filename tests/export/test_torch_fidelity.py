"""torch-fidelity takes a uint8 export as its generator, and measures the images that ganzoo's own sampler draws."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_files
import pytest
import torch
from PIL import Image
from tiny_runs import table

from ganzoo.export import OnnxSampler, export_onnx
from ganzoo.zoo import create_model

fidelity = pytest.importorskip("torch_fidelity")

SIZE, FEATURES, SAMPLES, SEED = 8, 4, 48, 7
NAME = "ganzoo-test-features"


def features_of(images: torch.Tensor) -> torch.Tensor:
    """Return a few fixed numbers of each image: (n, 3, 8, 8) uint8 → (n, 4)."""
    mix = torch.randn(3 * SIZE * SIZE, FEATURES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (images.double().flatten(1) / 255.0) @ mix / SIZE


class SmallFeatures(fidelity.FeatureExtractorBase):  # type: ignore[misc,name-defined]
    """A feature net with nothing to download; like Inception's, it takes pixels and nothing else."""

    def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
        super().__init__(name, features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("all",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "all"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (3, SIZE, SIZE)
        return (features_of(images),)


@pytest.fixture
def extractor() -> Iterator[str]:
    from torch_fidelity import registry

    registry.register_feature_extractor(NAME, SmallFeatures)
    yield NAME
    del registry.FEATURE_EXTRACTORS_REGISTRY[NAME]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images to compare with."""
    made = tmp_path / "images"
    made.mkdir()
    for number, image in enumerate(real_images()):
        Image.fromarray(image).save(made / f"{number:03d}.png")
    return made


def real_images() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 200, (SAMPLES, SIZE, SIZE, 3), dtype=np.uint8)


def frechet(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Return the Fréchet distance of two sets of features, through the eigenvalues of the covariances' product."""
    covariances = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    cross = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(0)).sum()
    means = one.mean(0) - other.mean(0)
    return float(means @ means + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * cross)


def test_the_uint8_export_is_scored_as_its_own_images_are(tmp_path: Path, folder: Path, extractor: str) -> None:
    model = create_model(table(data__channels=3))
    path = tmp_path / "model.onnx"
    export_onnx(model, path, pixels="uint8")
    latent_dim = OnnxSampler(path, provider="cpu").latent_dim
    scores = fidelity.calculate_metrics(
        input1=str(path),
        input1_model_z_type="normal",
        input1_model_z_size=latent_dim,
        input1_model_num_samples=SAMPLES,
        input2=str(folder),
        feature_extractor=extractor,
        **{"fid": True, "kid": True, "kid_subsets": 2, "kid_subset_size": SAMPLES, "batch_size": 20, "rng_seed": SEED},
        **{"cuda": False, "cache": False, "save_cpu_ram": True, "verbose": False},
    )
    z = torch.from_numpy(np.random.RandomState(SEED).standard_normal((SAMPLES, latent_dim))).float()
    with torch.inference_mode():
        drawn = model.generator(z)
    pixels = (drawn.double() * 127.5 + 128).floor().clamp(0, 255).to(torch.uint8)
    real = torch.from_numpy(real_images()).permute(0, 3, 1, 2)
    expected = frechet(features_of(pixels).numpy(), features_of(real).numpy())
    assert expected > 0.01
    assert scores["frechet_inception_distance"] == pytest.approx(expected, rel=1e-3)
    assert np.isfinite(scores["kernel_inception_distance_mean"])


def test_an_export_of_numbers_is_no_generator_of_pixels(tmp_path: Path, folder: Path, extractor: str) -> None:
    """So that the test above would notice if the pixels were not what is read."""
    path = onnx_files.write(tmp_path / "model.onnx", metadata=json.dumps(onnx_files.said()))
    with pytest.raises(AssertionError):
        fidelity.calculate_metrics(
            input1=str(path),
            input1_model_z_size=onnx_files.LATENT_DIM,
            input1_model_num_samples=4,
            input2=str(folder),
            feature_extractor=extractor,
            **{"fid": True, "cuda": False, "cache": False, "save_cpu_ram": True, "verbose": False},
        )
