"""Layers that the families share: activations and initialisations by name, conditional batch norm, dropout whose masks
are data, class maps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from ganzoo.randomness import Draws

Activation = Annotated[str, Field(pattern=r"^(relu|leaky_relu_(0?\.\d+|1e-\d))$")]
"""Names of activations: "relu", or "leaky_relu_0.2" with the slope in the name."""

Initialisation = Annotated[str, Field(pattern=r"^(normal_(0?\.\d+)|he|orthogonal|glorot_uniform)$")]
"""Names of initialisations; see `initialise`."""

ResidualInitialisation = Annotated[
    str, Field(pattern=r"^(normal_(0?\.\d+)|he|orthogonal|glorot_uniform|glorot_residual)$")
]
"""Names of initialisations of residual nets: those of `initialise`, and "glorot_residual": "glorot_uniform", times
sqrt(2) in the 3×3 convolutions of residual branches (WGAN-GP's authors' code, and SNGAN's)."""

Norm = Literal["batch", "none", "spectral"]

MOST_LAYERS = 64
"""Of one kind. A config of a few megabytes could else ask for a million, and take gigabytes before it is refused."""
Width = Annotated[int, Field(ge=1)]
Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=MOST_LAYERS)]
"""Channels of each layer or block of a network."""

Linear = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


def make_activation(name: str) -> nn.Module:
    """Return the activation of that name: "relu" or "leaky_relu_SLOPE"."""
    if name == "relu":
        return nn.ReLU()
    return nn.LeakyReLU(activation_slope(name))


def activation_slope(name: str) -> float:
    """Return an activation's slope below zero."""
    return 0.0 if name == "relu" else float(name.removeprefix("leaky_relu_"))


def fans(module: Linear) -> tuple[float, float]:
    """Return (fan_in, fan_out) of a layer: how many inputs meet in one output on average, and the reverse.

    A transposed convolution of stride s spreads its kernel over s² outputs, so fan_in is in_channels · k² / s².
    """
    if isinstance(module, nn.Linear):
        return float(module.in_features), float(module.out_features)
    area = math.prod(module.kernel_size)
    if isinstance(module, nn.ConvTranspose2d):
        return module.in_channels * area / math.prod(module.stride), float(module.out_channels * area)
    return float(module.in_channels * area), module.out_channels * area / math.prod(module.stride)


@torch.no_grad()
def initialise(network: nn.Module, init: str, slope: float = 0.0) -> None:
    """Initialise all linear and convolutional layers and batch norms of a network, in order, from torch's current
    random state.

    Args:
        network: biases become 0, batch-norm biases 0 and gains 1, those of `ConditionalBatchNorm2d` too.
        init: "normal_STD": weights N(0, STD²) and batch-norm gains N(1, STD²) (the DCGAN authors' code);
            "he": N(0, 2 / ((1 + slope²) fan_in)) (He et al., arXiv 1502.01852, equation 14);
            "orthogonal": rows or columns orthonormal (Saxe et al., arXiv 1312.6120), times sqrt(2 / (1 + slope²));
            "glorot_uniform": U(-a, a), a = sqrt(6 / (fan_in + fan_out)) with strides left out (Keras's default).
        slope: of the activation below zero.
    """
    gain = math.sqrt(2.0 / (1.0 + slope**2))
    deviation = float(init.removeprefix("normal_")) if init.startswith("normal_") else None
    for module in network.modules():
        if isinstance(module, Linear):
            if deviation is not None:
                module.weight.normal_(0.0, deviation)
            elif init == "he":
                module.weight.normal_(0.0, gain / math.sqrt(fans(module)[0]))
            elif init == "orthogonal":
                nn.init.orthogonal_(module.weight, gain)
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
            if deviation is not None:
                module.weight.normal_(1.0, deviation)
            else:
                module.weight.fill_(1.0)
            module.bias.zero_()
        elif isinstance(module, ConditionalBatchNorm2d):
            if deviation is not None:
                module.gain.weight.normal_(1.0, deviation)
            else:
                module.gain.weight.fill_(1.0)
            module.bias.weight.zero_()


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm whose gain and bias belong to the class: y = gain[label] · (x - mean) / sqrt(var + eps) + bias[label].

    Dumoulin et al., arXiv 1610.07629, equation 5; de Vries et al., arXiv 1707.00683. Mean and variance are of the whole
    batch, whatever its classes, and so are the running statistics.

    Args:
        width: channels.
        num_classes: at least 1.
        eps: added to the variance.
    """

    def __init__(self, width: int, num_classes: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, eps=eps, affine=False)
        self.gain = nn.Embedding(num_classes, width, _weight=torch.ones(num_classes, width))
        self.bias = nn.Embedding(num_classes, width, _weight=torch.zeros(num_classes, width))

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return x normalised, with the gain and bias of each image's class.

        Args:
            x: (batch, width, height, width of the map).
            label: (batch,), int64 in [0, num_classes).
        """
        gain, bias = self.gain(label), self.bias(label)  # (batch, width)
        normal: torch.Tensor = self.norm(x)
        out: torch.Tensor = normal * gain[:, :, None, None] + bias[:, :, None, None]
        return out.to(normal.dtype)


