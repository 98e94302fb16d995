"""Recipes: everything needed to train one model, in one TOML file.

This module is the schema (`Recipe` and its sections), the reading of files with changes (`--set optimizer.lr=1e-4`), and the names of
the recipes that exist. The tables `[generator]`, `[discriminator]`, `[objective]` and `[[penalty]]` hold a registered name and the
arguments of its constructor: their schema is derived from the constructor's signature, so a plug-in's keys are checked like ganzoo's own.
`ganzoo.building` turns a recipe into networks and refuses what cannot work.

A number that may change during training is a `Schedule`: a plain number, or

    lr = { schedule = "cosine", start = 2e-4, end = 5e-5, kimg = 20_000 }
"""

from __future__ import annotations

import fnmatch
import importlib.resources
import inspect
import json
import math
import os
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic_core import ErrorDetails

from ganzoo import registry
from ganzoo.errors import PluginError, RecipeError, UnknownNameError, suggest

SCHEMA_VERSION = 1

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """One table of a recipe. Unknown keys are refused, types are strict."""

    model_config = _STRICT


class Schedule(Section):
    """A number that goes from `start` to `end` while training goes from `begin_kimg` to `kimg`, and stays there.

    "cosine" is end + (start - end) (1 + cos(pi t)) / 2 (Loshchilov and Hutter, arXiv 1608.03983, equation 5, one cycle); t runs from 0 to 1.
    """

    schedule: Literal["cosine", "linear"]
    start: NonNegative
    end: NonNegative
    kimg: Positive
    begin_kimg: NonNegative = 0.0

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Schedule:
        if self.kimg <= self.begin_kimg:
            raise ValueError(f"kimg (={self.kimg:g}) must be greater than begin_kimg (={self.begin_kimg:g})")
        return self

    def at(self, kimg: float) -> float:
        """Return the value after so many thousands of images."""
        t = min(max((kimg - self.begin_kimg) / (self.kimg - self.begin_kimg), 0.0), 1.0)
        share = 0.5 * (1.0 + math.cos(math.pi * t)) if self.schedule == "cosine" else 1.0 - t
        return self.end + (self.start - self.end) * share


Scheduled = NonNegative | Schedule


def value_at(value: float | Schedule, kimg: float) -> float:
    """Return a scheduled number's value after so many thousands of images."""
    return value.at(kimg) if isinstance(value, Schedule) else value


class DataSection(Section):
    """`[data]`: what the networks see."""

    source: str = Field(description="what `--data` replaces")
    image_size: Annotated[int, Field(ge=4, le=4096)]
    channels: Literal[1, 3] = 3
    crop: Literal["none", "center", "lsun", "celeba"] = "center"
    resize: Literal["lanczos", "box"] = "lanczos"
    mirror: bool = False
    num_classes: Annotated[int, Field(ge=0)] = Field(0, description="0: unconditional; else the labels are used")
    max_images: Count | None = None


