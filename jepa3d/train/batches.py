"""Shapes -> batches, by (seed, epoch, index): held in RAM, or with `fit.stream: true` streamed from HDF5.

The training stream is the endless concatenation of one permutation an epoch, cut into batches, so every shape comes
once an epoch and the batch of any step is known without having seen the steps before it.

What is streamed goes in *lanes*: each batch has the same number of shapes of every lane, each lane reads its own part
of the epoch, and a rank serves the lanes of its part of the batch. So a rank reads its share of the disk, and the batch
of a step is the same whether one rank serves all lanes or each lane has a rank of its own. Lanes and windows follow
from the batch: neither the memory of a machine nor the number of ranks changes the order of the shapes.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from jepa3d.nets.patches import Patches, make_patches, patchify
from jepa3d.ops.augment import augment, resample
from jepa3d.ops.draws import shape_keys, uniform
from jepa3d.params import Augment, Execution, Fit, Level, Scheme
from jepa3d.problem import Problem
from jepa3d.results import opened, store
from jepa3d.seeds import derive
from jepa3d.train.distributed import ALONE, World

BLOCK = 64  # consecutive shapes that are read together from the disk
TEXTS = 1 << 16  # words read at once: as Python objects, ten million would take a gigabyte
LANES = 16  # the most that a streamed set has
WINDOW = 512  # blocks that are mixed at a time, all lanes together: 32,768 shapes, 0.5 GB of the document's

Rows = NDArray[np.int64]


class Arrays(NamedTuple):
    """Some shapes, as they are stored: indices are uint16 until they are used."""

    points: NDArray[np.float32]  # [n, P, 3]
    centre: NDArray[np.uint16]  # [n, N]
    neighbour: NDArray[np.uint16]  # [n, N, K]
    label: NDArray[np.int64]  # [n]
    above: tuple[NDArray[np.uint16], ...] = ()  # centre and neighbour of each further level, over the one below

    @classmethod
    def of(cls, every: Iterable[NDArray[Any]]) -> Arrays:
        """From what `every` gives."""
        points, centre, neighbour, label, *above = every
        return cls(points, centre, neighbour, label, tuple(above))

    def every(self) -> tuple[NDArray[Any], ...]:
        """All arrays, the further levels' last."""
        return (self.points, self.centre, self.neighbour, self.label, *self.above)


@dataclass
class Batch:
    """One batch on its device. `keys` name each (epoch, shape): every draw of a step is a function of them."""

    points: Float[Tensor, "B P 3"]
    centre: Int[Tensor, "B N"]
    neighbour: Int[Tensor, "B N K"]
    label: Int[Tensor, " B"]
    keys: Int[Tensor, " B"]
    live: Sequence[Level] = ()  # given: FPS and KNN of these levels are recomputed, after augmentation
    above: Sequence[Int[Tensor, "B ..."]] = ()  # as of Arrays

    def __len__(self) -> int:
        return len(self.points)

    def patches(self) -> Patches:
        if self.live:
            return patchify(self.points, *self.live)
        above = list(zip(self.above[::2], self.above[1::2], strict=True))
        return make_patches(self.points, self.centre, self.neighbour, above)

    def uniform(self, purpose: str, *count: int) -> Float[Tensor, "B *count"]:
        """Uniform numbers for each shape that nothing but (seed, epoch, shape, purpose) decides."""
        return uniform(self.keys, purpose, *count)


@runtime_checkable
class Shapes(Protocol):
    """Shapes by number."""

    def __len__(self) -> int: ...

    def rows(self, index: Rows) -> Arrays: ...


@runtime_checkable
class Source(Shapes, Protocol):
    """Shapes by number, and the endless stream in which training goes through them."""

    def members(self, seed: int, start: int, stop: int) -> tuple[Rows, Rows]:
        """Epoch and number of the shapes at positions start..stop of the stream."""
        ...


class Subset(NamedTuple):
    """Some rows of one data set, with its two files."""

    canonical: Path
    patches: Path
    rows: Rows
    whole: bool = False  # all stored points, without patches: of them `Batching.draw` takes some


