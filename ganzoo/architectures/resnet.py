"""The residual family: the ResNets of WGAN-GP (Gulrajani et al., arXiv 1704.00028, appendix F) and of SNGAN (Miyato et
al., arXiv 1802.05957, tables 4 to 6), and what followed them: class-conditional ones with conditional batch norm and
projection (Miyato and Koyama, arXiv 1802.05637), and torch-mimicry's DCGAN, SNGAN, SSGAN and WGAN-GP nets at 32 to 128.

A generator's block normalises, rectifies and doubles before its convolutions; a discriminator's rectifies before its
convolutions and halves by an average after them; beside each runs a shortcut, a 1×1 convolution where it must change
its width or size. The first block of a discriminator sees pixels and has no activation before its first convolution.
With the defaults these are SNGAN's nets for CIFAR-10: 4.28M and 1.05M parameters.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from ganzoo.architectures.layers import (
    Activation,
    ConditionalBatchNorm2d,
    ResidualInitialisation,
    Widths,
    activation_slope,
    add_spectral_norm,
    concat_classes,
    initialise,
    make_activation,
    one_hot,
)

Upsampling = Literal["nearest", "bilinear"]


def smallest_size(image_size: int, steps: int, blocks: str) -> int:
    """Return the side that is left after an image has been halved so many times.

    Args:
        image_size: the image's side.
        steps: how many blocks halve or double it.
        blocks: what they are called in the message.

    Raises:
        ValueError: the image's side cannot be halved that often.
    """
    factor = 1 << steps
    if image_size % factor:
        below = image_size // factor * factor
        sizes = f"image_size {below} or {below + factor}" if below else f"image_size {factor}"
        fitting = (image_size & -image_size).bit_length() - 1  # how often 2 divides it
        fewer = f", or at most {fitting} such {'blocks' if fitting > 1 else 'block'}" if fitting else ""
        raise ValueError(
            f"image_size (={image_size}) cannot be reached: {steps} {blocks} make it a multiple of {factor}; "
            f"use {sizes}{fewer}"
        )
    return image_size // factor


def _initialise(network: nn.Module, init: str, slope: float) -> None:
    if init != "glorot_residual":
        initialise(network, init, slope)
        return
    initialise(network, "glorot_uniform")
    with torch.no_grad():
        for block in network.modules():
            if isinstance(block, _UpBlock | _DownBlock):
                block.conv1.weight.mul_(math.sqrt(2.0))
                block.conv2.weight.mul_(math.sqrt(2.0))


class _UpBlock(nn.Module):
    """A generator's block: (batch, in, n, n) → (batch, out, 2n, 2n).

    norm → activation → doubling → conv 3×3 → norm → activation → conv 3×3, beside a 1×1 convolution and doubling.
    """

    def __init__(
        self, width_in: int, width: int, *, norm: str, num_classes: int, eps: float, activation: str, upsample: str
    ) -> None:
        super().__init__()
        self.upsample = upsample
        self.norm1 = _make_norm(norm, width_in, num_classes, eps)
        self.activation1 = make_activation(activation)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.norm2 = _make_norm(norm, width, num_classes, eps)
        self.activation2 = make_activation(activation)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(width_in, width, 1)

    def _double(self, x: torch.Tensor) -> torch.Tensor:
        if self.upsample == "bilinear":
            return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return F.interpolate(x, scale_factor=2.0, mode="nearest")

    def forward(self, x: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
        out = self.activation1(_normalise(self.norm1, x, label))
        out = self.conv1(self._double(out))
        out = self.conv2(self.activation2(_normalise(self.norm2, out, label)))
        # The papers double first; a 1×1 convolution commutes with it, and is a quarter of the work before.
        doubled: torch.Tensor = out + self._double(self.shortcut(x))
        return doubled


class _DownBlock(nn.Module):
    """A discriminator's block: (batch, in, n, n) → (batch, out, n, n), or half of n.

    norm → activation → conv 3×3 → norm → activation → conv 3×3 → average over 2×2, beside a shortcut that is the
    identity, or an average and a 1×1 convolution. The first block of a network has no norm, nor an activation before
    its first convolution.
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        *,
        first: bool,
        downsample: bool,
        norm: str,
        eps: float,
        activation: str,
        shortcut: str,
    ) -> None:
        super().__init__()
        self.downsample = downsample
        self.activated_shortcut = shortcut == "activated"
        hidden = width if first else width_in
        self.norm1 = nn.Identity() if first else _make_norm(norm, width_in, 0, eps)
        self.activation1 = nn.Identity() if first else make_activation(activation)
        self.conv1 = nn.Conv2d(width_in, hidden, 3, padding=1)
        self.norm2 = nn.Identity() if first else _make_norm(norm, hidden, 0, eps)
        self.activation2 = make_activation(activation)
        self.conv2 = nn.Conv2d(hidden, width, 3, padding=1)
        changes = first or downsample or width_in != width
        self.shortcut = nn.Conv2d(width_in, width, 1) if changes else nn.Identity()

    def _halve(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 2) if self.downsample else x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.activation1(self.norm1(x))
        out = self.conv2(self.activation2(self.norm2(self.conv1(activated))))
        # Some of the papers' code averages after the 1×1 convolution; the two commute, and this is a quarter of the
        # work.
        beside = self.shortcut(self._halve(activated if self.activated_shortcut else x))
        halved: torch.Tensor = self._halve(out) + beside
        return halved


