"""The networks under test as most people write them: `nn.Sequential` of torch's own layers.

They are built from a recipe's tables, and have the layers and the number of parameters of ganzoo's networks.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from torch import nn

_SLOPE = "leaky_relu_"


def generator(recipe: Mapping[str, Any]) -> nn.Sequential:
    """Return a generator: (batch, latent_dim) → (batch, C, H, W).

    Args:
        recipe: the tables "data" and "generator" of a recipe of the DCGAN family, unconditional, stride 2.
    """
    data, table = recipe["data"], recipe["generator"]
    widths, kernel, bias = table["widths"], table["kernel_size"], table["bias"]
    sides = _sides(data["image_size"], len(widths))[::-1]
    layers: list[nn.Module] = _projection(table, sides[0])
    for into, out, before, side in zip(widths, (*widths[1:], data["channels"]), sides, sides[1:], strict=False):
        padding = (kernel - 1) // 2
        extra = side - ((before - 1) * 2 - 2 * padding + kernel)
        layers.append(nn.ConvTranspose2d(into, out, kernel, 2, padding, output_padding=extra, bias=bias))
        layers += [nn.BatchNorm2d(out), _activation(table["activation"])]
    return nn.Sequential(*layers[:-2], nn.Tanh())  # the last layer has neither norm nor activation


def _projection(table: Mapping[str, Any], side: int) -> list[nn.Module]:
    width, latent, bias = table["widths"][0], table["latent_dim"], table["bias"]
    square = nn.Unflatten(1, (width, side, side))
    if table["projection"] == "conv":
        project = [nn.Unflatten(1, (latent, 1, 1)), nn.ConvTranspose2d(latent, width, side, 1, 0, bias=bias)]
        return [*project, nn.BatchNorm2d(width), _activation(table["activation"])]
    project = [nn.Linear(latent, width * side**2, bias=bias)]
    if table["project_norm"] == "unit":
        return [*project, nn.BatchNorm1d(width * side**2), _activation(table["activation"]), square]
    return [*project, square, nn.BatchNorm2d(width), _activation(table["activation"])]


def discriminator(recipe: Mapping[str, Any]) -> nn.Sequential:
    """Return a discriminator: (batch, C, H, W) → logits (batch, 1).

    Args:
        recipe: the tables "data" and "discriminator", likewise.
    """
    data, table = recipe["data"], recipe["discriminator"]
    widths, kernel, bias = table["widths"], table["kernel_size"], table["bias"]
    layers: list[nn.Module] = []
    for number, (into, out) in enumerate(itertools.pairwise((data["channels"], *widths))):
        layers.append(nn.Conv2d(into, out, kernel, 2, (kernel - 1) // 2, bias=bias))
        layers += [nn.BatchNorm2d(out)] if number else []
        layers.append(_activation(table["activation"]))
    side = _sides(data["image_size"], len(widths))[-1]
    if table["head"] == "conv":
        return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, side, bias=bias), nn.Flatten())
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * side**2, 1, bias=bias))


def initialise(network: nn.Module) -> None:
    """Draw the weights of convolutions from N(0, 0.02²) and the gains of batch norms from N(1, 0.02²)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)


def count(network: nn.Module) -> int:
    """Return the number of a network's parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def _sides(image_size: int, layers: int) -> list[int]:
    """Return the side lengths from the image down: each half of the one before, rounded up."""
    sides = [image_size]
    for _ in range(layers):
        sides.append(-(-sides[-1] // 2))
    return sides


def _activation(name: str) -> nn.Module:
    return nn.LeakyReLU(float(name.removeprefix(_SLOPE)), inplace=True) if name.startswith(_SLOPE) else nn.ReLU(True)