class Component(BaseModel):
    """A table that names a registered class; its other keys are arguments of that class's constructor."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return dict(self.model_extra or {})


class GeneratorSection(Component):
    """`[generator]`."""

    latent_dim: Count
    prior: Literal["uniform", "normal"] = Field("normal", description="of z: uniform on (-1, 1), or standard normal")


class DiscriminatorSection(Component):
    """`[discriminator]`."""


class ObjectiveSection(Component):
    """`[objective]`."""


class PenaltySection(Component):
    """`[[penalty]]`: `weight` times the mean over the batch, taken every so many steps (and then weighted `every` times as much)."""

    name: str = "gradient"
    weight: Scheduled
    every: Count = 1


class OptimizerOverride(Section):
    """`[optimizer.generator]`, `[optimizer.discriminator]`: entries that differ for one network."""

    lr: Scheduled | None = None
    betas: tuple[Share, Share | Schedule] | None = None
    alpha: Share | None = None
    eps: Positive | None = None
    l2: NonNegative | None = None


class OptimizerSection(Section):
    """`[optimizer]`: `l2` adds l2 times the parameter to each gradient, for all parameters."""

    name: Literal["adam", "rmsprop"] = "adam"
    lr: Scheduled
    betas: tuple[Share, Share | Schedule] = (0.9, 0.999)
    alpha: Share = Field(0.99, description="RMSprop's decay of the squared gradient")
    eps: Positive = 1e-8
    l2: NonNegative = 0.0
    generator: OptimizerOverride = OptimizerOverride()
    discriminator: OptimizerOverride = OptimizerOverride()

    def of(self, network: Literal["generator", "discriminator"]) -> OptimizerSection:
        """Return the settings of one network, the overrides applied."""
        override: OptimizerOverride = getattr(self, network)
        changes = {key: value for key in type(override).model_fields if (value := getattr(override, key)) is not None}
        return self.model_copy(update=changes)


class EMASection(Section):
    """`[ema]`: the published generator is an average of the trained one's past; `half_life_kimg = 0` turns it off.

    With `ramp` > 0 the half-life is at most `ramp` times the images drawn so far, so that the average forgets the start.
    """

    half_life_kimg: Scheduled = 0.0
    ramp: NonNegative = 0.0

    @property
    def enabled(self) -> bool:
        """Whether there is an average at all."""
        return isinstance(self.half_life_kimg, Schedule) or self.half_life_kimg > 0


class TrainSection(Section):
    """`[train]`: the order of updates, sizes, lengths and intervals. Intervals are in steps (rounds of updates)."""

    batch_size: Annotated[int, Field(ge=2)]
    kimg: Positive
    update: Literal["sequential", "simultaneous", "alternate_minibatches"] = "sequential"
    discriminator_steps: Count = 1
    generator_batch_size: Annotated[int, Field(ge=2)] | None = None
    generator_reals: Literal["fresh", "reuse"] = Field("fresh", description="where G's loss needs real images")
    reuse_fakes: bool = Field(False, description="G's update goes back through D's last fakes")
    real_fake_batches: Literal["separate", "joined"] = "separate"
    accumulate: Count = Field(1, description="parts that a batch is split into to save memory")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    deterministic: bool = Field(False, description="bitwise repeatable on a GPU, too; slower there")
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    log_every: Count = 50
    sample_every: Count = 500
    checkpoint_every: Count = 1000
    keep: Count = Field(3, description="checkpoints")

    @model_validator(mode="after")
    def _order_of_updates_is_possible(self) -> TrainSection:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size (={self.batch_size}) must be divisible by accumulate (={self.accumulate})")
        if self.batch_size // self.accumulate < 2:
            raise ValueError(f"accumulate (={self.accumulate}) leaves less than 2 images of batch_size (={self.batch_size})")
        if self.discriminator_steps > 1 and self.update != "sequential":
            raise ValueError(f'discriminator_steps (={self.discriminator_steps}) needs update = "sequential"')
        other_size = self.generator_batch_size not in (None, self.batch_size)
        if other_size and self.update != "sequential":
            raise ValueError(f'generator_batch_size (={self.generator_batch_size}) needs update = "sequential"')
        if other_size and self.generator_reals == "reuse":
            raise ValueError('generator_reals = "reuse" needs generator_batch_size to be batch_size')
        if self.generator_batch_size is not None and self.generator_batch_size % self.accumulate:
            raise ValueError(
                f"generator_batch_size (={self.generator_batch_size}) must be divisible by accumulate (={self.accumulate})"
            )
        if self.reuse_fakes and (self.update != "sequential" or other_size or self.accumulate > 1):
            raise ValueError(
                'reuse_fakes needs update = "sequential", equal batch sizes and accumulate = 1: '
                "G goes back through the very fakes that D was shown"
            )
        return self


class Recipe(Section):
    """Everything needed to train one model. Read it with `ganzoo.load_recipe`."""

    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]
    data: DataSection
    generator: GeneratorSection
    discriminator: DiscriminatorSection
    objective: ObjectiveSection
    penalty: tuple[PenaltySection, ...] = ()
    optimizer: OptimizerSection
    ema: EMASection = EMASection()
    train: TrainSection

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as nested dictionaries that JSON and TOML can hold; what is None is left out."""
        plain: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        for network in ("generator", "discriminator"):
            if not plain["optimizer"][network]:
                del plain["optimizer"][network]
        return plain

    def to_toml(self) -> str:
        """Return the recipe as TOML."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())


# ---------------------------------------------------------------------------------------------------- reading


def parse_recipe(table: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Return a recipe from nested dictionaries, all defaults filled in and all names looked up.

    Args:
        table: as `tomllib` reads it.
        where: the recipe's name or file, for messages.

    Raises:
        RecipeError: an unknown key, a wrong type, a value out of range, a combination that cannot be; one line that names all of them.
        UnknownNameError: a generator, discriminator, objective or penalty that is not registered.
        PluginError: a third party's class that breaks its contract.
    """
    version = table.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise RecipeError(
            f"{where}: schema_version = {version} is newer than this ganzoo knows ({SCHEMA_VERSION}).", "Update ganzoo."
        )
    recipe = _validate(Recipe, table, where, ())
    given = set(NETWORK_ARGUMENTS)
    sections: dict[str, Any] = {
        "generator": _resolve(recipe.generator, registry.generators, given | {"latent_dim"}, where, ("generator",)),
        "discriminator": _resolve(recipe.discriminator, registry.discriminators, given, where, ("discriminator",)),
        "objective": _resolve(recipe.objective, registry.objectives, set(), where, ("objective",)),
        "penalty": tuple(
            _resolve(penalty, registry.penalties, set(), where, ("penalty", index))
            for index, penalty in enumerate(recipe.penalty)
        ),
    }
    return recipe.model_copy(update=sections)