class InMemory:
    """All shapes in RAM: one fancy index a batch."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self._epoch: tuple[int, int] | None = None
        self._order: Rows = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.arrays.points)

    def members(self, seed: int, start: int, stop: int) -> tuple[Rows, Rows]:
        """As of Source; one permutation an epoch."""
        epochs, index = [], []
        while start < stop:
            epoch, offset = divmod(start, len(self))
            end = min(len(self), offset + stop - start)
            index.append(self._permutation(seed, epoch)[offset:end])
            epochs.append(np.full(end - offset, epoch))
            start += end - offset
        return np.concatenate(epochs), np.concatenate(index)

    def rows(self, index: Rows) -> Arrays:
        return Arrays.of(array[index] for array in self.arrays.every())

    def _permutation(self, seed: int, epoch: int) -> Rows:
        if self._epoch != (seed, epoch):
            self._order = np.random.default_rng(derive(seed, "order", epoch)).permutation(len(self))
            self._epoch = (seed, epoch)
        return self._order


class Window(NamedTuple):
    """Some blocks of one lane's part of an epoch, which are in memory and shuffled together."""

    seed: int
    epoch: int
    lane: int
    number: int


class Pieces(NamedTuple):
    """Consecutive shapes of blocks: whole blocks, or where two lanes meet, one lane's part. In ascending order."""

    block: Rows
    start: Rows  # numbers of shapes
    stop: Rows

    def begins(self) -> Rows:
        """Where each piece begins when they stand one after the other, and the end of the last."""
        return np.concatenate([[0], np.cumsum(self.stop - self.start)])

    def find(self, index: Rows) -> tuple[NDArray[np.bool_], Rows]:
        """Which of some shapes are here, and their places when the pieces stand one after the other."""
        piece = np.maximum(np.searchsorted(self.start, index, side="right") - 1, 0)
        here = (self.start[piece] <= index) & (index < self.stop[piece])
        return here, self.begins()[piece] + index - self.start[piece]


class OnDisk:
    """Shapes on disk, by number: what is asked for is read, in blocks of 64."""

    def __init__(self, subsets: Sequence[Subset]) -> None:
        self.subsets = list(subsets)
        starts = [np.arange(0, len(subset.rows), BLOCK) for subset in self.subsets]
        sizes = [np.diff(np.append(start, len(own.rows))) for start, own in zip(starts, self.subsets, strict=True)]
        self.subset = np.repeat(np.arange(len(subsets)), [len(start) for start in starts])  # of each block
        self.offset = np.concatenate(starts)  # of each block in its subset
        self.firsts = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])  # the number of each block's first shape
        self.readers = [_Reader(subset) for subset in self.subsets]
        self.sample = self.readers[0].read(0, 1)

    def __len__(self) -> int:
        return int(self.firsts[-1])

    def rows(self, index: Rows) -> Arrays:
        block = np.unique(np.searchsorted(self.firsts, index, side="right") - 1)
        pieces = Pieces(block, self.firsts[block], self.firsts[block + 1])
        out = _empty(self.sample, len(index))
        _copy(out, np.arange(len(index)), self._read(pieces), pieces.find(index)[1])
        return out

    def _read(self, pieces: Pieces) -> Arrays:
        begins = pieces.begins()
        arrays = _empty(self.sample, int(begins[-1]))
        into: Any
        for at, block, start, stop in zip(begins, *pieces, strict=False):
            low = int(self.offset[block] + start - self.firsts[block])
            read = self.readers[self.subset[block]].read(low, low + int(stop - start))
            for into, array in zip(arrays.every(), read.every(), strict=True):
                into[at : at + len(array)] = array
        return arrays


