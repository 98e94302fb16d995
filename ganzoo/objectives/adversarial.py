"""The adversarial objectives, each a pair of pure functions on logits.

With r the logits of real images, f those of fake ones, sp = softplus and E the mean over the batch:

                         discriminator minimises                generator minimises
    NonSaturating        E sp(-r) + E sp(f)                     E sp(-f)
    Minimax              E sp(-r) + E sp(f)                     -E sp(f)
    LeastSquares         E (r - b)² / 2 + E (f - a)² / 2        E (f - c)² / 2
    Wasserstein          E f - E r                              -E f
    Hinge                E max(0, 1 - r) + E max(0, 1 + f)      -E f
    EnergyMargin         E sp(-r) + E max(0, m - sp(-f))        E sp(-f)
    RelativisticPaired   E sp(f - r)                            E sp(r - f)
    RelativisticAverage  E sp(E f - r) + E sp(f - E r)          E sp(E r - f) + E sp(r - E f)

sp(-x) = -log sigmoid(x), so the first two are binary cross-entropies that neither overflow nor lose digits.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import relu, softplus

from ganzoo.objectives.contract import Objective, check_logits


class NonSaturating(Objective):
    """Binary cross-entropy; the generator maximises log sigmoid(D(fake)) (Goodfellow et al. 2014, end of section 3).

    Args:
        label_smoothing: s in [0, 1): the target of real images is 1 - s; that of fake ones stays 0 (one-sided:
            Salimans et al. 2016, section 3.4).
    """

    capturable: ClassVar[bool] = True

    def __init__(self, *, label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0) -> None:
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing is in [0, 1), not {label_smoothing}")
        self.label_smoothing = label_smoothing

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return E[(1 - s) sp(-r) + s sp(r)] + E sp(f); see `Objective`."""
        real, fake = check_logits(self.paired, real=real, fake=fake)
        return (softplus(-real) + self.label_smoothing * real).mean() + softplus(fake).mean()  # sp(r) = sp(-r) + r

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return E sp(-f); see `Objective`."""
        (fake,) = check_logits(self.paired, fake=fake)
        return softplus(-fake).mean()


class Minimax(NonSaturating):
    """Binary cross-entropy as the game is written: G minimises E log(1 - sigmoid(D(fake))) (Goodfellow 2014, eq. 1).

    Its gradient vanishes where the discriminator is sure (saturation), which is why it is hardly used.

    Args:
        label_smoothing: as for `NonSaturating`.
    """

    capturable: ClassVar[bool] = True

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return -E sp(f); see `Objective`."""
        (fake,) = check_logits(self.paired, fake=fake)
        return -softplus(fake).mean()


class LeastSquares(Objective):
    """Least squares on the raw logits, without a sigmoid (LSGAN; Mao et al. 2017, eq. 2).

    Args:
        a: D's target for fake images.
        b: D's target for real images.
        c: the value that G wants D to see in fake images. (0, 1, 1) is the paper's eq. 9; (-1, 1, 0) its eq. 8, which
            minimises a Pearson χ² divergence.
    """

    capturable: ClassVar[bool] = True

    def __init__(self, *, a: float = 0.0, b: float = 1.0, c: float = 1.0) -> None:
        if a == b:
            raise ValueError(f"a and b are both {a}: D would be asked to see the same in real and fake images")
        self.a, self.b, self.c = a, b, c
        self.boundary = (a + b) / 2

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return E (r - b)² / 2 + E (f - a)² / 2; see `Objective`."""
        real, fake = check_logits(self.paired, real=real, fake=fake)
        return 0.5 * (real - self.b).square().mean() + 0.5 * (fake - self.a).square().mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return E (f - c)² / 2; see `Objective`."""
        (fake,) = check_logits(self.paired, fake=fake)
        return 0.5 * (fake - self.c).square().mean()


