"""Which test shapes of one data set the train split of another holds, too: exactly, or as another draw of points."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from jepa3d.ops import near_copies
from jepa3d.ops.near_copies import Halves
from jepa3d.results import store

ROWS = 256  # shapes in memory at once
HELD = 512  # shapes of the train split whose halves are kept
SHOWN = 100  # copies that are listed


class Described(NamedTuple):
    """One split as its shapes come: what is needed to find candidates, a few hundred bytes a shape."""

    rows: NDArray[np.int64]
    ids: NDArray[Any]
    features: Float[np.ndarray, "n 129"]
    contents: list[bytes]


def overlap(test: Path, train: Path) -> dict[str, Any]:
    """How many test shapes of one canonical file are in the train split of another (or of the same).

    `exact`: with the same points, in any order; `near`: exact or near copies (ops/near_copies.py); `copies`: the first
    pairs with their ratio, 0 for exact ones. Time grows with the test shapes and, slowly, with the train split.
    """
    with store.open_h5(test) as one, store.open_h5(train) as two:
        ours, theirs = described(one, "test"), described(two, "train")
        copies = _copies(one, two, ours, theirs) if len(ours.rows) and len(theirs.rows) else []
    exact = {copy["test"] for copy in copies if copy["ratio"] == 0}
    near = {copy["test"] for copy in copies}
    return {
        "test": len(ours.rows), "train": len(theirs.rows), "exact": len(exact), "near": len(near),
        "ratio": near_copies.RATIO, "copies": sorted(copies, key=lambda copy: (copy["ratio"], copy["test"]))[:SHOWN],
    }  # fmt: skip


def described(file: Any, split: str) -> Described:
    rows = np.flatnonzero(store.text(file["split"]) == split)
    features, contents = [np.empty((0, 129), np.float32)], []
    for points in blocks(file["points"], rows):
        features.append(near_copies.features(near_copies.scaled(points)))
        contents += [content(cloud) for cloud in points]
    return Described(rows, store.text(file["id"])[rows], np.concatenate(features), contents)


def blocks(stored: Any, rows: NDArray[np.int64]) -> Iterator[Float[np.ndarray, "B P 3"]]:
    """The points of these rows, in their order, a part of the file at a time."""
    for start in range(0, len(stored), ROWS):
        inside = rows[(rows >= start) & (rows < start + ROWS)] - start
        if len(inside):
            yield stored[start : start + ROWS][inside]


def content(cloud: Float[np.ndarray, "P 3"]) -> bytes:
    """A digest of the points, whatever their order."""
    ordered = cloud[np.lexsort(cloud.T)]
    return hashlib.blake2b(np.ascontiguousarray(ordered).tobytes(), digest_size=16).digest()


def _copies(one: Any, two: Any, ours: Described, theirs: Described) -> list[dict[str, Any]]:
    """Every copy among the candidates; an exact one is found wherever it is."""
    known = {content: place for place, content in enumerate(theirs.contents)}

    @lru_cache(maxsize=HELD)
    def halves(place: int) -> Halves:
        return Halves(near_copies.scaled(two["points"][theirs.rows[place]][None])[0])

    found = []
    for place, near in enumerate(near_copies.candidates(ours.features, theirs.features)):
        test = str(ours.ids[place])
        if (same := known.get(ours.contents[place])) is not None:
            found.append({"test": test, "train": str(theirs.ids[same]), "ratio": 0.0})
            continue
        own = Halves(near_copies.scaled(one["points"][ours.rows[place]][None])[0])
        for other in map(int, near):
            ratio = near_copies.ratio(own, halves(other))
            if ratio <= near_copies.RATIO:
                found.append({"test": test, "train": str(theirs.ids[other]), "ratio": round(ratio, 3)})
    return found
