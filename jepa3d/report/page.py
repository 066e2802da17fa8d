"""The page: what the template index.html.j2 is filled with. It loads nothing from anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from jepa3d import __version__, config, published, store
from jepa3d.report import charts, numbers
from jepa3d.report.numbers import CHANCE, EMA, Cell, is_share, shown
from jepa3d.report.shapes import BLOCKS, CONTEXT, Cloud, Masking, TokenColours, principal
from jepa3d.report.study import Embedding, Study, codes, fingerprint

MOST_MAPPED = 600  # points of one map
NOT_MONITORS = ("step", "epoch", "seconds", "steps_per_second")
TWIN = "_target"  # the suffix of a monitor of the EMA (target) encoder: drawn dashed beside the context encoder's
MONITORS: dict[str, tuple[str, str]] = {
    "loss": ("Loss", "Objectives and targets differ: compare the seeds of one run, never two runs."),
    "knn": ("Online k-NN", "Accuracy of a nearest-neighbour probe on labelled training shapes: the sign of learning."),
    "feature_std": (
        "Std of the features",
        "How much each feature varies from shape to shape. Near 0: collapse.",
    ),
    "rank": ("Effective rank", "How many directions the features use (RankMe). A steady fall is a partial collapse."),
    "cosine": ("Cosine between shapes", "Mean similarity of different shapes. Near 1: all shapes look the same."),
    "student_teacher": ("Student–teacher distance", "1 − cosine between the features of the two encoders."),
    "target_std": ("Std of the targets", "Spread of what is to be predicted. Near 0: nothing is left to predict."),
    "predicted_std": ("Std of the predictions", "Follows the targets' spread when the predictor tells patches apart."),
    "mask_ratio": ("Masked share", "Share of the patches that are targets, as drawn."),
    "context_ratio": ("Context share", "Share of the patches that the context encoder sees."),
    "lr": ("Learning rate", "The schedule: warm-up, then cosine."),
    "grad_norm": ("Gradient norm", "Before clipping. Spikes announce an unstable training."),
}


class Pictures(NamedTuple):
    """The pictures of shapes; None with a reason where the study has none."""

    masking: Masking | None
    tokens: TokenColours | None
    why_no_masking: str = ""
    why_no_tokens: str = ""


class Plane(NamedTuple):
    """One run's map: test features in the plane of their two largest principal components.

    Each feature is scaled to unit variance first, as the probes do: else one large feature decides the picture.
    """

    points: NDArray[np.float64]  # [n, 2]
    label: NDArray[np.int64]
    ids: tuple[str, ...]
    share: float  # of the variance that the plane holds
    total: int  # shapes of the test split


def render(params: config.Params, study: Study, pictures: Pictures) -> str:
    """The whole page as one text."""
    loader = jinja2.PackageLoader("jepa3d.report", ".")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = loader.get_source(environment, "style.css")[0], loader.get_source(environment, "view.js")[0]
    return environment.get_template("index.html.j2").render(
        style=Markup(source[0]),
        script=Markup(source[1]),
        study=study,
        params=params,
        version=__version__,
        code=store.code_hash(),
        codes=codes(study),
        fingerprint=fingerprint(study),
        columns=[result_column(params, study, name) for name in study.evals],
        others=[other_metrics(study, name) for name in study.evals],
        comparisons=[found for name in study.evals if (found := comparison(params, study, name))],
        alone=[name for name in study.evals if not benchmarks(params, name)],
        claims=claims(),
        ablation=published.ABLATION_BLOCKS,
        masking=pictures.masking,
        tokens=pictures.tokens,
        why=pictures,
        views=views(pictures),
        blocks=BLOCKS,
        context_colour=CONTEXT,
        maps=maps(study),
        map_names=map_names(study),
        colour=charts.colour,
        confusion=confusion(study),
        curves=curve_panels(study),
        monitors=MONITORS,
        not_run=not_run(params),
    )


def result_column(params: config.Params, study: Study, name: str) -> dict[str, Any]:
    """One evaluation: its cells, its dot plot, what it means and how it was measured."""
    first = study.outcomes[study.runs[0]][name][0]
    cells = numbers.column(study, name)
    share = is_share(first.headline, [value for cell in cells.values() for value in cell.context.values])
    best = next(run for run, cell in cells.items() if cell.best)
    return {
        "name": name,
        "dataset": params.evals[name].dataset,
        "task": params.evals[name].task["kind"],
        "headline": first.headline,
        "unit": " %" if share else "",
        "cells": {run: _cell(cell, share) for run, cell in cells.items()},
        "chance": _chance(study, name, share),
        "best": best,
        "tied": [run for run, cell in cells.items() if cell.tied],
        "protocol": first.protocol,
        "notes": sorted({note for run in study.runs for found in study.outcomes[run][name] for note in found.notes}),
        "test": len(first.truth),
        "sampling": _sampling(cells[best].context.mean, len(first.truth)) if first.predicted is not None else None,
        "chart": charts.dot_plot(
            result_dots(study, name), " %" if share else "", f"{name}: {first.headline} of every run",
            {"chance": 100 * chance} if share and (chance := _chance_of(study, name)) is not None else {},
        ),
    }  # fmt: skip


def result_dots(study: Study, name: str) -> list[charts.Dots]:
    """The rows of an evaluation's dot plot, in the order of the study; shares in percent."""
    cells = numbers.column(study, name)
    headline = study.outcomes[study.runs[0]][name][0].headline
    factor = 100.0 if is_share(headline, [value for cell in cells.values() for value in cell.context.values]) else 1.0
    return [
        charts.Dots(
            run,
            [factor * value for value in cell.context.values],
            factor * cell.context.mean,
            factor * cell.context.std,
            "best" if cell.best else "tied" if cell.tied else "",
        )
        for run, cell in cells.items()
    ]


