"""What a recipe's networks are made of: shapes layer by layer, parameters and floating-point operations.

Everything is worked out on torch's meta device: shapes without memory and without arithmetic, so that the largest
network takes a moment. Operations are those that `torch.utils.flop_counter` knows (convolutions and matrix products,
all but a percent of the work); a multiplication with its addition counts as two. It works for any registered network, a
third party's too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ganzoo.building import build_discriminator, build_generator
from ganzoo.randomness import Draws
from ganzoo.recipes import OptimizerSection
from ganzoo.shapes import shapes_only
from ganzoo.training.feeder import Batch
from ganzoo.training.rounds import Part
from ganzoo.training.step import Step

if TYPE_CHECKING:
    from ganzoo.recipes import Recipe

_PARAMETRIZATIONS = "parametrizations"  # where torch.nn.utils.parametrize keeps what makes a weight (spectral norm)
_LONGEST_CYCLE = 10_000
_BATCH = 2  # the smallest that batch norm takes in training


@dataclass(frozen=True)
class Layer:
    """One module of a network: a row of the table.

    Args:
        path: its name inside the network, "" for the network itself.
        type: its class.
        output: shapes of what it returns, without the batch; one a tensor.
        parameters: its own, without those of the modules inside it; shared ones are counted where they are used first.
        flops: its own floating-point operations an image in one forward pass, likewise.
        calls: how often it is used in one forward pass.
    """

    path: str
    type: str
    output: tuple[tuple[int, ...], ...]
    parameters: int
    flops: int
    calls: int = 1


@dataclass(frozen=True)
class NetworkSummary:
    """A network's rows and totals.

    Args:
        name: under which it is registered.
        input: shape of what it takes, without the batch.
        output: shape of what it returns, likewise.
        layers: its rows, in the order of use: the modules without modules inside, and others that have parameters or
            operations of their own.
        parameters: all of them, each counted once.
        flops: floating-point operations an image, one forward pass.
    """

    name: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    layers: tuple[Layer, ...]
    parameters: int
    flops: int


@dataclass(frozen=True)
class RecipeSummary:
    """What a recipe trains.

    Args:
        generator: the generator.
        discriminator: the discriminator.
        step_flops: operations of a training step for each real image that it draws, as `step_flops` returns them.
    """

    generator: NetworkSummary
    discriminator: NetworkSummary
    step_flops: float


def summarize(recipe: Recipe) -> RecipeSummary:
    """Return what a recipe's networks are made of and what a training costs.

    Args:
        recipe: resolved, as `ganzoo.load_recipe` returns it.

    Raises:
        RecipeError: a network that cannot be built.
        PluginError: a network that does not keep the contract.
    """
    with shapes_only():
        generator, discriminator = build_generator(recipe), build_discriminator(recipe)
        z = torch.empty(_BATCH, recipe.generator.latent_dim)  # (batch, latent_dim)
        image = torch.empty(
            _BATCH, recipe.data.channels, recipe.data.image_size, recipe.data.image_size
        )  # (batch, C, H, W)
        labels = (torch.zeros(_BATCH, dtype=torch.int64),) if recipe.data.num_classes else ()  # (batch,)
    return RecipeSummary(
        generator=summarize_network(generator, (z, *labels), recipe.generator.name),
        discriminator=summarize_network(discriminator, (image, *labels), recipe.discriminator.name),
        step_flops=step_flops(recipe),
    )


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the operations of what runs inside it, by torch's own formulas.

    torch's `FlopCounterMode` also keeps track of modules, by hooks that fail under `torch.autograd.grad` with respect
    to an image, which is what gradient penalties do.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


# ---------------------------------------------------------------------------------------------------- one network


@dataclass
class _Visit:
    """A module's calls, gathered by hooks."""

    output: tuple[tuple[int, ...], ...] = ()
    own_flops: int = 0
    calls: int = 0


@dataclass
class _Watch:
    """Attributes the counter's operations to the innermost module that is running."""

    counter: _Counter
    visits: dict[nn.Module, _Visit] = field(default_factory=dict)
    running: list[tuple[int, int]] = field(default_factory=list)  # (operations at entry, operations of modules inside)

    def enter(self, module: nn.Module, _: Any) -> None:
        self.visits.setdefault(module, _Visit())
        self.running.append((self.counter.flops, 0))

    def leave(self, module: nn.Module, _: Any, output: Any) -> None:
        at_entry, inside = self.running.pop()
        spent = self.counter.flops - at_entry
        if self.running:
            before, others = self.running[-1]
            self.running[-1] = (before, others + spent)
        visit = self.visits[module]
        visit.own_flops += spent - inside
        visit.output = tuple(tuple(one.shape[1:]) for one in _tensors(output))
        visit.calls += 1


