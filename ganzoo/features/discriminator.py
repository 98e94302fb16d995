"""A discriminator's convolutions as features, for anybody's classifier: section 5.1 of the DCGAN paper (Radford, Metz
and Chintala, arXiv 1511.06434).

    features = discriminator_features("runs/00000-dcgan-imagenet32", images)      # (N, 28672) float32
    table = extract_all(DiscriminatorFeatures(model, statistics=images), images)  # or batch by batch into a file

The activations of all convolutional layers are max-pooled to squares of 4×4, flattened and put side by side. Beforehand
the statistics of batch norm are estimated anew on the images that the classifier is trained on, as the authors' code
does: those that a training leaves behind are of the GAN's own images.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from ganzoo.devices import choose_device, full_float32
from ganzoo.errors import PluginError, UsageError
from ganzoo.features.contract import Extracted, FeatureExtractor, InputSpec
from ganzoo.features.resizing import prepare
from ganzoo.models import Model
from ganzoo.tensors import content_sha256
from ganzoo.training.ema import estimate_batch_statistics
from ganzoo.zoo import load_pretrained

POOL = 4
BATCH_SIZE = 100
STATISTICS_BATCH = 500
"""At most so many images are in a batch whose statistics enter the average."""
Told = Callable[[str, int, int], None]


def _silent(what: str, done: int, of: int) -> None:
    """Tell nobody."""


class GatheredImages(Protocol):
    """What packs and image sets have in common."""

    @property
    def count(self) -> int:
        """Number of images."""

    def gather(self, indices: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return images by number: (n, H, W, C) uint8, on the CPU."""


Images = npt.NDArray[np.uint8] | torch.Tensor | GatheredImages