def axis_title(study: Study, name: str) -> str:
    """The headline metric of an evaluation and its unit."""
    headline = study.outcomes[study.runs[0]][name][0].headline
    values = [found.metrics[headline] for run in study.runs for found in study.outcomes[run][name]]
    return headline.replace("_", " ") + (", %" if is_share(headline, values) else "")


def _cell(cell: Cell, share: bool) -> dict[str, Any]:
    def text(found: numbers.Spread) -> dict[str, str]:
        return {
            "mean": shown(found.mean, share),
            "std": shown(found.std, share) if found.n > 1 else "",
            "values": ", ".join(shown(value, share, 2) for value in found.values),
        }

    return {
        **text(cell.context),
        "n": cell.context.n,
        "mark": "best" if cell.best else "tied" if cell.tied else "",
        "ema": text(cell.ema) if cell.ema else None,
    }


def _chance_of(study: Study, name: str) -> float | None:
    return numbers.chance(study.outcomes[study.runs[0]][name])


def _chance(study: Study, name: str, share: bool) -> str:
    found = _chance_of(study, name)
    return shown(found, share) if found is not None else "–"


def _sampling(share: float, shapes: int) -> str:
    """The standard deviation that a share has only because the test set is a sample of `shapes` shapes."""
    return f"{100 * np.sqrt(share * (1 - share) / shapes):.1f}"


def other_metrics(study: Study, name: str) -> dict[str, Any]:
    """All metrics but the headline and its EMA twin, for the folded table."""
    first = study.outcomes[study.runs[0]][name][0]
    keys = list(
        dict.fromkeys(key for run in study.runs for found in study.outcomes[run][name] for key in found.metrics)
    )
    keys = [key for key in keys if key not in (first.headline, first.headline + EMA, CHANCE, CHANCE + EMA)]
    rows = []
    for key in keys:
        found = {run: numbers.metric(study.outcomes[run][name], key) for run in study.runs}
        share = is_share(key, [value for of in found.values() if of for value in of.values])
        rows.append(
            {
                "name": key,
                "unit": "%" if share else "",
                "cells": [_spread_text(found[run], share) for run in study.runs],
            }
        )
    return {"name": name, "rows": rows}


def _spread_text(found: numbers.Spread | None, share: bool) -> str:
    if found is None:
        return "–"
    return shown(found.mean, share) + (f" ± {shown(found.std, share)}" if found.n > 1 else "")


def benchmarks(params: config.Params, name: str) -> tuple[str, ...]:
    entry = params.evals[name]
    return published.comparable(config.slice_of(params.dataset(entry.dataset)), entry.task)


