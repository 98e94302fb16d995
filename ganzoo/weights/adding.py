"""Adding a trained model to the published ones: its folder in ganzoo's package, and its entry in the manifest.

What is published is what was checked: the weights are written in the wanted type, read again, and the pictures are
drawn from what was read. The same model gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tomli_w
import torch
from torch import nn

from ganzoo.card import model_card
from ganzoo.errors import UsageError, WeightsError
from ganzoo.evaluation.report.model_card import card_metrics, check_subject, merged
from ganzoo.files import atomic_folder, sha256_of, write_atomically
from ganzoo.model_config import CONFIG, METRICS
from ganzoo.models import Model, load_model, save_companions, save_model
from ganzoo.pictures import to_uint8
from ganzoo.training.run import is_run, open_run
from ganzoo.weights.checking import first_images
from ganzoo.weights.manifest import (
    SCHEMA_VERSION,
    PublishedFile,
    PublishedModel,
    check_model_name,
    parse_manifest,
    read_manifest,
    read_metric,
)

if TYPE_CHECKING:
    from ganzoo.card import Metric
    from ganzoo.evaluation.results import Evaluation

MANIFEST = "manifest.toml"
LARGEST_PACKAGE = 60_000_000
"""Bytes that all packaged models together may have: the wheel grows by them."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Added:
    """A model that was added.

    Args:
        model: its entry in the manifest.
        folder: where its files lie.
        levels: by how many of 256 levels its images differ from those of the model that was given, at most.
        mean_levels: on average.
        packaged_bytes: of all packaged models together.
    """

    model: PublishedModel
    folder: Path
    levels: int
    mean_levels: float
    packaged_bytes: int


def add_model(
    source: Path,
    weights: Path,
    *,
    name: str,
    licence: str,
    data: str | None = None,
    dtype: str = "fp32",
    discriminator: bool = True,
    metrics: Sequence[Metric] = (),
    evaluations: Sequence[Evaluation] = (),
    urls: Sequence[str] = (),
    trained_with: str | None = None,
) -> Added:
    """Write a model into the package's folder of weights and its entry into the manifest; one of that name is replaced.

    Args:
        source: a model folder, or a run with one.
        weights: the folder of `manifest.toml`.
        name: under which it is published.
        licence: of the weights, an SPDX identifier such as "Apache-2.0".
        data: what it was trained on, in words; None: as the model's config says.
        dtype: of the floating-point numbers in the files: "fp32", "fp16" or "bf16". They are read as float32 again.
        discriminator: whether it is published too, where there is one.
        metrics: measured numbers; none: those of the model's metrics.json.
        evaluations: of the model; their numbers come after those, or in the place of those of the same protocol.
        urls: folders on the web that hold, or will hold, the same files.
        trained_with: the version of torch; None: as the run says in whose folder the model lies.

    Raises:
        UsageError: a name, number or address that cannot be, or a type that does not exist.
        WeightsError: the model cannot be read, its numbers do not fit into the type, an evaluation is of other
            weights, or it is too large for a wheel.
        OSError: it cannot be written; nothing is changed.
    """
    check_model_name(name)
    if dtype not in DTYPES:
        raise UsageError(f"Weights cannot be published as {dtype!r}.", f"Use {', '.join(DTYPES)}.")
    source = source if (source / CONFIG).is_file() else source / "model"
    given = load_model(source)
    before = _levels(given)
    manifest = weights / MANIFEST
    known = read_manifest(manifest).models
    target = weights / name
    if target.exists() and not (target / CONFIG).is_file():
        raise UsageError(f"{target} exists and is no model folder.", "Choose another name.")
    config = replace(
        given.config,
        licence=licence,
        data=dict(given.config.data) | ({} if data is None else {"description": data}),
    )
    metrics = list(metrics) or _measured(given)
    for evaluation in evaluations:
        check_subject(evaluation, source)
        metrics = merged(metrics, card_metrics(evaluation))
    with atomic_folder(target, replace=True) as folder:
        published = _write(
            replace(given, config=config), folder, name, DTYPES[dtype], discriminator=discriminator, metrics=metrics
        )
        entry = PublishedModel(
            name=name,
            recipe=config.recipe.name,
            licence=licence,
            data=str(config.data.get("description") or "not recorded"),
            torch=trained_with or _trained_with(source),
            files={path.name: PublishedFile(sha256_of(path), path.stat().st_size) for path in folder.iterdir()},
            metrics=tuple(metrics),
            urls=tuple(urls),
            packaged=True,
        )
        models = {**known, name: entry}
        text = manifest_text(models.values(), comment=leading_comment(manifest.read_text(encoding="utf-8")))
        try:
            parse_manifest(text, MANIFEST)
        except WeightsError as error:  # what was asked for, not what was read
            raise UsageError(f"This cannot be published: {error.message}", error.remedy) from error
        packaged = sum(model.bytes for model in models.values() if model.packaged)
        if packaged > LARGEST_PACKAGE:
            raise WeightsError(
                f"With {name!r} ({entry.bytes / 1e6:.1f} MB) the packaged models would have {packaged / 1e6:.1f} MB, "
                f"more than the {LARGEST_PACKAGE / 1e6:.0f} MB that a wheel may hold.",
                "Publish it with --dtype fp16 or --no-discriminator.",
            )
        difference = np.abs(before - _levels(published))
    write_atomically(manifest, text.encode())
    return Added(entry, target, int(difference.max()), float(difference.mean()), packaged)