NETWORK_ARGUMENTS = ("image_size", "channels", "num_classes")
"""What every network's constructor is given from `[data]`, beside its own keys."""


def options_model(factory: Callable[..., Any], given: Iterable[str], kind: str) -> type[BaseModel]:
    """Return the schema of a component's keys, derived from the signature of its constructor.

    Args:
        factory: a class or function with named arguments.
        given: arguments that are not keys, as the trainer gives them.
        kind: for messages: "generator".

    Raises:
        PluginError: positional-only arguments, *args or **kwargs, or annotations that cannot be read.
    """
    function = factory.__init__ if inspect.isclass(factory) else factory
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise PluginError(f"The {kind} {factory.__qualname__} has an annotation that cannot be read: {error}.") from error
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise PluginError(
                f"The {kind} {factory.__qualname__} takes {parameter}, so its keys cannot be known.",
                "Name every argument of its constructor.",
            )
        if name not in given:
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[name] = (hints.get(name, Any), default)
    return create_model("Options", __config__=_STRICT, **fields)


ComponentT = typing.TypeVar("ComponentT", bound=Component)
ModelT = typing.TypeVar("ModelT", bound=BaseModel)


def _resolve(
    section: ComponentT, known: registry.Registry[Any], given: set[str], where: str, path: tuple[str | int, ...]
) -> ComponentT:
    """Return a component with its options checked against the signature and their defaults filled in."""
    schema = options_model(known.get(section.name), given | set(type(section).model_fields), known.kind)
    options = _validate(schema, section.options, where, path, also=type(section).model_fields)
    own = {key: getattr(section, key) for key in type(section).model_fields}
    return typing.cast(ComponentT, type(section).model_construct(**own, **options.model_dump()))


def _validate(
    schema: type[ModelT], table: Mapping[str, Any], where: str, path: tuple[str | int, ...], also: Iterable[str] = ()
) -> ModelT:
    try:
        # By way of JSON, in which an array may be a tuple though types are strict.
        return schema.model_validate_json(json.dumps(table))
    except TypeError as error:
        raise RecipeError(f"{where}: {error}.", "A recipe holds tables, text, numbers, true and false.") from error
    except ValidationError as error:
        raise RecipeError(f"{where}: {'; '.join(_explanations(error, schema, path, also))}.") from error


def _explanations(
    error: ValidationError, schema: type[BaseModel], path: tuple[str | int, ...], also: Iterable[str]
) -> list[str]:
    """Return a phrase for each thing that is wrong; branches of a union speak once."""
    phrases: dict[str, str] = {}
    for detail in error.errors():
        place = tuple(part for part in (*path, *detail["loc"]) if not _is_union_tag(part))
        key = ".".join(str(part) for part in place) or "recipe"
        phrases.setdefault(key, _explain(detail, key, schema, place[len(path) :], also))
    return list(phrases.values())


def _is_union_tag(part: str | int) -> bool:
    return isinstance(part, str) and ("[" in part or part in ("Schedule", "float", "int", "str", "bool") or "constrained" in part)


def _explain(
    detail: ErrorDetails, key: str, schema: type[BaseModel], place: tuple[str | int, ...], also: Iterable[str]
) -> str:
    if detail["type"] == "extra_forbidden":
        known = {*_fields_at(schema, place[:-1]), *also}
        return f"{key} is not a key. {suggest(str(place[-1]), known)}".rstrip(".")
    if detail["type"] == "missing":
        return f"{key} is missing"
    shown = json.dumps(detail["input"]) if not isinstance(detail["input"], Mapping) else "this table"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    message = message[:1].lower() + message[1:] if not message.startswith("JSON") else message
    if detail["type"] == "value_error":
        return f"{key}: {message}"
    return f"{key} = {shown} should be {message.removeprefix('a valid ')}"


