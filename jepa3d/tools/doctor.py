"""`jepa3d doctor`: one page on whether the study can run here, and whether its data are what they should be.

For every data set of the study: where it was found, which layout, counts against the official counts, hashes against
the known ones, what its lists share, up axis, bounds and NaNs of a sample, and what is missing with the command or the
address that gets it. Then the machine. Nothing is written, and the network is not asked.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from rich.console import Console
from rich.markup import escape

from jepa3d import __version__, datasets, plugins, project
from jepa3d.datasets import SetAside, Shape
from jepa3d.formats import roots
from jepa3d.graph import Graph
from jepa3d.layout import Layout
from jepa3d.params import DatasetConfig, Params
from jepa3d.problem import Problem
from jepa3d.results import account, opened

State = Literal["good", "look", "bad"]
SIGNS: dict[State, str] = {"good": "[green]ok  [/green]", "look": "[yellow]look[/yellow]", "bad": "[red]BAD [/red]"}
HASHES = {"known": "as published", "unknown": "without a published hash", "differs": "not as published"}
SAMPLE = 64  # shapes of each data set that are read
JUDGED = 32  # shapes from which on the up axis is judged
CLEARLY = 0.2  # difference of correlations
WIDEST = 10.0  # coordinates beyond this are no unit sphere, and no scan of a chair


class Entry(NamedTuple):
    """One block of the page."""

    name: str
    state: State
    lines: tuple[tuple[str, str], ...]  # (what, finding)


def doctor(params: Params, layout: Layout) -> int:
    """Print the page. 0: the study can run; 1: it cannot, and the page says why and what helps."""
    wanted = datasets_of(params, layout)
    entries = [study(params), *(dataset(params, layout, name) for name in wanted), *machine(layout)]
    console = Console(soft_wrap=True, highlight=False)
    for entry in entries:
        console.print(f"{SIGNS[entry.state]} [bold]{escape(entry.name)}[/bold]")
        for what, finding in entry.lines:
            console.print(f"       {escape(what):<10} {escape(finding)}")
    bad = [entry.name for entry in entries if entry.state == "bad"]
    console.print(f"\nthe study '{params.study}' {'cannot run: ' + ', '.join(bad) if bad else 'can run'}")
    return int(bool(bad))


def datasets_of(params: Params, layout: Layout) -> list[str]:
    """Every data set that the study reads, in the order of params.yaml."""
    used = {name for job in Graph(params, layout).jobs() if job.verb == "convert" for name in job.names}
    return [name for name in params.datasets if name in used]


def study(params: Params) -> Entry:
    chosen = params.chosen
    size = f"{len(chosen.trainings())} trainings, {len(chosen.cells())} evaluations"
    try:
        project.check_objectives(params)
    except Problem as problem:
        return Entry(f"study {params.study}", "bad", (("size", size), *told(problem)))
    except ImportError as error:
        return Entry(f"study {params.study}", "bad", (("size", size), ("missing", str(error))))
    return Entry(f"study {params.study}", "good", (("size", size),))


def told(problem: Problem) -> tuple[tuple[str, str], ...]:
    lines = (("problem", problem.what), ("", problem.why), ("do", problem.mend))
    return tuple(line for line in lines if line[1])


# ---- one data set


def dataset(params: Params, layout: Layout, name: str) -> Entry:
    """Everything about one data set; a Problem of it makes the entry bad, it does not end the page."""
    settings = params.dataset(name)
    plugin: datasets.Plugin[Any] = plugins.find(datasets, settings.kind)
    where = f"datasets.{name}"
    if settings.root is None and not plugin.sources(settings):
        return Entry(
            name, "good", (("generated", "by convert, from its entry"), ("canonical", converted(layout, name)))
        )
    try:
        raw = roots.raw_folder(settings.root, layout.raw(name), f"{where}.root")
        if absent := not_there_yet(plugin, settings, layout, name):
            return absent
        copy = plugin.locate(raw, settings)
        findings = plugin.audit(raw, settings)
        shapes = list(plugin.peek(raw, settings, SAMPLE))
    except Problem as problem:
        return Entry(name, "bad", told(problem))
    place = ("found", f"{copy.folder}, layout {copy.layout}")
    judged = [*told_before(findings), *listed(findings), *seen(shapes)]
    done = (("canonical", converted(layout, name)),)
    state: State = "look" if any(state == "look" for state, _, _ in judged) else "good"
    if not any(isinstance(shape, Shape) for shape in shapes):
        state = "bad"
    return Entry(name, state, (place, *((what, finding) for _, what, finding in judged), *done))


def not_there_yet(plugin: datasets.Plugin[Any], settings: DatasetConfig, layout: Layout, name: str) -> Entry | None:
    """A data set that has to be fetched first: fine where that is allowed, else how to get it."""
    sources = plugin.sources(settings)
    if not sources or layout.source(name).exists() or placed_by_hand(plugin, settings, layout.raw(name)):
        return None
    if settings.root is not None and not roots.is_archive(roots.expand(settings.root)):
        return None
    if settings.root is not None:
        return Entry(name, "good", (("found", f"{settings.root}, to be unpacked"), ("do", f"jepa3d download {name}")))
    source, entry = sources[0], settings.model_dump()
    here = (("missing", f"{layout.raw(name)}: not fetched yet"), ("terms", source.terms))
    offline = entry.get("offline") or os.environ.get("JEPA3D_OFFLINE", "") not in ("", "0")
    if not (source.urls or entry.get("mirrors")) or offline:
        return Entry(name, "bad", (*here, ("do", source.by_hand)))
    if not entry.get("accept_terms"):
        consent = f"read the terms; then 'accept_terms: true' under datasets.{name}, and: jepa3d download {name}"
        return Entry(name, "bad", (*here, ("do", consent), ("or", source.by_hand)))
    size = f" ({source.size / 1e6:,.0f} MB)" if source.size and not source.members else ""
    return Entry(name, "good", (*here, ("do", f"jepa3d download {name}{size}; 'snakemake all' does it by itself")))


def placed_by_hand(plugin: datasets.Plugin[Any], settings: DatasetConfig, folder: Path) -> bool:
    """A layout that is complete in results/raw/<dataset> without our having fetched it."""
    with contextlib.suppress(Problem):
        plugin.locate(folder, settings)
        return settings.root is None and next(folder.rglob("*.part"), None) is None
    return False


def told_before(findings: dict[str, Any]) -> Iterator[tuple[State, str, str]]:
    """Classes, splits and what is left out, as far as that is known before the files are read."""
    if expected := findings.get("expected"):
        yield from (("good", what, finding) for what, finding in account.in_one_line(expected))
        if expected["set_aside"]:
            yield "look", "left out", f"{expected['set_aside']:,} files or shapes; convert lists each with its reason"
    if "split_from" in findings:
        for what, finding in account.origin(findings):
            yield "look" if what == "REPEATED" else "good", what, finding


def listed(findings: dict[str, Any]) -> Iterator[tuple[State, str, str]]:
    """What the plugin's audit of lists and files found, judged."""
    official, counts = findings.get("official") or {}, findings.get("counts") or {}
    if counts:
        words = [f"{key} {n:,}" + (f" of {official[key]:,}" if key in official else "") for key, n in counts.items()]
        differ = any(counts.get(key) != n for key, n in official.items())
        yield (
            ("look" if differ else "good"),
            "counts",
            ", ".join(words) + ("; not the official counts" if differ else ""),
        )
    if hashes := findings.get("hashes"):
        names = {kind: [name for name in hashes if hashes[name] == kind] for kind in ("known", "differs", "unknown")}
        words = [f"{len(names[k])} {v}" for k, v in HASHES.items() if names[k]]
        which = f": {', '.join(names['differs'][:4])}" if names["differs"] else ""
        yield ("look" if names["differs"] else "good"), "hashes", ", ".join(words) + which
    shared = {pair: n for pair, n in (findings.get("overlaps") or {}).items() if n}
    twice = {name: n for name, n in (findings.get("repeats") or {}).items() if n}
    if shared or twice:
        words = [
            *(f"{pair}: {n}" for pair, n in shared.items()),
            *(f"{n} twice in {name}" for name, n in twice.items()),
        ]
        yield "good" if findings.get("leaked_test_shapes") and not twice else "look", "lists share", ", ".join(words)
    elif "overlaps" in findings:
        yield "good", "lists", "no repeats, no overlap"
    if absent := findings.get("listed_without_file"):
        yield "look", "no file", f"{len(absent)} listed shapes, such as {absent[0]}"
    for note in findings.get("notes") or ():
        yield "good", "note", note


