"""The user's own data: a folder of point clouds and meshes, or one file with many clouds.

    root/{train,test}/<class>/**     labelled, split
    root/<class>/{train,test}/**     labelled, split (ModelNet's way)
    root/<class>/**                  labelled; the split is that of lists beside them, or drawn within each class
    root/{train,test}/*              unlabelled, split
    root/*                           unlabelled, all `train`
    root = one .npz or .h5           clouds, labels, parts, split: see `jepa3d.formats.tables`

Other names of the splits, one enclosing folder, lists and files whose names tell a split are understood; a layout
that can be read in two ways is refused. docs/datasets.md has the table of all rules, `jepa3d.formats.survey` is their
code. All endings of `jepa3d.formats.clouds` may be mixed. A mesh is sampled uniformly over its area; a cloud with more
than `points` points gives a random subset. Each draw comes from the seed and the file's own path, so one more file
changes nothing about the others.

    datasets: {mine: {kind: folder, root: "${MY_DATA}/chairs", points: 2048, up: z}}

A damaged file is set aside and listed in the audit. Where loose files lie beside folders it is unclear whether the
folders are classes: `labels: folders` or `labels: none` says so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from jepa3d import parallel
from jepa3d.datasets import Reader, SetAside, Shape, Split
from jepa3d.datasets._shared.canonical import unit_sphere
from jepa3d.formats import clouds, listing, meshes, repeats, surveys, tables
from jepa3d.formats.splitting import Rules
from jepa3d.formats.surveys import Survey
from jepa3d.ops.upright import TO_Y, Up
from jepa3d.params import DatasetConfig
from jepa3d.problem import Problem
from jepa3d.seeds import derive

NOT_FINITE = "has NaN or infinite coordinates"


class Config(DatasetConfig):
    """`upsample: true` admits clouds with fewer than `points` points: the missing ones are drawn with replacement.

    `split` puts every shape into one split, or draws a new one (`drawn`), whatever folders, lists and files say;
    `test_fraction` is for a split that is drawn. `validation` says what becomes of a validation split.
    """

    kind: Literal["folder"] = "folder"
    root: str
    points: PositiveInt = 2048
    seed: NonNegativeInt = 0
    up: Up = "y"  # the files' upward axis; the shapes are turned so that y is up
    normalise: Literal["unit_sphere", "none"] = "unit_sphere"
    upsample: bool = False
    labels: Literal["auto", "folders", "none"] = "auto"
    split: Literal["train", "test", "drawn"] | None = None
    validation: Literal["aside", "train", "test"] | None = None  # null: aside where there is a test split too
    test_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2


class Entry(NamedTuple):
    """One shape to be read; of a file with many, its row."""

    path: str
    id: str
    label: int
    split: Split
    part_labels: tuple[int, ...] = ()  # the file's, in the order of the parts; (): 0, 1, 2 ...
    aside: str = ""  # why a rule leaves it out


def classes(raw: Path, config: Config) -> tuple[str, ...]:
    """The class folders in alphabetical order, or the names that the file gives; () where nothing is labelled."""
    return survey(raw, config).classes


def parts(raw: Path, config: Config) -> tuple[str, ...]:
    return survey(raw, config).parts


def count(raw: Path, config: Config) -> int:
    """How many shapes `read` gives if none is damaged."""
    return number(survey(raw, config))


def read(raw: Path, config: Config) -> Iterator[Shape | SetAside]:
    """Files of one shape in the order of their names, then the rows of files of many."""
    return Surveyed(raw, config).read(raw, config)


def audit(raw: Path, config: Config) -> dict[str, Any]:
    """What the files say before they are read, and which of them have the same content."""
    return Surveyed(raw, config).audit(raw, config)


def survey(raw: Path, config: Config) -> Survey:
    rules = Rules(config.labels, config.split, config.validation, config.test_fraction, config.seed)
    return surveys.survey(raw, rules)


def surveyed(raw: Path, config: Config) -> Reader[Config]:
    return Surveyed(raw, config)


class Surveyed(Reader[Config]):
    """The same functions with one look at the folder for all of them."""

    def __init__(self, raw: Path, config: Config) -> None:
        self.found = survey(raw, config)
        self.seen = repeats.Seen()

    def classes(self, raw: Path, config: Config) -> tuple[str, ...]:
        return self.found.classes

    def parts(self, raw: Path, config: Config) -> tuple[str, ...]:
        return self.found.parts

    def count(self, raw: Path, config: Config) -> int:
        return number(self.found)

    def read(self, raw: Path, config: Config) -> Iterator[Shape | SetAside]:
        yield from (SetAside(*entry) for entry in self.found.outside)
        single, many = entries(self.found, raw)
        yield from (SetAside(entry.id, entry.aside, meant=True) for entry in single if entry.aside)
        yield from each([entry for entry in single if not entry.aside], config, "reading")
        for path, listed in many.items():
            for found in rows(Path(path), listed, config):
                if isinstance(found, Shape):
                    self.seen.add(found.id, found.points.tobytes())
                yield found

    def audit(self, raw: Path, config: Config) -> dict[str, Any]:
        """Repeats among the rows of tables are known after `read` only."""
        rows = [row for row in self.found.rows if not row.aside]
        counts = Counter((row.label, row.split) for row in rows)
        single = {row.id: f"{raw}/{row.file}" for row in rows if row.file and row.file not in self.found.many}
        about = {row.id: repeats.About(row.split, row.label) for row in rows}
        return {
            "split_from": self.found.split_from,
            "passed_over": self.found.passed_over,
            "expected": {
                "splits": {split: sum(row.split == split for row in rows) for split in ("train", "test")},
                "classes": {
                    name: {split: counts[label, split] for split in ("train", "test")}
                    for label, name in enumerate(self.found.classes)
                },
                "unlabelled": counts[-1, "train"] + counts[-1, "test"],
                "set_aside": len(self.found.outside) + len(self.found.rows) - len(rows),
            },
            **repeats.told([*repeats.of_files(single), *self.seen.groups()], about),
        }


def number(found: Survey) -> int:
    return sum(not row.aside for row in found.rows)


def entries(found: Survey, raw: Path) -> tuple[list[Entry], dict[str, list[Entry]]]:
    """Every shape with its label and split: files of one shape, and by file the rows of those of many."""
    single: list[Entry] = []
    many: defaultdict[str, list[Entry]] = defaultdict(list)
    for row in found.rows:
        path = f"{raw}/{row.file}" if row.file else str(raw)
        entry = Entry(path, row.id, row.label, row.split, found.part_labels, row.aside)
        (many[path] if row.file in found.many else single).append(entry)
    return single, dict(many)


def each(single: Sequence[Entry], config: Config, label: str = "") -> Iterator[Shape | SetAside]:
    """The one shape of each of these files. All but the plainest format take longer to understand than to read."""
    one, paths = partial(shape, config=config), [entry.path for entry in single]
    if all(path.lower().endswith(".npy") for path in paths):
        return parallel.read_ahead(one, single, paths, label)
    return parallel.imap(one, single, label)


def shape(entry: Entry, config: Config) -> Shape | SetAside:
    """The one shape of a file."""
    try:
        if listing.ending(entry.path) in clouds.ARRAYS:
            check_single(Path(entry.path))
        cloud = clouds.read(entry.path)
        points, part = canonical(cloud, config, entry.id, entry.part_labels)
    except Problem as problem:
        return SetAside(entry.id, surveys.in_words(problem, entry.path))
    return Shape(points, entry.label, part, entry.split, entry.id, cloud.missing)


def check_single(path: Path) -> None:
    """A fault in what a file says besides the points is a Problem, for it may say that it has more clouds than one."""
    if surveys.contents_of(path).rows is not None:
        raise Problem(f"{path}: changed while it was read", "it was one cloud, and is many", "do it again")


def rows(path: Path, entries: Sequence[Entry], config: Config) -> Iterator[Shape | SetAside]:
    """The shapes of a file of many; one that breaks off is a Problem, for nothing after it can be read."""
    for entry, (points, part) in zip(entries, tables.clouds(path), strict=True):
        if entry.aside:
            yield SetAside(entry.id, entry.aside, meant=True)
            continue
        try:
            placed, kept = canonical(clouds.Cloud(points[:, :3], part=part), config, entry.id, entry.part_labels)
        except Problem as problem:
            yield SetAside(entry.id, surveys.in_words(problem, path))
        else:
            yield Shape(placed, entry.label, kept, entry.split, entry.id)


def canonical(
    cloud: clouds.Cloud, config: Config, id: str, part_labels: tuple[int, ...] = ()
) -> tuple[Float32[np.ndarray, "P 3"], NDArray[np.int16] | None]:
    """Exactly `points` points, finite, y up, normalised, with their parts."""
    if cloud.faces is not None:
        sampled = on_surface(cloud.points, cloud.faces, config.points, derive(config.seed, "surface", id))
        return placed(sampled, config), None
    points = placed(cloud.points, config)
    chosen = choice(len(points), config, id)
    return points[chosen], None if cloud.part is None else indices(cloud.part[chosen], part_labels)


def indices(part: NDArray[Any], labels: tuple[int, ...]) -> NDArray[np.int16]:
    """A file's part labels as indices into `labels` (-1 stays); (): they are indices already."""
    if labels:
        part = np.where(part == -1, -1, np.searchsorted(labels, part))
    if part.max(initial=-1) > np.iinfo(np.int16).max:
        raise Problem(f"has a part label of {part.max()}", "more parts than the canonical file holds")
    return part.astype(np.int16)


