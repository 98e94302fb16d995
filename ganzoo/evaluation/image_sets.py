"""Images that are judged, or that others are judged by: drawn from seeds, from packs, from arrays.

All of them keep `ganzoo.evaluation.contract.ImageSet`: they are read in parts, in constant memory, give the same bytes
however they are read, and say what a protocol has to tell of them. No paths of the machine are among that.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ganzoo.data.packs import Pack
from ganzoo.errors import DataError, UsageError
from ganzoo.seeds import as_seeds, choose_labels

if TYPE_CHECKING:
    from ganzoo.evaluation.contract import ImageSet
    from ganzoo.sampling import Sampler

Integers = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]

_BATCH_PIXELS = 64 * 128 * 128  # drawn at once: 64 images up to 128×128, fewer of larger ones
_MOST_IN_A_BATCH = 64
_LONGEST_SEEDS = 200  # characters of a protocol
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
}
_TRAINING_SETS = ("MNIST", "CIFAR-10")  # names of data that are training sets without saying so


class SampledImages:
    """Images that a sampler draws from seeds, as often as they are read; none is kept but the last batch.

    They are drawn in batches of a fixed size, counted from the first seed, and the last one is filled up. So an image
    is the same to the last bit whether it is read alone, among others, or by number.

    Args:
        sampler: draws them.
        seeds: (N,), whole numbers in [0, 2^64).
        labels: (N,) classes of a conditional model; None: each seed names its own, all equally often.
        description: of the model, a few words without paths.
        facts: what else the protocol tells of the model: recipe, step, kimg, weights, generator_sha256, runtime …
        classes: names of the model's classes; their numbers where it has none.

    Attributes:
        count, image_size, channels, labels, classes: as `ImageSet` has them.
        seeds: (N,) uint64.

    Raises:
        UsageError: no seeds; seeds or labels that cannot be.
    """

    def __init__(
        self,
        sampler: Sampler,
        seeds: npt.ArrayLike,
        labels: npt.ArrayLike | None = None,
        *,
        description: str = "model",
        facts: Mapping[str, Any] | None = None,
        classes: tuple[str, ...] = (),
    ) -> None:
        self.seeds = as_seeds(seeds)
        if not len(self.seeds):
            raise UsageError("No seeds are given, so there is nothing to draw.", "For example: seeds=range(50_000).")
        self.count = len(self.seeds)
        self.image_size, self.channels = sampler.image_size, sampler.channels
        self.labels = choose_labels(self.seeds, labels, sampler.num_classes)
        self.classes = _class_names(classes, sampler.num_classes)
        self._sampler, self._description, self._facts = sampler, description, dict(facts or {})
        self._chosen = None if self.labels is None else "of each seed, uniform" if labels is None else "given"
        self._batch_size = max(1, min(_MOST_IN_A_BATCH, _BATCH_PIXELS // self.image_size**2))
        self._last: tuple[int, Pixels] | None = None

    def read(self, first: int, last: int) -> torch.Tensor:
        """Return images `first` to `last`, exclusive: (n, H, W, C) uint8, on the CPU.

        Raises:
            WeightsError: the model draws images that hold NaN or Inf.
        """
        first, last = max(0, first), min(last, self.count)
        return self.gather(np.arange(first, max(first, last), dtype=np.int64))

    def gather(self, indices: Integers) -> torch.Tensor:
        """Return images by number: (len(indices), H, W, C) uint8, on the CPU; every batch among them is drawn once.

        Raises:
            IndexError: a number outside of the set.
            WeightsError: the model draws images that hold NaN or Inf.
        """
        wanted = _checked(indices, self.count)
        gathered = torch.empty(len(wanted), self.image_size, self.image_size, self.channels, dtype=torch.uint8)
        into = gathered.numpy()
        batches = wanted // self._batch_size
        for number in np.unique(batches):
            places = np.flatnonzero(batches == number)
            into[places] = self._batch(int(number))[wanted[places] - number * self._batch_size]
        return gathered

    def fingerprint(self) -> None:
        """Return None: devices and runtimes round differently, so that only drawing them tells what they are."""

    def to_dict(self) -> dict[str, Any]:
        """Return what a protocol tells of them."""
        return {
            "kind": "model",
            "description": self._description,
            "count": self.count,
            "image_size": self.image_size,
            "channels": self.channels,
            "seeds": seeds_text(self.seeds),
            "labels": self._chosen,
            **self._facts,
        }

    def _batch(self, number: int) -> Pixels:
        """Return a batch: (batch, H, W, C); the one read before is at hand."""
        if self._last is not None and self._last[0] == number:
            return self._last[1]
        first = number * self._batch_size
        rows = np.minimum(np.arange(first, first + self._batch_size), self.count - 1)
        labels = None if self.labels is None else self.labels[rows]
        images = self._sampler.pixels(self.seeds[rows], labels, batch_size=self._batch_size)
        self._last = number, images
        return images


class PackImages:
    """Images of a pack, all of them or some.

    Args:
        pack: it stays the caller's, who closes it.
        indices: (n,) numbers of the images that count, in order; None for all.
        description: of the source; by default what the pack's manifest tells, which is the name by which it was packed
            first.
        kind: "data" for real images, "images" for some that are judged.
        chosen: how the indices were chosen, a few words.
        facts: what else the protocol tells of them.

    Attributes:
        count, image_size, channels, labels, classes: as `ImageSet` has them.
        pack: the pack.

    Raises:
        IndexError: a number outside of the pack.
    """

    def __init__(
        self,
        pack: Pack,
        indices: Integers | None = None,
        *,
        description: str | None = None,
        kind: str = "data",
        chosen: str | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.pack, self._facts = pack, dict(facts or {})
        self._indices = None if indices is None else _checked(indices, pack.count)
        self.count = pack.count if self._indices is None else len(self._indices)
        self.image_size, self.channels, self.classes = pack.image_size, pack.channels, tuple(pack.classes)
        whole = pack.labels
        self.labels = whole if whole is None or self._indices is None else whole[self._indices]
        self._description, self._kind = description or pack.manifest.source, kind
        self._chosen = "all" if self._indices is None else chosen or f"{self.count:,} of {pack.count:,}"

    def read(self, first: int, last: int) -> torch.Tensor:
        """Return images `first` to `last`, exclusive: (n, H, W, C) uint8, on the CPU."""
        first, last = max(0, first), min(last, self.count)
        return self.gather(np.arange(first, max(first, last), dtype=np.int64))

    def gather(self, indices: Integers) -> torch.Tensor:
        """Return images by number: (len(indices), H, W, C) uint8, on the CPU.

        Raises:
            IndexError: a number outside of the set.
        """
        wanted = _checked(indices, self.count)
        return self.pack.gather(wanted if self._indices is None else self._indices[wanted])

    def fingerprint(self) -> str:
        """Return a text of the pack's content and of the numbers that were chosen."""
        chosen = "" if self._indices is None else f" {_digest(self._indices)}"
        return f"pack {self.pack.manifest.content_sha256} {self.pack.shape}{chosen}"

    def to_dict(self) -> dict[str, Any]:
        """Return what a protocol tells of them."""
        manifest = self.pack.manifest
        return {
            "kind": self._kind,
            "description": self._description,
            "split": split_of(self._description),
            "count": self.count,
            "chosen": self._chosen,
            "image_size": self.image_size,
            "channels": self.channels,
            "crop": manifest.request.get("crop"),
            "resize": manifest.request.get("resize"),
            "content_sha256": manifest.content_sha256,
            "skipped": manifest.skipped,
            "skipped_examples": [list(one) for one in manifest.skipped_examples],
            **self._facts,
        }