def seen(shapes: list[Shape | SetAside]) -> Iterator[tuple[State, str, str]]:
    """What a sample of the shapes says: damage, bounds, the up axis."""
    good = [shape for shape in shapes if isinstance(shape, Shape)]
    aside = [shape for shape in shapes if isinstance(shape, SetAside)]
    if aside:
        yield "look", "set aside", f"{len(aside)} of {len(shapes)} in a sample; {aside[0].id}: {aside[0].why}"[:300]
    if not good:
        return
    low = np.min([shape.points.min(axis=0) for shape in good], axis=0)
    high = np.max([shape.points.max(axis=0) for shape in good], axis=0)
    bounds = ", ".join(f"{axis} {a:.2f}..{b:.2f}" for axis, a, b in zip("xyz", low, high, strict=True))
    state: State = "look" if float(np.abs([low, high]).max()) > WIDEST else "good"
    yield state, "sample", f"{len(good)} shapes of {len(good[0].points):,} points, all finite; {bounds}"
    if len(good) >= JUDGED:
        yield up_axis(np.array([shape.points.max(axis=0) - shape.points.min(axis=0) for shape in good]))


def up_axis(extents: np.ndarray[Any, Any]) -> tuple[State, str, str]:
    """Objects are about as wide as deep, and as tall as they like: with y up, the extents along x and z go together.

    Measured on ScanObjectNN: correlation x-z .71, y-x .18; a wrong axis costs half of the accuracy and no error.
    """
    with np.errstate(all="ignore"):
        table = np.nan_to_num(np.corrcoef(extents.T))
    pairs = {"y": table[0, 2], "x": table[1, 2], "z": table[0, 1]}
    words = f"extents correlate x-z {pairs['y']:.2f}, x-y {pairs['z']:.2f}, y-z {pairs['x']:.2f}"
    likely = max(pairs, key=lambda axis: pairs[axis])
    if pairs[likely] - pairs["y"] > CLEARLY:
        return "look", "up axis", f"looks like {likely}, not y: {words}; see the entry's 'up'"
    return "good", "up axis", f"y, as it should be; {words}"


