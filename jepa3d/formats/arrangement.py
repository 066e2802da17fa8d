"""What the folders of somebody's shapes say: which class and which split each file is of.

    {train,test}/<class>/**     classes and split            {train,test}/*     split, no classes
    <class>/{train,test}/**     the same, ModelNet's way     <class>/**         classes, no split
    */<any of these>            one enclosing folder is looked through          *     neither

The splits go by the names that people give them (`SPLIT_WORDS`), in any case, with what is common to all of them
("ModelNet40_train", "ModelNet40_test") left away. A layout that matches half is a Problem: to read it either way could
train on the test shapes. Class names are in the normal form NFC. docs/datasets.md has the table of all rules.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from jepa3d.problem import Problem

Split = Literal["train", "test", "val"]
SPLIT_WORDS: dict[str, Split] = {
    "train": "train", "training": "train", "trn": "train", "trainset": "train", "traindata": "train",
    "trainval": "train",
    "test": "test", "testing": "test", "tst": "test", "testset": "test", "testdata": "test",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "dev": "val", "valset": "val",
}  # fmt: skip
PLAIN = {"", "set", "data", "dataset", "split", "files", "shapes", "models", "meshes", "clouds", "pointclouds"}
OUTSIDE = "lies outside the class folders"
NEITHER = "is neither in train/ nor in test/"
RENAME = "rename its folders, or name the one that is meant with 'root:'"


class Place(NamedTuple):
    """What a file's folders say about it."""

    of_class: str | None = None
    split: Split | None = None
    outside: str = ""  # why it belongs to no class or split, where the others do


class Arranged(NamedTuple):
    """The place of every file, and in words where the split came from ("": the folders have none)."""

    places: dict[str, Place]
    split_from: str
    base: str  # the enclosing folder that was looked through, with a slash at its end; "": none
    tops: tuple[str, ...] = ()  # the folders that are classes or hold them, below `base`


class Below(NamedTuple):
    """One file: its name, and its steps below the base."""

    name: str
    steps: tuple[str, ...]


@lru_cache(maxsize=65536)
def words(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case: "ModelNet40_Train2" -> model, net, train."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFC", name))
    return tuple(word for word in re.split(r"[\W\d_]+", parted.casefold()) if word)


def marked(name: str) -> tuple[Split, str] | None:
    """The split that a name tells, and what else it says: "ply_data_test0" -> (test, "ply data").

    None where it tells none, or two.
    """
    found = [word for word in words(name) if word in SPLIT_WORDS]
    if len({SPLIT_WORDS[word] for word in found}) != 1 or len(found) > 1:
        return None
    rest = [word for word in words(name) if word not in SPLIT_WORDS]
    return SPLIT_WORDS[found[0]], " ".join(rest)


def plainly(name: str) -> Split | None:
    """The split that a folder's name is: "Training", "test_set"."""
    told = marked(name)
    return told[0] if told and told[1] in PLAIN and not re.search(r"\d", name) else None


def splits_of(siblings: Iterable[str]) -> dict[str, Split]:
    """Those of the folders beside each other that are splits."""
    names = sorted(siblings)
    plain = {name: split for name in names if (split := plainly(name))}
    if plain:
        return plain
    told = {name: found for name in names if (found := marked(name))}
    kinds = {split for split, _ in told.values()}
    if len(told) == len(names) and len(kinds) > 1 and len({rest for _, rest in told.values()}) == 1:
        return {name: split for name, (split, _) in told.items()}
    return {}


def arrange(names: Sequence[str], labels: str, raw: Path) -> Arranged:
    """Class and split of every file; `labels` is auto, folders or none.

    Raises a Problem for a layout that can be read in two ways.
    """
    base, paths = _below(names)
    deep = [path for path in paths if len(path.steps) > 1]
    loose = [path for path in paths if len(path.steps) == 1]
    where = raw / base if base else raw
    children = _children(deep)
    tops = tuple(sorted(children))
    first = _split_first(tops, children, paths, labels, where)
    found = first or _class_first(children, deep, loose, where)
    _check_deeper(deep, 1 if first else 2, where)
    if found is None:
        return Arranged(_unsplit(deep, loose, labels, where), "", base, tops)
    places, split_from = found
    if labels == "none":
        places = {name: place._replace(of_class=None) for name, place in places.items()}
    return Arranged(places, split_from, base, tops)


