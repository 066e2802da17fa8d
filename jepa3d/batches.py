"""Shapes -> batches, by (seed, epoch, index): in RAM when they fit, streamed from HDF5 when they do not.

The training stream is the endless concatenation of one permutation an epoch, cut into batches, so every shape comes
once an epoch and the batch of any step is known without having seen the steps before it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from jepa3d import config, store
from jepa3d.nets.encoder import Patches, make_patches, patchify
from jepa3d.ops.augment import augment
from jepa3d.ops.draws import shape_keys, uniform
from jepa3d.problem import Problem
from jepa3d.seeds import derive

BLOCK = 64  # consecutive shapes that are read together from the disk

Rows = NDArray[np.int64]


class Arrays(NamedTuple):
    """Some shapes, as they are stored: indices are uint16 until they are used."""

    points: NDArray[np.float32]  # [n, P, 3]
    centre: NDArray[np.uint16]  # [n, N]
    neighbour: NDArray[np.uint16]  # [n, N, K]
    label: NDArray[np.int64]  # [n]


@dataclass
class Batch:
    """One batch on its device. `keys` name each (epoch, shape): every draw of a step is a function of them."""

    points: Float[Tensor, "B P 3"]
    centre: Int[Tensor, "B N"]
    neighbour: Int[Tensor, "B N K"]
    label: Int[Tensor, " B"]
    keys: Int[Tensor, " B"]
    level: config.Level | None = None  # set: FPS and KNN are recomputed, after augmentation

    def __len__(self) -> int:
        return len(self.points)

    def patches(self) -> Patches:
        if self.level is not None:
            return patchify(self.points, self.level)
        return make_patches(self.points, self.centre, self.neighbour)

    def uniform(self, purpose: str, *count: int) -> Float[Tensor, "B *count"]:
        """Uniform numbers for each shape that nothing but (seed, epoch, shape, purpose) decides."""
        return uniform(self.keys, purpose, *count)


@runtime_checkable
class Source(Protocol):
    """Shapes by number, and the order in which an epoch goes through them."""

    def __len__(self) -> int: ...

    def order(self, seed: int, epoch: int, start: int, stop: int) -> Rows:
        """The shapes at positions start..stop of an epoch."""
        ...

    def rows(self, index: Rows) -> Arrays: ...


class Part(NamedTuple):
    """The rows of one split of one data set, with its two files."""

    canonical: Path
    patches: Path
    rows: Rows


class InMemory:
    """All shapes in RAM: one fancy index a batch."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self._epoch: tuple[int, int] | None = None
        self._order: Rows = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.arrays.points)

    def order(self, seed: int, epoch: int, start: int, stop: int) -> Rows:
        if self._epoch != (seed, epoch):
            self._order = np.random.default_rng(derive(seed, "order", epoch)).permutation(len(self))
            self._epoch = (seed, epoch)
        return self._order[start:stop]

    def rows(self, index: Rows) -> Arrays:
        return Arrays._make(array[index] for array in self.arrays)


