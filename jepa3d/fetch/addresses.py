"""One request: only http and https, never from TLS to an address without, and every failure a FetchError."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

from jepa3d import __version__
from jepa3d.fetch.source import Source

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5  # in a row without progress, per address
PAUSE = 1.0  # seconds before the second attempt; doubled each time
LONGEST_PAUSE = 30.0
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
BROKEN = (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError, urllib.error.URLError, OSError)
Out = TypeVar("Out")


class FetchError(Exception):
    """One address failed; the next one may do."""


class BrokenError(FetchError):
    """The connection failed in a way that may pass; what has arrived is kept."""


# ---- addresses


def is_secure(url: str) -> bool:
    return urllib.parse.urlsplit(url).scheme == "https"


def is_private(url: str) -> bool:
    """Nobody on the way can change the bytes: TLS, or this machine."""
    return is_secure(url) or urllib.parse.urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")


def check_address(url: str, source: Source) -> None:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise FetchError("only http and https addresses are fetched; name a folder with 'root:'")
    if not (is_private(url) or source.sha256 or source.md5):
        raise FetchError("an address without TLS, and no hash is published for the file: refused")


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from TLS to an address without."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            fp.close()
            raise FetchError(f"redirects to {newurl[:100]}: refused")
        if is_private(req.full_url) and not is_private(newurl):
            fp.close()
            raise FetchError(f"redirects to an address without TLS, {newurl[:100]}: refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def ask(url: str, headers: dict[str, str]) -> Any:
    """The server's answer to one request; any failure is a FetchError, one that may pass a BrokenError."""
    opener = urllib.request.build_opener(Redirects())
    request = urllib.request.Request(url, headers={"User-Agent": f"jepa3d/{__version__}", **headers})
    try:
        return opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            raise OutsideError("the server has fewer bytes than are here already") from None
        words = f"HTTP {error.code} {error.reason}"
        raise (BrokenError if error.code in TEMPORARY else FetchError)(words) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise FetchError(f"its TLS certificate is not valid: {error.reason.verify_message}") from None
        raise BrokenError(str(error.reason)) from None
    except BROKEN as error:
        raise BrokenError(f"{type(error).__name__} {error}".strip()) from None
    except ValueError as error:
        raise FetchError(str(error)) from None


class OutsideError(FetchError):
    """HTTP 416: the range that was asked for is not there."""


def patiently(once: Callable[[], Out]) -> Out:
    """What `once` returns, when it does within some attempts; between them, pauses that grow."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(min(PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE))
        try:
            return once()
        except BrokenError as error:
            failure = error
    raise FetchError(f"{failure} ({ATTEMPTS} attempts)")