class ArrayImages:
    """Images that lie in memory.

    Args:
        array: (N, H, W, C) uint8, square, C of 1 or 3; a NumPy array or a tensor.
        labels: (N,) classes, or None.
        description: a few words.
        classes: names of the classes; their numbers where there are none.

    Attributes:
        count, image_size, channels, labels, classes: as `ImageSet` has them.

    Raises:
        DataError: it is no such array, or labels of another number.
    """

    def __init__(
        self,
        array: npt.ArrayLike | torch.Tensor,
        labels: npt.ArrayLike | None = None,
        *,
        description: str = "array",
        classes: tuple[str, ...] = (),
    ) -> None:
        images = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
        shape = images.shape
        fits = len(shape) == 4 and shape[0] > 0 and shape[1] == shape[2] and shape[3] in (1, 3)
        if images.dtype != np.uint8 or not fits:
            raise DataError(
                f"The {description} is of shape {shape} and type {images.dtype}.",
                "Images are N×H×W×C bytes (uint8), square, of 1 or 3 channels.",
            )
        self.labels = None if labels is None else np.asarray(labels).astype(np.int64)
        if self.labels is not None and (self.labels.shape != (len(images),) or self.labels.min() < 0):
            raise DataError(
                f"The {description} holds {len(images):,} images but labels of shape {self.labels.shape}.",
                "Labels are one whole number an image, from 0.",
            )
        self._images = np.ascontiguousarray(images)
        self.count, self.image_size, self.channels = len(images), shape[1], shape[3]
        self.classes = _class_names(classes, 0 if self.labels is None else int(self.labels.max()) + 1)
        self._description = description

    def read(self, first: int, last: int) -> torch.Tensor:
        """Return images `first` to `last`, exclusive: (n, H, W, C) uint8."""
        return torch.from_numpy(self._images[max(0, first) : max(0, last)].copy())

    def gather(self, indices: Integers) -> torch.Tensor:
        """Return images by number: (len(indices), H, W, C) uint8.

        Raises:
            IndexError: a number outside of the set.
        """
        return torch.from_numpy(self._images[_checked(indices, self.count)])

    def fingerprint(self) -> str:
        """Return the SHA-256 of shape, pixels and labels."""
        digest = hashlib.sha256(repr(self._images.shape).encode())
        digest.update(self._images.data)
        digest.update(b"" if self.labels is None else self.labels.astype("<i8").tobytes())
        return f"array {digest.hexdigest()}"

    def to_dict(self) -> dict[str, Any]:
        """Return what a protocol tells of them."""
        return {
            "kind": "array",
            "description": self._description,
            "count": self.count,
            "image_size": self.image_size,
            "channels": self.channels,
            "content_sha256": self.fingerprint().removeprefix("array "),
        }


