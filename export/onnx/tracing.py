"""From a generator in torch to an ONNX graph in float32, with torch's own exporter.

What the exporter is given is a copy: on the CPU, in float32, in eval mode, with parametrisations such as spectral norm
computed once and for all. What cannot become a file that draws the same pictures (a network that draws random numbers,
or looks at the whole batch) is refused here in words, before the exporter answers with a stack of its own.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ganzoo.errors import GanzooError, WeightsError
from ganzoo.models import Model

Z, LABEL, IMAGE, BATCH = "z", "label", "image", "batch"
MAX_BYTES = (1 << 31) - (1 << 20)  # protobuf's limit for one message, less room for the graph itself
_SAME = 1e-4  # rounding in float32 stays below it
_EXAMPLES = 2  # images in the exporter's example: with one, the batch could be taken for a constant
_LOGGERS = ("torch.onnx", "torch.export", "torch._dynamo", "torch._export", "torch.fx", "onnxscript", "onnx_ir")


@dataclass(frozen=True)
class Interface:
    """What goes into a generator and what comes out.

    Args:
        name: the registered name of the network, for messages.
        image_size: side of the square image in pixels.
        channels: of the image.
        num_classes: 0 for none.
        latent_dim: length of z.
        prior: of z, "uniform" or "normal".
    """

    name: str
    image_size: int
    channels: int
    num_classes: int
    latent_dim: int
    prior: str

    @staticmethod
    def of(model: Model) -> Interface:
        """Return the interface of a model's generator."""
        recipe = model.config.recipe
        data, section = recipe.data, recipe.generator
        return Interface(
            section.name, data.image_size, data.channels, data.num_classes, section.latent_dim, section.prior
        )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.image_size, self.image_size

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the graph's inputs."""
        return (Z, LABEL) if self.num_classes else (Z,)


class _Wrapped(nn.Module):
    """A generator whose inputs have the file's names, and whose output is float32."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        image: torch.Tensor = self.generator(z) if label is None else self.generator(z, label)
        return image.float()


def frozen(model: Model) -> nn.Module:
    """Return a copy of a model's generator as it is exported: CPU, float32, eval, nothing parametrised, no gradients.

    Args:
        model: whose generator is copied; it stays as it is.

    Raises:
        GanzooError: it is in train mode, is too large for one file, or cannot be copied.
        WeightsError: its weights hold NaN or Inf.
    """
    interface = Interface.of(model)
    if model.generator.training:
        raise GanzooError(
            "The generator is in train mode, where its images depend on their batch-mates.",
            "Call model.generator.eval() first.",
        )
    size = sum(4 * tensor.numel() for tensor in model.generator.state_dict().values())
    if size > MAX_BYTES:
        raise GanzooError(
            f"The generator's weights are {size / (1 << 30):.2f} GiB in float32: an ONNX file holds less than 2 GiB.",
            "Make the network smaller.",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the old norms, that they are old
            generator = copy.deepcopy(model.generator).cpu().float().eval().requires_grad_(False)
            _bake(generator)
    except Exception as error:  # a third party's module may raise anything
        raise GanzooError(f"The generator {interface.name!r} cannot be copied: {_line(error)}.") from error
    for name, tensor in generator.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"The generator's weights hold NaN or Inf: {name}.", "Export an earlier checkpoint.")
    return generator


def _bake(generator: nn.Module) -> None:
    """Replace parametrised weights, and those of the hooks of old, by their values."""
    for module in list(generator.modules()):
        if parametrize.is_parametrized(module):
            # A parametrised module has a class of its own, which its copies share. Removing takes the weight's property
            # off that class, and would so break the original: the copy gets a copy of the class first.
            shared = type(module)
            own = {name: value for name, value in vars(shared).items() if name not in ("__dict__", "__weakref__")}
            module.__class__ = type(shared.__name__, shared.__bases__, own)
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, SpectralNorm | WeightNorm):
                hook.remove(module)
                del module._forward_pre_hooks[key]


def check_generator_is_a_function(generator: nn.Module, interface: Interface) -> None:
    """Hold a generator to what an exported one is: a function of z and label alone, image by image.

    Args:
        generator: from `frozen`.
        interface: of the model.

    Raises:
        GanzooError: it stays in train mode, fails, gives another shape, draws random numbers, or looks at the whole
            batch; the message says which.
    """
    what = f"The generator {interface.name!r}"
    stuck = next((name or "itself" for name, module in generator.named_modules() if module.training), None)
    if stuck is not None:
        raise GanzooError(f"{what} stays in train mode when asked for eval mode: {stuck}.")
    count = 5
    random = torch.Generator().manual_seed(0)
    z = torch.rand(count, interface.latent_dim, generator=random) * 2 - 1
    label = torch.arange(count) % interface.num_classes if interface.num_classes else None
    try:
        first, again = draw(generator, z, label), draw(generator, z, label)
        alone = draw(generator, z[:1], None if label is None else label[:1])
    except Exception as error:  # a third party's module may raise anything
        raise GanzooError(f"{what} fails: {_line(error)}.") from error
    if first.shape != (count, *interface.image_shape):
        raise GanzooError(
            f"{what} gives {tuple(first.shape[1:])} for an image, not {interface.image_shape}.",
            "ganzoo.testing.check_generator holds a class to the contract.",
        )
    if not bool(torch.isfinite(first).all()):
        raise GanzooError(f"{what} draws NaN or Inf.")
    if not torch.equal(first, again):
        raise GanzooError(
            f"{what} draws random numbers of its own: the same z gives two images, {_apart(first, again):.2g} apart.",
            "An exported generator is a function of z and label alone; make its noise part of z.",
        )
    if (apart := _apart(first[:1], alone)) > _SAME:
        raise GanzooError(
            f"{what} looks at the whole batch: an image alone and beside others is {apart:.2g} apart.",
            "Give its batch norm running statistics.",
        )


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def draw(generator: nn.Module, z: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
    """Return a generator's images of z (batch, latent_dim) and label (batch,) or None, without gradients."""
    with torch.inference_mode():
        images: torch.Tensor = generator(z) if label is None else generator(z, label)
    return images


