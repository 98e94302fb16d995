"""The test kit's promises of objectives and penalties."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganzoo.objectives.contract import Objective, Penalty, PenaltyInputs
from ganzoo.randomness import Draws
from ganzoo.recipes import ObjectiveSection, PenaltySection
from ganzoo.testing.holding import TOLERANCE, BrokenPromise, check_constructor, differ, hold, name_of, seeded

_LOGITS = 6
_EXTREME = 1e4  # a logit that every loss must survive
_SURE = 4.0  # a logit of a discriminator that is sure


def check_objective(factory: Callable[..., Objective], *, options: Mapping[str, Any] | None = None) -> None:
    """Hold an objective to its contract, `ganzoo.objectives.contract.Objective`, and all of `OBJECTIVE_PROMISES`.

    Args:
        factory: the class.
        options: the constructor's arguments, as a recipe's `[objective]` gives them.

    Raises:
        PluginError: a promise is not kept; the message names it, with the numbers.
    """
    case = LossCase("objective", factory, dict(options or {}))
    hold(case.title, case, OBJECTIVE_PROMISES)


def check_penalty(factory: Callable[..., Penalty], *, options: Mapping[str, Any] | None = None) -> None:
    """Hold a penalty to its contract, `ganzoo.objectives.contract.Penalty`, and all of `PENALTY_PROMISES`.

    Args:
        factory: the class.
        options: the constructor's arguments, as a recipe's `[[penalty]]` gives them.

    Raises:
        PluginError: a promise is not kept; the message names it, with the numbers.
    """
    case = LossCase("penalty", factory, dict(options or {}))
    hold(case.title, case, PENALTY_PROMISES)


@dataclass(frozen=True)
class LossCase:
    """An objective or a penalty with its options.

    Args:
        kind: "objective" or "penalty".
        factory: the class.
        options: the constructor's arguments.
    """

    kind: str
    factory: Callable[..., Any]
    options: Mapping[str, Any]

    @property
    def title(self) -> str:
        """The first words of every message."""
        return f"The {self.kind} {name_of(self.factory)}"

    def build(self) -> Any:
        """Return the objective or penalty."""
        return self.factory(**self.options)


@dataclass(frozen=True)
class _Loss:
    """One of an objective's two losses as a function of (real, fake); the generator's may leave real out."""

    name: str
    of: Callable[[Tensor, Tensor], Tensor]
    uses_real: bool


def _losses(case: LossCase) -> tuple[_Loss, _Loss]:
    objective = case.build()
    uses_real = bool(objective.generator_uses_real)

    def generator_loss(real: Tensor, fake: Tensor) -> Tensor:
        loss: Tensor = objective.generator_loss(fake, real) if uses_real else objective.generator_loss(fake)
        return loss

    return (
        _Loss("discriminator_loss", objective.discriminator_loss, True),
        _Loss("generator_loss", generator_loss, uses_real),
    )


def _logits(scale: float = 1.0) -> tuple[Tensor, Tensor]:
    return scale * torch.randn(_LOGITS), scale * torch.randn(_LOGITS)


def _check_flags(loss: Any, flags: tuple[str, ...], base: str) -> None:
    for flag in flags:
        if not isinstance(getattr(loss, flag, None), bool):
            raise BrokenPromise(
                f"{flag} is {getattr(loss, flag, None)!r}, not True or False",
                f"Inherit from ganzoo.objectives.contract.{base}.",
            )


# ---------------------------------------------------------------------------------------------------- objectives


def _objective_constructor(case: LossCase) -> None:
    check_constructor(case.factory, case.options, set(ObjectiveSection.model_fields), case.kind)
    _check_flags(case.build(), ("generator_uses_real", "paired", "needs_bounded_slope"), "Objective")


def _loss_output(case: LossCase) -> None:
    for loss in _losses(case):
        for scale, dtype in ((1.0, torch.float32), (_EXTREME, torch.float32), (1.0, torch.bfloat16)):
            real, fake = (one.to(dtype) for one in _logits(scale))
            value = loss.of(real, fake)
            if value.ndim:
                raise BrokenPromise(f"{loss.name} has the shape {tuple(value.shape)}", "Return the mean, a 0-d tensor.")
            if value.dtype != torch.float32:
                raise BrokenPromise(
                    f"{loss.name} is {value.dtype} for {dtype}", "Begin with ganzoo.objectives.contract.check_logits."
                )
            if not value.isfinite():
                raise BrokenPromise(
                    f"{loss.name} is {float(value)} for logits of size {scale:g}", "Use softplus, not log and exp."
                )


def _loss_gradients(case: LossCase) -> None:
    for loss in _losses(case):
        for scale in (1.0, _EXTREME):
            real, fake = (one.requires_grad_() for one in _logits(scale))
            loss.of(real, fake).backward()  # type: ignore[no-untyped-call]
            for name, leaf in {"real": real, "fake": fake}.items():
                if name == "real" and not loss.uses_real:
                    continue
                where = f"the gradient of {loss.name} with respect to the {name} logits of size {scale:g}"
                if leaf.grad is None or (scale == 1.0 and not bool((leaf.grad != 0).any())):
                    raise BrokenPromise(f"{where} is zero", "Detach nothing.")
                if not leaf.grad.isfinite().all():
                    raise BrokenPromise(f"{where} is not finite", "Use softplus, not log and exp.")


def _loss_purity(case: LossCase) -> None:
    for loss in _losses(case):
        real, fake = (one.requires_grad_() for one in _logits())
        copies, random_state = (real.detach().clone(), fake.detach().clone()), torch.random.get_rng_state()
        values = [float(loss.of(real, fake).detach()) for _ in range(3)]
        if not torch.equal(random_state, torch.random.get_rng_state()):
            raise BrokenPromise(f"{loss.name} draws random numbers", "An objective is a function of the logits alone.")
        if not (torch.equal(copies[0], real) and torch.equal(copies[1], fake)):
            raise BrokenPromise(f"{loss.name} changes the logits", "Use no in-place operation on what is given.")
        if len(set(values)) > 1:
            shown = ", then ".join(f"{value:.6g}" for value in values)
            raise BrokenPromise(f"{loss.name} of the same logits is {shown}", "Keep no state.")
        if real.grad is not None or fake.grad is not None:
            raise BrokenPromise(f"{loss.name} calls backward", "Return the loss; the trainer does the rest.")


def _loss_mean(case: LossCase) -> None:
    for loss in _losses(case):
        real, fake = _logits()
        once, twice = float(loss.of(real, fake)), float(loss.of(real.repeat(2), fake.repeat(2)))
        if abs(once - twice) > TOLERANCE * max(abs(once), abs(twice)):
            raise BrokenPromise(
                f"{loss.name} of a batch is {once:.6g}, and {twice:.6g} of the same batch twice",
                "Take means, not sums.",
            )


def _loss_shapes(case: LossCase) -> None:
    for loss in _losses(case):
        real, fake = _logits()
        for one, other in ((real, fake[:, None]), *([(real[:, None], fake)] if loss.uses_real else [])):
            try:
                loss.of(one, other)
            except ValueError:
                continue
            raise BrokenPromise(
                f"{loss.name} takes real logits {tuple(one.shape)} with fake ones {tuple(other.shape)}, broadcast",
                "Begin with ganzoo.objectives.contract.check_logits.",
            )


def _generator_uses_real(case: LossCase) -> None:
    objective = case.build()
    real, fake = _logits()
    if objective.generator_uses_real:
        one, other = float(objective.generator_loss(fake, real)), float(objective.generator_loss(fake, real + 1.0))
        if one == other:
            raise BrokenPromise(
                f"generator_uses_real is True, but generator_loss is {one:.6g} whatever the real logits",
                "Set it to False.",
            )
        return
    without, given = float(objective.generator_loss(fake)), float(objective.generator_loss(fake, real))
    if without != given:
        raise BrokenPromise(
            f"generator_uses_real is False, but generator_loss is "
            f"{without:.6g} without real logits and {given:.6g} with them",
            "Set it to True.",
        )


def _paired(case: LossCase) -> None:
    objective = case.build()
    real, fake = _logits()
    one, other = (
        float(objective.discriminator_loss(real, fake)),
        float(objective.discriminator_loss(real.roll(1), fake)),
    )
    depends = abs(one - other) > TOLERANCE * max(abs(one), abs(other))
    if depends != objective.paired:
        raise BrokenPromise(
            f"paired is {objective.paired}, but discriminator_loss is {one:.6g}, "
            f"and {other:.6g} with the real logits in another order",
            f"Set it to {depends}.",
        )
    try:
        objective.discriminator_loss(real, fake[:-2])
    except ValueError:
        if not objective.paired:
            raise
    else:
        if objective.paired:
            raise BrokenPromise(
                f"paired is True, but {_LOGITS} real logits are taken with {_LOGITS - 2} fake ones",
                "Begin with ganzoo.objectives.contract.check_logits.",
            )


def _direction(case: LossCase) -> None:
    discriminator_loss, generator_loss = _losses(case)
    high, low = torch.full((_LOGITS,), _SURE, requires_grad=True), torch.full((_LOGITS,), -_SURE, requires_grad=True)
    of_real, of_fake = torch.autograd.grad(discriminator_loss.of(low, high), (low, high))
    if float(of_real.sum()) >= 0 or float(of_fake.sum()) <= 0:
        raise BrokenPromise(
            f"with real logits at {-_SURE:g} and fake ones at {_SURE:g} discriminator_loss has the slopes "
            f"{float(of_real.sum()):.3g} and {float(of_fake.sum()):.3g}, not a negative and a positive one",
            "The discriminator's loss falls as real logits rise and fake ones fall.",
        )
    (slope,) = torch.autograd.grad(generator_loss.of(high, low), low)
    if float(slope.sum()) >= 0:
        raise BrokenPromise(
            f"with fake logits at {-_SURE:g} generator_loss has the slope {float(slope.sum()):.3g}, not a negative one",
            "The generator's loss falls as fake logits rise.",
        )


OBJECTIVE_PROMISES: dict[str, Callable[[LossCase], None]] = {
    "constructor": _objective_constructor,
    "output": _loss_output,
    "gradients": _loss_gradients,
    "purity": _loss_purity,
    "mean": _loss_mean,
    "shapes": _loss_shapes,
    "generator_uses_real": _generator_uses_real,
    "paired": _paired,
    "direction": _direction,
}
"""What an objective promises, in the order in which it is checked.

