"""Drawing many images batch by batch, by one process or by several in turns, in constant memory.

Batch b is drawn by process b mod the number of processes, in the very composition in which one process draws it: so
the images are the same to the last bit wherever the arithmetic is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ganzoo.sampling import Sampler
    from ganzoo.training.processes import World

Pixels = npt.NDArray[np.uint8]
Seeds = npt.NDArray[np.uint64]
Labels = npt.NDArray[np.int64]


def draw_batches(
    sampler: Sampler,
    seeds: Seeds,
    labels: Labels | None,
    world: World | None = None,
    *,
    truncation: float | None = None,
    batch_size: int = 64,
    gathered: bool = True,
) -> Iterator[tuple[int, Pixels, Seeds, Labels | None]]:
    """Yield batches of images as (number of the first image, images, seeds, labels).

    Every process has to run through all that it is given, for the others wait for it.

    Args:
        sampler: of the same model in every process.
        seeds: (n,) of all images.
        labels: (n,) of all images, or None.
        world: the processes; None: this one is alone.
        truncation: as `Sampler.pixels`.
        batch_size: images drawn at once.
        gathered: whether the first process is given all batches, in the order of the seeds, and the others none; else
            each is given what it draws.

    Raises:
        GanzooError: as `Sampler.pixels`; or another process ended before its time.
    """
    rank, size = (world.rank, world.size) if world is not None else (0, 1)
    for number, first in enumerate(range(0, len(seeds), batch_size)):
        part = slice(first, first + batch_size)
        of_part = None if labels is None else labels[part]
        drawer = number % size
        if drawer == rank:
            images = sampler.pixels(seeds[part], of_part, truncation=truncation, batch_size=batch_size)
            if gathered and world is not None and rank:
                _send(world, images)
                continue
        elif gathered and world is not None and not rank:
            shape = (len(seeds[part]), sampler.image_size, sampler.image_size, sampler.channels)
            images = _receive(world, shape, drawer)
        else:
            continue
        yield first, images, seeds[part], of_part


def _send(world: World, images: Pixels) -> None:
    import torch

    world.send(torch.from_numpy(np.ascontiguousarray(images)))


def _receive(world: World, shape: tuple[int, ...], rank: int) -> Pixels:
    import torch

    images: Pixels = np.empty(shape, dtype=np.uint8)
    world.receive(torch.from_numpy(images), rank)
    return images
