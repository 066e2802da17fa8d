"""Every file below a folder, behind links as well: a part of results/ may lie on another disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files(folder: Path) -> Iterator[Path]:
    """The regular files below a folder, in order, by the path that leads to them; a circle of links is entered once."""
    yield from _files(folder, ())


def _files(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    try:
        here = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # none, a dangling link, or gone meanwhile
        return
    known = (here.st_dev, here.st_ino)
    if known in above:
        return
    for entry in entries:
        path = folder / entry.name
        if path.is_dir():
            yield from _files(path, (*above, known))
        elif path.is_file():
            yield path
