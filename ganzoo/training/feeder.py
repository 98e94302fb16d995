"""What a step is fed: real images, labels and z by their global numbers, as tensors on the device.

Real image number i is image `permutation(epoch)[i mod N]` of the pack, epoch = i div N: every epoch draws each image
once, in an order that is a pure function of the seed. So any step can be fed without knowing the ones before it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from ganzoo.randomness import Draws, Stream, draw_uniform, permutation
from ganzoo.recipes import Recipe
from ganzoo.training.processes import ALONE, World
from ganzoo.training.rounds import Part, Round

if TYPE_CHECKING:
    from ganzoo.data import Pack


@dataclass(frozen=True)
class Batch:
    """The inputs of one part of a step, all on the device.

    Args:
        real: (batch, C, H, W) in [-1, 1], or None where the part looks at no real images.
        label: (batch,) int64, the fakes' classes, which are the real images' too where these have labels; None for an
            unconditional recipe.
        z: (batch, latent_dim).
        reals: draws keyed by the real images' numbers.
        latents: draws keyed by the numbers of z.
    """

    real: torch.Tensor | None
    label: torch.Tensor | None
    z: torch.Tensor
    reals: Draws
    latents: Draws

    def parts(self, count: int) -> Iterator[Batch]:
        """Yield the batch in equal parts, each with the random numbers of its own samples."""
        if count == 1:
            yield self
            return
        size = len(self.z) // count
        shown = 0 if self.real is None else len(self.real) // count
        labels = torch.split(self.label, size) if self.label is not None else [None] * count
        for index in range(count):
            part = slice(index * size, (index + 1) * size)
            yield Batch(
                real=self.real[index * shown : (index + 1) * shown] if self.real is not None else None,
                label=labels[index],
                z=self.z[part],
                reals=replace(self.reals, numbers=self.reals.numbers[part]),
                latents=replace(self.latents, numbers=self.latents.numbers[part]),
            )


def normalise(images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return uint8 images (batch, H, W, C) as (batch, C, H, W) in [-1, 1], channels last in memory."""
    return images.permute(0, 3, 1, 2).to(dtype).mul_(2.0 / 255.0).sub_(1.0)


def latents_tensor(draws: Draws, latent_dim: int, prior: str, stream: int) -> torch.Tensor:
    """Return z: (batch, latent_dim), uniform on (-1, 1) or standard normal."""
    if prior == "uniform":
        return draws.uniform(latent_dim, stream=stream).mul_(2.0).sub_(1.0)
    return draws.normal(latent_dim, stream=stream)


