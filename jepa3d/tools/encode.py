"""`jepa3d encode FILE... --encoder PATH -o OUT`: features of a user's own meshes and clouds, in one file.

A FILE is a mesh, a cloud, a table of many clouds, or a folder of such, in every format of `datasets/folder.py`, and is
read, normalised and sampled as `convert` would with that file or folder as `root:`, draws included. Into OUT go

    name       [n]            the path as it was given, and what follows it inside a folder or a table
    features   float32 [n, F]
    centres    float32 [n, N, 3], tokens float32 [n, N, D]    with --tokens
    about      JSON: settings, the encoder's hash, what was set aside and why

as the arrays of an .npz, or the columns and the metadata `jepa3d` of a .parquet file (fixed-size lists, row by row).
Clouds are read, embedded and written block by block: memory does not grow with their number.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import tempfile
import zipfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from jepa3d import datasets
from jepa3d.datasets import SetAside, Shape, folder
from jepa3d.formats import clouds, surveys
from jepa3d.params import slice_of
from jepa3d.params.validation import plugin_config
from jepa3d.pretrained import LoadedEncoder, load
from jepa3d.problem import Problem
from jepa3d.progress import track
from jepa3d.results import store

BLOCK = 256  # shapes between two writes
FEW = 32  # files that are not worth several processes


class Item(NamedTuple):
    """One shape that is asked for."""

    name: str
    entry: folder.Entry
    table: bool  # a row of a file of many


class Encoded(NamedTuple):
    shapes: int  # in the file
    aside: tuple[SetAside, ...]


def encode(
    files: Sequence[Path],
    encoder: Path,
    out: Path,
    which: Literal["context", "target"] = "context",
    tokens: bool = False,
    strict: bool = False,
    **settings: Any,
) -> Encoded:
    """Write `out`, or raise a Problem and write nothing. Damaged shapes are set aside; with `strict` they are Problems.

    `settings` are fields of `folder.Config`: points (as many as the encoder takes), up, normalise, upsample, seed.
    """
    write = writer(out)
    loaded = load(encoder, which).to("cuda" if torch.cuda.is_available() else "cpu")
    chosen = reading(loaded, settings)
    items = listed(files)
    how = {"files": [str(path) for path in files], "which": which, "reading": slice_of(chosen)}
    stamp = store.stamp("encode", how, [encoder])
    with store.replacing(out) as temporary, ExitStack() as opened:
        columns: dict[str, Column] = {}
        names: list[str] = []
        aside: list[SetAside] = []
        read = shapes(items, chosen)
        opened.callback(read.close)
        each = (fitting(shape, chosen, loaded) for shape in track(read, len(items), "encode"))
        kept = good(zip(items, each, strict=True), names, aside, strict)
        while block := list(itertools.islice(kept, BLOCK)):
            for name, values in features(loaded, np.stack(block), tokens).items():
                if name not in columns:
                    columns[name] = Column(opened.enter_context(tempfile.TemporaryFile(dir=out.parent)), values)
                columns[name].add(values)
        if not names:
            reasons = "; ".join(f"{entry.id}: {entry.why}" for entry in aside[:3])
            raise Problem(f"none of the {len(items):,} shapes can be encoded", reasons, "see what each of them needs")
        about = {**stamp, "encoder": described(loaded), "set_aside": [entry.record() for entry in aside]}
        write(temporary, names, {name: column.rows() for name, column in columns.items()}, about)
    return Encoded(len(names), tuple(aside))


def described(loaded: LoadedEncoder) -> dict[str, Any]:
    """The encoder's own description: kind, model, scheme, and where its weights come from."""
    return {key: loaded.metadata[key] for key in ("kind", "model", "scheme", "preparation", "provenance")}


# ---- what is read


def reading(loaded: LoadedEncoder, settings: Mapping[str, Any]) -> folder.Config:
    """How shapes are read: as the encoder's own preparation says, where the command line says nothing else."""
    scheme, own = loaded.scheme, loaded.preparation
    assert own is not None  # of a file
    as_trained = {"kind": "folder", "root": ".", "points": own.points, "normalise": own.normalise}
    given = {key: value for key, value in settings.items() if value is not None}
    chosen: folder.Config = plugin_config(datasets, as_trained | given, "options", "the command line")
    if chosen.points < scheme.points:
        raise Problem(
            f"--points {chosen.points}: this encoder takes {scheme.points} points of every shape",
            "it was trained on so many",
            f"give at least {scheme.points}, or leave the option away",
        )
    return chosen


def listed(files: Sequence[Path]) -> list[Item]:
    """Every shape of every file, in the order in which they are given; a folder's in the order of their names."""
    if twice := [path for at, path in enumerate(files) if path in files[:at]]:
        raise Problem(f"{twice[0]}: is given twice", "every shape has one name", "give it once")
    found = []
    for given in files:
        if not given.exists():
            raise Problem(
                f"{given}: no such file or folder", "it was named on the command line", "look for a slip in the path"
            )
        if given.is_file() and given.suffix.lower() not in clouds.ENDINGS:
            raise Problem(
                f"{given}: no mesh or cloud by its ending", f"known: {' '.join(clouds.ENDINGS)}", "convert it first"
            )
        for inside in folder.usable(given):
            found += rows_of(given / inside, inside or given.name, str(given / inside))
    return found


def rows_of(path: Path, id: str, name: str) -> list[Item]:
    """The shapes of one file: itself, or every row of a table."""
    told = folder.told_by(path) if path.suffix.lower() in clouds.ARRAYS else None
    if told is None or told.rows is None:
        return [Item(name, folder.Entry(str(path), id, -1, "train"), table=False)]
    marks = [f"#{row:06d}" for row in range(told.rows)]
    return [Item(name + mark, folder.Entry(str(path), id + mark, -1, "train"), table=True) for mark in marks]


