"""`convert`: weights of any source into a model folder or one safetensors file, read back before they take their name.

The order: read and recognise, change the kind of numbers, load strictly into the networks that the recipe builds, draw
with them, write beside the target, read that again and compare it bit by bit, rename. What fails before the rename
leaves nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ganzoo.building import load_recipe
from ganzoo.card import card_numbers, model_card
from ganzoo.errors import UsageError, WeightsError
from ganzoo.export.conversion.fitting import State
from ganzoo.export.conversion.networks import Role
from ganzoo.export.conversion.numbers import DTYPES, as_dtype, kinds_of
from ganzoo.export.conversion.planning import Network, Plan, plan_checkpoint, plan_model, with_licence
from ganzoo.export.conversion.proof import build_model, check_draws, compare
from ganzoo.export.conversion.targets import Kind, check_apart, check_free, kind_of_target
from ganzoo.files import atomic_file, atomic_folder, sha256_of
from ganzoo.model_config import CONFIG, DISCRIMINATOR, GENERATOR
from ganzoo.model_files import weights_metadata
from ganzoo.models import load_model, save_companions
from ganzoo.recipes import Recipe
from ganzoo.references import FOREIGN_SUFFIXES, resolve_model
from ganzoo.tensors import save_tensors

Precision = Literal["fp32", "fp16", "bf16"]

_FILES = {"generator": GENERATOR, "discriminator": DISCRIMINATOR}


@dataclass(frozen=True)
class ConversionReport:
    """What `convert` did.

    Args:
        source: as it was named.
        target: the model folder or the file.
        kind: which of them: "folder" or "safetensors".
        recipe: name of the recipe that says what the networks are.
        image_size, channels, num_classes, latent_dim: of the model.
        networks: what was recognised, where it lay, what was stripped.
        dtype: the kinds of floating point in what was written: ("float32",).
        notes: what was chosen, done or taken by convention, in sentences.
        files: name → "sha256" and "bytes" of every file written.
        difference: the largest difference of a pixel that fewer digits made, on [-1, 1]; None where none were lost, or
            only those of float64.
    """

    source: str
    target: Path
    kind: Kind
    recipe: str
    image_size: int
    channels: int
    num_classes: int
    latent_dim: int
    networks: tuple[Network, ...]
    dtype: tuple[str, ...]
    notes: tuple[str, ...]
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    difference: float | None = None

    @property
    def sha256(self) -> str:
        """Of the generator's file."""
        name = self.target.name if self.kind == "safetensors" else GENERATOR
        return str(self.files[name]["sha256"])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as what JSON can hold."""
        networks = [
            {
                "role": one.role,
                "architecture": one.architecture,
                "place": list(one.place),
                "prefix": one.prefix,
                "ema": one.ema,
                "dtype": list(one.dtypes),
                "parameters": one.parameters,
            }
            for one in self.networks
        ]
        plain = {key: getattr(self, key) for key in _PLAIN}
        return plain | {
            "target": str(self.target),
            "sha256": self.sha256,
            "networks": networks,
            "dtype": list(self.dtype),
            "notes": list(self.notes),
            "files": {name: dict(one) for name, one in self.files.items()},
        }


_PLAIN = ("source", "kind", "recipe", "image_size", "channels", "num_classes", "latent_dim", "difference")


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe | None = None,
    dtype: Precision | None = None,
    licence: str | None = None,
    discriminator: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> ConversionReport:
    """Turn weights into a model of ganzoo's: a folder, or one `.safetensors` file. Twice gives the same bytes.

    Args:
        source: a checkpoint (`.pt`, `.pth`, `.ckpt`, `.bin`, `.safetensors`), or a model reference.
        target: the model folder to be, or a file whose name ends in `.safetensors`, which holds the generator alone.
        recipe: what a checkpoint's networks are, if they are not to be recognised.
        dtype: "fp32", "fp16" or "bf16"; None: as they are, float64 as float32.
        licence: of the weights, an SPDX identifier; None: as the source says.
        discriminator: a second checkpoint, to take the discriminator from.
        force: whether a model that is at the target is replaced.

    Raises:
        UsageError: a target or dtype that cannot be, a source that is the target, a recipe that is none.
        WeightsError: a source that cannot be read, is refused, not recognised, or does not fit the recipe; weights
            that draw no finite images.
        OSError: the target cannot be written.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"There is no dtype {dtype!r}.", f"Use one of {', '.join(DTYPES)}.")
    path = Path(target).expanduser()
    kind = kind_of_target(target, path)
    wanted = None if recipe is None else load_recipe(recipe)
    if (given := Path(source).expanduser()).exists():
        check_apart(given, path)
    check_free(path, kind, force)
    plan = with_licence(_plan(source, path, wanted, discriminator), licence)
    plan, difference = as_dtype(plan, dtype)
    if kind == "safetensors" and "discriminator" in plan.states:
        notes = (*plan.notes, "The file holds the generator alone; a folder would hold the discriminator, too.")
        states: dict[Role, State] = {"generator": plan.states["generator"]}
        plan = replace(plan, states=states, notes=notes, networks=plan.networks[:1])
    check_draws(build_model(plan), str(source))
    files = _write_folder(path, plan, force) if kind == "folder" else _write_file(path, plan)
    data = plan.config.recipe.data
    return ConversionReport(
        source=os.fspath(source),
        target=path,
        kind=kind,
        recipe=plan.config.recipe.name,
        image_size=data.image_size,
        channels=data.channels,
        num_classes=data.num_classes,
        latent_dim=plan.config.recipe.generator.latent_dim,
        networks=plan.networks,
        dtype=kinds_of(plan),
        notes=plan.notes,
        files=files,
        difference=difference,
    )


