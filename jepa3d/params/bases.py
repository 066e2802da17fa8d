"""What an entry of params.yaml takes over: from another entry (`base:`), and a file from another (`extends:`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jepa3d.params import yaml_file
from jepa3d.params.validation import pick
from jepa3d.problem import Mistakes, Problem

SECTIONS = ("studies", "datasets", "patches", "models", "tasks", "runs", "evals")


def read(path: Path, trail: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A params.yaml over the one that it `extends`, if it does: sections and entries are merged key by key."""
    if path.resolve() in trail:
        files = [*trail[trail.index(path.resolve()) :], path]
        raise Problem(
            f"{trail[-1]}: extends: the files form a cycle",
            " -> ".join(file.name for file in files),
            "let one of them stand by itself",
        )
    data = yaml_file.read(path)
    for section in SECTIONS:
        if isinstance(entries := data.get(section), Mapping):
            data[section] = {str(name): entry for name, entry in entries.items()}
    if "extends" not in data:
        return data
    if not isinstance(data["extends"], str) or not data["extends"]:
        raise Problem(f"{path.name}: extends: must be one file", f"found {data['extends']!r}", "name one params.yaml")
    below = read(path.parent / data["extends"], (*trail, path.resolve()))
    merged = {key: value for key, value in below.items() if key != "extends"} | data
    for section, entries in data.items():
        if section in SECTIONS and isinstance(entries, Mapping) and isinstance(below.get(section), Mapping):
            merged[section] = below[section] | {
                name: merge(below[section][name], entry) if name in below[section] else entry
                for name, entry in entries.items()
            }
        elif section == "execution" and section in below:
            merged[section] = merge(below[section], entries)
    return merged


def resolve(entries: Mapping[str, Any], section: str, source: str, mistakes: Mistakes) -> dict[str, Any]:
    """Every entry of a section with its `base:` merged in. A mapping merges key by key; one of another `kind` replaces.

    A base that does not exist, a cycle, and an entry that is no mapping are mistakes, and the entry is left out. A
    `sweep` is of the entry that has it alone.
    """

    def whole(name: str, trail: tuple[str, ...]) -> dict[str, Any]:
        if name in trail:
            raise Problem(
                f"{section}.{name}.base: the bases form a cycle",
                " -> ".join([*trail[trail.index(name) :], name]),
                "let one of them stand without a base",
            )
        if not isinstance(name, str):
            raise Problem(f"{section}.{trail[-1]}.base: must be one name", f"found {name!r}", "give one name")
        entry = pick(entries, section, name, source, where=f"{section}.{trail[-1]}.base" if trail else "")
        if not isinstance(entry, Mapping):
            raise Problem(
                f"{section}.{name}: must be a mapping", f"found {entry!r}", "see the README's table of entries"
            )
        own = {key: value for key, value in entry.items() if key != "base"}
        if "base" not in entry:
            return own
        below = whole(entry["base"], (*trail, name))
        below.pop("sweep", None)
        merged: dict[str, Any] = merge(below, own)
        return merged

    found = {}
    for name in entries:
        with mistakes.collected():
            found[name] = whole(name, ())
    return found


def merge(below: Any, above: Any) -> Any:
    """`above` over `below`: mappings key by key, anything else as a whole; one of another `kind` replaces."""
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    if "kind" in above and above["kind"] != below.get("kind"):
        return dict(above)
    merged = dict(below)
    for key, value in above.items():
        merged[key] = merge(below[key], value) if key in below else value
        if key in ("steps", "epochs") and key not in below:  # the two lengths exclude each other
            merged.pop("epochs" if key == "steps" else "steps", None)
        if key in ("warmup_steps", "warmup_epochs") and key not in below:
            merged.pop("warmup_epochs" if key == "warmup_steps" else "warmup_steps", None)
    return merged