def shapes(items: Sequence[Item], chosen: folder.Config) -> Generator[Shape | SetAside, None, None]:
    """One for each item, in their order; many files of one shape are read by several processes."""
    single = [item.entry for item in items if not item.table]
    few = len(single) <= FEW
    ready = map(partial(folder.shape, config=chosen), single) if few else folder.each(single, chosen)
    for (path, is_table), group in itertools.groupby(items, lambda item: (item.entry.path, item.table)):
        entries = [item.entry for item in group]
        yield from table(Path(path), entries, chosen) if is_table else itertools.islice(ready, len(entries))


def table(path: Path, entries: Sequence[folder.Entry], chosen: folder.Config) -> Iterator[Shape | SetAside]:
    """The rows of a file of many; where it breaks off, the rest is set aside."""
    done = 0
    try:
        for found in folder.rows(path, entries, chosen):
            done += 1
            yield found
    except Problem as problem:
        yield from (SetAside(entry.id, surveys.in_words(problem, path)) for entry in entries[done:])


def fitting(shape: Shape | SetAside, chosen: folder.Config, loaded: LoadedEncoder) -> Shape | SetAside:
    """A shape that is not normalised is set aside where it is of another place or size than those of the training."""
    if isinstance(shape, Shape) and chosen.normalise == "none" and loaded.preparation is not None:
        refusal = loaded.preparation.refusal(float(np.linalg.norm(shape.points, axis=1).max()))
        if refusal is not None:
            return SetAside(shape.id, f"{refusal.what}; {refusal.why}")
    return shape


def good(
    read: Iterator[tuple[Item, Shape | SetAside]], names: list[str], aside: list[SetAside], strict: bool
) -> Iterator[NDArray[np.float32]]:
    """The clouds that can be encoded; their names and the others are noted on the way."""
    for item, shape in read:
        if isinstance(shape, Shape):
            names.append(os.fsencode(item.name).decode("utf-8", "replace"))
            yield shape.points
            continue
        if strict:
            raise Problem(f"{item.name}: cannot be encoded", shape.why, "mend or remove it, or take --strict away")
        aside.append(SetAside(item.name, shape.why))


def features(loaded: LoadedEncoder, points: NDArray[np.float32], tokens: bool) -> dict[str, NDArray[np.float32]]:
    """The columns of one block."""
    if not tokens:
        return {"features": loaded.of_canonical().embed(points).numpy()}
    pooled, centres, of_patches = loaded.of_canonical().encode(points)
    return {"features": pooled.numpy(), "centres": centres.numpy(), "tokens": of_patches.numpy()}


# ---- what is written


class Column:
    """The rows of one array, on the disk until all are there."""

    def __init__(self, file: IO[bytes], like: NDArray[np.float32]) -> None:
        self.file, self.shape, self.count = file, like.shape[1:], 0

    def add(self, values: NDArray[np.float32]) -> None:
        self.file.write(np.ascontiguousarray(values, "<f4").data)
        self.count += len(values)

    def rows(self) -> NDArray[np.float32]:
        self.file.flush()
        return np.memmap(self.file, "<f4", "r", shape=(self.count, *self.shape))


def writer(out: Path) -> Any:
    """How a file of that ending is written; a Problem before any work where it cannot be."""
    known = {".npz": write_npz, ".parquet": write_parquet}
    if out.suffix.lower() not in known:
        raise Problem(
            f"{out}: no format that features are written in", f"known endings: {' '.join(known)}", "name another file"
        )
    if out.is_dir():
        raise Problem(f"{out}: is a folder", "the features are one file", "name a file")
    if out.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise Problem(f"{out}: .parquet needs pyarrow", "it is an extra of jepa3d", "pip install 'jepa3d[parquet]'")
    return known[out.suffix.lower()]


def write_npz(
    path: Path, names: Sequence[str], columns: Mapping[str, NDArray[np.float32]], about: Mapping[str, Any]
) -> None:
    """For `np.load`, without pickles. The same features give the same bytes."""
    texts = {"name": np.array(names), "about": np.array(json.dumps(about, sort_keys=True))}
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in (*texts.items(), *columns.items()):
            member = zipfile.ZipInfo(f"{name}.npy")  # its date is a fixed one
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def write_parquet(
    path: Path, names: Sequence[str], columns: Mapping[str, NDArray[np.float32]], about: Mapping[str, Any]
) -> None:
    """Fixed-size lists; the shape of a row that is no list is in its field's metadata."""
    import pyarrow as pa
    from pyarrow import parquet

    fields = [pa.field("name", pa.string())]
    for name, array in columns.items():
        size = int(np.prod(array.shape[1:]))
        fields.append(pa.field(name, pa.list_(pa.float32(), size), metadata={"shape": json.dumps(array.shape[1:])}))
    schema = pa.schema(fields, metadata={"jepa3d": json.dumps(about, sort_keys=True)})
    with parquet.ParquetWriter(path, schema) as file:
        for start in range(0, len(names), BLOCK):
            stop = min(start + BLOCK, len(names))
            block = [pa.array(names[start:stop], pa.string())]
            for field in fields[1:]:
                flat = np.asarray(columns[field.name][start:stop]).reshape(-1)
                block.append(pa.FixedSizeListArray.from_arrays(pa.array(flat), type=field.type))
            file.write_batch(pa.record_batch(block, schema=schema))
