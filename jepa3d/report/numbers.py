"""Mean and spread over seeds, intervals, and which differences can be told from noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from jepa3d.ops import score
from jepa3d.ops.statistics import Interval, binomial_std, hierarchical_interval, paired_p
from jepa3d.report.study import Outcome, Study

EMA = "_ema"  # the suffix of a metric that was measured on the EMA (target) encoder
CORRUPTIONS = ("rotation", "jitter", "dropout", "occlusion", "clutter")
CHANCE = "majority"  # the metric of a classifier that always names the most frequent class
CHOICES = {  # suffix of a metric -> how the epoch was chosen
    "": ("honest", "on a held-out part of train"),
    "_last": ("last epoch", "nothing chosen"),
    "_community": ("best epoch", "chosen on the test split"),
    "_vote": ("vote", "mean of augmented passes, once"),
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
    best: bool
    tied: bool  # not the best, but not told apart from it either
    judged: bool  # False: with a single seed of this run or of the best, there is no telling


class Pair(NamedTuple):
    """Two runs on the same test shapes: `difference` = `a` - `b`, and half its 95 % interval."""

    a: str
    b: str
    difference: float
    half: float
    p: float  # sign-flip test over the test shapes: the seeds as they are
    seeds: int
    shapes: int


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation (divisor n - 1)."""
    mean, std = score.mean_std(values)
    return Spread(mean, std, len(values), tuple(map(float, values)))


def metric(outcomes: Sequence[Outcome], name: str) -> Spread | None:
    """One metric over the seeds, None where not every seed has it."""
    values = [outcome.metrics[name] for outcome in outcomes if name in outcome.metrics]
    return spread(values) if values and len(values) == len(outcomes) else None


def interval(outcomes: Sequence[Outcome], name: str) -> Interval:
    """A metric's 95 % interval over test shapes and seeds.

    The shapes count where the task has one prediction or one score a shape and they give this very metric; where it
    has none, an accuracy has the interval of the binomial for its test set. One seed's folds take the place of the
    shapes. Shares stay within 0..1.
    """
    values = np.array([found.metrics[name] for found in outcomes])
    units = by_shape(outcomes, name)
    found = hierarchical_interval(units, values, 0)
    if not len(units) and "accuracy" in name and (shapes := outcomes[0].scored):
        half = 1.96 * binomial_std(float(np.clip(found.mean, 0, 1)), shapes)
        low, high = (abs(end - found.mean) for end in (found.low, found.high))
        found = found._replace(low=found.mean - np.hypot(low, half), high=found.mean + np.hypot(high, half))
    if is_share(name, values.tolist()):
        found = found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0))
    return found._replace(low=float(found.low), high=float(found.high))


def by_shape(outcomes: Sequence[Outcome], name: str) -> NDArray[np.float64]:
    """What each test shape contributes to a metric, mean over the seeds; [] where that is not known.

    With a single seed of a few-shot evaluation, what each fold contributes: with several, the folds differ from seed
    to seed, and the spread of the seeds holds that of the folds.
    """
    scores = shape_scores(outcomes, name)
    if scores is not None:
        return scores
    return np.array(folds(outcomes[0]).get(name, []) if len(outcomes) == 1 else [])


def shape_scores(outcomes: Sequence[Outcome], name: str) -> NDArray[np.float64] | None:
    """For each test shape, the mean over the seeds of right (1) or wrong (0), or of its IoU; None where the task has
    no number a shape, where the numbers it has do not give this metric, or where the seeds' shapes differ."""
    each = [_scores_of(found, name) for found in outcomes]
    scores = [found for found in each if found is not None]
    if not scores or len(scores) < len(each) or len({shape_ids(found) for found in outcomes}) > 1:
        return None
    mean: NDArray[np.float64] = np.stack(scores).mean(0)
    return mean


def _scores_of(outcome: Outcome, name: str) -> NDArray[np.float64] | None:
    ious = np.asarray(outcome.details.get("per_shape", {}).get("iou", ()), np.float64)
    for scores in (outcome.correct, ious):
        if scores is not None and len(scores) and abs(scores.mean() - outcome.metrics[name]) < 2e-5:  # IoUs are rounded
            return scores
    return None


