"""What a search for duplicates can be asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ganzoo.errors import UsageError

Method = Literal["phash", "autoencoder", "both"]

MOST_DISTANCE = 16  # of 64 bits; hashes of unlike images differ by 32 on average, and by few less than 16


@dataclass(frozen=True)
class DedupOptions:
    """How duplicates are looked for. The defaults were chosen by `benchmarks/dedup.py` (docs/data.md has its table).

    Args:
        method: where candidates come from. `phash`: perceptual hashes that differ in few bits; `autoencoder`: equal
            codes of the DCGAN paper's auto-encoder, trained on the data; `both`.
        distance: at most so many of the 64 bits of two hashes differ, 0 to 16.
        flips: whether a mirrored image is a duplicate.
        crops: whether the middle of an image is looked for too (its middle 90 %), so that crops are found.
        compare: whether candidates are compared by their pixels. Without it the hashes decide alone, as in the paper.
        correlation: from 0 to 1: two thumbnails look alike from this correlation on, at 16×16 pixels.
        difference: they do not where any of their 8×8 patches differ by more than this many standard deviations of
            the image; above 0.
        seed: of the auto-encoder's weights, batches and noise; equal seeds give equal results on one machine.

    Raises:
        UsageError: a value that is not one of these.
    """

    method: Method = "phash"
    distance: int = 6
    flips: bool = True
    crops: bool = True
    compare: bool = True
    correlation: float = 0.93
    difference: float = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise UsageError(f"`method` (={self.method!r}) must be one of {', '.join(get_args(Method))}.")
        if not 0 <= self.distance <= MOST_DISTANCE:
            raise UsageError(f"`distance` (={self.distance}) must be from 0 to {MOST_DISTANCE}.")
        if not 0.0 <= self.correlation <= 1.0:
            raise UsageError(f"`correlation` (={self.correlation}) must be from 0 to 1.")
        if not 0.0 < self.difference < float("inf"):
            raise UsageError(f"`difference` (={self.difference}) must be above 0.")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"`seed` (={self.seed}) must be from 0 to 2^63 - 1.")

    def parameters(self) -> dict[str, Any]:
        """Return those values that matter for the method, but for the method's name."""
        values = asdict(self)
        del values["method"]
        if self.method == "autoencoder":
            del values["distance"], values["crops"]
        if self.method == "phash":
            del values["seed"]
        if not self.compare:
            del values["correlation"], values["difference"]
        return values
