"""What a data set's lists and files say about themselves: hashes against known ones, repeats, overlaps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from jepa3d.problem import Problem

Item = TypeVar("Item")
CHUNK = 1 << 20


def md5(path: Path) -> str:
    """The md5 of a file: what the publishers of these data sets give. No protection, a check for identity."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while block := file.read(CHUNK):
                digest.update(block)
    except OSError as error:
        raise Problem(f"{path}: cannot be read", error.strerror or str(error)) from None
    return digest.hexdigest()


def hashes(files: Iterable[Path], known: Mapping[str, str]) -> dict[str, str]:
    """Per file name: `known` (the published bytes), `differs`, or `unknown` where no hash is published."""
    found = {}
    for path in files:
        published = known.get(path.name)
        found[path.name] = "unknown" if published is None else "known" if md5(path) == published else "differs"
    return found


def lists(named: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Counts, names that occur twice in one list, and names that two lists share."""
    sets = {name: set(entries) for name, entries in named.items()}
    return {
        "counts": {name: len(entries) for name, entries in named.items()},
        "repeats": {name: len(entries) - len(sets[name]) for name, entries in named.items()},
        "overlaps": {f"{a} & {b}": len(sets[a] & sets[b]) for a, b in combinations(named, 2)},
    }


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly spaced over the whole."""
    if len(items) <= count:
        return list(items)
    return [items[position * len(items) // count] for position in range(count)]
