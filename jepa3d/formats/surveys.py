"""Everything that somebody's folder of shapes says, before a single point is read: classes, splits, what is left out.

Each rule is in the table of docs/datasets.md. What can be read in two ways is a Problem that names the two; nothing
is left out without its name or its count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from jepa3d.formats import clouds, listing, lists, roots, tables
from jepa3d.formats.arrangement import Arranged, Place, Split, arrange, by_name, marked, plainly
from jepa3d.problem import Problem
from jepa3d.seeds import derive

NOTE = "holds words, and no points"
SAY = "say 'split: train', 'split: test' or 'split: drawn' in its entry, or rename them"
READ = "convert them to .ply, or move them away"


class Rules(NamedTuple):
    """The fields of an entry in params.yaml that decide on classes and splits."""

    labels: Literal["auto", "folders", "none"] = "auto"
    split: Literal["train", "test", "drawn"] | None = None
    validation: Literal["aside", "train", "test"] | None = None
    test_fraction: float = 0.2
    seed: int = 0


class Row(NamedTuple):
    """One shape: its file (relative to the root, "" is the root), its id, and what is known of it."""

    file: str
    id: str
    label: int
    split: Literal["train", "test"]
    aside: str = ""  # why a rule leaves it out


class Draft(NamedTuple):
    """The same before its split is settled."""

    file: str
    id: str
    label: int
    split: Split | None


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
        raise Problem(f"{raw}: no folder, and no file that is read", "", f"those end in {' '.join(clouds.ENDINGS)}")
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
        raise Problem(f"{raw}: some of its files have labels of text, others numbers", "", "give all the same kind")
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
        raise Problem(f"{raw}: more than {tables.MOST_PARTS:,} different part labels", "", "are they parts?")
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


# ---- splits


def split(
    places: Mapping[str, Place],
    told: Mapping[str, tables.Contents],
    listed: lists.Lists,
    arranged: Arranged,
    rules: Rules,
    raw: Path,
) -> tuple[dict[str, Split], dict[str, str], list[str]]:
    """By file: the split that folders, lists or names tell; those in no list; and in words where it came from."""
    if rules.split is not None:
        return {}, {}, []
    files = [name for name, place in places.items() if not place.outside]
    found: dict[str, Split] = {name: place.split for name in files if (place := places[name]).split}
    came = [arranged.split_from] if found else []
    for name, told_split in listed.split.items():
        if found.setdefault(name, told_split) != told_split:
            raise Problem(
                f"{raw / name}: a list says {told_split}, its folder {found[name]}", "", "correct one of them"
            )
    unlisted: dict[str, str] = {}
    arrays = [name for name in files if name in told and told[name].split]
    came += [f"the array 'split' of {arrays[0] or raw.name}"] if arrays else []
    still = [name for name in files if name not in found and name not in arrays]
    if listed.used:
        came.append(f"the {'list' if len(listed.used) == 1 else 'lists'} {' and '.join(listed.used)}")
        if still and len(set(listed.split.values())) == 1:
            raise Problem(
                f"{raw / listed.used[0]}: lists {len(listed.split):,} of {len(files):,} files",
                f"no list has the others, such as {still[0]}",
                "add a list of the others, or move it away",
            )
        unlisted = dict.fromkeys(still, f"is in none of the lists {' and '.join(listed.used)}")
    elif still:
        by = named_splits(still, places, told, raw)
        found |= by
        came += [f"the names of the files, such as {still[0]}"] if by else []
    return found, unlisted, came


def named_splits(
    files: Sequence[str], places: Mapping[str, Place], told: Mapping[str, tables.Contents], raw: Path
) -> dict[str, Split]:
    """The splits that the names of all files tell. A Problem where only some do."""
    by = by_name(files, {name: places[name].of_class for name in files})
    many = [name for name in files if name in told and told[name].rows is not None]
    without = [name for name in files if name not in by]
    if not by:
        with_word = [name for name in many if marked(name.rsplit("/", 1)[-1].rsplit(".", 1)[0])]
        without = [name for name in many if name not in with_word]
        by = dict.fromkeys(with_word, "train") if with_word and without else {}
    if by and without:
        raise Problem(
            f"{raw}: the names of {len(by):,} of {len(files):,} files tell a split",
            f"{next(iter(by))} does, {without[0]} does not",
            SAY,
        )
    return by


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


def row_split(text: str, of_file: Split | None, where: str) -> Split:
    """The split that the array of a table tells; a Problem for another word, or where its file tells another one."""
    found = plainly(text)
    if found is None or of_file not in (None, found):
        why = f"its file is of {of_file}" if found else "train, test and validation are known"
        raise Problem(f"{where}: is of the split '{text[:80]}'", why, "correct it, or say 'split: train' in the entry")
    return found


def settle(
    drafts: list[Draft], classes: Sequence[str], came: list[str], beside: Sequence[str], rules: Rules, raw: Path
) -> tuple[list[Row], str]:
    """The split of every shape: as it is told, else drawn within each class; unlabelled shapes are for training."""
    if rules.split in ("train", "test"):
        return [Row(*draft[:3], rules.split) for draft in drafts], f"'split: {rules.split}' in its entry"  # type: ignore[arg-type]
    having = sum(draft.split is not None for draft in drafts)
    if 0 < having < len(drafts):
        without = next(draft.id for draft in drafts if draft.split is None)
        raise Problem(f"{raw}: {having:,} of {len(drafts):,} shapes have a split", f"{without} has none", SAY)
    if (unclear := lists.unclear(beside)) and not having:
        raise Problem(
            f"{raw / unclear}: may have the splits, in a form that is not read",
            "nothing else tells a split, and to draw one could train on its test shapes",
            "write train.txt and test.txt with the names of the files, or say 'split: drawn' in the entry",
        )
    if having:
        rows = list(validated(drafts, rules, raw))
    else:
        rows, came = drawn(drafts, classes, rules, raw)
    check_both(rows, classes, raw)
    return rows, "; ".join(came)


def validated(drafts: Sequence[Draft], rules: Rules, raw: Path) -> Iterable[Row]:
    """Shapes of a validation split are neither trained on nor tested on, unless the entry says so."""
    kinds = {draft.split for draft in drafts}
    if "val" in kinds and rules.validation is None and "test" not in kinds:
        raise Problem(
            f"{raw}: it has a validation split and no test split",
            "what the validation split is for is not said",
            "say 'validation: test' to test on it, 'validation: train' to train on it, or 'validation: aside'",
        )
    use = rules.validation or "aside"
    for file, id, label, told in drafts:
        if told == "val" and use == "aside":
            yield Row(file, id, label, "train", "is of the validation split; see 'validation' in docs/datasets.md")
        else:
            yield Row(file, id, label, use if told == "val" else told)  # type: ignore[arg-type]


def drawn(drafts: Sequence[Draft], classes: Sequence[str], rules: Rules, raw: Path) -> tuple[list[Row], list[str]]:
    open_ids = defaultdict(list)
    for draft in drafts:
        if draft.label >= 0:
            open_ids[draft.label].append(draft.id)
    test = {id for label, ids in open_ids.items() for id in for_testing(ids, classes[label], rules, raw)}
    words = f"drawn within each class, {rules.test_fraction:.0%} for testing, with seed {rules.seed}"
    if not open_ids:
        words = "nothing tells one, and nothing is labelled: all are for training"
    return [Row(*draft[:3], "test" if draft.id in test else "train") for draft in drafts], [words]


def for_testing(ids: Sequence[str], name: str, rules: Rules, raw: Path) -> list[str]:
    """The ids of one class that are for testing: at least one, never all, and the same ones in any order."""
    if not rules.test_fraction:
        return []
    if len(ids) < 2:
        raise Problem(
            f"{raw}: the class '{name}' has a single shape ({ids[0]})",
            "a split needs one for training and one for testing",
            "add a shape, remove the class, or say 'split: train'; if its folders are no classes, say 'labels: none'",
        )
    wanted = min(max(round(rules.test_fraction * len(ids)), 1), len(ids) - 1)
    return sorted(ids, key=lambda id: derive(rules.seed, "split", id))[:wanted]


def check_both(rows: Iterable[Row], classes: Sequence[str], raw: Path) -> None:
    """Before a long reading: a class that only one split has."""
    have: dict[str, set[int]] = {"train": set(), "test": set()}
    for row in rows:
        if row.label >= 0 and not row.aside:
            have[row.split].add(row.label)
    if not (have["train"] and have["test"] and have["train"] != have["test"]):
        return
    label = min(have["train"] ^ have["test"])
    has, lacks = ("train", "test") if label in have["train"] else ("test", "train")
    raise Problem(
        f"{raw}: the class '{classes[label]}' is in {has} only",
        f"{lacks} has no shape of it, and no classifier could be judged on it",
        f"add shapes of '{classes[label]}' to {lacks}, remove the class, or say 'split: train'",
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