def on_surface(vertices: NDArray[Any], faces: NDArray[Any], number: int, seed: int) -> NDArray[np.float64]:
    """Points of a mesh; a Problem for one that has no surface."""
    if not np.isfinite(vertices).all():
        raise Problem(NOT_FINITE)
    try:
        return meshes.sample(meshes.Mesh(vertices, faces), number, seed)
    except ValueError as error:
        raise Problem(str(error)) from None


def placed(points: NDArray[Any], config: Config) -> Float32[np.ndarray, "P 3"]:
    """Turned and normalised. In float64 where the file is, for float32 has too few digits far from the origin."""
    kind = np.float32 if points.dtype in (np.float16, np.float32) else np.float64
    if (points[0] == points[-1]).all() and (points == points[0]).all():
        raise Problem("all its points are the same")
    with np.errstate(all="ignore"):
        found = unit_sphere(points.astype(kind, copy=False)) if config.normalise == "unit_sphere" else points
        if config.up != "y":
            found = np.stack([found[:, axis] * kind(sign) for axis, sign in TO_Y[config.up]], axis=1)
        found = np.ascontiguousarray(found, np.float32)
        finite = np.isfinite(found.sum())  # of all, where this says so; it may overflow
    if not finite and not np.isfinite(found).all():
        raise Problem("its coordinates are too large for float32" if np.isfinite(points).all() else NOT_FINITE)
    return found