class Streamed:
    """Shapes on disk: blocks of 64 are read whole, in a shuffled order, and shuffled among `window` blocks.

    Memory holds one window. An epoch visits every shape once; the order is a function of (seed, epoch) alone.
    """

    def __init__(self, parts: Sequence[Part], memory: float) -> None:
        self.parts = list(parts)
        self.blocks = [
            (number, start, min(start + BLOCK, len(part.rows)))
            for number, part in enumerate(self.parts)
            for start in range(0, len(part.rows), BLOCK)
        ]
        sizes = np.array([stop - start for _, start, stop in self.blocks])
        self.firsts = np.concatenate([[0], np.cumsum(sizes)])  # the number of each block's first shape
        self.readers = [_Reader(part) for part in self.parts]
        per_shape = sum(array[0].nbytes for array in self.readers[0].read(0, 1))
        self.window = max(1, int(memory / (2 * per_shape * BLOCK)))  # half: the copy of a window being filled
        self._cache: tuple[tuple[int, ...], Arrays, Rows] | None = None
        self._plan: tuple[tuple[int, int], Rows, NDArray[np.int64]] | None = None
        self._current: tuple[tuple[int, int, int], tuple[int, ...], Rows] | None = None

    def __len__(self) -> int:
        return int(self.firsts[-1])

    def order(self, seed: int, epoch: int, start: int, stop: int) -> Rows:
        blocks, begins = self._blocks_of_epoch(seed, epoch)
        out = []
        while start < stop:
            window = int(np.searchsorted(begins, start, side="right")) - 1
            shapes = self._shuffled(seed, epoch, window, blocks)
            offset = start - int(begins[window])
            out.append(shapes[offset : offset + stop - start])
            start += len(out[-1])
        return np.concatenate(out) if out else np.empty(0, np.int64)

    def rows(self, index: Rows) -> Arrays:
        wanted = np.searchsorted(self.firsts, index, side="right") - 1
        needed = tuple(np.unique(wanted).tolist())
        if self._cache is None or not set(needed) <= set(self._cache[0]):
            self._cache = self._load(needed)
        held, arrays, begins = self._cache
        place = begins[np.searchsorted(held, wanted)] + index - self.firsts[wanted]
        return Arrays._make(array[place] for array in arrays)

    def _blocks_of_epoch(self, seed: int, epoch: int) -> tuple[Rows, NDArray[np.int64]]:
        if self._plan is None or self._plan[0] != (seed, epoch):
            blocks = np.random.default_rng(derive(seed, "order", epoch)).permutation(len(self.blocks))
            sizes = np.diff(self.firsts)[blocks]
            totals = [int(sizes[at : at + self.window].sum()) for at in range(0, len(blocks), self.window)]
            self._plan = ((seed, epoch), blocks, np.concatenate([[0], np.cumsum(totals)])[:-1])
        return self._plan[1], self._plan[2]

    def _shuffled(self, seed: int, epoch: int, window: int, blocks: Rows) -> Rows:
        """The shapes of one window in their random order, remembered until the next window."""
        if self._current is None or self._current[0] != (seed, epoch, window):
            chosen = np.sort(blocks[window * self.window : (window + 1) * self.window])
            shapes = np.concatenate([np.arange(self.firsts[b], self.firsts[b + 1]) for b in chosen])
            np.random.default_rng(derive(seed, "window", epoch, window)).shuffle(shapes)
            self._current = ((seed, epoch, window), tuple(chosen.tolist()), shapes)
        return self._current[2]

    def _load(self, needed: tuple[int, ...]) -> tuple[tuple[int, ...], Arrays, Rows]:
        """Read the blocks of the window that the last order came from, and any other that is asked for."""
        held = tuple(sorted({*(self._current[1] if self._current else ()), *needed}))
        self._cache = None  # let the old window go first
        first = self.blocks[held[0]]
        total = int(sum(self.firsts[b + 1] - self.firsts[b] for b in held))
        sample = self.readers[first[0]].read(first[1], first[1] + 1)
        arrays = Arrays._make(np.empty((total, *array.shape[1:]), array.dtype) for array in sample)
        into: Any
        at, begins = 0, []
        for block in held:
            number, start, stop = self.blocks[block]
            begins.append(at)
            for into, read in zip(arrays, self.readers[number].read(start, stop), strict=True):
                into[at : at + stop - start] = read
            at += stop - start
        return held, arrays, np.array(begins)


def open_source(parts: Sequence[Part], memory: float) -> InMemory | Streamed:
    """The shapes of several data sets as one source; `memory` in bytes decides whether they are held or streamed."""
    per_shape = sum(array[0].nbytes for array in _read(parts[0], 0, 1))
    if per_shape * sum(len(part.rows) for part in parts) > memory:
        return Streamed(parts, memory)
    pieces = [_read(part, 0, len(part.rows)) for part in parts]
    return InMemory(Arrays._make(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))


def split_rows(canonical: Path, split: str | None) -> Rows:
    """The rows of one split of a canonical file (None: all of them)."""
    with store.open_h5(canonical) as file:
        splits = store.text(file["split"])
    return np.arange(len(splits)) if split is None else np.flatnonzero(splits == split)


def class_names(canonical: Path) -> list[str]:
    with store.open_h5(canonical) as file:
        names: list[str] = store.attributes(file)["classes"]
    return names


