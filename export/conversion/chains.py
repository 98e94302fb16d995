"""From layers to the nets of ganzoo's DCGAN family (`ganzoo.architectures.dcgan`): a chain of layers is read as a
generator or a discriminator, with its widths, kernels and sizes, and its tensors get the family's names.

Shapes do not tell everything. A kernel of 4 has stride 2 and padding 1, or it cannot be centred; the first kernel of a
generator on a 1×1 image is its first square, the last one of a discriminator its last. A kernel of 3 or 5 may have
stride 1 or 2, and an odd side may have been rounded up: each such reading gives an image size, the likeliest first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ganzoo.export.conversion.layers import Layer, NotRecognised
from ganzoo.export.conversion.networks import (
    CHANNELS,
    USUAL_SIZES,
    Reading,
    Role,
    one_or_all,
    put_layer,
    put_norm,
)

_KERNELS = (3, 4, 5)
_MOST_READINGS = 12
_LARGEST_IMAGE = 1024
_MNIST = 28


@dataclass(frozen=True)
class Chain:
    """A network of the family.

    Args:
        role: which side.
        layers: all layers with weights, from z or the image on.
        hidden: widths of dense layers before the projection, or after the convolutions.
        convolutions: those with an entry in `widths`, indices of `layers`.
        widths: as the family's argument.
        kernels: of these convolutions.
        side: of the first square, or of the last.
        channels: of the image.
        num_classes: concatenated to each layer's input, or embedded.
        latent_dim: of z; 0 for a discriminator.
        ends_dense: whether the projection or the last layer is a dense one.
        norm: "batch", "none" or "spectral".
        unit_norm: whether the projection's norm is per unit.
        embedding: of a discriminator with projection conditioning.
        readings: image sizes, the likeliest first.
        notes: what was done to make it fit.
    """

    role: Role
    layers: tuple[Layer, ...]
    hidden: tuple[int, ...]
    convolutions: range
    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    side: int
    channels: int
    num_classes: int
    latent_dim: int
    ends_dense: bool
    norm: str
    unit_norm: bool
    embedding: Layer | None
    readings: tuple[Reading, ...]
    notes: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The registered name of its architecture."""
        return "dcgan"

    @property
    def unseen(self) -> tuple[str, ...]:
        """What no tensor tells, beside the activation and z's prior."""
        if self.role == "discriminator":
            return ()
        return ("tanh at the end", *(["1e-5 in batch norm"] if self.norm == "batch" else []))

    def section(self, reading: Reading, activation: str) -> dict[str, Any]:
        """Return the recipe's table of this network."""
        biases = [layer.bias is not None for layer in self.layers]
        table: dict[str, Any] = {
            "name": "dcgan",
            "widths": list(self.widths),
            "kernel_size": one_or_all(self.kernels),
            "hidden": list(self.hidden),
            "activation": activation,
            "norm": self.norm,
            "norm_affine": any(layer.norm.affine for layer in self.layers if layer.norm) or self.norm != "batch",
            "bias": one_or_all(biases),
        }
        if any(stride != 2 for stride in reading.strides):
            table["strides"] = list(reading.strides)
        if self.role == "generator":
            table["projection"] = "dense" if self.ends_dense else "conv"
            table["project_norm"] = "unit" if self.unit_norm else "channel"
        else:
            table["head"] = "dense" if self.ends_dense else "conv"
            if self.embedding is not None:
                table["conditioning"] = "projection"
        return table

    def mirrored(self, reading: Reading, activation: str) -> dict[str, Any]:
        """Return a discriminator's table like this generator turned round, where the real one is unknown."""
        drawn = self.section(reading, activation)
        table = {"name": "dcgan", "activation": activation, "norm": "batch", "bias": False, "head": drawn["projection"]}
        for key in ("widths", "kernel_size", "strides"):
            if key in drawn:
                table[key] = drawn[key][::-1] if isinstance(drawn[key], list) else drawn[key]
        return table

    def names(self) -> list[tuple[str, str]]:
        """Return, for each layer, the family's names of its module and of its norm."""
        before = [(f"hidden.{index}.linear", f"hidden.{index}.norm") for index in range(len(self.hidden))]
        inner = len(self.convolutions) - (self.role == "generator")
        convolutions = [(f"layers.{index}.conv", f"layers.{index}.norm") for index in range(inner)]
        if self.role == "generator":
            return [*before, ("project", "project_norm"), *convolutions, ("output", "")]
        return [*convolutions, *before, ("output", "")]

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors under the family's names."""
        state: dict[str, torch.Tensor] = {}
        for layer, (name, norm) in zip(self.layers, self.names(), strict=True):
            put_layer(state, name, layer)
            if layer.norm is not None:
                put_norm(state, norm, layer.norm)
        if self.embedding is not None:
            put_layer(state, "embedding", self.embedding)
        return state

    def baked(self) -> Chain:
        """Return the network with spectral norm carried out in the weights.

        Raises:
            NotRecognised: its vectors do not fit the weights.
        """
        layers = tuple(layer.baked(is_transposed(self, index)) for index, layer in enumerate(self.layers))
        embedding = None if self.embedding is None else self.embedding.baked(False)
        return replace(self, layers=layers, embedding=embedding, norm="none")


