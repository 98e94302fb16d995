"""What a step is fed: real images, labels and z by their global numbers, as tensors on the device.

Real image number i is image `permutation(epoch)[i mod N]` of the pack, epoch = i div N: every epoch draws each image
once, in an order that is a pure function of the seed. So any step can be fed without knowing the ones before it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from ganzoo.randomness import Draws, Stream
from ganzoo.recipes import Recipe
from ganzoo.training.epochs import EpochOrders
from ganzoo.training.processes import ALONE, World
from ganzoo.training.rounds import Part, Round

if TYPE_CHECKING:
    from ganzoo.data import Pack


Numbers = npt.NDArray[np.int64] | torch.Tensor


@dataclass(frozen=True)
class Given:
    """What the host says of one part of a step; the rest is computed of it on the device.

    Args:
        reals: (batch,) int64, numbers of the real images.
        latents: (batch,) int64, numbers of z.
        images: (batch,) int64, where in the pack the real images are, or (batch, H, W, C) uint8, themselves; None where
            the part looks at none.
        label: (batch,) int64, or None where none are known.
    """

    reals: Numbers
    latents: Numbers
    images: Numbers | None = None
    label: Numbers | None = None


class Parcel:
    """The whole numbers of a step's parts in one vector, so that they travel to the device at once.

    Args:
        parts: of any step; all steps' have the same lengths.

    Attributes:
        length: of the vector.
    """

    def __init__(self, parts: Sequence[Given]) -> None:
        self._places: list[dict[str, slice]] = []
        self.length = 0
        for part in parts:
            places = {}
            for name, numbers in vars(part).items():
                if numbers is not None and numbers.ndim == 1:
                    places[name] = slice(self.length, self.length + len(numbers))
                    self.length += len(numbers)
            self._places.append(places)

    def pack(self, parts: Sequence[Given], vector: npt.NDArray[np.int64]) -> None:
        """Write what the host says into a vector."""
        for part, places in zip(parts, self._places, strict=True):
            for name, place in places.items():
                vector[place] = getattr(part, name)

    def unpack(self, vector: torch.Tensor) -> list[Given]:
        """Return the parts as views of a vector."""
        return [Given(**{name: vector[place] for name, place in places.items()}) for places in self._places]


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
        draws_on_device: whether random numbers are drawn on the device rather than by NumPy; by default on CUDA.
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
        draws_on_device: bool | None = None,
    ) -> None:
        self._recipe, self._round, self._pack, self._device, self._dtype = recipe, round_, pack, device, dtype
        self._seed, self._world = recipe.train.seed, world
        self._labels = pack.labels if recipe.data.labelled else None
        self._resident = pack.to_tensor(device) if resident else None
        self._draws_on_device = device.type == "cuda" if draws_on_device is None else draws_on_device
        self._parcel: Parcel | None = None
        self._order = EpochOrders(len(pack), recipe.train.seed)

    def rounds(self, first_step: int, last_step: int) -> Generator[list[Batch], None, None]:
        """Yield each step's batches, one for each part of the round; closing it ends the thread that reads ahead.

        Args:
            first_step: number of the first step, from 0.
            last_step: one past the last.
        """
        with contextlib.closing(self.given(first_step, last_step)) as steps:
            for parts in steps:
                yield [self.batch(part) for part in (self._sent(parts) if self._draws_on_device else parts)]

    def given(self, first_step: int, last_step: int) -> Generator[list[Given], None, None]:
        """Yield what the host says of each step's parts; arguments and closing as for `rounds`."""
        steps, parts = range(first_step, last_step), self._round.parts
        if self._resident is not None:
            for step in steps:
                yield [
                    self._given(step, part, self._part_indices(step, part) if part.uses_pixels else None)
                    for part in parts
                ]
            return
        from ganzoo.data import Prefetcher

        wanted = (self._part_indices(step, part) for step in steps for part in parts if part.uses_pixels)
        with Prefetcher(self._pack, wanted, pin_memory=self._device.type == "cuda") as images:
            for step in steps:
                yield [self._given(step, part, next(images) if part.uses_pixels else None) for part in parts]

    def _given(self, step: int, part: Part, images: Numbers | None) -> Given:
        reals = self._numbers(step * self._round.reals, part.reals)
        latents = self._numbers(step * self._round.latents, part.latents)
        return Given(reals, latents, images, self._known_label(reals, latents))

    def _sent(self, parts: Sequence[Given]) -> list[Given]:
        """Return the parts with their numbers on the device."""
        self._parcel = self._parcel or Parcel(parts)
        vector = np.empty(self._parcel.length, dtype=np.int64)
        self._parcel.pack(parts, vector)
        sent = self._parcel.unpack(torch.from_numpy(vector).to(self._device, non_blocking=True))
        if self._resident is not None:
            return sent
        return [replace(one, images=part.images) for part, one in zip(parts, sent, strict=True)]

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

    def batch(self, given: Given) -> Batch:
        """Return a part's batch; of tensors on the device, nothing of it is computed elsewhere."""
        recipe = self._recipe
        reals, latents = self._draws(given.reals), self._draws(given.latents)
        real = None
        if given.images is not None:
            pixels = self._pixels(given.images)
            if recipe.data.mirror:  # as bytes, a quarter of what floats would be
                flip = reals.integers(2, stream=Stream.FLIP) == 0
                pixels = torch.where(flip[:, None, None, None], pixels.flip(2), pixels)
            real = normalise(pixels, self._dtype)
        z = latents_tensor(latents, recipe.generator.latent_dim, recipe.generator.prior, Stream.LATENT)
        return Batch(real, self._label(given, latents), z, reals, latents)

    def _pixels(self, images: Numbers) -> torch.Tensor:
        """Return images, (batch, H, W, C) uint8 on the device: themselves, or found among those that are there."""
        on_device = torch.as_tensor(images).to(self._device, non_blocking=True)
        return on_device if self._resident is None else self._resident.index_select(0, on_device)

    def _draws(self, numbers: Numbers) -> Draws:
        return Draws(self._seed, numbers, self._device, self._dtype)

    def _label(self, given: Given, latents: Draws) -> torch.Tensor | None:
        """Return the labels that are known; those that are no images' are drawn evenly for the part's z."""
        data = self._recipe.data
        if data.num_classes and not data.labelled:
            return latents.integers(data.num_classes, stream=Stream.LABEL)
        return None if given.label is None else torch.as_tensor(given.label).to(self._device)

    def _known_label(
        self, reals: npt.NDArray[np.int64], latents: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64] | None:
        """Return the labels of a part's real images; where it draws none, those of images drawn for its z."""
        if self._labels is None:
            return None
        if len(reals):
            chosen = self._indices(reals)
        else:
            draws = Draws(self._seed, latents, torch.device("cpu"), self._dtype)
            chosen = draws.integers(len(self._labels), stream=Stream.LABEL).numpy()
        label: npt.NDArray[np.int64] = self._labels[chosen]
        return label


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
