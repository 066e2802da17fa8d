"""Whether every file under results/ is still what its record says: `jepa3d verify`, and what is current by content.

Nothing here looks at times, and nothing needs DVC: a file is whole when its bytes have the hash of its record, it
belongs to its stamp when each of its inputs has the hash that the stamp names, and it is current when, besides, its
settings are those of params.yaml and its inputs are current themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape

from jepa3d.graph import Graph
from jepa3d.layout import Layout, place_of
from jepa3d.parallel import tmap
from jepa3d.params import Params
from jepa3d.params.models import init_file
from jepa3d.problem import Problem
from jepa3d.results import records, store, walk

FOLDERS = ("canonical", "patches", "pretrain", "features", "evals", "studies", "report", "plots")


class Finding(NamedTuple):
    """One file that is not what it should be."""

    path: Path
    what: str
    mend: str


@dataclass(frozen=True)
class Files:
    """Every output on the disk, with the hash of its bytes now and its record."""

    layout: Layout
    digests: Mapping[Path, str]
    records: Mapping[Path, dict[str, Any] | None]

    def inputs(self, path: Path) -> dict[Path, str]:
        """Path and hash of each input by the file's stamp, wherever results/ was when it was made."""
        record = self.records[path]
        stamped: Mapping[str, str] = record["stamp"]["inputs"] if record else {}
        run = record["stamp"]["settings"].get("run") if record else None
        begun = init_file(run.get("init")) if isinstance(run, Mapping) else None  # the user's own, wherever it lies
        own = {path: path if path == begun else self.here(path) for path in map(Path, stamped)}
        return {own[Path(name)]: digest for name, digest in stamped.items()}

    def here(self, path: Path) -> Path:
        place = place_of(path)
        return self.layout.results / place.relative if place else path

    def whole(self, path: Path) -> bool:
        record = self.records.get(path)
        return record is not None and record["sha256"] == self.digests[path]


def read(layout: Layout) -> Files:
    """Hash every output, on all cores, with progress shown."""
    paths = outputs(layout)
    digests = dict(zip(paths, tmap(_digest, paths, "hashing"), strict=True))
    found = {path: digest for path, digest in digests.items() if digest}
    return Files(layout, found, {path: records.read(path) for path in found})


def outputs(layout: Layout) -> list[Path]:
    """Every file of results/ that a verb made."""
    files = [layout.metrics, *(layout.results / "raw").glob("*/SOURCE.json")]
    for folder in FOLDERS:
        files += walk.files(layout.results / folder)
    return sorted(path for path in files if path.is_file() and not path.name.startswith(".") and place_of(path))


def _digest(path: Path) -> str:
    """The hash of a file; empty for one that vanished meanwhile."""
    try:
        return store.sha256(path)
    except Problem:
        if path.exists():
            raise
        return ""


# ---- verify


def verify(params: Params, layout: Layout) -> int:
    """Print every file that is not what it should be. 0: there is none; 1: there are some."""
    files = read(layout)
    found = findings(files)
    console = Console(soft_wrap=True, highlight=False)
    for finding in found:
        console.print(f"[red]BAD[/red] [bold]{escape(str(finding.path))}[/bold]: {escape(finding.what)}")
        if finding.mend:
            console.print(f"      {escape(finding.mend)}")
    size = sum(path.stat().st_size for path in files.digests)
    names = {finding.path for finding in found}
    verdict = f"{len(names)} are not as they were made" if names else "all are as they were made"
    console.print(f"{len(files.digests):,} files, {size / 1e6:,.1f} MB: {verdict}")
    if stale := [path for path in judge(params, files).stale if path not in names]:
        console.print(
            f"{len(stale)} of them are not of today's params.yaml: 'snakemake -n all' says what it would make"
        )
    return int(bool(found))


def findings(files: Files) -> list[Finding]:
    return [*_contents(files), *_stamps(files), *_gone(files), *_raw(files)]


def _contents(files: Files) -> Iterable[Finding]:
    """Outputs whose bytes are others than those that were written."""
    for path, digest in files.digests.items():
        record, again = files.records[path], _again(path)
        if record is None:
            yield Finding(path, "has no readable record: nobody can say how it was made", again)
        elif record["sha256"] != digest:
            what = f"its bytes have changed since {record['made']['at']}"
            yield Finding(path, f"{what} (sha256 {digest[:12]}, was {record['sha256'][:12]})", again)


def _stamps(files: Files) -> Iterable[Finding]:
    """Outputs that were made from other inputs than those that lie there now."""
    for path in files.digests:
        for source, digest in files.inputs(path).items():
            if source in files.digests and files.digests[source] != digest:
                what = f"was made from another {source} (sha256 {digest[:12]}, now {files.digests[source][:12]})"
                yield Finding(path, what, "if that file is right, make this one again: " + _command(path))


def _gone(files: Files) -> Iterable[Finding]:
    """Outputs that were recorded and are no longer there."""
    root = files.layout.records
    for record in walk.files(root):
        if record.suffix != ".json":
            continue
        relative = record.relative_to(root)
        path = files.layout.results.joinpath(*relative.parts[1:-1], relative.name.removesuffix(".json"))
        if not path.exists() and not record.name.startswith("."):
            yield Finding(path, "is gone", _again(path) + ", or 'jepa3d tidy' if it is not wanted any more")


def _raw(files: Files) -> Iterable[Finding]:
    """Raw files against what SOURCE.json says of them: the hash of those that have one, the size of the others."""
    for source in files.digests:
        if source.name != "SOURCE.json" or not files.whole(source):
            continue  # itself among the findings
        described = store.read_json(source)
        sizes = {source.parent / name: size for name, size in described.get("unpacked", {}).items()}
        lists = {Path(described.get("folder", "")) / name: of for name, of in described.get("lists", {}).items()}
        for path, size in sizes.items():
            if not path.exists() or path.stat().st_size != size:
                yield Finding(path, "is not the file that was downloaded", _again(source))
        for path, of in lists.items():
            if path.exists() and store.sha256(path) != of["sha256"]:
                yield Finding(path, "is not the file that was read", _again(source))


def _command(path: Path) -> str:
    place = place_of(path)
    return f"'{place.command}'" if place else "whatever made it"


def _again(path: Path) -> str:
    return f"to make it again: {_command(path)}; to get a recorded one back: 'dvc checkout --force'"


# ---- what is current


class Judged(NamedTuple):
    current: list[Path]
    stale: list[Path]


def judge(params: Params, files: Files) -> Judged:
    """Which outputs of the chosen study are what params.yaml asks for, by content."""
    jobs = {path: job for job in Graph(params, files.layout).jobs() for path in job.writes}
    known: dict[Path, bool] = {}

    def current(path: Path) -> bool:
        job, record = jobs.get(path) or jobs.get(path.parent), files.records.get(path)  # a picture's folder is named
        if job is None or record is None:
            return False
        if path not in known:
            inputs = files.inputs(path)
            known[path] = (
                files.whole(path)
                and record["stamp"]["settings"] == job.settings
                and set(inputs) == set(job.reads)
                and all(unchanged(of, digest) for of, digest in inputs.items())
            )
        return known[path]

    def unchanged(path: Path, digest: str) -> bool:
        if path in jobs:
            return files.digests.get(path) == digest and current(path)
        return path.exists() and store.sha256(path) == digest  # the user's own

    asked = [path for path in files.digests if path in jobs or path.parent in jobs]
    return Judged([path for path in asked if current(path)], [path for path in asked if not current(path)])
