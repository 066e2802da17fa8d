"""The study's own results: tables and charts of every evaluation, and where they stand among published numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jepa3d import objectives
from jepa3d.params import Params
from jepa3d.params.seen import no_few_labels
from jepa3d.report import numbers, published, recipes, seen
from jepa3d.report.grid import GAP, Bit, Grid, Row, cell, grid
from jepa3d.report.numbers import CHOICES, Cell, Spread, factor, shown, unit_text
from jepa3d.report.paired import Pair
from jepa3d.report.pictures import Dots, Panel, dot_plot
from jepa3d.report.study import Study
from jepa3d.report.tables import benchmarks
from jepa3d.results.finding import SHARE, Metric

SAW_THEM_ALL = cell("–", "trained with every label", mark="gap")


class Column(NamedTuple):
    """One evaluation: its cells, its dot plot, what it means and how it was measured."""

    name: str
    dataset: str
    task: str
    headline: str
    main: Metric  # what the headline is, of any run
    cells: dict[str, Cell]  # run -> its number
    seeds: dict[str, tuple[int, ...]]
    chance: str
    protocol: str
    seen: tuple[str, ...]  # how many of its test shapes a training saw
    notes: tuple[str, ...]
    test: int | None  # test shapes that were scored
    sampling: str  # the spread that is due to their number alone
    panel: Panel
    against: dict[str, Pair]  # another run -> the best one's difference to it

    @property
    def unit(self) -> str:
        return unit_text(self.main.unit)

    @property
    def best(self) -> str:
        return next(run for run, one in self.cells.items() if one.best)

    @property
    def tied(self) -> list[str]:
        """Worse than the best, but not told apart from it."""
        return [run for run, pair in self.against.items() if pair.corrected is not None and not pair.told]

    @property
    def behind(self) -> list[str]:
        """Told apart from the best."""
        return [run for run, pair in self.against.items() if pair.told]

    @property
    def unjudged(self) -> list[str]:
        """Of a single seed, so that there is no telling."""
        return [run for run in self.cells if run not in (self.best, *self.tied, *self.behind)]

    @property
    def decided(self) -> bool:
        return decided(self.against.values())

    def text(self, run: str) -> str:
        return spread_text(self.cells[run].context, self.main.unit)

    def interval(self, run: str) -> str:
        ends = self.cells[run].interval
        return f"{shown(ends.low, self.main.unit)} to {shown(ends.high, self.main.unit)}"


class Group(NamedTuple):
    """The evaluations on one data set, and the runs that are evaluated on it."""

    dataset: str
    columns: list[Column]
    runs: list[str]
    seeds: int  # of the study

    @property
    def gaps(self) -> bool:
        return any(run not in column.cells for run in self.runs for column in self.columns)

    def number(self, column: Column, run: str) -> str:
        """A cell's text; with the number of seeds where there are fewer than the study's."""
        n = column.cells[run].context.n
        return column.text(run) + (f" (n = {n})" if n < self.seeds else "")


def decided(pairs: Iterable[Pair]) -> bool:
    """Whether the best run is told apart from every other that has several seeds."""
    told = [pair.told for pair in pairs if pair.corrected is not None]
    return bool(told) and all(told)


def groups(params: Params, study: Study, pairs: dict[str, list[Pair]]) -> list[Group]:
    columns = [result_column(params, study, name, pairs.get(name, [])) for name in study.evals]
    found = []
    for dataset in dict.fromkeys(column.dataset for column in columns):
        own = [column for column in columns if column.dataset == dataset]
        runs = [run for run in study.runs if any(run in column.cells for column in own)]
        found.append(Group(dataset, own, runs, len(study.seeds)))
    return found


def result_column(params: Params, study: Study, name: str, pairs: list[Pair]) -> Column:
    first = study.first(name)
    cells, unit = numbers.column(study, name), first.main.unit
    best = next(run for run, one in cells.items() if one.best)
    shapes = numbers.shape_scores(study.of(best, name), first.headline)
    chance = numbers.chance(study.of(best, name))
    title = first.headline.replace("_", " ") + (f", {unit_text(unit)}" if unit else "")
    guess = {} if chance is None else {"chance": factor(unit) * chance}
    return Column(
        name,
        params.evals[name].dataset,
        params.evals[name].task["kind"],
        first.headline,
        first.main,
        cells,
        {run: study.seeds_of(run, name) for run in cells},
        "–" if chance is None else shown(chance, unit),
        first.protocol,
        seen.of_evaluation(study, params.evals[name].dataset),
        tuple(sorted({note for run in cells for found in study.of(run, name) for note in found.notes})),
        len(shapes) if shapes is not None else first.main.shapes,
        _sampling(cells[best].context.mean, first.main) if first.predicted is not None else "",
        dot_plot(name, dots(cells, unit, decided(pairs)), title, guess),
        {pair.b: pair for pair in pairs},
    )


def dots(cells: dict[str, Cell], unit: str, clear: bool) -> list[Dots]:
    """The rows of an evaluation's dot plot, in the order of the study; shares in percent."""
    return [
        Dots(
            run,
            [factor(unit) * value for value in one.context.values],
            factor(unit) * one.context.mean,
            factor(unit) * one.context.std,
            one.best and clear,
        )
        for run, one in cells.items()
    ]


