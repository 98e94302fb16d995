"""What is to be written of a source: the config, and the tensors under the names of ganzoo's networks.

A model of ganzoo's says itself what it is. Of a foreign checkpoint the networks are recognised, or named by a recipe;
its recipe then says what the networks are, and nothing of how they were trained, which no checkpoint tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ganzoo.building import load_recipe
from ganzoo.errors import RecipeError, UsageError, WeightsError
from ganzoo.export.conversion.evidence import Evidence, look
from ganzoo.export.conversion.fitting import Fit, State, difference, fit, fitting_recipes, recipes_named_alike
from ganzoo.export.conversion.foreign import Checkpoint, Names, read_checkpoint
from ganzoo.export.conversion.networks import Role
from ganzoo.export.conversion.recognition import OWN, Found, Recognised, find_networks, not_recognised, recognise
from ganzoo.files import sha256_of
from ganzoo.model_config import (
    CONFIG,
    DISCRIMINATOR,
    GENERATOR,
    ModelConfig,
    config_of_weights,
    read_config,
)
from ganzoo.models import load_model
from ganzoo.recipes import Recipe
from ganzoo.references import ModelLocation
from ganzoo.tensors import read_tensors

UNKNOWN = "unknown"
"""The source of a recipe whose data nobody recorded; `--data` takes its place where the recipe is trained."""


@dataclass(frozen=True)
class Network:
    """Where one network came from, for people.

    Args:
        role: "generator" or "discriminator".
        architecture: what it was recognised as.
        place: where it lay in the file: ("state_dict",).
        prefix: what was stripped of its names: "netG.module.".
        ema: whether it is an average of the weights over training.
        dtypes: the kinds of floating point in it.
        parameters: how many numbers it learned.
    """

    role: Role
    architecture: str
    place: Names
    prefix: str
    ema: bool
    dtypes: tuple[str, ...]
    parameters: int


@dataclass(frozen=True)
class Plan:
    """What is to be written.

    Args:
        config: of the model.
        states: the tensors of each network, under ganzoo's names.
        networks: where they came from.
        notes: what was chosen, done or taken by convention, in sentences.
        foreign: whether the source is none of ganzoo's.
        card: what the source's card says, if it has one.
        metrics: what its metrics say.
    """

    config: ModelConfig
    states: Mapping[Role, State]
    networks: tuple[Network, ...]
    notes: tuple[str, ...] = ()
    foreign: bool = True
    card: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)


# -------------------------------------------------------------------------------------------- models of ganzoo's


def plan_model(location: ModelLocation) -> Plan:
    """Return what there is to write of a model of ganzoo's.

    Args:
        location: of a model folder or a weights file that carries its config.

    Raises:
        WeightsError: it cannot be read.
    """
    path = location.path
    if location.kind == "onnx":
        raise UsageError(
            f"{path} is an ONNX file: its weights were folded and cannot be taken out again.",
            "Convert the model that it was exported from.",
        )
    if location.kind == "safetensors":
        tensors, metadata = read_tensors(path)
        config = config_of_weights(path, metadata)
        return Plan(config, {"generator": tensors}, (_own_network("generator", config, tensors),), foreign=False)
    config = read_config(path)
    states: dict[Role, State] = {"generator": read_tensors(path / GENERATOR)[0]}
    if (path / DISCRIMINATOR).exists():
        states["discriminator"] = read_tensors(path / DISCRIMINATOR)[0]
    networks = tuple(_own_network(role, config, state) for role, state in states.items())
    model = load_model(path)
    return Plan(config, states, networks, foreign=False, card=model.card, metrics=model.metrics)


def _own_network(role: Role, config: ModelConfig, state: State) -> Network:
    section = config.recipe.generator if role == "generator" else config.recipe.discriminator
    ema = role == "generator" and config.weights == "ema"
    return Network(role, f"ganzoo's {section.name}", (), "", ema, _dtypes(state), _count(state))


# -------------------------------------------------------------------------------------------- foreign checkpoints


def plan_checkpoint(path: Path, recipe: Recipe | None, discriminator: Path | None) -> Plan:
    """Return what there is to write of a checkpoint.

    Args:
        path: the file.
        recipe: what its networks are, where that was said; else they are recognised.
        discriminator: a second file, to take the discriminator from.

    Raises:
        WeightsError: a file that cannot be read, or holds no generator that is known or fits the recipe.
    """
    checkpoint = read_checkpoint(path)
    other = checkpoint if discriminator is None else read_checkpoint(discriminator)
    says_itself = "config" in checkpoint.metadata or (bool(checkpoint.metadata) and (path.parent / CONFIG).is_file())
    if recipe is None and discriminator is None and says_itself:
        return plan_model(ModelLocation(path, "safetensors"))
    if recipe is not None:
        return _by_recipe(checkpoint, other, recipe, "it was named")
    try:
        merged = _together(checkpoint, other, discriminator)
    except WeightsError:
        alike = recipes_named_alike(checkpoint)
        if len(alike) == 1:
            return _by_recipe(checkpoint, other, alike[0], "it is the only recipe of the zoo that its tensors fit")
        raise
    named = _recipe_of_zoo(merged)
    if named is not None:
        return _by_recipe(checkpoint, other, named, "it is the only recipe of the zoo that its tensors fit")
    return _by_shapes(checkpoint, merged)


def _together(checkpoint: Checkpoint, other: Checkpoint, discriminator: Path | None) -> Recognised:
    if discriminator is None:
        return recognise(checkpoint)
    found, reasons = find_networks(other)
    judges = [one for one in found if one.role == "discriminator"]
    if not judges:
        nearest = f" Nearest: {reasons[0][:200]}." if reasons else ""
        raise WeightsError(
            f"{discriminator} holds no discriminator that is known.{nearest}", "Leave --discriminator out."
        )
    return recognise(checkpoint, judges)


def _recipe_of_zoo(recognised: Recognised) -> Recipe | None:
    """Return the one recipe of the zoo that weights with ganzoo's names fit; None where none or several do."""
    if recognised.generator.architecture is not OWN:
        return None
    fitting = fitting_recipes(recognised.generator)
    return fitting[0] if len(fitting) == 1 else None