def comparison(params: config.Params, study: Study, name: str) -> dict[str, Any] | None:
    """An evaluation's numbers among the published ones, lowest first; None where nobody else has numbers."""
    keys = benchmarks(params, name)
    if not keys:
        return None
    first = study.outcomes[study.runs[0]][name][0]
    tables = []
    for key in keys:
        rows = [(row.value, _published_row(row)) for row in published.of(key)]
        rows += [(100 * cell.context.mean, _own_row(run, cell)) for run, cell in numbers.column(study, name).items()]
        rows.sort(key=lambda pair: pair[0])
        tables.append({"benchmark": published.BENCHMARKS[key], "rows": [row for _, row in rows]})
    return {"name": name, "protocol": first.protocol, "tables": tables}


def _published_row(row: published.Published) -> dict[str, Any]:
    value = f"{row.value:g}" + (f" ± {row.spread:g}" if row.spread is not None else "")
    return {"method": row.method, "value": value, "source": row.source, "note": row.note, "ours": False}


def _own_row(run: str, cell: Cell) -> dict[str, Any]:
    note = f"{cell.context.n} seed{'s' if cell.context.n > 1 else ''}"
    return {
        "method": run,
        "value": _spread_text(cell.context, True),
        "source": "this study",
        "note": note,
        "ours": True,
    }


def claims() -> list[dict[str, str]]:
    """What the design document and the paper's abstract claim for 3D-JEPA, side by side and never mixed."""
    claimed = [*published.DOCUMENT_CLAIMS, *published.ABSTRACT_CLAIM]
    own = {(row.benchmark, row.source): row for row in claimed if row.method == published.OURS}
    return [
        {
            "title": benchmark.title,
            "metric": benchmark.metric,
            "document": f"{own[key, published.DOCUMENT].value:g}" if (key, published.DOCUMENT) in own else "–",
            "abstract": f"{own[key, published.ABSTRACT].value:g}" if (key, published.ABSTRACT) in own else "–",
            "note": "; ".join(f"{source}: {row.note}" for (of, source), row in own.items() if of == key),
        }
        for key, benchmark in published.BENCHMARKS.items()
        if any(of == key for of, _ in own)
    ]


def planes(study: Study) -> dict[str, Plane]:
    """Every run's map of the mapped data set, thinned evenly to at most 600 shapes."""
    return {run: plane(found) for run, found in study.embeddings.items()}


def plane(found: Embedding) -> Plane:
    rows = np.linspace(0, len(found.label) - 1, min(MOST_MAPPED, len(found.label))).astype(int)
    deviation = found.features.std(0)
    points, share = principal(found.features / np.where(deviation > 0, deviation, 1), 2)
    return Plane(points[rows], found.label[rows], tuple(found.ids[row] for row in rows), share, len(found.label))


def map_names(study: Study) -> tuple[str, ...]:
    return next(iter(study.embeddings.values())).classes if study.embeddings else ()


def maps(study: Study) -> list[dict[str, Any]]:
    """The maps as charts, with what they show."""
    names = map_names(study)
    return [
        {
            "run": run,
            "share": f"{100 * found.share:.0f}",
            "shown": len(found.ids),
            "total": found.total,
            "chart": charts.scatter(
                found.points,
                found.label,
                len(names),
                [f"{name_of(k, names)}: {shape}" for k, shape in zip(found.label, found.ids, strict=True)],
                f"map of the test features of {run}",
            ),
        }
        for run, found in planes(study).items()
    ]


def name_of(label: int, names: Sequence[str]) -> str:
    return names[label] if label >= 0 else "unlabelled"


def judged(study: Study) -> tuple[str, str] | None:
    """The evaluation and the run of the confusion matrix: the first with predictions, and its best run."""
    for name in study.evals:
        if all(found.predicted is not None for run in study.runs for found in study.outcomes[run][name]):
            return name, next(run for run, cell in numbers.column(study, name).items() if cell.best)
    return None


