"""What a search for duplicates found, and `duplicates.json`, in which it is written down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.errors import DataError
from ganzoo.files import write_atomically

SCHEMA_VERSION = 1
SHOWN_GROUPS, SHOWN_IMAGES = 100, 12  # of which pictures are kept: the largest groups, the first images of each


@dataclass(frozen=True)
class DuplicateGroup:
    """Images that are the same picture, in the source's order.

    Attributes:
        numbers: of the samples in the source; the first is the one that is kept.
        names: what the source calls them.
        identical: how many are equal to the kept one in every pixel of the thumbnail; the others look like it.
        mixed: whether their labels differ.
    """

    numbers: tuple[int, ...]
    names: tuple[str, ...]
    identical: int
    mixed: bool = False


@dataclass(frozen=True)
class Duplicates:
    """The duplicates of a source.

    Attributes:
        source: its description.
        samples: it has, whether they were looked at or not.
        images: that were looked at.
        skipped: samples that cannot be used.
        method: "phash", "autoencoder" or "both".
        parameters: all that the result depends on beside the method.
        groups: of at least two images, by their first image's number.
        pictures: thumbnails of the largest groups' first images, the kept one first: number of the group in `groups`
            → (n, 32, 32, 3) uint8. They are no part of the JSON.
    """

    source: str
    samples: int
    images: int
    skipped: int
    method: str
    parameters: Mapping[str, Any]
    groups: tuple[DuplicateGroup, ...]
    pictures: Mapping[int, npt.NDArray[np.uint8]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def removed(self) -> npt.NDArray[np.int64]:
        """The numbers of the samples that a clean pack leaves out, in order: (removed,)."""
        numbers = [number for group in self.groups for number in group.numbers[1:]]
        return np.sort(np.array(numbers, dtype=np.int64))

    @property
    def kept(self) -> int:
        """The number of images that are left."""
        return self.images - sum(len(group.numbers) - 1 for group in self.groups)

    def largest(self, most: int = SHOWN_GROUPS) -> list[int]:
        """Return the numbers of the largest groups in `groups`, the largest first; equals by their first image."""
        return sorted(range(len(self.groups)), key=lambda one: (-len(self.groups[one].numbers), one))[:most]

    def summary(self) -> dict[str, Any]:
        """Return the counts, method and parameters, in the order that people read them in."""
        removed = self.images - self.kept
        return {
            "source": self.source,
            "images": self.images,
            "skipped": self.skipped,
            "groups": len(self.groups),
            "duplicates": removed,
            "identical": sum(group.identical for group in self.groups),
            "mixed_groups": sum(group.mixed for group in self.groups),
            "kept": self.kept,
            "largest_group": max((len(group.numbers) for group in self.groups), default=0),
            "method": self.method,
            "parameters": dict(self.parameters),
        }

    def to_json(self) -> str:
        """Return all but the pictures as JSON text, a line for each group; equal results give equal text."""
        head = {"schema_version": SCHEMA_VERSION, **self.summary(), "samples": self.samples}
        lines = [json.dumps({"kept": group.names[0], **asdict(group)}, ensure_ascii=False) for group in self.groups]
        body = json.dumps(head, indent=1, ensure_ascii=False).rstrip("\n}")
        listed = ("\n  " + ",\n  ".join(lines) + "\n ") if lines else ""
        return f'{body},\n "found": [{listed}]\n}}\n'

    def save(self, path: Path) -> None:
        """Write `duplicates.json`, whole or not at all.

        Args:
            path: the file.
        """
        write_atomically(path, self.to_json().encode("utf-8"))


def read_duplicates(path: Path) -> Duplicates:
    """Return what a `duplicates.json` holds, without pictures.

    Args:
        path: the file.

    Raises:
        DataError: it is not one, or of a later schema.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["schema_version"] > SCHEMA_VERSION:
            raise ValueError(f"it was written by a later version of ganzoo (schema {fields['schema_version']})")
        groups = tuple(
            DuplicateGroup(tuple(one["numbers"]), tuple(one["names"]), one["identical"], one["mixed"])
            for one in fields["found"]
        )
        named = {name: fields[name] for name in ("source", "samples", "images", "skipped", "method", "parameters")}
        return Duplicates(**named, groups=groups)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path.name!r} is no list of duplicates: {reason}.") from error
