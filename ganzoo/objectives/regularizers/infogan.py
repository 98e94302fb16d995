"""InfoGAN's bound on what an image tells of its code (Chen et al., NeurIPS 2016, arXiv 1606.03657, equation 5).

With c the code and Q what a head on the discriminator's features makes of an image x = G(z, c),

    I(c; x) ≥ H(c) + E log Q(c | x)

Both networks minimise -E log Q; the entropy H(c) is constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from ganzoo.objectives.contract import upcast
from ganzoo.objectives.regularizers.auxiliary_classifier import last_feature
from ganzoo.objectives.regularizers.contract import DiscriminatorView, GeneratorView, Regularizer, Surroundings

SLOPE = 0.1  # of the leaky ReLU in Q's head, from the paper's appendix C
LEAST_DEVIATION = 1e-2  # of a learned Gaussian: without it -log Q has no lower bound


class InfoGAN(Regularizer):
    """A head Q on the discriminator's last features guesses the generator's code; both networks are to make it right.

    The code is the class, where the recipe draws classes at random (`data.labels = "random"`), and the last
    `continuous` numbers of z. Q is softmax of the class and a factored Gaussian of the numbers. As in the authors' code
    the head and the discriminator's layers below it learn in the discriminator's update, of the same optimiser, and
    the generator in its own. The paper's head has batch norm; this one has none, so that the discriminator can judge
    each image by itself.

    Args:
        continuous: how many numbers of z are code.
        class_weight: of the class's cross-entropy.
        continuous_weight: of the numbers' negative log-likelihood, summed over the numbers.
        variance: "unit": the Gaussians have variance 1, as in the authors' code for MNIST; "learned": Q tells their
            standard deviations, of at least 0.01.
        hidden: width of a dense layer in Q's head; 0 for none.
    """

    capturable: ClassVar[bool] = True
    needs_features: ClassVar[bool] = True

    def __init__(
        self,
        *,
        continuous: Annotated[int, Field(ge=0)] = 0,
        class_weight: Annotated[float, Field(gt=0)] = 1.0,
        continuous_weight: Annotated[float, Field(gt=0)] = 0.1,
        variance: Literal["unit", "learned"] = "unit",
        hidden: Annotated[int, Field(ge=0, le=1 << 20)] = 128,
    ) -> None:
        super().__init__()
        if variance not in ("unit", "learned"):
            raise ValueError(f'variance is "unit" or "learned", not {variance!r}')
        if continuous < 0 or hidden < 0:
            raise ValueError(f"continuous (={continuous}) and hidden (={hidden}) cannot be negative")
        self.continuous, self.class_weight, self.continuous_weight = continuous, class_weight, continuous_weight
        self.variance, self.hidden = variance, hidden
        self.classes = 0
        self.head: nn.Module = nn.Identity()
        self._feature = ""

    def prepare(self, surroundings: Surroundings) -> None:
        """Make Q's head for this code and these features.

        Raises:
            ValueError: there is no code, or z is shorter than it.
        """
        drawn = 0 if surroundings.labelled else surroundings.num_classes
        self.classes = drawn if drawn > 1 else 0  # a single class tells nothing
        if not self.classes and not self.continuous:
            raise ValueError(
                'there is no code: set data.labels = "random" with data.num_classes of 2 or more, or continuous'
            )
        if self.continuous > surroundings.latent_dim:
            raise ValueError(
                f"continuous (={self.continuous}) cannot exceed generator.latent_dim (={surroundings.latent_dim})"
            )
        self._feature, width = last_feature(surroundings)
        outputs = self.classes + self.continuous * (2 if self.variance == "learned" else 1)
        if self.hidden:
            self.head = nn.Sequential(
                nn.Linear(width, self.hidden), nn.LeakyReLU(SLOPE), nn.Linear(self.hidden, outputs)
            )
        else:
            self.head = nn.Linear(width, outputs)

    def discriminator_loss(self, view: DiscriminatorView) -> Tensor | None:
        """Return -E log Q of the code, weighted; see `Regularizer`."""
        return self._loss(view.fake_features, view.fake_label, view.z)

    def generator_loss(self, view: GeneratorView) -> Tensor | None:
        """Return -E log Q of the code, weighted; see `Regularizer`."""
        return self._loss(view.fake_features, view.fake_label, view.z)

    def guess(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what Q makes of images, at least float32.

        Args:
            features: (batch, …), the discriminator's last.

        Returns:
            A logit for each class (batch, classes); mean and standard deviation of each number (batch, continuous).
        """
        out: Tensor = self.head(upcast(features).flatten(1))
        logits, mean, rest = out.tensor_split((self.classes, self.classes + self.continuous), dim=1)
        if self.variance == "unit":
            return logits, mean, mean.new_ones(mean.shape)
        return logits, mean, LEAST_DEVIATION + softplus(rest)

    def _loss(self, features: Mapping[str, Tensor], label: Tensor | None, z: Tensor) -> Tensor:
        logits, mean, deviation = self.guess(features[self._feature])
        total = mean.new_zeros(())
        if self.classes:
            assert label is not None
            total = total + self.class_weight * cross_entropy(logits, label)
        if self.continuous:
            code = upcast(z[:, -self.continuous :])
            likelihood = gaussian_log_likelihood(code, mean, deviation).sum(dim=1)  # (batch,)
            total = total - self.continuous_weight * likelihood.mean()
        return total


def gaussian_log_likelihood(value: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Return log N(value; mean, deviation²) of each number, of the arguments' shape."""
    return -0.5 * ((value - mean) / deviation).square() - deviation.log() - 0.5 * math.log(2.0 * math.pi)


__all__ = ["LEAST_DEVIATION", "SLOPE", "InfoGAN", "gaussian_log_likelihood"]
