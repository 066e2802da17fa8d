"""The user's own data: a folder of point clouds and meshes, or one file with many clouds.

    root/{train,test}/<class>/**     labelled, split
    root/<class>/{train,test}/**     labelled, split (ModelNet's way)
    root/<class>/**                  labelled; a stratified split is drawn
    root/{train,test}/*              unlabelled, split
    root/*                           unlabelled, all `train`
    root = one .npz or .h5           clouds, labels, parts, split: see `jepa3d.formats.tables`

All endings of `jepa3d.formats.clouds` may be mixed; other files are passed over, hidden ones too. A mesh is sampled
uniformly over its area; a cloud with more than `points` points gives a random subset. Each draw comes from the seed
and the file's own path, so one more file changes nothing about the others.

    datasets: {mine: {kind: folder, root: "${MY_DATA}/chairs", points: 2048, up: z}}

A damaged file is set aside and listed in the audit. Where loose files lie beside folders it is unclear whether the
folders are classes: `labels: folders` or `labels: none` says so.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from jepa3d import parallel
from jepa3d.datasets import SetAside, Shape, Split
from jepa3d.formats import clouds, meshes, tables
from jepa3d.formats.canonical import TO_Y, unit_sphere
from jepa3d.params import DatasetConfig
from jepa3d.problem import Problem
from jepa3d.seeds import derive

SOURCES = ()
SPLITS = ("train", "test")
NOT_FINITE = "has NaN or infinite coordinates"


class Config(DatasetConfig):
    """`upsample: true` admits clouds with fewer than `points` points: the missing ones are drawn with replacement.

    `split` puts every shape into one split, whatever the folders say; `test_fraction` is for a split that is drawn.
    """

    kind: Literal["folder"] = "folder"
    root: str
    points: PositiveInt = 2048
    seed: NonNegativeInt = 0
    up: Literal["x", "y", "z"] = "y"  # the files' upward axis; the shapes are turned so that y is up
    normalise: Literal["unit_sphere", "none"] = "unit_sphere"
    upsample: bool = False
    labels: Literal["auto", "folders", "none"] = "auto"
    split: Split | None = None
    test_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2


class Place(NamedTuple):
    """What a file's folders say about it."""

    of_class: str | None = None
    split: str | None = None
    outside: str = ""  # why it belongs to no class, where the others do


class Entry(NamedTuple):
    """One shape to be read; of a file with many, its row."""

    path: str
    id: str
    label: int
    split: Split


class Survey(NamedTuple):
    """What the folders and the files' headers say."""

    places: dict[str, Place]  # by the file's path relative to the root; "" is the root itself
    told: dict[str, tables.Contents]  # of the .npz and .h5 files
    folders: tuple[str, ...]  # those that are classes
    classes: tuple[str, ...]
    parts: tuple[str, ...]


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
    return shapes(survey(raw, config), raw, config)


class Surveyed:
    """The same functions with one look at the folder for all of them."""

    def __init__(self, raw: Path, config: Config) -> None:
        self.found = survey(raw, config)

    def classes(self, raw: Path, config: Config) -> tuple[str, ...]:
        return self.found.classes

    def parts(self, raw: Path, config: Config) -> tuple[str, ...]:
        return self.found.parts

    def count(self, raw: Path, config: Config) -> int:
        return number(self.found)

    def read(self, raw: Path, config: Config) -> Iterator[Shape | SetAside]:
        return shapes(self.found, raw, config)


def number(found: Survey) -> int:
    return sum(found.told[name].number if name in found.told else 1 for name in files(found))


def shapes(found: Survey, raw: Path, config: Config) -> Iterator[Shape | SetAside]:
    yield from (SetAside(name, place.outside) for name, place in found.places.items() if place.outside)
    single, many = entries(found, config, raw)
    yield from each(single, config, "reading")
    for path, listed in many.items():
        yield from rows(Path(path), listed, config)


def each(single: Sequence[Entry], config: Config, label: str = "") -> Iterator[Shape | SetAside]:
    """The one shape of each of these files. All but the plainest format take longer to understand than to read."""
    one, paths = partial(shape, config=config), [entry.path for entry in single]
    if all(path.lower().endswith(".npy") for path in paths):
        return parallel.read_ahead(one, single, paths, label)
    return parallel.imap(one, single, label)


def shape(entry: Entry, config: Config) -> Shape | SetAside:
    """The one shape of a file."""
    try:
        points, part = canonical(clouds.read(entry.path), config, entry.id)
    except Problem as problem:
        return SetAside(entry.id, in_words(problem, entry.path))
    return Shape(points, entry.label, part, entry.split, entry.id)


def rows(path: Path, entries: Sequence[Entry], config: Config) -> Iterator[Shape | SetAside]:
    """The shapes of a file of many; one that breaks off is a Problem, for nothing after it can be read."""
    for entry, (points, part) in zip(entries, tables.clouds(path), strict=True):
        try:
            placed, kept = canonical(clouds.Cloud(points[:, :3], part=part), config, entry.id)
        except Problem as problem:
            yield SetAside(entry.id, in_words(problem, path))
        else:
            yield Shape(placed, entry.label, kept, entry.split, entry.id)


