"""Canonical files for others: `to_numpy(path)` and `to_torch_dataset(path)`, and what is in them.

`jepa3d convert DATASET` writes results/canonical/DATASET.h5, readable by any HDF5 library (n shapes of P points):

    points    float32 [n, P, 3]    y up, finite, contiguous and uncompressed
    label     int64   [n]          index into `classes`; -1: unlabelled
    split     utf-8   [n]          "train" or "test"
    id        utf-8   [n]          unique
    part      int16   [n, P]       index into `parts`; -1: unlabelled. Only where the data set has parts

    attributes, each a JSON text: classes (names), parts (names), config (the entry of params.yaml: normalisation, up
    axis, sampling, seed), provenance (verb, settings, code, hashes of the inputs)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
import torch
from jaxtyping import Float32, Int16, Int64
from torch.utils.data import Dataset

from jepa3d.problem import Problem
from jepa3d.results import opened, store

Split = Literal["train", "test"]


class Clouds(NamedTuple):
    """A canonical file, or one split of it, in memory."""

    points: Float32[np.ndarray, "n P 3"]
    label: Int64[np.ndarray, "n"]
    part: Int16[np.ndarray, "n P"] | None
    split: np.ndarray[Any, Any]  # [n] of text
    id: np.ndarray[Any, Any]  # [n] of text
    classes: tuple[str, ...]
    parts: tuple[str, ...]


def to_numpy(path: str | Path, split: Split | None = None) -> Clouds:
    """Everything in memory. Raises a Problem for a file that is not one of ours."""
    with opened.canonical(Path(path)) as file:
        rows, names = chosen(file, Path(path), split), store.attributes(file)
        part = np.asarray(file["part"][:])[rows] if "part" in file else None
        points = np.asarray(file["points"][:])[rows]
        opened.check_points(points, Path(path))
        return Clouds(
            points,
            np.asarray(file["label"][:])[rows],
            part,
            opened.splits(file["split"])[rows],
            store.text(file["id"])[rows],
            tuple(names["classes"]),
            tuple(names["parts"]),
        )


def chosen(file: h5py.File, path: Path, split: Split | None) -> Int64[np.ndarray, "m"]:
    """The rows of a split, ascending."""
    if missing := {"points", "label", "split", "id"} - set(file):
        raise Problem(
            f"{path}: no canonical file", f"it has no {', '.join(sorted(missing))}", "jepa3d convert writes them"
        )
    splits = opened.splits(file["split"])
    rows = np.flatnonzero(splits == split) if split else np.arange(len(splits))
    if not len(rows):
        raise Problem(
            f"{path}: no {split} shapes", f"it has {', '.join(sorted(set(splits.tolist())))}", "choose another"
        )
    return rows


def to_torch_dataset(path: str | Path, split: Split | None = None) -> Shapes:
    """A map-style data set for `torch.utils.data.DataLoader`, read from the file as it is asked for.

    Items: points float32 [P, 3], label int64 [], id text, and part int64 [P] where there are parts.
    """
    return Shapes(Path(path), split)


class Shapes(Dataset[dict[str, Any]]):
    """One file, opened once in every process that reads it."""

    def __init__(self, path: Path, split: Split | None) -> None:
        self.path = path
        with opened.canonical(path) as file:
            self.rows = chosen(file, path, split)
            names = store.attributes(file)
            self.label, self.id = np.asarray(file["label"][:]), store.text(file["id"])
        self.classes, self.parts = tuple(names["classes"]), tuple(names["parts"])
        self._file: h5py.File | None = None
        self._process = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row, file = int(self.rows[index]), self._opened()
        item: dict[str, Any] = {
            "points": torch.from_numpy(file["points"][row]),
            "label": torch.tensor(self.label[row]),
            "id": str(self.id[row]),
        }
        if "part" in file:
            item["part"] = torch.from_numpy(file["part"][row].astype(np.int64))
        return item

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> h5py.File:
        """HDF5 handles do not survive a fork: a worker opens its own."""
        if self._file is None or self._process != os.getpid():
            self._file, self._process = h5py.File(self.path, "r", locking=False), os.getpid()
        return self._file
