"""Randomness as data: random numbers as a pure function of (seed, stream, index of the sample).

The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a key of two
32-bit words and a counter of four give four random 32-bit words. Here

    key     = (seed mod 2^32, seed div 2^32)
    counter = (block, stream, number mod 2^32, number div 2^32)

where `number` is the sample's number and element j of a sample comes from word j mod 4 of block j div 4. So no state is
kept: a training that goes on from a checkpoint, or runs in several processes, draws what one straight run draws.

Words become numbers in double precision, then are rounded to float32:

    uniform on (0, 1)   u = (word + 0.5) / 2^32
    standard normal     of words 2i and 2i + 1: sqrt(-2 ln u0) cos(2 pi u1), sqrt(-2 ln u0) sin(2 pi u1)

(Box and Muller 1958). Words, and what is uniform, are the same on every device, bit for bit; logarithm, sine and cosine
may differ in a double's last bit.

The sampler's z is stream 0 with the image's seed as the key and number 0 (`ganzoo.sampling.latents`); training uses the
other streams. The core works on int64 arrays of NumPy and of torch alike, and this module imports torch only where a
tensor asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW, _HALF = np.uint64(_MASK), np.uint64(32)
_FACTORS, _STEPS = (tuple(map(np.uint64, pair)) for pair in (_MULTIPLIERS, _WEYL))
_CHUNK = 1 << 16  # blocks generated at once, so that the rounds stay in the processor's cache


class Stream(IntEnum):
    """What random numbers are for. Written into checkpoints' results: never renumber. Dropout layer l uses its stream +
    l."""

    SAMPLE = 0
    LATENT = 1
    PERMUTATION = 2
    FLIP = 3
    LABEL = 4
    PENALTY = 5
    SNAPSHOT = 6
    STATISTICS = 7
    SNAPSHOT_LABEL = 8
    STATISTICS_LABEL = 9
    INITIALISATION = 10
    FOREIGN = 11  # seeds torch's own generator for layers that draw from it
    ROOMS = 12  # the factors of rendered rooms
    STACKED_DIGITS = 13  # which digits are stacked
    AUGMENTATION_REAL = 16
    AUGMENTATION_FAKE = 17
    AUGMENTATION_GENERATOR = 18  # fakes in the generator's update
    AUGMENTATION_GENERATOR_REAL = 19  # real images in the generator's update
    AUGMENTATION_PENALTY = 20
    CONSISTENCY_REAL = 24
    CONSISTENCY_FAKE = 25
    CONSISTENCY_LATENT = 26
    DROPOUT_GENERATOR = 1024
    DROPOUT_REAL = 2048
    DROPOUT_FAKE = 3072
    DROPOUT_GENERATOR_PHASE = 4096
    DROPOUT_PENALTY = 5120
    DROPOUT_REGULARIZER = 6144


def philox(key: tuple[Any, Any], counter: tuple[Any, Any, Any, Any]) -> tuple[Any, Any, Any, Any]:
    """Return the four random words of Philox4x32-10.

    Args:
        key: two 32-bit words, numbers or int64 arrays that broadcast with the counter's.
        counter: four int64 arrays (NumPy or torch, alike shapes or broadcastable) that hold 32-bit words.

    Returns:
        Four int64 arrays with values in [0, 2^32).
    """
    k0, k1 = key
    c0, c1, c2, c3 = counter
    for _ in range(_ROUNDS):
        p0 = c0 * _MULTIPLIERS[0]  # int64 products wrap; their 64 bits are those of the unsigned product
        p1 = c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def split_seed(seed: int) -> tuple[int, int]:
    """Return a seed in [0, 2^64) as Philox's key: (low word, high word)."""
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"a seed is in [0, 2^64), not {seed}")
    return seed & _MASK, seed >> 32


