"""Opening addresses: https, http and file, and nothing else; what goes wrong is one exception with its reason.

It is apart from `ganzoo.fetching` because urllib takes longer to import than all that is listed without fetching.
"""

from __future__ import annotations

import contextlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

_BLOCK = 1 << 18


class RefusedError(Exception):
    """What an address holds cannot be had, or is of no use; the text says why, in a part of a sentence."""


@contextlib.contextmanager
def opened(url: str, timeout: float) -> Iterator[Any]:
    """Give the response of an address, and close it.

    Args:
        url: see `ganzoo.fetching.is_address`.
        timeout: seconds to wait for a server that says nothing.

    Raises:
        RefusedError: it cannot be opened.
    """
    try:
        response = _opener().open(urllib.request.Request(url, headers={"User-Agent": "ganzoo"}), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        raise RefusedError(reason_of(error)) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise RefusedError(reason_of(error)) from error
    with contextlib.closing(response):
        yield response


def blocks(response: Any, deadline: float) -> Iterator[bytes]:
    """Give the bytes of a response as they come.

    Args:
        response: of `opened`.
        deadline: of `time.monotonic()`, by which all must have come.

    Raises:
        RefusedError: the transfer broke off, or was too slow.
    """
    while True:
        try:
            block: bytes = response.read1(_BLOCK)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise RefusedError(reason_of(error)) from error
        if not block:
            return
        yield block
        if time.monotonic() > deadline:
            raise RefusedError("it came too slowly")


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for https, http and file alone; urllib's own would also take ftp and data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,  # follows to http, https and ftp, never to a file
        urllib.request.FileHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def reason_of(error: BaseException) -> str:
    """Return what an error says, on one line."""
    told = str(error) if isinstance(error, urllib.error.HTTPError) else str(getattr(error, "reason", None) or error)
    return " ".join(told.split()).rstrip(".") or type(error).__name__
