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
from jepa3d.published import ABSTRACT, DOCUMENT
from jepa3d.report import charts, details, numbers, results, tables
from jepa3d.report.ablations import ablations
from jepa3d.report.shapes import BLOCKS, CONTEXT, Cloud, Masking, TokenColours, principal
from jepa3d.report.study import Embedding, Study, codes, fingerprint
from jepa3d.report.training import MONITORS, curve_panels

MOST_MAPPED = 600  # points of one map


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
        groups=results.groups(params, study),
        chosen=results.chosen_epochs(study),
        paired=results.paired(study),
        others=[results.other_metrics(study, name) for name in study.evals],
        comparisons=[found for name in study.evals if (found := results.comparison(params, study, name))],
        alone=[name for name in study.evals if not tables.benchmarks(params, name)],
        tables=tables.tables(params, study),
        ablations=ablations(params, study),
        near=tables.near_misses(params, study),
        sources=(DOCUMENT, ABSTRACT, tables.AUTHORS),
        anything=any(table.run for table in tables.tables(params, study)),
        benchmarks=published.BENCHMARKS,
        plan=published.spread_of,
        ragged=any(len(study.seeds_of(run, name)) < len(study.seeds) for run in study.runs for name in study.evals),
        **detail_charts(study),
        segmented_at=segmented_at(study, pictures),
        masking=pictures.masking,
        tokens=pictures.tokens,
        why=pictures,
        views=views(study, pictures),
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
        if all(found.predicted is not None for run in study.runs_of(name) for found in study.of(run, name)):
            return name, next(run for run, cell in numbers.column(study, name).items() if cell.best)
    return None


def confusion(study: Study) -> dict[str, Any] | None:
    """The confusion matrix of the first evaluation with predictions, of its best run, over all seeds."""
    if not (chosen := judged(study)):
        return None
    name, run = chosen
    outcomes = study.of(run, name)
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


def detail_charts(study: Study) -> dict[str, Any]:
    """What evaluations say beyond numbers, as charts; an empty list for what the study does not have."""
    found: dict[str, Any] = {"segmentations": details.segmentations(study), "parts": []}
    found["folds"] = [
        (of, charts.dot_plot(of.rows, " %", f"folds of {of.name}, {of.metric}", {}))
        for of in details.few_shot_folds(study)
    ]
    for name, panels in (("robustness", details.robustness(study)), ("tunings", details.tunings(study))):
        found[name] = [
            {
                "name": of,
                "runs": study.runs_of(of),
                "charts": [(c, charts.line_chart(c.lines, c.last, f"{c.title} of {of}")) for c in curves],
            }
            for of, curves in panels.items()
        ]
    titles = (
        ("segmentations", "parts", "Parts"),
        ("folds", "folds", "Folds"),
        ("robustness", "robustness", "Robustness"),
        ("tunings", "tuning", "Fine-tuning"),
    )
    found["parts"] = [{"id": to, "title": title} for key, to, title in titles if found[key]]
    return found


def cloud_list(study: Study, pictures: Pictures) -> list[Cloud]:
    """Every 3D view of the page in the order of its number."""
    clouds = [pictures.masking.patches, *pictures.masking.masks] if pictures.masking else []
    clouds += pictures.tokens.clouds if pictures.tokens else []
    return clouds + [cloud for of in details.segmentations(study) for shape in of.shapes for cloud in shape.clouds]


def segmented_at(study: Study, pictures: Pictures) -> list[int]:
    """The number of the first 3D view of each part segmentation."""
    sizes = [3 * len(of.shapes) for of in details.segmentations(study)]
    total = len(cloud_list(study, pictures))
    return [total - sum(sizes[place:]) for place in range(len(sizes))]


def views(study: Study, pictures: Pictures) -> Markup:
    """The clouds of the 3D views as JSON: whole numbers in -1000..1000, and a palette."""
    clouds = [_view(cloud) for cloud in cloud_list(study, pictures)]
    return Markup(json.dumps(clouds, separators=(",", ":")).replace("<", "\\u003c"))


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
        "runs": [name for name in params.runs if name not in chosen.run_names()],
        "evals": [name for name in params.evals if name not in chosen.eval_names()],
        "studies": [name for name in params.studies if name != params.study],
    }
