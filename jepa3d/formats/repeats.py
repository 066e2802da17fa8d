"""Which shapes have the same content, byte for byte: a test shape that is trained on, a shape of two classes."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PIECE = 256  # bytes from the middle of a file: most files differ there
SHOWN = 100  # of each kind, by name


class About(NamedTuple):
    split: str
    label: int


class Seen:
    """Contents as they come, by their hash."""

    def __init__(self) -> None:
        self.ids: defaultdict[bytes, list[str]] = defaultdict(list)

    def add(self, id: str, content: bytes) -> None:
        self.ids[hashlib.blake2b(content, digest_size=16).digest()].append(id)

    def groups(self) -> Iterator[list[str]]:
        return (ids for ids in self.ids.values() if len(ids) > 1)


def of_files(paths: Mapping[str, str]) -> list[list[str]]:
    """The ids of files with the same bytes. Only those that agree in size and in a piece are read whole."""
    groups = [list(paths)]
    for key in (_size, _piece, _whole):
        groups = [part for group in groups for part in _parted(group, paths, key) if len(part) > 1]
    return groups


def _parted(ids: Sequence[str], paths: Mapping[str, str], key: Callable[[str], Hashable]) -> Iterable[list[str]]:
    found: defaultdict[Hashable, list[str]] = defaultdict(list)
    for id in ids:
        try:
            found[key(paths[id])].append(id)
        except OSError:  # whoever reads it says so
            continue
    return found.values()


def _size(path: str) -> int:
    return os.stat(path).st_size  # noqa: PTH116 (a Path costs as much as what is done with it: there may be very many)


def _piece(path: str) -> bytes:
    handle = os.open(path, os.O_RDONLY)
    try:
        return os.pread(handle, PIECE, os.fstat(handle).st_size // 2)
    finally:
        os.close(handle)


def _whole(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def told(groups: Iterable[Sequence[str]], about: Mapping[str, About]) -> dict[str, Any]:
    """For the audit: how many shapes of both splits, and of two classes, have the same content, and the first ones."""
    both: list[list[str]] = []
    classes: list[list[str]] = []
    for group in groups:
        if len({about[id].split for id in group}) > 1:
            both.append(sorted(group))
        if len({about[id].label for id in group}) > 1:
            classes.append(sorted(group))
    found: dict[str, Any] = {}
    for key, listed in (("in_both_splits", sorted(both)), ("in_two_classes", sorted(classes))):
        found[key] = {"contents": len(listed), "shapes": sum(map(len, listed)), "first": listed[:SHOWN]}
    return found
