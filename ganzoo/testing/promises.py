"""The test kit's promises that generators and discriminators share, each a function that raises `BrokenPromise` where
it does not hold."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from ganzoo.recipes import NETWORK_ARGUMENTS, DiscriminatorSection, GeneratorSection
from ganzoo.testing.cases import NetworkCase
from ganzoo.testing.holding import (
    TOLERANCE,
    BrokenPromise,
    check_constructor,
    differ,
    seeded,
    share_of_largest,
)

Promises = dict[str, Callable[[NetworkCase], None]]
"""Name → check, in the order in which they are held."""


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


def influence(case: NetworkCase, training: bool) -> tuple[float, float]:
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
    change, slope = influence(case, training=False)
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
    if case.ignores_labels:
        if not bool(same.all()):
            raise BrokenPromise(
                f'conditioning is "none", but {int((~same).sum())} of {len(same)} outputs change with the label',
                "Accept labels and ignore them.",
            )
        return
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


BEFORE_OTHERS: Promises = {
    "constructor": _constructor,
    "meta device": _meta,
    "initialisation": _initialisation,
    "output": _output,
}
"""What is checked first of both kinds: whether there is a network to check at all."""

OF_BOTH: Promises = {
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
"""What is checked of both kinds after what is their own."""
