"""An independent float64 account of one training step, to hold ganzoo's own against.

It imports nothing of ganzoo: it reads a recipe's table as `tomllib` gives it, takes the networks' first tensors by name
and everything random as plain arrays, and does the rest from the formulas of the papers: layers, batch norm, spectral
norm, losses, penalties, the order of updates, optimisers, schedules and the moving average. Nothing in it is fast, and
nothing is done the way ganzoo does it where there is another way: a transposed convolution is a convolution of an image
with zeros put between its pixels, a penalty's gradients are taken one image at a time, and which images and z belong to
which update is worked out from the recipe's words.

Gradients are torch.autograd's, of the functions written here.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Numbers = npt.NDArray[np.int64]
Tensors = dict[str, Tensor]


class Given(Protocol):
    """Everything that a step is given and does not compute, by the global numbers of real images and of z."""

    def real(self, numbers: Numbers) -> Tensor:
        """Return real images (n, C, H, W) in [-1, 1]."""

    def label(self, numbers: Numbers) -> Tensor | None:
        """Return the labels of real images (n,), or None where the recipe knows no classes."""

    def label_of_latents(self, numbers: Numbers) -> Tensor | None:
        """Return labels drawn for z that come with no real images."""

    def latent(self, numbers: Numbers) -> Tensor:
        """Return z: (n, latent_dim)."""

    def mask(self, use: str, layer: int, numbers: Numbers, shape: Sequence[int], keep: float) -> Tensor:
        """Return a dropout mask (n, *shape) of zeros and ones for "real", "fake", "generator" or "penalty"."""

    def joined_mask(self, layer: int, reals: Numbers, latents: Numbers, shape: Sequence[int], keep: float) -> Tensor:
        """Return the mask of one batch of real images and fakes."""

    def mixing(self, numbers: Numbers, count: int) -> Tensor:
        """Return (n, count) numbers uniform on (0, 1) for a penalty."""

    def augmented(self, use: str, image: Tensor, numbers: Numbers, probability: float) -> Tensor:
        """Return images as the recipe's augmentation changes them for "real", "fake", "generator", "generator_real" or
        "penalty", with their graph."""


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the table of a recipe's file."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------ networks

BATCH_NORM_MOMENTUM = 0.1  # share of the batch in the running statistics
COMMON = {"kernel_size": 5, "strides": 2, "hidden": [], "norm": "batch", "norm_eps": 1e-5, "norm_affine": True}
GENERATOR = {**COMMON, "widths": [1024, 512, 256, 128], "activation": "relu", "project_norm": "unit", "bias": False}
DISCRIMINATOR = {**COMMON, "widths": [128, 256, 512, 1024], "activation": "leaky_relu_0.2", "bias": False}

Dropper = Callable[[int, Tensor], Tensor]


def shrunk(size: int, stride: int) -> int:
    """Return the side after a centred convolution: every stride-th pixel has an output."""
    return math.ceil(size / stride)


def padding_of(size: int, kernel: int, stride: int) -> int:
    """Return the zeros on each side with which a convolution of `size` pixels has size / stride outputs, rounded up."""
    return max(math.ceil(((shrunk(size, stride) - 1) * stride + kernel - size) / 2), 0)


def convolve(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Return the centred convolution of x (n, in, size, size) with weight (out, in, k, k)."""
    out = F.conv2d(x, weight, None, stride, padding_of(x.shape[-1], weight.shape[-1], stride))
    assert out.shape[-1] == shrunk(x.shape[-1], stride)
    return out


def convolve_transposed(x: Tensor, weight: Tensor, stride: int, size: int) -> Tensor:
    """Return the adjoint of the centred convolution of `size` pixels: x (n, in, m, m) → (n, out, size, size).

    The weight is (in, out, k, k).
    """
    kernel = weight.shape[-1]
    spread = x.new_zeros(*x.shape[:2], *((side - 1) * stride + 1 for side in x.shape[2:]))
    spread[..., ::stride, ::stride] = x
    before = kernel - 1 - padding_of(size, kernel, stride)
    after = size + kernel - 1 - before - spread.shape[-1]
    return F.conv2d(F.pad(spread, (before, after, before, after)), weight.transpose(0, 1).flip(2, 3))


