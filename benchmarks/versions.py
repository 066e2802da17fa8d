"""What DVC costs on top of bare Snakemake: the chosen study, made from nothing by each, each in a folder of its own.

python benchmarks/versions.py [--params params.yaml] [--cores 2] [--out FILE]

Wall time counts on a quiet machine; the CPU seconds, of all child processes, hold on any.
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

from common import arguments, show

ROOT = Path(__file__).parent.parent
FILES = ("Snakefile", "workflow", "dvc.yaml", ".dvc/config", ".dvc/plots", ".dvcignore", "results/.gitignore")


def main() -> None:
    given = arguments(__doc__ or "", params=("params.yaml", "the study"), cores=(2, "of this machine"))
    os.environ["CORES"] = str(given.cores)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    snakemake = ["snakemake", "--cores", str(given.cores), "--quiet", "all", "all"]
    rows = [
        ["snakemake all", *measured(given.params, [], snakemake)],
        ["dvc repro", *measured(given.params, [], ["dvc", "repro", "--quiet"])],
        ["make record", *measured(given.params, [snakemake], ["python", "workflow/versions.py", "record"])],
    ]
    for row in rows:
        row += [row[1] / rows[0][1] - 1, row[2] / rows[0][2] - 1]
    show("DVC over Snakemake", ["", "wall s", "CPU s", "wall, more", "CPU, more"], rows, given.out)


def measured(params: str, before: list[list[str]], command: list[str]) -> list[float]:
    """Wall and CPU seconds of one command in a fresh folder, after others that do not count."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in FILES:
            source, target = ROOT / file, folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target, symlinks=True) if source.is_dir() else shutil.copy(source, target)
        shutil.copy(ROOT / params, folder / "params.yaml")
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
        for one in before:
            run(one, folder)
        begin, used = time.monotonic(), cpu()
        run(command, folder)
        return [time.monotonic() - begin, cpu() - used]


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
