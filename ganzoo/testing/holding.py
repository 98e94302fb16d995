"""What all checks of the test kit share: holding a case to a table of promises, the constructor's promise, differences
of tensors."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from ganzoo.errors import PluginError
from ganzoo.recipes import options_model

TOLERANCE = 1e-4
"""Of the largest value: what float32 and another order of summation may change."""


class BrokenPromise(Exception):
    """A promise was measured not to hold.

    Args:
        seen: what was seen, with the numbers; no full stop.
        remedy: what the plug-in's author should do.
    """

    def __init__(self, seen: str, remedy: str) -> None:
        super().__init__(seen)
        self.seen, self.remedy = seen, remedy


def hold(title: str, case: Any, promises: Mapping[str, Callable[[Any], None]]) -> None:
    """Check promise after promise; what goes wrong inside the plug-in's own code is told of under the promise's name,
    too.

    Args:
        title: what is checked, the message's first words.
        case: handed to every check.
        promises: name → check, which raises `BrokenPromise` where the promise does not hold.

    Raises:
        PluginError: a promise is not kept.
    """
    for promise, check in promises.items():
        try:
            with seeded(0):
                check(case)
        except BrokenPromise as broken:
            raise PluginError(f"{title} breaks the promise {promise!r}: {broken.seen}.", broken.remedy) from None
        except PluginError as error:
            raise PluginError(f"{title} breaks the promise {promise!r}: {error.message}", error.remedy) from None
        except Exception as error:
            raise PluginError(
                f"{title} breaks the promise {promise!r}: {type(error).__name__}: {_first_line(error)}."
            ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else "no message"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator for the CPU, and give it back as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def name_of(factory: Callable[..., Any]) -> str:
    """Return what a class or function is called in messages."""
    return str(getattr(factory, "__qualname__", repr(factory)))


def check_constructor(factory: Callable[..., Any], options: Mapping[str, Any], given: set[str], kind: str) -> None:
    """Check that a recipe can hold the constructor's arguments: all named, typed, and with defaults that are of their
    own type.

    Args:
        factory: the class.
        options: the values of the recipe's keys that the check was called with.
        given: names of arguments that are not keys of the recipe.
        kind: "generator" …

    Raises:
        BrokenPromise: it cannot, or the options do not fit.
        PluginError: the same, as `options_model` says it.
    """
    schema = options_model(factory, given, kind)
    untyped = [key for key, one in inspect.signature(factory).parameters.items() if one.annotation is one.empty]
    if untyped := [key for key in untyped if key not in given]:
        raise BrokenPromise(f"the argument {untyped[0]!r} has no type, so its values cannot be checked", "Annotate it.")
    defaults = {key: field.default for key, field in schema.model_fields.items() if not field.is_required()}
    for key, default in defaults.items():
        try:
            text = json.dumps({key: default})
        except TypeError:
            raise BrokenPromise(
                f"the default of {key!r} is {default!r}, which no recipe can hold",
                "Use numbers, text, true and false, and lists of them.",
            ) from None
        if key in (complaints := _complaints(schema, text)):
            raise BrokenPromise(
                f"the default of {key!r} is {default!r}, but: {complaints[key]}", "Correct one of them."
            )
    if complaints := _complaints(schema, json.dumps(dict(options))):
        key, message = next(iter(complaints.items()))
        raise BrokenPromise(f"{key}: {message}", "Hand the check the constructor's arguments as `options`.")


def _complaints(schema: Any, text: str) -> dict[str, str]:
    """Return argument → what is wrong with its value in a JSON object."""
    try:
        schema.model_validate_json(text)
    except ValidationError as error:
        return {str(detail["loc"][0]): detail["msg"].lower() for detail in error.errors() if detail["loc"]}
    return {}


def share_of_largest(difference: Tensor, values: Tensor) -> float:
    """Return the largest entry of a difference as a share of the largest value; itself where all values are 0."""
    largest = float(values.abs().max())
    return float(difference.abs().max()) / (largest or 1.0)


def differ(one: Tensor, other: Tensor) -> float:
    """Return the largest difference of two tensors of one shape as a share of their largest value."""
    return share_of_largest(one - other, torch.stack((one, other)))