def to_graph(generator: nn.Module, interface: Interface, opset: int) -> onnx.ModelProto:
    """Return a generator as torch's exporter writes it, optimised, in float32, with a dynamic batch.

    Args:
        generator: from `frozen`.
        interface: of the model.
        opset: the version of ONNX's operators.

    Returns:
        A graph with the inputs `z` (batch, latent_dim), `label` (batch,) where there are classes, and the output
        `image` (batch, channels, height, width), all weights inside.

    Raises:
        GanzooError: the exporter cannot translate it, or fixes what must stay open.
    """
    inputs: list[torch.Tensor] = [torch.zeros(_EXAMPLES, interface.latent_dim)]
    if interface.num_classes:
        inputs.append(torch.zeros(_EXAMPLES, dtype=torch.int64))
    try:
        with _quiet():
            program = torch.onnx.export(
                _Wrapped(generator).eval(),
                tuple(inputs),
                dynamo=True,
                external_data=False,
                optimize=True,
                verbose=False,
                dynamic_shapes=tuple({0: BATCH} for _ in inputs),
                input_names=list(interface.inputs),
                output_names=[IMAGE],
                opset_version=opset,
            )
            assert program is not None
            graph = program.model_proto
    except Exception as error:  # whatever the exporter meets in a third party's module
        raise GanzooError(
            f"The generator {interface.name!r} cannot be exported to ONNX: {_root_cause(error)}.",
            "Write it with operations that torch.onnx.export knows; GANZOO_DEBUG=1 shows where it stopped.",
        ) from error
    _open_batch(graph, interface)
    return graph


def _open_batch(graph: onnx.ModelProto, interface: Interface) -> None:
    """Check that the batch is dynamic, and say the output's shape in full."""
    values = [*graph.graph.input, *graph.graph.output]
    fixed = [
        value.name
        for value in values
        if not value.type.tensor_type.shape.dim or value.type.tensor_type.shape.dim[0].HasField("dim_value")
    ]
    if fixed:
        raise GanzooError(
            f"The generator {interface.name!r} fixes its batch size in its forward: {', '.join(fixed)}.",
            "Take sizes from tensors (x.shape[0], or -1 in view) instead of numbers.",
        )
    image = onnx.helper.make_tensor_value_info(IMAGE, onnx.TensorProto.FLOAT, [BATCH, *interface.image_shape])
    graph.graph.output[0].CopyFrom(image)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter prints, logs and warns of to itself."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    nowhere = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return _line(error)


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__
