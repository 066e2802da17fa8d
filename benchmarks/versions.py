"""What DVC costs on top of bare Snakemake: the chosen study, made from nothing by each, each in a folder of its own.

python benchmarks/versions.py [--params params.yaml] [--cores 2] [--keep FOLDER] [--out FILE]

Each works in a clone of the last commit: below FOLDER, where they stay, or in a temporary folder. A machine whose speed
changes from one hour to the next is faster for one of the two: so what is compared is each one's wall time divided by
its own jobs' core-seconds, as Snakemake noted them (see orchestration.py), shared by the cores.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import arguments, show
from orchestration import core_seconds

ROOT = Path(__file__).parent.parent


def main() -> None:
    given = arguments(
        __doc__ or "",
        params=("params.yaml", "the study"),
        cores=(2, "of this machine"),
        keep=("", "a folder for the clones"),
    )
    os.environ["CORES"] = str(given.cores)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    snakemake = ["snakemake", "--cores", str(given.cores), "--quiet", "all", "all"]
    record = ["python", "workflow/versions.py", "record"]
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(given.keep or temporary)
        alone, with_dvc = place / "snakemake", place / "dvc"
        bare, work = made(alone, given.params, snakemake), core_seconds(alone, given.cores) / given.cores
        recorded = timed(record, alone)
        repro, same = made(with_dvc, given.params, ["dvc", "repro", "--quiet"]), core_seconds(with_dvc, given.cores)
        same /= given.cores
    rows: list[list[Any]] = [
        ["snakemake all", bare, work, bare / work, ""],
        ["make record, after it", recorded, "", "", 1 + recorded / bare],
        ["dvc repro", repro, same, repro / same, (repro / same) / (bare / work)],
    ]
    show("DVC over Snakemake", ["", "wall s", "jobs, s", "wall to jobs", "to Snakemake alone"], rows, given.out)


def made(folder: Path, params: str, command: list[str]) -> float:
    """Seconds of a command in a fresh clone."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    shutil.copy(ROOT / params, folder / "params.yaml")
    return timed(command, folder)


def timed(command: list[str], folder: Path) -> float:
    begin = time.monotonic()
    run(command, folder)
    return time.monotonic() - begin


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


if __name__ == "__main__":
    main()