def choice(available: int, config: Config, id: str) -> NDArray[np.int64] | slice:
    """Which points are kept: all in their order; a subset without replacement; or all and some of them again."""
    if available == config.points:
        return slice(None)
    rng = np.random.default_rng(derive(config.seed, "points", id))
    if available > config.points:
        return rng.choice(available, config.points, replace=False)
    if not config.upsample:
        raise Problem(
            f"has {available:,} points, {config.points:,} are wanted", "lower 'points', or say 'upsample: true'"
        )
    return np.concatenate([np.arange(available), rng.integers(available, size=config.points - available)])


def usable(raw: Path) -> list[str]:
    """The files with a known ending, relative to `raw`, sorted; "" for a `raw` that is a file itself."""
    return list(surveys.look(raw).shapes)


def told_by(path: Path) -> tables.Contents | None:
    """What an .npz or .h5 says; None for a damaged one, which is set aside when it is read.

    Raises a Problem for a file of many clouds whose arrays do not fit each other.
    """
    try:
        return surveys.contents_of(path)
    except tables.Misfit:
        raise
    except Problem:
        return None


def forge(raw: Path) -> None:
    """Two classes, both splits, every kind of file that a library here can write."""
    import trimesh

    rng = np.random.default_rng(7)
    for split in ("train", "test"):
        for name, mesh in (("ball", trimesh.creation.icosphere(2)), ("box", trimesh.creation.box((1, 2, 3)))):
            folder = raw / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for ending in ("ply", "obj", "off", "stl", "glb"):
                mesh.export(folder / f"mesh.{ending}")
            points = trimesh.sample.sample_surface(mesh, 3000, seed=rng)[0]
            np.save(folder / "cloud.npy", points.astype(np.float16))
            np.savez(folder / "cloud.npz", points=points)
            np.savetxt(folder / "cloud.xyz", points)
            trimesh.PointCloud(points).export(folder / "cloud.ply")
