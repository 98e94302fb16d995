"""The same images in two folders and the same network, judged by torch-fidelity and by `ganzoo.evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ganzoo
from ganzoo.evaluation.results import Evaluation
from ganzoo.features.contract import Extracted, FeatureExtractor, InputSpec
from ganzoo.features.convnet import ConvNet

torch_fidelity = pytest.importorskip("torch_fidelity")
base = pytest.importorskip("torch_fidelity.feature_extractor_base")

SEED = 11
SUBSETS = {"subsets": 20, "subset_size": 60}


def network() -> ConvNet:
    """Random weights, the same each time; its batch norms as they begin."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return ConvNet(channels=3, stem=8, widths=(16, 32, 48), num_classes=10).eval()


def run(net: ConvNet, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and logits of (batch, 3, H, W) uint8, as large as those of trained networks."""
    with torch.no_grad():
        features, logits = net(images.float() / 127.5 - 1)
    return 30 * features, 60 * logits


class Ours(FeatureExtractor):
    name, sha256, dimension, num_classes, batch_size = "random-convnet", "1" * 64, 48, 10, 64
    spec = InputSpec(0, 3, "none", -1.0, 1.0)

    def __init__(self) -> None:
        self._net = network()

    def extract(self, images: torch.Tensor) -> Extracted:
        return Extracted(*run(self._net, images.permute(0, 3, 1, 2)))


class Theirs(base.FeatureExtractorBase):  # type: ignore[misc, name-defined]
    def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
        super().__init__(name, features_list)
        self._net = network()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return "features", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = dict(zip(("features", "logits"), run(self._net, images), strict=True))
        return tuple(found[name] for name in self.features_list)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders of PNG images, 24 pixels wide; those of the second are paler."""
    paths = []
    for number, count in enumerate((150, 190)):
        folder = tmp_path_factory.mktemp(f"images{number}")
        random = np.random.default_rng(number)
        coarse = random.integers(0, 256 - 40 * number, size=(count, 6, 6, 3)).astype(np.uint8)
        for index, image in enumerate(coarse.repeat(4, axis=1).repeat(4, axis=2)):
            Image.fromarray(image).save(folder / f"{index:04d}.png")
        paths.append(folder)
    return paths[0], paths[1]


@pytest.fixture(scope="module")
def theirs(folders: tuple[Path, Path]) -> dict[str, float]:
    torch_fidelity.register_feature_extractor("random-convnet", Theirs)
    return dict(
        torch_fidelity.calculate_metrics(
            input1=str(folders[0]),
            input2=str(folders[1]),
            feature_extractor="random-convnet",
            isc=True,
            fid=True,
            kid=True,
            prc=True,
            kid_subsets=SUBSETS["subsets"],
            kid_subset_size=SUBSETS["subset_size"],
            rng_seed=SEED,
            cuda=False,
            cache=False,
            save_cpu_ram=True,
            verbose=False,
        )
    )


@pytest.fixture(scope="module")
def ours(folders: tuple[Path, Path]) -> Evaluation:
    kernel = ganzoo.registry.metrics.get("kd")(**SUBSETS)
    return ganzoo.evaluate(folders[0], folders[1], metrics=["fd", kernel, "is", "pr"], features=Ours(), seed=SEED)


@pytest.mark.parametrize(
    ("name", "theirs_name", "tolerance"),
    [
        ("fd", "frechet_inception_distance", 1e-6),
        ("kd", "kernel_inception_distance_mean", 1e-5),
        ("is", "inception_score_mean", 1e-6),
        ("precision", "precision", 1e-6),
        ("recall", "recall", 1e-6),
    ],
)
def test_torch_fidelity_says_the_same(
    name: str, theirs_name: str, tolerance: float, theirs: dict[str, float], ours: Evaluation
) -> None:
    found = ours[f"{name}-random-convnet"].value
    assert found == pytest.approx(theirs[theirs_name], rel=tolerance)
    assert abs(found) > 1e-4


def test_it_gives_the_same_deviations(theirs: dict[str, float], ours: Evaluation) -> None:
    assert ours["is-random-convnet"].error == pytest.approx(theirs["inception_score_std"], rel=1e-5)
    deviation = ours["kd-random-convnet"].protocol["deviation_over_subsets"]
    assert deviation == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-4)
