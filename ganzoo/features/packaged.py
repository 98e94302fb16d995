"""The features that need no download: `mnist-convnet` for grey images, `cifar-convnet` for colours.

Small classifiers that we trained ourselves (`python -m ganzoo.features train`), each in one file beside this one. What
they measure is named after them, never FID.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ganzoo.devices import choose_device, full_float32
from ganzoo.errors import WeightsError
from ganzoo.features.classifier_files import load_classifier
from ganzoo.features.contract import Extracted, FeatureExtractor, InputSpec, refuse_weights
from ganzoo.features.resizing import prepare
from ganzoo.files import sha256_of

FOLDER = Path(__file__).with_name("weights")
NAMES = ("cifar-convnet", "mnist-convnet")


def mnist_convnet(weights: Path | None = None, device: str = "auto") -> FeatureExtractor:
    """Return the features of a classifier of MNIST's digits: 28×28, grey.

    Args:
        weights: nothing; it brings its own.
        device: where its network runs.

    Raises:
        UsageError: `weights`, or no such device.
        WeightsError: its file is missing or damaged.
    """
    return _packaged("mnist-convnet", weights, device)


def cifar_convnet(weights: Path | None = None, device: str = "auto") -> FeatureExtractor:
    """Return the features of a classifier of CIFAR-10's (JPEG 75) ten classes: 32×32, colours.

    Args:
        weights: nothing; it brings its own.
        device: where its network runs.

    Raises:
        UsageError: `weights`, or no such device.
        WeightsError: its file is missing or damaged.
    """
    return _packaged("cifar-convnet", weights, device)


def packaged_file(name: str) -> Path:
    """Return where the weights of a packaged extractor lie."""
    return FOLDER / f"{name}.safetensors"


class ConvNetFeatures(FeatureExtractor):
    """Features of a small classifier: its last hidden layer, and its logits.

    Args:
        path: a file of `ganzoo.features.classifier_files.save_classifier`.
        device: "auto", "cpu", "cuda" …, where its network runs.

    Raises:
        WeightsError: the file is missing, damaged, or another thing.
        UsageError: no such device.
    """

    batch_size = 100

    def __init__(self, path: Path, *, device: str = "auto") -> None:
        self._device = choose_device(device)
        network, self.facts = load_classifier(path)
        self._network = network.to(self._device).to(memory_format=torch.channels_last)
        self.name = self.facts.name
        self.sha256 = sha256_of(path)
        self.spec = InputSpec(
            image_size=self.facts.image_size,
            channels=1 if self.facts.channels == 1 else 3,
            resize="bilinear",
            low=-1.0,
            high=1.0,
        )
        self.dimension = self.facts.widths[-1]
        self.num_classes = len(self.facts.classes)
        self.notice = self.facts.notice or None

    @torch.no_grad()
    def extract(self, images: torch.Tensor) -> Extracted:
        """Return features and logits of a batch; see `FeatureExtractor.extract`."""
        image = prepare(images, self.spec).to(self._device, memory_format=torch.channels_last)
        with full_float32(self._device):
            features, logits = self._network(image)
        return Extracted(features.float().cpu(), logits.float().cpu())


def _packaged(name: str, weights: Path | None, device: str) -> ConvNetFeatures:
    refuse_weights(name, weights)
    path = packaged_file(name)
    if not path.is_file():
        raise WeightsError(
            f"The weights of the features {name} are not in this installation: {path} is missing.",
            f"Install ganzoo again; in a source checkout `python -m ganzoo.features train {name}` makes them.",
        )
    return ConvNetFeatures(path, device=device)