def _write(
    given: Model, folder: Path, name: str, dtype: torch.dtype, *, discriminator: bool, metrics: Sequence[Metric]
) -> Model:
    """Write a model folder and return what is read from it."""
    networks = [given.generator, given.discriminator if discriminator else None]
    # In place: the given networks are not used again.
    generator, judge = (None if network is None else _cast(network, dtype) for network in networks)
    assert generator is not None
    save_model(folder, given.config, generator, judge)
    read = load_model(folder)
    statistics = given.metrics.get("training", {})
    read = replace(
        read,
        card=model_card(read.config, statistics, metrics=metrics, reference=name),
        metrics={
            "schema_version": 1,
            "step": read.config.step,
            "kimg": read.config.kimg,
            **given.metrics,
            "training": statistics,
            "metrics": list(metrics),
        },
    )
    save_companions(folder, read)
    return read


def _cast(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Turn a network's floating-point tensors into a type, in place.

    Raises:
        WeightsError: one is too large for it.
    """
    before = {name: bool(tensor.isfinite().all()) for name, tensor in network.state_dict().items()}
    network.to(dtype)
    lost = [name for name, tensor in network.state_dict().items() if before[name] and not tensor.isfinite().all()]
    if lost:
        raise WeightsError(f"{lost[0]} holds numbers that are too large for {dtype}.", "Publish it as fp32 or bf16.")
    return network


def _measured(model: Model) -> list[Metric]:
    """Return the numbers of quality in a model's metrics.json.

    Raises:
        WeightsError: they are told in another form.
    """
    given = model.metrics.get("metrics", [])
    if not isinstance(given, list):
        raise WeightsError(f"{METRICS} holds no list under 'metrics', but {given!r:.80}.")
    return [read_metric(one, METRICS, f"metrics.{index}") for index, one in enumerate(given)]


def _levels(model: Model) -> np.ndarray[Any, np.dtype[np.int16]]:
    return to_uint8(first_images(model, 64)).astype(np.int16)


def _trained_with(folder: Path) -> str:
    """Return the version of torch that trained a model that lies in its run's folder.

    Raises:
        UsageError: it lies elsewhere.
    """
    run = folder.resolve().parent
    version = open_run(run).facts.versions.get("torch") if is_run(run) else None
    if not version:
        raise UsageError(f"{folder} does not tell which torch trained it: it lies in no run.", "Say it: --torch 2.15.0")
    return version


def manifest_text(models: Iterable[PublishedModel], *, comment: str) -> str:
    """Return a manifest as TOML: the same text for the same models, in alphabetical order.

    Args:
        models: all of them.
        comment: what stands above, with its line ends.
    """
    table: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    if entries := {model.name: _entry(model) for model in sorted(models, key=lambda model: model.name)}:
        table["models"] = entries
    return comment + tomli_w.dumps(table, multiline_strings=False)


def _entry(model: PublishedModel) -> dict[str, Any]:
    files: Mapping[str, PublishedFile] = dict(sorted(model.files.items()))
    return {
        "recipe": model.recipe,
        "licence": model.licence,
        "data": model.data,
        "torch": model.torch,
        "packaged": model.packaged,
        "urls": list(model.urls),
        "metrics": [dict(metric) for metric in model.metrics],
        "files": {name: {"sha256": file.sha256, "bytes": file.bytes} for name, file in files.items()},
    }


def leading_comment(text: str) -> str:
    """Return the comment lines and empty lines with which a TOML text begins."""
    lines = text.splitlines(keepends=True)
    count = next((index for index, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    return "".join(lines[:count])