def _sampling(share: float, main: Metric) -> str:
    """The standard deviation that a share has only because the test set is a sample of so many shapes."""
    if main.unit != SHARE or not main.shapes:
        return ""
    return f"{100 * np.sqrt(share * (1 - share) / main.shapes):.1f}"


def spread_text(found: Spread | None, unit: str) -> str:
    if found is None:
        return "–"
    return shown(found.mean, unit) + (f" ± {shown(found.std, unit)}" if found.n > 1 else "")


def result_grid(params: Params, group: Group) -> Grid:
    """Runs against evaluations; the best of a column by its metric's direction."""
    head = [cell("run"), *(cell(of.name, f"{of.headline.replace('_', ' ')}, {of.unit}") for of in group.columns)]
    rows = [
        Row(
            [
                cell(run, params.runs[run].about, mark="run"),
                *(result_cell(params, group, of, run) for of in group.columns),
            ]
        )
        for run in group.runs
    ]
    rows.append(Row([cell("chance", "what a guess scores"), *(cell(of.chance) for of in group.columns)], "aside"))
    return grid(head, rows, " n", "full" if len(group.columns) > 2 else "")


def result_cell(params: Params, group: Group, column: Column, run: str) -> tuple[Bit, ...]:
    """A number, or none; why there can be none where the run's encoder saw every label of a few-label evaluation."""
    if run not in column.cells:
        return SAW_THEM_ALL if no_few_labels(params, objectives, run, column.name) else GAP
    found, unit = column.cells[run], column.main.unit
    values = ", ".join(shown(value, unit, 2) for value in found.context.values)
    seeds = ", ".join(map(str, column.seeds[run]))
    hover = f"seed{'s' * (found.context.n > 1)} {seeds}: {values}; 95 % interval {column.interval(run)}"
    ema = f"EMA {spread_text(found.ema, unit)}" if found.ema else ""
    open = column.tied and run in (column.best, *column.tied)
    mark = "best" if found.best and column.decided else "tied" if open else ""
    return cell(group.number(column, run), ema, hover, mark)


def chosen_epochs(study: Study) -> list[Grid]:
    """For evaluations that train: the same training under every choice of the epoch, the honest one first."""
    found = []
    for name in study.evals:
        first = study.first(name)
        keys = [first.headline, *(key for choice in CHOICES if (key := first.variant(first.headline, chosen=choice)))]
        if len(keys) < 2:
            continue
        head = [cell(name, f"{first.headline.replace('_', ' ')}, {unit_text(first.main.unit)}")]
        for key in keys:
            chosen = first.metrics[key].chosen
            title, about = CHOICES[chosen] if chosen else (key, "")
            head.append(cell(title, about, mark="suspect" if chosen == "community" else ""))
        rows = [
            [run, *(spread_text(numbers.metric(study.of(run, name), key), first.main.unit) for key in keys)]
            for run in study.runs_of(name)
        ]
        found.append(grid(head, rows, " n"))
    return found