class _Reader:
    """The two open files of a part. Opening costs more than reading a block, so a streamed set stays open."""

    def __init__(self, part: Part) -> None:
        self._open = contextlib.ExitStack()
        data = self._open.enter_context(store.open_h5(part.canonical))
        patches = self._open.enter_context(store.open_h5(part.patches))
        self.rows, self.points, self.label = part.rows, data["points"], data["label"]
        self.chosen, self.centre, self.neighbour = patches.get("point"), patches["centre"], patches["neighbour"]
        if len(self.points) != len(self.centre):
            self.close()
            raise Problem(
                f"{part.patches}: does not belong to {part.canonical}",
                f"{len(self.centre)} shapes against {len(self.points)}",
                "run 'jepa3d patchify' again",
            )

    def read(self, start: int, stop: int) -> Arrays:
        """The shapes start..stop of the part: one contiguous read a file, then the rows of the split and the points."""
        rows = self.rows[start:stop]
        low, high = int(rows[0]), int(rows[-1]) + 1
        keep = slice(None) if high - low == len(rows) else rows - low
        points = self.points[low:high][keep]
        if self.chosen is not None:
            points = np.take_along_axis(points, self.chosen[low:high][keep][:, :, None].astype(np.int64), 1)
        return Arrays(points, *(array[low:high][keep] for array in (self.centre, self.neighbour, self.label)))

    def close(self) -> None:
        self._open.close()


def _read(part: Part, start: int, stop: int) -> Arrays:
    with contextlib.closing(_Reader(part)) as reader:
        return reader.read(start, stop)


class Stream:
    """The training stream of one run: `at(step)` is the batch of a step, on a device, augmented."""

    def __init__(
        self,
        source: Source,
        batch: int,
        seed: int,
        augmentation: config.Augment,
        live: config.Level | None = None,
        device: torch.device | str = "cpu",
        accumulate: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if batch % (accumulate * ranks):
            raise Problem(
                f"fit.batch {batch} cannot be cut into {ranks} ranks x {accumulate} accumulated parts",
                "each rank and part must get the same number of shapes",
                f"make batch a multiple of {ranks * accumulate}",
            )
        self.source, self.size, self.seed = source, batch, seed
        self.augmentation, self.live, self.device = augmentation, live, torch.device(device)
        self.accumulate, self.rank, self.ranks = accumulate, rank, ranks

    @property
    def steps_per_epoch(self) -> float:
        return len(self.source) / self.size

    def at(self, step: int) -> list[Batch]:
        """The parts of one step's batch that this rank works on (one for each accumulated part)."""
        epochs, index = self._members(step)
        share = self.size // (self.accumulate * self.ranks)
        parts = []
        for number in range(self.accumulate):
            start = (number * self.ranks + self.rank) * share
            parts.append(self._batch(epochs[start : start + share], index[start : start + share]))
        return parts

    def batches(self) -> Iterator[Batch]:
        """The stream from its beginning, one epoch."""
        for step in range(int(np.ceil(self.steps_per_epoch))):
            yield from self.at(step)

    def _members(self, step: int) -> tuple[Rows, Rows]:
        """Epoch and number of each shape of a step."""
        position, stop = step * self.size, (step + 1) * self.size
        epochs, index = [], []
        while position < stop:
            epoch, start = divmod(position, len(self.source))
            end = min(len(self.source), start + stop - position)
            index.append(self.source.order(self.seed, epoch, start, end))
            epochs.append(np.full(end - start, epoch))
            position += end - start
        return np.concatenate(epochs), np.concatenate(index)

    def _batch(self, epochs: Rows, index: Rows) -> Batch:
        arrays = self.source.rows(index)
        keys = shape_keys(self.seed, torch.from_numpy(epochs), torch.from_numpy(index)).to(self.device)
        batch = to_device(arrays, self.device, keys, self.live)
        batch.points = augment(batch.points, keys, self.augmentation)
        return batch


def to_device(arrays: Arrays, device: torch.device | str, keys: Int[Tensor, " B"], live: config.Level | None) -> Batch:
    """Arrays as a batch; indices travel as 16 bits and are widened on the device."""

    def move(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    def indices(array: NDArray[np.uint16]) -> Tensor:
        return move(array.view(np.int16)).long() & 0xFFFF

    return Batch(move(arrays.points), indices(arrays.centre), indices(arrays.neighbour), move(arrays.label), keys, live)
