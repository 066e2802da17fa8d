"""One transfer into a `.part` file: it goes on where it broke, as long as it is the same file's."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jepa3d import progress
from jepa3d.fetch import addresses
from jepa3d.fetch.addresses import BROKEN, BrokenError, FetchError, OutsideError, ask
from jepa3d.results import store

BLOCK = 1 << 18
PROGRESS = 1 << 20  # bytes that make a broken attempt worth while
UNKNOWN = 64 << 30  # bytes; what a file of unknown size may have at most


# ---- one transfer


class Window(NamedTuple):
    """Which bytes of the remote file are wanted; `length` None: up to its end, wherever that is."""

    offset: int
    length: int | None


def size_of(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def notes(part: Path) -> Path:
    """Beside a part: whose bytes they are."""
    return part.with_name(part.name + ".json")


def transfer(url: str, part: Path, window: Window, known: bool, label: str) -> None:
    """Fill `part` with the window's bytes; what is in it already is kept when it is from the same file.

    `known`: the whole will be checked against a published hash, so that a beginning from another mirror may be used.
    """
    failures, pause = 0, addresses.PAUSE
    with progress.bytes_shown(label, window.length, size_of(part)) as advance:
        while True:
            before = size_of(part)
            if window.length is not None and before == window.length:
                return None
            try:
                return receive(url, part, window, known, advance)
            except OutsideError:
                discard(part)
                problem: FetchError = BrokenError("the part that was here is not of this file")
            except BrokenError as error:
                problem = error
            if size_of(part) - before >= min(PROGRESS, (window.length or PROGRESS) // 100 + 1):
                failures, pause = 0, addresses.PAUSE
            failures += 1
            if failures >= addresses.ATTEMPTS:
                raise FetchError(f"{problem} ({addresses.ATTEMPTS} attempts)")
            time.sleep(min(pause, addresses.LONGEST_PAUSE))
            pause *= 2


def receive(url: str, part: Path, window: Window, known: bool, advance: Callable[[int], None]) -> None:
    """One request: the rest of the window, appended to `part`."""
    have = resumable(url, part, window, known)
    headers = {}
    whole = window == Window(0, window.length) and have == 0
    if not whole or window.offset:
        last = "" if window.length is None else str(window.offset + window.length - 1)
        headers["Range"] = f"bytes={window.offset + have}-{last}"
        before = read_notes(part)
        if have and before.get("url") == url and before.get("validator"):
            headers["If-Range"] = before["validator"]
    with ask(url, headers) as answer:
        if answer.status == 206:
            check_range(answer, window.offset + have)
        elif window.offset:
            raise FetchError("the server does not honour ranges any more")
        else:
            have = 0  # the server sends all of it
        expected = check_answer(answer, window, have)
        note(url, part, answer)
        append(answer, part, have, expected, advance)


def resumable(url: str, part: Path, window: Window, known: bool) -> int:
    """How many bytes of `part` can be kept: all of them, when they can be told to be of the same file."""
    if not part.exists():
        return 0
    have = part.stat().st_size
    before = read_notes(part)
    same = before.get("url") == url and bool(before.get("validator"))
    if not (known or same) or (window.length is not None and have > window.length):
        part.unlink()
        return 0
    return have


def read_notes(part: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(notes(part).read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def note(url: str, part: Path, answer: Any) -> None:
    """Remember which version of which file the part is of."""
    etag = answer.headers.get("ETag") or ""
    validator = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified") or ""
    store.write_json(notes(part), {"url": url, "validator": validator})


def check_range(answer: Any, start: int) -> None:
    words = (answer.headers.get("Content-Range") or "").removeprefix("bytes ").partition("-")
    if words[0].strip() != str(start):
        raise FetchError(f"asked for bytes from {start}, got '{answer.headers.get('Content-Range')}'")


def check_answer(answer: Any, window: Window, have: int) -> int | None:
    """How many bytes the answer will have, checked against what is known; None where nobody says."""
    kind = answer.headers.get("Content-Type") or ""
    if kind.startswith("text/html"):
        raise FetchError("answers with a web page, not with the file")
    length = answer.headers.get("Content-Length")
    if length is None or not length.isdigit():
        return None if window.length is None else window.length - have
    if window.length is not None and int(length) != window.length - have:
        raise FetchError(f"the server's file has {int(length) + have:,} bytes, expected {window.length:,}")
    if int(length) > UNKNOWN:
        raise FetchError(f"the server announces {int(length):,} bytes")
    return int(length)


def append(answer: Any, part: Path, have: int, expected: int | None, advance: Callable[[int], None]) -> None:
    """Write what arrives behind the `have` bytes; every byte that arrived is kept when the connection breaks."""
    limit = UNKNOWN if expected is None else expected
    arrived = 0
    with part.open("r+b" if part.exists() else "wb") as file:
        file.truncate(have)
        file.seek(have)
        advance(-1 if have == 0 else 0)
        while True:
            try:
                block = answer.read1(BLOCK)
            except http.client.IncompleteRead as error:
                block = error.partial
                if not block:
                    raise BrokenError(f"the connection broke after {have + arrived:,} bytes") from None
            except BROKEN as error:
                raise BrokenError(f"the connection broke after {have + arrived:,} bytes: {error}") from None
            if not block:
                break
            arrived += len(block)
            if arrived > limit:
                raise FetchError("the server sends more bytes than the file has")
            file.write(block)
            advance(len(block))
    if expected is not None and arrived < expected:
        raise BrokenError(f"the connection broke after {have + arrived:,} bytes")


def discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    notes(part).unlink(missing_ok=True)
