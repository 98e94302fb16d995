"""Tensors on disk: safetensors files that are the same bytes for the same tensors, read strictly.

A file carries exactly one metadata key ("ganzoo"): with two or more, safetensors writes them in an order that changes
from save to save. Among what stands under it is a digest of all the rest, so that a file in which a single bit has
changed is not taken for what was written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ganzoo.errors import UsageError, WeightsError
from ganzoo.shapes import shapes_only
from ganzoo.tensor_headers import DIGEST_KEY, METADATA_KEY, Header, read_header, read_metadata

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""What a header calls a kind of number → what torch calls it."""


def save_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any], *, digest: bool = True
) -> None:
    """Write a safetensors file.

    Args:
        path: the file; written as it is, so that atomicity is the caller's.
        tensors: name → tensor on any device.
        metadata: JSON-able; goes into the file's one metadata key.
        digest: whether `content_sha256` goes with it; not needed where the caller writes the file's own.

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
    written = dict(metadata) | ({DIGEST_KEY: content_sha256(plain, metadata)} if digest else {})
    # Not its save_file, which gives files that only their owner may read, whatever the umask says.
    path.write_bytes(save(plain, {METADATA_KEY: json.dumps(written, sort_keys=True)}))


def content_sha256(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> str:
    """Return the SHA-256 of tensors and metadata, in hexadecimal; the order of either changes nothing.

    Args:
        tensors: name → tensor on the CPU.
        metadata: JSON-able.
    """
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return a safetensors file's tensors, on the CPU, and its metadata (empty where it is not ganzoo's).

    Raises:
        WeightsError: no such file, it is truncated or damaged, or it is something else: then the message says what.
    """
    header = read_header(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in header.tensors}
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise WeightsError(f"{path} cannot be read as safetensors: {reason}.", "Copy or download it again.") from error
    if header.content_sha256 not in (None, content_sha256(tensors, header.metadata)):
        raise WeightsError(
            f"{path} is damaged: its tensors are not those that were written.", "Copy or download it again."
        )
    return tensors, dict(header.metadata)


def load_network(build: Callable[[], nn.Module], path: Path) -> nn.Module:
    """Return a network with the weights of a file.

    The file's header is compared with the network's shapes before any memory is taken: neither a config that asks for
    10^12 parameters nor a file of another network gets further.

    Args:
        build: makes the network; called twice, the first time on torch's meta device.
        path: its weights; of any kind of floating-point numbers, which become the network's own.

    Raises:
        WeightsError: a file that is missing or damaged, a network that cannot be built, tensors that do not fit or
            hold NaN or Inf.
    """
    header = read_header(path)
    try:
        with shapes_only():
            shapes = build().state_dict()
        check_fits(shapes, header, str(path))
        network = build()
    except UsageError as error:
        raise WeightsError(f"{path}: {error.message}", error.remedy) from error
    except (ArithmeticError, RuntimeError, TypeError) as error:  # sizes whose product torch cannot hold, and the like
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise WeightsError(f"{path}: its network cannot be built: {reason}.") from error
    load_strictly(network, read_tensors(path)[0], str(path))
    check_finite(network.state_dict(), str(path))
    return network


def check_fits(own: Mapping[str, torch.Tensor], header: Header, where: str) -> None:
    """Refuse a file whose tensors are not a network's, by what its header says.

    Args:
        own: the network's state dict, on the meta device or another.
        header: of the file.
        where: the file, for the message.

    Raises:
        WeightsError: missing, unexpected or misshaped tensors, listed.
    """
    _compare(own, {name: (entry.shape, DTYPES[entry.dtype]) for name, entry in header.tensors.items()}, where)


def load_strictly(network: nn.Module, tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Load a network's parameters and buffers; each must be there, with its shape and kind of number, and no other.

    Args:
        network: what is loaded.
        tensors: its state dict.
        where: whose tensors they are, for the message.

    Raises:
        WeightsError: missing, unexpected or misshaped tensors, listed.
    """
    check_same_tensors(network.state_dict(), tensors, where)
    network.load_state_dict(dict(tensors), strict=True)


def check_same_tensors(own: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], where: str) -> None:
    """Refuse tensors that differ from others in names, shapes or kinds of number.

    Args:
        own: what is wanted: name → tensor.
        found: what is there.
        where: whose tensors `found` are, for the message.

    Raises:
        WeightsError: missing, unexpected or misshaped tensors, listed.
    """
    _compare(own, {name: (tuple(value.shape), value.dtype) for name, value in found.items()}, where)


def check_finite(tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Refuse weights that hold NaN or Inf: all that is made of them is NaN.

    Args:
        tensors: name → tensor.
        where: whose tensors they are, for the message.

    Raises:
        WeightsError: the first such tensor is named.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool((finite := torch.isfinite(tensor)).all()):
            wrong = tensor.numel() - int(finite.sum())
            raise WeightsError(
                f"{where}: {name} holds NaN or Inf ({wrong:,} of its {tensor.numel():,} numbers), "
                "so that no image can be drawn with it.",
                "Take the weights of an earlier checkpoint, or of another training.",
            )


def _compare(
    own: Mapping[str, torch.Tensor], found: Mapping[str, tuple[tuple[int, ...], torch.dtype]], where: str
) -> None:
    both = own.keys() & found.keys()
    problems = [
        *_named("missing", own.keys() - found.keys()),
        *_named("unexpected", found.keys() - own.keys()),
        *_named(
            "of another shape",
            (
                f"{name} {found[name][0]} instead of {tuple(own[name].shape)}"
                for name in both
                if tuple(own[name].shape) != found[name][0]
            ),
        ),
        *_named(
            "of another type",
            (
                f"{name} {found[name][1]} instead of {own[name].dtype}"
                for name in both
                if _kind(own[name].dtype) != _kind(found[name][1])
            ),
        ),
    ]
    if problems:
        raise WeightsError(f"{where} does not fit the network: {'; '.join(problems)}.")


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_floating_point:
        return "real"
    return "complex" if dtype.is_complex else "truth" if dtype == torch.bool else "whole"


def _named(what: str, names: Iterable[str]) -> list[str]:
    listed = sorted(names)
    if not listed:
        return []
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return [f"{what}: {', '.join(listed[:5])}{more}"]


__all__ = [
    "DTYPES",
    "METADATA_KEY",
    "check_finite",
    "check_fits",
    "check_same_tensors",
    "content_sha256",
    "load_network",
    "load_strictly",
    "read_header",
    "read_metadata",
    "read_tensors",
    "save_tensors",
]