"constructor": its arguments can be a recipe's keys, its flags are set. "output": both losses are 0-d, float32 (for
bfloat16 logits too) and finite, for logits of 10,000 too. "gradients" are finite and reach the logits. "purity": a loss
is a function of the logits and nothing else. "mean": the same batch twice has the same loss. "shapes": logits that are
not (batch,) are refused with a ValueError. "generator_uses_real" and "paired" are what is measured. "direction": D's
loss pushes real logits up and fake ones down, G's pushes fake ones up.
"""


# ---------------------------------------------------------------------------------------------------- penalties


class _Judge(nn.Module):
    """A small smooth discriminator that judges each 8×8 image by itself, steep enough for every rule to mind."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(512, 1))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layers(image)
        return 20.0 * logits[:, 0]


def _inputs(judge: _Judge, first: int = 0, last: int = 8) -> PenaltyInputs:
    """Return what a penalty is given for samples `first` to `last` of eight."""
    with seeded(11):
        images = 2.0 * torch.rand(2, 8, 3, 8, 8)[:, first:last] - 1.0
    real, fake = images[0].requires_grad_(), images[1].requires_grad_()
    draws = Draws(12, np.arange(100 + first, 100 + last, dtype=np.int64), torch.device("cpu"), torch.float32)
    return PenaltyInputs(judge, real, fake, judge(real), judge(fake), draws)