def summarize_network(network: nn.Module, inputs: Sequence[Tensor], name: str) -> NetworkSummary:
    """Return a network's rows and totals from one forward pass in evaluation mode.

    Args:
        network: on the same device as the inputs; its training mode is left as it was.
        inputs: what it is called with; the first (batch, …) is the one whose shape is told.
        name: how it is called in the summary.
    """
    batch = len(inputs[0])
    was_training = network.training
    counter = _Counter()
    watch = _Watch(counter)
    hooks = [
        hook
        for path, module in network.named_modules()
        if not _inside_parametrization(path)
        for hook in (module.register_forward_pre_hook(watch.enter), module.register_forward_hook(watch.leave))
    ]
    try:
        network.eval()
        with torch.no_grad(), counter:
            output = network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
        network.train(was_training)
    return NetworkSummary(
        name=name,
        input=tuple(inputs[0].shape[1:]),
        output=tuple(_tensors(output)[0].shape[1:]),
        layers=tuple(_rows(network, watch.visits, batch)),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        flops=counter.flops // batch,
    )


def _rows(network: nn.Module, visits: Mapping[nn.Module, _Visit], batch: int) -> list[Layer]:
    paths = {module: path for path, module in network.named_modules() if not _inside_parametrization(path)}
    counted: set[nn.Parameter] = set()
    rows = []
    # Modules that the pass did not use come last, so that the rows' parameters add up to the total.
    for module in [*visits, *(module for module in paths if module not in visits)]:
        visit = visits.get(module, _Visit())
        own = set(_own_parameters(module)) - counted
        counted |= own
        leaf = all(name == _PARAMETRIZATIONS for name, _ in module.named_children())
        if (leaf and visit.calls and not isinstance(module, nn.Identity)) or own or visit.own_flops:
            rows.append(
                Layer(
                    path=paths[module],
                    type=type(module).__name__.removeprefix("Parametrized"),
                    output=visit.output,
                    parameters=sum(parameter.numel() for parameter in own),
                    flops=visit.own_flops // batch,
                    calls=visit.calls,
                )
            )
    return rows


def _own_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return a module's parameters without those of modules inside it; spectral norm's original weight is its own."""
    inside = [one for name, child in module.named_children() if name == _PARAMETRIZATIONS for one in child.parameters()]
    return [*module.parameters(recurse=False), *inside]


def _inside_parametrization(path: str) -> bool:
    return _PARAMETRIZATIONS in path.split(".")


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        return [tensor for one in output.values() for tensor in _tensors(one)]
    if isinstance(output, list | tuple):
        return [tensor for one in output for tensor in _tensors(one)]
    return []


# ---------------------------------------------------------------------------------------------------- one step


def step_flops(recipe: Recipe) -> float:
    """Return the operations of a training step for each real image that it draws, from the trainer's own step.

    A penalty that is not taken at every step counts for its share; what the optimisers do is elementwise and not
    counted.

    Args:
        recipe: resolved.
    """
    with shapes_only():
        generator, discriminator = build_generator(recipe), build_discriminator(recipe)
    # The optimisers' work is not counted, and Adam's does not run on the meta device: one that does stands in.
    stand_in = recipe.model_copy(update={"optimizer": OptimizerSection(name="rmsprop", lr=0.0)})
    step = Step(stand_in, generator, discriminator)
    batches = [_batch(recipe, part) for part in step.round.parts]
    total = 0.0
    for number, share in kinds_of_steps(recipe):
        with _Counter() as counter:
            step(number, batches)
        total += share * counter.flops
    return total / step.images


def kinds_of_steps(recipe: Recipe) -> list[tuple[int, float]]:
    """Return numbers of steps that take different penalties, each with its share of all steps; in all they are 1.

    Args:
        recipe: resolved.
    """
    everys = [section.every for section in recipe.penalty]
    # One cycle of the penalties' intervals; steps that take the same penalties cost the same.
    cycle = min(math.lcm(*everys), _LONGEST_CYCLE)
    alike: Counter[tuple[bool, ...]] = Counter()
    example: dict[tuple[bool, ...], int] = {}
    for number in range(cycle):
        taken = tuple(number % every == 0 for every in everys)
        alike[taken] += 1
        example.setdefault(taken, number)
    return [(example[taken], times / cycle) for taken, times in alike.items()]


def _batch(recipe: Recipe, part: Part) -> Batch:
    """Return what a part of the step is given, without memory."""
    meta = torch.device("meta")
    (_, reals), (_, latents) = part.reals, part.latents
    shape = (reals, recipe.data.channels, recipe.data.image_size, recipe.data.image_size)
    return Batch(
        real=torch.empty(shape, device=meta) if part.uses_pixels else None,  # (batch, C, H, W)
        label=torch.zeros(latents, dtype=torch.int64, device=meta) if recipe.data.num_classes else None,  # (batch,)
        z=torch.empty(latents, recipe.generator.latent_dim, device=meta),  # (batch, latent_dim)
        reals=Draws(0, np.arange(reals, dtype=np.int64), meta, torch.float32),
        latents=Draws(0, np.arange(latents, dtype=np.int64), meta, torch.float32),
    )
