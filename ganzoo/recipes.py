"""Recipes: everything needed to train one model, in one TOML file.

This module is the schema (`Recipe` and its sections), the reading of files with changes (`--set optimizer.lr=1e-4`),
and the names of the recipes that exist. The tables `[generator]`, `[discriminator]`, `[objective]` and `[[penalty]]`
hold a registered name and the arguments of its constructor: their schema is derived from the constructor's signature,
so a plug-in's keys are checked like ganzoo's own. `ganzoo.building` turns a recipe into networks and refuses what
cannot work.

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
import re
import tomllib
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic.errors import PydanticUserError
from pydantic_core import ErrorDetails

from ganzoo import registry
from ganzoo.errors import PluginError, RecipeError, UnknownNameError, suggest

SCHEMA_VERSION = 1

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, lt=1 << 31)]


class Section(BaseModel):
    """One table of a recipe. Unknown keys are refused, types are strict."""

    model_config = _STRICT


class Schedule(Section):
    """A number that goes from `start` to `end` while training goes from `begin_kimg` to `kimg`, and stays there.

    "cosine" is end + (start - end) (1 + cos(pi t)) / 2 (Loshchilov and Hutter, arXiv 1608.03983, equation 5, one
    cycle); t runs from 0 to 1.
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
    image_size: Annotated[int, Field(ge=4, le=4096)]  # pixels on a side
    channels: Literal[1, 3] = 3
    crop: Literal["none", "center", "lsun", "celeba"] = "center"
    resize: Literal["lanczos", "box"] = "lanczos"
    mirror: bool = False
    num_classes: Annotated[int, Field(ge=0, le=1 << 20)] = Field(
        0, description="0: unconditional; else the labels are used"
    )
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
    """`[[penalty]]`: `weight` times the mean over the batch, taken every so many steps (and then weighted `every` times
    as much)."""

    name: str = "gradient"
    weight: Scheduled
    every: Count = 1


def _below_one(betas: tuple[float, float | Schedule] | None) -> tuple[float, float | Schedule] | None:
    if betas is not None and isinstance(beta := betas[1], Schedule) and max(beta.start, beta.end) >= 1.0:
        raise ValueError(f"the second beta (from {beta.start:g} to {beta.end:g}) must stay below 1")
    return betas


Betas = Annotated[tuple[Share, Share | Schedule], AfterValidator(_below_one)]


class OptimizerOverride(Section):
    """`[optimizer.generator]`, `[optimizer.discriminator]`: entries that differ for one network."""

    lr: Scheduled | None = None
    betas: Betas | None = None
    alpha: Share | None = None
    eps: Positive | None = None
    l2: NonNegative | None = None


