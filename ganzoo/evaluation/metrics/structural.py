"""Diversity by structural similarity: how alike two random images of a set are, by MS-SSIM.

(Z. Wang, E. Simoncelli, A. Bovik, "Multiscale structural similarity for image quality assessment", 2003; its use on
pairs of generated images: A. Odena, C. Olah, J. Shlens, "Conditional image synthesis with auxiliary classifier GANs",
2017, section 4.2.) At each scale j a Gaussian window slides over both images and gives means m, deviations s and
covariance c:

    luminance l = (2 m1 m2 + C1) / (m1² + m2² + C1)        contrast and structure cs = (2 c + C2) / (s1² + s2² + C2)
    MS-SSIM = (mean of l cs at the last scale)^w_J · product over the scales before of (mean of cs)^w_j

with C1 = (0.01 · 255)², C2 = (0.03 · 255)². A scale halves the one before it by 2×2 means, and a negative factor counts
as 0. The paper leaves the border open. As in torchmetrics, windows lie within the image, but at the last scale, of
which too little would remain: there they are centred on every pixel, and the image is reflected.

The paper's five scales with a window of 11 need 176 pixels. Smaller images get a window of 7 and as many scales as
leave the last one two windows wide: 4 from 112 pixels, 3 from 56, 2 from 28, 1 below; the weights are those of the
first scales, divided by their sum. The window's standard deviation is 1.5/11 of its width. So only numbers of one image
size can be compared, and each stands beside that of real images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from ganzoo.errors import UsageError
from ganzoo.evaluation.contract import ImageSet, Metric, Need, Progress, Subject, Value
from ganzoo.evaluation.metrics.comparing import require

PAIRS = 2000
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, the finest first; Wang et al., section 3.2
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_PIXELS = 1 << 19  # numbers of either image of the pairs that are compared at once
Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scales:
    """How an image size is looked at.

    Attributes:
        count: of scales, 1 to 5.
        window: width of the Gaussian window, odd.
    """

    count: int
    window: int

    @classmethod
    def of(cls, image_size: int) -> Scales:
        """Return the scales and window of an image size, by the rule of this module.

        Args:
            image_size: in pixels, at least 1.
        """
        if image_size >= 11 << 4:
            return cls(5, 11)
        count = 1
        while count < 4 and image_size >> count >= 14:
            count += 1
        return cls(count, min(7, image_size - (image_size + 1) % 2))

    @property
    def weights(self) -> tuple[float, ...]:
        """Exponents of the scales, the finest first; their sum is 1."""
        first = WEIGHTS[: self.count]
        return tuple(weight / sum(first) for weight in first)

    @property
    def sigma(self) -> float:
        """Standard deviation of the window, in pixels."""
        return 1.5 / 11 * self.window


def ms_ssim(one: torch.Tensor, other: torch.Tensor, scales: Scales | None = None) -> torch.Tensor:
    """Return the similarity of pairs of images: (pairs,) float32, 1 for equal ones, at least 0.

    Args:
        one, other: (pairs, C, H, H) in [0, 255]; the mean over the channels is taken.
        scales: how they are looked at; None: by their size.
    """
    scales = scales or Scales.of(one.shape[-1])
    one, other = one.float(), other.float()
    product = torch.ones(len(one))
    for number, weight in enumerate(scales.weights):
        if number:
            one, other = functional.avg_pool2d(one, 2), functional.avg_pool2d(other, 2)
        last = number == scales.count - 1
        luminance, contrast = _compare(one, other, _smoothing(one.shape[-1], scales, reflect=last))
        factor = luminance * contrast if last else contrast
        product *= factor.mean(dim=(1, 2, 3)).clamp(min=0) ** weight
    return product


def _smoothing(size: int, scales: Scales, *, reflect: bool) -> torch.Tensor:
    """Return the matrix that slides the Gaussian window along a row: (places, size); each of its rows sums to 1.

    For windows this small and images this small, a matrix product is many times faster than a convolution.

    Args:
        size: of the image.
        scales: whose window it is.
        reflect: whether windows reach over the border, where the image is reflected; else they lie within it.
    """
    radius = scales.window // 2
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets / scales.sigma) ** 2)
    centres = torch.arange(size) if reflect else torch.arange(radius, size - radius)
    columns = (centres[:, None] + offsets).abs()
    columns = torch.where(columns < size, columns, 2 * (size - 1) - columns)
    matrix = torch.zeros(len(centres), size)
    return matrix.scatter_add_(1, columns, (weights / weights.sum()).expand(len(centres), -1))


def _compare(one: torch.Tensor, other: torch.Tensor, smoothing: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the maps of l and cs at one scale: (pairs, C, places, places) each, with rows and columns exchanged."""
    stacked = torch.stack([one, other, one * one, other * other, one * other])
    smooth = (stacked @ smoothing.T).transpose(-1, -2) @ smoothing.T
    mean1, mean2, square1, square2, mixed = smooth
    product = mean1 * mean2
    squares = mean1.square() + mean2.square()
    luminance = (2 * product + _C1) / (squares + _C1)
    variances = (square1 + square2 - squares).clamp(min=0)
    return luminance, (2 * (mixed - product) + _C2) / (variances + _C2)


