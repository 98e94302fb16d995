"""An evaluation as rows of text: its table, its protocol in one line a number, and its protocol in full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ganzoo.evaluation.contract import Value
from ganzoo.evaluation.report.bars import SHOWN_AS_BARS
from ganzoo.evaluation.report.wording import DIRECTIONS, label, number, plain, stem, with_error
from ganzoo.evaluation.results import Evaluation

TABLE_HEAD = ("metric", "value", "better", "real images", "protocol")
"""What the columns of `table_rows` are called."""

_DIGITS_OF_SHA = 8
_TOLD = (
    "seed",
    "image_size",
    "subset_size_asked_for",
    "reference_pairs",
)  # settings that a line leaves to the whole protocol
_LONGEST_DETAIL = 400  # characters; longer ones are in metrics.json
_ARROWS = {"lower": "↓", "higher": "↑", "reference": "≈"}
_COMPARED = (("generated", ""), ("reference", "against"))
_SIDES = {
    "is": (("generated", ""),),
    "ms-ssim": (("generated", ""),),
    "memorisation": (*_COMPARED, ("test", "beside")),
    "one-nn": (("generated", ""), ("test", "tested on")),
    "probe": (("reference", "trained on"), ("test", "tested on")),
}
"""The images that a number rests on, and how a line leads over to them, by the stem of its name."""


def table_rows(evaluation: Evaluation) -> list[list[str]]:
    """Return a row of text for each value, with the columns of `TABLE_HEAD`.

    The value comes with its error; "better" is ↓, ↑ or ≈ (the nearer to the same figure of real images).
    """
    return [
        [
            value.name,
            with_error(value),
            _ARROWS.get(value.better, ""),
            number(value.reference),
            protocol_line(value, evaluation),
        ]
        for value in evaluation.values
    ]


def protocol_line(value: Value, evaluation: Evaluation) -> str:
    """Return what it takes to compare a number, in one line.

    "50,000 samples (seeds 0-49999) against 60,000 images at 28×28 of MNIST; EMA; mnist-convnet 1a2b3c4d; k 3"

    Args:
        value: one of the evaluation's.
        evaluation: whose protocol tells of the images and features.
    """
    return "; ".join(part for part in (judged_images(value, evaluation), measured_by(value, evaluation)) if part)


def judged_images(value: Value, evaluation: Evaluation) -> str:
    """Return the part of a line of protocol that tells of the images and the weights: "50,000 samples …; EMA".

    Args:
        value: one of the evaluation's.
        evaluation: whose protocol tells of them.
    """
    shared = evaluation.protocol
    sides = ((word, shared.get(side)) for side, word in _SIDES.get(stem(value.name), _COMPARED))
    images = " ".join(f"{word} {_images(side, shared)}".strip() for word, side in sides if isinstance(side, Mapping))
    return one_line("; ".join(part for part in (images, _weights(shared.get("generated"))) if part))


def measured_by(value: Value, evaluation: Evaluation) -> str:
    """Return the part of a line of protocol that tells of the metric: "mnist-convnet 1a2b3c4d; k 3".

    Args:
        value: one of the evaluation's.
        evaluation: whose protocol tells of the features.
    """
    shared = evaluation.protocol
    return one_line("; ".join(part for part in (_features(value, shared), *_settings(value, shared)) if part))


def protocol_sections(evaluation: Evaluation) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the whole shared protocol: (heading, rows of (what, text)), nothing left out."""
    sections, single = [], []
    for key, content in evaluation.protocol.items():
        if isinstance(content, Mapping):
            sections.append((label(key), list(_flat(content))))
        else:
            single.append((label(key), plain(content)))
    return [*sections, *([("also", single)] if single else [])]


def settings_rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return (name of the value, its own settings) for the values that have some."""
    rows = (
        (value.name, "; ".join(f"{what}: {text}" for what, text in _flat(value.protocol)))
        for value in evaluation.values
    )
    return [row for row in rows if row[1]]


def details_rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return (name of the value, what else it found) for the values that have more to tell than tables with bars."""
    told = {}
    for value in evaluation.values:
        rest = {key: one for key, one in value.details.items() if key not in SHOWN_AS_BARS and one is not None}
        told[value.name] = "; ".join(f"{what}: {text}" for what, text in _flat(rest) if len(text) <= _LONGEST_DETAIL)
    return [(name, text) for name, text in told.items() if text]


def one_line(text: object) -> str:
    """Return text without line breaks and with nothing that is not printed."""
    joined = " ".join(str(text).split())
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in joined)


def better(value: Value) -> str:
    """Return in words which way a value is better."""
    return DIRECTIONS.get(value.better, value.better)


def _flat(content: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, one in content.items():
        name = f"{path} · {label(key)}" if path else label(key)
        if isinstance(one, Mapping):
            yield from _flat(one, name)
        else:
            yield name, plain(one)


def _images(side: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    """Return "50,000 samples (seeds 0-49999)", or "60,000 images at 28×28 of MNIST".

    Data that a model was trained on are called as the model calls them, wherever they were read from this time.
    """
    count = side.get("count")
    number_of = f"{count:,} " if isinstance(count, int) else ""
    if side.get("seeds") is not None:
        return f"{number_of}samples (seeds {_seeds(side['seeds'])})"
    trained_on = _of(_of(shared, "generated"), "trained_on")
    digest = side.get("content_sha256")
    same = digest is not None and digest == trained_on.get("content_sha256")
    described = (trained_on if same and trained_on.get("description") else side).get("description")
    size = side.get("image_size")
    at = f" at {size}×{size}" if isinstance(size, int) and size else ""
    return f"{number_of}images{at}" + (f" of {described}" if described else "")


def _of(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = table.get(key)
    return found if isinstance(found, Mapping) else {}


def _seeds(seeds: Any) -> str:
    return seeds if isinstance(seeds, str) else plain(seeds)


def _features(value: Value, shared: Mapping[str, Any]) -> str:
    """Return "mnist-convnet 1a2b3c4d", the network that a number rests on; "" where it rests on none."""
    known, named = shared.get("features"), value.protocol.get("features")
    told = known.get(named) if isinstance(named, str) and isinstance(known, Mapping) else None
    told = told or value.protocol.get("classifier")
    if isinstance(told, Mapping):
        return f"{told.get('name', '')} {str(told.get('sha256', ''))[:_DIGITS_OF_SHA]}".strip()
    return named if isinstance(named, str) else ""


def _weights(side: Any) -> str:
    kind = side.get("weights") if isinstance(side, Mapping) else None
    return {"ema": "EMA", "raw": "raw weights"}.get(kind, "") if isinstance(kind, str) else ""


def _settings(value: Value, shared: Mapping[str, Any]) -> list[str]:
    """Return a metric's own whole numbers, "k 3", without what the line tells already; fractions may be measured."""
    sides = (shared.get(side) for side in ("generated", "reference", "test"))
    counts = {side.get("count") for side in sides if isinstance(side, Mapping)}
    own = ((key, one) for key, one in value.protocol.items() if key not in _TOLD and type(one) is int)
    return [f"{label(key)} {plain(one)}" for key, one in own if one not in counts]
