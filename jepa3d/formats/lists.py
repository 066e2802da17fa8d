"""Lists beside somebody's shapes: which of them are for training and for testing, and the names of the classes.

A split list is a `.txt`, `.lst`, `.list` or `.json` file whose name tells a split ("modelnet40_train.txt",
"shuffled_test_file_list.json") and whose entries name shapes: by path, from any folder above it, with the ending or
without, or by the file's name alone. A split table is one (or a `.csv`, `.tsv`) whose name has "split" in it
("train_test_split.csv"): a shape and its split in a line, or in JSON a list for each split. A list of class names is
called `shape_names.txt`, `class_names.txt` or `classes.txt`, whatever comes before.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from jepa3d.formats import texts
from jepa3d.formats.arrangement import Split, marked, plainly, words
from jepa3d.problem import Problem

ENDINGS = (".txt", ".lst", ".list", ".json", ".csv", ".tsv")
TABLE_WORDS = {"split", "splits", "partition", "partitions"}
Entries = list[tuple[str, Split]]
NAMES = re.compile(r"(?:.*_)?(?:(?:shape|class|category)_?names?|classes|categories)\.txt", re.IGNORECASE)
DEEPEST = 2  # folders below the root
LARGEST = 16 << 20  # bytes of a list
BEGINNING = 4096


class Lists(NamedTuple):
    """What the lists say, and which files they are."""

    split: dict[str, Split]  # by shape
    absent: dict[str, str]  # entries without a file, with the list that has them
    used: tuple[str, ...]


def is_note(path: Path) -> bool:
    """Whether a `.txt` file holds words, and no line of three numbers in its beginning."""
    try:
        with path.open("rb") as file:
            head = file.read(BEGINNING)
    except OSError:
        return False  # whoever reads it says why it cannot be read
    is_text = not any(sign < 32 and sign not in b"\t\n\r\f\x0b" for sign in head)
    return is_text and not any(_is_point(line) for line in head.splitlines())


def _is_point(line: bytes) -> bool:
    """Whether a line begins with three numbers, whatever is between them."""
    fields = line.replace(b",", b" ").replace(b";", b" ").split(maxsplit=3)[:3]
    try:
        return len([float(field) for field in fields]) == 3
    except ValueError:
        return False


def split_lists(notes: Iterable[str], shapes: Sequence[str], base: str, raw: Path) -> Lists:
    """The lists among `notes` that name some of the `shapes` (both relative to `raw`; `base`: the enclosing folder).

    Raises a Problem for a list that looks like one and names none of them, and for a shape of two splits.
    """
    entries = {name: listed for name in notes if (listed := _entries(name, raw))}
    if not entries:
        return Lists({}, {}, ())
    known = _known(shapes, base)
    split: dict[str, Split] = {}
    said_by: dict[str, str] = {}
    absent: dict[str, str] = {}
    used = []
    for name, listed in entries.items():
        hits = [(entry, _resolve(entry, known, name, raw), told) for entry, told in listed]
        if not any(shape for _, shape, _ in hits):
            continue
        used.append(name)
        for entry, shape, told in hits:
            if shape is None:
                absent[entry] = name
            elif split.setdefault(shape, told) != told:
                raise Problem(
                    f"{raw / shape}: is in two lists, {said_by[shape]} and {name}",
                    "a shape is of one split",
                    "take it out of one of them",
                )
            else:
                said_by[shape] = name
    if not used and len({told for listed in entries.values() for _, told in listed}) > 1:
        name = next(iter(entries))
        raise Problem(
            f"{raw / name}: none of its {len(entries[name]):,} entries names a file of this folder",
            f"such as '{entries[name][0][0][:80]}'",
            "correct the list, or move it away",
        )
    return Lists(split, absent, tuple(used))


def unclear(notes: Iterable[str]) -> str | None:
    """A file that by its name has the splits; where `split_lists` finds none in it, its form is another one."""
    return next((name for name in sorted(notes) if _is_table(name)), None)


def class_names(notes: Iterable[str], raw: Path) -> tuple[str, tuple[str, ...]] | None:
    """The list of class names beside the shapes, and its lines; two that differ are a Problem."""
    found = {name: tuple(texts.lines(raw / name)) for name in sorted(notes) if NAMES.fullmatch(name.rsplit("/", 1)[-1])}
    if len(set(found.values())) > 1:
        raise Problem(f"{raw}: {' and '.join(found)} differ", "both are lists of class names", "remove one of them")
    return next(iter(found.items()), None)


def may_be_list(name: str) -> bool:
    """Of a file that is no shape by its ending."""
    return _told(name) is not None or _is_table(name)


def _told(name: str) -> Split | None:
    found = marked(_stem(name)) if _in_place(name) and not _is_table(name) else None
    return found[0] if found and not name.lower().endswith((".csv", ".tsv")) else None


def _is_table(name: str) -> bool:
    return _in_place(name) and bool(TABLE_WORDS & set(words(_stem(name))))


def _in_place(name: str) -> bool:
    return name.count("/") <= DEEPEST and name.lower().endswith(ENDINGS)


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def _entries(name: str, raw: Path) -> Entries:
    """The entries of a file that may be a list, with their splits; none for one that is something else."""
    path, told, is_table = raw / name, _told(name), _is_table(name)
    if not (told or is_table) or path.stat().st_size > LARGEST:
        return []
    try:
        if path.suffix.lower() == ".json":
            return _of_json(path, told)
        listed = [line for line in dict.fromkeys(texts.lines(path)) if not line.startswith("#")]
    except Problem:
        return []
    if told:
        return [(entry, told) for entry in listed]
    fields = [[field.strip("\"'") for field in re.split(r"[\s,;]+", line)] for line in listed]
    return [
        (next(field for field in row if plainly(field) is None), splits[0])
        for row in fields
        if len(splits := [split for field in row if (split := plainly(field))]) == 1 and len(row) > 1
    ]


def _of_json(path: Path, told: Split | None) -> Entries:
    """A list of names, or for each split one."""
    if told:
        return [(entry, told) for entry in dict.fromkeys(texts.json_list(path))]
    found = texts.json_lists(path)
    return [
        (entry, split) for key, listed in found.items() if (split := plainly(key)) for entry in dict.fromkeys(listed)
    ]


class Known(NamedTuple):
    """The shapes by each way in which a list may call them."""

    ends: dict[str, list[str]]  # by the last steps of the path, one or more of them
    paths: dict[str, str]  # by the whole path, from the root or from the enclosing folder


def _known(shapes: Sequence[str], base: str) -> Known:
    known = Known(defaultdict(list), {})
    for shape in shapes:
        bare = shape.rsplit(".", 1)[0] if "." in shape.rsplit("/", 1)[-1] else shape
        for path in {shape, bare}:
            steps = path.split("/")
            for start in range(len(steps)):
                known.ends["/".join(steps[start:])].append(shape)
            known.paths[path] = known.paths[path.removeprefix(base)] = shape
    return known


def _resolve(entry: str, known: Known, listed_in: str, raw: Path) -> str | None:
    """The shape that an entry names: it is the end of the shape's path, or the path is the end of it.

    A line may have more after the name, such as a label.
    """
    for text in (entry, re.split(r"[\s,;]+", entry)[0]):
        path = text.replace("\\", "/").removeprefix("./")
        found = known.ends.get(path, ())
        if len(found) > 1 and path not in known.paths:
            raise Problem(
                f"{raw / listed_in}: '{entry[:80]}' may be {found[0]} or {found[1]}",
                "an entry names one file",
                "write the path of each file, from this folder on",
            )
        if found:
            return known.paths.get(path, found[0])
        steps = path.split("/")
        for start in range(1, len(steps)):
            if shape := known.paths.get("/".join(steps[start:])):
                return shape
    return None
