"""Checkpoints: the whole training state, whole or absent on disk.

    checkpoints/step-00001000/
        state.safetensors   every tensor: networks, average, regularizers, optimisers, statistics
        state.json          counters and the alarms' memory
        manifest.json       sha256 and size of both

A checkpoint is written into a hidden temporary folder, flushed to the disk and renamed; one whose files do not have the
manifest's sha256 is passed over.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ganzoo.errors import CheckpointError, WeightsError
from ganzoo.files import atomic_folder, sha256_of
from ganzoo.strict_json import read_json
from ganzoo.tensors import check_same_tensors, load_strictly, read_tensors, save_tensors
from ganzoo.training.optimizers import load_optimizer_tensors, optimizer_tensors
from ganzoo.training.run import quoted
from ganzoo.training.step import Step

SCHEMA_VERSION = 1
_TENSORS, _COUNTERS, _MANIFEST = "state.safetensors", "state.json", "manifest.json"
_MAX_JSON_BYTES = 64 << 10  # of counters and manifest, which have a few hundred


@dataclass(frozen=True)
class Counters:
    """Where training is, beside its tensors.

    Args:
        step: rounds of updates done.
        seconds: of training so far.
        alarms: the alarms' memory.
    """

    step: int
    seconds: float
    alarms: Mapping[str, float] = field(default_factory=dict)


def state_tensors(step: Step) -> dict[str, torch.Tensor]:
    """Return every tensor that the next step depends on, by name."""
    tensors = {f"generator/{name}": tensor for name, tensor in step.generator.state_dict().items()}
    tensors |= {f"discriminator/{name}": tensor for name, tensor in step.discriminator.state_dict().items()}
    if step.ema is not None:
        tensors |= {f"ema/{name}": tensor for name, tensor in step.ema.network.state_dict().items()}
    for network, optimizer in step.optimizers.items():
        entries = optimizer_tensors(optimizer, step.trained(network))
        tensors |= {f"optimizer.{network}/{name}": tensor for name, tensor in entries.items()}
    tensors |= {f"regularizer/{name}": tensor for name, tensor in step.regularizers.state_dict().items()}
    for group, state in _plain_state(step).items():
        tensors |= {f"{group}/{name}": tensor for name, tensor in state.items()}
    return tensors


def _plain_state(step: Step) -> dict[str, dict[str, torch.Tensor]]:
    """Return the tensors that belong to no module, by group."""
    augmentation = {} if step.probability is None else {"augmentation": step.probability.state()}
    return {"statistics": step.statistics.state()} | augmentation


def settle(step: Step) -> None:
    """Bring what the processes hold of their own shares, batch norm's running statistics and sums, to its mean.

    So the first one's state is everyone's. What is the same everywhere keeps every bit.
    """
    modules = [step.generator, step.discriminator, step.regularizers]
    if step.ema is not None:
        modules.append(step.ema.network)
    tensors = [buffer for module in modules for buffer in module.buffers()]
    tensors += [tensor for state in _plain_state(step).values() for tensor in state.values()]
    step.world.settle_([tensor for tensor in tensors if tensor.is_floating_point()])


def load_state_tensors(step: Step, tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Put back what `state_tensors` returned.

    Raises:
        WeightsError: tensors that do not fit.
    """
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = tensor
    modules = {"generator": step.generator, "discriminator": step.discriminator, "regularizer": step.regularizers}
    if step.ema is not None:
        modules["ema"] = step.ema.network
    plain = _plain_state(step)
    optimizers = {f"optimizer.{name}": name for name in step.optimizers}
    if unknown := sorted(groups.keys() - {*modules, *optimizers, *plain}):
        raise WeightsError(f"{where} holds what the run does not have: {', '.join(unknown)[:200]}.")
    for group, module in modules.items():
        load_strictly(module, groups.get(group, {}), f"{where}: {group}")
    for group, name in optimizers.items():
        try:
            load_optimizer_tensors(step.optimizers[name], step.trained(name), groups.get(group, {}))
        except (KeyError, RuntimeError) as error:
            reason = f"{error.args[0]} is none of its parameters" if isinstance(error, KeyError) else error
            raise WeightsError(f"{where} does not fit the optimiser of the {name}: {reason}.") from error
    for group, state in plain.items():
        saved = groups.get(group, {})
        check_same_tensors(state, saved, f"{where}: {group}")
        for name, tensor in state.items():
            tensor.copy_(saved[name])


