"""R3GAN's family: Huang, Gokaslan, Kuleshov and Tompkin, arXiv 2501.05441, section 4, with the constants of the
authors' code (their "configuration E").

Both networks are the same plain residual net, in opposite directions: stages of inverted bottlenecks with grouped
convolutions, between which images are doubled or halved by bilinear resampling. No norm anywhere: what keeps signals at
their size is the initialisation alone (`_draw`, `_Block`). Their nets for CIFAR-10 have 20.8M and 21.3M parameters,
those for 256×256 faces 23.06M and 23.01M.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from ganzoo.architectures.layers import one_hot

MOST_STAGES = 16
"""And of blocks in a stage. A config could else ask for a million layers, and take gigabytes before it is refused."""
Width = Annotated[int, Field(ge=1)]
Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=MOST_STAGES)]
Blocks = Annotated[int, Field(ge=1, le=MOST_STAGES)]
KernelSize = Literal[1, 3, 5, 7]

SLOPE = 0.2
"""Of the leaky ReLU below zero."""
GAIN = math.sqrt(2.0 / (1.0 + SLOPE**2))
"""With weights of variance GAIN² / fan_in, a leaky ReLU and a convolution keep the mean square of signals (He et al.,
arXiv 1502.01852, equation 15)."""

FILTER = (0.25, 0.75)
"""What the filter [1, 2, 1] makes of bilinear resampling: a new pixel is 3/4 of the nearer and 1/4 of the other old
one along each axis, and beyond the edge lies 0."""


def _per_stage(value: int | tuple[int, ...], stages: int, name: str) -> list[int]:
    values = [value] * stages if isinstance(value, int) else list(value)
    if len(values) != stages:
        raise ValueError(f"{name} (={values}) must have one entry for each of the {stages} widths")
    return values


def _smallest_size(image_size: int, stages: int) -> int:
    """Return the side of the smallest square, from which the image is reached by doubling `stages` - 1 times."""
    factor = 1 << (stages - 1)
    if image_size % factor:
        below = image_size // factor * factor
        sizes = f"{below} or {below + factor}" if below else f"{factor}"
        fitting = (image_size & -image_size).bit_length()
        raise ValueError(
            f"image_size (={image_size}) cannot be halved {stages - 1} times, as {stages} widths ask for; "
            f"use image_size {sizes}, or at most {fitting} widths"
        )
    return image_size // factor


@torch.no_grad()
def _draw(layer: nn.Linear | nn.Conv2d, gain: float = 1.0) -> None:
    """Draw a layer's weights from N(0, gain² / fan_in); biases become 0."""
    layer.weight.normal_(0.0, gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        layer.bias.zero_()


class _Block(nn.Module):
    """A residual inverted bottleneck: x + W3 σ(W2 σ(W1 x + b1) + b2), W2 grouped, W1 and W3 of 1×1 pixels.

    Where `depth` blocks follow each other, W1 and W2 begin smaller by depth^(-1/4) each and W3 at zero (Zhang, Dauphin
    and Ma, arXiv 1901.09321, section 3: L^(-1 / (2m - 2)) for branches of m = 3 layers), so that every block begins as
    the identity and no update is larger for there being many.
    """

    def __init__(self, width: int, expanded: int, groups: int, kernel_size: int, depth: int) -> None:
        super().__init__()
        if expanded % groups:
            raise ValueError(f"cardinality (={groups}) must divide the expanded width (={expanded})")
        self.expand = nn.Conv2d(width, expanded, 1)
        self.conv = nn.Conv2d(expanded, expanded, kernel_size, padding=kernel_size // 2, groups=groups)
        self.reduce = nn.Conv2d(expanded, width, 1, bias=False)
        for layer in (self.expand, self.conv):
            _draw(layer, GAIN * depth ** (-1 / 4))
        nn.init.zeros_(self.reduce.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x changed, of the same shape: (batch, width, n, n)."""
        y = F.leaky_relu(self.expand(x), SLOPE)
        y = F.leaky_relu(self.conv(y), SLOPE)
        out: torch.Tensor = x + self.reduce(y)
        return out


class _Upsample(nn.Module):
    """(batch, in, n, n) → (batch, out, 2n, 2n): a 1×1 convolution where the widths differ, then bilinear doubling.

    Bilinear interpolation repeats the edge where the filter sees 0 beyond it. All that this changes are the outermost
    pixels, which it gives 4/3 of their value along each axis: they are multiplied by 3/4. In ONNX these are one Resize
    and one Mul.
    """

    edge: torch.Tensor

    def __init__(self, width_in: int, width: int, size: int) -> None:
        super().__init__()
        self.conv = _change_of_width(width_in, width)
        edge = torch.ones(2 * size)
        edge[0] = edge[-1] = FILTER[1]
        self.register_buffer("edge", edge, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(self.conv(x), scale_factor=2, mode="bilinear", align_corners=False)
        edge = self.edge.to(x.dtype)
        return x * (edge[:, None] * edge)


class _Downsample(nn.Module):
    """(batch, in, 2n, 2n) → (batch, out, n, n): the filter [1, 3, 3, 1] / 8 along each axis, then a 1×1 convolution
    where the widths differ.

    Written with shifted views: a depthwise convolution is 5 to 30 times slower in its second derivative on processors.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv = _change_of_width(width_in, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(_halve(_halve(x, 2), 3))
        return out


def _halve(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Return x filtered and halved along one axis; 0 lies beyond its ends."""
    length = x.shape[axis]
    padded = F.pad(x, (1, 1) if axis == 3 else (0, 0, 1, 1))
    each_second = [slice(start, start + length - 1, 2) for start in range(4)]
    first, second, third, fourth = (padded[..., one] if axis == 3 else padded[..., one, :] for one in each_second)
    far, near = (weight / 2 for weight in FILTER)
    return near * (second + third) + far * (first + fourth)


def _change_of_width(width_in: int, width: int) -> nn.Module:
    if width_in == width:
        return nn.Identity()
    conv = nn.Conv2d(width_in, width, 1, bias=False)
    _draw(conv)
    return conv


class _Stage(nn.Module):
    """The blocks of one resolution, and the resampling before them (generator) or behind them (discriminator)."""

    def __init__(self, blocks: list[_Block], resample: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.resample = resample


def _stages(
    resamples: list[nn.Module],
    widths: tuple[int, ...],
    blocks: int | tuple[int, ...],
    cardinality: int | tuple[int, ...],
    expansion: int,
    kernel_size: int,
) -> nn.ModuleList:
    """Return the `_Stage` of every width, drawn in order."""
    counts = _per_stage(blocks, len(widths), "blocks")
    groups = _per_stage(cardinality, len(widths), "cardinality")
    depth = sum(counts)
    return nn.ModuleList(
        _Stage([_Block(width, width * expansion, group, kernel_size, depth) for _ in range(count)], resample)
        for width, count, group, resample in zip(widths, counts, groups, resamples, strict=True)
    )


def _through(x: torch.Tensor, blocks: nn.ModuleList) -> torch.Tensor:
    for block in blocks:
        x = block(x)
    return x


def _mixed(x: torch.Tensor) -> torch.dtype | None:
    """Return the type that autocast computes in where x is, None where it is off."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):  # the meta device has none
        return None
    return torch.get_autocast_dtype(kind)


def _full_precision(x: torch.Tensor) -> contextlib.AbstractContextManager[object]:
    """Turn autocast off within the block: the authors keep the stage at the smallest square in float32."""
    return torch.autocast(x.device.type, enabled=False) if _mixed(x) else contextlib.nullcontext()


class R3GANGenerator(nn.Module):
    """Generator of R3GAN's family.

    Layers: a learnt square of `widths[0]` channels, each channel times a linear function of z → blocks → (doubling →
    blocks) for each further width → a 1×1 convolution to the image's channels. There is no tanh: in training mode
    images may leave [-1, 1], and in eval mode they are clamped to it. Under autocast the first stage stays in float32.

    Args:
        image_size: side of the square image in pixels: n · 2^(stages - 1), where n is the side of the learnt square.
        channels: of the image.
        latent_dim: length of z.
        num_classes: 0 for none; else an embedding of the class, as long as z, is appended to z.
        widths: channels of each stage, the first at the smallest square: 4×4 in all of the authors' nets.
        blocks: residual blocks of a stage, one number for all or one for each.
        cardinality: groups of the blocks' middle convolutions, one number for all or one for each stage.
        expansion: a block's inner channels are this many times the stage's.
        kernel_size: of the blocks' middle convolutions.

    Raises:
        ValueError: an image size that doubling does not reach, groups that do not divide the channels, lists of the
            wrong length.
    """

    capturable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        latent_dim: int,
        num_classes: int = 0,
        widths: Widths = (768, 768, 768, 768),
        blocks: Blocks | tuple[Blocks, ...] = 2,
        cardinality: Width | tuple[Width, ...] = 96,
        expansion: Width = 2,
        kernel_size: KernelSize = 3,
    ) -> None:
        super().__init__()
        size = _smallest_size(image_size, len(widths))
        self.latent_dim = latent_dim
        self.num_classes = num_classes
        self.embedding = nn.Linear(num_classes, latent_dim, bias=False) if num_classes else None
        self.project = nn.Linear(latent_dim * (2 if num_classes else 1), widths[0], bias=False)
        self.basis = nn.Parameter(torch.empty(widths[0], size, size))
        with torch.no_grad():
            self.basis.normal_()
        for layer in (self.embedding, self.project):
            if layer is not None:
                _draw(layer)
        resamples: list[nn.Module] = [nn.Identity()]
        for stage, (into, out) in enumerate(itertools.pairwise(widths)):
            resamples.append(_Upsample(into, out, size << stage))
        self.stages = _stages(resamples, widths, blocks, cardinality, expansion, kernel_size)
        self.output = nn.Conv2d(widths[-1], channels, 1, bias=False)
        _draw(self.output)

    def forward(self, z: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """Return images.

        Args:
            z: (batch, latent_dim), float.
            label: (batch,), int64 in [0, num_classes), exactly where the network knows classes.

        Returns:
            (batch, channels, image_size, image_size), in eval mode in [-1, 1].
        """
        mixed = _mixed(z)
        with _full_precision(z):
            classes = one_hot(label, self.num_classes, z)
            if self.embedding is not None:
                z = torch.cat((z, self.embedding(classes)), dim=1)  # (batch, 2 · latent_dim)
            x = self.project(z)[:, :, None, None] * self.basis  # (batch, widths[0], n, n)
            x = _through(x, cast(_Stage, self.stages[0]).blocks)
        if mixed is not None:
            x = x.to(mixed)
        for stage in cast(Iterable[_Stage], self.stages[1:]):
            x = _through(stage.resample(x), stage.blocks)
        image: torch.Tensor = self.output(x)
        return image if self.training else image.clamp(-1.0, 1.0)


class R3GANDiscriminator(nn.Module):
    """Discriminator of R3GAN's family: the generator the other way round.

    Layers: a 1×1 convolution → (blocks → halving) for each width but the last → blocks → a depthwise convolution over
    the whole of the last square → a linear layer to one logit. Under autocast the last stage and what follows it stay
    in float32.

    Args:
        image_size: side of the square image in pixels: n · 2^(stages - 1).
        channels: of the image.
        num_classes: 0 for none.
        widths: channels of each stage, from the image on.
        blocks, cardinality, expansion, kernel_size: as the generator's, from the image on.
        conditioning: how classes enter: "projection": the linear layer gives `widths[-1]` numbers, and the logit is
            their inner product with the class's embedding (Miyato and Koyama, arXiv 1802.05637, without the
            unconditional term); "none": labels are accepted and ignored.

    Attributes:
        per_sample: True.

    Raises:
        ValueError: as the generator.
    """

    capturable: ClassVar[bool] = True
    per_sample = True

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        num_classes: int = 0,
        widths: Widths = (768, 768, 768, 768),
        blocks: Blocks | tuple[Blocks, ...] = 2,
        cardinality: Width | tuple[Width, ...] = 96,
        expansion: Width = 2,
        kernel_size: KernelSize = 3,
        conditioning: Literal["projection", "none"] = "projection",
    ) -> None:
        super().__init__()
        size = _smallest_size(image_size, len(widths))
        self.num_classes = num_classes
        self.input = nn.Conv2d(channels, widths[0], 1, bias=False)
        _draw(self.input)
        resamples: list[nn.Module] = [_Downsample(into, out) for into, out in itertools.pairwise(widths)]
        resamples.append(nn.Identity())
        self.stages = _stages(resamples, widths, blocks, cardinality, expansion, kernel_size)
        last = widths[-1]
        projected = num_classes > 0 and conditioning == "projection"
        self.conditioning = conditioning
        self.basis = nn.Conv2d(last, last, size, groups=last, bias=False)
        self.output = nn.Linear(last, last if projected else 1, bias=False)
        self.embedding = nn.Linear(num_classes, last, bias=False) if projected else None
        _draw(self.basis)
        _draw(self.output)
        if self.embedding is not None:
            _draw(self.embedding, 1.0 / math.sqrt(last))

    def forward(self, image: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits: positive for real.

        Args:
            image: (batch, channels, image_size, image_size), nominally in [-1, 1].
            label: (batch,), int64, exactly where the network knows classes; with conditioning "none" whether or not.

        Returns:
            (batch,).
        """
        *_, x = self.features(image, label).values()  # (batch, widths[-1], 1, 1)
        with _full_precision(x):
            classes = None if self.conditioning == "none" else one_hot(label, self.num_classes, x)
            found: torch.Tensor = self.output(x.flatten(1))
            return found.squeeze(1) if self.embedding is None else (found * self.embedding(classes)).sum(dim=1)

    def features(self, image: torch.Tensor, label: torch.Tensor | None = None) -> dict[str, torch.Tensor]:  # noqa: ARG002
        """Return the outputs of every block and of the last convolution, from the image on: {"stages.0.blocks.0":
        (batch, widths[0], image_size, image_size), …, "basis": (batch, widths[-1], 1, 1)}; arguments as in `forward`,
        of which the label changes nothing."""
        found: dict[str, torch.Tensor] = {}
        mixed = _mixed(image)
        x = self.input(image)
        for number, stage in enumerate(cast(Iterable[_Stage], self.stages)):
            last = number == len(self.stages) - 1
            if last and mixed is not None:
                x = x.float()
            with _full_precision(x) if last else contextlib.nullcontext():
                for index, block in enumerate(stage.blocks):
                    x = block(x)
                    found[f"stages.{number}.blocks.{index}"] = x
                x = self.basis(x) if last else stage.resample(x)
        found["basis"] = x
        return found
