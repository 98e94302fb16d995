"""The step: one round of updates as a deterministic function of tensors and buffers.

Everything random comes in with the batches; scheduled numbers lie in 0-d tensors on the device; statistics are summed
there. No value is read back and no branch depends on one, so that a CUDA graph could hold the whole round.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from ganzoo.architectures.layers import dropout_draws
from ganzoo.building import build_objective, build_penalties
from ganzoo.devices import Precision, autocast, seed_generators
from ganzoo.objectives.contract import PenaltyInputs
from ganzoo.randomness import Draws, Stream, words
from ganzoo.recipes import Recipe, value_at
from ganzoo.training.ema import EMA, ema_weight
from ganzoo.training.feeder import Batch
from ganzoo.training.optimizers import make_optimizer, schedule_optimizer
from ganzoo.training.rounds import Round, make_round
from ganzoo.training.statistics import Statistics

# In a joined batch, keeps the fakes' dropout masks apart from those of real images of the same number.
_FAKES_BEHIND_REALS = 1 << 62


@dataclass(frozen=True)
class _Shown:
    """What the discriminator was shown and what it said, for one part of a batch."""

    real: torch.Tensor
    fake: torch.Tensor
    real_logits: torch.Tensor
    fake_logits: torch.Tensor


class Step:
    """One round of updates of a generator and a discriminator.

    Args:
        recipe: order of updates, objective, penalties, optimisers, EMA.
        generator: trained in place; its device and dtype are the step's.
        discriminator: likewise.
        precision: "fp32" leaves the networks' own dtype (float64 as well); "bf16" runs them under autocast.
    """

    def __init__(
        self, recipe: Recipe, generator: nn.Module, discriminator: nn.Module, precision: Precision = "fp32"
    ) -> None:
        first = next(generator.parameters())
        self.recipe, self.generator, self.discriminator, self.precision = recipe, generator, discriminator, precision
        self.device, self.dtype = first.device, first.dtype
        self.objective = build_objective(recipe)
        self.penalties = build_penalties(recipe)
        self.round: Round = make_round(recipe.train, self.objective.generator_uses_real)
        self._settings = {
            "generator": recipe.optimizer.of("generator"),
            "discriminator": recipe.optimizer.of("discriminator"),
        }
        self.optimizers = {
            "generator": make_optimizer(self._settings["generator"], generator.parameters()),
            "discriminator": make_optimizer(self._settings["discriminator"], discriminator.parameters()),
        }
        self.ema = EMA(generator) if recipe.ema.enabled else None
        self._ema_weight = torch.ones((), device=self.device, dtype=self.dtype)
        self._penalty_weights = torch.zeros(len(self.penalties), device=self.device, dtype=self.dtype)
        self._penalty_names = _distinct([penalty.name for penalty in self.penalties])
        self.first_bad_step = torch.full((), -1, device=self.device, dtype=torch.int64)
        self._first_bad_name = torch.full((), -1, device=self.device, dtype=torch.int64)
        self.statistics = Statistics(
            [
                "loss/discriminator",
                "loss/generator",
                "logits/real",
                "logits/fake",
                "logits/real_std",
                "logits/fake_std",
                "accuracy/real",
                "accuracy/fake",
                "gradient/generator",
                "gradient/discriminator",
                *(f"penalty/{name}" for name in self._penalty_names),
            ],
            self.device,
        )
        self.learning_rates = {"generator": 0.0, "discriminator": 0.0}

    @property
    def images(self) -> int:
        """Real images drawn by one round."""
        return self.round.reals

    @property
    def best_generator(self) -> nn.Module:
        """The generator to judge and publish: the average where there is one."""
        return self.ema.network if self.ema is not None else self.generator

    def first_bad(self) -> tuple[int, str] | None:
        """Return the number of the first step in which a loss or gradient was NaN or Inf, and its name; None: all well.

        This reads from the device.
        """
        number = int(self.first_bad_step)
        return None if number < 0 else (number, self.statistics.names[int(self._first_bad_name)])

    def __call__(self, number: int, batches: Sequence[Batch]) -> None:
        """Do one round.

        Args:
            number: of the step, from 0.
            batches: one for each part of the round (`Feeder.rounds`).
        """
        self._schedule(number)
        # Layers of third parties may draw from torch's own generator: seeded so, they too draw the same after a resume.
        foreign = words(self.recipe.train.seed, Stream.FOREIGN, np.array([number]), 1)[0, 0]
        seed_generators(int(foreign), self.device)
        self.generator.train()
        self.discriminator.train()
        kept: tuple[torch.Tensor, torch.Tensor | None] | None = None
        for part, batch in zip(self.round.parts, batches, strict=True):
            if part.role == "both":
                self._update_both(number, batch)
            elif part.role == "discriminator":
                kept = self._update_discriminator(number, batch)
            else:
                self._update_generator(number, batch, kept)
        if self.ema is not None:
            self.ema.update(self._ema_weight)

    # ------------------------------------------------------------------------------------------ parts of a round

    def _update_discriminator(self, number: int, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """Update D; return the fakes with their graph, and their labels, where G's update goes back through them."""
        train = self.recipe.train
        kept = None
        for micro in _split(batch, train.accumulate):
            with torch.set_grad_enabled(train.reuse_fakes):
                fake = self._generate(micro)
            shown = self._show(number, micro, fake.detach())
            loss = self._discriminator_loss(number, micro, shown)
            torch.autograd.backward(loss / train.accumulate, inputs=list(self.discriminator.parameters()))
            kept = (fake, micro.label) if train.reuse_fakes else None
        self._apply(number, "discriminator")
        return kept

    def _update_generator(
        self, number: int, batch: Batch, kept: tuple[torch.Tensor, torch.Tensor | None] | None
    ) -> None:
        train = self.recipe.train
        for micro in _split(batch, train.accumulate):
            # Fakes of D's update keep the labels that they were made with: this part's own are those of other images.
            fake, label = kept if kept is not None else (self._generate(micro), micro.label)
            with _frozen(self.discriminator):
                fake_logits = self._judge(fake, label, micro.latents, Stream.DROPOUT_GENERATOR_PHASE)
                real_logits = None
                if self.objective.generator_uses_real and micro.real is not None:
                    with torch.no_grad():
                        real_logits = self._judge(micro.real, micro.label, micro.reals, Stream.DROPOUT_REAL)
            loss = self.objective.generator_loss(fake_logits, real_logits)
            self._note(number, "loss/generator", loss)
            torch.autograd.backward(loss / train.accumulate, inputs=list(self.generator.parameters()))
        self._apply(number, "generator")

    def _update_both(self, number: int, batch: Batch) -> None:
        """Update both networks from one forward pass of each."""
        accumulate = self.recipe.train.accumulate
        for micro in _split(batch, accumulate):
            shown = self._show(number, micro, self._generate(micro))
            loss = self._discriminator_loss(number, micro, shown)
            torch.autograd.backward(loss / accumulate, inputs=list(self.discriminator.parameters()), retain_graph=True)
            loss = self.objective.generator_loss(shown.fake_logits, shown.real_logits.detach())
            self._note(number, "loss/generator", loss)
            torch.autograd.backward(loss / accumulate, inputs=list(self.generator.parameters()))
        self._apply(number, "discriminator")
        self._apply(number, "generator")

    # ------------------------------------------------------------------------------------------ forward

    def _generate(self, batch: Batch) -> torch.Tensor:
        """Return fakes: (batch, C, H, W) in the step's dtype."""
        with (
            dropout_draws(self.generator, batch.latents, Stream.DROPOUT_GENERATOR),
            autocast(self.precision, self.device),
        ):
            fake: torch.Tensor = _call(self.generator, batch.z, batch.label)
        return fake.to(self.dtype)

    def _judge(self, image: torch.Tensor, label: torch.Tensor | None, draws: Draws, stream: Stream) -> torch.Tensor:
        """Return logits: (batch,) in the step's dtype."""
        with dropout_draws(self.discriminator, draws, stream), autocast(self.precision, self.device):
            logits: torch.Tensor = _call(self.discriminator, image, label)
        return logits.to(self.dtype)

    def _show(self, number: int, batch: Batch, fake: torch.Tensor) -> _Shown:
        """Show D real images and fakes, in two batches or joined in one."""
        assert batch.real is not None
        real = batch.real
        if any(self._active(number)):
            real = real.detach().requires_grad_()
            fake = fake if fake.requires_grad else fake.detach().requires_grad_()
        if self.recipe.train.real_fake_batches == "joined":
            numbers = np.concatenate((batch.reals.numbers, batch.latents.numbers + _FAKES_BEHIND_REALS))
            label = torch.cat((batch.label, batch.label)) if batch.label is not None else None
            draws = replace(batch.reals, numbers=numbers)
            both = self._judge(torch.cat((real, fake)), label, draws, Stream.DROPOUT_REAL)
            real_logits, fake_logits = both[: len(real)], both[len(real) :]
        else:
            real_logits = self._judge(real, batch.label, batch.reals, Stream.DROPOUT_REAL)
            fake_logits = self._judge(fake, batch.label, batch.latents, Stream.DROPOUT_FAKE)
        with torch.no_grad():
            add = self.statistics.add
            add("logits/real", real_logits.mean())
            add("logits/fake", fake_logits.mean())
            add("logits/real_std", real_logits.std())
            add("logits/fake_std", fake_logits.std())
            boundary = self.objective.boundary
            middle = boundary if boundary is not None else (real_logits.mean() + fake_logits.mean()) / 2
            add("accuracy/real", (real_logits > middle).double().mean())
            add("accuracy/fake", (fake_logits < middle).double().mean())
        return _Shown(real, fake, real_logits, fake_logits)

    # ------------------------------------------------------------------------------------------ losses and updates

    def _active(self, number: int) -> list[bool]:
        """Return which penalties are taken at a step."""
        return [number % section.every == 0 for section in self.recipe.penalty]

    def _discriminator_loss(self, number: int, batch: Batch, shown: _Shown) -> torch.Tensor:
        loss = self.objective.discriminator_loss(shown.real_logits, shown.fake_logits)
        self._note(number, "loss/discriminator", loss)
        if not self.penalties:
            return loss
        inputs = PenaltyInputs(
            discriminate=lambda image: self._judge(image, batch.label, batch.reals, Stream.DROPOUT_PENALTY),
            real=shown.real,
            fake=shown.fake,
            real_logits=shown.real_logits,
            fake_logits=shown.fake_logits,
            draws=batch.reals,
        )
        for index, active in enumerate(self._active(number)):
            if active:
                value = self.penalties[index](inputs).mean()
                self._note(number, f"penalty/{self._penalty_names[index]}", value)
                loss = loss + self._penalty_weights[index] * value
        return loss

    def _apply(self, number: int, network: str) -> None:
        """Let a network's optimiser use the gradients, and forget them."""
        optimizer = self.optimizers[network]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self._note(number, f"gradient/{network}", nn.utils.get_total_norm(gradients).to(self.device))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _note(self, number: int, name: str, value: torch.Tensor) -> None:
        """Add a loss or norm to the statistics, and remember the first that is not finite."""
        value = value.detach()
        self.statistics.add(name, value)
        bad = (self.first_bad_step < 0) & ~torch.isfinite(value)
        self._first_bad_name.masked_fill_(bad, self.statistics.names.index(name))
        self.first_bad_step.masked_fill_(bad, number)

    def _schedule(self, number: int) -> None:
        """Set everything that a schedule changes to its value at the start of this step."""
        kimg = number * self.images / 1000.0
        for network, optimizer in self.optimizers.items():
            self.learning_rates[network] = schedule_optimizer(optimizer, self._settings[network], kimg)
        for index, section in enumerate(self.recipe.penalty):
            # Taken every so many steps, a penalty weighs as many times as much: its mean weight is what was asked for.
            self._penalty_weights[index].fill_(value_at(section.weight, kimg) * section.every)
        if self.ema is not None:
            self._ema_weight.fill_(ema_weight(self.recipe.ema, kimg, self.images))


