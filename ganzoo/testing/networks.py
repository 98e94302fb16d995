"""The test kit's promises of generators and discriminators."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from ganzoo.recipes import NETWORK_ARGUMENTS, DiscriminatorSection, GeneratorSection
from ganzoo.testing.holding import (
    TOLERANCE,
    BrokenPromise,
    check_constructor,
    differ,
    hold,
    name_of,
    seeded,
    share_of_largest,
)

_CLASSES = 3  # what a network that knows classes is tried with


def check_generator(
    factory: Callable[..., nn.Module],
    *,
    image_size: int = 32,
    channels: int = 3,
    latent_dim: int = 16,
    num_classes: int | None = None,
    batch_size: int = 4,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Hold a generator to its contract: `forward(z, label=None)` gives images in [-1, 1], and all of
    `GENERATOR_PROMISES`.

    Args:
        factory: the class.
        image_size: side of the square image in pixels, one that the network can make.
        channels: of the image, 1 or 3.
        latent_dim: length of z.
        num_classes: what to try; by default 0, and 3 too where the constructor takes `num_classes`.
        batch_size: at least 2.
        options: the constructor's other arguments, as a recipe's `[generator]` gives them; small widths make it fast.

    Raises:
        PluginError: a promise is not kept; the message names it, with the numbers.
    """
    given = {"image_size": image_size, "channels": channels, "latent_dim": latent_dim}
    shape = (channels, image_size, image_size)
    for classes in _class_counts(factory, num_classes):
        case = NetworkCase("generator", factory, given, dict(options or {}), classes, batch_size, (latent_dim,), shape)
        hold(case.title, case, GENERATOR_PROMISES)


