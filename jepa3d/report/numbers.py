"""Mean and spread over seeds, and which differences can be told from noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from jepa3d.ops import score
from jepa3d.report.study import Outcome, Study

EMA = "_ema"  # the suffix of a metric that was measured on the EMA (target) encoder
CHANCE = "majority"  # the metric of a classifier that always names the most frequent class


class Spread(NamedTuple):
    """One metric over the seeds. `std` is the sample standard deviation; 0.0 for a single seed."""

    mean: float
    std: float
    n: int
    values: tuple[float, ...]


class Cell(NamedTuple):
    """One cell of the result table."""

    context: Spread
    ema: Spread | None
    best: bool
    tied: bool  # not the best, but not told apart from it either


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation (divisor n - 1)."""
    mean, std = score.mean_std(values)
    return Spread(mean, std, len(values), tuple(map(float, values)))


def metric(outcomes: Sequence[Outcome], name: str) -> Spread | None:
    """One metric over the seeds, None where not every seed has it."""
    values = [outcome.metrics[name] for outcome in outcomes if name in outcome.metrics]
    return spread(values) if len(values) == len(outcomes) else None


def metrics(study: Study) -> dict[str, Any]:
    """run -> evaluation -> metric -> {mean, std, n, values}: the content of metrics.json."""
    return {
        run: {
            name: {key: _plain(found) for key in outcomes[0].metrics if (found := metric(outcomes, key))}
            for name, outcomes in of_run.items()
        }
        for run, of_run in study.outcomes.items()
    }


def _plain(found: Spread) -> dict[str, Any]:
    return {**found._asdict(), "values": list(found.values)}


def column(study: Study, name: str) -> dict[str, Cell]:
    """The result table's column of one evaluation: its headline metric for every run, and who is best."""
    of = {run: study.outcomes[run][name] for run in study.runs}
    context = {run: spread([found.metrics[found.headline] for found in of[run]]) for run in study.runs}
    best = max(study.runs, key=lambda run: context[run].mean)
    return {
        run: Cell(
            context[run],
            metric(of[run], of[run][0].headline + EMA),
            run == best,
            run != best and context[best].mean - context[run].mean <= margin(of[best], of[run]),
        )
        for run in study.runs
    }


def margin(a: Sequence[Outcome], b: Sequence[Outcome]) -> float:
    """How large a difference of two runs' means must be to be told from noise: half its 95 % interval.

    Three variances add up: each run's over its seeds, and, where both predicted the same test shapes, that of their
    difference over those shapes (a test set of 100 shapes decides no 1 % difference). Student's t with the degrees
    of freedom of Welch and Satterthwaite. With one seed the spread is unknown: no difference is large enough.
    """
    if min(len(a), len(b)) < 2:
        return float("inf")
    headline = [spread([found.metrics[found.headline] for found in run]) for run in (a, b)]
    parts = [(found.std**2 / found.n, found.n - 1) for found in headline]  # (variance of the mean, degrees of freedom)
    right = [share_right(run) for run in (a, b)]
    if a[0].ids == b[0].ids and right[0] is not None and right[1] is not None and len(right[0]) > 1:
        shapes = len(right[0])
        parts.append((float(np.var(right[0] - right[1], ddof=1)) / shapes, shapes - 1))
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    return float(student.ppf(0.975, freedom) * np.sqrt(variance))


def share_right(outcomes: Sequence[Outcome]) -> NDArray[np.float64] | None:
    """For each test shape, the share of the seeds that were right; None where there is no prediction per shape."""
    correct = [found.correct for found in outcomes if found.correct is not None]
    return np.stack(correct).mean(0) if len(correct) == len(outcomes) else None


def chance(outcomes: Sequence[Outcome]) -> float | None:
    """What always naming the most frequent class would score, where the task says so."""
    found = metric(outcomes, CHANCE)
    return found.mean if found else None


def confusion(outcomes: Sequence[Outcome]) -> NDArray[np.int64]:
    """Counts [true class, predicted class], summed over the seeds."""
    size = len(outcomes[0].classes)
    counts = [score.confusion(found.truth, found.predicted, size) for found in outcomes if found.predicted is not None]
    total: NDArray[np.int64] = np.sum(counts, axis=0)
    return total


def is_share(name: str, values: Sequence[float]) -> bool:
    """Whether a metric is a fraction that is printed in percent."""
    words = ("accuracy", "iou", "linear", "knn", CHANCE)
    return any(word in name.lower() for word in words) and all(0 <= value <= 1 for value in values)


def shown(value: float, share: bool, digits: int = 1) -> str:
    """A number as the tables print it: 0.8421 as 84.2 for a share, else with four significant digits."""
    return f"{100 * value:.{digits}f}" if share else f"{value:.4g}"
