"""Names of params.yaml that stand for other entries, and which of several equal mistakes is told.

It looks at plain mappings, before anything is known to be right, so that all mistakes of a file are told at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jepa3d.params.bases import SECTIONS
from jepa3d.params.models import init_file
from jepa3d.params.validation import pick
from jepa3d.problem import Mistakes, Problem

LONGEST = 100  # characters of a name: file systems take 255 bytes, and we add to them


def check_names(data: Mapping[str, Any], mistakes: Mistakes) -> None:
    """Names become the names of files and words of commands."""
    for section in SECTIONS:
        for name in _entries(data, section):
            plain = name.replace("_", "").replace("-", "").isalnum() and not name.startswith("-")
            if not plain or len(name) > LONGEST:
                mistakes.add(
                    Problem(
                        f"{section}.{name[:LONGEST]}: names become file names",
                        f"letters, digits, - and _ only, not - at the beginning, at most {LONGEST} characters",
                        "rename it",
                    )
                )


def check_references(data: Mapping[str, Any], written: Mapping[str, Any], source: str, mistakes: Mistakes) -> None:
    """Every name is that of an entry; `written` has the file's own, whose entries may be wrong, but are there."""
    known = {section: {**_entries(written, section), **_entries(data, section)} for section in SECTIONS}
    for section, name, where in _references(data):
        if not isinstance(written.get(section), Mapping):
            continue  # a section that is not there, or none, is told elsewhere
        with mistakes.collected():
            pick(known[section], section, name, source, where)


def told_once(problems: list[Problem], written: Mapping[str, Any]) -> list[Problem]:
    """The mistakes where they are written: an entry that takes one over from another repeats it with its own path.

    Where none of the equal ones is written by itself, as in the members of a sweep, the first is told.
    """
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        section, _, rest = problem.what.partition(".")
        tail = rest.partition(".")[2] if section in SECTIONS and "." in rest else ""
        if section == "evals" and tail.startswith("task."):
            section, tail = "tasks", tail.removeprefix("task.")
        groups.setdefault((section, tail or problem.what), []).append(problem)
    kept = [
        one
        for equal in groups.values()
        for one in ([problem for problem in equal if _is_written(problem.what, written)] or equal[:1])
    ]
    return [problem for problem in problems if any(problem is one for one in kept)]


def _is_written(what: str, written: Mapping[str, Any]) -> bool:
    """Whether the key that a mistake names, or all of it but its last word, stands in the file."""
    at: Any = written
    words = what.partition(": ")[0].split(".")
    for place, word in enumerate(words):
        if not isinstance(at, Mapping) or word not in at:
            return place == len(words) - 1 and what.endswith(": missing")
        at = at[word]
    return True


def _entries(data: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    entries = data.get(section)
    return entries if isinstance(entries, Mapping) else {}


def _references(data: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Every (section, name, key that names it); what is no name is told elsewhere."""

    def named(section: str, value: Any, where: str) -> Iterator[tuple[str, str, str]]:
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(one, str):
                yield section, one, where

    yield from named("studies", data.get("study"), "study")
    for name, run in _entries(data, "runs").items():
        yield from named("datasets", run.get("data"), f"runs.{name}.data")
        yield from named("datasets", _entries(run, "monitor").get("probe"), f"runs.{name}.monitor.probe")
        yield from named("patches", run.get("patches"), f"runs.{name}.patches")
        yield from named("models", run.get("model"), f"runs.{name}.model")
        yield from named("runs", _entries(run, "objective").get("reads"), f"runs.{name}.objective.reads")
        if init_file(run.get("init")) is None:
            yield from named("runs", run.get("init"), f"runs.{name}.init")
    for name, evaluation in _entries(data, "evals").items():
        yield from named("datasets", evaluation.get("dataset"), f"evals.{name}.dataset")
        yield from named("patches", evaluation.get("patches"), f"evals.{name}.patches")
    execution = _entries(data, "execution")
    for section in ("runs", "evals"):
        yield from named(section, list(_entries(execution, section)), f"execution.{section}")
    for name, study in _entries(data, "studies").items():
        also = study.get("also")
        grids = {f".also.{place}": grid for place, grid in enumerate(also)} if isinstance(also, list) else {}
        for where, grid in {"": study, **grids}.items():
            for section in ("runs", "evals"):
                if isinstance(grid, Mapping):
                    yield from named(section, grid.get(section), f"studies.{name}{where}.{section}")
