"""convert: the raw files of one data set -> results/canonical/<dataset>.h5, and an audit of what was found.

The canonical file, the same for every data set (n shapes of P points, y up, in the plugin's order):

    points    float32 [n, P, 3]   contiguous, uncompressed, finite
    label     int64 [n]           index into `classes`; -1: unlabelled
    split     utf-8 [n]           "train" or "test"
    id        utf-8 [n]           unique
    part      int16 [n, P]        index into `parts`, -1: not labelled; only where the data set has parts

    attributes, as JSON: classes [names], parts [names], config (the entry of params.yaml), provenance (its stamp)

The audit, <dataset>.audit.json, has the counts per split and class, the bounds, and every shape that was set aside
with the reason; where the split came from (`split_from`) and what was passed over; `findings` is what else the
plugin's own `audit(raw, config)` says, where it has one. The same is printed at the end.

`--overlap SOURCE` audits a pair of data sets that are converted already: <dataset>.overlap/<source>.json says how many
test shapes are in the train split of SOURCE, too (results/overlap.py).

Both appear together, when both are complete; work that was finished before stays until then. Shapes are written as
they come, so the memory does not grow with the data set. A plugin that has `count(raw, config)`, the number of shapes
if none is damaged, saves a copy of the file: contiguous arrays must know their length beforehand.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from jepa3d import datasets, plugins
from jepa3d.datasets import SetAside, Shape
from jepa3d.formats import listing, roots
from jepa3d.graph import Graph
from jepa3d.layout import Layout
from jepa3d.params import Params, slice_of
from jepa3d.problem import Problem
from jepa3d.results import account, store

BLOCK = 8 << 20  # bytes that are written at once


def convert(params: Params, layout: Layout, dataset: str) -> None:
    """Convert one data set. Raises a Problem, and leaves what was there, when the data cannot be used."""
    settings = params.dataset(dataset)
    plugin: datasets.Plugin[Any] = plugins.find(datasets, settings.kind)
    if not layout.source(dataset).exists():
        raise store.unreadable(layout.source(dataset), FileNotFoundError())
    raw = roots.raw_folder(settings.root, layout.raw(dataset), f"datasets.{dataset}.root")
    reader = plugin.surveyed(raw, settings)
    classes, parts = reader.classes(raw, settings), reader.parts(raw, settings)
    expected = reader.count(raw, settings)
    job = Graph(params, layout).job("convert", dataset)
    stamp = store.stamp(job.verb, job.settings, job.reads)
    target = layout.canonical(dataset)
    with (
        store.replacing(layout.audit(dataset), stamp) as audit,
        tempfile.TemporaryDirectory(prefix=f".{dataset}.", suffix=".tmp", dir=target.parent) as folder,
    ):
        path, whole = Path(folder) / "draft.h5", Path(folder) / "whole.h5"
        with store.create_h5(path, stamp, draft=True) as file:
            for name, value in (("classes", classes), ("parts", parts), ("config", slice_of(settings))):
                file.attrs[name] = json.dumps(value)
            draft = Draft(file, bool(parts), expected)
            collect(reader.read(raw, settings), draft, classes, settings.strict, dataset)
            check_whole(draft, classes, dataset)
            draft.finish()
        if len(draft.id) != expected:
            compact(path, whole, stamp)
        summary = {"dataset": dataset, **draft.summary(classes), **findings(reader.audit(raw, settings), settings.kind)}
        text = json.dumps({**summary, "provenance": stamp}, indent=2, allow_nan=False)
        audit.write_text(text + "\n", encoding="utf-8")
        with store.replacing(target, stamp) as temporary:
            (path if len(draft.id) == expected else whole).replace(temporary)
    print("\n".join(account.page(summary)), file=sys.stderr)


def overlap(params: Params, layout: Layout, dataset: str, source: str) -> None:
    """Which test shapes of a converted data set are in the train split of another, or in its own: exactly, or as
    another draw of points. Writes <dataset>.overlap/<source>.json and prints the counts."""
    from jepa3d.results import overlap as audits  # only now: it imports torch

    job = Graph(params, layout).job("convert", dataset, source)
    found = audits.overlap(layout.canonical(dataset), layout.canonical(source))
    store.write_json(job.writes[0], found, store.stamp(job.verb, job.settings, job.reads, store.recorded))
    where = "its own train split" if dataset == source else f"the train split of {source}"
    said = f"{found['near']} of {found['test']} test shapes are in {where}, too ({found['exact']} of them exactly)"
    print(f"{dataset}: {said}", file=sys.stderr)


def findings(audit: dict[str, Any], kind: str) -> dict[str, Any]:
    """What the plugin's own audit adds: where the split came from, what was passed over, and the rest of it."""
    rest = {key: value for key, value in audit.items() if key not in ("split_from", "passed_over", "expected")}
    origin = {
        "split_from": audit.get("split_from", f"the kind '{kind}' itself"),
        "passed_over": audit.get("passed_over", {}),
    }
    return {**origin, "findings": rest} if rest else origin  # instead of what was expected, it is known what was read


