"""Gradient penalties at first-order cost: the discriminator's update, exact, without automatic differentiation of a
gradient.

It applies where the discriminator judges each image alone and is linear but for slopes and masks
(`ganzoo.training.first_order_passes` has the mathematics): the DCGAN family without norm. Real images, fakes and what
else penalties look at go through every pass in one batch. A penalty's own derivative is left to automatic
differentiation, of nothing but its rule: so all rules work. So do all augmentations: with x = T(image), the gradient by
the image is Jᵀ g for the Jacobian J of T there, which no weight of the discriminator has a part in; one derivative by g
of the penalty of Jᵀ g gives the direction J t_0 that the tangent starts from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganzoo.architectures.dcgan import DCGANDiscriminator
from ganzoo.architectures.layers import dropout_draws
from ganzoo.devices import Precision
from ganzoo.objectives.contract import Objective, Penalty, upcast
from ganzoo.objectives.penalties import GradientPenalty, images_at
from ganzoo.objectives.regularizers.contract import Regularizer
from ganzoo.randomness import Draws, Stream
from ganzoo.recipes import Recipe
from ganzoo.training.feeder import Batch
from ganzoo.training.first_order_passes import Passes, Trace
from ganzoo.training.forward import Forward
from ganzoo.training.rounds import FAKES_BEHIND_REALS

_AUGMENTATIONS = {"real": Stream.AUGMENTATION_REAL, "fake": Stream.AUGMENTATION_FAKE}
_DROPOUTS = {"real": Stream.DROPOUT_REAL, "fake": Stream.DROPOUT_FAKE}


@dataclass(frozen=True)
class Update:
    """What was found on the way to the discriminator's gradients.

    Args:
        real_logits: (batch,), in the step's dtype.
        fake_logits: likewise.
        loss: the objective's, 0-d.
        penalties: the mean of each, 0-d and unweighted; None where it was not asked for.
    """

    real_logits: Tensor
    fake_logits: Tensor
    loss: Tensor
    penalties: list[Tensor | None]


@dataclass(frozen=True)
class _Shown:
    """Images that the discriminator is shown in one batch with others.

    Args:
        where: "real", "fake" or another of the places of gradient penalties.
        image: (batch, C, H, W), before augmentation.
        seen: as the discriminator sees them, with a graph to `image` where they are augmented and penalised.
        draws: of their dropout masks.
        dropout: the first layer's stream.
    """

    where: str
    image: Tensor
    seen: Tensor
    draws: Draws
    dropout: Stream


def choose_first_order(
    recipe: Recipe,
    discriminator: nn.Module,
    forward: Forward,
    objective: Objective,
    penalties: Sequence[Penalty],
    regularizers: Sequence[Regularizer],
    precision: Precision,
) -> FirstOrder | str:
    """Return the discriminator's update at first-order cost, or the reason why it does not apply.

    Args:
        recipe: what is trained.
        discriminator: of the step; likewise all that follow.
        forward: augments.
        objective: of the logits.
        penalties: in the recipe's order.
        regularizers: of which none may act in the discriminator's loss.
        precision: "bf16": the passes are in bfloat16, as under autocast.
    """
    if recipe.train.update == "simultaneous":
        return 'with train.update = "simultaneous" the generator\'s update goes back through the same pass'
    if type(discriminator) is not DCGANDiscriminator:
        return f"the discriminator is a {type(discriminator).__name__}, not of the DCGAN family"
    if not discriminator.per_sample:
        return "the discriminator has batch norm: it does not judge each image alone"
    if any(parametrize.is_parametrized(module) for module in discriminator.modules()):
        return "the discriminator has spectral norm, which divides the weights by a number that they decide"
    for penalty in penalties:
        if type(penalty) is not GradientPenalty:
            return f"the penalty {penalty.name} is a {type(penalty).__name__}, whose rule is its own"
    for regularizer in regularizers:
        if type(regularizer).discriminator_loss is not Regularizer.discriminator_loss:
            return f"the regularizer {regularizer.name} acts in the discriminator's loss"
    known = [penalty for penalty in penalties if isinstance(penalty, GradientPenalty)]
    return FirstOrder(recipe, discriminator, forward, objective, known, precision)


class FirstOrder:
    """The gradients of a discriminator's loss and penalties; arguments as of `choose_first_order`."""

    def __init__(
        self,
        recipe: Recipe,
        discriminator: DCGANDiscriminator,
        forward: Forward,
        objective: Objective,
        penalties: Sequence[GradientPenalty],
        precision: Precision,
    ) -> None:
        self._discriminator, self._forward, self._objective = discriminator, forward, objective
        self._penalties, self._labelled = list(penalties), recipe.data.labelled
        self._joined = recipe.train.real_fake_batches == "joined"
        self._augments = recipe.augmentation is not None
        self._parts = recipe.train.accumulate
        self._dtype = torch.bfloat16 if precision == "bf16" else forward.dtype
        self._passes = Passes(discriminator, self._dtype)

    @torch.no_grad()
    def __call__(self, batch: Batch, fake: Tensor, weights: Sequence[Tensor | None]) -> Update:
        """Add the gradients of loss and penalties, over the parts that a batch is split into, to the parameters'.

        Args:
            batch: its part for the discriminator.
            fake: (batch, C, H, W), without a graph.
            weights: of each penalty, 0-d; None where it is not taken.
        """
        shown, penalised = self._show(batch, fake, weights)
        sizes = [len(one.seen) for one in shown]
        first = sum(sizes) - sum(sizes[len(shown) - penalised :])
        trace = self._judge(shown, batch.label)
        logits = dict(
            zip([one.where for one in shown], torch.split(trace.logits.to(self._forward.dtype), sizes), strict=True)
        )
        loss, pulls = self._loss(logits["real"], logits["fake"])
        pull = torch.cat([pulls.get(one.where, torch.zeros_like(logits[one.where])) for one in shown]).to(self._dtype)
        ones = torch.ones_like(pull)
        slopes = self._passes.slopes(trace, torch.cat((pull[:first], ones[first:])))
        values: list[Tensor | None] = [None] * len(weights)
        tangent = trace.inputs[0][:0]
        if penalised:
            slope = self._passes.of_image(trace, slopes, first).to(self._forward.dtype)
            tangent = self._penalise(shown[len(shown) - penalised :], slope, weights, values).to(tangent)
        self._passes.add_gradients(trace, slopes, tangent, torch.cat((ones[:first], pull[first:])))
        return Update(logits["real"], logits["fake"], loss, values)

    def _show(self, batch: Batch, fake: Tensor, weights: Sequence[Tensor | None]) -> tuple[list[_Shown], int]:
        """Return all images that are to be shown, those with a penalty last, and how many parts have one."""
        assert batch.real is not None
        taken = {one.where for one, weight in zip(self._penalties, weights, strict=True) if weight is not None}
        wanted = sorted({"real": None, "fake": None} | dict.fromkeys(sorted(taken)), key=lambda where: where in taken)
        return [self._part(where, batch, batch.real, fake, where in taken) for where in wanted], len(taken)

    def _part(self, where: str, batch: Batch, real: Tensor, fake: Tensor, penalised: bool) -> _Shown:
        image = images_at(where, real, fake, batch.reals)
        draws = batch.latents if where == "fake" else batch.reals
        masked, dropout = draws, _DROPOUTS.get(where, Stream.DROPOUT_PENALTY)
        if where == "fake" and self._joined:
            masked = replace(draws, numbers=draws.numbers + FAKES_BEHIND_REALS)
            dropout = Stream.DROPOUT_REAL
        with torch.set_grad_enabled(penalised and self._augments):
            image = image.detach().requires_grad_()
            seen = self._forward.augment(image, draws, _AUGMENTATIONS.get(where, Stream.AUGMENTATION_PENALTY))
        return _Shown(where, image, seen, masked, dropout)

    def _judge(self, shown: Sequence[_Shown], label: Tensor | None) -> Trace:
        images = torch.cat([one.seen.detach().to(self._dtype) for one in shown])
        labels = None if label is None or not self._labelled else label.repeat(len(shown))

        dropouts = [cast(nn.Module, layer.dropout) for layer in self._discriminator.layers]

        def masks(number: int, out: Tensor) -> Tensor:
            found = []
            for one, part in zip(shown, torch.split(out, [len(one.seen) for one in shown]), strict=True):
                with dropout_draws(self._discriminator, one.draws, one.dropout):
                    found.append(dropouts[number](torch.ones_like(part)))
            return torch.cat(found)

        return self._passes.judge(images.contiguous(memory_format=torch.channels_last), labels, masks)

    def _loss(self, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the objective's loss, and its gradient by each logit, divided by the parts of the batch."""
        with torch.enable_grad():
            leaves = real.detach().requires_grad_(), fake.detach().requires_grad_()
            loss = self._objective.discriminator_loss(*leaves)
            pulls = torch.autograd.grad(loss / self._parts, leaves, allow_unused=True, materialize_grads=True)
        return loss.detach(), dict(zip(("real", "fake"), pulls, strict=True))

    def _penalise(
        self, shown: Sequence[_Shown], slope: Tensor, weights: Sequence[Tensor | None], values: list[Tensor | None]
    ) -> Tensor:
        """Return the penalties' gradient by the slopes, divided by the parts of the batch, and write down their means.

        Args:
            shown: the images with penalties.
            slope: the gradient of their logits by what the discriminator saw: (as many as they are, C, H, W).
            weights: of each penalty.
            values: where the means go.
        """
        with torch.enable_grad():
            slope = slope.detach().requires_grad_()
            total = slope.new_zeros(())
            for one, part in zip(shown, torch.split(slope, [len(one.seen) for one in shown]), strict=True):
                if self._augments:
                    (part,) = torch.autograd.grad(one.seen, one.image, part, create_graph=True)
                gradient = upcast(part).flatten(1)
                for index, (penalty, weight) in enumerate(zip(self._penalties, weights, strict=True)):
                    if weight is not None and penalty.where == one.where:
                        value = penalty.of_gradient(gradient).mean()
                        values[index] = value.detach()
                        total = total + weight * value
            (tangent,) = torch.autograd.grad(total / self._parts, slope)
        return tangent


__all__ = ["FirstOrder", "Update", "choose_first_order"]
