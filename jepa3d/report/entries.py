"""Runs and evaluations of params.yaml as recipes look at them: whole entries, with every default and every entry that
they name put in its place."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from jepa3d import objectives
from jepa3d.params import Params, slice_of
from jepa3d.params.validation import plugin_config

Entry = Mapping[str, Any]

FREE: dict[str, str] = {
    "about": "words for the report",
    "monitor*": "it looks on; nothing that is trained depends on it",
    "data.*.root": "where the files are",
    "data.*.strict": "whether a damaged shape stops the conversion",
    "dataset.root": "where the files are",
    "dataset.strict": "whether a damaged shape stops the conversion",
    "*fit.precision": "how numbers are rounded",
    "*fit.stream": "how shapes are read",
    "model.tokenizer.split": "the same function in fewer products",
    "model.pool": "how probes read the tokens; no weight depends on it",
    "task.which": "section 8 allows either encoder",
    "task.presets": "which published protocols are computed beside ours",
}  # keys that a recipe does not require, and why; all others it does


def run_entry(params: Params, run: str) -> dict[str, Any]:
    """A run's entry with its data sets, its objective's defaults, its model, its patches, and the run that it reads.

    Of a run that is not trained, length and augmentation are left out: there is nothing that they act on.
    """
    entry = params.runs[run]
    objective = plugin_config(objectives, entry.objective.options(), f"runs.{run}.objective", params.source)
    reads = entry.objective.reads
    whole = {
        **slice_of(entry),
        "data": [slice_of(params.dataset(name)) for name in entry.data],
        "objective": {**slice_of(objective), "reads": None if reads is None else run_entry(params, reads)},
        "model": slice_of(params.models[entry.model]),
        "patches": slice_of(params.patches[entry.patches]),
    }
    return whole if entry.fit.steps != 0 else {**whole, "fit": {"steps": 0}, "augment": {}}


def eval_entry(params: Params, run: str, name: str) -> dict[str, Any]:
    """An evaluation's entry with its data set, its task's defaults, and the patches that it sees of this run."""
    entry = params.evals[name]
    scheme = entry.patches or params.runs[run].patches
    return {
        "dataset": slice_of(params.dataset(entry.dataset)),
        "task": dict(entry.task),
        "patches": slice_of(params.patches[scheme]),
    }


def differences(wanted: Any, found: Any, key: str = "") -> list[str]:
    """Where an entry is not the wanted one, as `fit.epochs: 20 instead of 300`; of another kind, only that.

    Every key counts, of either side, but those that are FREE.
    """
    if is_free(key):
        return []
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        if wanted.get("kind") != found.get("kind"):
            return differences(wanted.get("kind"), found.get("kind"), f"{key}.kind".lstrip("."))
        keys = dict.fromkeys([*wanted, *found])
        return [
            text for one in keys for text in differences(wanted.get(one), found.get(one), f"{key}.{one}".lstrip("."))
        ]
    if _are_entries(wanted) and _are_entries(found) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [text for place, (one, other) in pairs for text in differences(one, other, f"{key}.{place}")]
    if wanted == found:
        return []
    return [f"{key}: {_short(found)} instead of {_short(wanted)}"]


def is_free(key: str) -> bool:
    """Whether a recipe leaves this key open, in the entry itself or in that of the run that it reads."""
    own = key.replace("objective.reads.", "")
    return any(fnmatchcase(own, pattern) for pattern in FREE)


def changed(entry: Entry, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with other values at some dotted keys."""
    made = dict(entry)
    for key, value in changes.items():
        first, _, rest = key.partition(".")
        made[first] = changed(made[first], {rest: value}) if rest else value
    return made


def _are_entries(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _short(value: Any) -> str:
    """A value as a line of text: an entry by its kind."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return str(value.get("kind", dict(value)))
    return ", ".join(_short(one) for one in value) if _are_entries(value) else str(value)
