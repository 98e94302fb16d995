"""The auxiliary classifier (AC-GAN; Odena et al., "Conditional Image Synthesis with Auxiliary Classifier GANs", ICML
2017, arXiv 1610.09585, equations 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ganzoo.objectives.contract import upcast
from ganzoo.objectives.regularizers.contract import DiscriminatorView, GeneratorView, Regularizer, Surroundings


class AuxiliaryClassifier(Regularizer):
    """A second head of the discriminator names the class, of real and of generated images.

    The head is one dense layer on all activations of the discriminator's last features, as in the paper, where it
    shares the last layer with the logit. Its cross-entropy is added to both losses: of real and generated images to the
    discriminator's, with which the head is trained, of generated ones to the generator's. The discriminator itself is
    not told the class (`conditioning = "none"`): where its features held it, there would be nothing to learn.
    """

    capturable: ClassVar[bool] = True
    needs_features: ClassVar[bool] = True
    names_classes: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.head: nn.Module = nn.Identity()
        self._feature = ""

    @property
    def name(self) -> str:
        """The regularizer's name in statistics."""
        return "auxiliary_classifier"

    def prepare(self, surroundings: Surroundings) -> None:
        """Make the head for these classes and features.

        Raises:
            ValueError: the data have no labels, or only one class.
        """
        if not surroundings.labelled:
            raise ValueError(
                "an auxiliary classifier needs labelled images, and "
                + ("the classes are drawn at random" if surroundings.num_classes else "data.num_classes is 0")
            )
        if surroundings.num_classes < 2:
            raise ValueError(f"an auxiliary classifier needs 2 classes or more, not {surroundings.num_classes}")
        self._feature, width = last_feature(surroundings)
        self.head = nn.Linear(width, surroundings.num_classes)

    def discriminator_loss(self, view: DiscriminatorView) -> Tensor | None:
        """Return the cross-entropy of real images' classes plus that of generated ones'; see `Regularizer`."""
        return self._cross_entropy(view.real_features, view.real_label) + self._cross_entropy(
            view.fake_features, view.fake_label
        )

    def generator_loss(self, view: GeneratorView) -> Tensor | None:
        """Return the cross-entropy of generated images' classes; see `Regularizer`."""
        return self._cross_entropy(view.fake_features, view.fake_label)

    def classify(self, features: Tensor) -> Tensor:
        """Return a logit for each class: (batch, num_classes), at least float32.

        Args:
            features: (batch, …), the discriminator's last.
        """
        logits: Tensor = self.head(upcast(features).flatten(1))
        return logits

    def _cross_entropy(self, features: Mapping[str, Tensor], label: Tensor | None) -> Tensor:
        assert label is not None
        return cross_entropy(self.classify(features[self._feature]), label)


def last_feature(surroundings: Surroundings) -> tuple[str, int]:
    """Return the name of the discriminator's last features, and how many numbers of an image they are."""
    name, shape = list(surroundings.features.items())[-1]
    return name, prod(shape)


__all__ = ["AuxiliaryClassifier", "last_feature"]
