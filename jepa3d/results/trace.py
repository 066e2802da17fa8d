"""`jepa3d trace`: the chain of one number, from the table back to the raw files, and how to make it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from jepa3d.layout import Layout, place_of
from jepa3d.problem import Problem, did_you_mean
from jepa3d.results import opened, records, store
from jepa3d.results.provenance import Files

SHOWN = 12  # characters of a hash


def trace(path: Path, run: str, evaluation: str) -> int:
    """Print where the numbers of one run and evaluation come from. 1: some file is not what its record says."""
    metrics = opened.metrics(path)
    found = _entry(_entry(metrics, run, f"{path}: has no run"), evaluation, f"{path}: '{run}' has no evaluation")
    layout = Layout(path.parent)
    chain = Chain(layout)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[bold]{escape(str(path))}[/bold]  {run}  {evaluation}")
    for name, spread in found.items():
        values = "  ".join(f"{value:.4g}" for value in spread["values"])
        console.print(f"  {name:<22} {spread['mean']:.4g} ± {spread['std']:.2g}   of  {values}")
    results = sorted(path for path in chain.inputs(path) if _is_of(path, run, evaluation))
    if not results:
        results = sorted(layout.results.glob(f"evals/{run}/seed*/{evaluation}.json"))
    chain.block(path, 0, follow=results)
    for line in chain.lines:
        console.print(line)
    console.print(f"\nall of it again: {chain.command(path)}")
    return int(chain.broken)


def _entry(table: Mapping[str, Any], name: str, what: str) -> Mapping[str, Any]:
    if name not in table:
        raise Problem(f"{what} called '{name}'", f"it has {', '.join(table) or 'none'}", did_you_mean(name, table))
    found: Mapping[str, Any] = table[name]
    return found


def _is_of(path: Path, run: str, evaluation: str) -> bool:
    place = place_of(path)
    return place is not None and place.verb == "evaluate" and (place.names[0], place.names[2]) == (run, evaluation)


class Chain:
    """The printed lines; each file is described where it comes first, and what is as in the table is not said twice."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.lines: list[str] = []
        self.broken = False
        self.seen: set[Path] = set()
        self.said: dict[str, str] = {}

    def inputs(self, path: Path) -> dict[Path, str]:
        return Files(self.layout, {}, {path: records.read(path)}).inputs(path)

    def block(self, path: Path, depth: int, follow: Sequence[Path] | None = None, expected: str = "") -> None:
        """One file, what it was made of, and then the files it was made from."""
        place, record = place_of(path), records.read(path)
        verb = place.verb if place else "file"
        if path in self.seen:
            self._say(depth, f"{verb:<9} {path}  (above)")
            return
        self.seen.add(path)
        self._say(depth, "")
        self._say(depth, f"[bold]{verb:<9} {escape(str(path))}[/bold]")
        self._hash(path, depth, record, expected)
        if record is not None:
            self._record(record, depth)
        if verb == "pretrain":
            self._cost(path, depth)
        if verb == "download":
            self._raw(path, depth)
        if place is not None:
            self._field(depth, "again", place.command)
        inputs = self.inputs(path)
        for source in inputs if follow is None else follow:
            self.block(source, depth + 1, expected=inputs.get(source, ""))

    def command(self, path: Path) -> str:
        """What makes everything again, from the same code and the same params.yaml."""
        record = records.read(path)
        git = record["made"]["git"] if record else None
        first = f"git checkout {git['commit'][:SHOWN]} && " if git else ""
        return f"{first}snakemake --cores all --forceall all" + (
            "   (the code had changes that are in no commit)" if git and git["changes"] else ""
        )

    def _hash(self, path: Path, depth: int, record: Mapping[str, Any] | None, expected: str) -> None:
        if not path.exists():
            self._bad(depth, f"is not there{f'; it had sha256 {expected[:SHOWN]}' if expected else ''}")
            return
        digest = store.sha256(path)
        if record is None:
            self._bad(depth, f"sha256 {digest[:SHOWN]}, without a readable record")
        elif record["sha256"] != digest:
            self._bad(depth, f"sha256 {digest[:SHOWN]} now, but {record['sha256'][:SHOWN]} when it was made")
        elif expected and expected != digest:
            self._bad(depth, f"sha256 {digest[:SHOWN]}, but what is above was made from {expected[:SHOWN]}")
        else:
            self._field(depth, "sha256", f"{digest}, as when it was made")

    def _record(self, record: Mapping[str, Any], depth: int) -> None:
        made, stamp = record["made"], record["stamp"]
        machine, git = made["machine"], made["git"]
        for key, value in stamp["settings"].items():
            self._field(depth, "settings", f"{key}: {json.dumps(value)}")
        job = f", Slurm job {made['slurm_job']}" if made["slurm_job"] else ""
        took = f"{made['seconds']:g} s after the start of '{' '.join(made['command'])}'"
        self._field(depth, "made", f"{made['at']}, {took}{job}")
        commit = "no git checkout" if git is None else f"commit {git['commit'][:SHOWN]}"
        commit += f" with changes {git['changes']}" if git and git["changes"] else ""
        self._once(depth, "code", f"jepa3d {stamp['jepa3d']}, sources {stamp['code']}, {commit}")
        gpus = f", {', '.join(made['gpus'])}" if made["gpus"] else ", no GPU"
        cores = f"{machine['cores']} cores of {machine['cpu']}"
        self._once(depth, "machine", f"{machine['name']}: {cores}{gpus}; {machine['system']}")
        packages = ", ".join(f"{name} {version}" for name, version in made["packages"].items())
        self._once(depth, "packages", f"Python {made['python']}, {packages}")

    def _cost(self, path: Path, depth: int) -> None:
        """The whole of the training, whose last command may only have gone on with it."""
        curve = path.parent / "curve.jsonl"
        rows = store.read_jsonl(curve) if curve.exists() else []
        if rows and "step" in rows[-1] and isinstance(cost := rows[-1].get("cost"), Mapping):
            self._field(depth, "trained", f"{rows[-1]['step']} steps; {', '.join(f'{k} {v}' for k, v in cost.items())}")

    def _raw(self, path: Path, depth: int) -> None:
        """Where the raw files are, and their hashes."""
        if not path.exists():
            return
        source = store.read_json(path)
        self._field(depth, "data", ", ".join(str(source[key]) for key in ("kind", "how", "root") if key in source))
        for one in source.get("fetched", ()):
            digest = f"sha256 {one['sha256']}" if "sha256" in one else one.get("verified", "")
            self._field(depth, "raw file", f"{one['name']}  {digest}  {one['url']}")
        for name, of in source.get("lists", {}).items():
            self._field(depth, "raw file", f"{name}  sha256 {of['sha256']}")
        if "sha256" in source:
            self._field(depth, "archive", f"sha256 {source['sha256']}")

    def _once(self, depth: int, name: str, value: str) -> None:
        """What is the same as it was in the file before is not repeated."""
        if self.said.get(name) != value:
            self._field(depth, name, value)
        self.said[name] = value

    def _field(self, depth: int, name: str, value: str) -> None:
        self._say(depth, f"  {name:<9} {escape(value)}")

    def _bad(self, depth: int, words: str) -> None:
        self.broken = True
        self._say(depth, f"  [red]BAD[/red]       {escape(words)}")

    def _say(self, depth: int, words: str) -> None:
        self.lines.append("  " * depth + words if words else "")
