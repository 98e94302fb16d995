"""What a network that was read from a checkpoint has, whatever its family: `chains` reads the DCGAN family, `residual`
the residual one, and everything after them (choosing, fitting, planning) knows no more than this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from ganzoo.export.conversion.layers import Layer, Norm

Role = Literal["generator", "discriminator"]

USUAL_SIZES = (16, 28, 32, 48, 64, 96, 128, 256, 512, 1024)
"""Sides of images that people train on, in pixels."""

CHANNELS = (1, 3)
"""Of images."""


@dataclass(frozen=True)
class Reading:
    """An image size that shapes allow, with the stride of each convolution or block in the network's order; `usual`
    where images of that size are."""

    image_size: int
    strides: tuple[int, ...]
    usual: bool


class ReadNetwork(Protocol):
    """A network as it was read: what names and shapes tell of it, and its tensors under ganzoo's names."""

    @property
    def family(self) -> str:
        """The registered name of its architecture."""

    @property
    def role(self) -> Role:
        """Which side it is."""

    @property
    def channels(self) -> int:
        """Of the image."""

    @property
    def num_classes(self) -> int:
        """0 for none."""

    @property
    def latent_dim(self) -> int:
        """Length of z; 0 for a discriminator."""

    @property
    def norm(self) -> str:
        """ "batch", "none" or "spectral"."""

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The image sizes that its shapes allow, the likeliest first."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to make it fit."""

    @property
    def unseen(self) -> tuple[str, ...]:
        """What no tensor tells and is taken by convention, beside the activation and, of a generator, z's prior."""

    def section(self, reading: Reading, activation: str) -> dict[str, Any]:
        """Return the recipe's table of this network."""

    def mirrored(self, reading: Reading, activation: str) -> dict[str, Any]:
        """Return a discriminator's table like this generator turned round, where the real one is unknown."""

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors under the family's names."""

    def baked(self) -> ReadNetwork:
        """Return the network with spectral norm carried out in the weights.

        Raises:
            NotRecognised: its vectors do not fit the weights.
        """


def one_or_all(values: Sequence[Any]) -> Any:
    """Return the value that a recipe says once where all are equal, else the list of them."""
    return values[0] if len(set(values)) == 1 else list(values)


def put_layer(state: dict[str, torch.Tensor], name: str, layer: Layer) -> None:
    """Add a layer's tensors to a state dict, spectral norm as torch's parametrisation has it."""
    if layer.u is not None and layer.v is not None:
        state[f"{name}.parametrizations.weight.original"] = layer.weight
        state[f"{name}.parametrizations.weight.0._u"] = layer.u
        state[f"{name}.parametrizations.weight.0._v"] = layer.v
    else:
        state[f"{name}.weight"] = layer.weight
    if layer.bias is not None:
        state[f"{name}.bias"] = layer.bias


def put_norm(state: dict[str, torch.Tensor], name: str, norm: Norm) -> None:
    """Add a batch norm's tensors to a state dict; a missing counter of batches is 0, a missing half of gain and bias
    what changes nothing."""
    state[f"{name}.running_mean"], state[f"{name}.running_var"] = norm.running_mean, norm.running_var
    batches = norm.batches if norm.batches is not None else torch.tensor(0)
    state[f"{name}.num_batches_tracked"] = batches.reshape(()).to(torch.int64)
    if norm.affine:
        state[f"{name}.weight"] = norm.weight if norm.weight is not None else torch.ones_like(norm.running_mean)
        state[f"{name}.bias"] = norm.bias if norm.bias is not None else torch.zeros_like(norm.running_mean)