class Lanes(NamedTuple):
    """How a streamed set is cut for a batch."""

    number: int
    run: int  # shapes that a lane gives to each batch
    window: int  # blocks that a lane mixes at a time

    @classmethod
    def of(cls, batch: int) -> Lanes:
        """As many lanes as divide the batch evenly, up to 16; the fewer there are, the wider are their windows."""
        number = max(lanes for lanes in range(1, LANES + 1) if batch % lanes == 0)
        return cls(number, batch // number, WINDOW // number)

    @property
    def shapes(self) -> int:
        """The most shapes that are in memory: a batch may take from two windows of each lane."""
        return 2 * self.number * self.window * BLOCK


class Streamed(OnDisk):
    """Shapes on disk: blocks of 64 are read whole, in a shuffled order, and shuffled among those of a lane's window.

    An epoch is a random order of all blocks, cut into one consecutive part for each lane, whose lengths are what the
    lane has to give in this epoch: so every shape comes once an epoch, exactly, and is read once, by one lane. Memory
    holds a window a lane that is served, and a second one while a batch takes from both. The order is a function of
    (seed, epoch) and the lanes; not of memory, and not of the ranks.
    """

    def __init__(self, subsets: Sequence[Subset], lanes: Lanes) -> None:
        super().__init__(subsets)
        self.lanes = lanes
        self._plan: tuple[tuple[int, int], Rows, Rows, Rows] | None = None
        self._wanted: dict[int, list[Window]] = {}  # the windows that each lane took from last
        self._shuffled: dict[Window, tuple[Pieces, Rows]] = {}
        self._held: dict[Window, Arrays] = {}

    def members(self, seed: int, start: int, stop: int) -> tuple[Rows, Rows]:
        """As of Source: the lanes take turns of `lanes.run` positions."""
        number, run, _ = self.lanes
        epochs, index = [], []
        served: dict[int, list[Window]] = {}
        while start < stop:
            epoch, lane = start // len(self), start // run % number
            end = min(stop, (start // run + 1) * run, (epoch + 1) * len(self))
            first = _given(start, lane, self.lanes) - _given(epoch * len(self), lane, self.lanes)
            for window, shapes in self._take(seed, epoch, lane, first, first + end - start):
                served.setdefault(lane, []).append(window)
                index.append(shapes)
            epochs.append(np.full(end - start, epoch))
            start = end
        self._wanted |= served
        return np.concatenate(epochs), np.concatenate(index)

    def rows(self, index: Rows) -> Arrays:
        windows = {window for wanted in self._wanted.values() for window in wanted}
        self._shuffled = {window: self._shuffled[window] for window in windows}  # let the old ones go
        self._held = {window: arrays for window, arrays in self._held.items() if window in windows}
        out = _empty(self.sample, len(index))
        left = np.arange(len(index))
        for window in windows:
            pieces, _ = self._shuffled[window]
            here, places = pieces.find(index[left])
            if here.any():
                if window not in self._held:
                    self._held[window] = self._read(pieces)
                _copy(out, left[here], self._held[window], places[here])
                left = left[~here]
        if len(left):  # not in the order of the stream
            _copy(out, left, super().rows(index[left]), np.arange(len(left)))
        return out

    def _take(self, seed: int, epoch: int, lane: int, start: int, stop: int) -> Iterator[tuple[Window, Rows]]:
        """The shapes at positions start..stop of a lane's part of an epoch, window by window."""
        _, begins, cuts = self._epoch(seed, epoch)
        low = int(cuts[lane])
        first = _block_at(begins, low)
        while start < stop:
            window = Window(seed, epoch, lane, (_block_at(begins, low + start) - first) // self.lanes.window)
            begin = max(low, int(begins[first + window.number * self.lanes.window]))
            shapes = self._in_order(window)[low + start - begin :][: stop - start]
            yield window, shapes
            start += len(shapes)

    def _epoch(self, seed: int, epoch: int) -> tuple[Rows, Rows, Rows]:
        """The blocks of an epoch in order [n], where each begins [n + 1], and where each lane does [lanes + 1]."""
        if self._plan is None or self._plan[0] != (seed, epoch):
            blocks = np.random.default_rng(derive(seed, "order", epoch)).permutation(len(self.offset))
            begins = np.concatenate([[0], np.cumsum(np.diff(self.firsts)[blocks])])
            given = [
                [_given(at * len(self), lane, self.lanes) for lane in range(self.lanes.number)]
                for at in (epoch, epoch + 1)
            ]
            cuts = np.concatenate([[0], np.cumsum(np.subtract(given[1], given[0]))])
            self._plan = ((seed, epoch), blocks, begins, cuts)
        return self._plan[1:]

    def _in_order(self, window: Window) -> Rows:
        """The shapes of a window in their random order."""
        if window not in self._shuffled:
            pieces = self._pieces(window)
            shapes = np.concatenate(
                [np.arange(start, stop) for start, stop in zip(pieces.start, pieces.stop, strict=True)]
            )
            purpose = ("window", window.epoch, window.lane, window.number)
            np.random.default_rng(derive(window.seed, *purpose)).shuffle(shapes)
            self._shuffled[window] = pieces, shapes
        return self._shuffled[window][1]

    def _pieces(self, window: Window) -> Pieces:
        """What a window has of each of its blocks."""
        blocks, begins, cuts = self._epoch(window.seed, window.epoch)
        low, high = int(cuts[window.lane]), int(cuts[window.lane + 1])
        first = _block_at(begins, low) + window.number * self.lanes.window
        at = np.arange(first, min(first + self.lanes.window, _block_at(begins, high - 1) + 1))
        chosen = blocks[at]
        start = np.maximum(low - begins[at], 0) + self.firsts[chosen]
        stop = np.minimum(high, begins[at + 1]) - begins[at] + self.firsts[chosen]
        ascending = np.argsort(chosen)
        return Pieces(chosen[ascending], start[ascending], stop[ascending])


def _empty(like: Arrays, count: int) -> Arrays:
    return Arrays.of(np.empty((count, *array.shape[1:]), array.dtype) for array in like.every())


def _copy(out: Arrays, at: Rows, source: Arrays, places: Rows) -> None:
    into: Any
    array: Any
    for into, array in zip(out.every(), source.every(), strict=True):
        into[at] = array[places]


def _block_at(begins: Rows, position: int) -> int:
    """The place in an epoch's order of the block that a position is in."""
    return int(np.searchsorted(begins, position, side="right")) - 1


def _given(position: int, lane: int, lanes: Lanes) -> int:
    """How many shapes a lane has given before a position of the stream, in which the lanes take turns."""
    rounds, rest = divmod(position, lanes.run * lanes.number)
    return rounds * lanes.run + min(max(rest - lane * lanes.run, 0), lanes.run)


def open_shapes(subsets: Sequence[Subset], memory: float) -> InMemory | OnDisk:
    """The shapes of several data sets, to be read by number; `memory` in bytes decides whether they are held."""
    needed = _bytes(subsets[0]) * sum(len(subset.rows) for subset in subsets)
    return _held(subsets) if needed <= memory else OnDisk(subsets)


def open_training(subsets: Sequence[Subset], fit: Fit, execution: Execution, where: str) -> InMemory | Streamed:
    """The shapes that a training goes through; `where` is its Fit in params.yaml, for messages.

    Raises a Problem for a set beyond the memory that there is for it: the order of the shapes is the same on every
    machine, so `fit.stream` alone decides it. One also for whole clouds of unequal sizes, which make no batch.
    """
    sizes = {_read(subset, 0, 1).points.shape[1]: subset for subset in subsets}
    if len(sizes) > 1:
        raise Problem(
            f"{where}: clouds of {' and '.join(map(str, sorted(sizes)))} points in one training",
            f"'sample: resample' draws from all points that are stored, and {max(sizes)} of them are in "
            f"{sizes[max(sizes)].canonical}",
            "convert the data sets with equally many points, or train on one of them",
        )
    shapes, per_shape = sum(len(subset.rows) for subset in subsets), _bytes(subsets[0])
    lanes = Lanes.of(fit.batch // fit.accumulate)
    needed = per_shape * (min(2 * shapes, lanes.shapes) if fit.stream else shapes)
    if needed > execution.memory:
        raise Problem(
            f"{where}: {shapes:,} shapes take {needed / 1e9:.2g} GB{' even when they are streamed' * fit.stream}",
            f"execution.memory_gb is {execution.memory_gb:g}",
            f"raise it to {math.ceil(needed / 1e7) / 100:g}" + ("" if fit.stream else f", or set {where}.stream: true"),
        )
    return Streamed(subsets, lanes) if fit.stream else _held(subsets)


def _bytes(subset: Subset) -> int:
    """What one shape of a subset takes."""
    return sum(array[0].nbytes for array in _read(subset, 0, 1).every())


def _held(subsets: Sequence[Subset]) -> InMemory:
    pieces = [_read(subset, 0, len(subset.rows)).every() for subset in subsets]
    return InMemory(Arrays.of(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))


def split_rows(canonical: Path, split: str | None) -> Rows:
    """The rows of one split of a canonical file (None: all of them)."""
    with opened.canonical(canonical) as file:
        splits = file["split"]
        if split is None:
            return np.arange(len(splits))
        starts = range(0, len(splits), TEXTS)
        pieces = [start + np.flatnonzero(opened.splits(splits, start, start + TEXTS) == split) for start in starts]
    return np.concatenate([np.empty(0, np.int64), *pieces])


def class_names(canonical: Path) -> list[str]:
    with opened.canonical(canonical) as file:
        names: list[str] = store.attributes(file)["classes"]
    return names


class _Reader:
    """The two open files of a subset. Opening costs more than reading a block, so a streamed set stays open."""

    def __init__(self, subset: Subset) -> None:
        self._open, self.subset = contextlib.ExitStack(), subset
        data = self._open.enter_context(opened.canonical(subset.canonical))
        patches = self._open.enter_context(opened.patches(subset.patches))
        self.rows, self.points, self.label = subset.rows, data["points"], data["label"]
        self.chosen = None if subset.whole else patches.get("point")
        names = [] if subset.whole else ["centre", "neighbour", *_names_above(patches)]
        self.indices = [patches[name] for name in names]
        if len(self.points) != len(patches["centre"]):
            count = len(patches["centre"])
            self.close()
            raise Problem(
                f"{subset.patches}: does not belong to {subset.canonical}",
                f"{count} shapes against {len(self.points)}",
                "run 'jepa3d patchify' again",
            )
        self.checked = np.zeros(len(self.rows), bool)

    def read(self, start: int, stop: int) -> Arrays:
        """The shapes start..stop of the subset: one contiguous read a file, then its rows and the chosen points."""
        rows = self.rows[start:stop]
        low, high = int(rows[0]), int(rows[-1]) + 1
        keep = slice(None) if high - low == len(rows) else rows - low
        points = self.points[low:high][keep]
        chosen = None if self.chosen is None else self.chosen[low:high][keep]
        label, *indices = (array[low:high][keep] for array in (self.label, *self.indices))
        if not self.checked[start:stop].all():
            self._check(points, chosen, indices)
            self.checked[start:stop] = True
        if chosen is not None:
            points = np.take_along_axis(points, chosen[:, :, None].astype(np.int64), 1)
        none = np.empty((len(rows), 0), np.uint16), np.empty((len(rows), 0, 0), np.uint16)
        centre, neighbour, *above = indices or none
        return Arrays(points, centre, neighbour, label, tuple(above))

    def _check(self, points: NDArray[np.float32], chosen: Any, indices: Sequence[NDArray[np.uint16]]) -> None:
        """What is read for the first time: finite points, and every index among the points or centres that it is of."""
        opened.check_points(points, self.subset.canonical)
        below = points.shape[1]
        if chosen is not None:
            opened.check_indices(chosen, below, self.subset.patches)
            below = chosen.shape[1]
        for centre, neighbour in zip(indices[::2], indices[1::2], strict=True):
            opened.check_indices(centre, below, self.subset.patches)
            opened.check_indices(neighbour, below, self.subset.patches)
            below = centre.shape[1]

    def close(self) -> None:
        self._open.close()


def _names_above(patches: Any) -> list[str]:
    """The arrays of a patch file's further levels, from fine to coarse."""
    levels = itertools.takewhile(lambda level: f"centre_{level}" in patches, itertools.count(1))
    return [f"{name}_{level}" for level in levels for name in ("centre", "neighbour")]


def _read(subset: Subset, start: int, stop: int) -> Arrays:
    with contextlib.closing(_Reader(subset)) as reader:
        return reader.read(start, stop)


@dataclass(frozen=True)
class Batching:
    """What a step's batch is: `batch` shapes over all ranks, in `accumulate` micro-batches, each shape augmented.

    `live`: FPS and KNN of these levels are computed after augmentation, instead of the cached indices being used.
    """

    batch: int
    augment: Augment
    live: Sequence[Level] = ()
    accumulate: int = 1
    draw: int | None = None  # points drawn anew for each (epoch, shape) from those of whole clouds

    @classmethod
    def of(cls, fit: Fit, augmentation: Augment, scheme: Scheme) -> Batching:
        """As a training's settings and its patch scheme have it."""
        draw = scheme.points if scheme.resampled else None
        return cls(fit.batch, augmentation, scheme.live_levels, fit.accumulate, draw)


class Stream:
    """The training stream of one run: `at(step)` is this rank's share of a step's batch, on a device, augmented."""

    def __init__(
        self,
        source: Source,
        batching: Batching,
        seed: int,
        device: torch.device | str = "cpu",
        world: World = ALONE,
    ) -> None:
        micro_batches, ranks = batching.accumulate, world.size
        if batching.batch % (micro_batches * ranks):
            raise Problem(
                f"fit.batch {batching.batch} cannot be cut into {ranks} ranks x {micro_batches} micro-batches",
                "each rank must get the same number of shapes of each micro-batch",
                f"make batch a multiple of {ranks * micro_batches}",
            )
        self.source, self.batching, self.seed = source, batching, seed
        self.device, self.world = torch.device(device), world

    @property
    def steps_per_epoch(self) -> float:
        return len(self.source) / self.batching.batch

    def at(self, step: int) -> list[Batch]:
        """This rank's share of each micro-batch of a step."""
        micro_batches, ranks = self.batching.accumulate, self.world.size
        share = self.batching.batch // (micro_batches * ranks)
        first = step * self.batching.batch + self.world.rank * share
        starts = [first + number * ranks * share for number in range(micro_batches)]
        return [self._batch(*self.source.members(self.seed, at, at + share)) for at in starts]

    def batches(self) -> Iterator[Batch]:
        """The stream from its beginning, one epoch."""
        for step in range(int(np.ceil(self.steps_per_epoch))):
            yield from self.at(step)

    def _batch(self, epochs: Rows, index: Rows) -> Batch:
        arrays = self.source.rows(index)
        keys = shape_keys(self.seed, torch.from_numpy(epochs), torch.from_numpy(index)).to(self.device)
        batch = to_device(arrays, self.device, keys, self.batching.live)
        if self.batching.draw is not None:
            batch.points = resample(batch.points, keys, self.batching.draw)
        batch.points = augment(batch.points, keys, self.batching.augment)
        return batch


def to_device(arrays: Arrays, device: torch.device | str, keys: Int[Tensor, " B"], live: Sequence[Level] = ()) -> Batch:
    """Arrays as a batch; indices travel as 16 bits and are widened on the device."""

    def move(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    def indices(array: NDArray[np.uint16]) -> Tensor:
        return move(array.view(np.int16)).long() & 0xFFFF

    centre, neighbour, *above = map(indices, (arrays.centre, arrays.neighbour, *arrays.above))
    return Batch(move(arrays.points), centre, neighbour, move(arrays.label), keys, live, above)
