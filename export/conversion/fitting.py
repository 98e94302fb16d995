"""Fitting a checkpoint's tensors to a recipe's networks, by name or by order, where the recipe is known.

A recipe is known because it was named (`--recipe`), or because weights of ganzoo's own names fit just one recipe of the
zoo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from ganzoo.building import build_discriminator, build_generator, load_recipe
from ganzoo.errors import GanzooError, WeightsError
from ganzoo.export.conversion.foreign import Checkpoint, Names
from ganzoo.export.conversion.layers import NotRecognised
from ganzoo.export.conversion.networks import Role
from ganzoo.export.conversion.recognition import EMA_NAME, Found, shown_place
from ganzoo.recipes import Recipe, list_recipes
from ganzoo.shapes import shapes_only

State = dict[str, torch.Tensor]

_SPECTRAL = ("parametrizations.weight.original", "parametrizations.weight.0._u", "parametrizations.weight.0._v")
_OLD_SPECTRAL = ("weight_orig", "weight_u", "weight_v")


@dataclass(frozen=True)
class Fit:
    """Tensors that are a network's.

    Args:
        state: under the network's own names.
        place, prefix: where they lay.
        ema: whether they are an average.
        notes: what was done to them.
        found: what they were recognised as, if that was needed.
    """

    state: State
    place: Names
    prefix: Names
    ema: bool
    notes: tuple[str, ...] = ()
    found: Found | None = None

    @property
    def where(self) -> str:
        """Where it lay, for people."""
        return shown_place(self.place, self.prefix)


def shapes_of(recipe: Recipe, role: Role) -> nn.Module:
    """Return a recipe's network without memory, on torch's meta device."""
    with shapes_only():
        return build_generator(recipe) if role == "generator" else build_discriminator(recipe)


def fit(checkpoint: Checkpoint, found: list[Found], recipe: Recipe, role: Role) -> Fit | None:
    """Return the tensors of a checkpoint that are a recipe's network; None where none are.

    Those that are named alike are taken first, then a recognised network of the same shapes. Of an average and
    raw weights a generator takes the average, a discriminator the raw ones.

    Args:
        checkpoint: the file.
        found: the networks that were recognised in it.
        recipe: whose network is wanted.
        role: which one.

    Raises:
        WeightsError: several are left.
    """
    network = shapes_of(recipe, role)
    fits = _named_alike(checkpoint, network)
    alike = {(*one.place, *one.prefix) for one in fits}
    for one in found:
        if one.role == role and (*one.place, *one.prefix) not in alike:
            adapted = _adapted(one, network)
            if adapted is not None:
                fits.append(adapted)
    wanted = [one for one in fits if one.ema == (role == "generator")] or fits
    if len(wanted) > 1:
        places = ", ".join(one.where for one in wanted[:6])
        raise WeightsError(
            f"{checkpoint.path} holds {len(wanted)} {role}s that fit {recipe.name}: {places}.",
            "Save the one that is wanted in a file of its own.",
        )
    if not wanted:
        return None
    left = [one for one in fits if one is not wanted[0]]
    if not left:
        return wanted[0]
    chosen = "the exponential moving average" if wanted[0].ema else "the raw weights"
    others = ", ".join(one.where for one in left)
    note = f"Taken: {chosen} ({wanted[0].where}), not {others}."
    return replace(wanted[0], notes=(*wanted[0].notes, note))


def _named_alike(checkpoint: Checkpoint, network: nn.Module) -> list[Fit]:
    """Return every subtree whose tensors have a network's names and shapes."""
    own = network.state_dict()
    anchor = next(iter(own), None)
    if anchor is None:
        return []
    endings = [anchor, *(anchor.replace(new, old) for new, old in zip(_SPECTRAL, _OLD_SPECTRAL, strict=True))]
    fits = []
    for names in checkpoint.tensors:
        for ending in {tuple(one.split(".")) for one in endings}:
            if names[-len(ending) :] == ending:
                at = names[: len(names) - len(ending)]
                state = {
                    ".".join(other[len(at) :]): tensor
                    for other, tensor in checkpoint.tensors.items()
                    if other[: len(at)] == at
                }
                mended, notes = _mended(state, network)
                if _same_shapes(mended, own):
                    place, prefix = checkpoint.place(at)
                    fits.append(Fit(mended, place, prefix, any(EMA_NAME.search(part) for part in at), tuple(notes)))
    return fits


def _mended(state: State, network: nn.Module) -> tuple[State, list[str]]:
    """Return a state dict with old spectral norm renamed as the network has it, and missing counters of batches."""
    own, mended, notes = network.state_dict(), dict(state), []
    old = [name.removesuffix(".weight_orig") for name in state if name.endswith(".weight_orig")]
    for module in old:
        if f"{module}.{_SPECTRAL[0]}" in own:
            mended.pop(f"{module}.weight", None)
            for before, after in zip(_OLD_SPECTRAL, _SPECTRAL, strict=True):
                if f"{module}.{before}" in mended:
                    mended[f"{module}.{after}"] = mended.pop(f"{module}.{before}")
    if old and mended.keys() != state.keys():
        notes.append("Spectral norm's old names became its new ones.")
    for name, tensor in own.items():
        if name.endswith(".num_batches_tracked") and name not in mended:
            mended[name] = torch.zeros((), dtype=tensor.dtype)
    return mended, notes


def _adapted(found: Found, network: nn.Module) -> Fit | None:
    own = network.state_dict()
    read, notes = found.network, list(found.network.notes)
    if read.norm == "spectral" and not any(name.endswith(_SPECTRAL[0]) for name in own):
        try:
            read = read.baked()
        except NotRecognised:
            return None
        notes.append("spectral norm was carried out in the weights (W / sigma): the recipe's network has none")
    state = read.state()
    if not _same_shapes(state, own):
        return None
    said = tuple(f"{note[0].upper()}{note[1:]}." for note in notes)
    return Fit(state, found.place, found.prefix, found.ema, said, found)


def _same_shapes(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> bool:
    return state.keys() == own.keys() and all(state[name].shape == own[name].shape for name in own)


def fitting_recipes(found: Found) -> list[Recipe]:
    """Return the zoo's recipes whose generator has just the names and shapes of a recognised one."""
    state = found.network.state()
    fitting = []
    for name in list_recipes():
        try:
            recipe = load_recipe(name)
            if _same_shapes(state, shapes_of(recipe, "generator").state_dict()):
                fitting.append(recipe)
        except GanzooError:  # a plug-in's recipe that is broken is no reason not to convert
            continue
    return fitting


def recipes_named_alike(checkpoint: Checkpoint) -> list[Recipe]:
    """Return the zoo's recipes whose generator has just the names and shapes of a subtree of a checkpoint.

    Args:
        checkpoint: the file; nothing in it needs to be recognised.
    """
    fitting = []
    for name in list_recipes():
        try:
            recipe = load_recipe(name)
            if _named_alike(checkpoint, shapes_of(recipe, "generator")):
                fitting.append(recipe)
        except GanzooError:  # a plug-in's recipe that is broken is no reason not to convert
            continue
    return fitting


def difference(found: list[Found], recipe: Recipe) -> str:
    """Return in words how the recognised generator differs from a recipe's, or that none was recognised."""
    own = shapes_of(recipe, "generator").state_dict()
    generators = [one for one in found if one.role == "generator"]
    if not generators:
        first = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in list(own.items())[:4])
        return f"its generator has {first} …"
    state = generators[0].network.state()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if own[name].shape != state[name].shape
    ]
    parts = [
        f"{what}: {', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    return "; ".join(parts)
