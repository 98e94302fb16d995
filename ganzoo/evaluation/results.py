"""What an evaluation found: values with their protocol, as `metrics.json` keeps them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ganzoo.errors import DataError
from ganzoo.evaluation.contract import Value
from ganzoo.strict_json import read_json

SCHEMA_VERSION = 1
_LARGEST = 64 << 20  # bytes of a file of results that is read


@dataclass(frozen=True)
class Evaluation:
    """Numbers about images, and what it takes to repeat them.

    Attributes:
        subject: what was judged, one line: "dcgan-mnist", "folder 'samples'".
        values: the numbers, in the order in which they were asked for.
        protocol: what all of them share, JSON-able: "generated", "reference" and "test" (as `ImageSet.to_dict`),
            "features" (name → as `FeatureExtractor.to_dict`), "seed", "device", "versions"; "left_out" and "command"
            where there are such.
    """

    subject: str
    values: tuple[Value, ...]
    protocol: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Value:
        """Return a value by name."""
        for value in self.values:
            if value.name == name:
                return value
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Return the object that `metrics.json` holds; numbers that are not finite become null."""
        return {
            "schema_version": SCHEMA_VERSION,
            "subject": self.subject,
            "values": [_value_fields(value) for value in self.values],
            "protocol": _plain(self.protocol),
        }

    def to_json(self) -> str:
        """Return the text of `metrics.json`; equal evaluations give equal text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_evaluation(path: Path) -> Evaluation:
    """Return the evaluation that a file holds.

    Raises:
        DataError: it is none, or was written by a newer ganzoo.
    """
    try:
        fields = read_json(path, _LARGEST)
        if not isinstance(fields, dict) or fields.get("schema_version") != SCHEMA_VERSION:
            raise ValueError("no schema_version that this ganzoo knows")
        values = tuple(
            Value(
                name=str(one["name"]),
                value=math.nan if one["value"] is None else float(one["value"]),
                better=one["better"],
                error=one.get("error"),
                reference=one.get("reference"),
                protocol=one.get("protocol", {}),
                details=one.get("details", {}),
            )
            for one in fields["values"]
        )
        return Evaluation(str(fields["subject"]), values, fields["protocol"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} holds no evaluation: {error}.", "Run `ganzoo evaluate` again.") from error


def _value_fields(value: Value) -> dict[str, Any]:
    return {
        "name": value.name,
        "value": _finite(value.value),
        "better": value.better,
        "error": _finite(value.error),
        "reference": _finite(value.reference),
        "protocol": _plain(value.protocol),
        "details": _plain(value.details),
    }


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _plain(given: Any) -> Any:
    """Return what JSON has: numbers that are not finite become null."""
    if isinstance(given, Mapping):
        return {str(key): _plain(one) for key, one in given.items()}
    if isinstance(given, list | tuple):
        return [_plain(one) for one in given]
    return _finite(given) if isinstance(given, float) else given
