"""What a seed stands for: its z, and its class where the model has classes, by formulas of the seed alone.

Element j of the z of seed s is made of random word j of Philox4x32-10 with key s and counter (j div 4, 0, 0, 0); see
`ganzoo.randomness` for the words and for how they become uniform or normal numbers. Truncation multiplies them by a
psi in (0, 1]. So z can be made anew in any language; docs/seeds.md says it in full.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from ganzoo.errors import UsageError
from ganzoo.randomness import Stream, normals, philox_in_place, uniforms

MAX_SEEDS = 100_000_000
_MAX_DIGITS = 20  # of 2^64
_LABEL_STREAM = Stream.LABEL


def parse_seeds(text: str) -> npt.NDArray[np.uint64]:
    """Return the seeds of a text like "0-63" or "3,7,10-12", in its order.

    Raises:
        UsageError: not such a text, a range that goes backwards, a seed of 2^64 or more, or over a hundred million
            seeds.
    """
    parts = []
    count = 0
    for part in (one.strip() for one in text.split(",")):
        match = re.fullmatch(r"([0-9]+)(?:\s*-\s*([0-9]+))?", part)
        if match is None:
            raise UsageError(
                f"{part[:80]!r} in the seeds {text[:80]!r} is neither a number nor a range.",
                "For example: 0-63 or 3,7,10-12",
            )
        if max(len(number or "") for number in match.groups()) > _MAX_DIGITS:
            raise UsageError(f"A seed of {text[:80]!r} is too large: seeds are below 2^64.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UsageError(f"The range of seeds {part} goes backwards.", f"Write {last}-{first}.")
        if last >= 1 << 64:
            raise UsageError(f"The seed {last} is too large: seeds are below 2^64.")
        count += last - first + 1
        if count > MAX_SEEDS:
            raise UsageError(f"{text!r} names over {MAX_SEEDS:,} seeds.", "Draw them in parts.")
        parts.append(np.arange(last - first + 1, dtype=np.uint64) + np.uint64(first))
    return np.concatenate(parts)


def seed_words(seeds: npt.ArrayLike, stream: int, count: int) -> npt.NDArray[np.int64]:
    """Return random words keyed by seeds: (len(seeds), count); each seed is its own key, its sample's number is 0.

    Args:
        seeds: (n,), whole numbers in [0, 2^64).
        stream: what the words are for.
        count: words a seed.

    Raises:
        UsageError: seeds that are not such.
    """
    wide, blocks = as_seeds(seeds)[:, None], -(-count // 4)
    four = np.zeros((4, len(wide), blocks), dtype=np.uint64)
    four[0], four[1] = np.arange(blocks), int(stream)
    word = np.stack(philox_in_place((wide & np.uint64(0xFFFFFFFF), wide >> np.uint64(32)), four), axis=-1)
    return word.reshape(len(wide), blocks * 4)[:, :count].view(np.int64)


def latents(
    seeds: npt.ArrayLike, latent_dim: int, prior: str, truncation: float | None = None
) -> npt.NDArray[np.float32]:
    """Return the z of seeds: (len(seeds), latent_dim), float32.

    Args:
        seeds: (n,), whole numbers in [0, 2^64).
        latent_dim: length of z.
        prior: "uniform" on (-1, 1), or "normal".
        truncation: psi in (0, 1], by which z is multiplied (in double precision, before it is rounded): z is drawn
            towards the mean of the prior, which is 0, so that images become more typical and less varied. 1 and None
            leave it as it is.

    Raises:
        UsageError: seeds or a truncation that are not such.
    """
    psi = check_truncation(truncation)
    word = seed_words(seeds, Stream.SAMPLE, latent_dim + latent_dim % 2)
    z = 2.0 * uniforms(word) - 1.0 if prior == "uniform" else normals(word)
    return (psi * z[:, :latent_dim]).astype(np.float32)


def check_truncation(truncation: float | None) -> float:
    """Return psi: 1.0 where there is no truncation.

    Raises:
        UsageError: it is no number in (0, 1].
    """
    if truncation is None:
        return 1.0
    is_number = isinstance(truncation, int | float | np.floating) and not isinstance(truncation, bool)
    if not is_number or not 0.0 < truncation <= 1.0:
        raise UsageError(
            f"`truncation` (={truncation!r}) must be a number above 0 and at most 1.", "1 is no truncation."
        )
    return float(truncation)


def labels_of(seeds: npt.ArrayLike, num_classes: int) -> npt.NDArray[np.int64]:
    """Return the labels of seeds where none are asked for: (len(seeds),), uniform, a function of each seed alone."""
    return (seed_words(seeds, _LABEL_STREAM, 1)[:, 0] * num_classes) >> 32


def as_seeds(seeds: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Return seeds as (n,) uint64.

    Raises:
        UsageError: they are not whole numbers in [0, 2^64).
    """
    given = np.asarray(seeds)
    if given.shape == (0,):
        return np.empty(0, dtype=np.uint64)
    if given.dtype.kind not in "iu":  # of large and small ones together NumPy makes floats
        given = np.asarray(seeds, dtype=object)
    whole = given.dtype.kind in "iu" or all(type(one) is int for one in given.flat)
    if given.ndim != 1 or not whole or given.min() < 0 or given.max() >= 1 << 64:
        raise UsageError("Seeds are a list of whole numbers from 0 to 2^64 - 1.", "For example: seeds=range(64).")
    return given.astype(np.uint64)


def choose_labels(
    seeds: npt.NDArray[np.uint64], labels: npt.ArrayLike | None, num_classes: int
) -> npt.NDArray[np.int64] | None:
    """Return the label of each seed: (n,), or None for a model without classes.

    Args:
        seeds: (n,).
        labels: (n,), or one for all of them; None: `labels_of` the seeds.
        num_classes: 0 for a model without classes.

    Raises:
        UsageError: labels out of range, of the wrong number, or for a model that knows no classes.
    """
    if num_classes == 0:
        if labels is not None:
            raise UsageError("This model knows no classes.", "Leave the labels out.")
        return None
    if labels is None:
        return labels_of(seeds, num_classes)
    try:
        chosen = np.asarray(labels)
    except (ValueError, TypeError):  # a ragged list
        chosen = np.empty(0, dtype=object)
    if chosen.shape not in ((), seeds.shape):
        raise UsageError(
            f"There are {len(seeds)} seeds, but labels of shape {chosen.shape}.",
            "Give one label for each seed, or one for all.",
        )
    if chosen.size and (chosen.dtype.kind not in "iu" or chosen.min() < 0 or chosen.max() >= num_classes):
        raise UsageError(
            f"A label is out of range: this model knows the classes 0 to {num_classes - 1}, as whole numbers."
        )
    return np.array(np.broadcast_to(chosen.astype(np.int64), seeds.shape))
