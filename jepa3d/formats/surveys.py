"""Everything that somebody's folder of shapes says, before a single point is read: classes, splits, what is left out.

Each rule is in the table of docs/datasets.md. What can be read in two ways is a Problem that names the two; nothing
is left out without its name or its count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from jepa3d.formats import clouds, listing, lists, roots, tables
from jepa3d.formats.arrangement import Arranged, Place, Split, arrange
from jepa3d.formats.splitting import Draft, Row, Rules, row_split, settle, split
from jepa3d.problem import Problem

NOTE = "holds words, and no points"
READ = "convert them to .ply, or move them away"


class Outside(NamedTuple):
    """A file that gives no shape. `meant`: because of a rule, not because it cannot be read."""

    id: str
    why: str
    meant: bool


class Survey(NamedTuple):
    rows: tuple[Row, ...]
    many: frozenset[str]  # files of many clouds
    outside: tuple[Outside, ...]
    classes: tuple[str, ...]
    parts: tuple[str, ...]
    part_labels: tuple[int, ...]  # in the order of `parts`; (): 0, 1, 2 ...
    split_from: str
    passed_over: dict[str, int]  # by ending, and by folder where nothing else is in it


def survey(raw: Path, rules: Rules) -> Survey:
    """Raises a Problem where no rule says what is meant."""
    seen = look(raw)
    notes = {name for name in seen.shapes if name.lower().endswith(".txt") and lists.is_note(raw / name)}
    shapes = [name for name in seen.shapes if name not in notes]
    if not shapes:  # whoever reads them says what is wrong
        notes, shapes = set(), list(seen.shapes)
    arranged = arrange(sorted([*shapes, *(name for name in seen.unread if "/" in name)]), rules.labels, raw)
    places = {name: arranged.places.get(name, Place()) for name in (*shapes, *seen.unread)}
    places |= {name: places[name]._replace(outside=why) for name, why in seen.unread.items()}
    beside = [name for name in (*sorted(notes), *seen.companions) if lists.may_be_list(name)]
    of_split = (
        lists.split_lists(beside, list(places), arranged.base, raw) if rules.split is None else lists.Lists({}, {}, ())
    )
    told, broken = contents([name for name, place in places.items() if not place.outside], raw)
    places |= {name: places[name]._replace(outside=why) for name, why in broken.items()}
    check_vanished(places, raw)
    named = None if rules.labels == "none" else lists.class_names(sorted(notes), raw)
    classes, label_of = classified(places, told, named, rules, raw)
    parts, part_labels = parted(told.values(), raw)
    splits, unlisted, came = split(places, told, of_split, arranged, rules, raw)
    drafts = list(drafted(places, told, splits, label_of, unlisted, raw, rules.split is None))
    rows, origin = settle(drafts, classes, came, beside if rules.split is None else (), rules, raw)
    used = {*of_split.used, *([named[0]] if named else [])}
    return Survey(
        tuple(rows),
        frozenset(name for name, found in told.items() if found.rows is not None),
        tuple(left_out(places, broken, notes - used, unlisted, of_split, raw)),
        classes,
        parts,
        part_labels,
        origin,
        passed_over(seen, arranged, used),
    )


def look(raw: Path) -> listing.Listing:
    """The files below `raw`; of a `raw` that is a file itself, that one, by the name "". Raises a Problem for none."""
    if raw.is_file() and listing.ending(raw.name) in clouds.ENDINGS:
        return listing.Listing(("",), {}, (), ())
    if not raw.is_dir():
        raise Problem(
            f"{raw}: no folder, and no file that is read",
            f"it ends in {listing.ending(raw.name) or 'nothing'}",
            f"point clouds and meshes end in {' '.join(clouds.ENDINGS)}",
        )
    found = listing.of(raw)
    if not found.shapes:
        others = [*found.unread, *found.companions]
        raise Problem(
            f"{raw}: no usable file in it",
            f"it has {len(others)} others, such as {listing.shown(min(others))}" if others else "it is empty",
            "unpack it, or name it with 'root:'"
            if len(others) == 1 and roots.is_archive(raw / others[0])
            else f"point clouds and meshes end in {' '.join(clouds.ENDINGS)}",
        )
    return found


# ---- files of many clouds


def contents(names: Iterable[str], raw: Path) -> tuple[dict[str, tables.Contents], dict[str, str]]:
    """What the .npz and .h5 files say; and those that cannot be read, with the reason."""
    told, broken = {}, {}
    for name in names:
        if listing.ending(name or raw.name) in clouds.ARRAYS:
            path = raw / name if name else raw
            try:
                told[name] = contents_of(path)
            except tables.Misfit:
                raise
            except Problem as problem:
                broken[name] = in_words(problem, path)
    return told, broken


def contents_of(path: Path) -> tables.Contents:
    """The same of one file, looked at once as long as it stays what it is."""
    try:
        stat = path.stat()
    except OSError as error:
        raise Problem(f"{path}: cannot be read", error.strerror or str(error)) from None
    return _contents(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _contents(path: Path, changed: int, size: int) -> tables.Contents:
    return tables.contents(path)


def in_words(problem: Problem, path: Path | str) -> str:
    """A Problem as the reason why one shape is set aside."""
    return ": ".join(text for text in (problem.what.removeprefix(f"{path}: "), problem.why) if text)


# ---- classes and parts


class Labels(NamedTuple):
    """How the labels of folders and tables become indices into the classes."""

    folders: Mapping[str, int]
    values: Mapping[int | str, int]  # empty where the folders are the classes, or nothing is

    def of(self, place: Place, told: tables.Contents | None, row: int) -> int:
        if place.of_class is not None:
            return self.folders[place.of_class]
        return self.values.get(told.label[row], -1) if told and told.label and self.values else -1


def classified(
    places: Mapping[str, Place],
    told: Mapping[str, tables.Contents],
    named: tuple[str, tuple[str, ...]] | None,
    rules: Rules,
    raw: Path,
) -> tuple[tuple[str, ...], Labels]:
    """The folders that are classes; else the names that the tables give; else the labels that occur in them."""
    folders = sorted({place.of_class for place in places.values() if place.of_class and not place.outside})
    if folders or rules.labels == "none":
        return tuple(folders), Labels({name: label for label, name in enumerate(folders)}, {})
    given = agreed([found.classes for found in told.values() if found.classes or found.label], "classes", raw)
    present = {value for found in told.values() for value in found.label or () if value != -1}
    if len({type(value) for value in present}) > 1:
        raise Problem(
            f"{raw}: some of its files have labels of text, others numbers",
            "they have no order in common",
            "give all the same kind",
        )
    if not given and present and all(isinstance(value, str) for value in present):
        given = tuple(sorted(map(str, present)))
    if not given and present and named:
        given, highest = named[1], max(int(value) for value in present)
        if highest >= len(given):
            raise Problem(
                f"{raw / named[0]}: has {len(given)} class names, and a label is {highest}",
                "labels go from 0 on",
                "complete the list, or move it away to have the numbers as names",
            )
    if not given:
        numbers = sorted(int(value) for value in present)
        return tuple(map(str, numbers)), Labels({}, {value: label for label, value in enumerate(numbers)})
    keys: Iterable[int | str] = given if any(isinstance(value, str) for value in present) else range(len(given))
    return given, Labels({}, {value: label for label, value in enumerate(keys)})


def parted(told: Iterable[tables.Contents], raw: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names that the tables give; else the part labels that occur. The second: the labels in that order."""
    having = [found for found in told if found.parts or found.part]
    given = agreed([found.parts for found in having], "parts", raw)
    if given:
        return given, ()
    labels = sorted({label for found in having for label in found.part})
    if len(labels) > tables.MOST_PARTS:
        raise Problem(
            f"{raw}: more than {tables.MOST_PARTS:,} different part labels",
            "the canonical file holds no more",
            "leave 'part' out of the files",
        )
    return tuple(map(str, labels)), () if labels == list(range(len(labels))) else tuple(labels)


