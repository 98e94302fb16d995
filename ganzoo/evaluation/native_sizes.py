"""Images as their source holds them, before a pack makes them one size: how large they are, and grey or in colours.

Whoever judges images of others has to know: resizing changes every number, so nothing is resized unless it was asked
for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganzoo.data.images import channels_of, quiet_decoders, size_of
from ganzoo.data.sources.base import Sample, SkippedImage, Source, first_reason
from ganzoo.errors import DataError

_LOOKED_AT = 16


@dataclass(frozen=True)
class NativeShape:
    """Of one image: width and height in pixels, 1 channel or 3, and what the image is called."""

    width: int
    height: int
    channels: int
    name: str

    def __str__(self) -> str:
        return f"{self.width}×{self.height} {'grey' if self.channels == 1 else 'RGB'}"

    @property
    def is_square(self) -> bool:
        """Whether it is as wide as it is high."""
        return self.width == self.height


def shape_of_sample(sample: Sample, name: str) -> NativeShape:
    """Return the shape of an image, from its header alone.

    Args:
        sample: the image.
        name: what it is called.

    Raises:
        SkippedImage: the header cannot be read.
    """
    width, height = size_of(sample.image)
    return NativeShape(width, height, channels_of(sample.image), name)


def first_shape(source: Source) -> NativeShape:
    """Return the shape of the first image that can be read.

    Raises:
        DataError: there is none.
    """
    skipped: list[tuple[str, str]] = list(source.rejected)
    for index in range(len(source)):
        try:
            with quiet_decoders():
                return shape_of_sample(source.read(index), source.name(index))
        except (SkippedImage, OSError) as reason:
            skipped.append((source.name(index), str(reason)))
    count = len(source)
    raise DataError(
        f"None of the {count:,} images of the {source.description} can be used."
        if count
        else f"The {source.description} holds no images.",
        first_reason(skipped),
    )


def some_shapes(source: Source) -> Iterator[NativeShape]:
    """Yield the shapes of a few images, taken evenly over all, as far as they can be read."""
    for index in np.unique(np.linspace(0, len(source) - 1, min(_LOOKED_AT, len(source))).astype(np.int64)):
        try:
            with quiet_decoders():
                yield shape_of_sample(source.read(int(index)), source.name(int(index)))
        except (SkippedImage, OSError):
            continue


class EqualSource(Source):
    """A source whose images have to be alike; the first that is not, is an error when it is read.

    Args:
        source: it stays the caller's.
        shape: what each has to be.
        size, channels: whether this has to be the same.
    """

    def __init__(self, source: Source, shape: NativeShape, *, size: bool, channels: bool) -> None:
        self._source, self._shape, self._size, self._channels = source, shape, size, channels
        self.description, self.classes, self.notice = source.description, source.classes, source.notice
        self.labelled, self.labels, self.factors = source.labelled, source.labels, source.factors
        self.rejected, self.parallel = source.rejected, source.parallel

    def fingerprint(self) -> str | None:
        """Return the source's."""
        return self._source.fingerprint()

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int) -> Sample:
        """Return sample `index`.

        Raises:
            SkippedImage: it cannot be used.
            DataError: it is of another size, or grey among colours.
        """
        sample = self._source.read(index)
        self._check(sample, index)
        return sample

    def read_batch(self, indices: npt.NDArray[np.int64]) -> Sequence[Sample] | None:
        """Return several samples where the source gives them at once."""
        samples = self._source.read_batch(indices)
        for index, sample in zip(indices.tolist(), samples or (), strict=False):
            try:
                self._check(sample, index)
            except SkippedImage:  # told when it is decoded
                continue
        return samples

    def prefer(self, image_size: int) -> None:
        """Tell the source."""
        self._source.prefer(image_size)

    def name(self, index: int) -> str:
        """Return what the source calls it."""
        return self._source.name(index)

    def _check(self, sample: Sample, index: int) -> None:
        own, wanted = shape_of_sample(sample, self.name(index)), self._shape
        if self._size and (own.width, own.height) != (wanted.width, wanted.height):
            raise self._differ(own, "--image-size N cuts out the middle square of each and resizes it.")
        if self._channels and own.channels != wanted.channels:
            raise self._differ(own, "--channels 3 takes all as RGB, --channels 1 as grey.")

    def _differ(self, own: NativeShape, remedy: str) -> DataError:
        return DataError(
            f"The images of the {self.description} differ: {self._shape.name} is {self._shape}, {own.name} is {own}.",
            remedy,
        )