def is_transposed(chain: Chain, index: int) -> bool:
    """Whether a layer of a network is a transposed convolution."""
    return chain.role == "generator" and chain.layers[index].is_convolution


# -------------------------------------------------------------------------------------------- a generator


def read_generator(layers: Sequence[Layer], conditional: bool) -> Chain:
    """Return layers as a generator: dense layers, the projection, transposed convolutions.

    Args:
        layers: in order.
        conditional: whether each layer's input may be wider than the last one's output, by one-hot classes.

    Raises:
        NotRecognised: they are none, with the reason.
    """
    first = next((index for index, layer in enumerate(layers) if layer.is_convolution), len(layers))
    dense, convolutions = list(layers[:first]), list(layers[first:])
    if len(convolutions) < (1 if dense else 2) or not all(one.is_convolution for one in convolutions):
        raise NotRecognised("a generator is dense layers or none, then at least two transposed convolutions")
    projection = dense[-1] if dense else convolutions.pop(0)
    joins = [(one.weight.shape[1], other.weight.shape[0]) for one, other in itertools.pairwise(convolutions)]
    if dense:
        classes = joins[0][1] - joins[0][0] if joins else 0
        width = convolutions[0].weight.shape[0] - classes
        units = projection.weight.shape[0]
        side = math.isqrt(units // width) if width > 0 else 0
        if not side or width * side * side != units:
            raise NotRecognised(f"a projection to {units} units makes no square of {width} channels")
        joins += [(one.weight.shape[0], other.weight.shape[1]) for one, other in itertools.pairwise(dense)]
    else:
        latent, width, side = projection.weight.shape[:3]
        classes = convolutions[0].weight.shape[0] - width
    _check_joins(joins, classes, conditional)
    latent = (dense[0].weight.shape[1] if dense else latent) - classes
    channels = convolutions[-1].weight.shape[1]
    _check_ends(channels, latent, projection)
    kernels = _kernels(convolutions)
    return Chain(
        role="generator",
        layers=(*dense, *(() if dense else (projection,)), *convolutions),
        hidden=tuple(layer.weight.shape[0] for layer in dense[:-1]),
        convolutions=range(len(layers) - len(convolutions), len(layers)),
        widths=(width, *(layer.weight.shape[1] for layer in convolutions[:-1])),
        kernels=kernels,
        side=side,
        channels=channels,
        num_classes=classes,
        latent_dim=latent,
        ends_dense=bool(dense),
        norm="none",
        unit_norm=bool(dense),
        embedding=None,
        readings=tuple(_readings(kernels, side, channels)),
    )


def read_discriminator(layers: Sequence[Layer], embedding: Layer | None, conditional: bool) -> Chain:
    """Return layers as a discriminator: convolutions, then dense layers or one convolution over the last square.

    Args:
        layers: in order.
        embedding: (width, classes) of projection conditioning.
        conditional: as for `read_generator`.

    Raises:
        NotRecognised: they are none, with the reason.
    """
    first = next((index for index, layer in enumerate(layers) if not layer.is_convolution), len(layers))
    convolutions, dense = list(layers[:first]), list(layers[first:])
    if any(one.is_convolution for one in dense) or len(convolutions) < (1 if dense else 2):
        raise NotRecognised("a discriminator is convolutions, then dense layers or a last convolution to one logit")
    last = dense[-1] if dense else convolutions.pop()
    if last.weight.shape[0] != 1:
        raise NotRecognised(f"its last layer gives {last.weight.shape[0]} numbers, and a discriminator one logit")
    joins = [(one.weight.shape[0], other.weight.shape[1]) for one, other in itertools.pairwise(convolutions)]
    width = convolutions[-1].weight.shape[0]
    if joins:
        concatenated = joins[0][1] - joins[0][0]
    elif not dense:
        concatenated = last.weight.shape[1] - width
    else:
        concatenated = 0
    if dense:
        units = dense[0].weight.shape[1] - concatenated
        side = math.isqrt(max(units, 0) // width)
        if not side or width * side * side != units:
            raise NotRecognised(f"{units} inputs of its first dense layer are no square of {width} channels")
        joins += [(one.weight.shape[0], other.weight.shape[1]) for one, other in itertools.pairwise(dense)]
    else:
        joins += [(width, last.weight.shape[1])]
        side = last.weight.shape[2]
    _check_joins(joins, concatenated, conditional)
    channels = convolutions[0].weight.shape[1] - concatenated
    _check_ends(channels, 1, last)
    kernels = _kernels(convolutions)
    sizes = (replace(reading, strides=reading.strides[::-1]) for reading in _readings(kernels[::-1], side, channels))
    return Chain(
        role="discriminator",
        layers=tuple(layers),
        hidden=tuple(layer.weight.shape[0] for layer in dense[:-1]),
        convolutions=range(len(convolutions)),
        widths=tuple(layer.weight.shape[0] for layer in convolutions),
        kernels=kernels,
        side=side,
        channels=channels,
        num_classes=concatenated if embedding is None else embedding.weight.shape[1],
        latent_dim=0,
        ends_dense=bool(dense),
        norm="none",
        unit_norm=False,
        embedding=embedding,
        readings=tuple(sizes),
    )


def _check_joins(joins: Sequence[tuple[int, int]], classes: int, conditional: bool) -> None:
    for out, into in joins:
        if into - out != classes:
            raise NotRecognised(f"a layer of {out} outputs is followed by one of {into} inputs")
    if classes < 0 or (classes and not conditional):
        raise NotRecognised(f"each layer has {classes:+d} inputs beside the outputs of the layer before it")


def _check_ends(channels: int, latent: int, end: Layer) -> None:
    if channels not in CHANNELS:
        raise NotRecognised(f"its images have {channels} channels, and ganzoo's have 1 or 3")
    if latent < 1:
        raise NotRecognised("its z has no length")
    if end.is_convolution and end.weight.shape[2] != end.weight.shape[3]:
        raise NotRecognised(f"its kernel of shape {tuple(end.weight.shape[2:])} is not square")


def _kernels(convolutions: Sequence[Layer]) -> tuple[int, ...]:
    for layer in convolutions:
        height, width = layer.weight.shape[2:]
        if height != width or height not in _KERNELS:
            raise NotRecognised(
                f"{'.'.join(layer.name)} has a kernel of {height}×{width}, and the family has 3×3, 4×4 and 5×5"
            )
    return tuple(layer.weight.shape[2] for layer in convolutions)


def _readings(kernels: Sequence[int], side: int, channels: int) -> list[Reading]:
    """Return the image sizes that kernels allow from the smallest square up, the likeliest first.

    Args:
        kernels: from the smallest square to the image.
        side: of that square.
        channels: of the image: one channel makes 28 pixels likely (MNIST).
    """
    found: dict[int, tuple[tuple[Any, ...], Reading]] = {}
    for threes in (1, 2) if 3 in kernels else (2,):
        strides = tuple(threes if kernel == 3 else 2 for kernel in kernels)
        unlikely = 3 in kernels and (threes == 1) != (4 in kernels)
        for size, odd in _sizes(kernels, strides, side):
            usual = size in USUAL_SIZES and (size != _MNIST or channels == 1)
            mnist = size == _MNIST and channels == 1
            key = (not usual, size <= 16, not mnist, odd + unlikely, -size)
            if 4 <= size <= _LARGEST_IMAGE and (size not in found or key < found[size][0]):
                found[size] = (key, Reading(size, strides, usual))
    if not found:
        raise NotRecognised(f"{len(kernels)} doublings of a square of {side} make no image of a possible size")
    return [reading for _, reading in sorted(found.values(), key=lambda entry: entry[0])][:_MOST_READINGS]


def _sizes(kernels: Sequence[int], strides: Sequence[int], side: int) -> Iterator[tuple[int, int]]:
    """Give (image size, how many layers gave an odd side) for a choice of strides."""
    at = {(side, 0)}
    for kernel, stride in zip(kernels, strides, strict=True):
        after = set()
        for size, odd in at:
            after.add((size * stride, odd))
            if stride == 2 and kernel != 4:
                after.add((2 * size - 1, odd + 1))
        at = {(size, odd) for size, odd in after if size <= _LARGEST_IMAGE}
        if len(at) > 256:
            at = set(sorted(at, key=lambda one: one[1])[:256])
    yield from sorted(at)
