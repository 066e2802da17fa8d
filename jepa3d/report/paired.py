"""Differences of two runs, paired by seed and test shape: what every sentence and mark about "better" rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jepa3d.ops.statistics import LEVEL, Difference, holm, paired_difference
from jepa3d.report import numbers
from jepa3d.report.study import Study
from jepa3d.results.finding import Finding


class Pair(NamedTuple):
    """Two runs of one evaluation, `a` - `b`; `corrected` is p after Holm's correction, None with a single seed."""

    evaluation: str
    a: str
    b: str
    difference: Difference
    corrected: float | None

    @property
    def told(self) -> bool:
        """Whether the two are told apart: never with a single seed."""
        return self.corrected is not None and self.corrected < LEVEL


def difference(a: Mapping[int, Finding], b: Mapping[int, Finding], metric: str, against: float = 0.0) -> Difference:
    """`a` - `b` over the seeds that both have, of one metric, in its unit.

    The test shapes count where each seed of both has a score for each of the same shapes (right or wrong, an IoU);
    else the seeds alone, whose spread then holds that of the shapes (few-shot folds). Raises ValueError where the
    two have no seed in common.
    """
    seeds = sorted(set(a) & set(b))
    if not seeds:
        raise ValueError("no seed in common")
    one, two = [a[seed] for seed in seeds], [b[seed] for seed in seeds]
    by_seed = np.array([x.metrics[metric].value - y.metrics[metric].value for x, y in zip(one, two, strict=True)])
    by_shape, objects = np.empty(0), None
    scores = [numbers.shape_scores(of, metric) for of in (one, two)]
    if scores[0] is not None and scores[1] is not None and one[0].scored_ids(metric) == two[0].scored_ids(metric):
        by_shape, objects = scores[0] - scores[1], one[0].scored_objects(metric)
    return paired_difference(by_seed, by_shape, 0, objects, against=against)


def pairs(study: Study) -> dict[str, list[Pair]]:
    """Evaluation -> its best run against every other. Holm's correction covers the evaluations of one data set, which
    are one table of the report."""
    found: dict[str, list[Pair]] = {}
    for name in study.evals:
        best = next(run for run, cell in numbers.column(study, name).items() if cell.best)
        of, metric = study.outcomes, study.first(name).headline
        others = [run for run in study.runs_of(name) if run != best and set(of[run][name]) & set(of[best][name])]
        apart = [difference(of[best][name], of[run][name], metric) for run in others]
        found[name] = [Pair(name, best, run, one, None) for run, one in zip(others, apart, strict=True)]
    tables: dict[str, list[str]] = {}
    for name in study.evals:
        tables.setdefault(study.first(name).dataset, []).append(name)
    for names in tables.values():
        family = [(name, place) for name in names for place, pair in enumerate(found[name]) if _p(pair) is not None]
        p = [found[name][place].difference.p or 0.0 for name, place in family]
        for (name, place), corrected in zip(family, holm(p), strict=True):
            found[name][place] = found[name][place]._replace(corrected=corrected)
    return found


def _p(pair: Pair) -> float | None:
    return pair.difference.p