def random_pairs(count: int, pairs: int, seed: int) -> Pairs:
    """Return pairs of different images: (pairs, 2); where there are no more than `pairs`, each once.

    Args:
        count: of images, at least 2.
        pairs: how many.
        seed: of NumPy's RandomState.
    """
    if count * (count - 1) // 2 <= pairs:
        return np.stack(np.triu_indices(count, 1), axis=1).astype(np.int64)
    random = np.random.RandomState(seed % 2**32)
    first = random.randint(0, count, size=pairs, dtype=np.int64)
    second = random.randint(0, count - 1, size=pairs, dtype=np.int64)
    return np.stack([first, second + (second >= first)], axis=1)


def similarities(images: ImageSet, pairs: Pairs, progress: Progress | None = None) -> npt.NDArray[np.float64]:
    """Return the MS-SSIM of pairs of a set of images: (pairs,).

    Args:
        images: the set.
        pairs: (pairs, 2) numbers of its images.
        progress: is told how many pairs are done.
    """
    scales = Scales.of(images.image_size)
    found = np.empty(len(pairs))
    for first, part in _parts(pairs, max(1, _PIXELS // (images.image_size**2 * images.channels))):
        both = images.gather(part.reshape(-1)).permute(0, 3, 1, 2)
        found[first : first + len(part)] = ms_ssim(both[::2], both[1::2], scales).numpy()
        if progress is not None:
            progress("pairs of images", first + len(part), len(pairs))
    return found


def _parts(pairs: Pairs, count: int) -> Iterator[tuple[int, Pairs]]:
    for first in range(0, len(pairs), count):
        yield first, pairs[first : first + count]


class MultiScaleSimilarity(Metric):
    """Mean MS-SSIM of random pairs, beside that of pairs of real images: "ms-ssim". The lower, the more diverse.

    Above the figure of the real images, and the more so class by class, it shows a loss of modes; far below, noise.

    Args:
        pairs: how many of each side.

    Raises:
        UsageError: no pair.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    fewest: ClassVar[int] = 2
    by_class: ClassVar[bool] = True

    def __init__(self, *, pairs: int = PAIRS) -> None:
        if pairs < 1:
            raise UsageError(f"{pairs} pairs of images have no mean.", "Take at least 1.")
        self.pairs = pairs

    def measure(self, subject: Subject) -> list[Value]:
        """Return one number with its standard error, beside that of the reference where there is one.

        Raises:
            UsageError: fewer than two images, or real ones of another size.
        """
        generated = subject.generated.images
        found = self._similarities(generated, subject, "generated")
        scales = Scales.of(generated.image_size)
        protocol: dict[str, Any] = {
            "pairs": len(found),
            "seed": subject.seed,
            "scales": scales.count,
            "weights": [round(weight, 6) for weight in scales.weights],
            "window": scales.window,
            "sigma": round(scales.sigma, 6),
            "border": "within the image; reflected at the last scale",
            "image_size": generated.image_size,
            "error": "standard error over the pairs",
        }
        figure = None
        if subject.reference is not None:
            real = subject.reference.images
            _check_alike(generated, real)
            of_real = self._similarities(real, subject, "real")
            figure = float(of_real.mean())
            protocol |= {"reference_pairs": len(of_real), "reference_error": _standard_error(of_real)}
        error = _standard_error(found)
        return [Value("ms-ssim", float(found.mean()), "reference", error=error, reference=figure, protocol=protocol)]

    def _similarities(self, images: ImageSet, subject: Subject, kind: str) -> npt.NDArray[np.float64]:
        require(images.count, 2, kind)
        return similarities(images, random_pairs(images.count, self.pairs, subject.seed), subject.progress)


def _check_alike(generated: ImageSet, real: ImageSet) -> None:
    if (generated.image_size, generated.channels) != (real.image_size, real.channels):
        sizes = [f"{one.image_size}×{one.image_size}×{one.channels}" for one in (generated, real)]
        raise UsageError(
            f"MS-SSIM of {sizes[0]} images cannot be set beside that of {sizes[1]} images.",
            "Take real images of the same size and channels.",
        )


def _standard_error(found: npt.NDArray[np.float64]) -> float | None:
    return float(found.std(ddof=1) / len(found) ** 0.5) if len(found) > 1 else None
