"""The tables of the document, each cell: published with its source, ours with its interval, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jepa3d.ops.statistics import Interval
from jepa3d.ops.verdict import Verdict, verdict
from jepa3d.params import Params, slice_of
from jepa3d.report import numbers, published, recipes
from jepa3d.report.entries import differences, eval_entry, run_entry
from jepa3d.report.published import ABSTRACT, DOCUMENT, OURS, Published
from jepa3d.report.recipes import Measure, Reading, Recipe
from jepa3d.report.study import Study
from jepa3d.results.finding import Finding

AUTHORS = "its authors"  # the column of numbers that neither the document nor the paper's abstract gives


class Ours(NamedTuple):
    """One number of ours beside the published ones of a row; in percent."""

    title: str  # how its epoch was chosen
    run: str
    evaluation: str
    interval: Interval
    std: float  # sample standard deviation over the seeds; 0 for a single one
    protocol: str
    verdicts: dict[str, Verdict]  # source -> what our interval says about its number

    @property
    def text(self) -> str:
        spread = f" ± {self.std:.1f}" if self.interval.n > 1 else ""
        return f"{self.interval.mean:.1f}{spread} (n = {self.interval.n})"

    @property
    def words(self) -> list[tuple[str, str, str]]:
        """(word, sources, why) of the verdicts; sources with one word share a line, with the first one's reason."""
        found: dict[str, list[str]] = {}
        for source in (DOCUMENT, ABSTRACT, AUTHORS):
            if source in self.verdicts:
                found.setdefault(self.verdicts[source].word, []).append(source)
        return [(word, " and ".join(of), self.verdicts[of[0]].why) for word, of in found.items()]


class Row(NamedTuple):
    """One method's line under one benchmark."""

    title: str
    claimed: dict[str, Published]  # DOCUMENT, ABSTRACT or AUTHORS -> its number
    ours: tuple[Ours, ...]  # the honest one first; () where nothing was run


class Section(NamedTuple):
    """One benchmark of a table."""

    key: str
    title: str  # of the benchmark
    metric: str
    protocol: str  # the peers'
    rows: tuple[Row, ...]


class Table(NamedTuple):
    name: str
    title: str
    about: str
    sections: tuple[Section, ...]

    @property
    def run(self) -> int:
        """How many of its lines were run."""
        return sum(bool(row.ours) for section in self.sections for row in section.rows)

    @property
    def protocols(self) -> dict[str, str]:
        """Our evaluations in it, and how each measures."""
        rows = [row for section in self.sections for row in section.rows]
        return {ours.evaluation: ours.protocol for row in rows for ours in row.ours}

    @property
    def lines(self) -> int:
        return sum(len(section.rows) for section in self.sections)


class Match(NamedTuple):
    """A run and an evaluation of the study that measure a benchmark."""

    run: str
    evaluation: str


class NearMiss(NamedTuple):
    """On public data with a task that others report, but not comparable: and why."""

    run: str
    evaluation: str
    benchmark: str
    why: tuple[str, ...]


def exact(value: float) -> str:
    """A published number as it was published: one decimal, two where it has two."""
    return f"{value:.1f}" if round(value, 1) == value else f"{value:.2f}"


def tables(params: Params, study: Study) -> list[Table]:
    """The result tables, those of which nothing was run included."""
    entries = run_entries(params, study)
    return [
        Table(
            table.name,
            table.title,
            table.about,
            tuple(section(params, study, entries, key, table.methods) for key in table.benchmarks),
        )
        for table in recipes.TABLES
    ]


def run_entries(params: Params, study: Study) -> dict[str, dict[str, Any]]:
    """Every run's entry as recipes look at it."""
    return {run: run_entry(params, run) for run in study.runs}


def section(
    params: Params, study: Study, entries: Mapping[str, Mapping[str, Any]], key: str, methods: Sequence[str]
) -> Section:
    """A benchmark's lines: every recipe of these methods, and every other method with a published number."""
    benchmark = published.BENCHMARKS[key]
    rows = [row_of(params, study, entries, key, recipe) for recipe in recipes.RECIPES if recipe.method in methods]
    rows = [row for row in rows if row.claimed or row.ours or row.title == recipes.DOCUMENTED]
    return Section(key, benchmark.title, benchmark.metric, benchmark.protocol, tuple(rows))


def row_of(params: Params, study: Study, entries: Mapping[str, Mapping[str, Any]], key: str, recipe: Recipe) -> Row:
    claimed = claims(key, recipe)
    against = {source: rivals(row, recipe) for source, row in claimed.items()}
    ours = []
    for measure in recipes.measures(key, recipe.method):
        if found := matching(params, study, entries, key, recipe, measure):
            outcomes = study.of(*found)
            ours += [
                measured(outcomes, found, reading, claimed, against)
                for reading in measure.readings
                if all(reading.metric in outcome.metrics for outcome in outcomes)
            ]
    return Row(recipe.title, claimed, tuple(ours))