@dataclass
class Draft:
    """Points and parts go to the file block by block, the little else that each shape has to memory."""

    file: Any  # the open HDF5 file
    has_parts: bool
    expected: int | None  # shapes; None: not known, the arrays grow
    points: int = 0  # P, once there is a shape
    block: dict[str, NDArray[Any]] = field(default_factory=dict)
    label: list[int] = field(default_factory=list)
    split: list[str] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    aside: list[SetAside] = field(default_factory=list)
    missing: dict[str, int] = field(default_factory=dict)  # by id: points of the file without coordinates
    low: Any = np.inf  # [P, 3] each: the extremes over all shapes of the first point, the second ...
    high: Any = -np.inf

    def add(self, shape: Shape) -> None:
        if not self.block:
            self._begin(len(shape.points))
        row = len(self.id) % len(self.block["points"])
        self.block["points"][row] = shape.points
        if self.has_parts:
            self.block["part"][row] = -1 if shape.part is None else shape.part
        self.label.append(int(shape.label))
        self.split.append(shape.split)
        self.id.append(shape.id)
        if shape.missing:
            self.missing[shape.id] = shape.missing
        if row + 1 == len(self.block["points"]):
            self._write(row + 1)

    def finish(self) -> None:
        """The last rows, and what was kept in memory."""
        self._write(len(self.id) % len(self.block["points"]))
        self.block.clear()
        store.put(self.file, "label", np.array(self.label, np.int64))
        store.put(self.file, "split", self.split)
        store.put(self.file, "id", self.id)

    def _begin(self, points: int) -> None:
        self.points = points
        rows = max(1, BLOCK // (points * 12))
        shapes = {"points": ((points, 3), np.float32), "part": ((points,), np.int16)}
        for name in ("points", "part") if self.has_parts else ("points",):
            shape, dtype = shapes[name]
            self.block[name] = np.empty((rows, *shape), dtype)
            if self.expected is None:
                self.file.create_dataset(name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(rows, *shape))
            else:
                self.file.create_dataset(name, (self.expected, *shape), dtype)

    def _write(self, rows: int) -> None:
        """The first rows of the block, which are the last ones that were added."""
        start, end = len(self.id) - rows, len(self.id)
        points = self.block["points"][:rows]
        self.low = np.minimum(self.low, points.min(0, initial=np.inf))
        self.high = np.maximum(self.high, points.max(0, initial=-np.inf))
        for name, block in self.block.items():
            if self.expected is None:
                self.file[name].resize(end, axis=0)
            if rows:
                self.file[name][start:end] = block[:rows]
                store.begin_flush(self.file[name], start, end)

    def summary(self, classes: Sequence[str]) -> dict[str, Any]:
        """The audit: counts, bounds, and what was set aside."""
        per_class = Counter(zip(self.label, self.split, strict=True))
        return {
            "shapes": len(self.id),
            "points": self.points,
            "splits": {split: self.split.count(split) for split in ("train", "test")},
            "classes": {
                name: {split: per_class[label, split] for split in ("train", "test")}
                for label, name in enumerate(classes)
            },
            "unlabelled": self.label.count(-1),
            "bounds": {"low": self.low.min(0).tolist(), "high": self.high.max(0).tolist()},
            "set_aside": [entry.record() for entry in self.aside],
            **({"without_coordinates": self.missing} if self.missing else {}),
        }


def compact(draft: Path, whole: Path, provenance: dict[str, Any]) -> None:
    """The draft again with contiguous arrays of the length that was found, block by block."""
    with store.open_h5(draft) as source, store.create_h5(whole, provenance, draft=True) as file:
        for name in source.attrs:
            file.attrs[name] = source.attrs[name]
        count = len(source["id"])
        for name, data in source.items():
            if name not in ("points", "part"):
                source.copy(data, file)
                continue
            target = file.create_dataset(name, (count, *data.shape[1:]), data.dtype)
            rows = max(1, BLOCK // (target[:1].nbytes))
            for start in range(0, count, rows):
                target[start : start + rows] = data[start : min(start + rows, count)]


def collect(
    shapes: Iterable[Shape | SetAside], draft: Draft, classes: Sequence[str], strict: bool, dataset: str
) -> None:
    """Add every shape to the draft; check each against the contract of the plugins."""
    seen: set[str] = set()
    for shape in reading(shapes, dataset):
        if isinstance(shape, Shape):
            why = damage(shape.points) or ("" if shape.id.isascii() else unprintable(shape.id))
            if not why:
                check_shape(shape, draft.points, seen, classes, dataset)
                draft.add(shape)
                continue
            shape = SetAside(shape.id, why)
        shape = shape._replace(id=listing.shown(shape.id), why=listing.shown(shape.why))
        if strict and not shape.meant:
            raise Problem(
                f"{dataset}: {shape.id} cannot be used",
                shape.why,
                "mend or remove it, or take 'strict: true' away to set such shapes aside",
            )
        draft.aside.append(shape)


class PluginError(Exception):
    """An error inside a data set's plugin: a bug, with its traceback, not a mistake of the user."""


def reading(shapes: Iterable[Shape | SetAside], dataset: str) -> Iterator[Shape | SetAside]:
    """The same shapes. Errors of reading are kept apart from errors of writing, which happen between them."""
    try:
        yield from shapes
    except BrokenProcessPool as error:
        raise Problem(
            f"{dataset}: a worker process died", "most often the memory was used up", "use fewer with --threads"
        ) from error
    except OSError as error:
        raise Problem(
            f"{dataset}: the raw files cannot be read", str(error), "check the disk and give it again"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise PluginError(f"{dataset}: {error}") from error


def unprintable(id: str) -> str:
    """Why an id cannot be stored as text; empty for one that can."""
    return "" if listing.shown(id) == id else "its name is not UTF-8: rename it"


def damage(points: Float32[np.ndarray, "P 3"]) -> str:
    """Why a cloud is none; empty for a good one. NaN shows in any minimum."""
    flat = points.reshape(-1)
    if not (isfinite(np.minimum.reduce(flat)) and isfinite(np.maximum.reduce(flat))):
        return "has NaN or infinite coordinates"
    same = (points[0] == points[-1]).all() and (points == points[0]).all()
    return "all its points are the same" if same else ""


def check_shape(shape: Shape, points: int, seen: set[str], classes: Sequence[str], dataset: str) -> None:
    """Equal sizes, ids that occur once, labels that have a name. `points`: those of the first shape; 0 before it."""
    if points and len(shape.points) != points:
        raise Problem(
            f"{dataset}: {shape.id} has {len(shape.points)} points, the shapes before it have {points}",
            "all shapes of one data set have the same number of points",
            "set 'points:' to a number that every shape has",
        )
    if shape.id in seen:
        raise Problem(
            f"{dataset}: the id '{shape.id}' occurs twice",
            "every shape needs an id of its own",
            "rename one of them, or remove the copy",
        )
    seen.add(shape.id)
    if not -1 <= shape.label < len(classes):
        raise Problem(
            f"{dataset}: {shape.id} has label {shape.label}",
            f"there are {len(classes)} classes, so labels go from 0 to {len(classes) - 1}"
            if classes
            else "the data set has no classes",
            "correct the label, or the list of classes",
        )


def check_whole(draft: Draft, classes: Sequence[str], dataset: str) -> None:
    """What only shows at the end: nothing usable, or a class that only one split has."""
    if not draft.id:
        reasons = "; ".join(f"{entry.id}: {entry.why}" for entry in draft.aside[:3])
        raise Problem(
            f"{dataset}: no usable shape" + (f", all {len(draft.aside)} are damaged" if draft.aside else ""),
            reasons or "the raw folder has none",
            "check that 'root:' is the right folder and that its files are whole",
        )
    train, test = (
        {label for label, of in zip(draft.label, draft.split, strict=True) if of == split and label >= 0}
        for split in ("train", "test")
    )
    if not (train and test and train != test):
        return
    label = min(train ^ test)
    has, lacks = ("train", "test") if label in train else ("test", "train")
    lost = f" ({len(draft.aside)} shapes were set aside, among them {draft.aside[0].id})" if draft.aside else ""
    raise Problem(
        f"{dataset}: the class '{classes[label]}' is in {has} only",
        f"there is no shape of it in {lacks}{lost}, and no classifier could be judged on it",
        f"add shapes of '{classes[label]}' to {lacks}, or remove the class",
    )
