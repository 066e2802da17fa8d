"""What DVC costs on top of bare Snakemake: the chosen study, made from nothing by each, each in a folder of its own.

python benchmarks/versions.py [--params params.yaml] [--cores 2] [--keep FOLDER] [--out FILE]

Each works in a clone of the last commit: below FOLDER, where they stay, or in a temporary folder. Wall time counts on a
quiet machine; the CPU seconds, of all child processes, hold on any.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import arguments, show

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
        bare, recorded = measured(place / "snakemake", given.params, snakemake, record)
        (repro,) = measured(place / "dvc", given.params, ["dvc", "repro", "--quiet"])
    rows: list[list[Any]] = [["snakemake all", *bare], ["make record, after it", *recorded], ["dvc repro", *repro]]
    for row, more in zip(rows, (0.0, 0.0, 1.0), strict=True):
        row += [row[1] / bare[0] - more, row[2] / bare[1] - more]
    rows[0][3:] = ["", ""]
    show("DVC over Snakemake", ["", "wall s", "CPU s", "wall, more", "CPU, more"], rows, given.out)


def measured(folder: Path, params: str, *commands: list[str]) -> list[tuple[float, float]]:
    """Wall and CPU seconds of each of some commands, given one after the other in a fresh clone."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    shutil.copy(ROOT / params, folder / "params.yaml")
    return [timed(command, folder) for command in commands]


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    begin, used = time.monotonic(), cpu()
    run(command, folder)
    return time.monotonic() - begin, cpu() - used


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def cpu() -> float:
    """CPU seconds of all children that have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