def _by_recipe(checkpoint: Checkpoint, other: Checkpoint, recipe: Recipe, why: str) -> Plan:
    found, reasons = find_networks(checkpoint)
    generator = fit(checkpoint, found, recipe, "generator")
    if generator is None:
        if not found and not checkpoint.tensors:
            raise not_recognised(checkpoint, found, reasons)
        raise WeightsError(
            f"{checkpoint.path} does not fit the recipe {recipe.name}: {difference(found, recipe)}.",
            "Leave --recipe out to have it recognised, or name another.",
        )
    judges = found if other is checkpoint else find_networks(other)[0]
    discriminator = fit(other, judges, recipe, "discriminator")
    notes = [f"The recipe {recipe.name} says what the networks are: {why}.", *generator.notes]
    states: dict[Role, State] = {"generator": generator.state}
    networks = [_fitted("generator", generator, recipe)]
    if discriminator is not None:
        states["discriminator"] = discriminator.state
        networks.append(_fitted("discriminator", discriminator, recipe))
        notes += discriminator.notes
    elif any(one.role == "discriminator" for one in judges):
        notes.append(f"Left out: the discriminator, which does not fit the recipe {recipe.name}.")
    config = _config(recipe, generator.ema, checkpoint, networks[0].architecture)
    return Plan(config, states, tuple(networks), tuple(notes))


def _fitted(role: Role, fitted: Fit, recipe: Recipe) -> Network:
    section = recipe.generator if role == "generator" else recipe.discriminator
    architecture = fitted.found.architecture.title if fitted.found else f"{section.name} as in {recipe.name}"
    return Network(
        role,
        architecture,
        fitted.place,
        "".join(f"{part}." for part in fitted.prefix),
        fitted.ema,
        _dtypes(fitted.state),
        _count(fitted.state),
    )


def _by_shapes(checkpoint: Checkpoint, recognised: Recognised) -> Plan:
    generator, discriminator = recognised.generator, recognised.discriminator
    notes = list(recognised.notes)
    recipe = _recipe(recognised, "normal", generator.architecture.generator)
    states: dict[Role, State] = {"generator": generator.network.state()}
    evidence = look(recipe, {name: tensor.float() for name, tensor in states["generator"].items()})
    notes += _judged(generator, evidence)
    recipe = _recipe(recognised, evidence.prior or "normal", evidence.activation or generator.architecture.generator)
    networks = [_recognised(generator)]
    if discriminator is not None:
        states["discriminator"] = discriminator.network.state()
        networks.append(_recognised(discriminator))
        notes += _conventions(discriminator)
    for one in (generator, *(() if discriminator is None else (discriminator,))):
        notes += [f"{note[0].upper()}{note[1:]}." for note in one.network.notes]
    config = _config(recipe, generator.ema, checkpoint, generator.architecture.title)
    return Plan(config, states, tuple(networks), tuple(notes))


