"""What a regularizer is: the contract that ganzoo's own and third parties' classes keep.

A regularizer is a module. Its buffers (running averages, say) and its parameters (a head on the discriminator's
features, say) are part of a run's checkpoints; its parameters are trained along with the discriminator's, by the same
optimiser. It never calls `backward` and touches no optimiser. Constructors take keyword-only arguments with type
annotations and defaults: the recipe's schema of `[[regularizer]]` is derived from their signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ganzoo.randomness import Draws


@dataclass(frozen=True)
class Surroundings:
    """The networks that a regularizer will work beside.

    Args:
        features: name → (channels, H, W) or (width,) of the discriminator's features, from the image on.
        image_shape: (channels, H, W).
        latent_dim: length of z.
        prior: of z: "uniform" on (-1, 1) or "normal".
        num_classes: 0 for none.
        labelled: whether real images have labels; where not, classes are drawn for generated images only.
        pairs_logits: whether the objective judges real image i against fake image i.
    """

    features: Mapping[str, tuple[int, ...]]
    image_shape: tuple[int, int, int]
    latent_dim: int
    prior: str
    num_classes: int
    labelled: bool
    pairs_logits: bool


@dataclass(frozen=True)
class DiscriminatorView:
    """What a regularizer may look at in the discriminator's update.

    Args:
        real: (batch, C, H, W) in [-1, 1], before any augmentation.
        fake: (batch, C, H, W), likewise, without a graph to the generator.
        real_logits: (batch,), with their graph; of augmented images where the recipe augments.
        fake_logits: (batch,), likewise.
        real_features: name → activations of the pass that gave `real_logits`; empty unless `needs_features`.
        fake_features: likewise of `fake_logits`.
        real_label: (batch,) int64, or None where real images have none.
        fake_label: (batch,) int64: what the generator was asked for, or None.
        z: (batch, latent_dim), of which `fake` was made.
        judge: (images, labels or None) → (batch,) logits with their graph, of images that are not augmented further.
        generate: (z, labels or None) → images, without a graph.
        reals: random numbers keyed by the real images' numbers.
        latents: random numbers keyed by the numbers of z.
        kimg: thousands of real images drawn before this step.
        mean: a tensor → its mean over all processes of the training, of a tensor without a graph.
    """

    real: Tensor
    fake: Tensor
    real_logits: Tensor
    fake_logits: Tensor
    real_features: Mapping[str, Tensor]
    fake_features: Mapping[str, Tensor]
    real_label: Tensor | None
    fake_label: Tensor | None
    z: Tensor
    judge: Callable[[Tensor, Tensor | None], Tensor]
    generate: Callable[[Tensor, Tensor | None], Tensor]
    reals: Draws
    latents: Draws
    kimg: float
    mean: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GeneratorView:
    """What a regularizer may look at in the generator's update; the discriminator's parameters are frozen there.

    Args:
        fake: (batch, C, H, W), with its graph to the generator, before any augmentation.
        fake_logits: (batch,), with their graph; of augmented images where the recipe augments.
        fake_features: name → activations of the pass that gave `fake_logits`; empty unless `needs_features`.
        fake_label, z, latents, kimg, mean: as in `DiscriminatorView`.
        judge: (images, labels or None) → (batch,) logits, of images that are not augmented further.
        generate: (z, labels or None) → images, with their graph to the generator.
    """

    fake: Tensor
    fake_logits: Tensor
    fake_features: Mapping[str, Tensor]
    fake_label: Tensor | None
    z: Tensor
    judge: Callable[[Tensor, Tensor | None], Tensor]
    generate: Callable[[Tensor, Tensor | None], Tensor]
    latents: Draws
    kimg: float
    mean: Callable[[Tensor], Tensor]


class Regularizer(nn.Module):
    """A term of a loss, or an act beside it. Override what is needed; what is not overridden does nothing."""

    #: Whether its terms are multiplied by the recipe's `weight`, which is then needed; else `weight` is refused.
    weighted: ClassVar[bool] = True
    #: Whether the views must hold the discriminator's features.
    needs_features: ClassVar[bool] = False
    #: Whether the discriminator must judge each image alone (no batch norm).
    needs_per_sample: ClassVar[bool] = False
    #: Whether it bounds the discriminator's slope, as a critic that means a distance needs.
    bounds_slope: ClassVar[bool] = False
    #: Whether it reads real images' classes off the discriminator's features, which therefore must not be told them.
    names_classes: ClassVar[bool] = False
    #: Whether a step with it can be captured in a CUDA graph and replayed: its state is in its buffers and parameters,
    #: it reads no tensor back, and of `kimg` nothing gets into what it does but what `variant` tells. A class says so
    #: for itself: it is not inherited.
    capturable: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()  # a class without keys of its own must not show a recipe nn.Module's *args

    @property
    def name(self) -> str:
        """The regularizer's name in statistics, e.g. "lecam"."""
        return type(self).__name__.lower()

    def prepare(self, surroundings: Surroundings) -> None:
        """Make heads and buffers for these networks, from torch's current random state. Called once, before training.

        Raises:
            ValueError: it cannot work with them; the message says why.
        """

    def discriminator_loss(self, view: DiscriminatorView) -> Tensor | None:  # noqa: ARG002
        """Return a term of the discriminator's loss, 0-d of at least float32, unweighted; None for none."""
        return None

    def generator_loss(self, view: GeneratorView) -> Tensor | None:  # noqa: ARG002
        """Return a term of the generator's loss, 0-d of at least float32, unweighted; None for none."""
        return None

    def keep(self, fake_logits: Tensor, kimg: float) -> Tensor | None:  # noqa: ARG002
        """Return the indices, (kept,) int64, of the generated images that enter the generator's objective; None: all.

        Args:
            fake_logits: (batch,), without a graph.
            kimg: thousands of real images drawn before this step.
        """
        return None

    def variant(self, kimg: float, batch: int) -> Hashable:  # noqa: ARG002
        """Return what `kimg` decides of what the regularizer does: steps of one variant are of one kind; None: nothing.

        Args:
            kimg: thousands of real images drawn before a step.
            batch: generated images that `keep` is asked about at once.
        """
        return None

    def after_discriminator(self, discriminator: nn.Module) -> None:  # noqa: ARG002
        """Change the discriminator in place after its optimiser's step, under no_grad."""
        return


__all__ = ["DiscriminatorView", "GeneratorView", "Regularizer", "Surroundings"]