def other_metrics(study: Study, name: str) -> Grid:
    """All metrics but the headline and its EMA twin, for the folded table."""
    first, runs = study.first(name), study.runs_of(name)
    metrics = {key: metric for run in runs for found in study.of(run, name) for key, metric in found.metrics.items()}
    rows = []
    for key, metric in metrics.items():
        if key not in (first.headline, first.variant(first.headline, encoder="target")):
            title = f"{key}, {unit_text(metric.unit)}" if metric.unit else key
            rows.append([title, *(spread_text(numbers.metric(study.of(run, name), key), metric.unit) for run in runs)])
    return grid(["metric", *runs], rows, " n")


def paired_grid(pairs: dict[str, list[Pair]], study: Study) -> Grid:
    """The best run of every evaluation against the others, on the same seeds and test shapes."""
    rows = []
    for name, found in pairs.items():
        unit = study.first(name).main.unit
        for pair in found:
            of = pair.difference
            between = f"{shown(of.low, unit)} to {shown(of.high, unit)}" if of.seeds > 1 else "unknown"
            counts = [str(of.seeds), str(of.shapes) if of.shapes == of.objects else f"{of.shapes} of {of.objects}"]
            title = f"{pair.a} − {pair.b}"
            tests = [p_text(pair.corrected), p_text(of.p), p_text(of.p_shapes)]
            rows.append([name if pair == found[0] else "", title, shown(of.mean, unit), between, *tests, *counts])
    head = [
        "evaluation",
        "runs",
        "difference",
        "95 % interval",
        "p, corrected",
        "p",
        "p over shapes",
        "seeds",
        "shapes",
    ]
    return grid(head, rows, "  n")


def p_text(p: float | None) -> str:
    return "–" if p is None else f"{p:.4f}" if p >= 0.0002 else "< 0.0002"


def cost_grid(study: Study) -> Grid:
    """What each verb's jobs took, as Snakemake measured them."""
    rows = []
    for spent in study.costs:
        seconds, cpu, memory = spent.cost
        held = "–" if memory is None else f"{memory / 1000:.2f}"
        jobs = str(spent.jobs) if spent.measured == spent.jobs else f"{spent.measured} of {spent.jobs}"
        took = [f"{seconds:,.0f}", f"{seconds / spent.measured:,.1f}", "–" if cpu is None else f"{cpu:,.0f}"]
        rows.append([spent.verb, jobs, *took, held])
    head = ["verb", "jobs", "seconds in all", "seconds a job", "CPU seconds", "most memory, GB"]
    return grid(head, rows, " n")


class Comparison(NamedTuple):
    """An evaluation's numbers among the published ones of one benchmark, lowest first."""

    name: str
    protocol: str
    benchmark: published.Benchmark
    grid: Grid


def comparisons(params: Params, study: Study) -> list[Comparison]:
    """Every evaluation that others have numbers on."""
    found = []
    for name in study.evals:
        for key in benchmarks(params, name):
            rows = [(row.value, Row(_published_row(row))) for row in published.of(key)]
            for run in study.runs_of(name):
                if of := numbers.metric(study.of(run, name), metric_of(study, name, key)):
                    note = f"{of.n} seed{'s' if of.n > 1 else ''}"
                    texts = (run, spread_text(of, SHARE), "this study", note)
                    rows.append((100 * of.mean, Row([cell(text) for text in texts], "ours")))
            rows.sort(key=lambda pair: pair[0])
            table = grid(["method", "%", "source", "note"], [row for _, row in rows], " n  ", "prose")
            found.append(Comparison(name, study.first(name).protocol, published.BENCHMARKS[key], table))
    return found


def _published_row(row: published.Published) -> Sequence[tuple[Bit, ...]]:
    value = f"{row.value:g}" + (f" ± {row.spread:g}" if row.spread is not None else "")
    return [cell(text) for text in (row.method, value, row.source, row.note)]


def metric_of(study: Study, name: str, key: str) -> str:
    """The metric that stands beside the published numbers of a benchmark; the headline where there is none of its own
    (a linear probe beside SVMs)."""
    first = study.first(name)
    own = recipes.MEASURES[key][0].readings[0].metric
    return own if own in first.metrics else first.headline
