"""The source `stackedmnist`: three random digits of MNIST as the red, green and blue of one image, a thousand classes.

    stackedmnist                       128,000 images of MNIST's 70,000 digits, training and test
    stackedmnist:/data/mnist           of the idx files there
    stackedmnist:count=26000,seed=1

How many of the 1,000 classes a generator draws tells how much of the data it has forgotten. The number of images and of
digits is that of the protocol of Z. Lin, A. Khetan, G. Fanti, S. Oh, "PacGAN" (NeurIPS 2018), which took the data set
from L. Metz et al., "Unrolled generative adversarial networks" (ICLR 2017). Images are put together as they are read.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ganzoo.data.sources.base import ArraySource, Sample, Source
from ganzoo.data.sources.downloads import MNIST_NOTICE, mnist_test_images, mnist_training_images
from ganzoo.data.sources.idx import find_images_file, is_images_file, open_idx_file
from ganzoo.data.sources.options import parse_options, whole_number
from ganzoo.errors import DataError
from ganzoo.randomness import Stream, words

_COUNT, _MOST = 128_000, 10_000_000
_CHUNK = 1 << 16  # images whose digits are chosen at once
_OPTION = re.compile(r"\w+\s*=[^/\\]*")


def open_stacked_mnist(argument: str = "") -> StackedDigits:
    """Return stacked digits, labelled 100 a + 10 b + c with a in the red channel, b in the green, c in the blue.

    MNIST is looked for as by the source `mnist`, or fetched, its test images too.

    Args:
        argument: a path of MNIST's idx files or of their folder, options, or both, separated by commas: `count`
            (128,000) and `seed` (0). At a path, what is there is used: training images, test images, or both.

    Raises:
        UsageError: an option that there is not, or a value that it cannot have.
        DataError: there is nothing usable at the path.
        MissingDataError: MNIST is not on this machine and cannot be fetched.
    """
    pieces = argument.split(",") if argument else []
    first_option = next((n for n, piece in enumerate(pieces) if _OPTION.fullmatch(piece.strip())), len(pieces))
    place, rest = ",".join(pieces[:first_option]), ",".join(pieces[first_option:])
    readers = {"count": whole_number(1, _MOST), "seed": whole_number(0, 2**64 - 1)}
    options = parse_options("stackedmnist", rest, readers)
    if place:
        files = _files_at(Path(place).expanduser())
    else:
        training = mnist_training_images()
        files = [training, mnist_test_images(training)]
    return StackedDigits(
        [open_idx_file(file) for file in files], options.get("count", _COUNT), seed=options.get("seed", 0)
    )


class StackedDigits(Source):
    """Images of three digits, each a function of the seed and of its number.

    Args:
        parts: digits 28×28 (or of another size, all alike) with labels 0 to 9.
        count: how many images.
        seed: of the digits that are chosen, in [0, 2^64).

    Raises:
        DataError: the parts have no labels, others than 0 to 9, or images of different sizes.
    """

    parallel = True
    notice = MNIST_NOTICE
    labelled = True
    classes = tuple(f"{number:03d}" for number in range(1000))

    def __init__(self, parts: list[ArraySource], count: int, *, seed: int) -> None:
        for part in parts:
            if part.labels is None or part.labels.max() > 9 or part.images.shape[1:] != parts[0].images.shape[1:]:
                raise DataError(
                    f"The {part.description} cannot be stacked.",
                    "Digits are stacked that have labels from 0 to 9 beside them and are all of one size.",
                )
        self._digits = np.concatenate([part.images for part in parts])
        self._digit_labels = np.concatenate([part.labels for part in parts if part.labels is not None])
        self._count, self._seed = count, seed
        self.description = f"stacks of three of {len(self._digits):,} digits"
        numbers = np.arange(count, dtype=np.int64)
        self.labels = np.concatenate([self._classes(numbers[at : at + _CHUNK]) for at in range(0, count, _CHUNK)])
        self._fingerprint = f"stacked {count} {seed} {' '.join(part.fingerprint() for part in parts)}"

    def fingerprint(self) -> str:
        """Return the options, and the hashes of the digits' files."""
        return self._fingerprint

    def __len__(self) -> int:
        return self._count

    def read(self, index: int) -> Sample:
        """Return image `index` and its class."""
        (chosen,) = self._chosen(np.array([index], dtype=np.int64))
        red, green, blue = self._digit_labels[chosen].tolist()
        return Sample(np.ascontiguousarray(np.moveaxis(self._digits[chosen], 0, -1)), red * 100 + green * 10 + blue)

    def _chosen(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the numbers of three digits for each image: (batch, 3), even and independent of each other."""
        return (words(self._seed, Stream.STACKED_DIGITS, numbers, 3) * len(self._digits)) >> 32

    def _classes(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        digits = self._digit_labels[self._chosen(numbers)]
        classes: npt.NDArray[np.int64] = digits[:, 0] * 100 + digits[:, 1] * 10 + digits[:, 2]
        return classes


def _files_at(path: Path) -> list[Path]:
    """Return the images files at a path: the file itself, or the training and the test images of a folder."""
    if path.is_dir():
        first = find_images_file(path)
        if first is not None:
            test = first.with_name(first.name.replace("train", "t10k", 1))
            return [first, test] if test != first and test.is_file() else [first]
    elif path.is_file() and is_images_file(path):
        return [path]
    raise DataError(
        f"There are no idx files of images at {str(path)!r}.",
        "Give MNIST's folder, as in stackedmnist:/data/mnist, or nothing to have it found or fetched.",
    )