class DiscriminatorFeatures(FeatureExtractor):
    """A discriminator's convolutions, pooled.

    Nothing of the model is changed: all is done on a copy of its discriminator.

    Args:
        model: a model, or what `ganzoo.load_pretrained` takes, that was published with its discriminator; images are
            resized to its size, grey ones repeated and coloured ones turned grey as it needs. Or a discriminator alone,
            which takes images as they are.
        statistics: images from which the statistics of batch norm are estimated: the plain average over batches of
            all of them; as of `discriminator_features`. None: the network's own.
        layers: names of the layers as the discriminator's `features` tells them; None: all.
        pool: side of the square to which maps are max-pooled. Where a map's side is no multiple of it, the windows
            overlap, as those of torch's adaptive pooling; smaller maps and plain vectors stay as they are.
        device: "auto", "cpu", "cuda" …
        batch_size: images at once.
        progress: is told how far the statistics are.

    Attributes:
        layers: name → shape of what a layer adds to a vector: (width, 4, 4).
        statistics_images: from how many images the statistics were estimated; 0: they are the network's own.

    Raises:
        UsageError: no discriminator, one whose features depend on a class that it must be told, layers that it does not
            have, or images that it cannot take.
        PluginError: a third party's discriminator breaks its contract.
    """

    name = "discriminator"

    def __init__(
        self,
        model: Model | nn.Module | str | os.PathLike[str],
        *,
        statistics: Images | None = None,
        layers: Sequence[str] | None = None,
        pool: int = POOL,
        device: str = "auto",
        batch_size: int = BATCH_SIZE,
        progress: Told = _silent,
    ) -> None:
        if pool < 1 or batch_size < 1:
            raise UsageError(f"`pool` (={pool}) and `batch_size` (={batch_size}) must be at least 1.")
        network, self.spec, self._labelled = _discriminator(model)
        self._device = choose_device(device)
        self._network: Any = copy.deepcopy(network).to(self._device, torch.float32).eval().requires_grad_(False)
        self._pool, self._chosen = pool, None if layers is None else tuple(layers)
        self.batch_size = batch_size
        self.statistics_images = 0
        probe = _noise(self.spec) if statistics is None else _reader(statistics)[1](0, 1)
        self._refuse_told_classes(probe)
        if statistics is not None:
            self._estimate(statistics, progress)
        self.layers = {name: tuple(values.shape[1:]) for name, values in self._pooled(probe).items()}
        self.dimension = sum(int(np.prod(shape)) for shape in self.layers.values())
        # With its layers' settings: a slope is no tensor, and kept features must not be taken for another network's.
        self.sha256 = content_sha256(
            {name: one.cpu() for name, one in self._network.state_dict().items()}, {"network": str(self._network)}
        )

    def extract(self, images: torch.Tensor) -> Extracted:
        """Return the features of a batch; see `FeatureExtractor.extract`."""
        parts = [values.flatten(1) for values in self._pooled(images).values()]
        return Extracted(torch.cat(parts, dim=1).float().cpu())

    def to_dict(self) -> dict[str, Any]:
        """Return what a protocol tells of it."""
        own = "the network's own"
        return super().to_dict() | {
            "layers": {name: list(shape) for name, shape in self.layers.items()},
            "pool": self._pool,
            "batch_statistics": f"of {self.statistics_images} images" if self.statistics_images else own,
        }

    def _pooled(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self._activations(images, 0)
        chosen = tuple(found) if self._chosen is None else self._chosen
        if unknown := [name for name in chosen if name not in found]:
            raise UsageError(f"The discriminator has no layer {unknown[0]!r}.", f"It has {', '.join(found)}.")
        if not chosen:
            raise UsageError("No layers of the discriminator are chosen.", f"It has {', '.join(found)}.")
        return {name: max_pooled(found[name], self._pool) for name in chosen}

    @torch.no_grad()
    def _activations(self, images: torch.Tensor, label: int) -> dict[str, torch.Tensor]:
        """Return name → activations of a batch; the label counts where the network wants one."""
        if not callable(getattr(self._network, "features", None)):
            raise PluginError(
                f"The discriminator {type(self._network).__name__} has no method `features`.",
                "ganzoo.testing.check_discriminator holds a class to the contract.",
            )
        with self._taking(images):
            found: dict[str, torch.Tensor] = dict(self._network.features(*self._inputs(images, label)))
        return found

    @contextmanager
    def _taking(self, images: torch.Tensor) -> Iterator[None]:
        """Tell of images that the network cannot take; within it a GPU multiplies float32 as float32."""
        try:
            with full_float32(self._device):
                yield
        except (RuntimeError, ValueError) as error:
            shape = "×".join(str(side) for side in images.shape[1:])
            raise UsageError(
                f"The discriminator cannot take images of {shape}: {str(error).splitlines()[0].rstrip('.')}.",
                "Give the model that it belongs to, so that images are resized.",
            ) from error

    def _inputs(self, images: torch.Tensor, label: int = 0) -> tuple[torch.Tensor, ...]:
        image = prepare(images.to(self._device), self.spec)
        return (image, torch.full((len(image),), label, device=self._device)) if self._labelled else (image,)

    def _refuse_told_classes(self, image: torch.Tensor) -> None:
        if not self._labelled:
            return
        one, other = (self._activations(image, label).values() for label in (0, 1))
        if not all(map(torch.equal, one, other)):
            raise UsageError(
                "This discriminator is told the class of its images, and its features depend on it.",
                'Take one that is not: no classes, or discriminator.conditioning = "projection" or "none".',
            )

    def _estimate(self, images: Images, progress: Told) -> None:
        count, read = _reader(images)
        bounds = np.linspace(0, count, -(-count // STATISTICS_BATCH) + 1).astype(int)  # batches of equal size, weight

        def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
            for first, last in itertools.pairwise(bounds):
                image, *label = self._inputs(read(int(first), int(last)))
                yield image, label[0] if label else None
                progress("batch statistics", int(last), count)

        norms = [one for one in self._network.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
        if norms:
            if count < 2:
                raise UsageError("Statistics of batch norm need at least two images.")
            with self._taking(read(0, 1)):
                estimate_batch_statistics(self._network, batches())
            self.statistics_images = count


def discriminator_features(
    model: Model | nn.Module | str | os.PathLike[str],
    images: Images,
    *,
    statistics: Images | Literal["images"] | None = "images",
    layers: Sequence[str] | None = None,
    pool: int = POOL,
    device: str = "auto",
    batch_size: int = BATCH_SIZE,
    out: npt.NDArray[np.floating] | None = None,
    progress: Told = _silent,
) -> npt.NDArray[np.floating]:
    """Return what a discriminator's convolutions make of images: (N, dimension) float32, or `out`.

    Features of several sets are comparable only with the same statistics: give the training set as `statistics` of all.

    Args:
        model, layers, pool, device, batch_size: as of `DiscriminatorFeatures`.
        images: (N, H, W, C) uint8 array or tensor, a pack, or an image set.
        statistics: of the same kinds: images from which the statistics of batch norm are estimated; "images": these;
            None: the network's own.
        out: an array of shape (N, dimension) to fill, e.g. a memory map for what does not fit into memory.
        progress: is told what is going on, how much is done, and of how much.

    Raises:
        UsageError: as `DiscriminatorFeatures`; no images; `out` of another shape.
    """
    count, read = _reader(images)
    chosen = images if isinstance(statistics, str) else statistics
    extractor = DiscriminatorFeatures(
        model, statistics=chosen, layers=layers, pool=pool, device=device, batch_size=batch_size, progress=progress
    )
    if out is None:
        out = np.empty((count, extractor.dimension), dtype=np.float32)
    if out.shape != (count, extractor.dimension):
        raise UsageError(f"`out` is of shape {out.shape}, not {(count, extractor.dimension)}.")
    for first in range(0, count, batch_size):
        batch = read(first, min(first + batch_size, count))
        filled = torch.cat([batch, batch.new_zeros(batch_size - len(batch), *batch.shape[1:])])
        out[first : first + len(batch)] = extractor.extract(filled).features[: len(batch)].numpy()
        progress("features discriminator", first + len(batch), count)
    return out


def max_pooled(values: torch.Tensor, side: int) -> torch.Tensor:
    """Return maps max-pooled to squares: (batch, width, side, side); what is smaller, or no map, as it is.

    Args:
        values: (batch, width, height, width of the map), or of fewer dimensions.
        side: of the squares, in pixels.
    """
    if values.ndim != 4:
        return values
    wanted = (min(values.shape[2], side), min(values.shape[3], side))
    return values if values.shape[2:] == wanted else functional.adaptive_max_pool2d(values, wanted)


def _discriminator(model: Model | nn.Module | str | os.PathLike[str]) -> tuple[nn.Module, InputSpec, bool]:
    """Return the network, what it does to images first, and whether it wants labels."""
    if isinstance(model, nn.Module):
        return model, InputSpec(0, 0, "none", -1.0, 1.0), bool(getattr(model, "num_classes", 0))
    if not isinstance(model, Model):
        model = load_pretrained(model)
    data = model.config.recipe.data
    if model.discriminator is None:
        raise UsageError(
            f"The model {model.config.recipe.name!r} was published without its discriminator.",
            "Take the run that it is from, or train one: every training publishes both networks.",
        )
    channels: Literal[1, 3] = 1 if data.channels == 1 else 3
    spec = InputSpec(data.image_size, channels, "bilinear", -1.0, 1.0)
    return model.discriminator, spec, bool(data.num_classes and data.labelled)


def _noise(spec: InputSpec) -> torch.Tensor:
    """Return an image of random pixels by which a network's layers are looked at: (1, H, W, C) uint8."""
    size = spec.image_size or 32
    pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, spec.channels or 3), dtype=np.uint8)
    return torch.from_numpy(pixels)


def _reader(images: Images) -> tuple[int, Callable[[int, int], torch.Tensor]]:
    """Return how many images there are, and a function that returns those from a number up to another."""
    if isinstance(images, np.ndarray | torch.Tensor):
        count = len(images) if images.ndim else 0
        whole = images

        def read(first: int, last: int) -> torch.Tensor:
            # A copy: torch warns of arrays that cannot be written, as those of packs that are mapped.
            part = whole[first:last]
            return part.cpu() if isinstance(part, torch.Tensor) else torch.from_numpy(np.array(part))

    elif hasattr(images, "gather") and hasattr(images, "count"):
        count, gather = images.count, images.gather

        def read(first: int, last: int) -> torch.Tensor:
            return gather(np.arange(first, last))

    else:
        raise UsageError(
            f"Features are made of an array, a tensor, a pack or an image set, not of a {type(images).__name__}."
        )
    if count < 1:
        raise UsageError("There are no images to compute features of.")
    return count, read
