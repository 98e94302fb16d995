"""`torchvision:NAME[:SPLIT]`: any image dataset of torchvision, fetched by it where it can be."""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import Callable
from typing import Any

from ganzoo.data.sources.datasets import DatasetSource
from ganzoo.data.sources.locations import download_folder, offline
from ganzoo.errors import DataError, GanzooError, MissingDataError, MissingDependencyError, UnknownNameError, UsageError

_ALL = "all"
_ALL_SPLITS = ("train", "val", "test")


def open_torchvision(argument: str) -> DatasetSource:
    """Return a dataset of torchvision; what it fetches is kept in `$GANZOO_HOME/data/torchvision`.

    Args:
        argument: the class's name, with a split after a colon where one other than its default (mostly "train") is
            wanted: `SVHN`, `SVHN:extra`, `Flowers102:all` (train, val and test).

    Raises:
        UnknownNameError: torchvision has no such dataset.
        MissingDependencyError: torchvision, or a package that the dataset needs, cannot be imported.
        MissingDataError: it cannot be fetched.
        DataError: it holds no images.
    """
    name, _, split = argument.partition(":")
    datasets = _import_datasets()
    known = [one for one in datasets.__all__ if inspect.isclass(getattr(datasets, one, None))]
    if name not in known:
        raise UnknownNameError("dataset of torchvision", name, known)
    make: Callable[..., Any] = getattr(datasets, name)
    if split == _ALL:
        import torch

        parts = [_make(name, make, one) for one in _ALL_SPLITS]
        dataset: Any = torch.utils.data.ConcatDataset(parts)
        dataset.classes = getattr(parts[0], "classes", ())
    else:
        dataset = _make(name, make, split)
    return DatasetSource(
        dataset,
        description=f"torchvision's {name}" + (f" ({split})" if split else ""),
        fingerprint=f"torchvision {name} {split} {len(dataset)}",
        notice=f"torchvision's {name}; see its authors' terms",
    )


def _import_datasets() -> Any:
    try:
        import torchvision.datasets
    except Exception as error:  # one built for another torch fails with RuntimeError, OSError or AttributeError
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise MissingDependencyError(
            f"torchvision cannot be imported: {type(error).__name__}: {reason}.",
            "Install the torchvision that fits your torch: `pip install --upgrade torch torchvision`.",
        ) from error
    return torchvision.datasets


def _make(name: str, make: Callable[..., Any], split: str) -> Any:
    accepted = inspect.signature(make).parameters
    arguments: dict[str, Any] = {}
    if "root" in accepted:
        root = download_folder() / "torchvision" / name
        root.mkdir(parents=True, exist_ok=True)
        arguments["root"] = str(root)
    if split:
        if "split" in accepted:
            arguments["split"] = split
        elif "train" in accepted and split in ("train", "test"):
            arguments["train"] = split == "train"
        else:
            raise UsageError(f"torchvision's {name} has no split {split!r}.")
    try:
        return _quietly(make, arguments)
    except Exception as first:
        if "download" not in accepted or offline():
            raise _unavailable(name, first) from first
    try:
        return _quietly(make, {**arguments, "download": True})
    except Exception as error:
        raise _unavailable(name, error) from error


def _quietly(make: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):  # torchvision prints where it downloads from; results belong there
        return make(**arguments)


def _unavailable(name: str, error: Exception) -> GanzooError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, ModuleNotFoundError):
        return MissingDependencyError(
            f"torchvision's {name} needs a package: {reason}.", f"Run `pip install {error.name}`."
        )
    if isinstance(error, ValueError | TypeError) and "split" in reason.lower():
        return UsageError(f"torchvision's {name}: {reason}")
    if isinstance(error, TypeError):
        return DataError(
            f"torchvision's {name} cannot be opened by its name alone: {reason}.", "Pass the dataset from Python."
        )
    return MissingDataError(
        f"torchvision's {name} cannot be fetched: {reason}",
        f"Put it into {download_folder() / 'torchvision' / name}, or give --data PATH; `--data digits` works at once.",
    )
