"""The numbers of an evaluation in a model folder: in its metrics.json, and in its card."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.card import PLACEHOLDER, Metric, card_numbers, evaluation_section, model_card
from ganzoo.card_header import has_header, model_index
from ganzoo.errors import WeightsError
from ganzoo.evaluation.contract import Value
from ganzoo.evaluation.report.rows import one_line, protocol_line
from ganzoo.evaluation.report.wording import number
from ganzoo.evaluation.results import Evaluation
from ganzoo.files import sha256_of, write_atomically
from ganzoo.model_config import CARD, GENERATOR, METRICS, read_card, read_config, read_metrics

if TYPE_CHECKING:
    from ganzoo.model_config import ModelConfig

_DIGITS = 6  # that are kept of a number: more would be rounding, which differs from machine to machine
_AFTER = ("; ± ", "; real images: ")  # what follows the protocol in a card's line


def save_to_card(evaluation: Evaluation, model_folder: str | os.PathLike[str]) -> list[Metric]:
    """Put an evaluation's numbers into a model's metrics.json and card, and return all numbers that are there now.

    A number of the same name and protocol is replaced, others are kept. A card that was written by ganzoo is written
    anew; in one that somebody changed only the section "Evaluation", and in its header what this wrote, are replaced.

    Args:
        evaluation: of that model.
        model_folder: where the model lies.

    Raises:
        WeightsError: it is no model folder, its files are damaged, or the evaluation is of other weights.
        OSError: it cannot be written. Each of the two files is whole or as it was.
    """
    folder = Path(model_folder)
    config, fields, text = read_config(folder), read_metrics(folder / METRICS), read_card(folder / CARD)
    check_subject(evaluation, folder)
    statistics, before = card_numbers(fields)
    after = merged(before, card_metrics(evaluation))
    card = updated_card(text, config, statistics, before, after)
    write_atomically(folder / CARD, card.encode("utf-8"))
    write_atomically(folder / METRICS, metrics_text(config, fields, after).encode("utf-8"))
    return after


def card_metrics(evaluation: Evaluation) -> list[Metric]:
    """Return an evaluation's numbers as a card holds them: each with one line of protocol, to six digits.

    Numbers that are not defined are left out.
    """
    return [
        Metric(
            name=one_line(value.name),
            value=_rounded(value.value),
            protocol=protocol_line(value, evaluation) + _beside(value),
        )
        for value in evaluation.values
        if math.isfinite(value.value)
    ]


def merged(before: Iterable[Metric], new: Sequence[Metric]) -> list[Metric]:
    """Return numbers with new ones in the place of those of the same name and protocol, the others after them.

    Args:
        before: what is there.
        new: what was measured now.
    """
    left = {_key(one): one for one in new}
    kept = [left.pop(_key(one), one) for one in before]
    return [*kept, *left.values()]


def metrics_text(config: ModelConfig, fields: Mapping[str, Any], metrics: Sequence[Metric]) -> str:
    """Return the text of a model's metrics.json with other numbers of quality.

    Args:
        config: the model's.
        fields: what the file holds.
        metrics: the numbers of quality.
    """
    known = {"schema_version": 1, "step": config.step, "kimg": config.kimg, **fields, "metrics": list(metrics)}
    return json.dumps(known, indent=2, sort_keys=True) + "\n"


def updated_card(
    text: str, config: ModelConfig, statistics: Mapping[str, float], before: Sequence[Metric], after: Sequence[Metric]
) -> str:
    """Return a card with other numbers: written anew where nobody changed it, else with what tells numbers replaced.

    Args:
        text: the card; "" where there is none.
        config: the model's.
        statistics: of its training, as the card has them.
        before: the numbers that the card tells.
        after: those that it should tell.
    """
    reference = _reference(text)
    written = (model_card(config, statistics, metrics=one, reference=reference) for one in (before, after))
    if not text.strip() or text in (*written, model_card(config, {}, reference=reference)):
        return model_card(config, statistics, metrics=after, reference=reference)
    return _with_index(_with_section(text, evaluation_section(after, statistics)), config, before, after)


def check_subject(evaluation: Evaluation, folder: Path) -> None:
    """Refuse an evaluation whose protocol says that other weights were judged than a folder's.

    Raises:
        WeightsError: they are others.
    """
    judged = evaluation.protocol.get("generated")
    sha256 = judged.get("generator_sha256") if isinstance(judged, Mapping) else None
    if isinstance(sha256, str) and (here := sha256_of(folder / GENERATOR)) != sha256:
        raise WeightsError(
            f"The evaluation is of other weights ({sha256[:8]}) than those in {folder} ({here[:8]}).",
            "Run `ganzoo evaluate` on this model.",
        )


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _beside(value: Value) -> str:
    """Return what a card's line tells after the protocol: the error and its kind, and the figure of real images."""
    text = ""
    if value.error is not None and math.isfinite(value.error):
        kind = value.protocol.get("error")
        text += f"{_AFTER[0]}{value.error:.2g}" + (f" ({kind})" if isinstance(kind, str) else "")
    if value.reference is not None:
        text += f"{_AFTER[1]}{number(value.reference)}"
    return text


def _key(metric: Metric) -> tuple[str, str]:
    """Return name and protocol, without what was measured beside the number."""
    protocol = metric["protocol"]
    return metric["name"], protocol[: min(_found(protocol, mark) for mark in _AFTER)]


def _found(text: str, mark: str) -> int:
    place = text.find(mark)
    return len(text) if place < 0 else place


# ---------------------------------------------------------------------------------------------- a card of somebody's


def _reference(card: str) -> str:
    """Return how a card's commands call its model."""
    found = re.search(r'^model = ganzoo\.load_pretrained\((".*")\)$', card, re.MULTILINE)
    try:
        name = json.loads(found[1]) if found else PLACEHOLDER
    except ValueError:
        return PLACEHOLDER
    return name if isinstance(name, str) else PLACEHOLDER


def _with_section(card: str, section: str) -> str:
    """Return a card with another section "Evaluation"; it comes last where there was none."""
    lines = card.splitlines(keepends=True)
    starts = [index for index, line in _outside_code(lines) if line.rstrip() == "## Evaluation"]
    if not starts:
        return f"{card.rstrip()}\n\n{section}"
    headings = [index for index, line in _outside_code(lines) if index > starts[0] and re.match(r"##? ", line)]
    rest = lines[headings[0] :] if headings else []
    return "".join(lines[: starts[0]]) + section + ("\n" if rest else "") + "".join(rest)


def _outside_code(lines: Sequence[str]) -> Iterable[tuple[int, str]]:
    """Yield (number, line) of the lines that are in no fenced block."""
    inside = False
    for index, line in enumerate(lines):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            yield index, line


def _with_index(card: str, config: ModelConfig, before: Sequence[Metric], after: Sequence[Metric]) -> str:
    """Return a card whose header tells the Hub other numbers; one that somebody else wrote there is left alone."""
    old, new = ("".join(f"{line}\n" for line in model_index(config, one)) for one in (before, after))
    head = re.match(r"---[ \t]*\r?\n(?:.*\n)*?---[ \t]*$", card, re.MULTILINE)
    if head is None or not has_header(card):
        return card
    header = head[0]
    if old and old in header:
        changed = header.replace(old, new)
    elif re.search(r"^model-index:", header, re.MULTILINE):
        return card
    else:
        changed = re.sub(r"---[ \t]*\Z", lambda end: new + end[0], header)
    return changed + card[head.end() :]
