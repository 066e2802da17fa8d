"""Differences of two runs, paired by seed and test shape: what every sentence and mark about "better" rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jepa3d.ops.statistics import LEVEL, Difference, Scores, difference_of_differences, holm, paired_difference
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
    """`a` - `b` over the seeds that both have, of one metric, in its unit; p is of no difference from `against`.

    The test shapes count where each seed of both has a score for each of the same shapes (right or wrong, an IoU);
    else the seeds alone, whose spread then holds that of the shapes (few-shot folds). Raises ValueError where the
    two have no seed in common.
    """
    return paired_difference(scores(a, b, metric, sorted(set(a) & set(b))), 0, against=against)


def scores(a: Mapping[int, Finding], b: Mapping[int, Finding], metric: str, seeds: Sequence[int]) -> Scores:
    """`a` - `b` of these seeds. Raises ValueError where there are none."""
    if not seeds:
        raise ValueError("no seed in common")
    one, two = [a[seed] for seed in seeds], [b[seed] for seed in seeds]
    by_seed = np.array([x.metrics[metric].value - y.metrics[metric].value for x, y in zip(one, two, strict=True)])
    of = [numbers.shape_scores(each, metric) for each in (one, two)]
    if of[0] is not None and of[1] is not None and one[0].scored_ids(metric) == two[0].scored_ids(metric):
        return Scores(by_seed, of[0] - of[1], one[0].scored_objects(metric))
    return Scores(by_seed, np.empty(0), None)


def gap(study: Study, a: str, b: str, here: str, there: str, against: float = 0.0) -> Difference:
    """By how much `a` - `b` is larger under one evaluation than under another, of other test shapes."""
    outcomes = study.outcomes
    seeds = sorted(set.intersection(*(set(outcomes[run][name]) for run in (a, b) for name in (here, there))))
    first, second = (
        scores(outcomes[a][name], outcomes[b][name], study.first(name).headline, seeds) for name in (here, there)
    )
    return difference_of_differences(first, second, 0, against)


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
