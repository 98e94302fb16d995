"""The errors that ganzoo raises, each one line with its remedy.

GanzooError                      exit code 1: it was asked for rightly and failed
├── UsageError                   exit code 2: it was asked for wrongly
│   ├── UnknownNameError         a name that no registry holds; carries the nearest
│   ├── RecipeError              a recipe that cannot be read, or asks for what cannot work
│   └── ModelReferenceError      a model reference that names nothing
├── DataError                    a source that cannot be read, or holds nothing usable
├── MissingDataError             data that cannot be fetched by itself: says where to get it
├── DownloadError                a file that cannot be fetched, or is not what was announced
├── MissingDependencyError       an optional or broken package
├── PluginError                  a third party's package that breaks its contract, or breaks
├── RunError                     a run folder that cannot be used for what was asked
├── CheckpointError              a checkpoint that is not whole or does not fit
├── WeightsError                 weights that are not what the model needs
├── NotFiniteError               NaN or Inf in training
├── ProcessesError               another of several processes ended before its time
└── InterruptedTraining          stopped by a signal after a checkpoint was written
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GanzooError(Exception):
    """Base of all errors of ganzoo.

    Args:
        message: what is wrong, one line.
        remedy: what to do about it, one line; shown after the message.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        text = self.message if self.remedy is None else f"{self.message} {self.remedy}"
        return " ".join(text.split("\n"))


class UsageError(GanzooError):
    """What was asked for cannot be asked for."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that a registry does not hold.

    Args:
        kind: what the name should have named, in the singular: "generator".
        name: the unknown name.
        known: the names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], remedy: str | None = None) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        super().__init__(f"There is no {kind} named {name!r}.", remedy or suggest(name, self.known))


class RecipeError(UsageError):
    """A recipe that cannot be read, or asks for what cannot work."""


class ModelReferenceError(UsageError):
    """A model reference that names nothing."""


class DataError(GanzooError):
    """A source that cannot be read, or holds nothing usable."""


class MissingDataError(GanzooError):
    """Data that cannot be fetched without the user; the remedy says where it is to be had."""


class DownloadError(GanzooError):
    """A file that cannot be fetched, or is not what was announced; nothing of it was kept."""


class MissingDependencyError(GanzooError):
    """A package that is not installed, or installed and broken."""


class PluginError(GanzooError):
    """A third party's package that cannot be loaded, or does not keep the contract."""


class RunError(GanzooError):
    """A run folder that cannot be used for what was asked."""


class CheckpointError(GanzooError):
    """A checkpoint that is not whole, or does not fit the run."""


class WeightsError(GanzooError):
    """Weights that are not what the model needs: missing, unexpected or misshaped tensors."""


class NotFiniteError(GanzooError):
    """NaN or Inf appeared in training."""


class ProcessesError(GanzooError):
    """Another of the processes that work together ended before its time, or cannot be reached."""


class InterruptedTraining(GanzooError):
    """Training was stopped by a signal; a checkpoint was written first."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'x'?" for the nearest of the known names, or the list of them where none is near.

    Args:
        name: what was asked for.
        known: what exists.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    if near:
        return "Did you mean " + " or ".join(repr(one) for one in near) + "?"
    if not known:
        return "None is registered."
    shown = ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
    return f"Known: {shown}."
