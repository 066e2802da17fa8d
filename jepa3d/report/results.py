"""The study's own results: tables and charts of every evaluation, and where they stand among published numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from jepa3d.params import Params
from jepa3d.report import charts, numbers, published, recipes
from jepa3d.report.numbers import CHOICES, Cell, factor, shown, unit_text
from jepa3d.report.study import Study
from jepa3d.report.tables import benchmarks
from jepa3d.results.finding import SHARE


def groups(params: Params, study: Study) -> list[dict[str, Any]]:
    """The result tables: one per data set, with the runs that are evaluated on it and its evaluations as columns."""
    columns = [result_column(params, study, name) for name in study.evals]
    datasets = dict.fromkeys(column["dataset"] for column in columns)
    found = []
    for dataset in datasets:
        own = [column for column in columns if column["dataset"] == dataset]
        runs = [run for run in study.runs if any(column["cells"].get(run) for column in own)]
        gaps = any(run not in column["cells"] for run in runs for column in own)
        found.append({"dataset": dataset, "columns": own, "runs": runs, "gaps": gaps})
    return found


def result_column(params: Params, study: Study, name: str) -> dict[str, Any]:
    """One evaluation: its cells, its dot plot, what it means and how it was measured."""
    first = study.first(name)
    cells = numbers.column(study, name)
    unit = first.main.unit
    best = next(run for run, cell in cells.items() if cell.best)
    shapes = numbers.shape_scores(study.of(best, name), first.headline)
    return {
        "name": name,
        "dataset": params.evals[name].dataset,
        "task": params.evals[name].task["kind"],
        "headline": first.headline,
        "unit": unit_text(unit),
        "higher": first.main.higher_is_better,
        "cells": {run: _cell(study, name, run, cell, unit) for run, cell in cells.items()},
        "chance": _chance(study, name, unit),
        "best": best,
        "tied": [run for run, cell in cells.items() if cell.tied],
        "unjudged": [run for run, cell in cells.items() if run != best and not cell.judged],
        "protocol": first.protocol,
        "notes": sorted({note for run in cells for found in study.of(run, name) for note in found.notes}),
        "test": len(shapes) if shapes is not None else first.main.shapes,
        "sampling": _sampling(cells[best].context.mean, len(first.truth)) if first.predicted is not None else None,
        "chart": charts.dot_plot(
            result_dots(study, name), f" {unit_text(unit)}", f"{name}: {first.headline} of every run",
            {} if (chance := _chance_of(study, name)) is None else {"chance": factor(unit) * chance},
        ),
    }  # fmt: skip


def result_dots(study: Study, name: str) -> list[charts.Dots]:
    """The rows of an evaluation's dot plot, in the order of the study; shares in percent."""
    cells = numbers.column(study, name)
    times = factor(study.first(name).main.unit)
    return [
        charts.Dots(
            run,
            [times * value for value in cell.context.values],
            times * cell.context.mean,
            times * cell.context.std,
            "best" if cell.best else "tied" if cell.tied else "",
        )
        for run, cell in cells.items()
    ]


def axis_title(study: Study, name: str) -> str:
    """The headline metric of an evaluation and its unit."""
    first = study.first(name)
    unit = unit_text(first.main.unit)
    return first.headline.replace("_", " ") + (f", {unit}" if unit else "")


def _cell(study: Study, name: str, run: str, cell: Cell, unit: str) -> dict[str, Any]:
    seeds = study.seeds_of(run, name)

    def text(found: numbers.Spread) -> dict[str, str]:
        values = ", ".join(shown(value, unit, 2) for value in found.values)
        return {
            "mean": shown(found.mean, unit),
            "std": shown(found.std, unit) if found.n > 1 else "",
            "values": f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}: {values}",
        }

    ends = f"{shown(cell.interval.low, unit)} to {shown(cell.interval.high, unit)}"
    return {
        **text(cell.context),
        "n": cell.context.n,
        "fewer": cell.context.n < len(study.seeds),
        "interval": ends,
        "mark": "best" if cell.best else "tied" if cell.tied else "",
        "clear": cell.judged and not cell.best and not cell.tied,  # told apart from the best
        "ema": text(cell.ema) if cell.ema else None,
    }


