"""The step: one round of updates as a deterministic function of tensors and buffers.

Everything random comes in with the batches; scheduled numbers lie in 0-d tensors on the device; statistics are summed
there. No value is read back and no branch depends on one, so that a CUDA graph could hold the whole round.

In several processes each computes the gradients of its share of every batch; their mean is what the optimisers see.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ganzoo.augmentation.probability import ProbabilityControl
from ganzoo.building import build_augmentation, build_objective, build_penalties, build_regularizers
from ganzoo.devices import Precision, seed_generators
from ganzoo.objectives.contract import PenaltyInputs
from ganzoo.objectives.regularizers.contract import DiscriminatorView, GeneratorView
from ganzoo.randomness import Stream, words
from ganzoo.recipes import Recipe, Schedule, value_at
from ganzoo.training.ema import EMA, ema_weight
from ganzoo.training.engines import PLAIN, Engine
from ganzoo.training.feeder import Batch
from ganzoo.training.first_order import FirstOrder, choose_first_order
from ganzoo.training.forward import Forward, Judgement, frozen
from ganzoo.training.optimizers import make_optimizer, schedule_host, scheduled_tensors
from ganzoo.training.processes import ALONE, World
from ganzoo.training.rounds import FAKES_BEHIND_REALS, Round, make_round
from ganzoo.training.statistics import Statistics, distinct


@dataclass(frozen=True)
class _Shown:
    """What the discriminator was shown, before augmentation, and what it said, for one part of a batch."""

    real: torch.Tensor
    fake: torch.Tensor
    of_real: Judgement
    of_fake: Judgement


class Step:
    """One round of updates of a generator and a discriminator.

    Args:
        recipe: order of updates, objective, penalties, regularizers, augmentation, optimisers, EMA.
        generator: trained in place; its device and dtype are the step's.
        discriminator: likewise.
        precision: "fp32" leaves the networks' own dtype (float64 as well); "bf16" runs them under autocast.
        world: the processes that train together.
        engine: how its steps are carried out; a fast one takes the discriminator's update at first-order cost where
            that applies.
    """

    def __init__(
        self,
        recipe: Recipe,
        generator: nn.Module,
        discriminator: nn.Module,
        precision: Precision = "fp32",
        world: World = ALONE,
        engine: Engine = PLAIN,
    ) -> None:
        first = next(generator.parameters())
        self.recipe, self.generator, self.discriminator, self.precision = recipe, generator, discriminator, precision
        self.device, self.dtype, self.world, self.engine = first.device, first.dtype, world, engine
        self.objective = build_objective(recipe)
        self.penalties = build_penalties(recipe)
        parts, features = build_regularizers(recipe)
        self._regularizers = parts
        self.regularizers = nn.ModuleList(parts).to(device=self.device, dtype=self.dtype)  # for their state
        self.augmentation = build_augmentation(recipe)
        self.probability: ProbabilityControl | None = None
        if recipe.augmentation is not None:
            self.probability = ProbabilityControl(recipe.augmentation.probability, self.objective.boundary, self.device)
        self._forward = Forward(
            generator,
            discriminator,
            precision,
            labelled=recipe.data.labelled,
            augmentation=self.augmentation,
            probability=self.probability,
            features=features,
            fast=engine.fast,
        )
        self.first_order: FirstOrder | str = "the arithmetic is plain"
        if engine.fast:
            self.first_order = choose_first_order(
                recipe, discriminator, self._forward, self.objective, self.penalties, parts, precision
            )
        self.round: Round = make_round(recipe.train, self.objective.generator_uses_real)
        self._settings = {
            "generator": recipe.optimizer.of("generator"),
            "discriminator": recipe.optimizer.of("discriminator"),
        }
        # Beside a graph all fast steps on CUDA, so that one that falls back goes on with the same arithmetic.
        capturable = engine.name == "graph" or (engine.fast and self.device.type == "cuda")
        self.optimizers = {
            network: make_optimizer(settings, self.trained(network).values(), capturable=capturable)
            for network, settings in self._settings.items()
        }
        self.ema = EMA(generator) if recipe.ema.enabled else None
        self._ema_weight = torch.ones((), device=self.device, dtype=self.dtype)
        self._penalty_weights = torch.zeros(len(self.penalties), device=self.device, dtype=self.dtype)
        self._penalty_names = distinct([penalty.name for penalty in self.penalties])
        self._regularizer_weights = torch.ones(len(parts), device=self.device, dtype=self.dtype)
        self._regularizer_names = distinct([regularizer.name for regularizer in parts])
        self._kimg = 0.0
        self._number = torch.zeros((), device=self.device, dtype=torch.int64)
        self._scheduled = self._settings_of_tensors()
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
                *(
                    f"regularizer/{name}/{network}"
                    for name, network in itertools.product(self._regularizer_names, self.optimizers)
                ),
                *(["augmentation/probability"] if self.probability is not None else []),
            ],
            self.device,
        )
        self.learning_rates = {"generator": 0.0, "discriminator": 0.0}

    @property
    def images(self) -> int:
        """Real images drawn by one round, in all processes together."""
        return self.round.reals

    @property
    def best_generator(self) -> nn.Module:
        """The generator to judge and publish: the average where there is one."""
        return self.ema.network if self.ema is not None else self.generator

    def trained(self, network: str) -> dict[str, nn.Parameter]:
        """Return what the optimiser of "generator" or "discriminator" trains, by name.

        The parameters of regularizers (heads on D's features) are trained along with the discriminator.
        """
        if network == "generator":
            return dict(self.generator.named_parameters())
        heads = {f"regularizer.{name}": parameter for name, parameter in self.regularizers.named_parameters()}
        return dict(self.discriminator.named_parameters()) | heads

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
        self.seed(number)
        self.update(number, batches)

    def update(self, number: int, batches: Sequence[Batch]) -> None:
        """Do a round of which `scheduled_tensors` and torch's generators are set; arguments as above.

        Of `number` nothing gets into what is computed but what `variant` tells.
        """
        self.generator.train()
        self.discriminator.train()
        self.regularizers.train()
        kept: tuple[torch.Tensor, Batch] | None = None
        for part, batch in zip(self.round.parts, batches, strict=True):
            if part.role == "both":
                self._update_both(number, batch)
            elif part.role == "discriminator":
                kept = self._update_discriminator(number, batch)
            else:
                self._update_generator(batch, kept)
        if self.probability is not None:
            self.statistics.add("augmentation/probability", self.probability.value)
            self.probability.adapt(number, self.images, self.world.mean)
        if self.ema is not None:
            self.ema.update(self._ema_weight)

    # ------------------------------------------------------------------------------------------ parts of a round

    def _update_discriminator(self, number: int, batch: Batch) -> tuple[torch.Tensor, Batch] | None:
        """Update D; return the fakes with their graph, and their batch, where G's update goes back through them."""
        train = self.recipe.train
        kept = None
        for micro in batch.parts(train.accumulate):
            with torch.set_grad_enabled(train.reuse_fakes):
                fake = self._forward.generate(micro.z, micro.label, micro.latents)
            if isinstance(self.first_order, FirstOrder):
                self._update_at_first_order(number, self.first_order, micro, fake.detach())
            else:
                shown = self._show(number, micro, fake.detach())
                loss = self._discriminator_loss(number, micro, shown)
                torch.autograd.backward(loss / train.accumulate, inputs=self._parameters("discriminator"))
            kept = (fake, micro) if train.reuse_fakes else None
        self._apply("discriminator")
        return kept

    def _update_at_first_order(self, number: int, first_order: FirstOrder, batch: Batch, fake: torch.Tensor) -> None:
        """Find D's gradients without a graph, and note the same numbers as `_show` and `_discriminator_loss` do."""
        active = self._active(number)
        weights = [weight if taken else None for weight, taken in zip(self._penalty_weights, active, strict=True)]
        update = first_order(batch, fake, weights)
        self._note_logits(update.real_logits, update.fake_logits)
        if self.probability is not None:
            self.probability.observe(update.real_logits)
        self._note("loss/discriminator", update.loss)
        for name, value in zip(self._penalty_names, update.penalties, strict=True):
            if value is not None:
                self._note(f"penalty/{name}", value)

    def _update_generator(self, batch: Batch, kept: tuple[torch.Tensor, Batch] | None) -> None:
        train, forward = self.recipe.train, self._forward
        for micro in batch.parts(train.accumulate):
            # Fakes of D's update keep the z and labels that they were made of: this part's own are those of others.
            fake, made = kept or (forward.generate(micro.z, micro.label, micro.latents), micro)
            with frozen(self.discriminator), frozen(self.regularizers):
                seen = forward.augment(fake, made.latents, Stream.AUGMENTATION_GENERATOR)
                of_fake = forward.judge(seen, made.label, made.latents, Stream.DROPOUT_GENERATOR_PHASE, record=True)
                real_logits = None
                if self.objective.generator_uses_real and micro.real is not None:
                    with torch.no_grad():
                        seen = forward.augment(micro.real, micro.reals, Stream.AUGMENTATION_GENERATOR_REAL)
                        real_logits = forward.judge(seen, micro.label, micro.reals, Stream.DROPOUT_REAL).logits
                loss = self._generator_loss(made, fake, of_fake, real_logits)
            torch.autograd.backward(loss / train.accumulate, inputs=self._parameters("generator"))
        self._apply("generator")

    def _update_both(self, number: int, batch: Batch) -> None:
        """Update both networks from one forward pass of each."""
        accumulate = self.recipe.train.accumulate
        for micro in batch.parts(accumulate):
            fake = self._forward.generate(micro.z, micro.label, micro.latents)
            shown = self._show(number, micro, fake)
            loss = self._discriminator_loss(number, micro, shown)
            torch.autograd.backward(loss / accumulate, inputs=self._parameters("discriminator"), retain_graph=True)
            loss = self._generator_loss(micro, fake, shown.of_fake, shown.of_real.logits.detach())
            torch.autograd.backward(loss / accumulate, inputs=self._parameters("generator"))
        self._apply("discriminator")
        self._apply("generator")

    # ------------------------------------------------------------------------------------------ D's loss

    def _show(self, number: int, batch: Batch, fake: torch.Tensor) -> _Shown:
        """Show D real images and fakes, in two batches or joined in one."""
        assert batch.real is not None
        real, forward = batch.real, self._forward
        if any(self._active(number)):
            real = real.detach().requires_grad_()
            fake = fake if fake.requires_grad else fake.detach().requires_grad_()
        seen_real = forward.augment(real, batch.reals, Stream.AUGMENTATION_REAL)
        seen_fake = forward.augment(fake, batch.latents, Stream.AUGMENTATION_FAKE)
        if self.recipe.train.real_fake_batches == "joined":
            label = torch.cat((batch.label, batch.label)) if batch.label is not None else None
            draws = batch.reals.beside(batch.latents.numbers + FAKES_BEHIND_REALS)
            both = forward.judge(torch.cat((seen_real, seen_fake)), label, draws, Stream.DROPOUT_REAL, record=True)
            of_real, of_fake = both.part(0, len(real)), both.part(len(real), len(real) + len(fake))
        else:
            of_real = forward.judge(seen_real, batch.label, batch.reals, Stream.DROPOUT_REAL, record=True)
            of_fake = forward.judge(seen_fake, batch.label, batch.latents, Stream.DROPOUT_FAKE, record=True)
        self._note_logits(of_real.logits, of_fake.logits)
        if self.probability is not None:
            self.probability.observe(of_real.logits)
        return _Shown(real, fake, of_real, of_fake)

    def _active(self, number: int) -> list[bool]:
        """Return which penalties are taken at a step."""
        return [number % section.every == 0 for section in self.recipe.penalty]

    def _discriminator_loss(self, number: int, batch: Batch, shown: _Shown) -> torch.Tensor:
        loss = self.objective.discriminator_loss(shown.of_real.logits, shown.of_fake.logits)
        self._note("loss/discriminator", loss)
        inputs = PenaltyInputs(
            discriminate=lambda image: self._judge_for_penalty(image, batch),
            real=shown.real,
            fake=shown.fake,
            real_logits=shown.of_real.logits,
            fake_logits=shown.of_fake.logits,
            draws=batch.reals,
        )
        for index, active in enumerate(self._active(number)):
            if active:
                value = self.penalties[index](inputs).mean()
                self._note(f"penalty/{self._penalty_names[index]}", value)
                loss = loss + self._penalty_weights[index] * value
        return self._regularized("discriminator", loss, self._discriminator_view(batch, shown))

    def _judge_for_penalty(self, image: torch.Tensor, batch: Batch) -> torch.Tensor:
        seen = self._forward.augment(image, batch.reals, Stream.AUGMENTATION_PENALTY)
        return self._forward.judge(seen, batch.label, batch.reals, Stream.DROPOUT_PENALTY).logits

    def _discriminator_view(self, batch: Batch, shown: _Shown) -> DiscriminatorView:
        def generate(z: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
            with torch.no_grad():
                return self._forward.generate(z, label, batch.latents)

        return DiscriminatorView(
            real=shown.real.detach(),
            fake=shown.fake.detach(),
            real_logits=shown.of_real.logits,
            fake_logits=shown.of_fake.logits,
            real_features=shown.of_real.features,
            fake_features=shown.of_fake.features,
            real_label=batch.label if self.recipe.data.labelled else None,
            fake_label=batch.label,
            z=batch.z,
            judge=lambda image, label: self._judge_further(image, label, batch),
            generate=generate,
            reals=batch.reals,
            latents=batch.latents,
            kimg=self._kimg,
            mean=self.world.mean,
        )

    # ------------------------------------------------------------------------------------------ G's loss

    def _generator_loss(
        self, batch: Batch, fake: torch.Tensor, of_fake: Judgement, real_logits: torch.Tensor | None
    ) -> torch.Tensor:
        fake_logits = of_fake.logits
        for regularizer in self._regularizers:
            kept = regularizer.keep(fake_logits.detach(), self._kimg)
            if kept is not None:
                fake_logits = fake_logits[kept]
                if self.objective.paired and real_logits is not None:
                    real_logits = real_logits[kept]
        loss = self.objective.generator_loss(fake_logits, real_logits)
        self._note("loss/generator", loss)
        view = GeneratorView(
            fake=fake,
            fake_logits=of_fake.logits,
            fake_features=of_fake.features,
            fake_label=batch.label,
            z=batch.z,
            judge=lambda image, label: self._judge_further(image, label, batch),
            generate=lambda z, label: self._forward.generate(z, label, batch.latents),
            latents=batch.latents,
            kimg=self._kimg,
            mean=self.world.mean,
        )
        return self._regularized("generator", loss, view)

    # ------------------------------------------------------------------------------------------ of both

    def _judge_further(self, image: torch.Tensor, label: torch.Tensor | None, batch: Batch) -> torch.Tensor:
        return self._forward.judge(image, label, batch.latents, Stream.DROPOUT_REGULARIZER).logits

    def _regularized(self, network: str, loss: torch.Tensor, view: DiscriminatorView | GeneratorView) -> torch.Tensor:
        """Return a network's loss with what the regularizers add to it, 0-d."""
        for index, regularizer in enumerate(self._regularizers):
            if isinstance(view, DiscriminatorView):
                value = regularizer.discriminator_loss(view)
            else:
                value = regularizer.generator_loss(view)
            if value is not None:
                self._note(f"regularizer/{self._regularizer_names[index]}/{network}", value)
                loss = loss + self._regularizer_weights[index] * value
        return loss

    def _parameters(self, network: str) -> list[torch.Tensor]:
        return [parameter for group in self.optimizers[network].param_groups for parameter in group["params"]]

    @torch.no_grad()
    def _apply(self, network: str) -> None:
        """Let a network's optimiser use the gradients' mean over the processes, and forget them."""
        optimizer = self.optimizers[network]
        gradients = [parameter.grad for parameter in self._parameters(network) if parameter.grad is not None]
        self.world.mean_(gradients)
        self._note(f"gradient/{network}", nn.utils.get_total_norm(gradients).to(self.device))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if network == "discriminator":
            for regularizer in self._regularizers:
                regularizer.after_discriminator(self.discriminator)

    @torch.no_grad()
    def _note_logits(self, real: torch.Tensor, fake: torch.Tensor) -> None:
        add = self.statistics.add
        add("logits/real", real.mean())
        add("logits/fake", fake.mean())
        add("logits/real_std", real.std())
        add("logits/fake_std", fake.std())
        boundary = self.objective.boundary
        middle = boundary if boundary is not None else (real.mean() + fake.mean()) / 2
        add("accuracy/real", (real > middle).double().mean())
        add("accuracy/fake", (fake < middle).double().mean())

    def _note(self, name: str, value: torch.Tensor) -> None:
        """Add a loss or norm to the statistics, and remember the first that is not finite."""
        value = value.detach()
        self.statistics.add(name, value)
        bad = (self.first_bad_step < 0) & ~torch.isfinite(value)
        self._first_bad_name.masked_fill_(bad, self.statistics.names.index(name))
        self.first_bad_step.copy_(torch.where(bad, self._number, self.first_bad_step))

    # ------------------------------------------------------------------------------------------ what the host decides

    def _settings_of_tensors(self) -> list[tuple[torch.Tensor, Callable[[float], float]]]:
        """Return the 0-d tensors that hold scheduled numbers, each with its value as a function of kimg."""
        found: list[tuple[torch.Tensor, Callable[[float], float]]] = []
        for network, optimizer in self.optimizers.items():
            found += [(tensor, _at(one)) for tensor, one in scheduled_tensors(optimizer, self._settings[network])]
        for tensor, penalty in zip(self._penalty_weights.unbind(), self.recipe.penalty, strict=True):
            # Taken every so many steps, a penalty weighs as many times as much: its mean weight is what was asked for.
            found.append((tensor, _at(penalty.weight, penalty.every)))
        for tensor, regularizer in zip(self._regularizer_weights.unbind(), self.recipe.regularizer, strict=True):
            if regularizer.weight is not None:
                found.append((tensor, _at(regularizer.weight)))
        if self.probability is not None and isinstance(self.probability.scheduled, Schedule):
            found.append((self.probability.value, _at(self.probability.scheduled)))
        if self.ema is not None:
            found.append((self._ema_weight, lambda kimg: ema_weight(self.recipe.ema, kimg, self.images)))
        return found

    @property
    def scheduled_tensors(self) -> list[torch.Tensor]:
        """The 0-d tensors that hold what is another number at each step: its own number, and what is scheduled."""
        return [self._number, *(tensor for tensor, _ in self._scheduled)]

    def scheduled(self, number: int) -> list[float]:
        """Return what `scheduled_tensors` shall hold at a step, and set what of its schedules the host keeps."""
        kimg = self._kimg = number * self.images / 1000.0
        for network, optimizer in self.optimizers.items():
            self.learning_rates[network] = schedule_host(optimizer, self._settings[network], kimg)
        return [float(number), *(at(kimg) for _, at in self._scheduled)]

    def variant(self, number: int) -> Hashable:
        """Return all that the host decides at a step: steps of one variant do the same operations on the same tensors.

        Args:
            number: of the step, from 0.
        """
        kimg = number * self.images / 1000.0
        (latents,) = {part.latents[1] for part in self.round.parts if part.role != "discriminator"}
        batch = latents // self.world.size // self.recipe.train.accumulate
        adapts = self.probability is not None and self.probability.adapts(number)
        return tuple(self._active(number)), adapts, tuple(one.variant(kimg, batch) for one in self._regularizers)

    def seed(self, number: int) -> None:
        """Seed torch's own generators: layers of third parties that draw from them draw the same after a resume."""
        rank = self.world.rank
        foreign = words(self.recipe.train.seed, Stream.FOREIGN, np.array([number]), rank + 1)[0, rank]
        seed_generators(int(foreign), self.device)

    def _schedule(self, number: int) -> None:
        """Set everything that a schedule changes to its value at the start of this step."""
        for tensor, value in zip(self.scheduled_tensors, self.scheduled(number), strict=True):
            tensor.fill_(value)


def _at(setting: float | Schedule, factor: float = 1.0) -> Callable[[float], float]:
    """Return a recipe's number as a function of kimg, times a factor."""
    return lambda kimg: value_at(setting, kimg) * factor
