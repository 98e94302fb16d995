"""Drawing images from seeds. A seed names one image: the same on torch and elsewhere, whatever is drawn beside it.

A `Sampler` draws with one runtime: `TorchSampler` here, `OnnxSampler` and `OpenVINOSampler` of `ganzoo.export`, or one
that a third party registers. `BaseSampler` makes z, labels and batches for all, so that they cannot differ in them;
what a seed stands for is in `ganzoo.seeds`. Importing this module does not import torch.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from ganzoo import registry
from ganzoo.errors import PluginError, UsageError, WeightsError, suggest
from ganzoo.files import sha256_of
from ganzoo.model_config import GENERATOR
from ganzoo.seeds import as_seeds, check_truncation, choose_labels
from ganzoo.seeds import labels_of as labels_of
from ganzoo.seeds import latents as latents
from ganzoo.seeds import parse_seeds as parse_seeds
from ganzoo.seeds import seed_words as seed_words

if TYPE_CHECKING:
    import torch

    from ganzoo.models import Model
    from ganzoo.references import ModelLocation


class Sampler(Protocol):
    """Draws images from seeds, whatever computes them.

    Attributes:
        image_size: side of the square images, in pixels.
        channels: 1 (grey) or 3 (RGB).
        num_classes: 0 for a model without classes.
        latent_dim: length of z.
        prior: of z, "uniform" or "normal".
    """

    image_size: int
    channels: int
    num_classes: int
    latent_dim: int
    prior: str

    def sample(
        self,
        seeds: npt.ArrayLike,
        labels: npt.ArrayLike | None = None,
        *,
        truncation: float | None = None,
        batch_size: int = 64,
    ) -> npt.NDArray[np.float32]:
        """Return the images of seeds: (n, channels, image_size, image_size), float32 in [-1, 1]."""

    def pixels(
        self,
        seeds: npt.ArrayLike,
        labels: npt.ArrayLike | None = None,
        *,
        truncation: float | None = None,
        batch_size: int = 64,
    ) -> npt.NDArray[np.uint8]:
        """Return the images of seeds: (n, image_size, image_size, channels), uint8."""


class BaseSampler(ABC):
    """All of a sampler but the network: z, labels, batches and what is refused. A subclass implements `_draw`.

    To be chosen by its name (`registry.samplers`, `ganzoo sample --runtime NAME`) it also has a class method
    `open(location, *, device, provider, precision)`, with the arguments and errors of `open_sampler`.

    Args:
        image_size, channels, num_classes, latent_dim, prior: of the model, as `Sampler` has them.
    """

    def __init__(self, *, image_size: int, channels: int, num_classes: int, latent_dim: int, prior: str) -> None:
        self.image_size, self.channels, self.num_classes = image_size, channels, num_classes
        self.latent_dim, self.prior = latent_dim, prior

    def sample(
        self,
        seeds: npt.ArrayLike,
        labels: npt.ArrayLike | None = None,
        *,
        truncation: float | None = None,
        batch_size: int = 64,
    ) -> npt.NDArray[np.float32]:
        """Return the images of seeds: (n, channels, image_size, image_size), float32 in [-1, 1].

        Args:
            seeds: (n,), whole numbers in [0, 2^64).
            labels: (n,), classes of a conditional model, or one for all; by default `labels_of` the seeds.
            truncation: psi in (0, 1], see `latents`.
            batch_size: how many are drawn at once; it does not change the images beyond rounding.

        Raises:
            UsageError: labels out of range, of the wrong number, or for a model that knows no classes; seeds that are
                no whole numbers; a truncation or `batch_size` out of range.
            WeightsError: the model draws images that hold NaN or Inf.
        """
        parts = [self._draw(z, label) for z, label in self._batches(seeds, labels, truncation, batch_size)]
        if not parts:
            return np.empty((0, self.channels, self.image_size, self.image_size), dtype=np.float32)
        images = np.concatenate(parts).astype(np.float32, copy=False)
        if not np.isfinite(images).all():  # of finite weights, too: a negative variance, a sum beyond float16
            raise WeightsError("The model draws images that hold NaN or Inf.", "Its weights are of no use.")
        return images

    def pixels(
        self,
        seeds: npt.ArrayLike,
        labels: npt.ArrayLike | None = None,
        *,
        truncation: float | None = None,
        batch_size: int = 64,
    ) -> npt.NDArray[np.uint8]:
        """Return the images of seeds as `ganzoo.pictures.to_uint8` makes them: (n, image_size, image_size, channels).

        Arguments and errors are those of `sample`.
        """
        from ganzoo.pictures import to_uint8

        return to_uint8(self.sample(seeds, labels, truncation=truncation, batch_size=batch_size))

    @abstractmethod
    def _draw(self, z: npt.NDArray[np.float32], label: npt.NDArray[np.int64] | None) -> npt.NDArray[Any]:
        """Return the images of one batch: (batch, channels, image_size, image_size), floating point in [-1, 1].

        Args:
            z: (batch, latent_dim).
            label: (batch,), or None for a model without classes.
        """

    def _batches(
        self, seeds: npt.ArrayLike, labels: npt.ArrayLike | None, truncation: float | None, batch_size: int
    ) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64] | None]]:
        """Yield z and labels of each batch, all arguments checked before the first is drawn."""
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise UsageError(f"`batch_size` (={batch_size!r}) must be a whole number, at least 1.")
        check_truncation(truncation)
        numbers = as_seeds(seeds)
        label = choose_labels(numbers, labels, self.num_classes)
        for first in range(0, len(numbers), batch_size):
            part = slice(first, first + batch_size)
            z = latents(numbers[part], self.latent_dim, self.prior, truncation)
            yield z, None if label is None else label[part]


class TorchSampler(BaseSampler):
    """Draws images with a generator in torch; TF32 stays off, so that the CPU and a GPU agree.

    Args:
        model: from `ganzoo.models.load_model`.
        device: "auto", "cpu", "cuda" …, to which the model's generator is moved; None: it stays where it is.

    Attributes:
        image_size, channels, num_classes, latent_dim, prior: of the model's recipe.
        device: the torch device in use.
    """

    def __init__(self, model: Model, device: str | torch.device | None = "auto") -> None:
        from ganzoo.devices import choose_device  # imports torch, which the rest of this module does without

        recipe = model.config.recipe
        super().__init__(
            image_size=recipe.data.image_size,
            channels=recipe.data.channels,
            num_classes=recipe.data.num_classes,
            latent_dim=recipe.generator.latent_dim,
            prior=recipe.generator.prior,
        )
        if device is not None:
            model.generator.to(choose_device(device) if isinstance(device, str) else device)
        self._generator = model.generator
        self.device, self._dtype = _placement(model.generator)

    @classmethod
    def open(
        cls, location: ModelLocation, *, device: str = "auto", provider: str = "auto", precision: str = "auto"
    ) -> TorchSampler:
        """Return the sampler of a model's weights; arguments and errors are those of `open_sampler`.

        On a CPU freed memory stays with the process from here on (`ganzoo.processor.keep_memory`).
        """
        if location.kind == "onnx":
            raise UsageError(f"{location.path} is an ONNX file, which torch cannot draw.", "Leave out --runtime torch.")
        if provider != "auto":
            raise UsageError(
                f"A provider (={provider}) is of ONNX Runtime.", "Use --runtime onnx, or choose a --device."
            )
        if precision not in ("auto", "fp32", "bf16"):
            raise UsageError(f"torch does not draw in {precision!r}.", suggest(precision, ["auto", "fp32", "bf16"]))
        import torch

        from ganzoo.devices import choose_device, choose_precision
        from ganzoo.models import load_model
        from ganzoo.processor import keep_memory

        if choose_device(device).type == "cpu":
            keep_memory()
        if precision != "bf16":
            return cls(load_model(location.path), device=device)
        choose_precision("bf16", choose_device(device))  # which refuses it where a GPU lacks it
        model = load_model(location.path, dtype=torch.bfloat16)
        model.generator.to(memory_format=torch.channels_last)  # its faster form
        return cls(model, device=device)

    def _draw(self, z: npt.NDArray[np.float32], label: npt.NDArray[np.int64] | None) -> npt.NDArray[np.float32]:
        import torch

        from ganzoo.devices import full_float32

        with torch.inference_mode(), full_float32(self.device):
            inputs = [torch.from_numpy(z).to(self.device, self._dtype)]
            if label is not None:
                inputs.append(torch.tensor(label, device=self.device))
            images: npt.NDArray[np.float32] = self._generator(*inputs).float().cpu().numpy()
        return images


def _placement(generator: torch.nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the device of a network and the kind of floating point that it computes in."""
    import torch

    for parameter in generator.parameters():
        if parameter.is_floating_point():
            return parameter.device, parameter.dtype
    return torch.device("cpu"), torch.float32


