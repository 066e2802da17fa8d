"""`jepa3d tidy`: removes what finished or abandoned work has left: resume states, half-written files, lone records."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from jepa3d.layout import Layout
from jepa3d.params import Params
from jepa3d.results import resume, walk

ASIDE = "the state of other settings or data, which was set aside"
QUIET = 3600.0  # seconds: what was written to more recently than this may belong to work that goes on


def tidy(params: Params, layout: Layout, dry: bool, now: float | None = None) -> int:
    """Print and, unless `dry`, remove it. Returns the bytes. No output, and no state that a training needs, goes."""
    now = time.time() if now is None else now
    total = 0
    for path, why in leftovers(params, layout):
        if now - newest(path) < QUIET:
            print(f"kept     {path}: {why}, but written to within the hour")
            continue
        size = sum(file.lstat().st_size for file in below(path))
        total += size
        print(f"{'would go' if dry else 'removed'}  {path}: {why}, {size / 1e6:,.1f} MB")
        if not dry:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    print(f"{total / 1e6:,.1f} MB")
    return total


def leftovers(params: Params, layout: Layout) -> Iterator[tuple[Path, str]]:
    """What may go, with the reason."""
    for state in sorted(layout.results.glob(".state/*/seed*")):
        run, seed = state.parent.name, state.name.removeprefix("seed")
        if run not in params.runs:
            yield state, "the resume state of a run that params.yaml no longer has"
            continue
        if layout.encoder(run, seed).exists():
            for path in sorted(state.iterdir()):
                if path.name != resume.EVALS and not resume.is_aside(path):
                    yield path, "the resume state of a training that is finished"
        yield from _of_evaluations(params, layout, run, seed, state)
        for path in filter(resume.is_aside, sorted(state.iterdir())):
            yield path, ASIDE
    for path in (path for path in walk.files(layout.results) if path.match(".*.tmp")):
        yield path, "half-written by a command that was killed"
    for path in (path for path in walk.files(layout.records) if path.suffix == ".json"):
        relative = path.relative_to(layout.records)
        output = layout.results.joinpath(*relative.parts[1:-1], relative.name.removesuffix(".json"))
        if not path.name.startswith(".") and not output.exists():
            yield path, f"the record of {output}, which is gone"


def _of_evaluations(params: Params, layout: Layout, run: str, seed: str, state: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(state.glob(f"{resume.EVALS}/*")):
        if path.name not in params.evals:
            yield path, "the resume state of an evaluation that params.yaml no longer has"
        elif layout.evaluation(run, seed, path.name).exists():
            yield path, "the resume state of an evaluation that is finished"
        else:
            yield from ((aside, ASIDE) for aside in sorted(path.rglob("aside-*")) if resume.is_aside(aside))


def below(path: Path) -> list[Path]:
    return list(walk.files(path)) if path.is_dir() else [path]


def newest(path: Path) -> float:
    """When anything in it was last written to."""
    return max((file.lstat().st_mtime for file in [path, *below(path)]), default=0.0)
