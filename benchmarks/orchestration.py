"""What Snakemake costs on top of the jobs of a finished study: its wall time against what no scheduler could go below.

python benchmarks/orchestration.py [--folder .] [--cores 2] [--wall SECONDS] [--out FILE]

To be read after one `snakemake --cores N all` from nothing in FOLDER, and before `make record`, which notes new times.
A job lasts from its start to its end as Snakemake notes them, the start of Python included. No schedule ends before the
longest chain of jobs that wait for each other, nor before all jobs' core-seconds divided by the cores: the greater of
the two is the bound.
"""

from __future__ import annotations

import json
import re
import sys
from base64 import b64decode
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from common import arguments, show


class Job(NamedTuple):
    number: int
    seconds: float
    threads: int
    inputs: tuple[str, ...]


def main() -> None:
    given = arguments(
        __doc__ or "",
        folder=(".", "a study's clone"),
        cores=(2, "that Snakemake was given"),
        wall=(0.0, "seconds of the call; 0: as Snakemake's log says"),
    )
    jobs, wall = jobs_of(Path(given.folder)), given.wall or wall_of(Path(given.folder))

    @cache
    def ready(path: str) -> float:
        """When a file could be there, had every job started the moment that its inputs were."""
        job = jobs.get(path)
        return job.seconds + max(map(ready, job.inputs), default=0.0) if job else 0.0

    chain = max(map(ready, jobs))
    work = core_seconds(Path(given.folder), given.cores)
    bound = max(chain, work / given.cores)
    rows: list[list[Any]] = [
        ["longest chain of jobs", chain, chain / bound],
        [f"all jobs on {given.cores} cores", work / given.cores, work / given.cores / bound],
        ["Snakemake, from its start to its end", wall, wall / bound],
    ]
    count = len({job.number for job in jobs.values()})
    show(f"Orchestration of {count} jobs", ["", "seconds", "to the bound"], rows, given.out)


def core_seconds(folder: Path, cores: int) -> float:
    """Those of all jobs, on a machine with so many cores."""
    each = {job.number: job for job in jobs_of(folder).values()}  # one job may have several outputs
    return sum(job.seconds * min(job.threads, cores) for job in each.values())


def jobs_of(folder: Path) -> dict[str, Job]:
    """The job that made each output."""
    found = {}
    for path in sorted((folder / ".snakemake" / "metadata").iterdir()):
        noted = json.loads(path.read_text(encoding="utf-8"))
        threads = re.search(r"--threads (\d+)", noted["shellcmd"] or "")
        found[b64decode(path.name).decode()] = Job(
            noted["job_hash"],
            noted["endtime"] - noted["starttime"],
            int(threads[1]) if threads else 1,
            tuple(noted["input"]),
        )
    if not found:
        sys.exit(f"{folder}: Snakemake has noted no jobs here")
    return found


def wall_of(folder: Path) -> float:
    """The longest of this folder's calls of Snakemake: the one that made the study."""
    times = []
    for log in (folder / ".snakemake" / "log").glob("*.log"):
        for hours, minutes, seconds in re.findall(r"Elapsed time: (\d+):(\d+):([\d.]+)", log.read_text()):
            times.append(3600 * int(hours) + 60 * int(minutes) + float(seconds))
    if not times:
        sys.exit(f"{folder}: no log of Snakemake's says how long it took")
    return max(times)


if __name__ == "__main__":
    main()
