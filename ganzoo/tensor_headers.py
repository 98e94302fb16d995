"""The header of a safetensors file: which tensors are in it and what else it says, read without reading a tensor.

A file is the header's length (8 bytes, little-endian), the header (JSON: name → dtype, shape, offsets; text → text
under `__metadata__`), and the tensors' bytes one after another: https://github.com/huggingface/safetensors#format

The safetensors package reads the tensors, but it trusts more than can be trusted (a name given twice, a side of 2^63
beside one of 0) and does not say what a file is that is none. So every file passes here first. Needs no torch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ganzoo.errors import WeightsError
from ganzoo.reading import START_BYTES, open_ordinary, what_it_is
from ganzoo.strict_json import parse_json

METADATA_KEY = "ganzoo"
DIGEST_KEY = "content_sha256"
ITEM_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
}
"""The kinds of number that are read, with the bytes of one."""

_MAX_HEADER_BYTES = 8 << 20  # 60,000 tensors; Python makes twenty times as much of the worst JSON
_MAX_DIMENSIONS = 32
_MAX_ELEMENTS = 1 << 60
_AGAIN = "Copy or download it again."


@dataclass(frozen=True)
class TensorEntry:
    """What a header says of one tensor.

    Args:
        dtype: "F32" …
        shape: its sides.
        begin: its first byte, counted from the end of the header.
        end: the byte after its last one.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a safetensors file says before its tensors.

    Args:
        tensors: name → entry.
        metadata: what ganzoo wrote into the file beside the tensors; empty in a file of others.
        content_sha256: of tensors and metadata, where the file has it.
    """

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, Any]
    content_sha256: str | None


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what ganzoo wrote into a safetensors file beside its tensors; empty for a file of others.

    Raises:
        WeightsError: as `read_header`.
    """
    return dict(read_header(path).metadata)


def read_header(path: str | os.PathLike[str]) -> Header:
    """Return what a safetensors file says before its tensors, checked: each tensor has its place in the file, alone.

    Args:
        path: the file; of it only the header is read.

    Raises:
        WeightsError: no such file, it is truncated or damaged, or it is something else: then the message says what.
    """
    try:
        with open_ordinary(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(START_BYTES)
            length = int.from_bytes(start[:8], "little")
            if len(start) < 10 or start[8:9] != b"{" or length > _MAX_HEADER_BYTES:
                _refuse_start(path, start, length)
            if size < 8 + length:
                raise _unreadable(
                    path, f"it is cut short: its header ends at byte {8 + length:,}, the file at {size:,}"
                )
            content = (start + file.read(max(8 + length - len(start), 0)))[8 : 8 + length]
    except FileNotFoundError:
        raise WeightsError(f"There is no file {os.fspath(path)}.") from None
    except OSError as error:
        raise WeightsError(
            f"{os.fspath(path)} cannot be read as safetensors: {error.strerror or type(error).__name__}."
        ) from error
    try:
        fields = parse_json(content)
        texts = _texts(fields.pop("__metadata__", {}))
        tensors = {name: _entry(name, entry) for name, entry in fields.items()}
        _check_places(tensors, size - 8 - length)
    except ValueError as error:
        raise _unreadable(path, str(error)) from error
    metadata, digest = _own_metadata(path, texts)
    return Header(tensors, metadata, digest)


def _refuse_start(path: str | os.PathLike[str], start: bytes, length: int) -> NoReturn:
    if found := what_it_is(start, path):
        raise WeightsError(f"{os.fspath(path)} is no safetensors file: it is {found[0]}.", found[1])
    if len(start) < 10:
        raise _unreadable(path, f"it has {len(start)} bytes")
    if start[8:9] == b"{":
        raise _unreadable(path, f"it claims a header of {length:,} bytes")
    raise _unreadable(path, "it has no header")


def _unreadable(path: str | os.PathLike[str], reason: str) -> WeightsError:
    return WeightsError(f"{os.fspath(path)} cannot be read as safetensors: {reason}.", _AGAIN)


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("its metadata are not texts")
    return value


def _entry(name: str, fields: Any) -> TensorEntry:
    shown = repr(name if len(name) <= 60 else name[:57] + "...")
    if not isinstance(fields, dict) or not {"dtype", "shape", "data_offsets"} <= fields.keys():
        raise ValueError(f"its tensor {shown} lacks dtype, shape or data_offsets")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f"its tensor {shown} holds numbers of the unknown kind {str(dtype)[:20]!r}")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"its tensor {shown} has a shape or offsets that cannot be")
    # Sides of 0 count as 1 here: torch works out how far apart elements lie even where there are none.
    if len(shape) > _MAX_DIMENSIONS or math.prod(max(side, 1) for side in shape) > _MAX_ELEMENTS:
        raise ValueError(f"its tensor {shown} is larger than any can be")
    if math.prod(shape) * ITEM_BYTES[dtype] != offsets[1] - offsets[0]:
        raise ValueError(f"its tensor {shown} of shape {_short(shape)} does not have the bytes of {dtype}")
    return TensorEntry(dtype, tuple(shape), offsets[0], offsets[1])


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)


def _short(shape: list[int]) -> str:
    return str(tuple(shape)) if len(shape) <= 8 else f"of {len(shape)} dimensions"


def _check_places(tensors: Mapping[str, TensorEntry], there: int) -> None:
    """Refuse tensors that do not lie one after another, from the first byte to the last.

    Args:
        tensors: name → entry.
        there: bytes that follow the header.
    """
    at = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != at:
            wrong = "overlaps another" if entry.begin < at else "has a hole before it"
            raise ValueError(f"its tensor {name[:60]!r} {wrong}")
        at = entry.end
    if there < at:
        raise ValueError(f"it is cut short: {there:,} of its tensors' {at:,} bytes are there")
    if there > at:
        raise ValueError(f"{there - at:,} bytes follow its last tensor")


def _own_metadata(path: str | os.PathLike[str], texts: Mapping[str, str]) -> tuple[dict[str, Any], str | None]:
    try:
        metadata = parse_json(texts.get(METADATA_KEY, "{}").encode())
    except ValueError as error:
        raise _unreadable(path, f"its metadata are damaged: {error}") from error
    if not isinstance(metadata, dict):
        raise WeightsError(f"{os.fspath(path)} has metadata that are not ganzoo's.", _AGAIN)
    digest = metadata.pop(DIGEST_KEY, None)
    if digest is not None and not isinstance(digest, str):
        raise WeightsError(f"{os.fspath(path)} has metadata that are not ganzoo's.", _AGAIN)
    return metadata, digest