def _recognised(found: Found) -> Network:
    state = found.network.state()
    prefix = "".join(f"{part}." for part in found.prefix)
    return Network(found.role, found.architecture.title, found.place, prefix, found.ema, found.dtypes, _count(state))


def _judged(generator: Found, evidence: Evidence) -> list[str]:
    """Return the sentences on what no tensor tells of a generator: what was seen in its statistics, what is custom."""
    seen, taken = [], []
    custom = generator.architecture.generator
    if evidence.prior is None:
        taken.append("z from a normal prior")
    else:
        seen.append(f"z from a {evidence.prior} prior")
    if evidence.activation is None:
        taken.append(_in_words(custom))
    else:
        differs = f" (not {_in_words(custom)}, as is usual there)" if evidence.activation != custom else ""
        seen.append(_in_words(evidence.activation) + differs)
    notes = []
    if seen:
        notes.append(f"Told by the statistics that its batch norms keep: {' and '.join(seen)}.")
    unseen = (*taken, *generator.network.unseen)
    notes.append(f"By the convention of {generator.architecture.title}: {', '.join(unseen)}.")
    return notes


def _conventions(discriminator: Found) -> list[str]:
    architecture = discriminator.architecture
    taken = (_in_words(architecture.discriminator), *discriminator.network.unseen)
    notes = [f"By the same convention, in the discriminator: {', '.join(taken)}."]
    if architecture.last:
        notes.append(f"The discriminator's last {architecture.last}, if it had one, is left out: ganzoo's give logits.")
    return notes


def _in_words(activation: str) -> str:
    return "ReLU" if activation == "relu" else f"leaky ReLU of slope {activation.removeprefix('leaky_relu_')}"


def _recipe(recognised: Recognised, prior: str, activation: str) -> Recipe:
    """Return a recipe that says what recognised networks are. Of the training it holds what the tutorial does, for it
    must hold something; `ModelConfig.step` is 0."""
    generator, discriminator = recognised.generator, recognised.discriminator
    drawn = generator.network.section(recognised.reading, activation)
    drawn |= {"latent_dim": generator.network.latent_dim, "prior": prior}
    if discriminator is not None and recognised.discriminator_reading is not None:
        judged = discriminator.network.section(
            recognised.discriminator_reading, discriminator.architecture.discriminator
        )
    else:
        judged = generator.network.mirrored(recognised.reading, generator.architecture.discriminator)
    size = recognised.reading.image_size
    table = {
        "schema_version": 1,
        "name": f"{generator.network.family}-{size}-converted",
        "data": {
            "source": UNKNOWN,
            "image_size": size,
            "channels": generator.network.channels,
            "num_classes": generator.network.num_classes,
        },
        "generator": drawn,
        "discriminator": judged,
        "objective": {"name": "non_saturating"},
        "optimizer": {"lr": 2e-4, "betas": [0.5, 0.999]},
        "train": {"batch_size": 128, "kimg": 1000.0},
    }
    try:
        return load_recipe(table)
    except RecipeError as error:
        raise WeightsError(
            f"What was recognised cannot be built: {error.message}", "Name a recipe: --recipe NAME|FILE."
        ) from error


def _config(recipe: Recipe, ema: bool, checkpoint: Checkpoint, architecture: str) -> ModelConfig:
    data = {
        "description": "not recorded",
        "converted_from": {
            "architecture": architecture,
            "form": checkpoint.form,
            "sha256": sha256_of(checkpoint.path),
        },
    }
    return ModelConfig(recipe=recipe, weights="ema" if ema else "raw", step=0, kimg=0.0, data=data)


def _dtypes(state: State) -> tuple[str, ...]:
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in state.values() if tensor.is_floating_point()}
    return tuple(sorted(kinds))


def _count(state: State) -> int:
    """Return how many numbers are learned: all but running statistics, and spectral norm's vectors."""
    buffers = ("running_mean", "running_var", "num_batches_tracked", "_u", "_v")
    return sum(tensor.numel() for name, tensor in state.items() if name.rpartition(".")[2] not in buffers)


def with_licence(plan: Plan, licence: str | None) -> Plan:
    """Return a plan with the licence of the weights stated; a card that was written without it is written anew.

    Args:
        plan: what is to be written.
        licence: an SPDX identifier, or None to leave it as it is.
    """
    if licence is None or licence == plan.config.licence:
        return plan
    return replace(plan, config=replace(plan.config, licence=licence), card="")