def _call(network: nn.Module, x: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
    out: torch.Tensor = network(x) if label is None else network(x, label)
    return out


def _split(batch: Batch, parts: int) -> Iterator[Batch]:
    """Yield a batch in equal parts, each with the random numbers of its own samples."""
    if parts == 1:
        yield batch
        return
    size = len(batch.z) // parts
    shown = 0 if batch.real is None else len(batch.real) // parts
    labels = torch.split(batch.label, size) if batch.label is not None else [None] * parts
    for index in range(parts):
        of_reals = batch.reals.numbers[index * size : (index + 1) * size]
        of_latents = batch.latents.numbers[index * size : (index + 1) * size]
        yield Batch(
            real=batch.real[index * shown : (index + 1) * shown] if batch.real is not None else None,
            label=labels[index],
            z=batch.z[index * size : (index + 1) * size],
            reals=replace(batch.reals, numbers=of_reals),
            latents=replace(batch.latents, numbers=of_latents),
        )


@contextlib.contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Within it, no gradient is kept for the network's parameters."""
    was = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    for parameter, _ in was:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, needed in was:
            parameter.requires_grad_(needed)


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names with repeated ones numbered."""
    return [
        name if names.count(name) == 1 else f"{name}_{names[: index + 1].count(name)}"
        for index, name in enumerate(names)
    ]
