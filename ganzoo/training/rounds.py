"""The order of updates: which real images and which z each part of a round uses.

A round ("step") is made of parts; a part updates the discriminator, the generator or both. Real images and z have
global numbers, counted from the run's start; part p of step s uses a fixed slice of them. So what a step uses is a pure
function of its number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ganzoo.recipes import TrainSection

Role = Literal["discriminator", "generator", "both"]

FAKES_BEHIND_REALS = 1 << 62
"""Added to the fakes' numbers in a joined batch: keeps their dropout masks apart from those of real images of the same
number."""


@dataclass(frozen=True)
class Part:
    """One update within a round.

    Args:
        role: what it updates.
        reals: (offset within the round, count) of its real images; count 0 for none.
        latents: likewise of its z.
        uses_pixels: whether its real images are looked at; where not, they are only drawn (and give their labels).
    """

    role: Role
    reals: tuple[int, int]
    latents: tuple[int, int]
    uses_pixels: bool


@dataclass(frozen=True)
class Round:
    """All parts of a round, with how many real images and z a round draws."""

    parts: tuple[Part, ...]
    reals: int
    latents: int


def make_round(train: TrainSection, generator_uses_real: bool) -> Round:
    """Return the round that a recipe's order of updates means.

    Args:
        train: the recipe's section.
        generator_uses_real: whether the generator's loss looks at real images.
    """
    batch = train.batch_size
    for_generator = train.generator_batch_size or batch
    if train.update == "simultaneous":
        return Round((Part("both", (0, batch), (0, batch), True),), batch, batch)
    if train.update == "alternate_minibatches":  # the DCGAN authors' code: each minibatch trains one network, G first
        generator = Part("generator", (0, batch), (0, batch), generator_uses_real)
        return Round((generator, Part("discriminator", (batch, batch), (batch, batch), True)), 2 * batch, 2 * batch)
    parts = [
        Part("discriminator", (index * batch, batch), (index * batch, batch), True)
        for index in range(train.discriminator_steps)
    ]
    reals = latents = train.discriminator_steps * batch
    last = parts[-1]
    fakes = last.latents if train.reuse_fakes else (latents, for_generator)
    if not generator_uses_real:
        shown = (reals, 0)
    elif train.generator_reals == "reuse":
        shown = last.reals
    else:
        shown = (reals, for_generator)
        reals += for_generator
    parts.append(Part("generator", shown, fakes, generator_uses_real))
    return Round(tuple(parts), reals, latents if train.reuse_fakes else latents + for_generator)
