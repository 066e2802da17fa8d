"""What evaluations say beyond numbers, from findings only: folds, fine-tunings, robustness, segmented shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jepa3d.report import numbers
from jepa3d.report.grid import Grid, grid
from jepa3d.report.pictures import UNLABELLED, Cloud, Dots, Line, Panel, dot_plot, line_chart
from jepa3d.report.study import Study
from jepa3d.results.finding import Example, Finding

MOST_POINTS = 1024  # of a segmented shape on the page
PARTS = ("#3b6fd4", "#e69f00", "#009e73", "#c2477f", "#8a63d2", "#0a88c2", "#c9b400", "#6b4a2b")
WRONG = "#e0314b"
RIGHT = "#b9c3d0"


class Curves(NamedTuple):
    """A chart with what it shows and what there is to say about it."""

    title: str
    about: str
    lines: list[Line] | list[Dots]
    panel: Panel


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
    grid: Grid  # the mean IoU of each category, of every run


def few_shot_folds(study: Study) -> dict[str, list[Curves]]:
    """Evaluation -> every fold of every seed as a dot, for each of its classifiers."""
    found: dict[str, list[Curves]] = {}
    for name in study.evals:
        for metric in study.first(name).folds:
            rows = [_fold_row(study, name, run, metric) for run in study.runs_of(name)]
            unit = numbers.unit_text(study.first(name).metrics[metric].unit)
            panel = dot_plot(f"{name}: {metric}", rows, f"each fold, {unit}")
            found.setdefault(name, []).append(Curves(metric, "", rows, panel))
    return found


def _fold_row(study: Study, name: str, run: str, metric: str) -> Dots:
    times = numbers.factor(study.first(name).metrics[metric].unit)
    values = [times * value for outcome in study.of(run, name) for value in outcome.folds.get(metric, ())]
    of_all = numbers.spread(values)
    return Dots(run, values, of_all.mean, of_all.std, False)


def robustness(study: Study) -> dict[str, list[Curves]]:
    """Evaluation -> one chart for each corruption: accuracy against severity, a line for each run (mean of seeds)."""
    found: dict[str, list[Curves]] = {}
    for name in study.evals:
        for place, one in enumerate(study.first(name).details.corruptions):
            lines: list[Line] = []
            for number, run in enumerate(study.runs_of(name)):
                scores = [outcome.details.corruptions[place].scores for outcome in study.of(run, name)]
                lines.append(Line(run, range(len(one.scores)), (100 * np.mean(scores, axis=0)).tolist(), number))
            levels = ", ".join(f"{level:g}" for level in one.levels[1:])
            about = f"Severity 1 to {len(one.levels) - 1}: {levels} ({one.unit})."
            panel = line_chart(f"{name}: {one.kind}", lines, len(one.levels) - 1)
            found.setdefault(name, []).append(Curves(one.kind, about, lines, panel))
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
                panel = line_chart(f"{name}: {run}", lines, max(line.x[-1] for line in lines))
                found.setdefault(name, []).append(Curves(run, "", lines, panel))
    return found


def _tuning_lines(outcome: Finding, seed: int, number: int) -> list[Line]:
    curve = outcome.details.curve
    if curve is None:
        return []
    times = numbers.factor(outcome.metrics[curve.metric].unit)
    looks = [(look.step if look.epoch is None else look.epoch, look) for look in curve.looks]
    held = [(at, times * look.held_out) for at, look in looks if look.held_out is not None]
    test = [(at, times * look.test) for at, look in looks]
    return [
        Line(f"seed {seed}, {title}", [x for x, _ in points], [y for _, y in points], number, title == "test")
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
        found.append(Segmentation(name, best, seed, shapes, _categories(study, name)))
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
    return tuple(colour.get(int(one), UNLABELLED) for one in part)


def _categories(study: Study, name: str) -> Grid:
    """Mean IoU of every category, mean over the seeds, for each run; in percent."""
    runs = study.runs_of(name)
    rows = []
    for category, about in study.first(name).details.per_class.items():
        means = [np.mean([of.details.per_class[category].miou for of in study.of(run, name)]) for run in runs]
        rows.append([category, str(about.shapes), *(f"{100 * float(mean):.1f}" for mean in means)])
    return grid(["category", "test shapes", *runs], rows, " n")
