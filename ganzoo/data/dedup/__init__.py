"""Duplicates in data: found among the 32×32 thumbnails of a source's images, listed, and left out of a pack.

    from ganzoo.data import DataRequest
    from ganzoo.data.dedup import deduplicate, find_duplicates

    found = find_duplicates("photos/")
    pack = deduplicate("photos/", DataRequest(64), "clean-photos", duplicates=found)

Two methods give candidates, both in time linear in the number of images: perceptual hashing (`hashing`, `near`) and the
codes of an auto-encoder that is trained on the data itself (`autoencoder`, Radford et al., arXiv 1511.06434, section
4.1.1). A candidate counts where the two thumbnails look alike (`comparing`). Nothing is ever changed in the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganzoo.data.dedup.finding import DedupProgress, deduplicate, find_duplicates
    from ganzoo.data.dedup.options import DedupOptions
    from ganzoo.data.dedup.report import write_report
    from ganzoo.data.dedup.result import DuplicateGroup, Duplicates

_HOMES = {
    "DedupOptions": "options",
    "DedupProgress": "finding",
    "DuplicateGroup": "result",
    "Duplicates": "result",
    "deduplicate": "finding",
    "find_duplicates": "finding",
    "write_report": "report",
}

__all__ = [
    "DedupOptions",
    "DedupProgress",
    "DuplicateGroup",
    "Duplicates",
    "deduplicate",
    "find_duplicates",
    "write_report",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'ganzoo.data.dedup' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ganzoo.data.dedup.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
