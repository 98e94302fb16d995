"""Validation whose complaints are one line in plain words: what is wrong where, and the nearest key that exists."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ganzoo.errors import RecipeError, suggest
from ganzoo.recipes.schema import NETWORK_ARGUMENTS

ModelT = typing.TypeVar("ModelT", bound=BaseModel)


_MOST_PHRASES = 8
"""A line that tells more than so many mistakes helps nobody."""


def validate(
    schema: type[ModelT], table: Mapping[str, Any], where: str, path: tuple[str | int, ...], also: Iterable[str] = ()
) -> ModelT:
    """Return a table as what a schema makes of it.

    Args:
        schema: a pydantic model, strict.
        table: what JSON can hold.
        where: whose table it is, for the message.
        path: of the table within its recipe.
        also: keys that are known beside the schema's, to suggest.

    Raises:
        RecipeError: all that is wrong, in one line.
    """
    try:
        # By way of JSON, in which an array may be a tuple though types are strict.
        return schema.model_validate_json(json.dumps(table))
    except ValidationError as error:
        wrong = _explanations(error, schema, table, path, also)
        more = f"; and {len(wrong) - _MOST_PHRASES} more" if len(wrong) > _MOST_PHRASES else ""
        raise RecipeError(f"{where}: {'; '.join(wrong[:_MOST_PHRASES])}{more}.") from error


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