def agreed(given: Iterable[tuple[str, ...]], key: str, raw: Path) -> tuple[str, ...]:
    """The longest list of names, of which every other one must be the beginning; all files have one, or none."""
    found = sorted(set(given), key=len)
    longest: tuple[str, ...] = found[-1] if found else ()
    for names in found:
        if names != longest[: len(names)] or (longest and not names):
            raise Problem(
                f"{raw}: its files do not agree on the names of the {key}",
                f"{', '.join(names[:5]) or 'no names'} ... against {', '.join(longest[:5])} ...",
                "give them the same lists",
            )
    return longest


def drafted(
    places: Mapping[str, Place],
    told: Mapping[str, tables.Contents],
    splits: Mapping[str, Split],
    labels: Labels,
    unlisted: Mapping[str, str],
    raw: Path,
    told_in_rows: bool,
) -> Iterable[Draft]:
    """Every shape, with the split that its file tells, or its row where that is looked at."""
    for name, place in places.items():
        if place.outside or name in unlisted:
            continue
        found = told.get(name)
        for row in range(found.number if found else 1):
            id = (name or raw.name) + (f"#{row:06d}" if found and found.rows is not None else "")
            told_split = splits.get(name)
            if told_in_rows and found and found.split:
                told_split = row_split(found.split[row], told_split, f"{raw / name}#{row}")
            yield Draft(name, id, labels.of(place, found, row), told_split)


