"""What a feature extractor is: a fixed network that turns images into vectors, with a name and a checksum.

A number that is computed from features means something only beside the extractor that made them. So every extractor
has a name and the SHA-256 of its weights, which go into every protocol, and only InceptionV3 with FID's own weights
gives numbers that are called FID.

One of your own derives from `FeatureExtractor` and is registered, as a class or a function that takes the keywords
`weights` (a path, or None) and `device`:

    @ganzoo.register_feature_extractor("my-features")
    class MyFeatures(FeatureExtractor): ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ganzoo import registry
from ganzoo.errors import PluginError, UsageError


@dataclass(frozen=True)
class InputSpec:
    """What an extractor does to images before its network sees them.

    Attributes:
        image_size: height and width in pixels to which images are resized; 0 where they stay as they are.
        channels: 1: colours become luma (ITU-R 601); 3: grey is repeated; 0: as they are.
        resize: "none", "bilinear" (antialiased) or "tf1_bilinear" (FID's own: no antialiasing, corners as TensorFlow 1
            had them).
        low, high: the range to which pixels of 0 to 255 are mapped.
    """

    image_size: int
    channels: Literal[0, 1, 3]
    resize: Literal["none", "bilinear", "tf1_bilinear"]
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Return the specification as a protocol tells it."""
        return asdict(self)


@dataclass(frozen=True)
class Extracted:
    """What an extractor gives for a batch of images.

    Attributes:
        features: (batch, dimension) float32, on the CPU.
        logits: (batch, num_classes) float32, on the CPU; None where the extractor names no classes.
    """

    features: torch.Tensor
    logits: torch.Tensor | None = None


class FeatureExtractor(ABC):
    """A fixed network, ready to be used.

    Attributes:
        name: under which it is registered.
        sha256: of its weights, in hexadecimal.
        spec: what it does to images first.
        dimension: length of a feature vector.
        num_classes: length of the logits; 0 where there are none.
        batch_size: how many images go through the network at once. It is part of the extractor: `extract_all` cuts and
            pads every row of images to it, so that an image's features do not depend on how many were asked for.
        notice: licence or origin of the weights, one line; None where there is nothing to say.
    """

    name: str
    sha256: str
    spec: InputSpec
    dimension: int
    num_classes: int = 0
    batch_size: int = 100
    notice: str | None = None

    @abstractmethod
    def extract(self, images: torch.Tensor) -> Extracted:
        """Return features, and logits where there are any, of a batch.

        Args:
            images: (batch, height, width, channels) uint8 on the CPU, 1 or 3 channels, of any size; `spec` is obeyed
                in here.

        Raises:
            UsageError: images that it cannot take.
        """

    def to_dict(self) -> dict[str, Any]:
        """Return what a protocol tells of it."""
        return {"name": self.name, "sha256": self.sha256, "dimension": self.dimension, "input": self.spec.to_dict()}


def open_extractor(name: str, *, weights: str | Path | None = None, device: str = "auto") -> FeatureExtractor:
    """Return the feature extractor of a name.

    Args:
        name: in the registry: "mnist-convnet", "cifar-convnet", "inception", "pixels" or a plug-in's.
        weights: a file of weights, for extractors that would fetch theirs.
        device: "auto", "cpu", "cuda" …, where its network runs.

    Raises:
        UnknownNameError: no such extractor.
        UsageError: `weights` for an extractor that brings its own.
        DownloadError: its weights are not here and cannot be fetched.
        WeightsError: its weights cannot be read, or are others than it expects.
        PluginError: a plug-in's extractor breaks the contract.
    """
    made = registry.feature_extractors.get(name)(weights=None if weights is None else Path(weights), device=device)
    if not isinstance(made, FeatureExtractor):
        raise PluginError(f"The feature extractor {name!r} is a {type(made).__name__}, no FeatureExtractor.")
    return made


def refuse_weights(name: str, weights: Path | None) -> None:
    """Refuse a file of weights for an extractor that brings its own.

    Raises:
        UsageError: there is one.
    """
    if weights is not None:
        raise UsageError(f"The features {name} bring their own weights.", "Leave out --feature-weights.")
