"""Numbers of evaluations for models that are packaged: in their metrics.json, card and entry of the manifest.

The weights stay as they are, byte for byte. So a model can be judged long after it was added, and again by new metrics.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ganzoo.card import card_numbers, model_card
from ganzoo.errors import UnknownNameError, UsageError, WeightsError
from ganzoo.evaluation.report.model_card import card_metrics, check_subject, merged, metrics_text
from ganzoo.evaluation.results import Evaluation
from ganzoo.files import atomic_folder, sha256_of, write_atomically
from ganzoo.model_config import CARD, METRICS, read_config, read_metrics
from ganzoo.weights import differences
from ganzoo.weights.adding import MANIFEST, leading_comment, manifest_text
from ganzoo.weights.manifest import PublishedFile, PublishedModel, parse_manifest, read_manifest

if TYPE_CHECKING:
    from ganzoo.card import Metric


def judge_model(
    name: str, weights: Path, evaluations: Sequence[Evaluation], *, anew: bool = False
) -> tuple[PublishedModel, list[Metric]]:
    """Put the numbers of evaluations into a packaged model, and return its new entry and all its numbers.

    Args:
        name: of the model.
        weights: the folder of `manifest.toml`.
        evaluations: of this model; a number of the same name and protocol is replaced.
        anew: whether the numbers that it has are dropped.

    Raises:
        UnknownNameError: no such model.
        UsageError: it is not packaged, or a number cannot be published.
        WeightsError: its files are damaged, or an evaluation is of other weights.
        OSError: it cannot be written; nothing is changed.
    """
    known = read_manifest(weights / MANIFEST).models
    if name not in known:
        raise UnknownNameError("published model", name, known)
    entry, target = known[name], weights / name
    if not entry.packaged:
        raise UsageError(f"{name!r} is not packaged, so there is no card to change.", "Add it again.")
    _check_weights(entry, target)
    config, fields = read_config(target), read_metrics(target / METRICS)
    statistics, before = card_numbers(fields)
    metrics: list[Metric] = [] if anew else before
    for evaluation in evaluations:
        check_subject(evaluation, target)
        metrics = merged(metrics, card_metrics(evaluation))
    with atomic_folder(target, replace=True) as folder:
        for file in sorted(set(entry.files) - {CARD, METRICS}):
            shutil.copyfile(target / file, folder / file)
        card = model_card(config, statistics, metrics=metrics, reference=name)
        (folder / CARD).write_bytes(card.encode("utf-8"))
        (folder / METRICS).write_bytes(metrics_text(config, fields, metrics).encode("utf-8"))
        changed = {
            file: PublishedFile(sha256_of(folder / file), (folder / file).stat().st_size) for file in (CARD, METRICS)
        }
        entry = replace(entry, files={**entry.files, **changed}, metrics=tuple(metrics))
        comment = leading_comment((weights / MANIFEST).read_text(encoding="utf-8"))
        text = manifest_text({**known, name: entry}.values(), comment=comment)
        try:
            parse_manifest(text, MANIFEST)
        except WeightsError as error:  # what was asked for, not what was read
            raise UsageError(f"This cannot be published: {error.message}", error.remedy) from error
    write_atomically(weights / MANIFEST, text.encode())
    return entry, metrics


def _check_weights(entry: PublishedModel, folder: Path) -> None:
    """Refuse files that are not the manifest's; card and numbers, which are written anew, may be others."""
    lasting = {file: expected for file, expected in entry.files.items() if file not in (CARD, METRICS)}
    if wrong := differences(folder, replace(entry, files=lasting)):
        raise WeightsError(f"The packaged files of {entry.name!r} are damaged: {wrong[0]}.", "Add the model again.")
