"""The residual family for the independent float64 account of a step (`reference.py`); nothing of ganzoo is imported.

The order of things is the papers': a shortcut's 1×1 convolution comes after the doubling, and before the average except
in a discriminator's first block. A convolution is a sum over nine neighbours, bilinear doubling a product with a matrix
on either side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from reference import Dropper, Network
from torch import Tensor

COMMON = {"activation": "relu", "norm_eps": 1e-5, "bias": True}
GENERATOR = {**COMMON, "widths": [256] * 4, "norm": "batch", "upsample": "nearest", "conditioning": "batch_norm"}
DISCRIMINATOR = {
    **COMMON,
    "widths": [128] * 4,
    "downsample": [True, True, False, False],
    "norm": "spectral",
    "shortcut": "input",
    "pooling": "sum",
    "output_bias": True,
    "conditioning": "projection",
}


def weighted_neighbours(x: Tensor, weight: Tensor) -> Tensor:
    """Return the sum over each pixel's 3×3 neighbours, zeros beyond the edge, each through its own matrix."""
    n = x.shape[-1]
    around = F.pad(x, (1, 1, 1, 1))
    places = [(y, z) for y in range(3) for z in range(3)]
    parts = [torch.einsum("bihw,oi->bohw", around[..., y : y + n, z : z + n], weight[..., y, z]) for y, z in places]
    return torch.stack(parts).sum(0)


def doubled(x: Tensor, how: str) -> Tensor:
    """Return x at twice the size."""
    if how == "nearest":
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    n = x.shape[-1]
    matrix = torch.zeros(2 * n, n, dtype=x.dtype)
    for out in range(2 * n):
        # Each new pixel lies a quarter of the way from its own old one to that one's nearer neighbour, if it has one.
        own, neighbour = out // 2, min(max(out // 2 + (1 if out % 2 else -1), 0), n - 1)
        matrix[out, own] += 0.75
        matrix[out, neighbour] += 0.25
    return torch.einsum("yi,bcij,xj->bcyx", matrix, x, matrix)


def halved(x: Tensor) -> Tensor:
    """Return the means over 2×2."""
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


class Residual(Network):
    """What both networks are made of."""

    def convolution(self, layer: str, x: Tensor) -> Tensor:
        """Return a convolution, 3×3 or 1×1, with its bias."""
        weight = self.weight(layer)
        if weight.shape[-1] == 3:
            return self.biased(layer, weighted_neighbours(x, weight))
        return self.biased(layer, torch.einsum("bihw,oi->bohw", x, weight[..., 0, 0]))

    def normalised(self, layer: str, x: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return x after the norm that the recipe asks for, with gain and bias of each image's class if it has one."""
        if self.options["norm"] not in ("batch", "layer"):
            return x
        if self.options["norm"] == "batch":
            inside = layer if classes is None else f"{layer}.norm"
            x = self.standardised(inside, x)
        else:
            mean = x.mean((1, 2, 3), keepdim=True)
            x = (x - mean) / ((x - mean).square().mean((1, 2, 3), keepdim=True) + self.options["norm_eps"]).sqrt()
        if classes is None:
            gain, bias = self.tensors[f"{layer}.weight"], self.tensors[f"{layer}.bias"]
            return x * gain.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)
        gain, bias = classes @ self.tensors[f"{layer}.gain.weight"], classes @ self.tensors[f"{layer}.bias.weight"]
        return x * gain[..., None, None] + bias[..., None, None]

    def standardised(self, layer: str, x: Tensor) -> Tensor:
        """Return x over batch and positions with mean 0 and variance 1; keep its statistics."""
        options = self.options
        self.options = {**options, "norm_affine": False}
        out = self.batch_norm(layer, x)
        self.options = options
        return out


class Generator(Residual):
    """z → square → blocks that double → norm → activation → convolution → tanh."""

    def __call__(self, z: Tensor, label: Tensor | None) -> Tensor:
        """Return images (n, C, H, W) of z (n, latent_dim)."""
        classes = self.one_hot(label)
        by_norm = classes if self.options["conditioning"] == "batch_norm" else None
        if classes is not None and by_norm is None:
            z = torch.cat((z, classes), 1)
        blocks = len(self.options["widths"]) - 1
        side = self.size // 2**blocks
        x = self.dense("project", z).reshape(len(z), self.options["widths"][0], side, side)
        for index in range(blocks):
            block, how = f"blocks.{index}", self.options["upsample"]
            inner = self.activate(self.normalised(f"{block}.norm1", x, by_norm))
            inner = self.convolution(f"{block}.conv1", doubled(inner, how))
            inner = self.activate(self.normalised(f"{block}.norm2", inner, by_norm))
            x = self.convolution(f"{block}.shortcut", doubled(x, how)) + self.convolution(f"{block}.conv2", inner)
        return torch.tanh(self.convolution("output", self.activate(self.normalised("norm", x))))


class Discriminator(Residual):
    """Image → blocks → activation → sum or mean over positions → one logit."""

    def __call__(self, image: Tensor, label: Tensor | None, drop: Dropper) -> Tensor:
        """Return logits (n,) of images (n, C, H, W); there is no dropout in this family."""
        x = self.first_block(image)
        for index in range(1, len(self.options["widths"])):
            x = self.block(index, x)
        x = self.activate(x).sum((2, 3)) if self.options["pooling"] == "sum" else self.activate(x).mean((2, 3))
        logits = (x @ self.weight("output").T)[:, 0]
        if self.options["output_bias"]:
            logits = logits + self.tensors["output.bias"]
        classes = self.one_hot(label)
        if classes is not None and self.options["conditioning"] == "projection":
            logits = logits + ((classes @ self.weight("embedding").T) * x).sum(1)
        return logits

    def first_block(self, image: Tensor) -> Tensor:
        """Return the block that sees pixels: no norm, no activation before its first convolution."""
        inner = self.activate(self.convolution("blocks.0.conv1", image))
        inner = self.convolution("blocks.0.conv2", inner)
        if not self.options["downsample"][0]:
            return inner + self.convolution("blocks.0.shortcut", image)
        return halved(inner) + self.convolution("blocks.0.shortcut", halved(image))

    def block(self, index: int, x: Tensor) -> Tensor:
        """Return one of the other blocks."""
        name, down, widths = f"blocks.{index}", self.options["downsample"][index], self.options["widths"]
        seen = self.activate(self.normalised(f"{name}.norm1", x))
        inner = self.activate(self.normalised(f"{name}.norm2", self.convolution(f"{name}.conv1", seen)))
        inner = self.convolution(f"{name}.conv2", inner)
        beside = seen if self.options["shortcut"] == "activated" else x
        if down or widths[index] != widths[index - 1]:
            beside = self.convolution(f"{name}.shortcut", beside)
        return halved(inner) + halved(beside) if down else inner + beside
