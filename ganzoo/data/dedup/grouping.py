"""From pairs to groups: a union-find over the images, and the division of what it joined by what was kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
_MOST_COMPARED = 4096  # images that a kept one is compared with at once, so that time stays linear


class Groups:
    """Sets of images that are joined pair by pair; the first image of a set, by number, stands for it.

    Args:
        count: of the images, each a set of its own at first.
    """

    def __init__(self, count: int) -> None:
        self._first = np.arange(count, dtype=np.int64)

    def roots(self) -> Indices:
        """Return the first image of every image's set: (count,)."""
        while not np.array_equal(above := self._first[self._first], self._first):
            self._first = above
        return self._first

    def apart(self, i: Indices, j: Indices) -> npt.NDArray[np.bool_]:
        """Return, for each pair, whether its images are in different sets: (pairs,)."""
        apart: npt.NDArray[np.bool_] = self._first_of(i) != self._first_of(j)
        return apart

    def join(self, i: Indices, j: Indices) -> None:
        """Join the sets of each pair's images."""
        for one, other in zip(i.tolist(), j.tolist(), strict=True):
            low, high = sorted((self._root(one), self._root(other)))
            self._first[high] = low

    def members(self) -> list[Indices]:
        """Return the sets of at least two images, each in order, by their first image."""
        roots = self.roots()
        order = np.argsort(roots, kind="stable")
        starts = np.flatnonzero(np.diff(roots[order], prepend=-1))
        return [one for one in np.split(order, starts[1:]) if len(one) > 1]

    def _root(self, index: int) -> int:
        while (above := int(self._first[index])) != index:
            self._first[index] = self._first[above]
            index = above
        return index

    def _first_of(self, indices: Indices) -> Indices:
        found = self._first[indices]
        while not np.array_equal(above := self._first[found], found):
            found = above
        return found


def divide(members: Indices, alike: Callable[[Indices, Indices], npt.NDArray[np.bool_]]) -> list[Indices]:
    """Return the groups of one set so that every image of a group looks like the group's first.

    Chains do not hold together: frames of a slow pan, each like the next, do not all become one image.

    Args:
        members: (n,) numbers of images, in order.
        alike: tells for pairs of images whether they look alike.
    """
    groups = []
    rest = members
    while len(rest):
        near, far = rest[1 : 1 + _MOST_COMPARED], rest[1 + _MOST_COMPARED :]
        same = alike(np.full(len(near), rest[0]), near)
        if same.any():
            groups.append(np.concatenate([rest[:1], near[same]]))
        rest = np.concatenate([near[~same], far])
    return groups