def confusion(study: Study) -> dict[str, Any] | None:
    """The confusion matrix of the first evaluation with predictions, of its best run, over all seeds."""
    if not (chosen := judged(study)):
        return None
    name, run = chosen
    outcomes = study.outcomes[run][name]
    counts = numbers.confusion(outcomes)
    names = outcomes[0].classes
    wrong = counts - np.diag(np.diag(counts))
    worst = [(int(wrong[i, j]), names[i], names[j]) for i, j in np.argwhere(wrong > 0)]
    return {
        "eval": name,
        "run": run,
        "worst": sorted(worst, key=lambda entry: -entry[0])[:3],
        "total": int(counts.sum()),
        "chart": charts.confusion_matrix(counts, names, f"confusion matrix of {run} on {name}"),
    }


def curve_lines(study: Study) -> dict[str, dict[str, list[charts.Line]]]:
    """run -> monitor -> one line per seed, and one more per seed for the EMA encoder's twin of the monitor."""
    lines: dict[str, dict[str, list[charts.Line]]] = {}
    for run in study.runs:
        keys = monitor_keys(study.curves[run])
        of_run = {key: _lines(study, run, key, False) + _lines(study, run, key + TWIN, True) for key in keys}
        if of_run:
            lines[run] = of_run
    return lines


def _lines(study: Study, run: str, key: str, ema: bool) -> list[charts.Line]:
    lines = []
    for number, (seed, rows) in enumerate(zip(study.seeds, study.curves[run], strict=True)):
        found = [(row["step"], row[key]) for row in rows if _is_number(row.get(key))]
        if found:
            x, y = zip(*found, strict=True)
            lines.append(charts.Line(f"seed {seed}{', EMA' if ema else ''}", x, y, number, ema))
    return lines


def monitor_keys(curves: Sequence[Sequence[dict[str, Any]]]) -> list[str]:
    """The numeric keys of the curves, without the EMA twins: the known ones in the order of MONITORS, then others."""
    found = {key for rows in curves for row in rows for key, value in row.items() if _is_number(value)}
    found -= {*NOT_MONITORS, *(key + TWIN for key in found)}
    return [key for key in MONITORS if key in found] + sorted(found - set(MONITORS))


def curve_panels(study: Study) -> list[dict[str, Any]]:
    """The training curves of every run as charts over the same steps; none for a run that was not trained."""
    lines = curve_lines(study)
    panels = []
    for run in study.runs:
        steps = max((rows[-1]["step"] for rows in study.curves[run] if rows), default=0)
        drawn = [curve_panel(run, key, found, steps) for key, found in lines.get(run, {}).items()]
        panels.append({"run": run, "steps": steps, "panels": drawn})
    return panels


def curve_panel(run: str, key: str, found: Sequence[charts.Line], steps: int) -> dict[str, Any]:
    title, about = MONITORS.get(key, (key.replace("_", " "), "A number that the objective logs."))
    log = key == "loss" and min(min(line.y) for line in found) > 0
    return {
        "title": title,
        "about": about + " Logarithmic." * log,
        "chart": charts.line_chart(found, steps, f"{key} of {run}", log),
        "ends": ", ".join(f"{line.y[-1]:.3g}" for line in found if not line.dashed),
        "ema": ", ".join(f"{line.y[-1]:.3g}" for line in found if line.dashed),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def views(pictures: Pictures) -> Markup:
    """The clouds of the 3D views as JSON: whole numbers in -1000..1000, and a palette."""
    clouds = [pictures.masking.patches, *pictures.masking.masks] if pictures.masking else []
    clouds += pictures.tokens.clouds if pictures.tokens else []
    return Markup(json.dumps([_view(cloud) for cloud in clouds], separators=(",", ":")).replace("<", "\\u003c"))


def _view(cloud: Cloud) -> dict[str, Any]:
    palette = sorted(set(cloud.colours))
    index = {name: place for place, name in enumerate(palette)}
    return {
        "points": np.round(cloud.points * 1000).astype(int).ravel().tolist(),
        "colour": [index[name] for name in cloud.colours],
        "palette": palette,
    }


def not_run(params: config.Params) -> dict[str, list[str]]:
    """What params.yaml defines and this study leaves out."""
    chosen = params.chosen
    return {
        "runs": [name for name in params.runs if name not in chosen.runs],
        "evals": [name for name in params.evals if name not in chosen.evals],
        "studies": [name for name in params.studies if name != params.study],
    }