def slope_of(activation: str) -> float:
    """Return the slope below zero that an activation's name tells."""
    return float(activation.removeprefix("leaky_relu_")) if activation != "relu" else 0.0


def listed(value: Any, count: int) -> list[int]:
    """Return one entry for each layer."""
    return [value] * count if isinstance(value, int) else list(value)


def with_classes(x: Tensor, classes: Tensor | None) -> Tensor:
    """Return x with a map of ones or zeros (or one number) for each class behind its channels."""
    if classes is None:
        return x
    maps = classes.view(*classes.shape, *[1] * (x.dim() - 2)) * torch.ones_like(x[:, :1])
    return torch.cat((x, maps), 1)


class Network:
    """Tensors by name, and the layers that use them in training mode.

    Args:
        tensors: a state dict; copied.
        options: the recipe's table of this network over the defaults.
        data: the recipe's `[data]`.
    """

    def __init__(self, tensors: Mapping[str, Tensor], options: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        self.tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self.options = options
        self.size: int = data["image_size"]
        self.classes: int = data.get("num_classes", 0)
        self.slope = slope_of(options["activation"])
        for name in self.names():
            self.tensors[name].requires_grad_()

    def names(self) -> list[str]:
        """Return the names of what is trained: all that is no statistic."""
        statistics = ("running_mean", "running_var", "num_batches_tracked", "_u", "_v")
        return [name for name in self.tensors if not name.endswith(statistics)]

    def parameters(self) -> list[Tensor]:
        """Return what is trained."""
        return [self.tensors[name] for name in self.names()]

    def one_hot(self, label: Tensor | None) -> Tensor | None:
        """Return (n, classes) of zeros and ones."""
        if self.classes == 0:
            return None
        assert label is not None
        return (label[:, None] == torch.arange(self.classes)).double()

    def weight(self, layer: str, rows: int = 0) -> Tensor:
        """Return a layer's weight, over its spectral norm where the recipe says so (arXiv 1802.05957, algorithm 1).

        Args:
            layer: its name.
            rows: the dimension of the outputs.
        """
        if self.options["norm"] != "spectral":
            return self.tensors[f"{layer}.weight"]
        prefix = f"{layer}.parametrizations.weight"
        original = self.tensors[f"{prefix}.original"]
        matrix = original.movedim(rows, 0).reshape(original.shape[rows], -1)
        with torch.no_grad():
            u = matrix @ self.tensors[f"{prefix}.0._v"]
            u = u / u.square().sum().sqrt()
            v = matrix.T @ u
            v = v / v.square().sum().sqrt()
        self.tensors[f"{prefix}.0._u"], self.tensors[f"{prefix}.0._v"] = u, v
        return original / (u @ matrix @ v)

    def biased(self, layer: str, x: Tensor) -> Tensor:
        """Return x plus the layer's bias, where the recipe has biases."""
        if not self.options["bias"]:
            return x
        return x + self.tensors[f"{layer}.bias"].view(1, -1, *[1] * (x.dim() - 2))

    def dense(self, layer: str, x: Tensor) -> Tensor:
        """Return x Wᵀ + b."""
        return self.biased(layer, x @ self.weight(layer).T)

    def batch_norm(self, layer: str, x: Tensor) -> Tensor:
        """Return x normalised over batch and positions (arXiv 1502.03167, algorithm 1), where the recipe has it."""
        if self.options["norm"] != "batch":
            return x
        over = [dim for dim in range(x.dim()) if dim != 1]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        mean = x.mean(over, keepdim=True)
        variance = (x - mean).square().mean(over, keepdim=True)
        count = x.numel() // x.shape[1]
        with torch.no_grad():
            estimates = {"running_mean": mean.flatten(), "running_var": variance.flatten() * count / (count - 1)}
            for name, estimate in estimates.items():
                running = self.tensors[f"{layer}.{name}"]
                self.tensors[f"{layer}.{name}"] = running + BATCH_NORM_MOMENTUM * (estimate - running)
            self.tensors[f"{layer}.num_batches_tracked"] = self.tensors[f"{layer}.num_batches_tracked"] + 1
        normal: Tensor = (x - mean) / (variance + self.options["norm_eps"]).sqrt()
        if not self.options["norm_affine"]:
            return normal
        gain, bias = (self.tensors[f"{layer}.{name}"].view(shape) for name in ("weight", "bias"))
        out: Tensor = normal * gain + bias
        return out

    def activate(self, x: Tensor) -> Tensor:
        """Return x where it is positive, else slope · x."""
        return torch.where(x > 0, x, self.slope * x)


class Generator(Network):
    """z → dense layers → projection → transposed convolutions → tanh."""

    def __call__(self, z: Tensor, label: Tensor | None) -> Tensor:
        """Return images (n, C, H, W) of z (n, latent_dim)."""
        options, classes = self.options, self.one_hot(label)
        widths = options["widths"]
        kernels, strides = listed(options["kernel_size"], len(widths)), listed(options["strides"], len(widths))
        assert len(kernels) == len(strides) == len(widths)
        sizes = [self.size]
        for stride in reversed(strides):
            sizes.insert(0, shrunk(sizes[0], stride))
        x = with_classes(z, classes)
        for index in range(len(options["hidden"])):
            x = self.dense(f"hidden.{index}.linear", x)
            x = with_classes(self.activate(self.batch_norm(f"hidden.{index}.norm", x)), classes)
        square = (widths[0], sizes[0], sizes[0])
        if options.get("projection", "dense") == "conv":
            weight = self.weight("project", rows=1)  # (in, out, n, n): every z goes to each place of the square
            x = self.biased("project", torch.einsum("bi,iohw->bohw", x, weight))
        else:
            x = self.dense("project", x)
        x = x.reshape(len(x), *((-1,) if options["project_norm"] == "unit" else square))
        x = self.activate(self.batch_norm("project_norm", x)).reshape(len(x), *square)
        for index in range(len(widths)):
            last = index == len(widths) - 1
            name = "output" if last else f"layers.{index}.conv"
            weight = self.weight(name, rows=1)
            x = convolve_transposed(with_classes(x, classes), weight, strides[index], sizes[index + 1])
            x = self.biased(name, x)
            x = torch.tanh(x) if last else self.activate(self.batch_norm(f"layers.{index}.norm", x))
        return x


class Discriminator(Network):
    """Image → convolutions → dense layers → one logit."""

    def __call__(self, image: Tensor, label: Tensor | None, drop: Dropper) -> Tensor:
        """Return logits (n,) of images (n, C, H, W)."""
        options, classes = self.options, self.one_hot(label)
        widths = options["widths"]
        kernels, strides = listed(options["kernel_size"], len(widths)), listed(options["strides"], len(widths))
        assert len(kernels) == len(strides) == len(widths)
        projected = options.get("conditioning", "concat") == "projection"
        appended = None if projected else classes
        x = image
        for index, stride in enumerate(strides):
            name = f"layers.{index}.conv"
            x = self.biased(name, convolve(with_classes(x, appended), self.weight(name), stride))
            x = self.activate(self.batch_norm(f"layers.{index}.norm", x) if index > 0 else x)
            if options.get("dropout", 0):
                x = drop(index, x)
        if options.get("head", "dense") == "conv":
            out = self.biased("output", torch.einsum("bihw,oihw->bo", with_classes(x, appended), self.weight("output")))
            inside = x.sum((2, 3))
        else:
            flat = x.reshape(len(x), -1)
            for index in range(len(options["hidden"])):
                flat = self.dense(f"hidden.{index}.linear", with_classes(flat, appended))
                flat = self.activate(self.batch_norm(f"hidden.{index}.norm", flat))
            out = self.dense("output", with_classes(flat, appended))
            inside = flat if options["hidden"] else x.sum((2, 3))
        logits = out[:, 0]
        if projected and classes is not None:  # + e_yᵀ phi(x): arXiv 1802.05637, equation 5
            logits = logits + ((classes @ self.weight("embedding").T) * inside).sum(1)
        return logits


# ------------------------------------------------------------------------------------------------ families

FAMILIES = {"dcgan": "reference", "resnet": "reference_resnet", "r3gan": "reference_r3gan"}
"""Name of a network → the module with its `Generator` and `Discriminator`, and their options by default in capitals."""


def family_of(section: Mapping[str, Any]) -> ModuleType:
    """Return the module of a recipe's `[generator]` or `[discriminator]`."""
    return import_module(FAMILIES[section["name"]])


# ------------------------------------------------------------------------------------------------ losses


def cross_entropy(logits: Tensor, target: float) -> Tensor:
    """Return the mean of -t log p - (1 - t) log(1 - p), p = sigmoid(logit)."""
    return -(target * torch.sigmoid(logits).log() + (1 - target) * torch.sigmoid(-logits).log()).mean()


def discriminator_loss(objective: Mapping[str, Any], real: Tensor, fake: Tensor) -> Tensor:
    """Return what D minimises, of the logits of real images and fakes."""
    match objective["name"]:
        case "non_saturating" | "minimax":
            return cross_entropy(real, 1 - objective.get("label_smoothing", 0)) + cross_entropy(fake, 0)
        case "least_squares":  # arXiv 1611.04076, equation 2
            a, b = float(objective.get("a", 0)), float(objective.get("b", 1))
            return (real - b).square().mean() / 2 + (fake - a).square().mean() / 2
        case "wasserstein":  # arXiv 1701.07875, equation 3: D maximises E D(x) - E D(G(z))
            return -(real.mean() - fake.mean())
        case "hinge":  # arXiv 1802.05957, equation 16: D maximises E min(0, -1 + D(x)) + E min(0, -1 - D(G(z)))
            return -((real - 1).clamp(max=0).mean() + (-fake - 1).clamp(max=0).mean())
        case (
            "relativistic"
        ):  # arXiv 2501.05441, equation 2, with f(t) = -log(1 + exp(-t)): D maximises E f(D(x) - D(G(z)))
            return torch.log1p(torch.exp(-(real - fake))).mean()
        case "relativistic_average":  # arXiv 1807.00734, equations 12 and 13, as cross-entropies
            return cross_entropy(real - fake.mean(), 1) + cross_entropy(fake - real.mean(), 0)
        case "margin":  # arXiv 1609.03126, equation 1, with the energy -log sigmoid(logit)
            energy = {name: -torch.sigmoid(one).log() for name, one in (("real", real), ("fake", fake))}
            return energy["real"].mean() + (float(objective.get("margin", 1)) - energy["fake"]).clamp(min=0).mean()
    raise AssertionError(objective)


def boundary(objective: Mapping[str, Any], real: Tensor, fake: Tensor) -> Tensor:
    """Return the logit between real and fake: that of indifference, or the middle where only differences count."""
    match objective["name"]:
        case "relativistic" | "relativistic_average" | "wasserstein":
            return (real.mean() + fake.mean()) / 2
        case "least_squares":
            return real.new_tensor((float(objective.get("a", 0)) + float(objective.get("b", 1))) / 2)
        case "margin":  # of the energy m / 2: -log sigmoid(x) = m / 2
            half = torch.tensor(math.exp(-float(objective.get("margin", 1)) / 2), dtype=real.dtype)
            return torch.logit(half)
    return real.new_zeros(())


def generator_loss(objective: Mapping[str, Any], fake: Tensor, real: Tensor | None) -> Tensor:
    """Return what G minimises."""
    match objective["name"]:
        case "non_saturating" | "margin":  # G maximises E log D(G(z)), which is to minimise the energy
            return -torch.sigmoid(fake).log().mean()
        case "minimax":  # G minimises E log(1 - D(G(z)))
            return torch.sigmoid(-fake).log().mean()
        case "least_squares":
            return (fake - float(objective.get("c", 1))).square().mean() / 2
        case "wasserstein" | "hinge":
            return -fake.mean()
        case "relativistic":
            assert real is not None
            return torch.log1p(torch.exp(-(fake - real))).mean()
        case "relativistic_average":
            assert real is not None
            return cross_entropy(fake - real.mean(), 1) + cross_entropy(real - fake.mean(), 0)
    raise AssertionError(objective)


def gradient_rule(rule: str, logits: Tensor, image: Tensor) -> Tensor:
    """Return the mean over the batch of a rule on ‖∂D(x)/∂x‖, each image's gradient taken by itself."""
    values = []
    for index in range(len(image)):
        (gradient,) = torch.autograd.grad(logits[index], image, create_graph=True)
        squared = gradient[index].square().sum()
        match rule:
            case "zero_centered":
                values.append(squared)
            case "one_centered":
                values.append((squared.sqrt() - 1) ** 2)
            case "lipschitz":
                values.append((squared.sqrt() - 1).clamp(min=0) ** 2)
            case _:
                raise AssertionError(rule)
    return torch.stack(values).mean()


# ------------------------------------------------------------------------------------------------ optimisers


def scheduled(value: Any, kimg: float) -> float:
    """Return a number, or what its schedule has come to after so many thousands of images."""
    if not isinstance(value, Mapping):
        return float(value)
    begin = value.get("begin_kimg", 0.0)
    done = min(1.0, max(0.0, (kimg - begin) / (value["kimg"] - begin)))
    left = (1 + math.cos(math.pi * done)) / 2 if value["schedule"] == "cosine" else 1 - done
    return float(left * value["start"] + (1 - left) * value["end"])


@dataclass
class Optimizer:
    """Adam (arXiv 1412.6980, algorithm 1) or RMSprop (Hinton's lecture 6e); l2 · parameter is added to the gradient."""

    settings: Mapping[str, Any]
    moments: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    updates: int = 0

    def update(self, network: Network, gradients: Sequence[Tensor], kimg: float) -> None:
        """Change the network's parameters."""
        settings = self.settings
        rate = scheduled(settings["lr"], kimg)
        eps, l2 = settings.get("eps", 1e-8), settings.get("l2", 0.0)
        self.updates += 1
        for name, gradient in zip(network.names(), gradients, strict=True):
            parameter = network.tensors[name].detach()
            gradient = gradient + l2 * parameter
            first, second = self.moments.get(name, (torch.zeros_like(parameter), torch.zeros_like(parameter)))
            if settings.get("name", "adam") == "rmsprop":
                alpha = settings.get("alpha", 0.99)
                second = alpha * second + (1 - alpha) * gradient**2
                parameter = parameter - rate * gradient / (second.sqrt() + eps)
            else:
                beta1, beta2 = (scheduled(beta, kimg) for beta in settings.get("betas", (0.9, 0.999)))
                first = beta1 * first + (1 - beta1) * gradient
                second = beta2 * second + (1 - beta2) * gradient**2
                mean, square = first / (1 - beta1**self.updates), second / (1 - beta2**self.updates)
                # The rate lies in a tensor of 32 bits, all that torch's fused Adam takes.
                parameter = parameter - float(np.float32(rate)) * mean / (square.sqrt() + eps)
            self.moments[name] = first, second
            network.tensors[name] = parameter.requires_grad_()


# ------------------------------------------------------------------------------------------------ the step


@dataclass(frozen=True)
class Minibatch:
    """Inputs of one update: numbers of real images and z, and what they stand for."""

    reals: Numbers
    latents: Numbers
    real: Tensor
    label: Tensor | None
    z: Tensor


class Training:
    """A training of two networks, one step at a time.

    Args:
        recipe: the table of its file.
        generator: its first tensors by name, float64.
        discriminator: likewise.
        given: images, labels, z and all random numbers.

    Attributes:
        generator: the trained network.
        discriminator: likewise.
        average: the moving average of the generator's parameters with the latest statistics, or None.
        told: name → what each update had to tell: losses, penalties, norms of gradients, mean logits.
    """

    def __init__(
        self,
        recipe: Mapping[str, Any],
        generator: Mapping[str, Tensor],
        discriminator: Mapping[str, Tensor],
        given: Given,
    ) -> None:
        self.recipe, self.given = recipe, given
        self.objective: Mapping[str, Any] = recipe["objective"]
        self.penalties: Sequence[Mapping[str, Any]] = recipe.get("penalty", [])
        sections, data = (recipe["generator"], recipe["discriminator"]), recipe["data"]
        families = [family_of(section) for section in sections]
        self.generator: Any = families[0].Generator(generator, {**families[0].GENERATOR, **sections[0]}, data)
        self.discriminator: Any = families[1].Discriminator(
            discriminator, {**families[1].DISCRIMINATOR, **sections[1]}, data
        )
        shared = {key: value for key, value in recipe["optimizer"].items() if key not in ("generator", "discriminator")}
        self.optimizers = {
            name: Optimizer({**shared, **recipe["optimizer"].get(name, {})}) for name in ("generator", "discriminator")
        }
        ema = recipe.get("ema", {})
        self.average = dict(self.generator.tensors) if ema.get("half_life_kimg", 0) != 0 else None
        self.told: dict[str, list[float]] = {}
        train = recipe["train"]
        self.order: str = train.get("update", "sequential")
        self.batch: int = train["batch_size"]
        self.generator_batch: int = train.get("generator_batch_size", self.batch)
        self.times: int = train.get("discriminator_steps", 1)
        self.parts: int = train.get("accumulate", 1)
        self.joined: bool = train.get("real_fake_batches", "separate") == "joined"
        self.reuse_fakes: bool = train.get("reuse_fakes", False)
        self.augmentation: Mapping[str, Any] | None = recipe.get("augmentation")
        self.relativistic = self.objective["name"].startswith("relativistic")
        self.fresh_reals = self.relativistic and train.get("generator_reals", "fresh") == "fresh"

    @property
    def reals_per_step(self) -> int:
        """Real images drawn by a step."""
        if self.order == "simultaneous":
            return self.batch
        if self.order == "alternate_minibatches":
            return 2 * self.batch
        return self.times * self.batch + (self.generator_batch if self.fresh_reals else 0)

    @property
    def latents_per_step(self) -> int:
        """Latents drawn by a step."""
        if self.order == "simultaneous":
            return self.batch
        if self.order == "alternate_minibatches":
            return 2 * self.batch
        return self.times * self.batch + (0 if self.reuse_fakes else self.generator_batch)

    def step(self, number: int) -> None:
        """Do the step of that number, from 0."""
        self.number = number
        self.kimg = number * self.reals_per_step / 1000
        reals = np.arange(number * self.reals_per_step, (number + 1) * self.reals_per_step)
        latents = np.arange(number * self.latents_per_step, (number + 1) * self.latents_per_step)
        size = self.batch
        if self.order == "simultaneous":
            self._train_both(reals, latents)
        elif self.order == "alternate_minibatches":  # the first minibatch trains G, the second D
            self._train_generator(reals[:size], latents[:size])
            self._train_discriminator(reals[size:], latents[size:])
        else:
            for time in range(self.times):
                mine = slice(time * size, (time + 1) * size)
                shown = self._train_discriminator(reals[mine], latents[mine])
            rest = slice(self.times * size, None)
            shown_to_generator = reals[rest] if self.fresh_reals else reals[mine]
            wanted = shown_to_generator if self.relativistic else reals[:0]
            if self.reuse_fakes:
                self._train_generator(wanted, latents[mine], shown)
            else:
                self._train_generator(wanted, latents[rest])
        if self.augmentation is not None:
            self._tell("augmentation/probability", torch.tensor(self._probability(), dtype=torch.float64))
        if self.average is not None:
            self._move_average()

    def _train_discriminator(self, reals: Numbers, latents: Numbers) -> tuple[Tensor, Tensor | None]:
        """Update D; return the fakes that it was shown last and their labels."""
        total: list[Tensor] | None = None
        for batch in self._split(reals, latents):
            fake = self.generator(batch.z, batch.label)
            loss, _, _ = self._judge_both(batch, fake.detach())
            total = self._add(total, torch.autograd.grad(loss, self.discriminator.parameters()))
        self._apply("discriminator", self.discriminator, total)
        return fake, batch.label

    def _train_generator(
        self, reals: Numbers, latents: Numbers, shown: tuple[Tensor, Tensor | None] | None = None
    ) -> None:
        """Update G through fresh fakes, or through those that D was shown, with their labels."""
        total: list[Tensor] | None = None
        for batch in self._split(reals, latents):
            fake, label = shown if shown is not None else (self.generator(batch.z, batch.label), batch.label)
            seen = self._seen("generator", fake, batch.latents)
            fake_logits = self.discriminator(seen, label, self._dropper("generator", batch.latents))
            real_logits = None
            if self.relativistic:
                seen = self._seen("generator_real", batch.real, batch.reals)
                real_logits = self.discriminator(seen, batch.label, self._dropper("real", batch.reals)).detach()
            loss = generator_loss(self.objective, fake_logits, real_logits)
            self._tell("loss/generator", loss)
            total = self._add(total, torch.autograd.grad(loss, self.generator.parameters()))
        self._apply("generator", self.generator, total)

    def _train_both(self, reals: Numbers, latents: Numbers) -> None:
        """Update both from one forward pass, both gradients taken before either changes.

        Real logits are numbers to G, as in every order, though in a joined batch they hang on the fakes by batch norm.
        """
        of_generator: list[Tensor] | None = None
        of_discriminator: list[Tensor] | None = None
        for batch in self._split(reals, latents):
            loss, real, fake = self._judge_both(batch, self.generator(batch.z, batch.label))
            gradients = torch.autograd.grad(loss, self.discriminator.parameters(), retain_graph=True)
            of_discriminator = self._add(of_discriminator, gradients)
            loss = generator_loss(self.objective, fake, real.detach())
            self._tell("loss/generator", loss)
            of_generator = self._add(of_generator, torch.autograd.grad(loss, self.generator.parameters()))
        self._apply("discriminator", self.discriminator, of_discriminator)
        self._apply("generator", self.generator, of_generator)

    def _judge_both(self, batch: Minibatch, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return D's loss with its penalties, and the logits of real images and fakes."""
        real = batch.real.clone().requires_grad_()
        if not fake.requires_grad:
            fake = fake.clone().requires_grad_()
        seen_real, seen_fake = self._seen("real", real, batch.reals), self._seen("fake", fake, batch.latents)
        if self.joined:

            def drop(layer: int, x: Tensor) -> Tensor:
                keep: float = 1 - self.discriminator.options["dropout"]
                return x * self.given.joined_mask(layer, batch.reals, batch.latents, x.shape[1:], keep) / keep

            label = None if batch.label is None else torch.cat((batch.label, batch.label))
            both = self.discriminator(torch.cat((seen_real, seen_fake)), label, drop)
            real_logits, fake_logits = both[: len(real)], both[len(real) :]
        else:
            real_logits = self.discriminator(seen_real, batch.label, self._dropper("real", batch.reals))
            fake_logits = self.discriminator(seen_fake, batch.label, self._dropper("fake", batch.latents))
        self._tell("logits/real", real_logits.mean())
        self._tell("logits/fake", fake_logits.mean())
        self._tell("logits/real_std", ((real_logits - real_logits.mean()).square().sum() / (len(real) - 1)).sqrt())
        self._tell("logits/fake_std", ((fake_logits - fake_logits.mean()).square().sum() / (len(fake) - 1)).sqrt())
        middle = boundary(self.objective, real_logits, fake_logits)
        self._tell("accuracy/real", (real_logits > middle).double().mean())
        self._tell("accuracy/fake", (fake_logits < middle).double().mean())
        loss = discriminator_loss(self.objective, real_logits, fake_logits)
        self._tell("loss/discriminator", loss)
        for penalty in self.penalties:
            where, rule = penalty.get("where", "real"), penalty.get("rule", "zero_centered")
            every = penalty.get("every", 1)
            if self.number % every:
                continue
            if where in ("real", "fake"):
                at, logits = (real, real_logits) if where == "real" else (fake, fake_logits)
            else:
                at = self._between(where, batch, fake).requires_grad_()
                seen = self._seen("penalty", at, batch.reals)
                logits = self.discriminator(seen, batch.label, self._dropper("penalty", batch.reals))
            value = gradient_rule(rule, logits, at)
            self._tell(f"penalty/{where}_{rule}", value)
            loss = loss + scheduled(penalty["weight"], self.kimg) * every * value
        return loss, real_logits, fake_logits

    def _seen(self, use: str, image: Tensor, numbers: Numbers) -> Tensor:
        """Return images as D is shown them."""
        if self.augmentation is None:
            return image
        return self.given.augmented(use, image, numbers, self._probability())

    def _probability(self) -> float:
        assert self.augmentation is not None
        return scheduled(self.augmentation.get("probability", 1.0), self.kimg)

    def _between(self, where: str, batch: Minibatch, fake: Tensor) -> Tensor:
        """Return the images that are neither real nor fake at which a penalty's gradient is taken."""
        real, fake = batch.real.clone(), fake.detach()
        if where == "line":  # arXiv 1704.00028, algorithm 1
            share = self.given.mixing(batch.reals, 1)[:, 0]
            return torch.stack([(1 - s) * a + s * b for s, a, b in zip(share, real, fake, strict=True)])
        assert where == "around_real"  # arXiv 1705.07215, as its authors' code: x + 0.5 · std(x) · u · v
        numbers = self.given.mixing(batch.reals, 1 + real[0].numel())
        moved = []
        for image, share in zip(real, numbers, strict=True):
            deviation = (image - image.mean()).square().mean().sqrt()
            moved.append(image + share[0] * share[1:].view_as(image) * 0.5 * deviation)
        return torch.stack(moved)

    def _split(self, reals: Numbers, latents: Numbers) -> Iterator[Minibatch]:
        """Yield the inputs of an update in the parts that its gradients are summed over."""
        for mine, its in zip(np.split(reals, self.parts), np.split(latents, self.parts), strict=True):
            label = self.given.label(mine) if len(reals) else self.given.label_of_latents(its)
            yield Minibatch(mine, its, self.given.real(mine), label, self.given.latent(its))

    def _dropper(self, use: str, numbers: Numbers) -> Dropper:
        def drop(layer: int, x: Tensor) -> Tensor:
            keep: float = 1 - self.discriminator.options["dropout"]
            return x * self.given.mask(use, layer, numbers, x.shape[1:], keep) / keep

        return drop

    def _add(self, total: list[Tensor] | None, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Return the mean gradient of the parts so far, of which there will be `self.parts`."""
        shares = [gradient / self.parts for gradient in gradients]
        return shares if total is None else [a + b for a, b in zip(total, shares, strict=True)]

    def _apply(self, name: str, network: Network, gradients: list[Tensor] | None) -> None:
        assert gradients is not None
        self._tell(f"gradient/{name}", sum((one.square().sum() for one in gradients), torch.zeros(())).sqrt())
        self.optimizers[name].update(network, gradients, self.kimg)

    def _move_average(self) -> None:
        """Move the average of the generator's parameters: after a half-life's images, half of the old is left."""
        assert self.average is not None
        ema = self.recipe["ema"]
        images = scheduled(ema["half_life_kimg"], self.kimg) * 1000
        if ema.get("ramp", 0):
            images = min(images, ema["ramp"] * self.kimg * 1000)
        left = 0.5 ** (self.reals_per_step / images) if images > 0 else 0.0
        trained = set(self.generator.names())
        for name, now in self.generator.tensors.items():
            average = self.average[name].detach()
            self.average[name] = left * average + (1 - left) * now.detach() if name in trained else now

    def _tell(self, name: str, value: Tensor) -> None:
        self.told.setdefault(name, []).append(float(value.detach()))

    def read(self) -> dict[str, float]:
        """Return the means of what was told since the last reading."""
        means = {name: float(np.mean(values)) for name, values in self.told.items()}
        self.told.clear()
        return means