def open_sampler(
    location: ModelLocation,
    *,
    runtime: str = "auto",
    device: str = "auto",
    provider: str = "auto",
    precision: str = "auto",
) -> Sampler:
    """Return the sampler of a model that `ganzoo.references.resolve_model` found.

    Args:
        location: the model.
        runtime: a name of `registry.samplers`: "torch", "onnx", "openvino" …, or "auto": ONNX Runtime for an .onnx
            file, else torch.
        device: "auto", "cpu", "cuda" …; for ONNX Runtime it is the provider of that name.
        provider: of ONNX Runtime: "auto", "cpu", "cuda" ….
        precision: "auto": float32, or what an .onnx file was exported in; "fp32"; or "bf16", which torch and OpenVINO
            compute faster in where the processor has it, and which changes the images by rounding.

    Raises:
        UsageError: a runtime that there is not or that cannot draw this model, a provider for another runtime than ONNX
            Runtime, or a device or precision that is not here.
        WeightsError: the model cannot be read, or the ONNX file beside its weights was exported from others.
        MissingDependencyError: the runtime is not installed.
        PluginError: a third party's runtime cannot be loaded or opened.
    """
    names = registry.samplers.names()
    if runtime not in ("auto", *names):
        raise UsageError(f"There is no runtime {runtime!r}.", suggest(runtime, ["auto", *names]))
    name = runtime if runtime != "auto" else "onnx" if location.kind == "onnx" else "torch"
    opens = getattr(registry.samplers.get(name), "open", None)
    if opens is None:
        raise PluginError(f"The runtime {name!r} cannot be chosen: its sampler has no class method `open`.")
    return cast(Sampler, opens(location, device=device, provider=provider, precision=precision))


def exported_file(location: ModelLocation) -> Path:
    """Return the ONNX file of a model: itself, or the one beside its weights.

    Raises:
        UsageError: there is none.
    """
    path = location.path
    if location.kind == "onnx":
        return path
    found = path / "model.onnx" if path.is_dir() else path.with_suffix(".onnx")
    with contextlib.suppress(OSError):
        if found.is_file():
            return found
    raise UsageError(f"There is no {found}.", f"Export it first: ganzoo export {path} --onnx")


def check_exported_from(location: ModelLocation, exported: Path, sha256: str) -> None:
    """Refuse an ONNX file that draws with other weights than the model's, as one that was exported before a training
    went on.

    Args:
        location: of the model.
        exported: the file that `exported_file` found.
        sha256: of the weights that it says it was exported from, in hexadecimal.

    Raises:
        WeightsError: the model has other weights.
    """
    if location.kind == "onnx":
        return
    weights = location.path / GENERATOR if location.path.is_dir() else location.path
    if sha256_of(weights) != sha256:
        raise WeightsError(
            f"{exported} was exported from other weights than {weights}.",
            f"Export again: ganzoo export {location.path} --onnx",
        )
