"""Files of small classifiers with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ganzoo.features.classifier_files import save_classifier
from ganzoo.features.convnet import ConvNet
from ganzoo.features.training import TRAININGS

SMALL: dict[str, Any] = {"channels": 1, "stem": 4, "widths": (4, 6), "num_classes": 3}


def small_network(arguments: dict[str, Any] = SMALL, seed: int = 0) -> ConvNet:
    """Return a network with random weights and random statistics, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ConvNet(**arguments).eval()
        for name, value in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                value.uniform_(0.5, 1.5)
    return network


def small_file(path: Path, network: Any = None, **changed: Any) -> str:
    """Write a classifier of 9×9 grey images with three classes and return its SHA-256."""
    facts: dict[str, Any] = {
        "image_size": 9,
        "arguments": SMALL,
        "classes": ("a", "b", "c"),
        "data": "nothing",
        "licence": "MIT",
        "notice": "random weights",
        **changed,
    }
    return save_classifier(path, "small", network or small_network(), **facts)


def packaged_files(folder: Path) -> None:
    """Write files with random weights under the names of the packaged extractors."""
    for name, training in TRAININGS.items():
        save_classifier(
            folder / f"{name}.safetensors",
            name,
            small_network(dict(training.network)),
            image_size=training.image_size,
            arguments=training.network,
            classes=[str(number) for number in range(10)],
            data="nothing",
            licence="MIT",
            notice="random weights",
        )