def check_vanished(places: Mapping[str, Place], raw: Path) -> None:
    """No class and no split is lost because its files cannot be read."""
    for what, key in (("class", "of_class"), ("split", "split")):
        lost = defaultdict(list)
        for name, place in places.items():
            lost[getattr(place, key)].append(name)
        for value, names in sorted(lost.items(), key=lambda item: str(item[0])):
            if value and all(places[name].outside for name in names):
                raise Problem(
                    f"{raw}: none of the {len(names)} files of the {what} '{listing.shown(value)}' can be read",
                    f"{listing.shown(names[0])}: {places[names[0]].outside}",
                    READ,
                )


# ---- what is left out


def left_out(
    places: Mapping[str, Place],
    broken: Mapping[str, str],
    notes: Iterable[str],
    unlisted: Mapping[str, str],
    listed: lists.Lists,
    raw: Path,
) -> Iterable[Outside]:
    if len(listed.absent) > max(len(listed.split), 100):
        entry, name = next(iter(listed.absent.items()))
        raise Problem(
            f"{raw / name}: {len(listed.absent):,} of the shapes that it and others list are not there",
            f"such as {entry[:80]}",
            "complete the copy, or shorten the list",
        )
    for name, place in places.items():
        if place.outside:
            yield Outside(listing.shown(name or raw.name), place.outside, False)
    yield from (Outside(listing.shown(name), NOTE, True) for name in sorted(notes))
    yield from (Outside(name, why, True) for name, why in unlisted.items())
    yield from (
        Outside(entry[:200], f"is in {name}, and there is no such file", False) for entry, name in listed.absent.items()
    )


def passed_over(seen: listing.Listing, arranged: Arranged, used: Iterable[str]) -> dict[str, int]:
    """What is no shape: how many of each ending; by folder where a folder has nothing else, empty ones too."""
    lists_used = set(used)
    within = {name[: at + 1] for name in (*seen.shapes, *seen.unread) for at, sign in enumerate(name) if sign == "/"}
    depth = arranged.base.count("/") + 2
    bare = [name for name in seen.folders if name not in within and name.count("/") <= depth]
    bare = [name for name in bare if not any(name != other and name.startswith(other) for other in bare)]
    counts: Counter[str] = Counter()
    filled = set()
    for name in seen.companions:
        if name not in lists_used:
            folder = next((folder for folder in bare if name.startswith(folder)), "")
            filled.add(folder)
            counts[f"{listing.shown(folder)}*{listing.ending(name)}"] += 1
    return {**dict(sorted(counts.items())), **{listing.shown(folder): 0 for folder in bare if folder not in filled}}