def _chance_of(study: Study, name: str) -> float | None:
    return numbers.chance(study.of(study.runs_of(name)[0], name))


def _chance(study: Study, name: str, unit: str) -> str:
    found = _chance_of(study, name)
    return shown(found, unit) if found is not None else "–"


def _sampling(share: float, shapes: int) -> str:
    """The standard deviation that a share has only because the test set is a sample of `shapes` shapes."""
    return f"{100 * np.sqrt(share * (1 - share) / shapes):.1f}"


def chosen_epochs(study: Study) -> list[dict[str, Any]]:
    """For evaluations that train: the same training under every choice of the epoch, the honest one first."""
    found = []
    for name in study.evals:
        first = study.first(name)
        keys = [first.headline, *(key for choice in CHOICES if (key := first.variant(first.headline, chosen=choice)))]
        if len(keys) < 2:
            continue
        rows = {}
        for run in study.runs_of(name):
            spreads = [numbers.metric(study.of(run, name), key) for key in keys]
            rows[run] = [_spread_text(of, first.main.unit) for of in spreads]
        chosen = {key: first.metrics[key].chosen for key in keys}
        titles = [(key, "") if choice is None else CHOICES[choice] for key, choice in chosen.items()]
        found.append({"name": name, "metric": first.headline, "titles": titles, "rows": rows})
    return found


def other_metrics(study: Study, name: str) -> dict[str, Any]:
    """All metrics but the headline and its EMA twin, for the folded table."""
    first, runs = study.first(name), study.runs_of(name)
    keys = list(dict.fromkeys(key for run in runs for found in study.of(run, name) for key in found.metrics))
    keys = [key for key in keys if key not in (first.headline, first.variant(first.headline, encoder="target"))]
    rows = []
    for key in keys:
        found = {run: numbers.metric(study.of(run, name), key) for run in runs}
        units = {one.metrics[key].unit for run in runs for one in study.of(run, name) if key in one.metrics}
        unit = units.pop() if len(units) == 1 else ""
        cells = [_spread_text(found[run], unit) for run in runs]
        rows.append({"name": key, "unit": unit_text(unit), "cells": cells})
    return {"name": name, "runs": runs, "rows": rows}


def _spread_text(found: numbers.Spread | None, unit: str) -> str:
    if found is None:
        return "–"
    return shown(found.mean, unit) + (f" ± {shown(found.std, unit)}" if found.n > 1 else "")


def paired(study: Study) -> list[dict[str, Any]]:
    """The best run of every evaluation against the others, on the same test shapes; in percent."""
    return [{"name": name, "pairs": found} for name in study.evals if (found := numbers.pairs(study, name))]


def comparison(params: Params, study: Study, name: str) -> dict[str, Any] | None:
    """An evaluation's numbers among the published ones, lowest first; None where nobody else has numbers."""
    keys = benchmarks(params, name)
    if not keys:
        return None
    tables = []
    for key in keys:
        rows = [(row.value, _published_row(row)) for row in published.of(key)]
        metric = metric_of(study, name, key)
        for run in study.runs_of(name):
            if found := numbers.metric(study.of(run, name), metric):
                rows.append((100 * found.mean, _own_row(run, found)))
        rows.sort(key=lambda pair: pair[0])
        tables.append({"benchmark": published.BENCHMARKS[key], "rows": [row for _, row in rows]})
    return {"name": name, "protocol": study.first(name).protocol, "tables": tables}


def _published_row(row: published.Published) -> dict[str, Any]:
    value = f"{row.value:g}" + (f" ± {row.spread:g}" if row.spread is not None else "")
    return {"method": row.method, "value": value, "source": row.source, "note": row.note, "ours": False}


def metric_of(study: Study, name: str, key: str) -> str:
    """The metric that stands beside the published numbers of a benchmark; the headline where there is none of its own
    (a linear probe beside SVMs)."""
    first = study.first(name)
    own = recipes.MEASURES[key].readings[0].metric
    return own if own in first.metrics else first.headline


def _own_row(run: str, found: numbers.Spread) -> dict[str, Any]:
    note = f"{found.n} seed{'s' if found.n > 1 else ''}"
    return {
        "method": run,
        "value": _spread_text(found, SHARE),
        "source": "this study",
        "note": note,
        "ours": True,
    }