def _fields_at(schema: type[BaseModel], place: tuple[str | int, ...]) -> list[str]:
    """Return the keys of the table at a place of the schema."""
    for part in place:
        if isinstance(part, int):
            continue
        if part not in schema.model_fields:
            return []
        annotation = schema.model_fields[part].annotation
        inside = [one for one in (annotation, *typing.get_args(annotation)) if inspect.isclass(one)]
        models = [one for one in inside if issubclass(one, BaseModel)]
        if not models:
            return []
        schema = models[0]
    return list(schema.model_fields)


def apply_overrides(table: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a copy of a recipe's table with changes like "optimizer.lr=1e-4" applied.

    A value is read as TOML, and as text where it is not TOML; "penalty.0.weight=1" reaches into the list of penalties.

    Raises:
        RecipeError: a change without "=", or a path through something that is not a table.
    """
    changed: dict[str, Any] = json.loads(json.dumps(table))
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals or not key:
            raise RecipeError(f"--set {override!r} is not KEY=VALUE.", "For example: --set optimizer.lr=1e-4")
        *path, last = key.split(".")
        at: Any = changed
        for part in path:
            at = _enter(at, part, key)
        if isinstance(at, list):
            if not last.isdigit() or int(last) >= len(at):
                raise RecipeError(f"--set {key}: there are {len(at)} entries, numbered from 0.")
            at[int(last)] = _toml_value(text)
        else:
            at[last] = _toml_value(text)
    return changed


def _enter(at: Any, part: str, key: str) -> Any:
    if isinstance(at, list) and part.isdigit() and int(part) < len(at):
        inside = at[int(part)]
    elif isinstance(at, dict):
        inside = at.setdefault(part, {})
    else:
        raise RecipeError(f"--set {key}: {part!r} is not there.")
    if not isinstance(inside, dict | list):
        raise RecipeError(f"--set {key}: {part!r} is a value, not a table.")
    return inside


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"v={text}")["v"]
    except tomllib.TOMLDecodeError:
        return text.strip()


# ---------------------------------------------------------------------------------------------------- finding


def read_table(reference: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """Return a recipe's table and where it comes from.

    Args:
        reference: a recipe's name, or the path of a TOML file.

    Raises:
        UnknownNameError: no recipe of that name; the nearest is offered.
        RecipeError: a file that is missing or is not TOML.
    """
    text = str(reference)
    if isinstance(reference, os.PathLike) or text.endswith(".toml") or "/" in text or os.sep in text:
        path = Path(reference)
        if not path.is_file():
            raise RecipeError(f"There is no recipe file {text}.", "`ganzoo list` shows the recipes by name.")
        return _read_toml(path, text), text
    found = _find(text)
    return _read_toml(found, text), text


def _find(name: str) -> Path | Traversable:
    if (own := _zoo() / f"{name}.toml").is_file() and name == Path(name).name:
        return own
    if name not in registry.recipes:
        raise UnknownNameError("recipe", name, list_recipes())
    entry = registry.recipes.get(name)
    if not isinstance(entry, str | os.PathLike | Traversable):
        raise PluginError(f"The recipe {name!r} stands for a {type(entry).__name__}, not for the path of a TOML file.")
    return Path(entry) if isinstance(entry, str | os.PathLike) else entry


def _zoo() -> Traversable:
    return importlib.resources.files("ganzoo.zoo_configs")


_MAX_FILE_BYTES = 1 << 20


def _read_toml(path: Path | Traversable, where: str) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise RecipeError(f"{where} is larger than 1 MiB: it is no recipe.")
        return tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecipeError(f"{where} is not TOML: {str(error).splitlines()[0]}.") from error
    except OSError as error:
        raise RecipeError(f"{where} cannot be read: {error.strerror}.") from error


def list_recipes(pattern: str = "*") -> list[str]:
    """Return the names of all recipes that match a shell pattern, ganzoo's own and those of installed packages, in natural order."""
    own = [entry.name.removesuffix(".toml") for entry in _zoo().iterdir() if entry.name.endswith(".toml")]
    names = {*own, *registry.recipes.names()}
    return sorted((name for name in names if fnmatch.fnmatchcase(name, pattern)), key=registry.natural_key)


def describe_recipe(name: str) -> str:
    """Return a recipe's one-line description: the first comment of its file.

    Raises:
        UnknownNameError: no such recipe.
        PluginError: a third party's recipe that cannot be found.
    """
    with _find(name).open("r", encoding="utf-8") as file:
        first = file.readline()
    return first.removeprefix("#").strip() if first.startswith("#") else ""
