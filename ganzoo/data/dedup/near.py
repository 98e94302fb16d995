"""Hashes that differ in few bits, found without comparing all pairs: multi-index hashing.

Two hashes that differ in at most r bits, cut into r + k parts, agree in at least k of them. So for each choice of k
parts the hashes are sorted by these parts' bits alone, and neighbours in that order are compared. k is chosen so that
the bits of a choice can tell the images apart, so neighbours are few. Equal parts that very many hashes share (images
of little content) are bounded by a window: each is compared with those that follow it in the order of the whole
hashes, where equal and nearly equal ones stand together. Time is linear in the number of hashes, but for sorting.

The cutting into parts: Greene, Parnas and Yao, "Multi-index hashing for information retrieval", FOCS 1994; Norouzi,
Punjani and Fleet, arXiv 1307.2982.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

WINDOW = 64  # hashes that one is compared with in a sorting
_BITS = 64
_MOST_PARTS_KEPT = 4


def sortings(count: int, distance: int) -> list[int]:
    """Return the bits that the hashes are sorted by, as masks of 64 bits, one for each sorting.

    Args:
        count: of the hashes.
        distance: r, the largest number of bits that may differ.
    """
    kept = next((k for k in range(1, _MOST_PARTS_KEPT) if _BITS * k / (distance + k) >= np.log2(count + 1)), 4)
    parts = distance + kept
    bounds = [number * _BITS // parts for number in range(parts + 1)]
    masks = [(1 << end) - (1 << start) for start, end in itertools.pairwise(bounds)]
    return [sum(chosen) for chosen in itertools.combinations(masks, kept)]


def near_pairs(
    hashes: Hashes, others: Hashes | None, distance: int, *, window: int = WINDOW
) -> Iterator[tuple[Indices, Indices]]:
    """Yield pairs (i, j), i ≠ j, as two arrays, whose hashes differ in at most `distance` bits; some come repeatedly.

    All such pairs come, but where more than `window` hashes share the bits of a sorting.

    Args:
        hashes: (n,) one for each image.
        others: (n,) other hashes of the same images, such as those of their mirror images; the pairs then are those
            of hashes[i] and others[j]. None: of hashes[i] and hashes[j], in one order.
        distance: at most so many bits differ, from 0.
        window: hashes that one is compared with in a sorting.
    """
    count = len(hashes)
    every = hashes if others is None else np.concatenate([hashes, others])
    by_hash = np.argsort(every, kind="stable")
    every = every[by_hash]
    for mask in sortings(len(every), distance):
        key = every & np.uint64(mask)
        order = np.argsort(key, kind="stable")  # stable: within equal keys the hashes stay sorted
        for one, other in _neighbours(key[order], order, window):
            near = np.bitwise_count(every[one] ^ every[other]) <= distance
            i, j = by_hash[one[near]], by_hash[other[near]]
            if others is not None:
                i, j = _across(i, j, count)
            if len(i):
                yield i, j


def _neighbours(key: Hashes, order: Indices, window: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield pairs of places whose keys are equal: each with the next, each with the next but one, and so on."""
    left = np.arange(len(key) - 1)
    for step in range(1, window + 1):
        left = left[left + step < len(key)]
        left = left[key[left] == key[left + step]]
        if len(left) == 0:
            return
        yield order[left], order[left + step]


def _across(i: Indices, j: Indices, count: int) -> tuple[Indices, Indices]:
    """Return the pairs of a first hash (place below `count`) and another image's second one, as numbers of images."""
    first, second = np.minimum(i, j), np.maximum(i, j)
    wanted = (first < count) & (second >= count) & (second - count != first)
    return first[wanted], second[wanted] - count
