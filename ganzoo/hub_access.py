"""What models and data sets of the Hugging Face Hub are fetched with: its package, its address, names that are checked.

huggingface_hub is imported when it is needed: it comes with the extra `hub`. `HF_ENDPOINT` is read at each call.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

from ganzoo.errors import MissingDependencyError, ModelReferenceError, UsageError

_NOT_IN_REVISIONS = frozenset(" ~^:?*[\\")  # git-check-ref-format(1)


def huggingface_hub() -> ModuleType:
    """Return the package.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise MissingDependencyError(
            f"The Hugging Face Hub needs the package huggingface_hub: {error}.",
            "Install it: pip install 'ganzoo[hub]'",
        ) from error
    return huggingface_hub


def progress_bars(hub: ModuleType) -> type:
    """Return the package's class of progress bars, silent where standard error is no terminal."""
    base: Any = hub.utils.tqdm

    class Bars(base):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            quiet = options.pop("disable", False) or not sys.stderr.isatty()
            super().__init__(*arguments, disable=quiet, **options)

    return Bars


def endpoint(hub: ModuleType) -> str:
    """Return the Hub's address (`HF_ENDPOINT`), without a slash at the end."""
    return str(os.environ.get("HF_ENDPOINT") or hub.constants.ENDPOINT).rstrip("/")


def check_model_name(hub: ModuleType, repo: str, revision: str | None) -> None:
    """Check what is asked for before the Hub or the cache sees it.

    Args:
        hub: the package.
        repo: "org/name".
        revision: a branch, tag or commit, or None.

    Raises:
        ModelReferenceError: it is no name.
    """
    if not (_is_repository(hub, repo) and repo.count("/") == 1):
        raise ModelReferenceError(
            f"{str(repo)[:120]!r} is no name of a model on the Hub.",
            "It is written org/name: letters, digits, '.', '_' and '-'.",
        )
    if revision is not None and not _is_revision(revision):
        raise ModelReferenceError(*_no_revision(revision))


def check_dataset_name(hub: ModuleType, repo: str, revision: str | None) -> None:
    """Check what is asked for before the Hub or the cache sees it.

    Args:
        hub: the package.
        repo: "org/name", or the name alone of one of the Hub's oldest data sets.
        revision: a branch, tag or commit, or None.

    Raises:
        UsageError: it is no name.
    """
    if not _is_repository(hub, repo):
        raise UsageError(
            f"{repo[:120]!r} is no name of a data set on the Hub.",
            "It is written hf:org/name, hf:org/name@revision or hf:org/name:split.",
        )
    if revision is not None and not _is_revision(revision):
        raise UsageError(*_no_revision(revision))


def _is_repository(hub: ModuleType, repo: str) -> bool:
    try:
        hub.utils.validate_repo_id(repo)
    except hub.errors.HFValidationError:
        return False
    return bool(repo)


def _is_revision(revision: str) -> bool:
    return (
        0 < len(revision) <= 200
        and revision.isprintable()
        and not _NOT_IN_REVISIONS.intersection(revision)
        and not revision.startswith(("/", "-", "."))  # nor may the cache be left by it
        and ".." not in revision
    )


def _no_revision(revision: str) -> tuple[str, str]:
    return (
        f"{revision[:120]!r} is no name of a revision.",
        "Name a branch, a tag or a commit, or leave it out.",
    )
