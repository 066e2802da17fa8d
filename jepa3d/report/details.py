"""What evaluations say beyond numbers, from findings only: folds, fine-tunings, robustness, segmented shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jepa3d.report import charts, numbers
from jepa3d.report.shapes import Cloud
from jepa3d.report.study import Study
from jepa3d.results.finding import Example, Finding

MOST_POINTS = 1024  # of a segmented shape on the page
PARTS = ("#3b6fd4", "#e69f00", "#009e73", "#c2477f", "#8a63d2", "#0a88c2", "#c9b400", "#6b4a2b")
WRONG = "#e0314b"
RIGHT = "#b9c3d0"


class Folds(NamedTuple):
    """One metric of a few-shot evaluation: the accuracy of every fold of every seed, in percent."""

    name: str
    metric: str
    rows: list[charts.Dots]


class Curves(NamedTuple):
    """A chart of several lines with its title and what there is to say about it."""

    title: str
    about: str
    lines: list[charts.Line]
    last: float


class Segmented(NamedTuple):
    """One test shape: its true parts, the predicted ones, and the wrong points in red."""

    title: str
    legend: dict[str, str]  # part -> colour
    clouds: tuple[Cloud, Cloud, Cloud]


class Segmentation(NamedTuple):
    """The pictures and the per-category scores of one evaluation."""

    name: str
    run: str
    seed: int
    shapes: list[Segmented]
    runs: tuple[str, ...]
    categories: list[tuple[str, int, list[str]]]  # category, test shapes, mean IoU of each run


def few_shot_folds(study: Study) -> list[Folds]:
    """Every fold as a dot, for every few-shot evaluation and each of its classifiers."""
    found = []
    for name in study.evals:
        for metric in study.first(name).folds:
            rows = [_fold_row(study, name, run, metric) for run in study.runs_of(name)]
            found.append(Folds(name, metric, rows))
    return found


def _fold_row(study: Study, name: str, run: str, metric: str) -> charts.Dots:
    times = numbers.factor(study.first(name).metrics[metric].unit)
    values = [times * value for outcome in study.of(run, name) for value in outcome.folds.get(metric, ())]
    of_all = numbers.spread(values)
    return charts.Dots(run, values, of_all.mean, of_all.std, "")


def robustness(study: Study) -> dict[str, list[Curves]]:
    """Evaluation -> one chart for each corruption: accuracy against severity, a line for each run (mean of seeds)."""
    found: dict[str, list[Curves]] = {}
    for name in study.evals:
        for place, one in enumerate(study.first(name).details.corruptions):
            lines = []
            for number, run in enumerate(study.runs_of(name)):
                scores = [outcome.details.corruptions[place].scores for outcome in study.of(run, name)]
                lines.append(charts.Line(run, range(len(one.scores)), (100 * np.mean(scores, axis=0)).tolist(), number))
            levels = ", ".join(f"{level:g}" for level in one.levels[1:])
            about = f"Severity 1 to {len(one.levels) - 1}: {levels} ({one.unit})."
            found.setdefault(name, []).append(Curves(one.kind, about, lines, len(one.levels) - 1))
    return found


def tunings(study: Study) -> dict[str, list[Curves]]:
    """Evaluation -> for each run, held-out and test score of every look (one colour a seed; dashed: test)."""
    found: dict[str, list[Curves]] = {}
    for name in study.evals:
        for run in study.runs_of(name):
            lines = [
                line
                for number, (seed, outcome) in enumerate(study.outcomes[run][name].items())
                for line in _tuning_lines(outcome, seed, number)
            ]
            if lines:
                last = max(line.x[-1] for line in lines)
                found.setdefault(name, []).append(Curves(run, "", lines, last))
    return found


def _tuning_lines(outcome: Finding, seed: int, number: int) -> list[charts.Line]:
    curve = outcome.details.curve
    if curve is None:
        return []
    times = numbers.factor(outcome.metrics[curve.metric].unit)
    looks = [(look.step if look.epoch is None else look.epoch, look) for look in curve.looks]
    held = [(at, times * look.held_out) for at, look in looks if look.held_out is not None]
    test = [(at, times * look.test) for at, look in looks]
    return [
        charts.Line(f"seed {seed}, {title}", [x for x, _ in points], [y for _, y in points], number, title == "test")
        for title, points in (("held out", held), ("test", test))
        if points
    ]


def segmentations(study: Study) -> list[Segmentation]:
    """For every part segmentation: shapes of its best run's first seed, and all runs' scores by category."""
    found = []
    for name in study.evals:
        if not study.first(name).details.examples:
            continue
        best = next(run for run, cell in numbers.column(study, name).items() if cell.best)
        seed, outcome = next(iter(study.outcomes[best][name].items()))
        shapes = [segmented(example) for example in outcome.details.examples]
        runs = study.runs_of(name)
        found.append(Segmentation(name, best, seed, shapes, runs, _categories(study, name, runs)))
    return found


def segmented(example: Example) -> Segmented:
    """One example of a finding as three coloured clouds in the unit sphere."""
    points = np.asarray(example.points, np.float64)
    truth, predicted = np.asarray(example.truth), np.asarray(example.predicted)
    rows = np.linspace(0, len(points) - 1, min(MOST_POINTS, len(points))).astype(int)
    points, truth, predicted = points[rows], truth[rows], predicted[rows]
    points = points - (points.min(0) + points.max(0)) / 2
    points /= max(float(np.linalg.norm(points, axis=1).max()), 1e-9)
    names = example.parts
    colour = {part: PARTS[place % len(PARTS)] for place, part in enumerate(sorted(names))}
    wrong = (predicted != truth) & (truth >= 0)
    return Segmented(
        f"{example.category}, IoU {100 * example.iou:.0f} %",
        {names[part]: colour[part] for part in sorted(names)},
        (
            Cloud("truth", points, _colours(truth, colour)),
            Cloud("predicted", points, _colours(predicted, colour)),
            Cloud(f"wrong: {wrong.sum()} of {len(points)}", points, tuple(WRONG if bad else RIGHT for bad in wrong)),
        ),
    )


def _colours(part: NDArray[Any], colour: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(colour.get(int(one), charts.UNLABELLED) for one in part)


def _categories(study: Study, name: str, runs: Sequence[str]) -> list[tuple[str, int, list[str]]]:
    """Mean IoU of every category, mean over the seeds, for each run; in percent."""
    of = {run: [outcome.details.per_class for outcome in study.of(run, name)] for run in runs}
    first = of[runs[0]][0]
    return [
        (
            category,
            about.shapes,
            [_mean_of([seed[category].miou for seed in of[run]]) for run in runs],
        )
        for category, about in first.items()
    ]


def _mean_of(values: Sequence[float]) -> str:
    return f"{100 * float(np.mean(values)):.1f}"
