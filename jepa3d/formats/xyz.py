"""Point clouds as text: one point a line, x y z and anything after.

Read: blanks, tabs, commas or semicolons between the numbers, one kind in a file; a decimal comma with blanks, tabs or
semicolons; comments from `#` or `//` on; names of columns in a first line or comment; a first line with the number of
points, and several scans one after the other, each with its own number (Leica's .pts).

Refused, with the line: a comma that can be read in two ways, an empty cell, a line that is longer or shorter than the
others, a word that is no number, a coordinate that is not finite, as `nan`, `-1.#IND` and `1.#QNAN` are.
"""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float

from jepa3d.formats.numbers_in_text import NEWLINE, line_of, not_finite, table, unix
from jepa3d.formats.refusal import NotReadError

NO_COORDINATE = re.compile(rb"nan|inf", re.IGNORECASE)
PLAIN = "write numbers with decimal points, and one kind of separator between them"
COMMENT = re.compile(rb"(#|//)[^\n]*")
NAMES = re.compile(rb"[\t \"A-Za-z_][\w\t ,;\"().\[\]-]*")
IN_A_CELL = {b";": re.compile(rb"[^\s;][ \t]+[^\s;]"), b",": re.compile(rb"[^\s,][ \t]+[^\s,]")}
EMPTY_CELL = {
    b";": re.compile(rb"^[ \t]*;|;[ \t]*(?=;|$)", re.MULTILINE),
    b",": re.compile(rb"^[ \t]*,|,[ \t]*(?=,|$)", re.MULTILINE),
    b"\t": re.compile(rb"(?<=[^\s])[ ]*\t[ ]*(?=\t[\t ]*[^\s])|^\t(?=[^\n]*\t)", re.MULTILINE),
}
AT_THE_END = {b";": re.compile(rb";[ \t]*$", re.MULTILINE), b",": re.compile(rb",[ \t]*$", re.MULTILINE)}
BESIDE_A_TAB = (b"\t\t", b"\t ", b" \t", b"\n\t")
DIGITS_ARE_0 = bytes.maketrans(b"123456789", b"0" * 9)
NO_DECIMAL = re.compile(rb"(?<!\d),|,(?!\d)|,\d+,|\.")
SURELY_DECIMAL = re.compile(rb",(?!\d{3}(?!\d))|(?<![\d])0\d*,|\d{4},|,\d+[eE]")
GROUPED = re.compile(rb"(?<![\d.,])[1-9]\d{0,2},\d{3}\.\d")
COUNT = re.compile(rb"^[ \t]*\d{1,18}[ \t]*$", re.MULTILINE)


def points(data: bytes) -> Float[np.ndarray, "P C"]:
    """The points of a file's bytes: x, y, z in the first three columns. A ValueError says what is wrong, and where."""
    text = not_finite(unix(data))
    plain = COMMENT.sub(b"", text) if b"#" in text or b"//" in text else text
    begin = len(plain) - len(plain.lstrip())
    if begin == len(plain):
        raise ValueError("there is no point in it")
    begin = plain.rfind(NEWLINE, 0, begin) + 1
    head = plain[begin:].partition(NEWLINE)[0]
    before = plain.count(NEWLINE, 0, begin)
    titled = bool(NAMES.fullmatch(head) and _axes(_words(head)))
    names = _words(head) if titled else _names(text.split(NEWLINE, before)[:before])
    begin += (len(head) + 1) * titled
    first = 1 + plain.count(NEWLINE, 0, begin)
    found = _scans(_blanks(plain[begin:], first), first)
    if found.shape[1] < 3:
        raise ValueError(f"line {first}: {found.shape[1]} numbers, expected x y z")
    axes = _axes(names) if len(names) == found.shape[1] else None
    if titled and axes is None:
        raise ValueError(f"its first line names {len(names)} columns, {found.shape[1]} follow")
    found = found if axes is None else found[:, axes]
    if not np.isfinite(found[:, :3]).all():
        raise _not_finite(data, plain, begin)
    return found


def _not_finite(data: bytes, plain: bytes, begin: int) -> NotReadError:
    """With the line as the file has it."""
    word = NO_COORDINATE.search(plain, begin)
    line = plain.count(NEWLINE, 0, word.start()) if word else 0
    words = unix(data).split(NEWLINE)[line][:60].decode("ascii", "replace")
    where = f"line {line + 1}: '{words}'" if word else "one of its points"
    return NotReadError(f"{where} has a coordinate that is not finite", "remove the point, or get the file again")


def _words(line: bytes) -> list[str]:
    return re.split(r"[\s,;\"]+", line.decode("ascii", "replace").strip(' \t"#/,;').lower())


def _names(comments: list[bytes]) -> list[str]:
    """The last comment before the points, which may name the columns."""
    last = next((line for line in reversed(comments) if line.strip()), b"")
    return _words(last)


