"""Evaluation: numbers about generated images, each with its protocol.

    evaluation = ganzoo.evaluate("dcgan-mnist", metrics=["fd", "pr"])
    evaluation["fd-mnist-convnet"].value

What is asked for is imported then (PEP 562); a metric of one's own derives from `Metric`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganzoo.evaluation.choosing import DEFAULT_METRICS as DEFAULT_METRICS
    from ganzoo.evaluation.contract import ImageSet as ImageSet
    from ganzoo.evaluation.contract import Metric as Metric
    from ganzoo.evaluation.contract import Side as Side
    from ganzoo.evaluation.contract import Subject as Subject
    from ganzoo.evaluation.contract import Value as Value
    from ganzoo.evaluation.contract import metric_name as metric_name
    from ganzoo.evaluation.evaluating import evaluate as evaluate
    from ganzoo.evaluation.image_sets import ArrayImages as ArrayImages
    from ganzoo.evaluation.image_sets import PackImages as PackImages
    from ganzoo.evaluation.image_sets import SampledImages as SampledImages
    from ganzoo.evaluation.measuring import evaluate_images as evaluate_images
    from ganzoo.evaluation.results import Evaluation as Evaluation
    from ganzoo.evaluation.results import read_evaluation as read_evaluation
    from ganzoo.evaluation.tables import FeatureTable as FeatureTable

_HOMES = {
    "ArrayImages": "image_sets",
    "DEFAULT_METRICS": "choosing",
    "Evaluation": "results",
    "FeatureTable": "tables",
    "ImageSet": "contract",
    "Metric": "contract",
    "PackImages": "image_sets",
    "SampledImages": "image_sets",
    "Side": "contract",
    "Subject": "contract",
    "Value": "contract",
    "evaluate": "evaluating",
    "evaluate_images": "measuring",
    "metric_name": "contract",
    "read_evaluation": "results",
}

__all__ = [
    "DEFAULT_METRICS",
    "ArrayImages",
    "Evaluation",
    "FeatureTable",
    "ImageSet",
    "Metric",
    "PackImages",
    "SampledImages",
    "Side",
    "Subject",
    "Value",
    "evaluate",
    "evaluate_images",
    "metric_name",
    "read_evaluation",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ganzoo.evaluation' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ganzoo.evaluation.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
