"""Numbers in foreign text, strictly: a word is one number or the file is refused with the line, and no word is lost.

`table` is for lines of one length (numpy's reader), `rows` for lines of several lengths. Both count every word, so that
a number with a wrong byte in it, an empty cell or a short line cannot shift the numbers after it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from jepa3d.formats.refusal import NotReadError

NO_TEXT = re.compile(rb"[^\t\n\v\f\r -~]")  # control characters, and bytes that no number has
TEXT = bytes(sorted({*b"\t\n\v\f\r", *range(32, 127)}))
BLANK_LINES = re.compile(rb"\n(?:[ \t]*\n)+")
NUMBER = re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)", re.IGNORECASE)
WINDOWS = re.compile(rb"[-+]?1\.#(IND|QNAN|SNAN|INF)\d*", re.IGNORECASE)
NEWLINE = b"\n"
BLOCK = 1 << 24  # bytes of text that are worked on at once: it needs several times as much


class Rows(NamedTuple):
    """The numbers of lines that are not blank, one after the other."""

    values: Float[np.ndarray, "V"]
    counts: Int[np.ndarray, "L"]  # of numbers on each line
    lines: Int[np.ndarray, "L"]  # which line of the file it is, from 1
    what: str = "line"  # what a line is in a message

    @property
    def starts(self) -> Int[np.ndarray, "L"]:
        """Where each line's first number is in `values`."""
        starts: Int[np.ndarray, "L"] = np.cumsum(self.counts) - self.counts
        return starts

    def part(self, start: int, stop: int) -> Rows:
        at = np.concatenate([[0], np.cumsum(self.counts)])
        return Rows(self.values[at[start] : at[stop]], self.counts[start:stop], self.lines[start:stop], self.what)

    def columns(self, count: int) -> Float[np.ndarray, "L count"]:
        """The first numbers of every line; a ValueError for a line that has fewer."""
        self.demand(self.counts >= count, f"it has fewer than {count} numbers")
        if self.counts.size and (self.counts == self.counts[0]).all():
            return self.values.reshape(len(self.counts), -1)[:, :count]
        return self.values[self.starts[:, None] + np.arange(count)]

    def demand(self, good: Bool[np.ndarray, "L"], why: str) -> None:
        """A ValueError that names the first line that is not good."""
        if not good.all():
            raise ValueError(f"{self.what} {self.lines[np.flatnonzero(~good)[0]]}: {why}")


def unix(data: bytes) -> bytes:
    """Text without a byte-order mark and the end marks of DOS, every line end as LF."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise NotReadError("it is text of 16 bits a letter (UTF-16)", "save it as UTF-8 or ASCII")
    data = data.removeprefix(b"\xef\xbb\xbf").rstrip(b"\x1a\0")
    return data.replace(b"\r\n", NEWLINE).replace(b"\r", NEWLINE) if b"\r" in data else data


def dense(text: bytes) -> bytes:
    """The same lines without those that are blank, the last one with its end."""
    text = text.strip(b" \t\n") + NEWLINE
    return BLANK_LINES.sub(NEWLINE, text) if any(pair in text for pair in (b"\n\n", b"\n ", b"\n\t")) else text


def not_finite(text: bytes) -> bytes:
    """What the C library of Windows prints for numbers that are none (`-1.#IND`) as NaN: it is not -1 and a comment."""
    return WINDOWS.sub(b"nan", text) if b".#" in text else text


def table(text: bytes, first: int = 1, what: str = "line") -> Float[np.ndarray, "L C"]:
    """Numbers in lines of one length, separated by blanks. `first` is the number of the first line in its file, and
    `what` is what a line is called where one is wrong."""
    if not text.strip():
        return np.empty((0, 0))
    found = _alike(text, first, what)
    if isinstance(found, ValueError):
        words = rows(text, first, what)  # finds a word that is no number
        words.demand(words.counts == words.counts[0], f"it has not {words.counts[0]} numbers, as the {what} before")
        raise found
    return found


def rows(text: bytes, first: int = 1, what: str = "line") -> Rows:
    """Numbers in lines of any length, separated by blanks."""
    same = _alike(text, first, what)
    if not isinstance(same, ValueError) and text.count(NEWLINE, 0, len(text.rstrip())) == len(same) - 1:
        height, width = same.shape  # three times as fast, and the common case; a blank line would shift the numbers
        return Rows(same.reshape(-1), np.full(height, width), np.arange(first, first + height), what)
    found = []
    for block in blocks(text):
        found.append(_rows(block, first, what))
        first += block.count(NEWLINE)
    values, counts, lines = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return Rows(values, counts, lines, what)


def line_of(text: bytes, position: int, first: int = 1) -> str:
    """`line 7: 'the text of it'`, for what is at a position."""
    start, stop = text.rfind(NEWLINE, 0, position) + 1, text.find(NEWLINE, position)
    line = text[start : stop if stop >= 0 else len(text)].strip().decode("ascii", "replace")
    return f"line {first + text.count(NEWLINE, 0, position)}: '{line[:60]}'"


def _only_text(text: bytes, first: int, what: str) -> None:
    if text.translate(None, TEXT) and (found := NO_TEXT.search(text)):  # the search alone is ten times as slow
        line = first + text.count(NEWLINE, 0, found.start())
        raise ValueError(f"{what} {line}: a byte {found[0]!r}, which no number has")


def _alike(text: bytes, first: int, what: str) -> Float[np.ndarray, "L C"] | ValueError:
    """The table, or what numpy says is wrong with it."""
    _only_text(text, first, what)
    if not text.strip():
        return ValueError("no number")
    try:
        return np.loadtxt(io.BytesIO(text), np.float64, comments=None, ndmin=2)
    except ValueError as error:
        return error


def blocks(text: bytes) -> Iterator[bytes]:
    """Pieces that end with a line."""
    start = 0
    while len(text) - start > BLOCK and (stop := text.find(NEWLINE, start + BLOCK)) >= 0:
        yield text[start : stop + 1]
        start = stop + 1
    yield text[start:] if start else text


def _rows(text: bytes, first: int, what: str) -> tuple[NDArray[Any], ...]:
    letters = np.frombuffer(text, np.uint8)
    begins = letters > 32
    begins[1:] &= letters[:-1] <= 32
    words, ends = np.flatnonzero(begins), np.append(np.flatnonzero(letters == 10), len(letters))
    counts = np.diff(np.searchsorted(words, ends), prepend=0)
    try:
        values = np.fromstring(text, np.float64, sep=" ") if len(words) else np.empty(0)
    except (ValueError, DeprecationWarning):  # the latter by older numpy, where warnings are errors
        values = np.empty(0)
    if len(values) != len(words):
        raise ValueError(_no_number(text, first, what))
    full = counts > 0
    return values, counts[full], np.flatnonzero(full) + first


def _no_number(text: bytes, first: int, what: str) -> str:
    for number, line in enumerate(text.split(NEWLINE), first):
        for word in line.split():
            if not NUMBER.fullmatch(word):
                return f"{what} {number}: '{word[:40].decode('ascii', 'replace')}' is no number"
    return "there is a word in it that is no number"


def whole(values: Float[np.ndarray, "*n"], what: str) -> Int[np.ndarray, "*n"]:
    """Numbers that are whole, as integers."""
    if not (np.abs(values) < 2**53).all() or (values != np.trunc(values)).any():
        raise ValueError(f"{what} that is no whole number")
    return values.astype(np.int64)
