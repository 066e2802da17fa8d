"""What evaluations say beyond numbers, from findings only: folds, fine-tunings, robustness, segmented shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jepa3d.report import charts, numbers
from jepa3d.report.shapes import Cloud
from jepa3d.report.study import Outcome, Study

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
        for metric in numbers.folds(study.first(name)):
            rows = [_fold_row(study, name, run, metric) for run in study.runs_of(name)]
            found.append(Folds(name, metric, rows))
    return found


def _fold_row(study: Study, name: str, run: str, metric: str) -> charts.Dots:
    values = [100 * value for outcome in study.of(run, name) for value in numbers.folds(outcome).get(metric, [])]
    of_all = numbers.spread(values)
    return charts.Dots(run, values, of_all.mean, of_all.std, "")


def robustness(study: Study) -> dict[str, list[Curves]]:
    """Evaluation -> one chart for each corruption: accuracy against severity, a line for each run (mean of seeds)."""
    found: dict[str, list[Curves]] = {}
    for name in study.evals:
        details = study.first(name).details
        for kind in details.get("curves", {}):
            lines = []
            for number, run in enumerate(study.runs_of(name)):
                y = 100 * np.mean([outcome.details["curves"][kind] for outcome in study.of(run, name)], axis=0)
                lines.append(charts.Line(run, range(len(y)), y.tolist(), number))
            levels = ", ".join(f"{level:g}" for level in details.get("levels", {}).get(kind, ())[1:])
            unit = details.get("units", {}).get(kind, "")
            about = f"Severity 1 to {len(lines[0].x) - 1}: {levels} ({unit})." if levels else ""
            found.setdefault(name, []).append(Curves(kind, about, lines, len(lines[0].x) - 1))
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


TUNED = (("validation", "test"), ("held_out_instance_miou", "test_instance_miou"))


def _tuning_lines(outcome: Outcome, seed: int, number: int) -> list[charts.Line]:
    rows: Sequence[Mapping[str, Any]] = outcome.details.get("curve", ())
    lines = []
    for keys in TUNED:
        for key, dashed in zip(keys, (False, True), strict=True):
            points = [(row.get("epoch", row["step"]), 100 * row[key]) for row in rows if key in row]
            if points:
                x, y = zip(*points, strict=True)
                lines.append(charts.Line(f"seed {seed}, {'test' if dashed else 'held out'}", x, y, number, dashed))
    return lines


def segmentations(study: Study) -> list[Segmentation]:
    """For every part segmentation: shapes of its best run's first seed, and all runs' scores by category."""
    found = []
    for name in study.evals:
        if not study.first(name).details.get("examples"):
            continue
        best = next(run for run, cell in numbers.column(study, name).items() if cell.best)
        seed, outcome = next(iter(study.outcomes[best][name].items()))
        shapes = [segmented(example) for example in outcome.details["examples"]]
        runs = study.runs_of(name)
        found.append(Segmentation(name, best, seed, shapes, runs, _categories(study, name, runs)))
    return found


def segmented(example: Mapping[str, Any]) -> Segmented:
    """One example of a finding as three coloured clouds in the unit sphere."""
    points = np.asarray(example["points"], np.float64)
    truth, predicted = np.asarray(example["truth"]), np.asarray(example["predicted"])
    rows = np.linspace(0, len(points) - 1, min(MOST_POINTS, len(points))).astype(int)
    points, truth, predicted = points[rows], truth[rows], predicted[rows]
    points = points - (points.min(0) + points.max(0)) / 2
    points /= max(float(np.linalg.norm(points, axis=1).max()), 1e-9)
    names = {int(part): str(name) for part, name in example.get("parts", {}).items()}
    colour = {part: PARTS[place % len(PARTS)] for place, part in enumerate(sorted(names))}
    wrong = (predicted != truth) & (truth >= 0)
    title = f"{example['class']}, IoU {100 * example['iou']:.0f} %" if "iou" in example else str(example["class"])
    return Segmented(
        title,
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
    of = {run: [outcome.details.get("per_class", {}) for outcome in study.of(run, name)] for run in runs}
    first = of[runs[0]][0]
    return [
        (
            category,
            int(about.get("shapes", 0)),
            [_mean_of([seed[category]["miou"] for seed in of[run]]) for run in runs],
        )
        for category, about in first.items()
    ]


def _mean_of(values: Sequence[float]) -> str:
    return f"{100 * float(np.mean(values)):.1f}"