def _penalty_constructor(case: LossCase) -> None:
    check_constructor(case.factory, case.options, set(PenaltySection.model_fields), case.kind)
    penalty = case.build()
    _check_flags(penalty, ("needs_per_sample",), "Penalty")
    if not isinstance(penalty.name, str) or not penalty.name:
        raise BrokenPromise(f"its name is {penalty.name!r}", "Give it a short name: statistics are called by it.")


def _penalty_output(case: LossCase) -> None:
    value = case.build()(_inputs(_Judge()))
    if tuple(value.shape) != (8,):
        raise BrokenPromise(
            f"for 8 samples it has the shape {tuple(value.shape)}",
            "Return each sample's penalty; the trainer takes the mean.",
        )
    if value.dtype != torch.float32:
        raise BrokenPromise(f"it is {value.dtype} for float32 images", "Keep the images' type.")
    if not value.isfinite().all():
        raise BrokenPromise(
            f"{int((~value.isfinite()).sum())} of 8 penalties are not finite", "Look for divisions by zero."
        )


def _penalty_gradients(case: LossCase) -> None:
    judge = _Judge()
    case.build()(_inputs(judge)).mean().backward()
    gradients = [parameter.grad for parameter in judge.parameters() if parameter.grad is not None]
    if not any(bool((gradient != 0).any()) for gradient in gradients):
        raise BrokenPromise("no gradient reaches the discriminator", "Take gradients with create_graph=True.")
    flat = _Judge()
    with torch.no_grad():
        for parameter in flat.parameters():
            parameter.zero_()  # so that the gradient with respect to the image is zero
    case.build()(_inputs(flat)).mean().backward()
    gradients += [parameter.grad for parameter in flat.parameters() if parameter.grad is not None]
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise BrokenPromise(
            "its gradient is not finite where the discriminator is flat",
            "Mind the derivative of a norm at zero: torch.linalg.vector_norm has it.",
        )