class OptimizerSection(Section):
    """`[optimizer]`: `l2` adds l2 times the parameter to each gradient, for all parameters."""

    name: Literal["adam", "rmsprop"] = "adam"
    lr: Scheduled
    betas: Betas = (0.9, 0.999)
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

    With `ramp` > 0 the half-life is at most `ramp` times the images drawn so far, so that the average forgets the
    start.
    """

    half_life_kimg: Scheduled = 0.0
    ramp: NonNegative = 0.0

    @property
    def enabled(self) -> bool:
        """Whether there is an average at all."""
        return isinstance(self.half_life_kimg, Schedule) or self.half_life_kimg > 0


class TrainSection(Section):
    """`[train]`: the order of updates, sizes, lengths and intervals. Intervals are in steps (rounds of updates)."""

    batch_size: Annotated[int, Field(ge=2, le=1 << 20)]
    kimg: Positive
    update: Literal["sequential", "simultaneous", "alternate_minibatches"] = "sequential"
    discriminator_steps: Count = 1
    generator_batch_size: Annotated[int, Field(ge=2, le=1 << 20)] | None = None
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
            raise ValueError(
                f"accumulate (={self.accumulate}) leaves less than 2 images of batch_size (={self.batch_size})"
            )
        if self.discriminator_steps > 1 and self.update != "sequential":
            raise ValueError(f'discriminator_steps (={self.discriminator_steps}) needs update = "sequential"')
        other_size = self.generator_batch_size not in (None, self.batch_size)
        if other_size and self.update != "sequential":
            raise ValueError(f'generator_batch_size (={self.generator_batch_size}) needs update = "sequential"')
        if other_size and self.generator_reals == "reuse":
            raise ValueError('generator_reals = "reuse" needs generator_batch_size to be batch_size')
        if self.generator_batch_size is not None and self.generator_batch_size % self.accumulate:
            raise ValueError(
                f"generator_batch_size (={self.generator_batch_size}) must be divisible by "
                f"accumulate (={self.accumulate})"
            )
        if self.reuse_fakes and (self.update != "sequential" or other_size or self.accumulate > 1):
            raise ValueError(
                'reuse_fakes needs update = "sequential", equal batch sizes and accumulate = 1: '
                "G goes back through the very fakes that D was shown"
            )
        return self


def _file_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise ValueError(f"{name!r} should be made of a-z, 0-9, '.', '_' and '-', since folders are called by it")
    return name


class Recipe(Section):
    """Everything needed to train one model. Read it with `ganzoo.load_recipe`."""

    schema_version: Literal[1]
    name: Annotated[str, Field(max_length=64), AfterValidator(_file_name)]
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
        RecipeError: an unknown key, a wrong type, a value out of range, a combination that cannot be; one line that
            names all of them.
        UnknownNameError: a generator, discriminator, objective or penalty that is not registered.
        PluginError: a third party's class that breaks its contract.
    """
    version = table.get("schema_version")
    if isinstance(version, int) and not isinstance(version, bool) and version > SCHEMA_VERSION:
        raise RecipeError(
            f"{where}: schema_version = {version} is newer than this ganzoo knows ({SCHEMA_VERSION}).", "Update ganzoo."
        )
    recipe = _validate(Recipe, _plain(table, where), where, ())
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
    title = f"The {kind} {getattr(factory, '__qualname__', repr(factory))}"
    function = factory.__init__ if inspect.isclass(factory) else factory
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        raise PluginError(f"{title} is no class or function with a signature.") from error
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError) as error:
        raise PluginError(f"{title} has an annotation that cannot be read: {error}.") from error
    fields: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise PluginError(
                f"{title} takes {parameter}, so its keys cannot be known.", "Name every argument of its constructor."
            )
        if name in given:
            continue
        if name.startswith("_"):
            raise PluginError(f"{title} has an argument {name!r} that no recipe can hold.", "Give it a public name.")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
        try:
            _make_model({name: fields[name]})
        except (PydanticUserError, NameError, TypeError) as error:
            raise PluginError(
                f"{title} has an argument {name!r} that no recipe can hold: {str(error).splitlines()[0].rstrip('.')}.",
                "Use numbers, text, true and false, lists and tables of them.",
            ) from error
    return _make_model(fields)


def _make_model(fields: dict[str, Any]) -> type[BaseModel]:
    with warnings.catch_warnings():
        # A key may be called like a method of pydantic's ("copy", "schema"): nothing here calls those.
        warnings.filterwarnings("ignore", message="Field name .* shadows an attribute", category=UserWarning)
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


