"""Which files a folder of shapes has: those that are read, those that look like shapes and are not, and the rest.

Every folder once on each way that leads to it: links are followed, one that leads back into itself is not. What is
hidden is passed over. Names are relative to the root, with slashes, in the order of the alphabet.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from jepa3d.formats import clouds
from jepa3d.problem import Problem

COMPANIONS = (  # of shapes, and never shapes themselves: counted, not listed one by one
    "", ".md", ".rst", ".pdf", ".doc", ".docx", ".rtf", ".html", ".htm", ".tex", ".bib", ".cff",
    ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".tga", ".dds", ".exr", ".hdr", ".webp", ".svg", ".mp4",
    ".mtl", ".binvox", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".xml", ".ini", ".cfg", ".csv", ".tsv", ".xls",
    ".xlsx", ".log", ".lst", ".list", ".db", ".py", ".ipynb", ".m", ".sh", ".bat", ".md5", ".sha256", ".url", ".lock",
)  # fmt: skip
OURS = "SOURCE.json"  # `download` writes it beside what it unpacks
MOST_VISITS = 64  # of one folder, by different links


class Listing(NamedTuple):
    """All files below a root."""

    shapes: tuple[str, ...]  # with an ending that is read
    unread: dict[str, str]  # others that may be shapes, with the reason why they are not read
    companions: tuple[str, ...]
    folders: tuple[str, ...]  # all of them, each with a slash at its end


def of(root: Path) -> Listing:
    """A Problem for a folder that cannot be read, or that is linked too often."""
    found = Listing((), {}, (), ())
    shapes: list[str] = []
    companions: list[str] = []
    folders: list[str] = []
    visits: Counter[tuple[int, int]] = Counter()
    waiting: list[tuple[str, str, frozenset[tuple[int, int]]]] = [(str(root), "", frozenset())]
    while waiting:
        path, inside, above = waiting.pop()
        try:
            stat = os.stat(path)  # noqa: PTH116 (strings throughout: there may be very many)
            me = (stat.st_dev, stat.st_ino)
            if me in above:
                continue
            visits[me] += 1
            if visits[me] > MOST_VISITS:
                raise Problem(
                    f"{path}: more than {MOST_VISITS} links lead to this folder",
                    "each way to it would be read",
                    "remove some of them",
                )
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or inside + entry.name == OURS:
                        continue
                    if entry.is_dir():
                        folders.append(f"{inside}{entry.name}/")
                        waiting.append((entry.path, folders[-1], above | {me}))
                    elif why := unread(entry, inside + entry.name):
                        found.unread[inside + entry.name] = why
                    else:
                        (companions if ending(entry.name) in COMPANIONS else shapes).append(inside + entry.name)
        except OSError as error:
            raise Problem(
                f"{path}: cannot be read", error.strerror or str(error), "ask its owner, or move it away"
            ) from None
    return Listing(
        tuple(sorted(shapes)), dict(sorted(found.unread.items())), tuple(sorted(companions)), tuple(sorted(folders))
    )


def unread(entry: os.DirEntry[str], name: str) -> str:
    """Why a file is not read; empty for one that is, or that is no shape."""
    kind = ending(entry.name)
    if kind not in clouds.ENDINGS and kind not in COMPANIONS:
        return f"files that end in {kind} are not read: convert it, or unpack it"
    if not entry.is_file():
        return "is a link that leads nowhere" if entry.is_symlink() else "is no regular file"
    if kind in clouds.ENDINGS and not name.isascii() and shown(name) != name:
        return "its name is not UTF-8: rename it"
    return ""


def ending(name: str) -> str:
    """The last ending in lower case, and "" where there is none. `.ply.gz` is `.gz`, for it has to be unpacked."""
    at = name.rfind(".")
    return name[at:].lower() if at > 0 else ""


def shown(name: str) -> str:
    """A name that can be printed and stored: bytes that are not UTF-8 are written as `\\xff`."""
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a pair, from a text that is no file's name
        return name.encode("utf-8", "backslashreplace").decode()
