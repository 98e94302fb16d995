"""Tensors on disk: safetensors files that are the same bytes for the same tensors, read strictly.

A file carries exactly one metadata key ("ganzoo"): with two or more, safetensors writes them in an order that changes
from save to save.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ganzoo.errors import WeightsError

METADATA_KEY = "ganzoo"


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a safetensors file.

    Args:
        path: the file; written as it is, so that atomicity is the caller's.
        tensors: name → tensor on any device.
        metadata: JSON-able; goes into the file's one metadata key.

    Raises:
        OSError: it cannot be written.
    """
    plain: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        plain[name] = tensor.detach().cpu().contiguous()
        storage = plain[name].untyped_storage().data_ptr()
        if storage in storages:  # tied weights, which safetensors refuses to write twice
            plain[name] = plain[name].clone()
        storages.add(storage)
    # Not its save_file, which gives files that only their owner may read, whatever the umask says.
    path.write_bytes(save(plain, {METADATA_KEY: json.dumps(metadata, sort_keys=True)}))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return a safetensors file's tensors, on the CPU, and its metadata (empty where it is not ganzoo's).

    Raises:
        WeightsError: no such file, or it is truncated, damaged or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except FileNotFoundError:
        raise WeightsError(f"There is no file {path}.") from None
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path} cannot be read as safetensors: {reason}.", "Copy or download it again.") from error
    if not isinstance(metadata, dict):
        raise WeightsError(f"{path} has metadata that are not ganzoo's.")
    return tensors, metadata


def load_strictly(network: nn.Module, tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Load a network's parameters and buffers; each must be there, with its shape and kind of number, and no other.

    Args:
        network: what is loaded.
        tensors: its state dict.
        where: whose tensors they are, for the message.

    Raises:
        WeightsError: missing, unexpected or misshaped tensors, listed.
    """
    own = network.state_dict()
    problems = [
        *_named("missing", own.keys() - tensors.keys()),
        *_named("unexpected", tensors.keys() - own.keys()),
        *_named(
            "of another shape",
            (
                f"{name} {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
                for name in own.keys() & tensors.keys()
                if own[name].shape != tensors[name].shape
            ),
        ),
        *_named(
            "of another type",
            (
                f"{name} {tensors[name].dtype} instead of {own[name].dtype}"
                for name in own.keys() & tensors.keys()
                if own[name].is_floating_point() != tensors[name].is_floating_point()
            ),
        ),
    ]
    if problems:
        raise WeightsError(f"{where} does not fit the network: {'; '.join(problems)}.")
    network.load_state_dict(dict(tensors), strict=True)


def _named(what: str, names: Iterable[str]) -> list[str]:
    listed = sorted(names)
    if not listed:
        return []
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return [f"{what}: {', '.join(listed[:5])}{more}"]
