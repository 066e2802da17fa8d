"""Resume states: the folder of a training under results/.state/, what is set aside in it, and what is dropped.

The state of other settings or data may be days of work, so it is set aside under a name of its own, `aside-1`,
`aside-2`, and so on, which only `jepa3d tidy` removes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

EVALS = "evals"  # in a run's folder: the states of its evaluations


def set_aside(state: Path) -> Path:
    """Move the files of a state into a folder of their own beside them, and return it. Its subfolders stay."""
    aside = next(path for number in count(1) if not (path := state / f"aside-{number}").exists())
    aside.mkdir()
    for path in sorted(state.iterdir()):
        if path.is_file():
            path.rename(aside / path.name)
    return aside


def is_aside(path: Path) -> bool:
    """Whether a folder is one of `set_aside`."""
    word, _, number = path.name.partition("-")
    return word == "aside" and number.isdecimal() and path.is_dir()


def drop(state: Path) -> None:
    """Remove a state that has done its work; what was set aside, and the states of evaluations, stay."""
    for path in files(state):
        with contextlib.suppress(OSError):  # its processes may still be ending
            path.unlink()
    for folder, _, _ in os.walk(state, topdown=False):
        with contextlib.suppress(OSError):  # not empty
            Path(folder).rmdir()


def files(state: Path) -> list[Path]:
    """The files of a state, without those that `drop` leaves."""

    def within(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if not path.is_dir() or path.is_symlink():
                yield path
            elif path.name != EVALS and not is_aside(path):
                yield from within(path)

    return list(within(state))
