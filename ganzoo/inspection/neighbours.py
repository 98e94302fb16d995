"""Nearest training images of generated ones, in pixels or in features: has the generator learnt them by heart?

Distances are Euclidean: between pixels of 0 to 1 (of images averaged to 64×64 where they are larger), or between the
vectors of a feature extractor. Pixels find copies that did not move; features also find those that did, and what is
merely alike. In either space something is nearest, so a picture does not tell how near is near:
`ganzoo.evaluation.metrics.memorisation` compares with images that the generator cannot know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ganzoo.errors import UsageError
from ganzoo.evaluation.contract import ImageSet, Progress, silent
from ganzoo.evaluation.tables import FeatureTable, Floats, Integers
from ganzoo.pictures import grid

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from ganzoo.evaluation.metrics.memorisation import Nearness
    from ganzoo.features.contract import FeatureExtractor

PIXELS = "pixels"
"""The space of the images themselves; every other one is the name of a feature extractor."""

LARGEST_PIXELS = 64
"""Side of the largest images whose pixels are compared as they are."""

Images = npt.NDArray[np.uint8]

_PICTURE_SIDE = 1024  # pixels: small images are enlarged until the picture's longer side comes near to it
_LARGEST_SCALE = 8
_PADDING = 2
_WHITE = 255


@dataclass(frozen=True)
class NeighbourRows:
    """Images, and beside each the training images that are nearest to it.

    Attributes:
        queries: (n, H, W, C) uint8.
        neighbours: (n, k, H, W, C) uint8, the nearest first.
        indices: (n, k) int64, the neighbours' numbers in the training images.
        distances: (n, k) float32, Euclidean, in `space`.
        space: "pixels" (of 0 to 1), or a feature extractor's name.
    """

    queries: Images
    neighbours: Images
    indices: Integers
    distances: Floats
    space: str


class PixelRows:
    """Images as rows of pixels of 0 to 1, made as they are asked for: cheaper than a file of them.

    Args:
        images: any images of one size, 1 or 3 channels.
        image_size: side to which they are resized, at most 64.
    """

    def __init__(self, images: ImageSet, image_size: int) -> None:
        from ganzoo.features.pixels import Pixels

        self._images = images
        self._pixels = Pixels(image_size=image_size, channels=1 if images.channels == 1 else 3)
        self.shape = (images.count, self._pixels.dimension)

    def read(self, first: int, last: int) -> Floats:
        """Return rows `first` to `last`, exclusive."""
        return self._rows(self._images.read(max(first, 0), min(last, self.shape[0])))

    def gather(self, indices: Integers) -> Floats:
        """Return rows by number."""
        return self._rows(self._images.gather(indices))

    def _rows(self, images: torch.Tensor) -> Floats:
        rows: Floats = self._pixels.extract(images).features.numpy()
        return rows


class Space:
    """Where nearness is measured, and the training images in it.

    Args:
        training: what was trained on.
        space: "pixels", a feature extractor, or its name.
        device: where a feature extractor that is given by name runs: "auto", "cpu", "cuda" ….
        cache_dir: where the training images' features are kept; None: in ganzoo's cache.
        progress: is told how far it is.

    Attributes:
        name: "pixels", or the feature extractor's.
        training: the training images.
        base: what they are in this space.

    Raises:
        UnknownNameError: no such feature extractor; `open_extractor` and `reference_table` tell what else there is.
    """

    def __init__(
        self,
        training: ImageSet,
        space: str | FeatureExtractor = PIXELS,
        *,
        device: str = "auto",
        cache_dir: Path | None = None,
        progress: Progress = silent,
    ) -> None:
        self.training, self._progress = training, progress
        self._extractor: FeatureExtractor | None = None
        if space == PIXELS:
            self.name, self.base = PIXELS, self._pixels(training)
            return
        from ganzoo.evaluation.extraction import reference_table
        from ganzoo.features.contract import open_extractor

        self._extractor = open_extractor(space, device=device) if isinstance(space, str) else space
        self.name = self._extractor.name
        self.base = reference_table(self._extractor, training, cache_dir=cache_dir, progress=progress)

    def table(self, images: ImageSet) -> FeatureTable:
        """Return what images are in this space.

        Args:
            images: of the training images' size and channels.

        Raises:
            UsageError: they are of others.
        """
        check_alike(images, self.training)
        if self._extractor is None:
            return self._pixels(images)
        from ganzoo.evaluation.extraction import extract_all

        return extract_all(self._extractor, images, progress=self._progress)

    def neighbours(self, images: ImageSet, k: int) -> NeighbourRows:
        """Return images, and the k training images that are nearest to each, the nearest first.

        Args:
            images: all that are to be shown; they are kept in memory.
            k: at least 1.

        Raises:
            UsageError: `k` out of range, or images of another size or other channels than the training images'.
        """
        from ganzoo.evaluation.distances import nearest

        if not 1 <= k < self.training.count:
            raise UsageError(
                f"`k` (={k}) must be at least 1, and less than the {self.training.count:,} training images."
            )
        indices, distances = nearest(self.table(images), self.base, k, progress=self._progress)
        found = self.training.gather(indices.reshape(-1)).numpy()
        queries = images.read(0, images.count).numpy()
        return NeighbourRows(queries, found.reshape(*indices.shape, *found.shape[1:]), indices, distances, self.name)

    def nearness(self, images: ImageSet) -> Nearness:
        """Return how near images are to training images; see `ganzoo.evaluation.metrics.memorisation`.

        Args:
            images: drawn ones, or such that were not trained on.

        Raises:
            UsageError: fewer than three training images, or images of another size or other channels than theirs.
        """
        from ganzoo.evaluation.metrics.memorisation import nearness

        return nearness(self.table(images), self.base, self._progress)

    @staticmethod
    def _pixels(images: ImageSet) -> FeatureTable:
        return FeatureTable(PixelRows(images, min(images.image_size, LARGEST_PIXELS)))


def find_neighbours(
    images: ImageSet,
    training: ImageSet,
    *,
    space: str | FeatureExtractor = PIXELS,
    k: int = 5,
    count: int = 16,
    device: str = "auto",
    cache_dir: Path | None = None,
    progress: Progress = silent,
) -> NeighbourRows:
    """Return images, and the training images that are nearest to each.

    Args:
        images: what was generated.
        training: what was trained on.
        space: where nearness is measured: "pixels", a feature extractor, or its name.
        k: neighbours of each image, the nearest first.
        count: how many of the images, taken evenly over all; all where they are fewer.
        device, cache_dir, progress: as `Space` takes them.

    Raises:
        UsageError: `k` or `count` out of range, or images whose size or channels are not those of the training images.
        UnknownNameError: no such feature extractor.
    """
    from ganzoo.evaluation.image_sets import ChosenImages, evenly

    if count < 1:
        raise UsageError(f"`count` (={count}) must be at least 1.")
    check_alike(images, training)
    numbers = evenly(images.count, count)
    shown = images if numbers is None else ChosenImages(images, numbers, "evenly")
    return Space(training, space, device=device, cache_dir=cache_dir, progress=progress).neighbours(shown, k)


def picture(*rows: NeighbourRows) -> Images:
    """Return a picture: in each row an image, a gap, and its nearest training images from the left.

    Args:
        rows: neighbours of the same images in one space or in several, whose blocks stand beside each other.

    Returns:
        (H, W, C) uint8, on white; C is that of the images.

    Raises:
        ValueError: no rows, or rows of different images.
    """
    if not rows or any(not np.array_equal(one.queries, rows[0].queries) for one in rows):
        raise ValueError("a picture needs rows, all of the same images")
    count, height, width, _ = rows[0].queries.shape
    across = 1 + sum(one.neighbours.shape[1] for one in rows)
    scale = min(max(_PICTURE_SIDE // max(count * height, across * width), 1), _LARGEST_SCALE)
    blocks = [_block(rows[0].queries, 1, scale)]
    gap = np.full((blocks[0].shape[0], max(width * scale // 2, 4), blocks[0].shape[2]), _WHITE, dtype=np.uint8)
    for one in rows:
        k = one.neighbours.shape[1]
        blocks += [gap, _block(one.neighbours.reshape(-1, *one.queries.shape[1:]), k, scale)]
    return np.concatenate(blocks, axis=1)


def check_alike(images: ImageSet, training: ImageSet) -> None:
    """Refuse images that cannot be laid beside the training images.

    Raises:
        UsageError: another size, or grey beside colours.
    """
    one, other = ((each.image_size, each.image_size, each.channels) for each in (images, training))
    if one != other:
        shapes = ("×".join(map(str, each)) for each in (one, other))
        raise UsageError(
            "The images are {} and the training images {}.".format(*shapes),
            "Give the data in the images' size and colours.",
        )


def _block(images: Images, columns: int, scale: int) -> Images:
    block = np.asarray(grid(images, columns=columns, scale=scale, padding=_PADDING))
    return block[..., None] if block.ndim == 2 else block
