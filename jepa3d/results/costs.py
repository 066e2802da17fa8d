"""What the jobs of a study cost, as Snakemake measured them: results/benchmarks/, one line of TSV for each job."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from jepa3d.graph import Job
from jepa3d.layout import Layout


class Cost(NamedTuple):
    """Of one job, or of all jobs of a verb."""

    seconds: float  # from its start to its end; a sum where several jobs are meant
    cpu_seconds: float | None  # None: too short to be measured
    memory_mb: float | None  # the most that it held; the greatest of several


class Spent(NamedTuple):
    """What the jobs of one verb cost, and how many of them were measured."""

    verb: str
    jobs: int
    measured: int
    cost: Cost


def by_verb(layout: Layout, jobs: Iterable[Job]) -> list[Spent]:
    """The costs of some jobs, verb by verb in their order. A job that was given by hand was not measured."""
    of_verbs: dict[str, list[Cost | None]] = {}
    for job in jobs:
        of_verbs.setdefault(job.verb, []).append(read(layout.benchmark(job.verb, *job.names)))
    found = []
    for verb, costs in of_verbs.items():
        known = [cost for cost in costs if cost is not None]
        cpu = [cost.cpu_seconds for cost in known if cost.cpu_seconds is not None]
        memory = [cost.memory_mb for cost in known if cost.memory_mb is not None]
        total = Cost(sum(cost.seconds for cost in known), sum(cpu) if cpu else None, max(memory, default=None))
        found.append(Spent(verb, len(costs), len(known), total))
    return found


def read(path: Path) -> Cost | None:
    """The cost of one job; None where it was not measured, or where the file is none of Snakemake's."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        return Cost(float(row["s"]), _number(row.get("cpu_time")), _number(row.get("max_rss")))
    except (OSError, StopIteration, KeyError, ValueError, TypeError):
        return None


def _number(text: str | None) -> float | None:
    """A number; None for the words of Snakemake that stand for none."""
    return None if text in (None, "", "-", "NA") else float(text)