def first_not_finite(step: Step) -> str | None:
    """Return the name of the first tensor of the state that holds NaN or Inf, or None."""
    for name, tensor in state_tensors(step).items():
        if tensor.is_floating_point() and not name.startswith("statistics/") and not bool(torch.isfinite(tensor).all()):
            return name
    return None


def folder_of(run: Path, step: int) -> Path:
    """Return a checkpoint's folder."""
    return run / "checkpoints" / f"step-{step:08d}"


def save_checkpoint(run: Path, step: Step, counters: Counters, keep: int) -> tuple[Path, int]:
    """Write a checkpoint and remove the oldest ones.

    Args:
        run: the run folder.
        step: whose state is written.
        counters: where training is.
        keep: how many checkpoints remain.

    Returns:
        Its folder and its size in bytes.

    Raises:
        CheckpointError: it cannot be written (a full disk, say); nothing is left of it and the ones before it stay.
    """
    target = folder_of(run, counters.step)
    tensors = state_tensors(step)
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) + (1 << 20)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if free < needed:
            raise _no_room(target, needed, f"{free / 1e6:.0f} MB are free")
        with atomic_folder(target, replace=True) as folder:  # what is there was passed over, for it is not whole
            save_tensors(folder / _TENSORS, tensors, {"schema_version": SCHEMA_VERSION}, digest=False)
            text = json.dumps({"schema_version": SCHEMA_VERSION, **asdict(counters)}, indent=2, sort_keys=True)
            (folder / _COUNTERS).write_text(text + "\n", encoding="utf-8")
            files = {name: _fingerprint(folder / name) for name in (_TENSORS, _COUNTERS)}
            (folder / _MANIFEST).write_text(json.dumps(files, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        raise _no_room(target, needed, error.strerror or str(error)) from error
    size = sum(path.stat().st_size for path in target.iterdir())
    # Later ones are damaged, or it would have gone on from them: they do not count.
    for old in [number for number in steps_of(run) if number <= counters.step][:-keep]:
        shutil.rmtree(folder_of(run, old), ignore_errors=True)
    return target, size


def _no_room(target: Path, needed: int, why: str) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint {target} cannot be written: it needs {needed / 1e6:.0f} MB; {why}.",
        f"Free some room, then go on with: ganzoo train --resume {quoted(target.parent.parent)}",
    )


def find_checkpoint(run: Path) -> tuple[Path | None, tuple[str, ...]]:
    """Return the newest whole checkpoint of a run, and a line for each newer one that is not whole."""
    notes = []
    for number in reversed(steps_of(run)):
        folder = folder_of(run, number)
        if reason := _what_is_wrong(folder):
            notes.append(f"The checkpoint {folder.name} is passed over: {reason}.")
        else:
            return folder, tuple(notes)
    return None, tuple(notes)


def choose_checkpoint(run: Path, step: int | None) -> Path:
    """Return the folder of a run's checkpoint, which is whole.

    Args:
        run: the run folder.
        step: steps done in it; None: the newest whole one.

    Raises:
        CheckpointError: there is none of that step, with those that there are; or it is damaged.
    """
    if step is None:
        found, notes = find_checkpoint(run)
        if found is None:
            raise CheckpointError(f"The run {run} has no whole checkpoint. {' '.join(notes)}".strip())
        return found
    steps = steps_of(run)
    if step not in steps:
        there = ", ".join(f"{one:,}" for one in steps)
        raise CheckpointError(
            f"The run {run} has no checkpoint of step {step:,}.",
            f"Checkpoints are there of {'step' if len(steps) == 1 else 'steps'} {there}." if steps else None,
        )
    folder = folder_of(run, step)
    if reason := _what_is_wrong(folder):
        raise CheckpointError(f"The checkpoint {folder} is damaged: {reason}.", "Choose another one.")
    return folder


def network_tensors(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Return the state dicts of a checkpoint's networks, on the CPU: "generator", "discriminator" and, where the run
    keeps an average, "ema".

    Raises:
        CheckpointError: it cannot be read.
    """
    networks: dict[str, dict[str, torch.Tensor]] = {}
    try:
        tensors, _ = read_tensors(folder / _TENSORS)
    except WeightsError as error:
        raise CheckpointError(f"The checkpoint {folder} is damaged: {error.message}", "Choose another one.") from error
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        if group in ("generator", "discriminator", "ema"):
            networks.setdefault(group, {})[name] = tensor
    return networks


def load_checkpoint(folder: Path, step: Step) -> Counters:
    """Load a checkpoint into a step and return its counters.

    Raises:
        CheckpointError: it was written by a newer ganzoo, or does not fit the step.
    """
    try:
        counters = _read_counters(folder / _COUNTERS)
        load_state_tensors(step, read_tensors(folder / _TENSORS)[0], str(folder))
    except (WeightsError, OSError, ValueError) as error:
        raise CheckpointError(f"The checkpoint {folder} does not fit the run: {error}") from error
    return counters


def _read_counters(path: Path) -> Counters:
    """Return the counters of a checkpoint.

    Raises:
        CheckpointError: they were written by a newer ganzoo.
        ValueError: they are not what they should be.
    """
    fields = read_json(path, _MAX_JSON_BYTES)
    if not isinstance(fields, dict) or type(version := fields.get("schema_version")) is not int:
        raise ValueError(f"{path.name} has no schema_version")
    if version > SCHEMA_VERSION:
        raise CheckpointError(
            f"{path.parent}: schema_version = {version} is newer than this ganzoo knows.", "Update ganzoo."
        )
    if fields.keys() != {"schema_version", "step", "seconds", "alarms"}:
        raise ValueError(f"{path.name} holds {', '.join(sorted(fields))[:200]}")
    step, seconds, alarms = fields["step"], fields["seconds"], fields["alarms"]
    well = (
        type(step) is int
        and 0 <= step < 1 << 62
        and _is_number(seconds)
        and seconds >= 0
        and isinstance(alarms, dict)
        and all(_is_number(value) for value in alarms.values())
    )
    if not well:
        raise ValueError(f"{path.name}: step, seconds or alarms is not what it should be")
    return Counters(step, seconds, alarms)


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def remove_dead_writes(run: Path) -> None:
    """Remove what killed processes left half-written in a run; no other process may be writing there now."""
    for folder in (run, run / "checkpoints", run / "samples"):
        for dead in folder.glob(".*.tmp"):
            if dead.is_dir() and not dead.is_symlink():
                shutil.rmtree(dead, ignore_errors=True)
            else:
                dead.unlink(missing_ok=True)


def steps_of(run: Path) -> list[int]:
    """Return the steps of a run's checkpoints, whole or not, in order."""
    found = [path.name.removeprefix("step-") for path in (run / "checkpoints").glob("step-*") if path.is_dir()]
    return sorted(int(name) for name in found if name.isascii() and name.isdigit())


def _fingerprint(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_of(path), "bytes": path.stat().st_size}


def _what_is_wrong(folder: Path) -> str | None:
    try:
        manifest = read_json(folder / _MANIFEST, _MAX_JSON_BYTES)
        if not isinstance(manifest, dict):
            return f"{_MANIFEST} is no manifest"
        for name in (_TENSORS, _COUNTERS):
            if _fingerprint(folder / name) != manifest.get(name):
                return f"{name} is not what its manifest says"
    except FileNotFoundError as error:
        return f"it has no {Path(error.filename).name}"
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read: {error.strerror or type(error).__name__}"
    except ValueError as error:
        return f"{_MANIFEST} is damaged: {error}"
    return None
