"""R3GAN's family for the independent float64 account of a step (`reference.py`), from the paper's description (arXiv
2501.05441, section 4) and the definition of its resampling filter; nothing of ganzoo is imported.

Nothing is done as ganzoo does it: a grouped convolution is a sum over the shifts of its kernel, group by group;
doubling and halving are matrices, made of zeros put between pixels and a convolution with the filter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from reference import Dropper, Network
from torch import Tensor

GENERATOR: dict[str, Any] = {
    "widths": [768, 768, 768, 768],
    "blocks": 2,
    "cardinality": 96,
    "activation": "leaky_relu_0.2",
}
DISCRIMINATOR: dict[str, Any] = {**GENERATOR, "conditioning": "projection"}
FILTER = np.convolve([1, 2, 1], [1, 1]) / 8  # what resamples by two has one tap more than what blurs in place


def doubling(size: int) -> Tensor:
    """Return the (2 size, size) matrix that doubles a row of pixels: zeros put behind each, then twice the filter."""
    columns = []
    for unit in np.eye(size):
        spread = np.zeros(2 * size)
        spread[::2] = unit
        columns.append(np.convolve(np.pad(spread, (2, 1)), 2 * FILTER, mode="valid"))
    return torch.from_numpy(np.stack(columns, axis=1))


def halving(size: int) -> Tensor:
    """Return the (size / 2, size) matrix that halves a row of pixels: the filter over each pair and its neighbours."""
    columns = [np.convolve(np.pad(unit, 1), FILTER, mode="valid")[::2] for unit in np.eye(size)]
    return torch.from_numpy(np.stack(columns, axis=1))


def resampled(x: Tensor, matrix: Callable[[int], Tensor]) -> Tensor:
    """Return images with a matrix applied to their rows and columns."""
    by = matrix(x.shape[-1])
    return torch.einsum("ij,bcjk,lk->bcil", by, x, by)


def pixelwise(x: Tensor, weight: Tensor) -> Tensor:
    """Return a 1×1 convolution."""
    return torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], x)


def grouped(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Return the centred convolution with weight (out, in / groups, k, k) as a sum over the kernel's shifts."""
    around, (height, width) = weight.shape[-1] // 2, x.shape[-2:]
    canvas = x.new_zeros(*x.shape[:2], height + 2 * around, width + 2 * around)
    canvas[..., around : around + height, around : around + width] = x
    found = []
    for inputs, kernels in zip(canvas.chunk(groups, dim=1), weight.chunk(groups, dim=0), strict=True):
        total = x.new_zeros(len(x), len(kernels), height, width)
        for down in range(weight.shape[-1]):
            for right in range(weight.shape[-1]):
                shifted = inputs[..., down : down + height, right : right + width]
                total = total + torch.einsum("oi,bihw->bohw", kernels[:, :, down, right], shifted)
        found.append(total)
    return torch.cat(found, dim=1)


class R3GAN(Network):
    """What both networks are made of."""

    def of_stage(self, key: str, stage: int) -> int:
        """Return an option that is one number for all stages or has one entry for each."""
        value = self.options[key]
        return int(value if isinstance(value, int) else value[stage])

    def embedded(self, label: Tensor | None) -> Tensor:
        """Return the embedding's column of each label."""
        assert label is not None
        return self.tensors["embedding.weight"].T[label]

    def activated(self, x: Tensor, bias: str) -> Tensor:
        """Return the leaky ReLU of x + bias."""
        return self.activate(x + self.tensors[bias].reshape(-1, 1, 1))

    def blocks(self, x: Tensor, stage: int) -> Tensor:
        """Return x after the residual blocks of a stage."""
        for number in range(self.of_stage("blocks", stage)):
            name = f"stages.{stage}.blocks.{number}"
            y = self.activated(pixelwise(x, self.tensors[f"{name}.expand.weight"]), f"{name}.expand.bias")
            y = grouped(y, self.tensors[f"{name}.conv.weight"], self.of_stage("cardinality", stage))
            y = self.activated(y, f"{name}.conv.bias")
            x = x + pixelwise(y, self.tensors[f"{name}.reduce.weight"])
        return x

    def to_width(self, x: Tensor, stage: int) -> Tensor:
        """Return x with the channels of the next stage, mixed where their number changes."""
        weight = self.tensors.get(f"stages.{stage}.resample.conv.weight")
        return x if weight is None else pixelwise(x, weight)


class Generator(R3GAN):
    """z → learnt square → blocks → (doubled → blocks) … → image."""

    def __call__(self, z: Tensor, label: Tensor | None) -> Tensor:
        """Return images (n, C, H, W) of z (n, latent_dim), in training mode."""
        if self.classes:
            z = torch.cat((z, self.embedded(label)), 1)
        x = torch.einsum("bi,ci,chw->bchw", z, self.tensors["project.weight"], self.tensors["basis"])
        for stage in range(len(self.options["widths"])):
            if stage:
                x = resampled(self.to_width(x, stage), doubling)
            x = self.blocks(x, stage)
        return pixelwise(x, self.tensors["output.weight"])


class Discriminator(R3GAN):
    """Image → (blocks → halved) … → blocks → one number a channel → logit."""

    def __call__(self, image: Tensor, label: Tensor | None, drop: Dropper) -> Tensor:
        """Return logits (n,) of images (n, C, H, W); there is no dropout."""
        x = pixelwise(image, self.tensors["input.weight"])
        stages = len(self.options["widths"])
        for stage in range(stages):
            x = self.blocks(x, stage)
            if stage < stages - 1:
                x = self.to_width(resampled(x, halving), stage)
        seen = torch.einsum("bchw,chw->bc", x, self.tensors["basis.weight"][:, 0])
        out = seen @ self.tensors["output.weight"].T
        if self.classes and self.options["conditioning"] == "projection":
            return (out * self.embedded(label)).sum(1)
        return out[:, 0]
