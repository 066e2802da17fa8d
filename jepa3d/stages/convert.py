"""convert: the raw files of one data set -> results/canonical/<dataset>.h5, and an audit of what was found.

The canonical file, the same for every data set (n shapes of P points, y up, in the plugin's order):

    points    float32 [n, P, 3]   contiguous, uncompressed, finite
    label     int64 [n]           index into `classes`; -1: unlabelled
    split     utf-8 [n]           "train" or "test"
    id        utf-8 [n]           unique
    part      int16 [n, P]        index into `parts`, -1: not labelled; only where the data set has parts

    attributes, as JSON: classes [names], parts [names], config (the entry of params.yaml), provenance (store.stamp)

The audit, <dataset>.audit.json, has the counts per split and class, the bounds, and every shape that was set aside
with the reason. Both appear together, when both are complete; work that was finished before stays until then.
Shapes go through a file beside the result, so the memory does not grow with the data set.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from jepa3d import config, plugins, store
from jepa3d.datasets import SetAside, Shape
from jepa3d.foreign import roots
from jepa3d.layout import Layout
from jepa3d.problem import Problem

BLOCK = 16 << 20  # bytes that are copied at once


def convert(params: config.Params, layout: Layout, dataset: str) -> None:
    """Convert one data set. Raises a Problem, and leaves what was there, when the data cannot be used."""
    settings = params.dataset(dataset)
    plugin = plugins.find("datasets", settings.kind)
    if not layout.source(dataset).exists():
        raise store.unreadable(layout.source(dataset), FileNotFoundError())
    raw = roots.raw_folder(settings.root, layout.raw(dataset), f"datasets.{dataset}.root")
    classes, parts = plugin.classes(raw, settings), plugin.parts(raw, settings)
    provenance = store.stamp("convert", config.slice_of(settings), [layout.source(dataset)])
    target = layout.canonical(dataset)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{dataset}.", suffix=".tmp", dir=target.parent) as spool:
        found = collect(plugin.read(raw, settings), Path(spool), classes, parts, settings.strict, dataset)
        check_whole(found, classes, dataset)
        with store.replacing(layout.audit(dataset)) as audit:
            with store.create_h5(target, provenance) as file:
                for name, value in (("classes", classes), ("parts", parts), ("config", config.slice_of(settings))):
                    file.attrs[name] = json.dumps(value)
                found.copy_into(file)
                store.put(file, "label", np.array(found.label, np.int64))
                store.put(file, "split", found.split)
                store.put(file, "id", found.id)
            summary = {"dataset": dataset, **found.summary(classes), "provenance": provenance}
            audit.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")


@dataclass
class Found:
    """What has been read: points and parts in two files, the little that each shape adds in memory."""

    spool: Path
    has_parts: bool
    points: int = 0  # P
    label: list[int] = field(default_factory=list)
    split: list[str] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    aside: list[SetAside] = field(default_factory=list)
    low: NDArray[np.float32] = field(default_factory=lambda: np.full(3, np.inf, np.float32))
    high: NDArray[np.float32] = field(default_factory=lambda: np.full(3, -np.inf, np.float32))

    def copy_into(self, file: Any) -> None:
        """The spooled points and parts as contiguous datasets, block by block."""
        layouts: list[tuple[str, Any, tuple[int, ...]]] = [("points", np.float32, (self.points, 3))]
        if self.has_parts:
            layouts.append(("part", np.int16, (self.points,)))
        for name, dtype, shape in layouts:
            dataset = file.create_dataset(name, (len(self.id), *shape), dtype)
            rows = max(1, BLOCK // (int(np.prod(shape)) * np.dtype(dtype).itemsize))
            with (self.spool / name).open("rb") as source:
                for start in range(0, len(self.id), rows):
                    block = np.empty((min(rows, len(self.id) - start), *shape), dtype)
                    source.readinto(block)
                    dataset[start : start + len(block)] = block

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
            "bounds": {"low": self.low.tolist(), "high": self.high.tolist()},
            "set_aside": [entry._asdict() for entry in self.aside],
        }


def collect(
    shapes: Iterable[Shape | SetAside],
    spool: Path,
    classes: Sequence[str],
    parts: Sequence[str],
    strict: bool,
    dataset: str,
) -> Found:
    """Write points and parts of all shapes into `spool`; check each shape against the contract of the plugins."""
    found = Found(spool, bool(parts))
    seen: set[str] = set()
    with (spool / "points").open("wb", BLOCK) as points, (spool / "part").open("wb", BLOCK) as part:
        for shape in shapes:
            if isinstance(shape, Shape):
                low, high = shape.points.min(0), shape.points.max(0)
                why = damage(low, high)
                if not why:
                    check_shape(shape, found.points, seen, classes, dataset)
                    with writing(spool):
                        add(found, shape, low, high, points, part)
                    continue
                shape = SetAside(shape.id, why)
            if strict:
                raise Problem(
                    f"{dataset}: {shape.id} cannot be used",
                    shape.why,
                    "mend or remove it, or take 'strict: true' away to set such shapes aside",
                )
            found.aside.append(shape)
        with writing(spool):
            points.flush()
            part.flush()
    return found


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """A full disk while spooling is the user's to mend; an error of reading is the plugin's to explain."""
    try:
        yield
    except OSError as error:
        raise store.unwritable(path, error) from error


def damage(low: NDArray[np.float32], high: NDArray[np.float32]) -> str:
    """Why a cloud with these bounds is none; empty for a good one. NaN shows in any minimum."""
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return "has NaN or infinite coordinates"
    return "all its points are the same" if (low == high).all() else ""


def add(
    found: Found, shape: Shape, low: NDArray[np.float32], high: NDArray[np.float32], points: IO[bytes], part: IO[bytes]
) -> None:
    """One good shape into the spool."""
    points.write(np.ascontiguousarray(shape.points, np.float32).data)
    if found.has_parts:
        none = np.full(len(shape.points), -1, np.int16)
        part.write(np.ascontiguousarray(none if shape.part is None else shape.part, np.int16).data)
    found.points = len(shape.points)
    found.label.append(int(shape.label))
    found.split.append(shape.split)
    found.id.append(shape.id)
    np.minimum(found.low, low, out=found.low)
    np.maximum(found.high, high, out=found.high)


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


def check_whole(found: Found, classes: Sequence[str], dataset: str) -> None:
    """What only shows at the end: nothing usable, or a class that only one split has."""
    if not found.id:
        reasons = "; ".join(f"{entry.id}: {entry.why}" for entry in found.aside[:3])
        raise Problem(
            f"{dataset}: no usable shape" + (f", all {len(found.aside)} are damaged" if found.aside else ""),
            reasons or "the raw folder has none",
            "check that 'root:' is the right folder and that its files are whole",
        )
    train, test = (
        {label for label, of in zip(found.label, found.split, strict=True) if of == split and label >= 0}
        for split in ("train", "test")
    )
    if not (train and test and train != test):
        return
    label = min(train ^ test)
    has, lacks = ("train", "test") if label in train else ("test", "train")
    lost = f" ({len(found.aside)} shapes were set aside, among them {found.aside[0].id})" if found.aside else ""
    raise Problem(
        f"{dataset}: the class '{classes[label]}' is in {has} only",
        f"there is no shape of it in {lacks}{lost}, and no classifier could be judged on it",
        f"add shapes of '{classes[label]}' to {lacks}, or remove the class",
    )