def shape_ids(outcome: Outcome) -> tuple[str, ...]:
    """The shapes of `_scores_of`, in its order."""
    return tuple(outcome.details.get("per_shape", {}).get("id", ())) or outcome.ids


def folds(outcome: Outcome) -> dict[str, list[float]]:
    """The accuracies of the folds of a few-shot evaluation, for each metric that is a mean over them."""
    found = outcome.details.get("folds") or {}
    if isinstance(found, list):
        found = {outcome.headline: [fold["accuracy"] if isinstance(fold, dict) else fold for fold in found]}
    return {name: list(map(float, values)) for name, values in found.items()}


def metrics(study: Study) -> dict[str, Any]:
    """run -> evaluation -> metric -> {mean, std, n, values}: the content of metrics.json.

    The headline metric has also `low` and `high`, the ends of its 95 % interval over test shapes and seeds.
    """
    return {
        run: {name: _of_cell(study.of(run, name)) for name in study.evals if study.of(run, name)} for run in study.runs
    }


def _of_cell(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in outcomes[0].metrics:
        if of_key := metric(outcomes, key):
            found[key] = {**of_key._asdict(), "values": list(of_key.values)}
    headline = outcomes[0].headline
    ends = interval(outcomes, headline)
    found[headline] = {**found[headline], "low": ends.low, "high": ends.high}
    return found


def column(study: Study, name: str) -> dict[str, Cell]:
    """The result table's column of one evaluation: its headline metric for every run that has it, and who is best."""
    of = {run: study.of(run, name) for run in study.runs_of(name)}
    context = {run: spread([found.metrics[found.headline] for found in of[run]]) for run in of}
    best = max(of, key=lambda run: context[run].mean)
    cells = {}
    for run in of:
        half, behind = margin(of[best], of[run]), context[best].mean - context[run].mean
        cells[run] = Cell(
            context[run],
            interval(of[run], of[run][0].headline),
            metric(of[run], of[run][0].headline + EMA),
            run == best,
            run != best and behind <= half < np.inf,
            bool(half < np.inf),
        )
    return cells


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
    if (difference := shape_difference(a, b, a[0].headline)) is not None and len(difference) > 1:
        parts.append((float(np.var(difference, ddof=1)) / len(difference), len(difference) - 1))
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    return float(student.ppf(0.975, freedom) * np.sqrt(variance))


def shape_difference(a: Sequence[Outcome], b: Sequence[Outcome], name: str) -> NDArray[np.float64] | None:
    """For each test shape, by how much `a` is better than `b`; None where they share no scored shapes."""
    scores = [shape_scores(run, name) for run in (a, b)]
    if shape_ids(a[0]) != shape_ids(b[0]) or scores[0] is None or scores[1] is None:
        return None
    difference: NDArray[np.float64] = scores[0] - scores[1]
    return difference


def paired_interval(a: Sequence[Outcome], b: Sequence[Outcome], name: str) -> Interval:
    """The 95 % interval of `a` - `b` over test shapes and seeds; the n-th of each have one seed."""
    by_seed = np.array([x.metrics[name] - y.metrics[name] for x, y in zip(a, b, strict=True)])
    units = shape_difference(a, b, name)
    return hierarchical_interval(np.empty(0) if units is None else units, by_seed, 0)


def pairs(study: Study, name: str) -> list[Pair]:
    """The best run against every other that predicted the same test shapes."""
    cells = column(study, name)
    best = next(run for run, cell in cells.items() if cell.best)
    found = []
    for run, cell in cells.items():
        a, b = study.of(best, name), study.of(run, name)
        difference = shape_difference(a, b, a[0].headline)
        if run != best and difference is not None:
            p = paired_p(difference, np.zeros(len(difference)), 0)
            apart = cells[best].context.mean - cell.context.mean
            found.append(Pair(best, run, apart, margin(a, b), p, min(len(a), len(b)), len(difference)))
    return found


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
    words = ("accuracy", "iou", "linear", "knn", CHANCE, *CORRUPTIONS)
    return any(word in name.lower() for word in words) and all(0 <= value <= 1 for value in values)


def shown(value: float, share: bool, digits: int = 1) -> str:
    """A number as the tables print it: 0.8421 as 84.2 for a share, else with four significant digits."""
    return f"{100 * value:.{digits}f}" if share else f"{value:.4g}"
