"""Where a data set's raw files are: `root:` of params.yaml, and the layouts that are found under it by themselves."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jepa3d.problem import Problem

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MISSING = 0.01  # a copy that lacks more of its listed files than this, and more than a few, is not complete
FEW = 100
VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")


class Located(NamedTuple):
    """One copy of a data set: the name of its layout, its folder, and the small files that tell it from another."""

    layout: str
    folder: Path
    lists: tuple[Path, ...] = ()  # list files and the like: hashed into SOURCE.json


def expand(root: str, where: str = "root") -> Path:
    """The absolute path that a `root:` names: `~` and ${VARIABLES} expanded. An unset variable is a Problem."""
    for name in VARIABLE.findall(root):
        if not os.environ.get(name):
            raise Problem(
                f"{where}: the environment variable {name} is not set", f"root: {root}", f"export {name}=FOLDER"
            )
    try:
        return Path(os.path.expandvars(root)).expanduser().absolute()
    except RuntimeError as error:  # ~somebody whom this machine does not know
        raise Problem(f"{where}: {root}: no such home folder", str(error), "write the whole path") from None


def existing(root: str, where: str = "root") -> Path:
    """The same, and it exists and can be read."""
    path = expand(root, where)
    try:
        found = path.exists()
    except OSError as error:
        raise Problem(f"{where}: {str(path)[:200]}: cannot be looked at", error.strerror or str(error)) from None
    if not found:
        raise Problem(
            f"{where}: {path}: no such file or folder",
            f"params.yaml says root: {root}",
            "correct the path, mount the disk, or remove 'root:' to download the data",
        )
    if not os.access(path, os.R_OK):
        raise Problem(f"{where}: {path}: no permission to read", f"params.yaml says root: {root}", "ask its owner")
    return path


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES) and not path.is_dir()


def raw_folder(root: str | None, made: Path, where: str = "root") -> Path:
    """The folder to read: `root:` in place where it is a folder; else `made` (results/raw/<dataset>), which holds
    what was downloaded, or unpacked from a `root:` that is an archive."""
    if root is None:
        return made
    path = existing(root, where)
    return made if is_archive(path) else path


def has_files(raw: Path) -> bool:
    """Whether there is a file: `raw` itself, or any below it but what `download` writes beside the data."""
    ours = ("SOURCE.json", ".part", ".part.json")
    return raw.is_file() or any(path.is_file() and not path.name.endswith(ours) for path in raw.rglob("*"))


def find_layout(raw: Path, layouts: Mapping[str, Sequence[str]], folders: Iterable[str]) -> tuple[str, Path] | None:
    """The first layout whose files all exist, in `raw` itself or in one of the peers' `folders` under it.

    `layouts`: name -> paths or glob patterns that must exist. Order of both arguments is the order of preference.
    """
    places = [raw, *(raw / folder for folder in folders)]
    for name, marks in layouts.items():
        for place in places:
            if place.is_dir() and all(_exists(place, mark) for mark in marks):
                return name, place
    return None


def _exists(place: Path, mark: str) -> bool:
    if any(sign in mark for sign in "*?["):
        return next(place.glob(mark), None) is not None
    return (place / mark).exists()


def not_found(raw: Path, layouts: Mapping[str, Sequence[str]], folders: Iterable[str], mend: str) -> Problem:
    """Which files were looked for, where, and how to get them."""
    wanted = "; ".join(f"{name}: {', '.join(marks)}" for name, marks in layouts.items())
    places = ", ".join(dict.fromkeys([str(raw), *(str(raw / folder) for folder in folders)]))
    return Problem(f"{raw}: no layout that is known", f"looked for {wanted} - in {places}", mend)


def check_complete(files: Sequence[str]) -> None:
    """A copy that stopped half-way is a Problem; single missing files are set aside by whoever reads them."""
    present: dict[str, set[str]] = {}
    missing = []
    for path in files:
        folder, name = os.path.split(path)
        if folder not in present:
            present[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()  # noqa: PTH112, PTH208
        if name not in present[folder]:
            missing.append(path)
    if len(missing) == len(files) or len(missing) > max(FEW, MISSING * len(files)):
        raise Problem(
            f"{missing[0]}: no such file, and {len(missing) - 1:,} more of {len(files):,} listed ones are missing",
            "the copy is not complete",
            "complete it, or shorten the lists to what is there",
        )


def describe(value: Any) -> str:
    """One line of a foreign value, for a message."""
    return " ".join(repr(value).split())[:80]
