"""ganzoo: a pluggable zoo of GANs.

    import ganzoo

    model = ganzoo.load_pretrained("dcgan-mnist")       # a zoo name, a folder, a file, or hf-hub:org/name
    model.sample(16, seed=0).save("digits.png")
    run = ganzoo.train("dcgan-digits")                  # a recipe by name, a file, or a Recipe
    ganzoo.evaluate("dcgan-mnist", data="mnist")        # numbers with their protocol
    ganzoo.list_models("dcgan-*")

Importing ganzoo imports neither torch nor NumPy; what is asked for is imported then (PEP 562).
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# In a source checkout, where the repository's root is on sys.path, this folder hides the installed package; cli/,
# export/ and zoo_configs/ lie beside it, not in it. Extending this package's own search path by the root makes
# `ganzoo.cli` importable there too.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "zoo_configs").is_dir():
    __path__.append(str(_root))

if TYPE_CHECKING:
    from ganzoo.building import load_recipe as load_recipe
    from ganzoo.errors import GanzooError as GanzooError
    from ganzoo.evaluation.evaluating import evaluate as evaluate
    from ganzoo.models import Model as Model
    from ganzoo.recipes import Recipe as Recipe
    from ganzoo.recipes import list_recipes as list_recipes
    from ganzoo.registry import register_augmentation as register_augmentation
    from ganzoo.registry import register_discriminator as register_discriminator
    from ganzoo.registry import register_feature_extractor as register_feature_extractor
    from ganzoo.registry import register_generator as register_generator
    from ganzoo.registry import register_metric as register_metric
    from ganzoo.registry import register_objective as register_objective
    from ganzoo.registry import register_penalty as register_penalty
    from ganzoo.registry import register_regularizer as register_regularizer
    from ganzoo.registry import register_source as register_source
    from ganzoo.training.api import train as train
    from ganzoo.zoo import create_model as create_model
    from ganzoo.zoo import list_models as list_models
    from ganzoo.zoo import list_pretrained as list_pretrained
    from ganzoo.zoo import load_pretrained as load_pretrained

_LAZY = {
    "GanzooError": "ganzoo.errors",
    "Model": "ganzoo.models",
    "Recipe": "ganzoo.recipes",
    "create_model": "ganzoo.zoo",
    "evaluate": "ganzoo.evaluation.evaluating",
    "list_models": "ganzoo.zoo",
    "list_pretrained": "ganzoo.zoo",
    "list_recipes": "ganzoo.recipes",
    "load_pretrained": "ganzoo.zoo",
    "load_recipe": "ganzoo.building",
    "register_augmentation": "ganzoo.registry",
    "register_discriminator": "ganzoo.registry",
    "register_feature_extractor": "ganzoo.registry",
    "register_generator": "ganzoo.registry",
    "register_metric": "ganzoo.registry",
    "register_objective": "ganzoo.registry",
    "register_penalty": "ganzoo.registry",
    "register_regularizer": "ganzoo.registry",
    "register_source": "ganzoo.registry",
    "train": "ganzoo.training.api",
}

__all__ = sorted(["__version__", *_LAZY])


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ganzoo' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