class Wasserstein(Objective):
    """The critic's difference of means (WGAN; Arjovsky et al. 2017).

    It means something only while the critic's slope is bounded: by a gradient penalty (Gulrajani et al. 2017) or by
    spectral norm.
    """

    capturable: ClassVar[bool] = True
    needs_bounded_slope: ClassVar[bool] = True
    boundary = None

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return E f - E r; see `Objective`."""
        real, fake = check_logits(self.paired, real=real, fake=fake)
        return fake.mean() - real.mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return -E f; see `Objective`."""
        (fake,) = check_logits(self.paired, fake=fake)
        return -fake.mean()


class Hinge(Objective):
    """The hinge loss (Lim and Ye 2017; Miyato et al. 2018, eqs. 16 and 17)."""

    capturable: ClassVar[bool] = True

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return E max(0, 1 - r) + E max(0, 1 + f); see `Objective`."""
        real, fake = check_logits(self.paired, real=real, fake=fake)
        return relu(1.0 - real).mean() + relu(1.0 + fake).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return -E f; see `Objective`."""
        (fake,) = check_logits(self.paired, fake=fake)
        return -fake.mean()


class EnergyMargin(Objective):
    """The margin loss of energy-based GANs (EBGAN; Zhao et al. 2017, arXiv 1609.03126, equations 1 and 2).

    The energy of an image is softplus(-logit), the cross-entropy of calling it real: never negative, which is all that
    the paper's theory asks of an energy. So any discriminator will do; the authors' is an autoencoder, and its energy
    the error of reconstruction. Once a generated image's energy is above the margin, the discriminator has nothing more
    to gain from it. Of images that it takes for real without doubt it learns slowly: there the energy is flat.

    Args:
        margin: m > 0, the energy that generated images shall have at least; 0.69 is that of the logit 0.
    """

    capturable: ClassVar[bool] = True

    def __init__(self, *, margin: Annotated[float, Field(gt=0, le=100)] = 1.0) -> None:
        if not 0.0 < margin <= 100.0:
            raise ValueError(f"margin is in (0, 100], not {margin}")
        self.margin = margin
        self.boundary = -math.log(math.expm1(margin / 2))  # of the energy m / 2, midway between D's aims

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return E sp(-r) + E max(0, m - sp(-f)); see `Objective`."""
        real, fake = check_logits(self.paired, real=real, fake=fake)
        return softplus(-real).mean() + relu(self.margin - softplus(-fake)).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return E sp(-f); see `Objective`."""
        (fake,) = check_logits(self.paired, fake=fake)
        return softplus(-fake).mean()


class RelativisticPaired(Objective):
    """Each fake image against its real mate (RpGAN; Jolicoeur-Martineau 2019, and Huang et al. 2024)."""

    capturable: ClassVar[bool] = True
    generator_uses_real: ClassVar[bool] = True
    paired: ClassVar[bool] = True
    boundary = None

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return E sp(f - r); see `Objective`."""
        real, fake = check_logits(self.paired, real=real, fake=fake)
        return softplus(fake - real).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return E sp(r - f); see `Objective`."""
        real, fake = check_logits(self.paired, real=_needed(real), fake=fake)
        return softplus(real - fake).mean()


class RelativisticAverage(Objective):
    """Each image against the mean of the other kind (RaGAN; Jolicoeur-Martineau 2019, arXiv 1807.00734, section 4.2).

    The means are those of the batch that is given: where batches are split (`accumulate`) or shared by several
    processes, those of each part. Other batch sizes therefore make another objective.
    """

    capturable: ClassVar[bool] = True
    generator_uses_real: ClassVar[bool] = True
    boundary = None

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return E sp(E f - r) + E sp(f - E r); see `Objective`."""
        real, fake = check_logits(self.paired, real=real, fake=fake)
        return softplus(fake.mean() - real).mean() + softplus(fake - real.mean()).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return E sp(E r - f) + E sp(r - E f); see `Objective`."""
        real, fake = check_logits(self.paired, real=_needed(real), fake=fake)
        return softplus(real.mean() - fake).mean() + softplus(real - fake.mean()).mean()


def _needed(real: Tensor | None) -> Tensor:
    if real is None:
        raise ValueError("a relativistic objective needs the logits of real images for the generator's loss too")
    return real


__all__ = [
    "EnergyMargin",
    "Hinge",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "RelativisticAverage",
    "RelativisticPaired",
    "Wasserstein",
]
