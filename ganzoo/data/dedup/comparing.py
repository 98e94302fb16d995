"""Whether two images look alike: a comparison of their thumbnails that candidates of a hash have to pass.

Two conditions, both on colours from which each channel's mean is taken and whose contrast is made equal, so that
brightness, contrast and a tint do not count:

- the correlation at 16×16 pixels is high: the images show the same;
- no patch of 8×8 differs much: they do not show the same but for one thing (two faces with other mouths).

Images of little content (almost one colour) have hashes and correlations that are noise, and never pass; among them
only equal pixels make duplicates.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ganzoo.data.dedup.views import SIDE, View
from ganzoo.data.packs import Pack

Indices = npt.NDArray[np.int64]
_PLACES, _PATCHES = 16, 8
LEAST_CONTRAST = 4.0  # levels of 255: the root mean square of a thumbnail about its means, below which it is flat
_BLOCK = 2048  # pairs compared at once: some 40 MB


def contrast(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return the root mean square of images (n, H, W, 3) uint8 about the means of their channels, in levels: (n,)."""
    pixels = images.reshape(len(images), -1, images.shape[-1]).astype(np.float32)
    variance: npt.NDArray[np.float64] = pixels.var(axis=1, dtype=np.float64).mean(axis=1)
    return np.sqrt(variance)


class Comparison:
    """Compares thumbnails of a pack.

    Args:
        pack: of 32×32 images of three channels.
        seen: the views under which an image may look like another.
        correlation: from 0 to 1, the least.
        difference: in standard deviations of the image, the largest of any patch.
    """

    def __init__(self, pack: Pack, seen: list[View], correlation: float, difference: float) -> None:
        self._pack = pack
        self._views = [(_pooled(view.rows), _pooled(view.columns)) for view in seen]
        self._correlation, self._difference = correlation, difference

    def alike(self, i: Indices, j: Indices, view: int) -> npt.NDArray[np.bool_]:
        """Return, for each pair, whether image i under a view looks like image j: (pairs,).

        Args:
            i, j: (pairs,) numbers in the pack.
            view: the number of the view of image i; image j is seen whole.
        """
        parts = [
            self._compare(i[first : first + _BLOCK], j[first : first + _BLOCK], view)
            for first in range(0, len(i), _BLOCK)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)

    def alike_somehow(self, i: Indices, j: Indices) -> npt.NDArray[np.bool_]:
        """Return, for each pair, whether one of the two under any of the views looks like the other: (pairs,)."""
        found = np.zeros(len(i), dtype=np.bool_)
        for view in range(len(self._views)):
            for one, other in ((i, j), (j, i)):
                rest = np.flatnonzero(~found)
                found[rest] = self.alike(one[rest], other[rest], view)
        return found

    def _compare(self, i: Indices, j: Indices, view: int) -> npt.NDArray[np.bool_]:
        one, other = _levels(self._seen(i, view)), _levels(self._seen(j, 0))
        correlation = (one * other).mean(axis=(1, 2, 3))
        gap = _means(one) - _means(other)
        near = np.abs(gap).max(axis=(1, 2, 3)) <= self._difference
        alike: npt.NDArray[np.bool_] = (correlation >= self._correlation) & near
        return alike

    def _seen(self, indices: Indices, view: int) -> npt.NDArray[np.float32]:
        rows, columns = self._views[view]
        images = np.stack([self._pack.image(index) for index in indices.tolist()])
        seen: npt.NDArray[np.float32] = rows @ images.transpose(0, 3, 1, 2).astype(np.float32) @ columns.T
        return seen  # (pairs, 3, 16, 16)


def _pooled(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return a view's matrix followed by the mean of neighbouring pixels: (16, 32)."""
    pooled: npt.NDArray[np.float64] = matrix.reshape(_PLACES, SIDE // _PLACES, SIDE).mean(axis=1)
    return pooled.astype(np.float32)


def _levels(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return images whose channels have mean 0 and that as a whole have variance 1; flat ones become 0."""
    centred = images - images.mean(axis=(2, 3), keepdims=True)
    spread = np.sqrt(np.square(centred).mean(axis=(1, 2, 3), keepdims=True))
    levels: npt.NDArray[np.float32] = np.where(spread < 1e-3, 0, centred / np.maximum(spread, 1e-3))
    return levels


def _means(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the means of the patches: (n, 3, 8, 8)."""
    step = _PLACES // _PATCHES
    shape = (*images.shape[:2], _PATCHES, step, _PATCHES, step)
    means: npt.NDArray[np.float32] = images.reshape(shape).mean(axis=(3, 5))
    return means
