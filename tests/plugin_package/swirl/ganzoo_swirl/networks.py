"""Networks that paint by position: each pixel's colour is a function of where it is and of z (Stanley 2007)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import one_hot

Width = Annotated[int, Field(ge=1, le=512)]


def _with_classes(x: Tensor, label: Tensor | None, num_classes: int) -> Tensor:
    if not num_classes:
        return x
    if label is None:
        raise ValueError("labels are needed")
    return torch.cat((x, one_hot(label, num_classes).to(x.dtype)), dim=1)


class SwirlGenerator(nn.Module):
    """Paints every pixel by itself from its position and z.

    Args:
        image_size: side of the image in pixels, any.
        channels: of the image.
        latent_dim: length of z.
        num_classes: 0 for none.
        width: of each layer.
        depth: number of hidden layers.
    """

    position: Tensor

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        latent_dim: int,
        num_classes: int = 0,
        width: Width = 32,
        depth: Annotated[int, Field(ge=1, le=8)] = 2,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        line = torch.linspace(-1.0, 1.0, image_size)
        x, y = line[None, :].expand(image_size, -1), line[:, None].expand(-1, image_size)
        self.register_buffer("position", torch.stack((x, y, (x * x + y * y).sqrt()))[None], persistent=False)
        self.place = nn.Conv2d(3, width, 1)
        self.latent = nn.Linear(latent_dim + num_classes, width)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(depth))
        self.output = nn.Conv2d(width, channels, 1)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Return images, (batch, channels, image_size, image_size) in [-1, 1]."""
        code = self.latent(_with_classes(z, label, self.num_classes))
        x = torch.tanh(self.place(self.position) + code[:, :, None, None])
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return torch.tanh(self.output(x))


class SwirlDiscriminator(nn.Module):
    """A few strided convolutions without norm.

    Args:
        image_size: side of the image in pixels, any.
        channels: of the image.
        num_classes: 0 for none.
        widths: channels of each convolution.
    """

    per_sample = True

    def __init__(
        self, *, image_size: int, channels: int, num_classes: int = 0, widths: tuple[Width, ...] = (16, 32)
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        sides = (channels, *widths)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(sides[index], sides[index + 1], 3, 2, 1), nn.LeakyReLU(0.2))
            for index in range(len(widths))
        )
        side = image_size
        for _ in widths:
            side = -(-side // 2)
        self.output = nn.Linear(sides[-1] * side * side + num_classes, 1)

    def features(self, image: Tensor, label: Tensor | None = None) -> dict[str, Tensor]:
        """Return each layer's activations, by the path of the submodule that gives them."""
        found, x = {}, image
        for index, layer in enumerate(self.layers):
            x = found[f"layers.{index}"] = layer(x)
        return found

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Return logits, (batch,)."""
        last = list(self.features(image, label).values())[-1].flatten(1)
        logits: Tensor = self.output(_with_classes(last, label, self.num_classes))
        return logits[:, 0]
