"""How much work a training step is: operations and bytes, counted over the step that the trainer takes.

What is counted is the plain step (`train.engine = "eager"`), whatever computes it in the end: a faster way to the same
update does the same useful work, so no trick makes a rate look better than the images a second that it gives.

Operations are those that `torch.utils.flop_counter` knows: convolutions and matrix products; a multiplication with its
addition counts as two. Bytes are an estimate by one rule: every ATen operation reads each of its tensors once and
writes each of its results once. Views, and memory that is only allocated, move nothing. Caches and fused kernels move
less than that, an operation that needs scratch memory or reads its weights again for every image moves more.

Both are counted in real steps of two small batches; they are a constant and a part for each image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from ganzoo.devices import Precision
from ganzoo.randomness import Draws
from ganzoo.recipes import Recipe
from ganzoo.summary import kinds_of_steps
from ganzoo.training.beginning import torch_settings
from ganzoo.training.feeder import Batch
from ganzoo.training.networks import build_step
from ganzoo.training.rounds import Part, Round
from ganzoo.training.step import Step

_SMALL = (2, 4)  # images of each micro-batch; the smaller is the least that batch norm takes
_Tensors = dict[tuple[int, int, tuple[int, ...], tuple[int, ...]], Tensor]  # by their place in memory
_ALLOCATES = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_OVERWRITES = {"copy_", "fill_", "zero_", "normal_", "uniform_", "random_", "bernoulli_", "_foreach_copy_"}


@dataclass(frozen=True)
class Work:
    """Of one step.

    Args:
        flops: operations.
        bytes: read and written.
    """

    flops: float
    bytes: float

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.flops / self.bytes


class WorkCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up operations and bytes of what runs inside it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.bytes = 0

    @property
    def work(self) -> Work:
        """What was counted so far."""
        return Work(float(self.flops), float(self.bytes))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        out = func(*args, **given)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **given, out_val=out)
        self.bytes += moved(func, args, given, out)
        return out


def moved(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> int:
    """Return the bytes that an operation reads and writes, by the rule of this module.

    Args:
        func: the `OpOverload`.
        args, kwargs: what it was called with.
        out: what it returned.
    """
    name = func._schema.name.rpartition("::")[2]
    if name in _ALLOCATES:
        return 0
    tensors = _distinct([list(args), dict(kwargs)])
    written, unread = _written(func, args, kwargs)
    shared = {_storage(tensor) for tensor in tensors.values()}
    new = [tensor for tensor in _distinct(out).values() if _storage(tensor) not in shared]
    if not new and not written:
        return 0  # a view, or what only looks
    read = [tensor for key, tensor in tensors.items() if key not in unread]
    return sum(map(_size, (*read, *new, *written.values())))


def _written(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[_Tensors, _Tensors]:
    """Return the arguments that an operation writes to, by its schema, and those of them that it does not read."""
    overwrites = func._schema.name.rpartition("::")[2] in _OVERWRITES
    written, unread = [], []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            tensors = args[place] if place < len(args) else kwargs.get(argument.name)
            written.append(tensors)
            if overwrites or argument.is_out:
                unread.append(tensors)
    return _distinct(written), _distinct(unread)


def _distinct(value: Any) -> _Tensors:
    """Return the tensors inside a value, each place in memory once."""
    found: _Tensors = {}
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor):
            found[_storage(leaf), int(leaf.storage_offset()), tuple(leaf.shape), tuple(leaf.stride())] = leaf
    return found


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _size(tensor: Tensor) -> int:
    """Return the bytes of a tensor's elements; those that `expand` repeats count once."""
    own = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride != 0)
    return math.prod(own) * tensor.element_size()


def step_work(recipe: Recipe, precision: Precision) -> Work:
    """Return the work of one of a recipe's steps; where penalties are lazy, the mean over their cycle.

    Args:
        recipe: resolved; its batch size is what the work is for.
        precision: "fp32" or "bf16"; it decides the bytes.
    """
    with torch.random.fork_rng(devices=[]), torch_settings(recipe):
        torch.manual_seed(0)
        step = build_step(recipe, torch.device("cpu"), precision)
        few, more = (size * recipe.train.accumulate for size in _SMALL)
        unit = _unit(step.round)
        step(0, _batches(recipe, step.round, few))  # the first update makes the optimisers' state
        smaller, larger = (_mean_work(recipe, step, size) for size in (few, more))
    return Work(
        _line(few, smaller.flops, more, larger.flops, unit), _line(few, smaller.bytes, more, larger.bytes, unit)
    )


def _line(x: float, y: float, other_x: float, other_y: float, at: float) -> float:
    """Return the value of a line through two points."""
    return y + (other_y - y) * (at - x) / (other_x - x)


def _unit(round_: Round) -> int:
    """Return the largest number of images that all batches of a round are multiples of."""
    return math.gcd(*(count for part in round_.parts for count in (part.reals[1], part.latents[1])))


def _mean_work(recipe: Recipe, step: Step, size: int) -> Work:
    """Return the work of a step with small batches, where penalties are lazy the mean over their cycle."""
    batches = _batches(recipe, step.round, size)
    flops = moved_bytes = 0.0
    for number, share in kinds_of_steps(recipe):
        with WorkCounter() as counter:
            step(number, batches)
        flops += share * counter.flops
        moved_bytes += share * counter.bytes
    return Work(flops, moved_bytes)


def _batches(recipe: Recipe, round_: Round, size: int) -> list[Batch]:
    """Return batches that are as much smaller than a round's as `size` is smaller than its unit."""
    return [_batch(recipe, part, size, _unit(round_)) for part in round_.parts]


def _batch(recipe: Recipe, part: Part, size: int, unit: int) -> Batch:
    """Return what a part of the step is given: images and z of any content."""
    (_, reals), (_, latents) = ((offset, count * size // unit) for offset, count in (part.reals, part.latents))
    data, cpu = recipe.data, torch.device("cpu")
    image = torch.empty(reals, data.channels, data.image_size, data.image_size).uniform_(-1, 1)  # (batch, C, H, W)
    return Batch(
        real=image.contiguous(memory_format=torch.channels_last) if part.uses_pixels else None,
        label=torch.arange(latents) % data.num_classes if data.num_classes else None,  # (batch,)
        z=torch.randn(latents, recipe.generator.latent_dim),  # (batch, latent_dim)
        reals=Draws(0, np.arange(reals, dtype=np.int64), cpu, torch.float32),
        latents=Draws(0, np.arange(latents, dtype=np.int64), cpu, torch.float32),
    )
