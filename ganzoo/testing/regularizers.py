"""The test kit's promises of regularizers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from ganzoo.objectives.regularizers.contract import DiscriminatorView, GeneratorView, Regularizer, Surroundings
from ganzoo.recipes import RegularizerSection
from ganzoo.shapes import shapes_only
from ganzoo.testing.holding import BrokenPromise, check_constructor, hold, name_of, seeded
from ganzoo.testing.views import BATCH, LATE, SURROUNDINGS, Scene, tensors_of

_STEPS = 3
_FLAGS = ("weighted", "needs_features", "needs_per_sample", "bounds_slope")


def check_regularizer(
    factory: Callable[..., Regularizer],
    *,
    options: Mapping[str, Any] | None = None,
    surroundings: Surroundings = SURROUNDINGS,
) -> None:
    """Hold a regularizer to its contract, `ganzoo.objectives.regularizers.contract.Regularizer`, and all of
    `REGULARIZER_PROMISES`.

    Args:
        factory: the class.
        options: the constructor's arguments, as a recipe's `[[regularizer]]` gives them.
        surroundings: the networks to try it beside, ones that it accepts.

    Raises:
        PluginError: a promise is not kept; the message names it, with the numbers.
    """
    case = RegularizerCase(factory, dict(options or {}), surroundings)
    hold(case.title, case, REGULARIZER_PROMISES)


@dataclass(frozen=True)
class RegularizerCase:
    """A regularizer with its options and what it is tried beside.

    Args:
        factory: the class.
        options: the constructor's arguments.
        surroundings: the networks.
    """

    factory: Callable[..., Regularizer]
    options: Mapping[str, Any]
    surroundings: Surroundings

    @property
    def title(self) -> str:
        """The first words of every message."""
        return f"The regularizer {name_of(self.factory)}"

    def build(self) -> Regularizer:
        """Return the regularizer, prepared; always with the same first numbers."""
        with seeded(31):
            regularizer = self.factory(**self.options)
            regularizer.prepare(self.surroundings)
        return regularizer

    def scene(self, dtype: torch.dtype = torch.float32) -> Scene:
        """Return networks with a fresh regularizer beside them."""
        return Scene(self.build().to(dtype), self.surroundings, dtype)


@dataclass(frozen=True)
class _Seen:
    """What a regularizer does in one step."""

    discriminator_loss: Tensor | None
    generator_loss: Tensor | None
    kept: Tensor | None

    def numbers(self) -> list[list[float] | None]:
        return [
            None if one is None else one.detach().double().flatten().tolist()
            for one in (self.discriminator_loss, self.generator_loss, self.kept)
        ]

    @property
    def losses(self) -> dict[str, Tensor]:
        found = {"discriminator_loss": self.discriminator_loss, "generator_loss": self.generator_loss}
        return {name: value for name, value in found.items() if value is not None}


def _step(scene: Scene, number: int = 0, kimg: float = LATE, low_precision: bool = False) -> _Seen:
    """Let a regularizer do what a step asks of it, without an update."""
    first = number * BATCH
    shown = scene.discriminator_view(first, kimg)
    of_discriminator = scene.regularizer.discriminator_loss(_lowered(shown) if low_precision else shown)
    judged = scene.generator_view(first, kimg)
    kept = scene.regularizer.keep(judged.fake_logits.detach(), kimg)
    of_generator = scene.regularizer.generator_loss(_lowered(judged) if low_precision else judged)
    scene.thaw()
    return _Seen(of_discriminator, of_generator, kept)


_View = TypeVar("_View", DiscriminatorView, GeneratorView)


def _lowered(view: _View) -> _View:
    """Return a view whose features are bfloat16, as autocast leaves them."""
    changes: dict[str, Any] = {
        name: {key: values.bfloat16() for key, values in getattr(view, name).items()}
        for name in ("real_features", "fake_features")
        if hasattr(view, name)
    }
    return replace(view, **changes)


# ---------------------------------------------------------------------------------------------------- the promises


def _constructor(case: RegularizerCase) -> None:
    check_constructor(case.factory, case.options, set(RegularizerSection.model_fields), "regularizer")
    regularizer = case.factory(**case.options)
    if not isinstance(regularizer, nn.Module):
        raise BrokenPromise(
            f"it is a {type(regularizer).__name__}, no module",
            "Inherit from ganzoo.objectives.regularizers.contract.Regularizer.",
        )
    for flag in _FLAGS:
        if not isinstance(getattr(regularizer, flag, None), bool):
            raise BrokenPromise(
                f"{flag} is {getattr(regularizer, flag, None)!r}, not True or False",
                "Inherit from ganzoo.objectives.regularizers.contract.Regularizer.",
            )
    if not isinstance(regularizer.name, str) or not regularizer.name:
        raise BrokenPromise(f"its name is {regularizer.name!r}", "Give it a short name: statistics are called by it.")


def _preparation(case: RegularizerCase) -> None:
    try:
        case.build()
        with shapes_only():  # as a recipe is checked
            case.build()
    except ValueError as error:
        raise BrokenPromise(
            f"it cannot be prepared: {str(error).rstrip('.')}", "Hand the check other `surroundings` or `options`."
        ) from None
    first, second = case.build().state_dict(), case.build().state_dict()
    for name, tensor in first.items():
        if not torch.equal(tensor, second[name]):
            raise BrokenPromise(
                f"{name} has other first numbers from the same random state", "Draw them from torch's generator."
            )


def _effect(case: RegularizerCase) -> None:
    scene = case.scene()
    seen = _step(scene)
    if scene.regularizer.weighted and not seen.losses:
        raise BrokenPromise("weighted is True, but it adds to neither loss", "Set it to False.")
    before = copy.deepcopy(scene.discriminator.state_dict())
    with torch.no_grad():
        scene.regularizer.after_discriminator(scene.discriminator)
    changes = any(not torch.equal(before[name], one) for name, one in scene.discriminator.state_dict().items())
    if not seen.losses and seen.kept is None and not changes:
        raise BrokenPromise("it does nothing", "Override one of discriminator_loss, generator_loss, keep …")


def _output(case: RegularizerCase) -> None:
    for dtype, low_precision in ((torch.float32, False), (torch.float32, True), (torch.float64, False)):
        for kimg in (0.0, LATE):
            for name, value in _step(case.scene(dtype), kimg=kimg, low_precision=low_precision).losses.items():
                if value.ndim:
                    raise BrokenPromise(f"{name} has the shape {tuple(value.shape)}", "Return the mean, a 0-d tensor.")
                if value.dtype not in (torch.float32, torch.float64):
                    raise BrokenPromise(f"{name} is {value.dtype}", "Begin with ganzoo.objectives.contract.upcast.")
                if not value.isfinite():
                    raise BrokenPromise(
                        f"{name} is {float(value.detach())}", "Look for divisions by zero, logarithms, exp."
                    )


def _gradients(case: RegularizerCase) -> None:
    scene = case.scene()
    value = scene.regularizer.discriminator_loss(scene.discriminator_view())
    own = dict(scene.regularizer.named_parameters())
    if value is not None:
        trained = dict(scene.discriminator.named_parameters()) | own
        found = _of(value, trained, "discriminator_loss")
        if idle := [name for name in own if found[name] is None]:
            raise BrokenPromise(
                f"discriminator_loss has no gradient with respect to its own {idle[0]!r}, which learns from it alone",
                "Use it, or keep it as a buffer.",
            )
    elif own:
        raise BrokenPromise(
            f"it has the parameter {next(iter(own))!r}, but no discriminator_loss to train it with",
            "Return one, or keep it as a buffer.",
        )
    value = scene.regularizer.generator_loss(scene.generator_view())
    if value is not None:
        _of(value, dict(scene.generator.named_parameters()), "generator_loss")


def _of(value: Tensor, parameters: Mapping[str, Tensor], loss: str) -> dict[str, Tensor | None]:
    """Return the gradient of each parameter; at least one is not zero, and all are finite."""
    network = loss.removesuffix("_loss")
    if not value.requires_grad:
        raise BrokenPromise(f"no gradient of {loss} reaches the {network}", "Detach nothing.")
    gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    if not any(bool((one != 0).any()) for one in gradients if one is not None):
        raise BrokenPromise(f"no gradient of {loss} reaches the {network}", "Detach nothing.")
    for name, one in zip(parameters, gradients, strict=True):
        if one is not None and not one.isfinite().all():
            raise BrokenPromise(f"the gradient of {loss} with respect to {name!r} is not finite", "Look for sqrt(0).")
    return dict(zip(parameters, gradients, strict=True))


def _purity(case: RegularizerCase) -> None:
    scene = case.scene()
    random_state = torch.random.get_rng_state()
    views: tuple[tuple[str, Any], ...] = (
        ("discriminator_loss", scene.discriminator_view()),
        ("generator_loss", scene.generator_view()),
    )
    for loss, view in views:
        scene.thaw()
        given = tensors_of(view) | _weights(scene)
        copies = {name: tensor.detach().clone() for name, tensor in given.items()}
        getattr(scene.regularizer, loss)(view)
        if changed := [name for name, one in given.items() if not torch.equal(one, copies[name])]:
            raise BrokenPromise(f"{loss} changes {changed[0]}", "Use no in-place operation on what is given.")
        if any(one.grad is not None for one in given.values() if one.is_leaf):
            raise BrokenPromise(f"{loss} calls backward", "Return the loss; the trainer does the rest.")
    logits = views[1][1].fake_logits.detach()
    before = logits.clone()
    scene.regularizer.keep(logits, LATE)
    if not torch.equal(before, logits):
        raise BrokenPromise("keep changes the logits", "Use no in-place operation on what is given.")
    if not torch.equal(random_state, torch.random.get_rng_state()):
        raise BrokenPromise("it draws from torch's own generator", "Draw from the view's `reals` and `latents`.")


def _weights(scene: Scene) -> dict[str, Tensor]:
    return {
        f"the {network}'s {name}": tensor
        for network in ("generator", "discriminator")
        for name, tensor in getattr(scene, network).named_parameters()
    } | {f"its own {name}": tensor for name, tensor in scene.regularizer.named_parameters()}


def _repeatable(case: RegularizerCase) -> None:
    one, other = case.scene(), case.scene()
    for number in range(_STEPS):
        first, second = _step(one, number).numbers(), _step(other, number).numbers()
        if first != second:
            raise BrokenPromise(
                f"at step {number} of the same training it gives {first}, then {second}",
                "Keep no state outside the module.",
            )


def _state(case: RegularizerCase) -> None:
    straight, resumed = case.scene(), case.scene()
    for number in range(_STEPS):
        _step(straight, number)
    saved = {name: tensor.contiguous() for name, tensor in straight.regularizer.state_dict().items()}
    resumed.regularizer.load_state_dict(load(save(saved)), strict=True)
    for number in range(_STEPS, 2 * _STEPS):
        first, second = _step(straight, number).numbers(), _step(resumed, number).numbers()
        if first != second:
            raise BrokenPromise(
                f"after a checkpoint it gives {second} at step {number}, not {first}",
                "Keep all state in buffers: register_buffer.",
            )


def _processes(case: RegularizerCase) -> None:
    states = []
    for rank in range(2):  # each process sees its own share; what they agree on is the mean
        scene = case.scene()
        for number in range(_STEPS):
            first = (2 * number + rank) * BATCH
            scene.regularizer.discriminator_loss(scene.discriminator_view(first, mean=_agreed))
            scene.regularizer.generator_loss(scene.generator_view(first, mean=_agreed))
            scene.thaw()
        states.append(dict(scene.regularizer.named_buffers()))
    for name, buffer in states[0].items():
        if not torch.equal(buffer, states[1][name]):
            raise BrokenPromise(
                f"the buffer {name!r} is {buffer.flatten()[:4].tolist()} in one process and "
                f"{states[1][name].flatten()[:4].tolist()} in another",
                "Take what goes into a buffer from the view's `mean`.",
            )


def _agreed(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, 0.25)


def _keep(case: RegularizerCase) -> None:
    for kimg in (0.0, 1.0, 100.0, LATE):
        scene = case.scene()
        logits = scene.generator_view().fake_logits.detach()
        kept = scene.regularizer.keep(logits, kimg)
        if kept is None:
            continue
        if kept.dtype != torch.int64 or kept.ndim != 1:
            raise BrokenPromise(
                f"keep gives {kept.dtype} of the shape {tuple(kept.shape)}", "Return indices, (kept,) int64."
            )
        indices = kept.tolist()
        if not indices or len(set(indices)) < len(indices) or min(indices) < 0 or max(indices) >= len(logits):
            raise BrokenPromise(
                f"of {len(logits)} images keep chooses {indices}", "Return each index at most once, and at least one."
            )


def _after_discriminator(case: RegularizerCase) -> None:
    scene = case.scene()
    judge = scene.discriminator
    parameters = dict(judge.named_parameters())
    shapes = {name: (tuple(one.shape), one.dtype) for name, one in parameters.items()}
    with torch.no_grad():
        scene.regularizer.after_discriminator(judge)
    after = dict(judge.named_parameters())
    for name, one in parameters.items():
        if after.get(name) is not one:
            raise BrokenPromise(
                f"after_discriminator replaces the parameter {name!r}, which the optimiser holds",
                "Change it in place: clamp_, mul_, copy_.",
            )
        if not (one.is_leaf and one.requires_grad) or one.grad is not None:
            raise BrokenPromise(f"after_discriminator leaves a graph or gradient on {name!r}", "Work under no_grad.")
        if (tuple(one.shape), one.dtype) != shapes[name] or not one.isfinite().all():
            raise BrokenPromise(
                f"after_discriminator leaves {name!r} of another shape or dtype, or not finite", "Keep both."
            )


REGULARIZER_PROMISES: dict[str, Callable[[RegularizerCase], None]] = {
    "constructor": _constructor,
    "preparation": _preparation,
    "effect": _effect,
    "output": _output,
    "gradients": _gradients,
    "purity": _purity,
    "repeatable": _repeatable,
    "state": _state,
    "processes": _processes,
    "keep": _keep,
    "after_discriminator": _after_discriminator,
}
"""What a regularizer promises, in the order in which it is checked.

"constructor": its arguments can be a recipe's keys; its name and flags are set. "preparation": heads and buffers can be
made for these networks, as shapes alone too, and are the same from the same random state. "effect": it does something,
and adds to a loss where it is weighted. "output": what it adds is 0-d, at least float32 (for features in bfloat16 too)
and finite. "gradients" reach what each loss trains, its own parameters too, and are finite. "purity": losses and `keep`
change nothing that they are given, call no backward and draw from the view's draws only. "repeatable": the same
training gives the same numbers. "state": so does one that is saved as safetensors and resumed. "processes": buffers
stay alike in processes that see different samples. "keep" chooses each image at most once, and at least one.
"after_discriminator" changes parameters in place and leaves no graph.
"""
