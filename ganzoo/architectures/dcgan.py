"""The DCGAN family: Radford, Metz and Chintala, arXiv 1511.06434, figure 1 and section 3, with the variants that grew
around it.

A generator projects z to a small square of many channels and doubles it by transposed convolutions; a discriminator
halves the image by strided convolutions. The published nets differ in kernel, width, strides, projection, norm and
classes: all of these are arguments, so there is one class for each side. With the defaults they are the paper's 64×64
nets: 18.89M and 17.23M parameters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from ganzoo.architectures.layers import (
    MOST_LAYERS,
    Activation,
    Dropout,
    Initialisation,
    Norm,
    Width,
    Widths,
    activation_slope,
    add_spectral_norm,
    concat_classes,
    initialise,
    make_activation,
    one_hot,
)

Hidden = Annotated[tuple[Width, ...], Field(max_length=MOST_LAYERS)]
KernelSize = Literal[3, 4, 5]
Stride = Literal[1, 2]


def _per_layer(value: Any, layers: int, name: str) -> list[int]:
    if value is None:
        return [2] * layers
    values = [value] * layers if isinstance(value, int) else list(value)
    if len(values) != layers:
        raise ValueError(f"{name} (={values}) must have one entry for each of the {layers} layers")
    return values


def _biases(bias: bool | tuple[bool, ...], layers: int, which: str) -> Iterator[bool]:
    values = [bias] * layers if isinstance(bias, bool) else list(bias)
    if len(values) != layers:
        raise ValueError(f"bias (={values}) must have one entry for each of the {layers} layers with weights: {which}")
    return iter(values)


def layer_sizes(image_size: int, kernels: list[int], strides: list[int]) -> list[int]:
    """Return the side lengths from the image down to the smallest square: n, ceil(n / s1), …

    Args:
        image_size: the image's side.
        kernels: from the image down.
        strides: likewise.

    Raises:
        ValueError: a kernel of 4 meets an odd side or stride 1, where it cannot be centred.
    """
    sizes = [image_size]
    for kernel, stride in zip(kernels, strides, strict=True):
        size = sizes[-1]
        if kernel == 4 and (stride == 1 or size % 2):
            factor = math.prod(strides)
            below = max(image_size // factor, 1) * factor
            why = "a stride of 1" if stride == 1 else f"an odd side (={size})"
            raise ValueError(
                f"image_size (={image_size}) cannot be reached: kernel_size 4 cannot be centred on {why}; "
                "use kernel_size 3 or 5" + (f", or image_size {below} or {below + factor}" if stride == 2 else " there")
            )
        sizes.append(-(-size // stride))
    return sizes


def _batch_norm(kind: type[nn.BatchNorm1d | nn.BatchNorm2d], width: int, affine: bool, eps: float) -> nn.Module:
    return kind(width, eps=eps, affine=affine)


class _Dense(nn.Module):
    """A fully connected hidden layer with its norm and activation: (batch, in) → (batch, out)."""

    def __init__(
        self, width_in: int, width: int, *, norm: str, affine: bool, eps: float, activation: str, bias: bool
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width, bias=bias)
        self.norm = _batch_norm(nn.BatchNorm1d, width, affine, eps) if norm == "batch" else nn.Identity()
        self.activation = make_activation(activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.activation(self.norm(self.linear(x)))
        return out


class _Layer(nn.Module):
    """A convolution, transposed or not, with its norm, activation and dropout."""

    def __init__(self, conv: nn.Module, norm: nn.Module, activation: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.activation = activation
        self.dropout = Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.dropout(self.activation(self.norm(self.conv(x))))
        return out


def _transposed(
    width_in: int, width: int, kernel: int, stride: int, size_in: int, size: int, bias: bool
) -> nn.ConvTranspose2d:
    padding = (kernel - 1) // 2
    extra = size - ((size_in - 1) * stride - 2 * padding + kernel)
    return nn.ConvTranspose2d(width_in, width, kernel, stride, padding, output_padding=extra, bias=bias)


class DCGANGenerator(nn.Module):
    """Generator of the DCGAN family.

    Layers: z → hidden dense layers → projection to `widths[0]` × n × n → one transposed convolution for each entry of
    `strides`, the last one to the image's channels → tanh.

    Args:
        image_size: side of the square image in pixels.
        channels: of the image.
        latent_dim: length of z.
        num_classes: 0 for none; else the one-hot class is appended to the input of every layer (section 6.1 of the
            paper, as its authors' code for conditional MNIST does it).
        widths: channels of the projection and of each layer's input; the last layer goes to `channels`.
        kernel_size: 3, 4 or 5, one for all layers or one for each.
        strides: 1 or 2 for each layer; 2 everywhere if left out.
        projection: "dense" (with bias and norm per unit possible), or "conv": a transposed convolution of a 1×1 image.
        hidden: widths of dense layers before the projection.
        activation: "relu" or "leaky_relu_SLOPE".
        norm: "batch" (never after the last layer), "none" or "spectral".
        project_norm: batch norm of the projection per "unit" (the authors' code) or per "channel".
        norm_affine: whether batch norm has gain and bias.
        norm_eps: added to the variance.
        bias: whether linear and convolutional layers have biases: all or none, or one entry for each layer from z on
            (hidden, projection, transposed convolutions).
        init: see `ganzoo.architectures.layers.initialise`.

    Raises:
        ValueError: strides that cannot reach the image size, lists of the wrong length.
    """

    capturable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        latent_dim: int,
        num_classes: int = 0,
        widths: Widths = (1024, 512, 256, 128),
        kernel_size: KernelSize | tuple[KernelSize, ...] = 5,
        strides: tuple[Stride, ...] | None = None,
        projection: Literal["dense", "conv"] = "dense",
        hidden: Hidden = (),
        activation: Activation = "relu",
        norm: Norm = "batch",
        project_norm: Literal["unit", "channel"] = "unit",
        norm_affine: bool = True,
        norm_eps: Annotated[float, Field(gt=0)] = 1e-5,
        bias: bool | tuple[bool, ...] = False,
        init: Initialisation = "normal_0.02",
    ) -> None:
        super().__init__()
        kernels = _per_layer(kernel_size, len(widths), "kernel_size")
        steps = _per_layer(strides, len(widths), "strides")
        sizes = layer_sizes(image_size, kernels[::-1], steps[::-1])[::-1]
        self.latent_dim = latent_dim
        self.num_classes = num_classes
        self.base = (widths[0], sizes[0], sizes[0])
        self.project_norm_per = project_norm
        sides = (latent_dim, *hidden)
        biases = _biases(bias, len(hidden) + 1 + len(widths), "hidden, projection, transposed convolutions")
        self.hidden = nn.ModuleList(
            _Dense(
                into + num_classes,
                out,
                norm=norm,
                affine=norm_affine,
                eps=norm_eps,
                activation=activation,
                bias=next(biases),
            )
            for into, out in itertools.pairwise(sides)
        )
        into = sides[-1] + num_classes
        units = math.prod(self.base)
        self.project: nn.Linear | nn.ConvTranspose2d
        if projection == "dense":
            self.project = nn.Linear(into, units, bias=next(biases))
        else:
            # On one pixel the stride changes nothing but the fan-in, which is what meets in an output: `into`.
            self.project = nn.ConvTranspose2d(into, widths[0], sizes[0], stride=sizes[0], bias=next(biases))
        self.project_norm: nn.Module = nn.Identity()
        if norm == "batch" and project_norm == "unit":
            self.project_norm = _batch_norm(nn.BatchNorm1d, units, norm_affine, norm_eps)
        elif norm == "batch":
            self.project_norm = _batch_norm(nn.BatchNorm2d, widths[0], norm_affine, norm_eps)
        self.project_activation = make_activation(activation)
        layers = []
        for index, out in enumerate(widths[1:]):
            conv = _transposed(
                widths[index] + num_classes,
                out,
                kernels[index],
                steps[index],
                sizes[index],
                sizes[index + 1],
                next(biases),
            )
            after = _batch_norm(nn.BatchNorm2d, out, norm_affine, norm_eps) if norm == "batch" else nn.Identity()
            layers.append(_Layer(conv, after, make_activation(activation)))
        self.layers = nn.ModuleList(layers)
        self.output = _transposed(
            widths[-1] + num_classes, channels, kernels[-1], steps[-1], sizes[-2], sizes[-1], next(biases)
        )
        initialise(self, init, activation_slope(activation))
        if norm == "spectral":
            add_spectral_norm(self)

    def forward(self, z: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """Return images.

        Args:
            z: (batch, latent_dim), float.
            label: (batch,), int64 in [0, num_classes), exactly where the network knows classes.

        Returns:
            (batch, channels, image_size, image_size) in [-1, 1].
        """
        classes = one_hot(label, self.num_classes, z)
        x = concat_classes(z, classes)  # (batch, latent_dim + classes)
        for layer in self.hidden:
            x = concat_classes(layer(x), classes)
        # (batch, widths[0], n, n) from a convolution, (batch, widths[0] · n · n) from a dense layer
        x = self.project(x[:, :, None, None]) if isinstance(self.project, nn.ConvTranspose2d) else self.project(x)
        x = self.project_norm(x.flatten(1) if self.project_norm_per == "unit" else x.view(-1, *self.base))
        x = self.project_activation(x).view(-1, *self.base)
        for layer in self.layers:
            x = layer(concat_classes(x, classes))
        return torch.tanh(self.output(concat_classes(x, classes)))


class DCGANDiscriminator(nn.Module):
    """Discriminator of the DCGAN family.

    Layers: image → one convolution for each entry of `widths` → hidden dense layers → one logit.

    Args:
        image_size: side of the square image in pixels.
        channels: of the image.
        num_classes: 0 for none.
        widths: output channels of each convolution.
        kernel_size: 3, 4 or 5, one for all layers or one for each.
        strides: 1 or 2 for each layer; 2 everywhere if left out.
        head: the last layer: "dense", or "conv": a convolution over the whole last square (the same function, other
            names).
        hidden: widths of dense layers before the last.
        activation: "relu" or "leaky_relu_SLOPE".
        norm: "batch" (never on the first layer), "none" or "spectral" (on all layers, the last one too).
        norm_affine: whether batch norm has gain and bias.
        norm_eps: added to the variance.
        dropout: probability after each convolution's activation.
        bias: whether linear and convolutional layers have biases: all or none, or one entry for each layer from the
            image on (convolutions, hidden, last layer).
        conditioning: how classes enter: "concat": the one-hot class appended to the input of every layer; "projection":
            the inner product of the class's embedding with the last features, summed over positions (Miyato and Koyama,
            arXiv 1802.05637); "none": labels are accepted and ignored, as beside an auxiliary classifier.
        init: see `ganzoo.architectures.layers.initialise`.

    Raises:
        ValueError: strides that the image size does not fit, lists of the wrong length.
    """

    capturable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        num_classes: int = 0,
        widths: Widths = (128, 256, 512, 1024),
        kernel_size: KernelSize | tuple[KernelSize, ...] = 5,
        strides: tuple[Stride, ...] | None = None,
        head: Literal["dense", "conv"] = "dense",
        hidden: Hidden = (),
        activation: Activation = "leaky_relu_0.2",
        norm: Norm = "batch",
        norm_affine: bool = True,
        norm_eps: Annotated[float, Field(gt=0)] = 1e-5,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        bias: bool | tuple[bool, ...] = False,
        conditioning: Literal["concat", "projection", "none"] = "concat",
        init: Initialisation = "normal_0.02",
    ) -> None:
        super().__init__()
        kernels = _per_layer(kernel_size, len(widths), "kernel_size")
        steps = _per_layer(strides, len(widths), "strides")
        sizes = layer_sizes(image_size, kernels, steps)
        if head == "conv" and hidden:
            raise ValueError(f'head = "conv" cannot follow dense layers (hidden={hidden}); use head = "dense"')
        self.num_classes = num_classes
        self.conditioning = conditioning
        self.concat = num_classes > 0 and conditioning == "concat"
        added = num_classes if self.concat else 0
        biases = _biases(bias, len(widths) + len(hidden) + 1, "convolutions, hidden, last layer")
        layers = []
        for index, (into, out) in enumerate(itertools.pairwise((channels, *widths))):
            kernel = kernels[index]
            conv = nn.Conv2d(into + added, out, kernel, steps[index], (kernel - 1) // 2, bias=next(biases))
            batch_norm = norm == "batch" and index > 0
            after = _batch_norm(nn.BatchNorm2d, out, norm_affine, norm_eps) if batch_norm else nn.Identity()
            layers.append(_Layer(conv, after, make_activation(activation), dropout))
        self.layers = nn.ModuleList(layers)
        units = widths[-1] * sizes[-1] ** 2
        sides = (units, *hidden)
        self.hidden = nn.ModuleList(
            _Dense(
                into + added,
                out,
                norm=norm,
                affine=norm_affine,
                eps=norm_eps,
                activation=activation,
                bias=next(biases),
            )
            for into, out in itertools.pairwise(sides)
        )
        self.output: nn.Linear | nn.Conv2d
        if head == "conv":
            self.output = nn.Conv2d(widths[-1] + added, 1, sizes[-1], bias=next(biases))
        else:
            self.output = nn.Linear(sides[-1] + added, 1, bias=next(biases))
        self.embedding: nn.Linear | None = None
        if num_classes > 0 and conditioning == "projection":
            self.embedding = nn.Linear(num_classes, sides[-1] if hidden else widths[-1], bias=False)
        # The first convolution never has batch norm, so a net of one layer judges each image by itself in any case.
        self.per_sample = not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in self.modules())
        initialise(self, init, activation_slope(activation))
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
        classes = self._classes(image, label)
        concatenated = classes if self.concat else None
        x = image
        for layer in self.layers:
            x = layer(concat_classes(x, concatenated))
        if isinstance(self.output, nn.Conv2d):
            logit = self.output(concat_classes(x, concatenated)).flatten(1)  # (batch, 1)
            pooled = x.sum(dim=(2, 3))
        else:
            flat = x.flatten(1)
            for layer in self.hidden:
                flat = layer(concat_classes(flat, concatenated))
            logit = self.output(concat_classes(flat, concatenated))  # (batch, 1)
            pooled = flat if len(self.hidden) else x.sum(dim=(2, 3))
        if self.embedding is not None and classes is not None:
            logit = logit + (self.embedding(classes) * pooled).sum(dim=1, keepdim=True)
        squeezed: torch.Tensor = logit.squeeze(1)
        return squeezed

    def features(self, image: torch.Tensor, label: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Return the activations of every convolutional layer: {"layers.0": (batch, widths[0], n, n), …}; arguments as
        in `forward`."""
        classes = self._classes(image, label)
        x, found = image, {}
        for index, layer in enumerate(self.layers):
            x = layer(concat_classes(x, classes if self.concat else None))
            found[f"layers.{index}"] = x
        return found

    def _classes(self, image: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor | None:
        """Return the one-hot classes, or None where the network knows none or ignores them."""
        return None if self.conditioning == "none" else one_hot(label, self.num_classes, image)
