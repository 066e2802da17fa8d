"""Which split each shape of somebody's folder is of: as folders, lists, names of files or arrays tell, else drawn.

What tells a split of some shapes only, or two splits of one shape, is a Problem. Rules are in docs/datasets.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from jepa3d.formats import lists, tables
from jepa3d.formats.arrangement import Arranged, Place, Split, by_name, marked, plainly
from jepa3d.problem import Problem
from jepa3d.seeds import derive

SAY = "say 'split: train', 'split: test' or 'split: drawn' in its entry, or rename them"


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
                f"{raw / name}: a list says {told_split}, its folder {found[name]}",
                "a shape is of one split",
                "correct one of them",
            )
    unlisted: dict[str, str] = {}
    arrays = {name: None for name in files if name in told and told[name].split}
    came += [f"the array 'split' of {next(iter(arrays)) or raw.name}"] if arrays else []
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