def in_words(problem: Problem, path: Path | str) -> str:
    return ": ".join(text for text in (problem.what.removeprefix(f"{path}: "), problem.why) if text)


def canonical(
    cloud: clouds.Cloud, config: Config, id: str
) -> tuple[Float32[np.ndarray, "P 3"], NDArray[np.int16] | None]:
    """Exactly `points` points, finite, y up, normalised, with their parts."""
    if cloud.faces is not None:
        sampled = on_surface(cloud.points, cloud.faces, config.points, derive(config.seed, "surface", id))
        return placed(sampled, config), None
    points = placed(cloud.points, config)
    chosen = choice(len(points), config, id)
    part = None if cloud.part is None else np.asarray(cloud.part[chosen], np.int16)
    return points[chosen], part


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


# ------------------------------------------------------------------------------------------- what is in the folder


def survey(raw: Path, config: Config) -> Survey:
    """Which files there are, and what is known of them before a single point has been read."""
    places = arrange(usable(raw), config.labels, raw)
    folders = tuple(sorted({place.of_class for place in places.values() if place.of_class is not None}))
    told = {}
    for name, place in places.items():
        if not place.outside and _ending(name or raw.name) in clouds.ARRAYS:
            contents = told_by(raw / name)
            if contents:
                told[name] = contents
    labels = folders or (() if config.labels == "none" else _agreed(told.values(), "classes", raw))
    return Survey(places, told, folders, labels, _agreed(told.values(), "parts", raw))


def files(found: Survey) -> list[str]:
    """The files that are read."""
    return [name for name, place in found.places.items() if not place.outside]


def entries(found: Survey, config: Config, raw: Path) -> tuple[list[Entry], dict[str, list[Entry]]]:
    """Every shape with its label and split: files of one shape, and by file the rows of those of many."""
    index = {name: label for label, name in enumerate(found.folders)}
    drafts: list[tuple[str, str, int, str | None]] = []  # file, id, label, split
    for name in files(found):
        place, contents = found.places[name], found.told.get(name)
        for row in range(contents.number if contents else 1):
            label = -1 if place.of_class is None else index[place.of_class]
            split = place.split
            if contents and contents.label and not found.folders and found.classes:
                label = contents.label[row]
            if contents and contents.split and split is None:
                split = contents.split[row]
            drafts.append((name, _id(name or raw.name, contents, row), label, split))
    splits = decide([draft[1:] for draft in drafts], found.classes, config, raw)
    single: list[Entry] = []
    many: defaultdict[str, list[Entry]] = defaultdict(list)
    for (name, id, label, _), split in zip(drafts, splits, strict=True):
        path = os.path.join(raw, name) if name else str(raw)  # noqa: PTH118 (ten times as fast, for each file)
        contents = found.told.get(name)
        (single if contents is None or contents.rows is None else many[path]).append(Entry(path, id, label, split))
    return single, dict(many)


def usable(raw: Path) -> list[str]:
    """The files with a known ending, relative to `raw`, sorted; "" for a `raw` that is a file itself."""
    if raw.is_file() and _ending(raw.name) in clouds.ENDINGS:
        return [""]
    found: list[str] = []
    others: list[str] = []
    for inside, names in _walk(raw):
        for name in names:
            (found if _ending(name) in clouds.ENDINGS else others).append(inside + name)
    if not found:
        raise Problem(
            f"{raw}: no usable file in it",
            f"it has {len(others)} others, such as {min(others)}" if others else "it is empty, or no folder",
            f"point clouds and meshes end in {' '.join(clouds.ENDINGS)}",
        )
    return sorted(found)


def _ending(name: str) -> str:
    return name[name.rfind(".") :].lower()