def converted(layout: Layout, name: str) -> str:
    if not layout.audit(name).exists():
        return f"not yet: jepa3d convert {name}"
    with contextlib.suppress(Problem):
        audit = opened.audit(layout.audit(name))
        return f"{audit['shapes']:,} shapes, {len(audit['set_aside'])} set aside ({layout.canonical(name)})"
    return f"{layout.audit(name)}: cannot be read; jepa3d convert {name}"


# ---- the machine


def machine(layout: Layout) -> list[Entry]:
    return [python(), slurm(), dvc(), disk(layout)]


def python() -> Entry:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    here = ("python", f"{platform.python_version()}, jepa3d {__version__}, {cores} cores")
    try:
        import torch
    except ImportError as error:
        return Entry("machine", "bad", (here, ("torch", f"cannot be imported: {error}"), ("do", "make")))
    gpus = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
    words = ", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in gpus)
    return Entry("machine", "good", (here, ("torch", torch.__version__), ("GPUs", words or "none: CPU only")))


def slurm() -> Entry:
    path = shutil.which("sbatch")
    words = f"{path}: snakemake --profile slurm" if path else "no sbatch on PATH: everything runs on this machine"
    return Entry("Slurm", "good", (("sbatch", words),))


def dvc() -> Entry:
    """The DVC remotes of this folder's repository, read from its configuration."""
    parser = configparser.ConfigParser(interpolation=None)
    folder = next((up for up in (Path.cwd(), *Path.cwd().parents) if (up / ".dvc").is_dir()), None)
    if folder is None:
        return Entry("DVC", "good", (("remote", "no DVC repository here"),))
    try:
        parser.read([folder / ".dvc" / "config", folder / ".dvc" / "config.local"], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        return Entry("DVC", "look", (("config", " ".join(str(error).split())),))
    sections = [name for name in parser.sections() if "remote" in name]
    words = [f"{name.strip(chr(39)).removeprefix('remote ')} {parser[name].get('url', '')}" for name in sections]
    return Entry(
        "DVC", "good", (("remote", ", ".join(words) or "none: 'dvc remote add -d NAME ADDRESS' to share results"),)
    )


def disk(layout: Layout) -> Entry:
    folder = next(up for up in (layout.results.absolute(), *layout.results.absolute().parents) if up.exists())
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    words = f"{free / 1e9:,.0f} GB free" + ("" if writable else "; no permission to write")
    return Entry("results", "good" if writable else "bad", ((str(layout.results), words),))