class Feeder:
    """Feeds the steps of one run.

    Args:
        recipe: gives sizes, prior, mirror, classes and the seed.
        round_: the order of updates.
        pack: the data.
        device: where the tensors are wanted.
        dtype: of images and z.
        resident: whether the whole pack is kept on the device.
        world: the processes that train together; each is fed its share of every part.
    """

    def __init__(
        self,
        recipe: Recipe,
        round_: Round,
        pack: Pack,
        device: torch.device,
        dtype: torch.dtype,
        *,
        resident: bool,
        world: World = ALONE,
    ) -> None:
        self._recipe, self._round, self._pack, self._device, self._dtype = recipe, round_, pack, device, dtype
        self._seed, self._world = recipe.train.seed, world
        self._labels = pack.labels if recipe.data.labelled else None
        self._resident = pack.to_tensor(device) if resident else None
        # Two epochs, and safe to share: the thread that reads ahead may be in the next one already.
        self._order = functools.lru_cache(maxsize=2)(lambda epoch: permutation(len(pack), recipe.train.seed, epoch))

    def rounds(self, first_step: int, last_step: int) -> Generator[list[Batch], None, None]:
        """Yield each step's batches, one for each part of the round; closing it ends the thread that reads ahead.

        Args:
            first_step: number of the first step, from 0.
            last_step: one past the last.
        """
        steps = range(first_step, last_step)
        if self._resident is not None:
            for step in steps:
                yield [self._batch(step, part, self._gather(step, part)) for part in self._round.parts]
            return
        from ganzoo.data import Prefetcher

        parts = self._round.parts
        wanted = (self._part_indices(step, part) for step in steps for part in parts if part.uses_pixels)
        with Prefetcher(self._pack, wanted, pin_memory=self._device.type == "cuda") as images:
            for step in steps:
                yield [
                    self._batch(step, part, self._on_device(next(images)) if part.uses_pixels else None)
                    for part in parts
                ]

    def _gather(self, step: int, part: Part) -> torch.Tensor | None:
        """Return a part's images from those on the device, where it looks at them."""
        if self._resident is None or not part.uses_pixels:
            return None
        return self._resident.index_select(0, torch.from_numpy(self._part_indices(step, part)).to(self._device))

    def _on_device(self, images: torch.Tensor) -> torch.Tensor:
        return images.to(self._device, non_blocking=True)

    def _part_indices(self, step: int, part: Part) -> npt.NDArray[np.int64]:
        return self._indices(self._numbers(step * self._round.reals, part.reals))

    def _numbers(self, start: int, slice_: tuple[int, int]) -> npt.NDArray[np.int64]:
        """Return the global numbers of this process's share of a slice of a round that begins at `start`."""
        offset, count = slice_
        share = self._world.share(count)
        return np.arange(start + offset + share.start, start + offset + share.stop, dtype=np.int64)

    def _indices(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the images of the pack that real numbers stand for."""
        length = len(self._pack)
        epochs = numbers // length
        indices = np.empty_like(numbers)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1) if len(numbers) else ():
            inside = epochs == epoch
            indices[inside] = self._order(epoch)[numbers[inside] % length]
        return indices

    def _batch(self, step: int, part: Part, images: torch.Tensor | None) -> Batch:
        recipe = self._recipe
        reals = self._draws(self._numbers(step * self._round.reals, part.reals))
        latents = self._draws(self._numbers(step * self._round.latents, part.latents))
        real = None
        if images is not None:
            real = normalise(images, self._dtype)
            if recipe.data.mirror:
                flip = draw_uniform(self._seed, Stream.FLIP, reals.numbers, 1)[:, 0] < 0.5
                chosen = torch.from_numpy(flip).to(self._device)[:, None, None, None]
                real = torch.where(chosen, real.flip(3), real)
        z = latents_tensor(latents, recipe.generator.latent_dim, recipe.generator.prior, Stream.LATENT)
        return Batch(real, self._label(reals, latents), z, reals, latents)

    def _draws(self, numbers: npt.NDArray[np.int64]) -> Draws:
        return Draws(self._seed, numbers, self._device, self._dtype)

    def _label(self, reals: Draws, latents: Draws) -> torch.Tensor | None:
        """Return the labels of the part's real images; where it draws none, those of images drawn for its z.

        Labels that are no images' are drawn evenly for its z.
        """
        data = self._recipe.data
        if data.num_classes and not data.labelled:
            return latents.integers(data.num_classes, stream=Stream.LABEL)
        if self._labels is None:
            return None
        if len(reals.numbers):
            chosen = self._indices(reals.numbers)
        else:
            draws = Draws(self._seed, latents.numbers, torch.device("cpu"), self._dtype)
            chosen = draws.integers(len(self._labels), stream=Stream.LABEL).numpy()
        return torch.from_numpy(self._labels[chosen]).to(self._device)


def fixed_latents(
    recipe: Recipe, count: int, stream: Stream, label_stream: Stream, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return z and labels that stay the same through a run: for sample grids and for batch-norm statistics.

    Args:
        recipe: gives latent_dim, prior, classes and the seed.
        count: how many.
        stream: of z.
        label_stream: of labels; for `Stream.SNAPSHOT_LABEL` the classes go round in order, so that a grid shows each.
        device: where the tensors are wanted.
        dtype: of z.

    Returns:
        z (count, latent_dim), and labels (count,) or None.
    """
    draws = Draws(recipe.train.seed, np.arange(count, dtype=np.int64), device, dtype)
    z = latents_tensor(draws, recipe.generator.latent_dim, recipe.generator.prior, stream)
    classes = recipe.data.num_classes
    if not classes:
        return z, None
    if label_stream is Stream.SNAPSHOT_LABEL:
        return z, torch.arange(count, device=device) % classes
    return z, draws.integers(classes, stream=label_stream)


def in_batches(
    z: torch.Tensor, label: torch.Tensor | None, size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    """Yield z and labels in parts of at most `size`."""
    labels: Iterator[torch.Tensor | None] = itertools.repeat(None) if label is None else iter(torch.split(label, size))
    yield from zip(torch.split(z, size), labels, strict=False)
