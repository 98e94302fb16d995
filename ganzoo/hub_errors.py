"""What can go wrong with the Hugging Face Hub, said in one line with its remedy.

huggingface_hub tells its failures in paragraphs, under some twenty classes, and hides the first cause in a later one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from ganzoo.errors import DownloadError, GanzooError, ModelReferenceError, UsageError
from ganzoo.fetching import offline

_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_NETWORK_PACKAGES = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "ssl", "socket")
_LONGEST = 300


@dataclass(frozen=True)
class Asked:
    """What was asked of the Hub.

    Args:
        repo: "org/name".
        revision: a branch, tag or commit; None where none was named.
        endpoint: the Hub's address, without a slash at the end.
        alone: whether nothing may be fetched.
        writes: whether something was to be published.
        dataset: whether it is a data set, not a model.
    """

    repo: str
    revision: str | None
    endpoint: str
    alone: bool = False
    writes: bool = False
    dataset: bool = False

    @property
    def name(self) -> str:
        """How what was asked for is named: a model reference, or a source."""
        return f"{'hf' if self.dataset else 'hf-hub'}:{self.repo}" + (f"@{self.revision}" if self.revision else "")

    @property
    def page(self) -> str:
        """The address of its page."""
        return f"{self.endpoint}/{'datasets/' if self.dataset else ''}{self.repo}"

    def unknown(self, message: str, remedy: str) -> UsageError:
        """Return the error for a name that the Hub does not know."""
        return UsageError(message, remedy) if self.dataset else ModelReferenceError(message, remedy)


@contextlib.contextmanager
def in_one_line(asked: Asked, errors: ModuleType) -> Iterator[None]:
    """Turn whatever the block raises, but ganzoo's own errors, into one of those.

    Args:
        asked: what the block asks of the Hub.
        errors: the module `huggingface_hub.errors`.
    """
    try:
        yield
    except GanzooError:
        raise
    except Exception as error:  # that package raises its own errors, its HTTP library's, and Python's
        raise _translated(asked, error, errors) from error


def not_cached(asked: Asked) -> DownloadError:
    """Return the error for what the cache does not hold (or not wholly) where nothing may be fetched."""
    remedy = "Unset GANZOO_OFFLINE and HF_HUB_OFFLINE" if offline() or not asked.alone else "Leave out local_files_only"
    return DownloadError(
        f"The cache does not hold the whole of {asked.name}, and nothing may be fetched.",
        f"{remedy}, or name the cache that does hold it (HF_HOME, cache_dir).",
    )


def _translated(asked: Asked, error: Exception, errors: ModuleType) -> GanzooError:
    causes = [error]
    while not isinstance(causes[-1], errors.HfHubHTTPError) and isinstance(causes[-1].__cause__, Exception):
        causes.append(causes[-1].__cause__)
    first = causes[-1]
    if asked.writes and isinstance(first, errors.BadRequestError) and first is not error:  # it checks a card's header
        return GanzooError(f"{asked.name} cannot be published: {_reason(error)}.", "Correct the header of README.md.")
    if isinstance(first, errors.HfHubHTTPError):
        return _refused(asked, first, errors)
    if isinstance(first, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return not_cached(asked)
    if any(map(_is_of_the_network, causes)):
        where = ", and the cache does not hold it" if isinstance(error, errors.LocalEntryNotFoundError) else ""
        return DownloadError(
            f"The Hub ({asked.endpoint}) cannot be reached for {asked.name}{where}: {_reason(first)}.",
            "Look at the network, the settings of a proxy and HF_ENDPOINT, then try again.",
        )
    done = "published" if asked.writes else "fetched"
    if isinstance(first, OSError) and first.strerror:
        file = f": {first.filename}" if first.filename else ""
        return GanzooError(
            f"{asked.name} cannot be {done}: {first.strerror}{file}.",
            "Free some space, or choose another folder for the cache (HF_HOME, cache_dir).",
        )
    if isinstance(first, OSError) and not asked.writes:  # its checks of what came are of this class
        return DownloadError(f"{asked.name} did not come whole: {_reason(first)}.", "Try again.")
    return GanzooError(f"{asked.name} cannot be {done}: {_reason(first)}.", "GANZOO_DEBUG=1 shows where it comes from.")


def _is_of_the_network(error: BaseException) -> bool:
    package = type(error).__module__.partition(".")[0]
    return isinstance(error, ConnectionError | TimeoutError) or package in _NETWORK_PACKAGES


def _refused(asked: Asked, error: Exception, errors: ModuleType) -> GanzooError:
    """Return the error for an answer of the Hub that is a refusal.

    Args:
        asked: what was asked.
        error: an `HfHubHTTPError`.
        errors: the module `huggingface_hub.errors`.
    """
    what, page = "data set" if asked.dataset else "model", asked.page
    if isinstance(error, errors.GatedRepoError):
        return GanzooError(
            f"{asked.name} is gated: its owner decides who may have it.", f"Ask for it at {page}, then {_LOG_IN}."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return asked.unknown(
            f"The Hub shows no {what} {asked.repo}: there is none of that name, or it is private.",
            f"Look at the name; for a private one {_LOG_IN}.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return asked.unknown(
            f"{asked.repo} has no revision {asked.revision or 'main'!r}.", f"{page}/commits shows those it has."
        )
    if isinstance(error, errors.EntryNotFoundError):
        return DownloadError(f"The Hub lists a file of {asked.name} that it does not have.", "Try again later.")
    if isinstance(error, errors.DisabledRepoError):
        return GanzooError(f"The Hub has disabled {asked.repo}.", f"{page} may tell why.")
    status = int(error.response.status_code)  # type: ignore[attr-defined]
    if status == 401:
        return GanzooError(
            f"The Hub does not accept the token for {asked.name}.",
            f"Log in again with `hf auth login`, or correct HF_TOKEN; a public {what} needs none.",
        )
    if status == 403:
        right = "write to" if asked.writes else "read"
        return GanzooError(
            f"The Hub does not let this token {right} {asked.repo}{_said(error)}.",
            f"A token that may: {asked.endpoint}/settings/tokens",
        )
    if status == 429:
        return DownloadError(f"The Hub takes no more requests for now ({asked.name}).", f"Wait, or {_LOG_IN}.")
    return DownloadError(
        f"The Hub ({asked.endpoint}) answers {asked.name} with HTTP {status}{_said(error)}.", "Try again later."
    )


def _said(error: Exception) -> str:
    """Return what the server said of its refusal, for the middle of a line."""
    said = _one_line(getattr(error, "server_message", None) or "")
    return f" ({said})" if said else ""


def _reason(error: BaseException) -> str:
    return _one_line(str(error)) or type(error).__name__


def _one_line(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
