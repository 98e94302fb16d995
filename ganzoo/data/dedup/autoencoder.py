"""The DCGAN paper's search for duplicates (Radford, Metz and Chintala, arXiv 1511.06434, section 4.1.1).

"A 3072-128-3072 de-noising dropout regularized RELU autoencoder on 32×32 downsampled center-crops", whose code is
"binarized via thresholding the ReLU activation": equal codes are a semantic hash that tells duplicates in linear time.

The paper leaves open: the noise, the share of dropout, the preparation of the pixels, the optimiser, and how long it
trains. The constants below were chosen by `benchmarks/dedup.py`. Training sees a fixed number of images whatever the
number there is, drawn evenly, so that the time is a constant plus one pass over the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ganzoo.data.dedup.views import SIDE
from ganzoo.data.packs import Pack

PIXELS, CODE = SIDE * SIDE * 3, 128  # 3072-128-3072


@dataclass(frozen=True)
class AutoencoderConfig:
    """What the paper leaves open.

    Attributes:
        noise: standard deviation of the normal noise on the input, in units of the images' own.
        dropout: share of the code's units that are dropped.
        spread: standard deviation of the weights at the start. It is small, for what training does not replace of them
            stays as noise in the code, and flips bits at the least change of an image.
        learning_rate: of Adam, betas 0.9 and 0.999; it falls linearly to 0.
        batch: images a step.
        images: seen in training, with repeats; more make the code finer, so that it finds fewer copies …
        passes: … but no more than so many passes over the data.
    """

    noise: float = 0.5
    dropout: float = 0.5
    spread: float = 1e-3
    learning_rate: float = 1e-3
    batch: int = 256
    images: int = 64_000
    passes: int = 60


class Autoencoder(nn.Module):
    """Pixels to 128 numbers and back.

    Args:
        mean: (3072,) the mean image, which is subtracted.
        config: noise and dropout.
        generator: of all random numbers.
    """

    mean: torch.Tensor

    def __init__(self, mean: torch.Tensor, config: AutoencoderConfig, generator: torch.Generator) -> None:
        super().__init__()
        with torch.device("meta"):
            self.encode, self.decode = nn.Linear(PIXELS, CODE), nn.Linear(CODE, PIXELS)
        self.to_empty(device="cpu")
        self.register_buffer("mean", mean)
        self._config, self._generator = config, generator
        for layer in (self.encode, self.decode):
            nn.init.normal_(layer.weight, std=config.spread, generator=generator)
            nn.init.zeros_(layer.bias)

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of rebuilding standardised images (n, 3072) from noisy ones."""
        clean = images - self.mean
        noise = torch.randn(clean.shape, generator=self._generator) * self._config.noise
        code = torch.relu(self.encode(clean + noise))
        kept = torch.rand(code.shape, generator=self._generator) >= self._config.dropout
        rebuilt = self.decode(code * kept / (1.0 - self._config.dropout))
        return nn.functional.mse_loss(rebuilt, clean)

    @torch.no_grad()
    def codes(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the binary codes of images (n, 32, 32, 3) uint8: (n, 16) uint8, 8 bits each."""
        active = self.encode(standardised(torch.tensor(images)) - self.mean) > 0
        return np.packbits(active.numpy(), axis=1)


def train_autoencoder(
    pack: Pack, seed: int, *, config: AutoencoderConfig | None = None, report: Callable[[int, int], None] | None = None
) -> Autoencoder:
    """Return an auto-encoder that was trained on a pack's images, on the CPU.

    Args:
        pack: of 32×32 images of three channels.
        seed: of weights, batches and noise; equal seeds give the same weights on one machine.
        config: what the paper leaves open.
        report: called with (steps done, steps in all).
    """
    config = config or AutoencoderConfig()
    generator = torch.Generator().manual_seed(seed)
    count = len(pack)
    sample = np.unique(np.linspace(0, count - 1, min(count, 4096)).astype(np.int64))
    model = Autoencoder(standardised(pack.gather(sample)).mean(dim=0), config, generator)
    steps = max(1, min(config.images, config.passes * count) // config.batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for step in range(steps):
        chosen = torch.randint(count, (min(config.batch, count),), generator=generator)
        loss = model.loss(standardised(pack.gather(chosen.numpy())))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if report is not None:
            report(step + 1, steps)
    return model.eval()


def standardised(images: torch.Tensor) -> torch.Tensor:
    """Return images (n, 32, 32, 3) uint8 as (n, 3072) float32, each with mean 0 and variance 1; flat ones become 0.

    So brightness and contrast change no code.
    """
    pixels = images.reshape(len(images), -1).float()
    centred = pixels - pixels.mean(dim=1, keepdim=True)
    spread = centred.square().mean(dim=1, keepdim=True).sqrt()
    return centred / spread.clamp(min=1.0)
