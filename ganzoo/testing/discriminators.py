"""The test kit's promises of discriminators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.testing.cases import NetworkCase, class_counts
from ganzoo.testing.holding import TOLERANCE, BrokenPromise, hold
from ganzoo.testing.promises import BEFORE_OTHERS, OF_BOTH, Promises, influence


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
    for classes in class_counts(factory, num_classes):
        case = NetworkCase("discriminator", factory, given, dict(options or {}), classes, batch_size, shape, ())
        hold(case.title, case, DISCRIMINATOR_PROMISES)


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
    change, slope = influence(case, training=True)
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
    _features_are_outputs(network, case.inputs(), found)


def _features_are_outputs(network: nn.Module, inputs: list[Tensor], found: Mapping[str, Tensor]) -> None:
    """Hold features to what hooks on the submodules of these names see in a forward pass."""
    modules = dict(network.named_modules())
    if unknown := [name for name in found if name not in modules]:
        raise BrokenPromise(
            f"features holds {unknown[0]!r}, which is the path of no submodule",
            "Name each by the submodule whose output it is.",
        )
    seen: list[tuple[str, Any]] = []

    def remember(name: str) -> Callable[..., None]:
        return lambda _, __, output: seen.append((name, output))

    hooks = [modules[name].register_forward_hook(remember(name)) for name in found]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if (order := [name for name, _ in seen]) != list(found):
        raise BrokenPromise(
            f"a forward pass comes through {', '.join(order) or 'none of them'}, but features are {', '.join(found)}",
            "Give those that forward uses, once each, from the image on.",
        )
    for name, output in seen:
        if not isinstance(output, Tensor) or not torch.equal(output, found[name]):
            raise BrokenPromise(
                f"the features {name!r} are not what the submodule of that name gives in a forward pass",
                "Name each by the submodule whose output it is.",
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


DISCRIMINATOR_PROMISES: Promises = {
    **BEFORE_OTHERS,
    "logits": _logits,
    **OF_BOTH,
    "per_sample": _per_sample,
    "features": _features,
    "second derivative": _second_derivative,
}
"""What a discriminator promises, in the order in which it is checked.

"constructor": it takes what ganzoo gives, and every other argument can be a recipe's key. "meta device": it can be
built without memory. "initialisation": it draws from torch's default generator only. "output": shape, float32, finite,
in both modes. "logits": not probabilities. In eval mode, "determinism": the same input gives the same output and
changes nothing; "batch-mates": an output does not hang on the rest of the batch; "batch of one": nor on the batch's
size. "gradients" reach the input and all parameters. "labels" change the output where there are classes, and do not
where `conditioning` is "none". "copy": a deep copy is the same network. "state": so is one that is saved as safetensors
and loaded strictly. "memory format": channels_last changes nothing. "autocast": it trains in bfloat16. "per_sample" is
True exactly where a logit does not hang on its batch-mates in training mode. "features": {layer: (batch, …)}, from the
image on; each layer is the path of a submodule, and its tensor is what a hook there sees in a forward pass. "second
derivative": gradient penalties can be taken where `per_sample` is True.
"""
