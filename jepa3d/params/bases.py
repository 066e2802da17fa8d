"""`base:` in params.yaml: an entry is another one with some changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jepa3d.params.validation import pick
from jepa3d.problem import Problem


def resolve(entries: Mapping[str, Any], section: str, source: str = "params.yaml") -> dict[str, Any]:
    """Every entry of a section with its `base:` merged in. A mapping merges key by key; one of another `kind` replaces.

    Raises a Problem for a base that does not exist, a cycle, and an entry that is no mapping.
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
        return _merge(whole(entry["base"], (*trail, name)), own) if "base" in entry else own

    entries = {str(name): entry for name, entry in entries.items()}
    return {name: whole(name, ()) for name in entries}


def _merge(below: Any, above: Any) -> Any:
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    if "kind" in above and above["kind"] != below.get("kind"):
        return dict(above)
    merged = dict(below)
    for key, value in above.items():
        merged[key] = _merge(below[key], value) if key in below else value
        if key in ("steps", "epochs") and key not in below:  # the two lengths exclude each other
            merged.pop("epochs" if key == "steps" else "steps", None)
        if key in ("warmup_steps", "warmup_epochs") and key not in below:
            merged.pop("warmup_epochs" if key == "warmup_steps" else "warmup_steps", None)
    return merged