def _children(paths: Sequence[Below]) -> dict[str, set[str]]:
    """By folder the folders in it; "" stands for files."""
    children: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        children[path.steps[0]].add(path.steps[1] if len(path.steps) > 2 else "")
    return dict(children)


def _below(names: Sequence[str]) -> tuple[str, list[Below]]:
    """The files below the enclosing folder: looked through while it is the only one, and itself no class or split."""
    steps = [tuple(name.split("/")) for name in names]
    depth = 0
    while True:
        tops = {path[depth] for path in steps}
        if len(tops) != 1 or any(len(path) <= depth + 2 for path in steps) or plainly(next(iter(tops))):
            break
        inner = {path[depth + 1] for path in steps}
        if all(len(path) == depth + 3 for path in steps) and len(splits_of(inner)) == len(inner):
            break  # <class>/{train,test}/*
        depth += 1
    base = "".join(f"{step}/" for step in steps[0][:depth])
    return base, [Below(name, path[depth:]) for name, path in zip(names, steps, strict=True)]


def _split_first(
    tops: Sequence[str], children: dict[str, set[str]], paths: Sequence[Below], labels: str, raw: Path
) -> tuple[dict[str, Place], str] | None:
    """{train,test}/<class>/**, or {train,test}/* where there are no classes."""
    splits = splits_of(tops)
    if not splits:
        return None
    kinds = set(splits.values())
    if len(kinds) < len(splits):
        twice = sorted(name for name in splits if list(splits.values()).count(splits[name]) > 1)
        raise Problem(
            f"{raw}: {' and '.join(f'{name}/' for name in twice)} name one split", "one of them is meant", RENAME
        )
    inner = {child for top in splits for child in children[top]}
    all_inner = bool(inner) and "" not in inner and len(splits_of(inner)) == len(inner)
    if len(kinds) == 1:
        others = [name for name in tops if name not in splits]
        if others and labels == "folders":
            return None
        if others and all(len(splits_of(children[top])) == len(children[top]) for top in tops):
            return None  # a class that is called "train" beside others, each with its own splits
        if others or all_inner:
            name = next(iter(splits))
            raise Problem(
                f"{raw}: it is unclear whether {name}/ is a split or a class",
                f"{others[0]}/ lies beside it" if others else f"{sorted(inner)[0]}/ lies in it",
                RENAME,
            )
    labelled = labels != "none" and any(len(path.steps) > 2 for path in paths if path.steps[0] in splits)
    places = {}
    for name, steps in paths:
        split = splits.get(steps[0]) if len(steps) > 1 else None
        if split is None:
            places[name] = Place(outside=NEITHER)
        elif labelled and len(steps) == 2:
            places[name] = Place(outside=OUTSIDE)
        else:
            places[name] = Place(_class(steps[1]) if labelled else None, split)
    return places, f"the folders {_listed(splits)}"


def _class_first(
    children: dict[str, set[str]], deep: Sequence[Below], loose: Sequence[Below], raw: Path
) -> tuple[dict[str, Place], str] | None:
    """<class>/{train,test}/**, in every class or in none."""
    splits = {top: splits_of(inside - {""}) for top, inside in children.items()}
    having = [top for top, found in splits.items() if found]
    if not having:
        return None
    lacking = sorted(set(splits) - set(having))
    if lacking:
        raise Problem(
            f"{raw}: the class folder {lacking[0]}/ has no train/ and test/ in it, as {having[0]}/ has",
            f"{len(having)} of {len(splits)} class folders have {_listed(splits[having[0]])}",
            "put its files into such folders, rename those of the others, or move it away",
        )
    for top, found in splits.items():
        if len(set(found.values())) < len(found):
            raise Problem(f"{raw / top}: {_listed(found)} name one split", "one of them is meant", RENAME)
        others = sorted(children[top] - set(found))
        if others and len(set(found.values())) == 1:
            beside = f"{others[-1]}/ lies beside it" if others[-1] else "files lie beside it"
            raise Problem(f"{raw / top}: it is unclear whether {next(iter(found))}/ is a split", beside, RENAME)
    places = {path.name: Place(outside=OUTSIDE) for path in loose}
    for name, steps in deep:
        split = splits[steps[0]].get(steps[1]) if len(steps) > 2 else None
        places[name] = Place(_class(steps[0]), split) if split else Place(outside=NEITHER)
    every = {word: split for found in splits.values() for word, split in found.items()}
    return places, f"the folders {_listed(every)} in each class"