def _plain(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a copy of a table in which everything is what JSON and TOML can hold; keys that are None are left out.

    Raises:
        RecipeError: something else is in it, or it is nested too deep.
    """

    def plain(value: Any, place: str) -> Any:
        if isinstance(value, Mapping):
            if wrong := [key for key in value if not isinstance(key, str)]:
                raise RecipeError(f"{where}: {place or 'the recipe'} has the key {wrong[0]!r}, which is not text.")
            inside = {key: plain(one, f"{place}.{key}" if place else key) for key, one in value.items()}
            return {key: one for key, one in inside.items() if one is not None}
        if isinstance(value, list | tuple):
            return [plain(one, f"{place}.{index}") for index, one in enumerate(value)]
        if isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
            raise RecipeError(f"{where}: {place} = {value!r} is not Unicode text.")
        if value is None or isinstance(value, str | bool | int | float):
            return value
        raise RecipeError(
            f"{where}: {place} is a {type(value).__name__}.",
            "A recipe holds text, numbers, true and false, lists and tables.",
        )

    try:
        copied: dict[str, Any] = plain(table, "")
    except RecursionError as error:
        raise RecipeError(f"{where}: its tables are nested too deep.") from error
    return copied


def _validate(
    schema: type[ModelT], table: Mapping[str, Any], where: str, path: tuple[str | int, ...], also: Iterable[str] = ()
) -> ModelT:
    try:
        # By way of JSON, in which an array may be a tuple though types are strict.
        return schema.model_validate_json(json.dumps(table))
    except ValidationError as error:
        raise RecipeError(f"{where}: {'; '.join(_explanations(error, schema, table, path, also))}.") from error


def _explanations(
    error: ValidationError,
    schema: type[BaseModel],
    table: Mapping[str, Any],
    path: tuple[str | int, ...],
    also: Iterable[str],
) -> list[str]:
    """Return a phrase for each place where something is wrong.

    A union (a number or a schedule) complains once for each of its branches. Where one branch got inside the value, the
    others have nothing to say; where one found the type right, those that wanted another type have not.
    """
    by_place: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for detail in error.errors():
        by_place.setdefault(_place(detail, table), []).append(detail)
    missing = [_dotted(path, place) for place, details in by_place.items() if details[0]["type"] == "missing"]
    phrases = [f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"] if missing else []
    for place, details in by_place.items():
        inside = any(len(other) > len(place) and other[: len(place)] == place for other in by_place)
        if details[0]["type"] == "missing" or (inside and place):
            continue
        of_value = [detail for detail in details if detail["type"] not in _TYPES]
        phrases.append(_explain(of_value[:1] or details, path, place, schema, also))
    return phrases


def _place(detail: ErrorDetails, table: Mapping[str, Any]) -> tuple[str | int, ...]:
    """Return where in the table an error is; pydantic puts the names of a union's branches between the keys."""
    at: Any = table
    place: list[str | int] = []
    for index, part in enumerate(detail["loc"]):
        known: Any = at if isinstance(at, Mapping) else range(len(at)) if isinstance(at, list) else ()
        if part in known:
            at = at[part]
        elif detail["type"] != "missing" or index < len(detail["loc"]) - 1:
            continue
        place.append(part)
    return tuple(place)


def _dotted(path: tuple[str | int, ...], place: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in (*path, *place))


_TYPES = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a table",
    "string_type": "text",
    "tuple_type": "a list",
}
"""What pydantic's complaints about types ask for."""