def check_discriminator(
    factory: Callable[..., nn.Module],
    *,
    image_size: int = 32,
    channels: int = 3,
    num_classes: int | None = None,
    batch_size: int = 4,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Hold a discriminator to its contract: `forward(image, label=None)` gives logits, and all of
    `DISCRIMINATOR_PROMISES`.

    Args:
        factory: the class.
        image_size: side of the square image in pixels, one that the network can judge.
        channels: of the image, 1 or 3.
        num_classes: what to try; by default 0, and 3 too where the constructor takes `num_classes`.
        batch_size: at least 2.
        options: the constructor's other arguments, as a recipe's `[discriminator]` gives them.

    Raises:
        PluginError: a promise is not kept; the message names it, with the numbers.
    """
    given = {"image_size": image_size, "channels": channels}
    shape = (channels, image_size, image_size)
    for classes in _class_counts(factory, num_classes):
        case = NetworkCase("discriminator", factory, given, dict(options or {}), classes, batch_size, shape, ())
        hold(case.title, case, DISCRIMINATOR_PROMISES)


def _class_counts(factory: Callable[..., nn.Module], wanted: int | None) -> tuple[int, ...]:
    if wanted is not None:
        return (wanted,)
    return (0, _CLASSES) if "num_classes" in inspect.signature(factory).parameters else (0,)


@dataclass(frozen=True)
class NetworkCase:
    """A network in one setting: how it is built, what it is fed, what it must give.

    Args:
        kind: "generator" or "discriminator".
        factory: the class.
        given: what ganzoo hands every network of this kind, `num_classes` apart.
        options: the other arguments.
        num_classes: 0, or how many there are.
        batch_size: at least 2.
        input_shape: of one z or image.
        output_shape: of one image; () for a logit.
    """

    kind: str
    factory: Callable[..., nn.Module]
    given: Mapping[str, Any]
    options: Mapping[str, Any]
    num_classes: int
    batch_size: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ValueError(f"batch_size (={self.batch_size}) must be at least 2, so that an image has batch-mates")

    @property
    def title(self) -> str:
        """The first words of every message."""
        classes = f" with num_classes = {self.num_classes}" if self.num_classes else ""
        return f"The {self.kind} {name_of(self.factory)}{classes}"

    def build(self, seed: int = 0) -> nn.Module:
        """Return a network, its parameters drawn from a seed."""
        known = inspect.signature(self.factory).parameters
        classes = {"num_classes": self.num_classes} if "num_classes" in known else {}
        with seeded(seed):
            return self.factory(**self.given, **classes, **self.options)

    def stirred(self, training: bool) -> nn.Module:
        """Return a network with all parameters moved a little, so that what begins at zero hides nothing."""
        network = self.build()
        with seeded(1), torch.no_grad():
            for parameter in network.parameters():
                size = float(parameter.square().mean().sqrt())
                parameter.add_(torch.randn_like(parameter), alpha=0.25 * size or 0.05)
        return network.train(training)

    def wild(self, seed: int) -> nn.Module:
        """Return a network in eval mode with standard normal parameters, which make it large where it has no bounds."""
        network = self.build().eval()
        with seeded(seed), torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_()
        return network

    def inputs(self, seed: int = 2) -> list[Tensor]:
        """Return what the network is fed: z or images, and labels where there are classes."""
        with seeded(seed):
            first = torch.randn(self.batch_size, *self.input_shape)
        if self.kind == "discriminator":
            first = first.clamp(-1.0, 1.0)
        return [first, torch.arange(self.batch_size) % self.num_classes] if self.num_classes else [first]


# ---------------------------------------------------------------------------------------------------- promises of both


def _constructor(case: NetworkCase) -> None:
    known = inspect.signature(case.factory).parameters
    for name in (*case.given, *(["num_classes"] if case.num_classes else [])):
        if name not in known:
            raise BrokenPromise(f"its constructor takes no {name!r}", f"A {case.kind} is given it by name.")
    section = GeneratorSection if case.kind == "generator" else DiscriminatorSection
    check_constructor(case.factory, case.options, {*NETWORK_ARGUMENTS, *section.model_fields}, case.kind)
    network = case.build()
    if not isinstance(network, nn.Module):
        raise BrokenPromise(f"it makes a {type(network).__name__}", "Inherit from torch.nn.Module.")


def _meta(case: NetworkCase) -> None:
    with torch.device("meta"):
        network = case.build()
    elsewhere = [name for name, parameter in network.named_parameters() if not parameter.is_meta]
    if elsewhere:
        raise BrokenPromise(
            f'under torch.device("meta") the parameter {elsewhere[0]} has memory all the same',
            "Make parameters with torch's own functions and name no device.",
        )


def _initialisation(case: NetworkCase) -> None:
    first, second = case.build(seed=3).state_dict(), case.build(seed=3).state_dict()
    for name, tensor in first.items():
        if isinstance(tensor, Tensor) and not torch.equal(tensor, second[name]):
            raise BrokenPromise(
                f"{name} differs between two networks built after the same torch.manual_seed",
                "Draw initial values from torch's default generator only.",
            )


def _output(case: NetworkCase) -> None:
    expected = (case.batch_size, *case.output_shape)
    for training in (True, False):
        mode = "training" if training else "eval"
        output = case.build().train(training)(*case.inputs())
        if not isinstance(output, Tensor):
            raise BrokenPromise(f"forward gives a {type(output).__name__} in {mode} mode", "Return one tensor.")
        if tuple(output.shape) != expected:
            raise BrokenPromise(
                f"forward gives the shape {tuple(output.shape)} in {mode} mode, not {expected}",
                "Give one logit an image." if case.kind == "discriminator" else "Give images of the size asked for.",
            )
        if output.dtype != torch.float32:
            raise BrokenPromise(f"forward gives {output.dtype} for float32 in {mode} mode", "Keep the input's type.")
        if not output.isfinite().all():
            count = int((~output.isfinite()).sum())
            raise BrokenPromise(
                f"{count} of {output.numel()} outputs are not finite in {mode} mode", "Look at the initial values."
            )


def _determinism(case: NetworkCase) -> None:
    network, inputs = case.stirred(training=False), case.inputs()
    state, given = copy.deepcopy(network.state_dict()), inputs[0].clone()
    with torch.no_grad():
        first, second = network(*inputs), network(*inputs)
    if not torch.equal(first, second):
        raise BrokenPromise(
            f"in eval mode the same input gives other output, by {differ(first, second):.2g} of the largest value",
            "Draw nothing in eval mode.",
        )
    if not torch.equal(given, inputs[0]):
        raise BrokenPromise("forward changes its input", "Use no in-place operation on what is given.")
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, Tensor) and not torch.equal(tensor, state[name]):
            raise BrokenPromise(f"{name} changes in eval mode", "Change buffers in training mode only.")


def _influence(case: NetworkCase, training: bool) -> tuple[float, float]:
    """Return how much the first output hangs on the other inputs: its change when they change, and its gradient with
    respect to them.

    Both are relative: to the largest output, and to the gradient with respect to its own input. Each call begins from
    the same buffers and the same random state, so that nothing else can make a difference.
    """
    network, inputs, others = case.stirred(training), case.inputs(seed=2), case.inputs(seed=5)
    others[0] = torch.cat((inputs[0][:1], others[0][1:]))

    def first_output(arguments: list[Tensor]) -> Tensor:
        with seeded(6):
            output: Tensor = copy.deepcopy(network)(*arguments)
        return output[0]

    with torch.no_grad():
        before, after = first_output(inputs), first_output(others)
    leaf = inputs[0].requires_grad_()
    output = first_output([leaf, *inputs[1:]])
    weight = torch.linspace(0.5, 1.5, output.numel()).view_as(output)
    (gradient,) = torch.autograd.grad((output * weight).sum(), leaf)
    return differ(before, after), share_of_largest(gradient[1:], gradient[:1])


def _batch_mates(case: NetworkCase) -> None:
    change, slope = _influence(case, training=False)
    if change > TOLERANCE or slope > 0:
        raise BrokenPromise(
            f"in eval mode batch-mates change an output by {change:.2g} of its size (relative gradient {slope:.2g})",
            "In eval mode use stored statistics, not the batch's.",
        )


def _batch_of_one(case: NetworkCase) -> None:
    network, inputs = case.stirred(training=False), case.inputs()
    with torch.no_grad():
        together, alone = network(*inputs)[:1], network(*[one[:1] for one in inputs])
    if alone.shape != together.shape:
        raise BrokenPromise(
            f"a batch of one gives the shape {tuple(alone.shape)}, not {tuple(together.shape)}",
            "Squeeze named dimensions only.",
        )
    if (share := differ(alone, together)) > TOLERANCE:
        raise BrokenPromise(
            f"alone an input gives other output than among {case.batch_size}, by {share:.2g} of the largest value",
            "In eval mode use stored statistics, not the batch's.",
        )


def _gradients(case: NetworkCase) -> None:
    reached: set[str] = set()
    unreached: set[str] = set()
    # In either mode: a bias before batch norm has no gradient in training mode, and is no mistake.
    for training in (True, False):
        network, inputs = case.stirred(training), case.inputs()
        leaf = inputs[0].requires_grad_()
        output = network(leaf, *inputs[1:])
        (output * torch.randn_like(output)).sum().backward()
        for name, parameter in network.named_parameters():
            alive = parameter.grad is not None and bool((parameter.grad != 0).any())
            (reached if alive else unreached).add(name)
        if leaf.grad is None or not bool((leaf.grad.flatten(1) != 0).any(dim=1).all()):
            raise BrokenPromise("no gradient reaches the input", "Detach nothing on the way.")
    if missing := sorted(unreached - reached):
        raise BrokenPromise(
            f"no gradient reaches {len(missing)} of {len(reached | unreached)} parameters: {', '.join(missing[:3])}",
            "Use every parameter in forward, or make it a buffer.",
        )


def _copy(case: NetworkCase) -> None:
    network = case.stirred(training=True)
    network(*case.inputs())
    twin = copy.deepcopy(network).eval()
    with torch.no_grad():
        share = differ(network.eval()(*case.inputs()), twin(*case.inputs()))
    if share > 0:
        raise BrokenPromise(
            f"a deep copy gives other output, by {share:.2g} of the largest value",
            "Keep state in parameters and buffers.",
        )


def _state(case: NetworkCase) -> None:
    network = case.stirred(training=True)
    with torch.no_grad():
        for seed in (7, 8):
            network(*case.inputs(seed))
    state = network.state_dict()
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise BrokenPromise(
                f"its state_dict holds a {type(tensor).__name__} under {name!r}",
                "Keep state in parameters and buffers.",
            )
    twin = case.build(seed=9)
    twin.load_state_dict(load(save({name: tensor.contiguous() for name, tensor in state.items()})), strict=True)
    with torch.no_grad():
        share = differ(network.eval()(*case.inputs()), twin.eval()(*case.inputs()))
    if share > 0:
        raise BrokenPromise(
            f"saved as safetensors and loaded again it gives other output, by {share:.2g} of the largest value",
            "Keep all state in parameters and persistent buffers.",
        )


def _labels(case: NetworkCase) -> None:
    if not case.num_classes:
        with torch.no_grad():
            case.build().eval()(*case.inputs(), None)  # how ganzoo calls an unconditional network
        return
    network, (first, label) = case.stirred(training=False), case.inputs()
    with torch.no_grad():
        one, other = network(first, label), network(first, (label + 1) % case.num_classes)
    same = (one == other).flatten(1).all(dim=1) if one.ndim > 1 else one == other
    if bool(same.any()):
        raise BrokenPromise(
            f"{int(same.sum())} of {len(same)} outputs do not change with the label", "Use the label in forward."
        )


def _memory_format(case: NetworkCase) -> None:
    inputs = case.inputs()
    with torch.no_grad():
        plain = case.stirred(training=False)(*inputs)
        network = case.stirred(training=False).to(memory_format=torch.channels_last)
        if inputs[0].ndim == 4:
            inputs[0] = inputs[0].contiguous(memory_format=torch.channels_last)
        share = differ(plain, network(*inputs))
    if share > TOLERANCE:
        raise BrokenPromise(
            f"in channels_last it gives other output, by {share:.2g} of the largest value",
            "Read no strides in forward.",
        )


def _autocast(case: NetworkCase) -> None:
    network, inputs = case.stirred(training=True), case.inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(*inputs)
    output.float().sum().backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if not output.isfinite().all() or not all(gradient.isfinite().all() for gradient in gradients):
        raise BrokenPromise("outputs or gradients are not finite in bfloat16", "Compute sums of squares in float32.")


# ---------------------------------------------------------------------------------------------------- of generators


def _range(case: NetworkCase) -> None:
    with torch.no_grad():
        networks = (case.build().eval(), *(case.wild(seed) for seed in range(4)))
        largest = max(float(network(*case.inputs()).nan_to_num(0.0).abs().max()) for network in networks)
    if largest > 1.0 + 1e-6:
        raise BrokenPromise(f"with random parameters a pixel is {largest:.4g}, outside of [-1, 1]", "End with tanh.")


def _latent(case: NetworkCase) -> None:
    network = case.stirred(training=False)
    with torch.no_grad():
        one, other = network(*case.inputs(seed=2)), network(*case.inputs(seed=5))
    same = (one == other).flatten(1).all(dim=1)
    if bool(same.any()):
        raise BrokenPromise(f"{int(same.sum())} of {len(same)} images do not change with z", "Use z in forward.")


# ---------------------------------------------------------------------------------------------------- of discriminators


def _logits(case: NetworkCase) -> None:
    with torch.no_grad():
        values = torch.cat([case.wild(seed)(*case.inputs()).nan_to_num(2.0) for seed in range(12)])
    low, high = float(values.min()), float(values.max())
    if low >= 0.0 and high <= 1.0:
        raise BrokenPromise(
            f"under 12 sets of random parameters all outputs lie in [{low:.3g}, {high:.3g}], like probabilities",
            "Return logits: the objective has the sigmoid.",
        )


def _per_sample(case: NetworkCase) -> None:
    said = getattr(case.build(), "per_sample", None)
    if not isinstance(said, bool):
        raise BrokenPromise(
            f"per_sample is {said!r}",
            "Say True or False: whether a logit is independent of its batch-mates in training.",
        )
    change, slope = _influence(case, training=True)
    depends = change > TOLERANCE or slope > 0
    if said and depends:
        raise BrokenPromise(
            f"per_sample is True, but in training mode other batch-mates change a logit by {change:.2g} of its size "
            f"(relative gradient {slope:.2g})",
            "Set per_sample = False where there is batch norm or the like.",
        )
    if not said and not depends:
        raise BrokenPromise(
            "per_sample is False, but in training mode no logit changes with its batch-mates",
            "Set per_sample = True, so that gradient penalties are allowed.",
        )


def _features(case: NetworkCase) -> None:
    network: Any = case.stirred(training=False)
    with torch.no_grad():
        found, again = network.features(*case.inputs()), network.features(*case.inputs())
    if not isinstance(found, Mapping) or not found:
        raise BrokenPromise(
            f"features gives {found if isinstance(found, Mapping) else type(found).__name__}", "Return {layer: tensor}."
        )
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise BrokenPromise(f"features holds {name!r}: {type(tensor).__name__}", "Return {layer: tensor}.")
        if tensor.ndim < 2 or len(tensor) != case.batch_size:
            raise BrokenPromise(
                f"the features {name!r} have the shape {tuple(tensor.shape)}, not ({case.batch_size}, …)",
                "Give each image its own.",
            )
        if not tensor.isfinite().all() or not torch.equal(tensor, again[name]):
            raise BrokenPromise(
                f"in eval mode the features {name!r} are not finite, or not the same twice",
                "Draw nothing in eval mode.",
            )


def _second_derivative(case: NetworkCase) -> None:
    network, inputs = case.stirred(training=True), case.inputs()
    if not network.per_sample:
        return  # no penalty is ever taken of it
    leaf = inputs[0].requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf, *inputs[1:]).sum(), leaf, create_graph=True)
    gradient.square().sum().backward()  # type: ignore[no-untyped-call]
    if not any(one.grad is not None and bool((one.grad != 0).any()) for one in network.parameters()):
        raise BrokenPromise(
            "the gradient with respect to the image has no gradient with respect to any parameter",
            "Use operations that can be differentiated twice.",
        )


_OF_BOTH: dict[str, Callable[[NetworkCase], None]] = {
    "determinism": _determinism,
    "copy": _copy,
    "batch-mates": _batch_mates,
    "batch of one": _batch_of_one,
    "gradients": _gradients,
    "labels": _labels,
    "state": _state,
    "memory format": _memory_format,
    "autocast": _autocast,
}

GENERATOR_PROMISES: dict[str, Callable[[NetworkCase], None]] = {
    "constructor": _constructor,
    "meta device": _meta,
    "initialisation": _initialisation,
    "output": _output,
    "range": _range,
    "latent": _latent,
    **_OF_BOTH,
}
"""What a generator promises, in the order in which it is checked; the comments of `DISCRIMINATOR_PROMISES` hold here
too.

"range": images are in [-1, 1] whatever the parameters. "latent": they change with z.
"""

DISCRIMINATOR_PROMISES: dict[str, Callable[[NetworkCase], None]] = {
    "constructor": _constructor,
    "meta device": _meta,
    "initialisation": _initialisation,
    "output": _output,
    "logits": _logits,
    **_OF_BOTH,
    "per_sample": _per_sample,
    "features": _features,
    "second derivative": _second_derivative,
}
"""What a discriminator promises, in the order in which it is checked.

"constructor": it takes what ganzoo gives, and every other argument can be a recipe's key. "meta device": it can be
built without memory. "initialisation": it draws from torch's default generator only. "output": shape, float32, finite,
in both modes. "logits": not probabilities. In eval mode, "determinism": the same input gives the same output and
changes nothing; "batch-mates": an output does not hang on the rest of the batch; "batch of one": nor on the batch's
size. "gradients" reach the input and all parameters. "labels" change the output where there are classes. "copy": a deep
copy is the same network. "state": so is one that is saved as safetensors and loaded strictly. "memory format":
channels_last changes nothing. "autocast": it trains in bfloat16. "per_sample" is True exactly where a logit does not
hang on its batch-mates in training mode. "features": {layer: (batch, …)}. "second derivative": gradient penalties can
be taken where `per_sample` is True.
"""