def _penalty_purity(case: LossCase) -> None:
    penalty, judge = case.build(), _Judge()
    inputs = _inputs(judge)
    copies, random_state = (inputs.real.detach().clone(), inputs.fake.detach().clone()), torch.random.get_rng_state()
    first, second = penalty(inputs), penalty(_inputs(judge))
    if not torch.equal(random_state, torch.random.get_rng_state()):
        raise BrokenPromise("it draws from torch's own generator", "Draw from inputs.draws.")
    if not torch.equal(first, second):
        raise BrokenPromise(
            f"of the same inputs it is {float(first[0].detach()):.6g}, then {float(second[0].detach()):.6g}",
            "Keep no state.",
        )
    if not (torch.equal(copies[0], inputs.real) and torch.equal(copies[1], inputs.fake)):
        raise BrokenPromise("it changes the images", "Use no in-place operation on what is given.")
    if any(parameter.grad is not None for parameter in judge.parameters()) or inputs.real.grad is not None:
        raise BrokenPromise("it calls backward", "Use torch.autograd.grad.")


def _penalty_batch_mates(case: LossCase) -> None:
    penalty, judge = case.build(), _Judge()
    if not penalty.needs_per_sample:
        return  # it may look at the whole batch
    whole = penalty(_inputs(judge)).detach()
    parts = torch.cat((penalty(_inputs(judge, 0, 3)), penalty(_inputs(judge, 3, 8)))).detach()
    if (share := differ(whole, parts)) > TOLERANCE:
        raise BrokenPromise(
            f"a sample's penalty changes with the batch that it is in, by {share:.2g} of the largest",
            "Take norms of each sample by itself, and random numbers from inputs.draws.",
        )


PENALTY_PROMISES: dict[str, Callable[[LossCase], None]] = {
    "constructor": _penalty_constructor,
    "output": _penalty_output,
    "gradients": _penalty_gradients,
    "purity": _penalty_purity,
    "batch-mates": _penalty_batch_mates,
}
"""What a penalty promises, in the order in which it is checked.

"constructor": its arguments can be a recipe's keys; its name and flag are set. "output": (batch,), float32, finite.
"gradients" reach the discriminator and are finite where it is flat, too. "purity": it is a function of its inputs, and
draws from their `draws` only. "batch-mates": where `needs_per_sample`, a sample's penalty is the same in every batch.
"""