# -------------------------------------------------------------------------------------------- source and target


def _plan(
    source: str | os.PathLike[str],
    target: Path,
    recipe: Recipe | None,
    discriminator: str | os.PathLike[str] | None,
) -> Plan:
    judge = None if discriminator is None else Path(discriminator).expanduser()
    path = Path(source).expanduser()
    named_like_one = path.suffix.lower() in (*FOREIGN_SUFFIXES, ".safetensors") and ":" not in path.parts[:1]
    if path.is_file() and path.suffix.lower() != ".onnx":
        check_apart(path, target)
        if judge is not None:
            check_apart(judge, target)
        return plan_checkpoint(path, recipe, judge)
    if named_like_one and not path.exists() and not os.fspath(source).startswith("hf-hub:"):
        raise WeightsError(f"There is no file {os.fspath(source)}.")
    location = resolve_model(source)
    check_apart(location.path, target)
    if recipe is not None or judge is not None:
        option = "--recipe" if recipe is not None else "--discriminator"
        raise UsageError(
            f"{os.fspath(source)} is a model of ganzoo's and says itself what it is.", f"Leave out {option}."
        )
    plan = plan_model(location)
    return plan if location.said is None else replace(plan, notes=(location.said, *plan.notes))


# -------------------------------------------------------------------------------------------- writing


def _write_folder(path: Path, plan: Plan, force: bool) -> dict[str, dict[str, Any]]:
    replaces = path.exists()  # only by `force`, or because it is empty
    with atomic_folder(path, replace=replaces or force) as folder:
        (folder / CONFIG).write_text(plan.config.to_json(), encoding="utf-8")
        for role, state in plan.states.items():
            save_tensors(folder / _FILES[role], state, weights_metadata(plan.config, role))
            compare(folder / _FILES[role], state, path / _FILES[role])
        model = load_model(folder)
        save_companions(folder, replace(model, card=_card(plan), metrics=plan.metrics))
        return _digests(sorted(folder.iterdir()))


def _write_file(path: Path, plan: Plan) -> dict[str, dict[str, Any]]:
    with atomic_file(path) as file:
        temporary, state = Path(file.name), plan.states["generator"]
        save_tensors(temporary, state, weights_metadata(plan.config, "generator"))
        compare(temporary, state, path)
        (digest,) = _digests([temporary]).values()
    return {path.name: digest}


def _digests(paths: list[Path]) -> dict[str, dict[str, Any]]:
    return {path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size} for path in paths}


def _card(plan: Plan) -> str:
    """Return the source's card, or one that tells where foreign weights came from and what was taken by convention."""
    if plan.card:
        return plan.card
    statistics, metrics = card_numbers(plan.metrics)
    card = model_card(plan.config, statistics, metrics=metrics)
    if not plan.foreign:
        return card
    origin = plan.config.data["converted_from"]
    networks = "".join(
        f"- {one.role}: {one.architecture}{', an exponential moving average' if one.ema else ''}\n"
        for one in plan.networks
    )
    notes = "".join(f"- {note}\n" for note in plan.notes)
    return (
        f"{card}\n## Where it comes from\n\nConverted by ganzoo from a checkpoint ({origin['form']}, SHA-256 "
        f"`{origin['sha256']}`). How it was trained is not recorded.\n\n{networks}"
        + (f"\nOf the conversion:\n\n{notes}" if notes else "")
    )
