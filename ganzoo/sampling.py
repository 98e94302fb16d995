"""Drawing images from seeds. A seed names one image: the same on torch and elsewhere, whatever is drawn beside it.

Element j of the z of seed s is made of random word j of Philox4x32-10 with key s and counter (j div 4, 0, 0, 0); see
`ganzoo.randomness` for the words and for how they become uniform or normal numbers. So z can be made anew in any
language.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ganzoo.errors import UsageError
from ganzoo.randomness import Stream, normals, philox, uniforms

if TYPE_CHECKING:
    from ganzoo.models import Model

_MAX_SEEDS = 100_000_000
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
        if count > _MAX_SEEDS:
            raise UsageError(f"{text!r} names over {_MAX_SEEDS:,} seeds.", "Draw them in parts.")
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
    wide = _as_seeds(seeds)[:, None]
    key = ((wide & np.uint64(0xFFFFFFFF)).astype(np.int64), (wide >> np.uint64(32)).astype(np.int64))
    block = np.arange(-(-count // 4), dtype=np.int64)[None, :]
    zero = np.zeros((len(wide), block.shape[1]), dtype=np.int64)
    four = philox(key, (block + zero, zero + int(stream), zero, zero))
    return np.stack(four, axis=-1).reshape(len(wide), block.shape[1] * 4)[:, :count]


def latents(seeds: npt.ArrayLike, latent_dim: int, prior: str) -> npt.NDArray[np.float32]:
    """Return the z of seeds: (len(seeds), latent_dim), float32.

    Args:
        seeds: (n,), whole numbers in [0, 2^64).
        latent_dim: length of z.
        prior: "uniform" on (-1, 1), or "normal".

    Raises:
        UsageError: seeds that are not such.
    """
    word = seed_words(seeds, Stream.SAMPLE, latent_dim + latent_dim % 2)
    z = 2.0 * uniforms(word) - 1.0 if prior == "uniform" else normals(word)
    return z[:, :latent_dim].astype(np.float32)


def labels_of(seeds: npt.ArrayLike, num_classes: int) -> npt.NDArray[np.int64]:
    """Return the labels of seeds where none are asked for: (len(seeds),), uniform, a function of each seed alone."""
    return (seed_words(seeds, _LABEL_STREAM, 1)[:, 0] * num_classes) >> 32


def _as_seeds(seeds: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    given = np.asarray(seeds)
    if given.shape == (0,):
        return np.empty(0, dtype=np.uint64)
    if given.dtype.kind not in "iu":  # of large and small ones together NumPy makes floats
        given = np.asarray(seeds, dtype=object)
    whole = given.dtype.kind in "iu" or all(type(one) is int for one in given.flat)
    if given.ndim != 1 or not whole or given.min() < 0 or given.max() >= 1 << 64:
        raise UsageError("Seeds are a list of whole numbers from 0 to 2^64 - 1.", "For example: seeds=range(64).")
    return given.astype(np.uint64)


class TorchSampler:
    """Draws images with a generator in torch; TF32 stays off, so that the CPU and a GPU agree.

    Args:
        model: from `ganzoo.models.load_model`.
        device: "auto", "cpu", "cuda" …

    Attributes:
        image_size, channels, num_classes, latent_dim, prior: of the model's recipe.
        device: the torch device in use.
    """

    def __init__(self, model: Model, device: str = "auto") -> None:
        from ganzoo.devices import choose_device  # imports torch, which the rest of this module does without

        recipe = model.config.recipe
        self.image_size, self.channels = recipe.data.image_size, recipe.data.channels
        self.num_classes, self.latent_dim = recipe.data.num_classes, recipe.generator.latent_dim
        self.prior = recipe.generator.prior
        self.device = choose_device(device)
        self._generator = model.generator.to(self.device)

    def sample(
        self, seeds: npt.ArrayLike, labels: npt.ArrayLike | None = None, batch_size: int = 64
    ) -> npt.NDArray[np.float32]:
        """Return the images of seeds: (n, channels, image_size, image_size), float32 in [-1, 1].

        Args:
            seeds: (n,), whole numbers in [0, 2^64).
            labels: (n,), classes of a conditional model; by default `labels_of` the seeds.
            batch_size: how many are drawn at once; it does not change the images beyond rounding.

        Raises:
            UsageError: labels out of range, of the wrong number, or for a model that knows no classes; seeds that are
                no whole numbers; `batch_size` below 1.
        """
        import torch

        from ganzoo.devices import full_float32

        if batch_size < 1:
            raise UsageError(f"`batch_size` (={batch_size}) must be at least 1.")
        z = torch.from_numpy(latents(seeds, self.latent_dim, self.prior))
        label = self._labels(seeds, labels, len(z))
        images = np.empty((len(z), self.channels, self.image_size, self.image_size), dtype=np.float32)
        with torch.inference_mode(), full_float32(self.device):
            for first in range(0, len(z), batch_size):
                part = slice(first, first + batch_size)
                inputs = [z[part].to(self.device)]
                if label is not None:
                    inputs.append(torch.from_numpy(label[part]).to(self.device))
                images[part] = self._generator(*inputs).float().cpu().numpy()
        return images

    def _labels(self, seeds: npt.ArrayLike, labels: npt.ArrayLike | None, count: int) -> npt.NDArray[np.int64] | None:
        if self.num_classes == 0:
            if labels is not None:
                raise UsageError("This model knows no classes.", "Leave the labels out.")
            return None
        if labels is None:
            return labels_of(seeds, self.num_classes)
        chosen = np.asarray(labels)
        if chosen.shape != (count,):
            raise UsageError(
                f"There are {count} seeds, but labels of shape {chosen.shape}.", "Give one label for each seed."
            )
        if count and (chosen.dtype.kind not in "iu" or chosen.min() < 0 or chosen.max() >= self.num_classes):
            raise UsageError(
                f"A label is out of range: this model knows the classes 0 to {self.num_classes - 1}, as whole numbers."
            )
        return chosen.astype(np.int64)