class _Pool(nn.Module):
    """Sum or mean over positions: (batch, width, n, n) → (batch, width)."""

    def __init__(self, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=(2, 3)) if self.pooling == "sum" else x.mean(dim=(2, 3))


def _make_norm(norm: str, width: int, num_classes: int, eps: float) -> nn.Module:
    if norm == "batch":
        return ConditionalBatchNorm2d(width, num_classes, eps) if num_classes else nn.BatchNorm2d(width, eps=eps)
    if norm == "layer":  # over channels and positions of an image, with gain and bias per channel: one group
        return nn.GroupNorm(1, width, eps=eps)
    return nn.Identity()


def _normalise(norm: nn.Module, x: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
    normalised: torch.Tensor = norm(x, label) if isinstance(norm, ConditionalBatchNorm2d) else norm(x)
    return normalised


class ResNetGenerator(nn.Module):
    """Generator of the residual family.

    Layers: z → projection to `widths[0]` × n × n → one block for each further entry of `widths`, each doubling the side
    → norm → activation → 3×3 convolution → tanh. All layers have biases.

    Args:
        image_size: side of the square image in pixels: n · 2^blocks.
        channels: of the image.
        latent_dim: length of z.
        num_classes: 0 for none.
        widths: channels of the projection, then of each block's output.
        upsample: how a block doubles: "nearest" (the papers), or "bilinear" (torch-mimicry).
        activation: "relu" or "leaky_relu_SLOPE".
        norm: "batch" or "none".
        norm_eps: added to the variance.
        conditioning: how classes enter: "batch_norm": every block's norms have a gain and bias for each class (the norm
            after the last block has one for all); "concat": the one-hot class is appended to z.
        init: "glorot_residual" (the papers'), or one of `ganzoo.architectures.layers.initialise`.

    Raises:
        ValueError: an image size that the blocks cannot reach, classes that would enter by a norm that is not there.
    """

    capturable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        latent_dim: int,
        num_classes: int = 0,
        widths: Widths = (256, 256, 256, 256),
        upsample: Upsampling = "nearest",
        activation: Activation = "relu",
        norm: Literal["batch", "none"] = "batch",
        norm_eps: Annotated[float, Field(gt=0)] = 1e-5,
        conditioning: Literal["batch_norm", "concat"] = "batch_norm",
        init: ResidualInitialisation = "glorot_residual",
    ) -> None:
        super().__init__()
        size = smallest_size(image_size, len(widths) - 1, "blocks that double")
        by_norm = num_classes > 0 and conditioning == "batch_norm"
        if by_norm and norm != "batch":
            raise ValueError(
                f'conditioning = "batch_norm" needs norm = "batch", not "{norm}"; use conditioning = "concat"'
            )
        self.latent_dim = latent_dim
        self.num_classes = num_classes
        self.concat = num_classes > 0 and not by_norm
        self.base = (widths[0], size, size)
        self.project = nn.Linear(latent_dim + (num_classes if self.concat else 0), math.prod(self.base))
        self.blocks = nn.ModuleList(
            _UpBlock(
                into,
                out,
                norm=norm,
                num_classes=num_classes if by_norm else 0,
                eps=norm_eps,
                activation=activation,
                upsample=upsample,
            )
            for into, out in itertools.pairwise(widths)
        )
        self.norm = _make_norm(norm, widths[-1], 0, norm_eps)
        self.activation = make_activation(activation)
        self.output = nn.Conv2d(widths[-1], channels, 3, padding=1)
        _initialise(self, init, activation_slope(activation))

    def forward(self, z: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """Return images.

        Args:
            z: (batch, latent_dim), float.
            label: (batch,), int64 in [0, num_classes), exactly where the network knows classes.

        Returns:
            (batch, channels, image_size, image_size) in [-1, 1].
        """
        classes = one_hot(label, self.num_classes, z)
        x = self.project(concat_classes(z, classes if self.concat else None)).view(-1, *self.base)
        for block in self.blocks:
            x = block(x, label)
        return torch.tanh(self.output(self.activation(self.norm(x))))


class ResNetDiscriminator(nn.Module):
    """Discriminator of the residual family.

    Layers: image → one block for each entry of `widths` → activation → sum or mean over positions → one logit. All
    convolutions have biases.

    Args:
        image_size: side of the square image in pixels: n · 2^(blocks that halve).
        channels: of the image.
        num_classes: 0 for none.
        widths: output channels of each block.
        downsample: whether each block halves the side, from the image on.
        activation: "relu" or "leaky_relu_SLOPE".
        norm: "none"; "spectral" (on all layers, the last one and the embedding too); "layer": over all of an image's
            values, with gain and bias per channel; or "batch". The latter two stand before each activation within a
            block, but for the first block.
        norm_eps: added to the variance ("layer" and "batch").
        shortcut: where a block's shortcut begins: at its "input" (the papers), or at the "activated" input, which its
            first convolution sees (torch-mimicry, whose activation works in place).
        pooling: over positions: "sum" (SNGAN) or "mean" (WGAN-GP).
        output_bias: whether the last layer has a bias (SNGAN's own net for 32×32 has none).
        conditioning: how classes enter: "projection": the inner product of the class's embedding with the pooled
            features (Miyato and Koyama, arXiv 1802.05637, equation 3); "none": labels are accepted and ignored, as
            beside an auxiliary classifier.
        init: "glorot_residual" (the papers'), or one of `ganzoo.architectures.layers.initialise`.

    Raises:
        ValueError: an image size that cannot be halved that often, lists of different length.
    """

    capturable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        num_classes: int = 0,
        widths: Widths = (128, 128, 128, 128),
        downsample: tuple[bool, ...] = (True, True, False, False),
        activation: Activation = "relu",
        norm: Literal["none", "spectral", "layer", "batch"] = "spectral",
        norm_eps: Annotated[float, Field(gt=0)] = 1e-5,
        shortcut: Literal["input", "activated"] = "input",
        pooling: Literal["sum", "mean"] = "sum",
        output_bias: bool = True,
        conditioning: Literal["projection", "none"] = "projection",
        init: ResidualInitialisation = "glorot_residual",
    ) -> None:
        super().__init__()
        if len(downsample) != len(widths):
            raise ValueError(
                f"downsample (={list(downsample)}) must have one entry for each of the {len(widths)} blocks "
                f"(widths={list(widths)})"
            )
        smallest_size(image_size, sum(downsample), "blocks that halve")
        self.num_classes = num_classes
        self.conditioning = conditioning
        self.blocks = nn.ModuleList(
            _DownBlock(
                into,
                out,
                first=index == 0,
                downsample=downsample[index],
                norm=norm,
                eps=norm_eps,
                activation=activation,
                shortcut=shortcut,
            )
            for index, (into, out) in enumerate(itertools.pairwise((channels, *widths)))
        )
        self.activation = make_activation(activation)
        self.pool = _Pool(pooling)
        self.output = nn.Linear(widths[-1], 1, bias=output_bias)
        self.embedding: nn.Linear | None = None
        if num_classes > 0 and conditioning == "projection":
            self.embedding = nn.Linear(num_classes, widths[-1], bias=False)
        # The first block never has a norm, so a net of one block judges each image by itself in any case.
        self.per_sample = not any(isinstance(module, nn.BatchNorm2d) for module in self.modules())
        _initialise(self, init, activation_slope(activation))
        if norm == "spectral":
            add_spectral_norm(self)

    def forward(self, image: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits: positive for real.

        Args:
            image: (batch, channels, image_size, image_size) in [-1, 1].
            label: (batch,), int64, exactly where the network knows classes; with conditioning "none" whether or not.

        Returns:
            (batch,).
        """
        # Where labels are ignored it is all one whether there are any.
        classes = None if self.conditioning == "none" else one_hot(label, self.num_classes, image)
        *_, pooled = self.features(image).values()  # (batch, widths[-1])
        logit: torch.Tensor = self.output(pooled).squeeze(1)
        if self.embedding is not None and classes is not None:
            logit = logit + (self.embedding(classes) * pooled).sum(dim=1)
        return logit

    def features(self, image: torch.Tensor, label: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Return the output of every block, {"blocks.0": (batch, widths[0], n, n), …}, and last "pool": (batch,
        widths[-1]); arguments as in `forward`."""
        del label  # classes enter after the features
        x, found = image, {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            found[f"blocks.{index}"] = x
        found["pool"] = self.pool(self.activation(x))
        return found
