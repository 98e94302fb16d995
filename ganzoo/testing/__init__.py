"""The test kit: holds a plug-in's classes to the contracts of networks, objectives, penalties, regularizers,
augmentations and feature extractors.

A package that registers such a class calls it from its own tests:

    from ganzoo.testing import check_generator

    def test_my_generator_keeps_the_contract():
        check_generator(MyGenerator, image_size=64, options={"growth": 8})

Each function builds the class as ganzoo would, measures every promise of its contract on small random inputs on the
CPU, returns nothing where all are kept, and raises `PluginError` at the first that is not: the message names the
promise, with the numbers. The tables `GENERATOR_PROMISES`, `DISCRIMINATOR_PROMISES`, `OBJECTIVE_PROMISES`,
`PENALTY_PROMISES`, `REGULARIZER_PROMISES`, `AUGMENTATION_PROMISES` and `FEATURE_EXTRACTOR_PROMISES` list the promises.
torch's random state is left as it was.
"""

from ganzoo.testing.augmentations import AUGMENTATION_PROMISES, check_augmentation
from ganzoo.testing.discriminators import DISCRIMINATOR_PROMISES, check_discriminator
from ganzoo.testing.features import FEATURE_EXTRACTOR_PROMISES, check_feature_extractor
from ganzoo.testing.generators import GENERATOR_PROMISES, check_generator
from ganzoo.testing.losses import OBJECTIVE_PROMISES, PENALTY_PROMISES, check_objective, check_penalty
from ganzoo.testing.regularizers import REGULARIZER_PROMISES, check_regularizer
from ganzoo.testing.views import SURROUNDINGS

__all__ = [
    "AUGMENTATION_PROMISES",
    "DISCRIMINATOR_PROMISES",
    "FEATURE_EXTRACTOR_PROMISES",
    "GENERATOR_PROMISES",
    "OBJECTIVE_PROMISES",
    "PENALTY_PROMISES",
    "REGULARIZER_PROMISES",
    "SURROUNDINGS",
    "check_augmentation",
    "check_discriminator",
    "check_feature_extractor",
    "check_generator",
    "check_objective",
    "check_penalty",
    "check_regularizer",
]
