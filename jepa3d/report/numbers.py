"""Mean, spread and interval of a metric over seeds and test shapes; metrics.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jepa3d.ops import score
from jepa3d.ops.statistics import Interval, binomial_std, hierarchical_interval
from jepa3d.report.study import Study
from jepa3d.results.finding import SHARE, Choice, Finding

CHOICES: dict[Choice, tuple[str, str]] = {
    "honest": ("honest", "on a held-out part of train"),
    "last": ("last epoch", "nothing chosen"),
    "community": ("best epoch", "chosen on the test split"),
    "vote": ("vote", "mean of augmented passes, once"),
}


class Spread(NamedTuple):
    """One metric over the seeds. `std` is the sample standard deviation; 0.0 for a single seed."""

    mean: float
    std: float
    n: int
    values: tuple[float, ...]


class Cell(NamedTuple):
    """One cell of the result table."""

    context: Spread
    interval: Interval
    ema: Spread | None
    best: bool  # the best mean; whether it is told apart from the others, paired.py says


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation (divisor n - 1)."""
    mean, std = score.mean_std(values)
    return Spread(mean, std, len(values), tuple(map(float, values)))


def metric(outcomes: Sequence[Finding], name: str) -> Spread | None:
    """One metric over the seeds, None where not every seed has it."""
    values = [found.metrics[name].value for found in outcomes if name in found.metrics]
    return spread(values) if values and len(values) == len(outcomes) else None


def headline(outcomes: Sequence[Finding]) -> Spread:
    """The headline metric over the seeds."""
    return spread([found.main.value for found in outcomes])


def interval(outcomes: Sequence[Finding], name: str) -> Interval:
    """A metric's 95 % interval over test shapes and seeds.

    The shapes count where the task has one value a shape and the metric is their mean; where it has none, a share of
    right answers has the interval of the binomial for the shapes that were scored. One seed's folds take the place of
    the shapes. Shares stay within 0..1.
    """
    values, first = np.array([found.metrics[name].value for found in outcomes]), outcomes[0].metrics[name]
    units = by_shape(outcomes, name)
    objects = outcomes[0].scored_objects(name) if shape_scores(outcomes, name) is not None else None
    found = hierarchical_interval(units, values, 0, objects=objects)
    if not len(units) and first.shapes and first.unit == SHARE:
        half = 1.96 * binomial_std(float(np.clip(found.mean, 0, 1)), first.shapes)
        low, high = (abs(end - found.mean) for end in (found.low, found.high))
        found = found._replace(low=found.mean - np.hypot(low, half), high=found.mean + np.hypot(high, half))
    if first.unit == SHARE:
        found = found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0))
    return found._replace(low=float(found.low), high=float(found.high))


def over_seeds(outcomes: Sequence[Finding], name: str) -> Interval:
    """A metric's 95 % interval over the seeds alone, on these very test shapes."""
    return hierarchical_interval(np.empty(0), np.array([found.metrics[name].value for found in outcomes]), 0)


def by_shape(outcomes: Sequence[Finding], name: str) -> NDArray[np.float64]:
    """What each test shape contributes to a metric, mean over the seeds; [] where that is not known.

    With a single seed of a few-shot evaluation, what each fold contributes: with several, the folds differ from seed
    to seed, and the spread of the seeds holds that of the folds.
    """
    scores = shape_scores(outcomes, name)
    if scores is not None:
        return scores
    return np.array(outcomes[0].folds.get(name, ()) if len(outcomes) == 1 else [])


def shape_scores(outcomes: Sequence[Finding], name: str) -> NDArray[np.float64] | None:
    """For each test shape, the mean over the seeds of the values whose mean the metric is; None where it is no such
    mean, or where the seeds' shapes differ."""
    scores = [values for found in outcomes if (values := found.scores(name)) is not None]
    if not scores or len(scores) < len(outcomes) or len({found.scored_ids(name) for found in outcomes}) > 1:
        return None
    mean: NDArray[np.float64] = np.stack(scores).mean(0)
    return mean


def metrics(study: Study) -> dict[str, Any]:
    """run -> evaluation -> metric -> {mean, std, n, values}: the content of metrics.json.

    The headline metric has also `low` and `high`, the ends of its 95 % interval over test shapes and seeds.
    """
    return {
        run: {name: _of_cell(study.of(run, name)) for name in study.evals if study.of(run, name)} for run in study.runs
    }


def _of_cell(outcomes: Sequence[Finding]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in outcomes[0].metrics:
        if of_key := metric(outcomes, key):
            found[key] = {**of_key._asdict(), "values": list(of_key.values)}
    main = outcomes[0].headline
    ends = interval(outcomes, main)
    found[main] = {**found[main], "low": ends.low, "high": ends.high}
    return found


def column(study: Study, name: str) -> dict[str, Cell]:
    """The result table's column of one evaluation: its headline metric for every run that has it, and who is best."""
    of = {run: study.of(run, name) for run in study.runs_of(name)}
    context = {run: headline(of[run]) for run in of}
    sign = 1 if study.first(name).main.higher_is_better else -1
    best = max(of, key=lambda run: sign * context[run].mean)
    cells = {}
    for run in of:
        twin = of[run][0].variant(of[run][0].headline, encoder="target")
        cells[run] = Cell(
            context[run],
            interval(of[run], of[run][0].headline),
            metric(of[run], twin) if twin else None,
            run == best,
        )
    return cells


def chance(outcomes: Sequence[Finding]) -> float | None:
    """What a guess scores on the headline metric, mean over the seeds, where the task says so."""
    values = [found.main.chance for found in outcomes if found.main.chance is not None]
    return spread(values).mean if values and len(values) == len(outcomes) else None


def confusion(outcomes: Sequence[Finding]) -> NDArray[np.int64]:
    """Counts [true class, predicted class], summed over the seeds."""
    size = len(outcomes[0].classes)
    counts = [
        score.confusion(np.array(found.truth), np.array(found.predicted), size)
        for found in outcomes
        if found.predicted is not None
    ]
    total: NDArray[np.int64] = np.sum(counts, axis=0)
    return total


def shown(value: float, unit: str, digits: int = 1) -> str:
    """A number as the tables print it: a share of 0.8421 as 84.2, else with four significant digits."""
    return f"{100 * value:.{digits}f}" if unit == SHARE else f"{value:.4g}"


def unit_text(unit: str) -> str:
    """What stands behind a number of this unit."""
    return "%" if unit == SHARE else unit


def factor(unit: str) -> float:
    """From a metric's values to those of charts: shares are drawn in percent."""
    return 100.0 if unit == SHARE else 1.0