def _unsplit(deep: Sequence[Below], loose: Sequence[Below], labels: str, raw: Path) -> dict[str, Place]:
    """<class>/**, or no classes at all."""
    everything = [path.name for path in (*deep, *loose)]
    _check_tops(sorted({path.steps[0] for path in deep}), raw)
    if labels == "none" or not deep:
        return dict.fromkeys(everything, Place())
    if labels == "auto" and loose:
        if len({len(path.steps) for path in deep}) > 1:  # no order in it: a collection
            return dict.fromkeys(everything, Place())
        raise Problem(
            f"{raw}: it is unclear whether its folders are classes",
            f"{len(loose)} files lie beside them, such as {loose[0].name}",
            "say 'labels: folders' to set those aside, or 'labels: none' to read everything as unlabelled",
        )
    places = {path.name: Place(outside=OUTSIDE) for path in loose}
    return places | {path.name: Place(_class(path.steps[0])) for path in deep}


def _check_deeper(paths: Iterable[Below], start: int, raw: Path) -> None:
    """Splits from step `start` on, below those that are read: what is drawn or told above may not mix them."""
    inner: dict[tuple[str, ...], dict[Split, str]] = defaultdict(dict)
    for path in paths:
        for at in range(start, len(path.steps) - 1):
            if split := plainly(path.steps[at]):
                inner[path.steps[:at]][split] = path.steps[at]
    for above, found in sorted(inner.items()):
        if len(found) > 1:
            raise Problem(
                f"{raw / '/'.join(above)}: has {_listed({name: split for split, name in found.items()})} in it",
                "splits are read in the first folder or in each class, not deeper",
                RENAME,
            )


def _check_tops(tops: Sequence[str], raw: Path) -> None:
    """Names such as chair_train and chair_test: splits and classes in one."""
    told = {top: found for top in tops if (found := marked(top))}
    if _paired(told.values()):
        raise Problem(
            f"{raw}: it is unclear which of its folders are splits",
            f"{', '.join(sorted(told)[:4])} say so, in another way than 'train' and 'test'",
            "put them into train/ and test/, with a folder for each class in both",
        )


def by_name(names: Iterable[str], classes: Mapping[str, str | None]) -> dict[str, Split]:
    """The splits that the names of files tell, where all do or they differ in nothing else: "ply_data_train0.h5".

    A word that is of the name of the file's own class tells nothing.
    """
    told: dict[str, tuple[Split, str]] = {}
    count = 0
    for name in names:
        count += 1
        stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        if found := marked(stem):
            own = classes.get(name)
            if not (own and set(words(stem)) & set(words(own)) & set(SPLIT_WORDS)):
                told[name] = found
    all_told = len(told) == count and len({split for split, _ in told.values()}) > 1
    return {name: split for name, (split, _) in told.items()} if all_told or _paired(told.values()) else {}


def _paired(told: Iterable[tuple[Split, str]]) -> bool:
    """Whether two names differ in their split and in nothing else."""
    kinds = defaultdict(set)
    for split, rest in told:
        kinds[rest].add(split)
    return any(len(splits) > 1 for splits in kinds.values())


def _class(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _listed(splits: dict[str, Split]) -> str:
    order = {"train": 0, "test": 1, "val": 2}
    names = [f"{name}/" for name in sorted(splits, key=lambda name: (order[splits[name]], name))]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