def _explain(
    details: list[ErrorDetails],
    path: tuple[str | int, ...],
    place: tuple[str | int, ...],
    schema: type[BaseModel],
    also: Iterable[str],
) -> str:
    detail, key = details[0], _dotted(path, place) or "the recipe"
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        if path and place[-1] in NETWORK_ARGUMENTS:
            return f"{key} is not a key: it is taken from data.{place[-1]}"
        known = {*_fields_at(schema, place[:-1]), *also}
        hint = suggest(str(place[-1]), known).rstrip(".") if known else ""
        return f"{key} is not a key ({hint[:1].lower()}{hint[1:]})" if hint else f"{key} is not a key"
    if kind == "value_error":
        return f"{key}: {str(context['error']).rstrip('.')}"
    if kind in _TYPES:
        wanted = " or ".join(dict.fromkeys(_TYPES[one["type"]] for one in details if one["type"] in _TYPES))
        if isinstance(detail["input"], Mapping):
            return f"{key} should be {wanted}, not a table" + (f": write [[{key}]]" if wanted == "a list" else "")
    elif kind in ("too_short", "too_long"):
        bound = context["min_length" if kind == "too_short" else "max_length"]
        wanted = (
            f"a list of at {'least' if kind == 'too_short' else 'most'} {bound} {'entry' if bound == 1 else 'entries'}"
        )
    else:
        wanted = detail["msg"].removeprefix("Input should be ").removeprefix("String should ")
        wanted = wanted.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    return (
        f"{key} = {_shown(detail['input'])} should {wanted if wanted.startswith(('have', 'match')) else f'be {wanted}'}"
    )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fields_at(schema: type[BaseModel], place: tuple[str | int, ...]) -> list[str]:
    """Return the keys of the table at a place of the schema."""
    inside: Any = schema
    for part in place:
        if isinstance(part, str):
            if inside is None or part not in inside.model_fields:
                return []
            inside = _model_in(inside.model_fields[part].annotation)
    return [] if inside is None else list(inside.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the first table that a type speaks of: `Schedule` of "a number or a Schedule"."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in typing.get_args(annotation) if (found := _model_in(one)) is not None), None)


def apply_overrides(table: Mapping[str, Any], overrides: Iterable[str], where: str = "recipe") -> dict[str, Any]:
    """Return a copy of a recipe's table with changes like "optimizer.lr=1e-4" applied.

    A value is read as TOML, and as text where it is not TOML; "penalty.0.weight=1" reaches into the list of penalties.

    Args:
        table: as `tomllib` reads it; it is not changed.
        overrides: the changes, in order.
        where: the recipe's name or file, for messages.

    Raises:
        RecipeError: a change without "=", or a path through something that is not a table; values that no recipe can
            hold.
    """
    changed: dict[str, Any] = _plain(table, where)
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
            at[_index(at, last, key)] = _toml_value(text)
        else:
            at[last] = _toml_value(text)
    return changed


def _enter(at: Any, part: str, key: str) -> Any:
    if isinstance(at, list):
        inside = at[_index(at, part, key)]
    elif part in at or not part.isdecimal():
        inside = at.setdefault(part, {})
    else:
        raise RecipeError(
            f"--set {key}: there is no entry {part} yet.", "--set 'penalty=[{weight=10}]' sets all of them."
        )
    if not isinstance(inside, dict | list):
        raise RecipeError(f"--set {key}: {part!r} is a value, not a table.")
    return inside


def _index(entries: list[Any], part: str, key: str) -> int:
    if not (part.isascii() and part.isdecimal() and len(part) < 10 and int(part) < len(entries)):
        raise RecipeError(f"--set {key}: {part!r} is none of the {len(entries)} entries, which are numbered from 0.")
    return int(part)


def _toml_value(text: str) -> Any:
    try:
        table = tomllib.loads(f"v={text}")
    except (ValueError, RecursionError):
        return text.strip()
    return table["v"] if len(table) == 1 else text.strip()


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
        try:
            there = path.is_file()
        except (OSError, ValueError):  # a name that is too long for the disk, or holds a NUL
            there = False
        if not there:
            raise RecipeError(f"There is no recipe file {text}.", "`ganzoo list` shows the recipes by name.")
        return _read_toml(path, text), text
    found = _find(text)
    return _read_toml(found, text), text


def _find(name: str) -> Path | Traversable:
    if f"{name}.toml" in {entry.name for entry in _zoo().iterdir()}:
        return _zoo() / f"{name}.toml"
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
        return tomllib.loads(_read_text(path, where))
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        raise RecipeError(f"{where} is not TOML: {str(error).splitlines()[0].rstrip('.')}.") from error


def _read_text(path: Path | Traversable, where: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{where} cannot be read: {error.strerror or type(error).__name__}.") from error
    if len(content) > _MAX_FILE_BYTES:
        raise RecipeError(f"{where} is larger than 1 MiB: it is no recipe.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{where} is not TOML: it is not UTF-8 text.") from error


def list_recipes(pattern: str = "*") -> list[str]:
    """Return the names of all recipes that match a shell pattern, ganzoo's own and those of installed packages, in
    natural order."""
    own = [entry.name.removesuffix(".toml") for entry in _zoo().iterdir() if entry.name.endswith(".toml")]
    names = {*own, *registry.recipes.names()}
    return sorted((name for name in names if fnmatch.fnmatchcase(name, pattern)), key=registry.natural_key)


def describe_recipe(name: str) -> str:
    """Return a recipe's one-line description: the first comment of its file.

    Raises:
        UnknownNameError: no such recipe.
        PluginError: a third party's recipe that cannot be loaded.
        RecipeError: its file cannot be read.
    """
    first = _read_text(_find(name), name).partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