class ChosenImages:
    """Some images of a set, those of one class say.

    Args:
        images: the whole set.
        indices: (n,) numbers of those that count, in order.
        chosen: how they were chosen, a few words.

    Attributes:
        count, image_size, channels, labels, classes: as `ImageSet` has them.

    Raises:
        IndexError: a number outside of the set.
    """

    def __init__(self, images: ImageSet, indices: Integers, chosen: str) -> None:
        self._images, self._indices, self._chosen = images, _checked(indices, images.count), chosen
        self.count = len(self._indices)
        self.image_size, self.channels, self.classes = images.image_size, images.channels, images.classes
        self.labels = None if images.labels is None else images.labels[self._indices]

    def read(self, first: int, last: int) -> torch.Tensor:
        """Return images `first` to `last`, exclusive: (n, H, W, C) uint8, on the CPU."""
        return self._images.gather(self._indices[max(0, first) : max(0, last)])

    def gather(self, indices: Integers) -> torch.Tensor:
        """Return images by number: (len(indices), H, W, C) uint8, on the CPU."""
        return self._images.gather(self._indices[_checked(indices, self.count)])

    def fingerprint(self) -> str | None:
        """Return a text of the whole set's and of the numbers that were chosen; None where that has none."""
        whole = self._images.fingerprint()
        return None if whole is None else f"{whole} {_digest(self._indices)}"

    def to_dict(self) -> dict[str, Any]:
        """Return what a protocol tells of them."""
        return self._images.to_dict() | {"count": self.count, "chosen": self._chosen}


def evenly(available: int, most: int | None) -> Integers | None:
    """Return numbers that are spread evenly over a set, for sources are sorted by class; None where all are wanted.

    Args:
        available: how many there are.
        most: how many are wanted; None for all.
    """
    if most is None or most >= available:
        return None
    return np.arange(most, dtype=np.int64) * available // most


def seeds_text(seeds: npt.NDArray[np.uint64]) -> str:
    """Return seeds as `ganzoo.seeds.parse_seeds` reads them: "0-63", "3,7,10-12"; of many that do not follow each other
    the first and a checksum.

    Args:
        seeds: (n,), at least one.
    """
    breaks = np.flatnonzero(seeds[1:] != seeds[:-1] + np.uint64(1)) + 1
    firsts, lasts = seeds[np.r_[0, breaks]], seeds[np.r_[breaks - 1, len(seeds) - 1]]
    if len(firsts) <= _LONGEST_SEEDS:
        parts = (f"{one}" if one == last else f"{one}-{last}" for one, last in zip(firsts, lasts, strict=True))
        if len(text := ",".join(parts)) <= _LONGEST_SEEDS:
            return text
    digest = hashlib.sha256(seeds.astype("<u8").tobytes()).hexdigest()
    return f"{len(seeds)} seeds, the first {seeds[0]}, sha256 {digest}"


def split_of(description: str) -> str | None:
    """Return the part of a data set that a source's description speaks of: "train", "test", "validation".

    None where it says nothing, or several: what is called train.zip is taken for the training images.

    Args:
        description: of the source.
    """
    if description in _TRAINING_SETS:
        return "train"
    words = re.findall(r"[a-z]+", description.lower())
    found = {_SPLITS[word] for word in words if word in _SPLITS}
    return found.pop() if len(found) == 1 else None


def _checked(indices: npt.ArrayLike, count: int) -> Integers:
    """Return numbers as (n,) int64.

    Raises:
        IndexError: one of them is outside of the set.
    """
    wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
    if len(wanted) and (wanted.min() < 0 or wanted.max() >= count):
        raise IndexError(f"a number is outside of the {count:,} images")
    return wanted


def _digest(indices: Integers) -> str:
    return hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()


def _class_names(names: tuple[str, ...], number: int) -> tuple[str, ...]:
    """Return a name for every class: those given, else the numbers."""
    return tuple(names[:number]) if len(names) >= number else tuple(str(one) for one in range(number))