def words(seed: int, stream: int, numbers: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return random words for samples: (len(numbers), count), int64 in [0, 2^32).

    Args:
        seed: in [0, 2^64).
        stream: what they are for.
        numbers: (batch,) int64, the samples' numbers.
        count: words a sample.
    """
    blocks, number = -(-count // 4), np.asarray(numbers, dtype=np.int64)[:, None]
    four = np.empty((4, len(numbers), blocks), dtype=np.uint64)
    four[0] = np.arange(blocks)
    four[1] = int(stream)
    four[2] = number & _MASK
    four[3] = number >> 32
    word = np.stack(philox_in_place(split_seed(seed), four), axis=-1)
    return word.reshape(len(numbers), blocks * 4)[:, :count].view(np.int64)


def philox_in_place(key: tuple[Any, Any], counter: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], ...]:
    """Return what `philox` returns, in the memory of the counters: on large arrays twice as fast.

    Args:
        key: two 32-bit words, numbers or uint64 arrays that broadcast with the counter's.
        counter: (4, ...), 32-bit words; lost.
    """
    k0, k1 = (np.asarray(word, dtype=np.uint64) for word in key)
    c0, c1, c2, c3 = counter
    for _ in range(_ROUNDS):
        c0 *= _FACTORS[0]
        c2 *= _FACTORS[1]
        c1 ^= k0
        c1 ^= c2 >> _HALF
        c3 ^= k1
        c3 ^= c0 >> _HALF
        c0 &= _LOW
        c2 &= _LOW
        c0, c1, c2, c3 = c1, c2, c3, c0
        k0, k1 = (k0 + _STEPS[0]) & _LOW, (k1 + _STEPS[1]) & _LOW
    return c0, c1, c2, c3


def uniforms(word: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return words as numbers uniform on (0, 1), float64."""
    return (word.astype(np.float64) + 0.5) * 2.0**-32


def normals(word: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return words as standard normal numbers, float64; the last axis pairs words 2i and 2i + 1 and must be even."""
    u = uniforms(word).reshape(*word.shape[:-1], word.shape[-1] // 2, 2)
    radius, angle = np.sqrt(-2.0 * np.log(u[..., 0])), 2.0 * np.pi * u[..., 1]
    return np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1).reshape(word.shape)


def draw_uniform(seed: int, stream: int, numbers: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float64]:
    """Return numbers uniform on (0, 1) for samples: (len(numbers), count), float64; arguments as in `words`."""
    return uniforms(words(seed, stream, numbers, count))


def draw_normal(seed: int, stream: int, numbers: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float64]:
    """Return standard normal numbers for samples: (len(numbers), count), float64; arguments as in `words`."""
    return normals(words(seed, stream, numbers, count + count % 2))[:, :count]


def permutation(length: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the order of the images in one epoch: a permutation of range(length), by sorting 64-bit random keys.

    Args:
        length: number of images.
        seed: in [0, 2^64).
        epoch: from 0; every epoch has another order.
    """
    keys = np.empty(length, dtype=np.int64)
    for first in range(0, length, _CHUNK):
        index = np.arange(first, min(first + _CHUNK, length), dtype=np.uint64)
        four = np.empty((4, len(index)), dtype=np.uint64)
        four[0] = index & np.uint64(_MASK)
        four[1] = int(Stream.PERMUTATION)
        four[2] = epoch & _MASK
        four[3] = index >> np.uint64(32)
        high, low, _, _ = philox_in_place(split_seed(seed), four)
        keys[first : first + len(index)] = (high << np.uint64(32) | low).view(np.int64)
    return np.argsort(keys, kind="stable")


@dataclass(frozen=True)
class Draws:
    """Random numbers of a batch, as tensors.

    Args:
        seed: the run's seed.
        numbers: (batch,) int64, the samples' numbers: an array, from which NumPy draws on the host, or a tensor on the
            device, where the drawing is then done, so that it can be captured in a CUDA graph.
        device: where the tensors are wanted.
        dtype: of the numbers.
    """

    seed: int
    numbers: npt.NDArray[np.int64] | torch.Tensor
    device: torch.device
    dtype: torch.dtype

    def uniform(self, *shape: int, stream: int) -> torch.Tensor:
        """Return (batch, *shape) numbers uniform on (0, 1)."""
        if isinstance(self.numbers, np.ndarray):
            return self._tensor(draw_uniform(self.seed, stream, self.numbers, int(np.prod(shape))), shape)
        return self._uniforms(int(np.prod(shape)), stream).to(self.dtype).view(-1, *shape)

    def normal(self, *shape: int, stream: int) -> torch.Tensor:
        """Return (batch, *shape) standard normal numbers."""
        count = int(np.prod(shape))
        if isinstance(self.numbers, np.ndarray):
            return self._tensor(draw_normal(self.seed, stream, self.numbers, count), shape)
        import torch

        pairs = self._uniforms(count + count % 2, stream).view(len(self.numbers), -1, 2)
        radius, angle = (-2.0 * pairs[..., 0].log()).sqrt(), 2.0 * np.pi * pairs[..., 1]
        both = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).flatten(1)
        return both[:, :count].to(self.dtype).reshape(-1, *shape)

    def integers(self, high: int, *, stream: int) -> torch.Tensor:
        """Return (batch,) int64 uniform on [0, high), high < 2^31."""
        if not isinstance(self.numbers, np.ndarray):
            return (self._words(1, stream)[:, 0] * high) >> 32
        import torch

        word = words(self.seed, stream, self.numbers, 1)[:, 0]
        return torch.from_numpy((word * high) >> 32).to(self.device, non_blocking=True)

    def keep_mask(self, *shape: int, probability: float, stream: int) -> torch.Tensor:
        """Return (batch, *shape) of ones with the given probability (to the nearest 1 / 65536) and zeros, made on the
        device.

        Each word gives two elements: element j comes from the low half of word j div 2 where j is even, else from its
        high half.
        """
        import torch

        count = int(np.prod(shape))
        blocks = -(-count // 8)
        number = self.numbers
        if isinstance(number, np.ndarray):
            number = torch.from_numpy(number).to(self.device, non_blocking=True)
        threshold = round(probability * 65536)
        keep = torch.empty(len(number) * blocks, 8, device=self.device, dtype=self.dtype)
        chunk = _CHUNK if self.device.type == "cpu" else len(keep)
        for first in range(0, len(keep), chunk):
            flat = torch.arange(first, min(first + chunk, len(keep)), device=self.device)
            sample = number[flat // blocks]
            zero = torch.zeros_like(flat)
            counter = (flat % blocks, zero + int(stream), sample & _MASK, sample >> 32)
            word = torch.stack(philox(split_seed(self.seed), counter), dim=-1)
            halves = torch.stack((word & 0xFFFF, word >> 16), dim=-1).flatten(1)
            keep[first : first + chunk] = halves < threshold
        return keep.view(len(number), blocks * 8)[:, :count].reshape(len(number), *shape)

    def _uniforms(self, count: int, stream: int) -> torch.Tensor:
        """Return (batch, count) numbers uniform on (0, 1), float64, drawn on the device."""
        return (self._words(count, stream).double() + 0.5) * 2.0**-32

    def _words(self, count: int, stream: int) -> torch.Tensor:
        """Return what `words` returns, drawn on the device."""
        import torch

        assert isinstance(self.numbers, torch.Tensor)
        blocks, number = -(-count // 4), self.numbers[:, None]
        block = torch.arange(blocks, device=number.device)[None, :]
        four = philox(split_seed(self.seed), (block, int(stream), number & _MASK, number >> 32))
        return torch.stack(four, dim=-1).flatten(1)[:, :count]

    def beside(self, numbers: npt.NDArray[np.int64] | torch.Tensor) -> Draws:
        """Return the draws of these samples and, behind them, of others.

        Args:
            numbers: of the others; an array or a tensor as these are.
        """
        if isinstance(self.numbers, np.ndarray):
            return replace(self, numbers=np.concatenate((self.numbers, np.asarray(numbers))))
        import torch

        return replace(self, numbers=torch.cat((self.numbers, torch.as_tensor(numbers))))

    def _tensor(self, values: npt.NDArray[np.float64], shape: tuple[int, ...]) -> torch.Tensor:
        import torch

        tensor = torch.from_numpy(values).to(self.dtype).view(len(self.numbers), *shape)
        return tensor.to(self.device, non_blocking=True)  # the host need not wait for what the device is doing
