"""Feature extractors: fixed networks whose vectors stand for images when models are judged.

`open_extractor("mnist-convnet")` gives one by name. Importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganzoo.features.contract import Extracted, FeatureExtractor, InputSpec, open_extractor
    from ganzoo.features.discriminator import DiscriminatorFeatures, discriminator_features
    from ganzoo.features.packaged import ConvNetFeatures
    from ganzoo.features.pixels import Pixels
    from ganzoo.features.publishing import publish_classifier

_HOMES = {
    "ConvNetFeatures": "packaged",
    "DiscriminatorFeatures": "discriminator",
    "Extracted": "contract",
    "FeatureExtractor": "contract",
    "InputSpec": "contract",
    "Pixels": "pixels",
    "discriminator_features": "discriminator",
    "open_extractor": "contract",
    "publish_classifier": "publishing",
}

__all__ = [
    "ConvNetFeatures",
    "DiscriminatorFeatures",
    "Extracted",
    "FeatureExtractor",
    "InputSpec",
    "Pixels",
    "discriminator_features",
    "open_extractor",
    "publish_classifier",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'ganzoo.features' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ganzoo.features.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
