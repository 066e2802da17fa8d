"""The tables that `dvc plots` draws: results/plots/{scores,curves}.csv."""

from __future__ import annotations

from jepa3d.report import numbers
from jepa3d.report.study import Study

Rows = list[list[str]]
WATCHED = ("loss", "knn", "rank")  # the monitors that are compared between commits: few, so that the file stays small


def scores(study: Study) -> Rows:
    """The result table as rows: one per run and evaluation, the headline's mean over the seeds; shares in percent."""
    rows = [["evaluation", "run", "score"]]
    for name in study.evals:
        for run in study.runs_of(name):
            first = study.first(name)
            mean = numbers.headline(study.of(run, name)).mean * numbers.factor(first.main.unit)
            rows.append([f"{name}: {first.headline}", run, f"{mean:.6g}"])
    return rows


def curves(study: Study) -> Rows:
    """The training curves as rows: one per run, seed, monitor and step."""
    rows = [["run", "seed", "monitor", "step", "value"]]
    for run, of_run in study.trainings.items():
        for seed, training in of_run.items():
            for row in training.rows:
                found = [key for key in WATCHED if key in row]
                rows += [[run, str(seed), key, str(row["step"]), f"{row[key]:.6g}"] for key in found]
    return rows