def claims(key: str, recipe: Recipe) -> dict[str, Published]:
    """The published numbers that a recipe can reproduce: by the document, by the abstract, by others."""
    found: dict[str, Published] = {}
    for row in published.ALL:
        if (
            row.benchmark == key
            and row.method == recipe.method
            and (not recipe.sources or row.source in recipe.sources)
        ):
            found.setdefault(row.source if row.source in (DOCUMENT, ABSTRACT) else AUTHORS, row)
    return found


def rivals(row: Published, recipe: Recipe) -> dict[str, float]:
    """What a number has to be told from: the methods that its row claims to beat; for the network from scratch, what
    3D-JEPA claims to reach."""
    if recipe.method != published.SCRATCH:
        return published.rivals(row)
    of = [one for one in published.ALL if (one.benchmark, one.method, one.source) == (row.benchmark, OURS, DOCUMENT)]
    return {one.method: one.value for one in of}


def matching(
    params: Params,
    study: Study,
    entries: Mapping[str, Mapping[str, Any]],
    key: str,
    recipe: Recipe,
    measure: Measure | None = None,
) -> Match | None:
    """The first run and evaluation of the study that are what the recipe and a measure of the benchmark require: the
    given one, or the honest one."""
    wanted = recipe.requires
    of = [measure] if measure else recipes.measures(key, recipe.method)[:1]
    runs = [run for run in study.runs if not differences(wanted, entries[run])]
    return next(
        (Match(run, name) for run in runs for one in of for name in measuring(params, study, key, recipe, run, one)),
        None,
    )


def measuring(params: Params, study: Study, key: str, recipe: Recipe, run: str, measure: Measure) -> list[str]:
    """The evaluations of a run that measure a benchmark so."""
    wanted = measure.requires(recipe)
    return [
        name
        for name in study.outcomes[run]
        if key in benchmarks(params, name) and not differences(wanted, eval_entry(params, run, name))
    ]


def benchmarks(params: Params, name: str) -> tuple[str, ...]:
    """The benchmarks whose data and task an evaluation has."""
    entry = params.evals[name]
    return published.comparable(slice_of(params.dataset(entry.dataset)), entry.task)


def measured(
    outcomes: Sequence[Finding],
    match: Match,
    reading: Reading,
    claimed: Mapping[str, Published],
    against: Mapping[str, Mapping[str, float]],
) -> Ours:
    """Our number, in percent, and its verdict on each published one."""
    found = numbers.spread([100 * outcome.metrics[reading.metric].value for outcome in outcomes])
    ends = numbers.interval(outcomes, reading.metric)
    interval = Interval(found.mean, 100 * ends.low, 100 * ends.high, found.n)
    seeds = numbers.over_seeds(outcomes, reading.metric)
    trained = Interval(found.mean, 100 * seeds.low, 100 * seeds.high, found.n)
    verdicts = {source: judge(interval, trained, row, against[source]) for source, row in claimed.items()}
    return Ours(reading.title, match.run, match.evaluation, interval, found.std, outcomes[0].protocol, verdicts)


def judge(interval: Interval, trained: Interval, row: Published, against: Mapping[str, float]) -> Verdict:
    """The verdict of our number on a published one. `interval` is over seeds and test shapes, `trained` over seeds
    alone: that is what counts where both were scored on the same test shapes."""
    ours = trained if published.BENCHMARKS[row.benchmark].same_test else interval
    return verdict(ours, row.value, published.spread_of(row).std, against)


def distance(unlike: Sequence[str]) -> tuple[bool, int]:
    """How far a run is from a recipe: another objective is further than any number of other differences."""
    return any(text.startswith("objective.kind") for text in unlike), len(unlike)


def near_misses(params: Params, study: Study) -> list[NearMiss]:
    """Every run and evaluation on public data that no line of the tables shows, and what it would have to be."""
    entries = run_entries(params, study)
    found = []
    for run in study.runs:
        recipe = min(recipes.RECIPES, key=lambda one: distance(differences(one.requires, entries[run])))
        unlike = differences(recipe.requires, entries[run])
        for name in study.outcomes[run]:
            own = eval_entry(params, run, name)
            for key in benchmarks(params, name):
                of = recipes.measures(key, recipe.method)
                why = (*unlike, *min((differences(one.requires(recipe), own) for one in of), key=len, default=[]))
                if why:
                    found.append(NearMiss(run, name, key, why))
    return found
