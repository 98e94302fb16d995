"""Training of the small classifiers whose features judge images: python -m ganzoo.features train NAME.

Stochastic gradient descent with Nesterov's momentum, a triangular learning rate, smoothed labels, shifted, mirrored and
partly blanked images: the constants are those of D. Page's CIFAR-10 net ("How to train your ResNet", 2018), halved with
the batch. bf16 where the processor multiplies it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

from ganzoo.data.packs import Pack
from ganzoo.devices import autocast, choose_device, choose_precision
from ganzoo.errors import UsageError
from ganzoo.features.convnet import ConvNet


@dataclass(frozen=True)
class Training:
    """How one of the classifiers is trained.

    Attributes:
        network: arguments of `ConvNet`.
        image_size: side of the images, in pixels.
        epochs: passes over the training images while the learning rate rises and falls.
        second_epochs: passes of a second such cycle, from where the first ended (I. Loshchilov, F. Hutter, "SGDR",
            arXiv 1608.03983), in which nothing is blanked; 0 for none.
        shift: images move by up to so many pixels in either direction; what comes in is mirrored at the edge.
        mirror: whether half of the images are flipped left to right.
        blank: side of the square that is set to grey, in pixels; 0 for none.
        batch_size, learning_rate, weight_decay, label_smoothing: of the optimisation; the rate is its peak.
    """

    network: Mapping[str, Any]
    image_size: int
    epochs: int
    shift: int
    mirror: bool
    blank: int
    second_epochs: int = 0
    batch_size: int = 256
    learning_rate: float = 0.2
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1


MOMENTUM = 0.9
WARM_UP = 0.2  # of all steps, during which the learning rate rises
TRAININGS = {
    "mnist-convnet": Training(
        network={"channels": 1, "stem": 16, "widths": (32, 64, 128), "num_classes": 10},
        image_size=28,
        epochs=10,
        shift=2,
        mirror=False,
        blank=0,
    ),
    "cifar-convnet": Training(
        network={"channels": 3, "stem": 32, "widths": (64, 192, 224), "num_classes": 10, "both_sides": True},
        image_size=32,
        epochs=14,
        second_epochs=16,
        shift=4,
        mirror=True,
        blank=8,
    ),
}
"""Name of a feature extractor → how its network is trained."""


def train_classifier(
    training: Training,
    images: Pack,
    *,
    seed: int = 0,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> ConvNet:
    """Return a classifier trained on a pack, in eval mode on the CPU.

    Args:
        training: how.
        images: the labelled training images, of `training.image_size`.
        seed: of weights, order and augmentation; on a CPU the same seed, torch and threads give the same weights.
        device: "auto", "cpu", "cuda" ….
        say: is told a line an epoch.

    Raises:
        UsageError: images without labels, of other classes, size or channels, or fewer than a batch.
    """
    labels = _labels(training, images)
    place = choose_device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ConvNet(**training.network)
    network = network.to(place).to(memory_format=torch.channels_last)
    pixels = images.to_tensor("cpu")
    cycles = [training]
    if training.second_epochs:
        cycles.append(replace(training, epochs=training.second_epochs, blank=0))
    for number, cycle in enumerate(cycles):
        lead = f"cycle {number + 1}, " if len(cycles) > 1 else ""
        _train_cycle(network, cycle, pixels, labels, torch.Generator().manual_seed(seed + number), lead, say)
    network.eval().cpu()
    return network


def _train_cycle(
    network: ConvNet,
    training: Training,
    pixels: torch.Tensor,
    labels: torch.Tensor,
    generator: torch.Generator,
    lead: str,
    say: Callable[[str], None],
) -> None:
    """Train a network for `training.epochs`, with an optimiser of its own.

    Args:
        network: on the device.
        training: how.
        pixels: (N, H, W, C) uint8, on the CPU.
        labels: (N,).
        generator: of order and augmentation.
        lead: what the lines begin with.
        say: is told a line an epoch.
    """
    place = next(network.parameters()).device
    precision = choose_precision("auto", place)
    steps = training.epochs * (len(pixels) // training.batch_size)
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=training.learning_rate,
        momentum=MOMENTUM,
        weight_decay=training.weight_decay,
        nesterov=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _triangle((step + 1) / steps))
    for epoch in range(training.epochs):
        begun, total, right, seen = time.monotonic(), 0.0, 0, 0
        for picked in _batches(len(pixels), training.batch_size, generator):
            image = augment(_normalised(pixels[picked]), training, generator).to(place)
            label = labels[picked].to(place)
            with autocast(precision, place):
                _, logits = network(image.contiguous(memory_format=torch.channels_last))
            loss = functional.cross_entropy(logits.float(), label, label_smoothing=training.label_smoothing)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total, seen = total + float(loss.detach()) * len(picked), seen + len(picked)
            right += int((logits.argmax(1) == label).sum())
        rate = seen / (time.monotonic() - begun)
        say(
            f"{lead}epoch {epoch + 1} of {training.epochs}: loss {total / seen:.4f}, "
            f"{right / seen:.2%} right, {rate:,.0f} images/s"
        )


@torch.inference_mode()
def accuracy(network: ConvNet, images: Pack, batch_size: int = 500) -> float:
    """Return the share of a labelled pack's images whose class a network names, in float32.

    Args:
        network: in eval mode, on the CPU.
        images: of its size and channels.
        batch_size: images at once.

    Raises:
        UsageError: images without labels.
    """
    if images.labels is None:
        raise UsageError(f"{images.path} has no labels.", "Give images in folders by class.")
    right = 0
    for first, rows in images.chunks():
        for start in range(0, len(rows), batch_size):
            part = torch.from_numpy(rows[start : start + batch_size])
            named = network(_normalised(part))[1].argmax(1)
            right += int((named == torch.from_numpy(images.labels)[first + start :][: len(part)]).sum())
    return right / images.count


def augment(image: torch.Tensor, training: Training, generator: torch.Generator) -> torch.Tensor:
    """Return images shifted, mirrored and partly blanked, each in its own way.

    Args:
        image: (batch, channels, size, size) in [-1, 1].
        training: how far.
        generator: draws the random numbers, on the CPU.
    """
    count, size = len(image), image.shape[-1]
    reach = training.shift
    padded = functional.pad(image, (reach,) * 4, mode="reflect")
    offsets = torch.randint(0, 2 * reach + 1, (2, count, 1), generator=generator)
    line = torch.arange(size)
    rows, columns = offsets[0] + line, offsets[1] + line  # (batch, size)
    if training.mirror:
        flipped = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(flipped, columns.flip(1), columns)
    batch = torch.arange(count)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if training.blank:
        corner = torch.randint(0, size - training.blank + 1, (2, count, 1), generator=generator)
        inside = (line >= corner) & (line < corner + training.blank)  # (2, batch, size)
        moved = moved.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.0)
    return moved


def _labels(training: Training, images: Pack) -> torch.Tensor:
    size, channels, classes = training.image_size, training.network["channels"], training.network["num_classes"]
    if images.labels is None or len(images.classes) != classes:
        raise UsageError(f"{images.path} has {len(images.classes)} classes, not {classes}.")
    if (images.image_size, images.channels) != (size, channels):
        raise UsageError(f"{images.path} is not of {size}×{size}×{channels}.")
    if images.count < training.batch_size:
        raise UsageError(f"{images.path} has {images.count} images, fewer than a batch of {training.batch_size}.")
    return torch.from_numpy(images.labels)


def _batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    order = torch.randperm(count, generator=generator)
    for first in range(0, count - batch_size + 1, batch_size):
        yield order[first : first + batch_size]


def _triangle(done: float) -> float:
    return done / WARM_UP if done < WARM_UP else max(0.0, (1 - done) / (1 - WARM_UP))


def _normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Return (n, H, W, C) uint8 as (n, C, H, W) float32 in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
