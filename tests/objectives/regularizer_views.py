"""What a regularizer is shown in tests: two tiny float64 networks that NumPy can repeat, and the views of a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ganzoo.objectives.regularizers.contract import DiscriminatorView, GeneratorView, Surroundings
from ganzoo.randomness import Draws

Array = npt.NDArray[Any]

SEED, BATCH, LATENT, CLASSES = 5, 5, 3, 4
SHAPE = (2, 6, 5)  # channels, H, W
FEATURES = {"first": (3, 2, 2), "last": (2, 3)}
REALS, LATENTS = np.arange(70, 70 + BATCH), np.arange(900, 900 + BATCH)


def surroundings(**changes: Any) -> Surroundings:
    given: dict[str, Any] = {
        "features": FEATURES,
        "image_shape": SHAPE,
        "latent_dim": LATENT,
        "prior": "normal",
        "num_classes": CLASSES,
        "labelled": True,
        "pairs_logits": False,
    }
    return Surroundings(**(given | changes))


def draws(numbers: npt.NDArray[np.int64]) -> Draws:
    return Draws(SEED, numbers, torch.device("cpu"), torch.float64)


@dataclass
class Step:
    """One step's tensors, and the networks: G(z, y) = tanh(z A + b_y), D(x, y) = w·x + v·x² + c_y, flattened."""

    labelled: bool = True
    random: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(3))

    def __post_init__(self) -> None:
        width = int(np.prod(SHAPE))
        self.a, self.b = self.normal(LATENT, width), self.normal(CLASSES, width)
        self.w, self.v, self.c = self.normal(width), self.normal(width), self.normal(CLASSES)
        self.real = self.normal(BATCH, *SHAPE).tanh()
        self.z, self.label = self.normal(BATCH, LATENT), torch.tensor([0, 3, 1, 3, 2])
        self.parameters = {"a": self.a, "b": self.b, "w": self.w, "v": self.v, "c": self.c}
        for tensor in self.parameters.values():
            tensor.requires_grad_()
        self.real_features = {name: self.normal(BATCH, *shape).requires_grad_() for name, shape in FEATURES.items()}
        self.fake_features = {name: self.normal(BATCH, *shape).requires_grad_() for name, shape in FEATURES.items()}

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random, dtype=torch.float64)

    def generate(self, z: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        return torch.tanh(z @ self.a + self.b[label]).view(-1, *SHAPE)

    def judge(self, image: Tensor, label: Tensor | None) -> Tensor:
        flat = image.flatten(1)
        logits = flat @ self.w + flat.square() @ self.v
        return logits if label is None else logits + self.c[label]

    def discriminator(
        self, kimg: float = 0.0, mean: Callable[[Tensor], Tensor] = Tensor.detach, **changes: Any
    ) -> DiscriminatorView:
        fake = self.generate(self.z, self.label).detach()
        real_label = self.label if self.labelled else None
        given: dict[str, Any] = {
            "real": self.real,
            "fake": fake,
            "real_logits": self.judge(self.real, real_label),
            "fake_logits": self.judge(fake, self.label),
            "real_features": self.real_features,
            "fake_features": self.fake_features,
            "real_label": real_label,
            "fake_label": self.label,
            "z": self.z,
            "judge": self.judge,
            "generate": torch.no_grad()(self.generate),
            "reals": draws(REALS),
            "latents": draws(LATENTS),
            "kimg": kimg,
            "mean": mean,
        }
        return DiscriminatorView(**(given | changes))

    def generator(self, kimg: float = 0.0, **changes: Any) -> GeneratorView:
        fake = self.generate(self.z, self.label)
        given: dict[str, Any] = {
            "fake": fake,
            "fake_logits": self.judge(fake, self.label),
            "fake_features": self.fake_features,
            "fake_label": self.label,
            "z": self.z,
            "judge": self.judge,
            "generate": self.generate,
            "latents": draws(LATENTS),
            "kimg": kimg,
            "mean": Tensor.detach,
        }
        return GeneratorView(**(given | changes))

    # ------------------------------------------------------------------ the same with NumPy

    def numpy_generate(self, z: Array) -> Array:
        b = self.b.detach().numpy()[self.label.numpy()]
        return np.tanh(z @ self.a.detach().numpy() + b).reshape(-1, *SHAPE)

    def numpy_judge(self, image: Array, label: Array) -> Array:
        flat = image.reshape(len(image), -1)
        w, v, c = (one.detach().numpy() for one in (self.w, self.v, self.c))
        return np.array([w @ one + v @ one**2 for one in flat]) + c[label]


def slope_by_differences(loss: Callable[[], Tensor], parameter: Tensor, index: int, step: float = 1e-6) -> float:
    """Return a loss's derivative with respect to one number of a parameter, by a central difference."""
    flat = parameter.data.view(-1)
    kept, values = float(flat[index]), []
    for sign in (1, -1):
        flat[index] = kept + sign * step
        values.append(float(loss().detach()))
    flat[index] = kept
    return (values[0] - values[1]) / (2 * step)


def assert_slopes(loss: Callable[[], Tensor], parameter: Tensor, count: int = 4) -> None:
    """Hold a loss's gradient against central differences, at some of a parameter's numbers."""
    (gradient,) = torch.autograd.grad(loss(), parameter)
    indices = np.linspace(0, parameter.numel() - 1, count).astype(int)
    found = [float(gradient.flatten()[int(index)]) for index in indices]
    expected = [slope_by_differences(loss, parameter, int(index)) for index in indices]
    assert any(found)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