def add_spectral_norm(network: nn.Module) -> None:
    """Divide every linear and convolutional weight by its largest singular value, one power iteration a forward pass in
    training.

    Miyato et al., arXiv 1802.05957, algorithm 1. Call it after `initialise`.
    """
    for module in list(network.modules()):
        if isinstance(module, Linear):
            spectral_norm(module)


class Dropout(nn.Module):
    """Dropout whose masks are a pure function of (seed, stream, number of the sample) inside `dropout_draws`.

    Outside of it, in training mode, masks come from torch's own generator as in `nn.Dropout`.

    Args:
        probability: of an element to be dropped, in [0, 1); with draws it holds to the nearest 1 / 65536.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.draws: Draws | None = None
        self.stream = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x, in training mode with elements dropped and the rest scaled by 1 / (1 - probability); any shape
        (batch, …)."""
        if not self.training or self.probability == 0.0:
            return x
        if self.draws is None:
            return F.dropout(x, self.probability)
        keep = 1.0 - self.probability
        mask = self.draws.keep_mask(*x.shape[1:], probability=keep, stream=self.stream)
        return x * (mask / keep).to(x.dtype)

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"probability={self.probability}"


@contextmanager
def dropout_draws(network: nn.Module, draws: Draws, stream: int) -> Iterator[None]:
    """Within it, the network's `Dropout` layers take their masks from `draws`; layer l (in order of definition) uses
    stream + l.

    Args:
        network: any module.
        draws: of as many samples as the batch has.
        stream: the first layer's stream.
    """
    layers = [module for module in network.modules() if isinstance(module, Dropout)]
    for index, layer in enumerate(layers):
        layer.draws, layer.stream = draws, int(stream) + index
    try:
        yield
    finally:
        for layer in layers:
            layer.draws = None


def one_hot(label: torch.Tensor | None, num_classes: int, like: torch.Tensor) -> torch.Tensor | None:
    """Return labels as (batch, num_classes) of zeros and ones in the type of `like`, or None for an unconditional
    network.

    Raises:
        ValueError: a conditional network without labels, or an unconditional one with them.
    """
    if num_classes == 0:
        if label is not None:
            raise ValueError("this network knows no classes, but was given labels")
        return None
    if label is None:
        raise ValueError(f"this network draws one of {num_classes} classes and needs labels")
    return F.one_hot(label, num_classes).to(like.dtype)


def concat_classes(x: torch.Tensor, classes: torch.Tensor | None) -> torch.Tensor:
    """Return x with the one-hot classes appended to its channels: (batch, C, …) → (batch, C + num_classes, …)."""
    if classes is None:
        return x
    if x.dim() == 4:
        classes = classes[:, :, None, None].expand(-1, -1, x.shape[2], x.shape[3])
    return torch.cat((x, classes.to(x.dtype)), dim=1)
