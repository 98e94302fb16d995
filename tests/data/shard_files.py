"""Tiny parquet files and tars for the data tests."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def hub_table(
    images: Sequence[bytes | None], labels: Sequence[Any] | None = None, names: Sequence[str] | None = None
) -> pa.Table:
    """A table as the Hugging Face Hub holds images: structs of bytes and path, names of classes in the metadata."""
    columns: dict[str, Any] = {
        "image": pa.array([{"bytes": one, "path": f"{number}.png"} for number, one in enumerate(images)])
    }
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if labels is not None:
        columns["label"] = pa.array(labels)
    if names is not None:
        features["label"] = {"_type": "ClassLabel", "names": list(names)}
    told = json.dumps({"info": {"features": features}}).encode()
    return pa.table(columns).replace_schema_metadata({b"huggingface": told})


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def write_parquet(path: Path, table: pa.Table, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(parquet_bytes(table, **options))
    return path


def tar_bytes(members: Mapping[str, bytes] | Iterable[tuple[str, bytes]], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items() if isinstance(members, Mapping) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes] | Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members, mode))
    return path
