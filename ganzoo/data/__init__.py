"""Data: a source is where images come from, a pack is the one form that all of them are turned into, once.

A pack is a memory-mapped array of bytes, images × height × width × channels, with labels and a manifest. `open_pack`
finds it in the cache or makes it; training reads only packs. Importing this package imports neither torch nor Pillow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganzoo.data.dedup.finding import deduplicate, find_duplicates
    from ganzoo.data.packing import open_pack, write_pack
    from ganzoo.data.packs import Pack, PackManifest
    from ganzoo.data.prefetch import Prefetcher
    from ganzoo.data.request import DataRequest
    from ganzoo.data.sources.base import ArraySource, Sample, SkippedImage, Source
    from ganzoo.data.specs import open_source
    from ganzoo.data.writing import PackProgress

_HOMES = {
    "ArraySource": "sources.base",
    "DataRequest": "request",
    "Pack": "packs",
    "PackManifest": "packs",
    "PackProgress": "writing",
    "Prefetcher": "prefetch",
    "Sample": "sources.base",
    "SkippedImage": "sources.base",
    "Source": "sources.base",
    "deduplicate": "dedup.finding",
    "find_duplicates": "dedup.finding",
    "open_pack": "packing",
    "open_source": "specs",
    "write_pack": "packing",
}

__all__ = [
    "ArraySource",
    "DataRequest",
    "Pack",
    "PackManifest",
    "PackProgress",
    "Prefetcher",
    "Sample",
    "SkippedImage",
    "Source",
    "deduplicate",
    "find_duplicates",
    "open_pack",
    "open_source",
    "write_pack",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'ganzoo.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ganzoo.data.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