def _walk(raw: Path) -> Iterator[tuple[str, list[str]]]:
    """Every folder with its files; through links too, each folder once; what is hidden is passed over."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(raw, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            inside = Path(folder).relative_to(raw).as_posix()
            yield "" if inside == "." else f"{inside}/", [name for name in names if not name.startswith(".")]
        seen.add(real)


def arrange(names: Sequence[str], labels: str, raw: Path) -> dict[str, Place]:
    """Class and split of every file, as the folders have them."""
    steps = {name: tuple(name.split("/")) for name in names}
    if any(path[0] in SPLITS for path in steps.values() if len(path) > 1):
        return _split_first(steps, labels)
    deep = {name: path for name, path in steps.items() if len(path) > 1}
    loose = [name for name in names if name not in deep]
    if labels == "none" or not deep:
        return dict.fromkeys(names, Place())
    if labels == "auto" and any(not name.lower().endswith(".txt") for name in loose):
        if len({len(path) for path in deep.values()}) > 1:  # no order in it: a collection
            return dict.fromkeys(names, Place())
        raise Problem(
            f"{raw}: it is unclear whether its folders are classes",
            f"{len(loose)} files lie beside them, such as {loose[0]}",
            "say 'labels: folders' to set those aside, or 'labels: none' to read everything as unlabelled",
        )
    inner = all(len(path) > 2 and path[1] in SPLITS for path in deep.values())
    places = {name: Place(path[0], path[1] if inner else None) for name, path in deep.items()}
    return {name: places.get(name, Place(outside="lies outside the class folders")) for name in names}


def _split_first(steps: dict[str, tuple[str, ...]], labels: str) -> dict[str, Place]:
    """root/{train,test}/<class>/**, or root/{train,test}/* where there are no classes."""
    labelled = labels != "none" and any(len(path) > 2 for path in steps.values() if path[0] in SPLITS)
    places = {}
    for name, path in steps.items():
        if path[0] not in SPLITS or len(path) < 2:
            places[name] = Place(outside="is neither in train/ nor in test/")
        elif labelled and len(path) == 2:
            places[name] = Place(outside="lies outside the class folders")
        else:
            places[name] = Place(path[1] if labelled else None, path[0])
    return places


def told_by(path: Path) -> tables.Contents | None:
    """What an .npz or .h5 says; None for a damaged one, which is set aside when it is read."""
    try:
        stat = path.stat()
        return _contents(path, stat.st_mtime_ns, stat.st_size)
    except (Problem, OSError):
        return None


@lru_cache(maxsize=4096)
def _contents(path: Path, changed: int, size: int) -> tables.Contents:
    return tables.contents(path)


def _id(name: str, contents: tables.Contents | None, row: int) -> str:
    return name if contents is None or contents.rows is None else f"{name}#{row:06d}"


def _agreed(known: Iterable[tables.Contents], key: Literal["classes", "parts"], raw: Path) -> tuple[str, ...]:
    """The longest list of names, of which every other one must be the beginning."""
    lists = sorted({getattr(contents, key) for contents in known}, key=len)
    longest: tuple[str, ...] = lists[-1] if lists else ()
    for names in lists:
        if names != longest[: len(names)]:
            raise Problem(
                f"{raw}: its files do not agree on the names of the {key}",
                f"{', '.join(names[:5])} ... against {', '.join(longest[:5])} ...",
                "give them the same lists",
            )
    return longest


def decide(
    drafts: Sequence[tuple[str, int, str | None]], names: Sequence[str], config: Config, raw: Path
) -> list[Split]:
    """The split of every (id, label, split): as it is given, else drawn within each class; unlabelled: train."""
    for id, _, split in drafts:
        if split not in (None, *SPLITS):
            raise Problem(f"{raw}: {id} is of the split '{split}'", "there are train and test", "say 'split: train'")
    if config.split:
        return [config.split] * len(drafts)
    open_ids = defaultdict(list)
    for id, label, split in drafts:
        if split is None and label >= 0:
            open_ids[label].append(id)
    test = {id for label, ids in open_ids.items() for id in drawn(ids, names[label], config, raw)}
    found: list[Split] = [split or ("test" if id in test else "train") for id, _, split in drafts]  # type: ignore[misc]
    _check_both(drafts, found, names, raw)
    return found


def drawn(ids: Sequence[str], name: str, config: Config, raw: Path) -> list[str]:
    """The ids of one class that are for testing: at least one, never all, and the same ones in any order."""
    if not config.test_fraction:
        return []
    if len(ids) < 2:
        raise Problem(
            f"{raw}: the class '{name}' has a single shape ({ids[0]})",
            "a split needs one for training and one for testing",
            "add a shape, remove the class, or say 'split: train'",
        )
    wanted = min(max(round(config.test_fraction * len(ids)), 1), len(ids) - 1)
    return sorted(ids, key=lambda id: derive(config.seed, "split", id))[:wanted]


def _check_both(
    drafts: Sequence[tuple[str, int, str | None]], splits: Sequence[Split], names: Sequence[str], raw: Path
) -> None:
    """Before a long reading: a class that only one split has."""
    have: dict[str, set[int]] = {"train": set(), "test": set()}
    for (_, label, _), split in zip(drafts, splits, strict=True):
        if label >= 0:
            have[split].add(label)
    if not (have["train"] and have["test"] and have["train"] != have["test"]):
        return
    label = min(have["train"] ^ have["test"])
    has, lacks = SPLITS if label in have["train"] else SPLITS[::-1]
    raise Problem(
        f"{raw}: the class '{names[label]}' is in {has} only",
        f"{lacks} has no shape of it, and no classifier could be judged on it",
        f"add shapes of '{names[label]}' to {lacks}, remove the class, or say 'split: train'",
    )


def forge(raw: Path) -> None:
    """Two classes, both splits, every kind of file that a library here can write."""
    import trimesh

    rng = np.random.default_rng(7)
    for split in SPLITS:
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