def _axes(names: list[str]) -> list[int] | None:
    return [names.index(axis) for axis in "xyz"] if all(names.count(axis) == 1 for axis in "xyz") else None


# ------------------------------------------------------------------------------------ what separates the numbers


# Regular expressions find the place of a fault; whether there may be one is seen ten times as fast by looking at bytes.


def _blanks(text: bytes, first: int) -> bytes:
    """The same numbers with points in them and blanks between them."""
    if b";" in text:
        text = _cells(text, b";", first)
        return _decimal(text, first) if b"," in text else text
    if b"," in text:
        begin = text.rfind(NEWLINE, 0, text.index(b",")) + 1
        line = text[begin:].partition(NEWLINE)[0]
        if not IN_A_CELL[b","].search(line):
            _not_grouped(text, line, first)
            return _cells(text, b",", first)
    if b"\t" in text and (text.startswith(b"\t") or any(pair in text for pair in BESIDE_A_TAB)):
        _no_empty(text, b"\t", first)
    return _decimal(text, first) if b"," in text else text


def _cells(text: bytes, separator: bytes, first: int) -> bytes:
    """One separator, blanks around it; every line may end with one."""
    tight = text.replace(b"\t", b" ") if b"\t" in text else text
    if b" " in tight:
        tight = tight.replace(separator + b" ", separator).replace(b" " + separator, separator)
    doubt = _beside(tight, separator)
    if doubt:
        ends = len(AT_THE_END[separator].findall(tight))
        if ends == sum(1 for line in tight.split(NEWLINE) if separator in line):
            tight = AT_THE_END[separator].sub(b"", tight)
    if b" " in tight and (found := IN_A_CELL[separator].search(tight)):
        sign = separator.decode()
        raise NotReadError(f"{line_of(tight, found.start(), first)} is separated by blanks and by '{sign}'", PLAIN)
    if doubt:
        _no_empty(tight, separator, first)
    return tight.replace(separator, b" ")


def _beside(text: bytes, separator: bytes) -> bool:
    """Whether a separator stands beside another one, a blank, or an end of a line."""
    letters = np.frombuffer(NEWLINE + text + NEWLINE, np.uint8)
    at = np.flatnonzero(letters == ord(separator))
    after, before = letters[at + 1], letters[at - 1]
    return bool(((after == ord(separator)) | (after <= 32) | (before <= 32)).any())


def _no_empty(text: bytes, separator: bytes, first: int) -> None:
    if found := EMPTY_CELL[separator].search(text):
        raise NotReadError(f"{line_of(text, found.start(), first)} has an empty cell", "fill it, or remove the point")


def _decimal(text: bytes, first: int) -> bytes:
    """Commas are decimal signs; a ValueError where one may be something else."""
    plain = text.translate(DIGITS_ARE_0)
    doubt = b"." in text or plain.count(b"0,0") != plain.count(b",") or b",," in plain.translate(None, b"0")
    if doubt and (found := NO_DECIMAL.search(text)):
        raise NotReadError(
            f"{line_of(text, found.start(), first)}: a comma may be a decimal sign, a separator or a mark of thousands",
            PLAIN,
        )
    if not SURELY_DECIMAL.search(text):
        at = text.index(b",")
        raise NotReadError(f"{line_of(text, at, first)}: its commas may be decimal signs or marks of thousands", PLAIN)
    return text.replace(b",", b".")


def _not_grouped(text: bytes, line: bytes, first: int) -> None:
    """`1,234.50,2,345.60,...`: were every line to have marks of thousands at the same places, they would be those.
    `line` is the first one that has commas."""
    places: set[int] | None = None
    for other in (line, *text.split(NEWLINE)) if GROUPED.search(line) else ():
        if b"," in other:
            here = {other.count(b",", 0, found.start()) for found in GROUPED.finditer(other)}
            places = here if places is None else places & here
    if places and line.count(b",") + 1 - len(places) >= 3:
        at = text.index(line)
        raise NotReadError(f"{line_of(text, at, first)}: its commas may be separators or marks of thousands", PLAIN)


# ------------------------------------------------------------------------------------------- counts, and several scans


def _scans(text: bytes, first: int) -> Float[np.ndarray, "P C"]:
    """The points of all scans. A line with one whole number announces how many points follow it."""
    counts = list(COUNT.finditer(text)) if COUNT.match(text) else []
    if not counts:
        return table(text, first)
    scans = []
    for count, stop in zip(counts, [*(found.start() for found in counts[1:]), len(text)], strict=True):
        line = first + text.count(NEWLINE, 0, count.start())
        found = table(text[count.end() + 1 : stop], line + 1)
        if len(found) != int(count[0]):
            raise ValueError(f"line {line} announces {int(count[0]):,} points, {len(found):,} follow")
        if len(found):
            scans.append(found)
    if len({scan.shape[1] for scan in scans}) != 1:
        raise ValueError("its scans have rows of different lengths" if scans else "there is no point in it")
    return np.concatenate(scans)
