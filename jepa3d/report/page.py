"""The page: what the template index.html.j2 is filled with. It loads nothing from anywhere."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup

from jepa3d import __version__
from jepa3d.params import Params
from jepa3d.report import charts, numbers, published, results, tables, text
from jepa3d.report.card import Card
from jepa3d.report.content import Content
from jepa3d.report.maps import map_names, maps
from jepa3d.report.shapes import BLOCKS, CONTEXT, Cloud, Masking, TokenColours
from jepa3d.report.study import Study, codes, fingerprint
from jepa3d.report.training import MONITORS, curve_panels
from jepa3d.results import store

DETAILS = (
    ("segmentations", "parts", "Parts"),
    ("folds", "folds", "Folds"),
    ("robustness", "robustness", "Robustness"),
    ("tunings", "tuning", "Fine-tuning"),
)


class Pictures(NamedTuple):
    """The pictures of shapes; None with a reason where the study has none."""

    masking: Masking | None
    tokens: TokenColours | None
    why_no_masking: str = ""
    why_no_tokens: str = ""


def render(found: Content, pictures: Pictures, model_card: Card | None) -> str:
    """The whole page as one text."""
    params, study = found.params, found.study
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
        groups=found.groups,
        ragged=any(len(study.seeds_of(run, name)) < len(study.seeds) for run in study.runs for name in study.evals),
        chosen=results.chosen_epochs(study),
        paired=found.paired,
        others=[results.other_metrics(study, name) for name in study.evals],
        comparisons=[of for name in study.evals if (of := results.comparison(params, study, name))],
        alone=[name for name in study.evals if not tables.benchmarks(params, name)],
        tables=found.tables,
        anything=any(table.run for table in found.tables),
        ablations=found.ablations,
        near=found.near,
        sources=text.SOURCES,
        benchmarks=published.BENCHMARKS,
        plan=published.spread_of,
        exact=tables.exact,
        card=model_card,
        **detail_charts(found),
        segmented_at=segmented_at(found, pictures),
        masking=pictures.masking,
        tokens=pictures.tokens,
        why=pictures,
        views=views(found, pictures),
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


def detail_charts(found: Content) -> dict[str, Any]:
    """What evaluations say beyond numbers, as charts; an empty list for what the study does not have."""
    drawn: dict[str, Any] = {"segmentations": found.segmentations}
    drawn["folds"] = [
        (of, charts.dot_plot(of.rows, " %", f"folds of {of.name}, {of.metric}", {})) for of in found.folds
    ]
    for key, panels in (("robustness", found.robustness), ("tunings", found.tunings)):
        drawn[key] = [
            {
                "name": name,
                "runs": found.study.runs_of(name),
                "charts": [(of, charts.line_chart(of.lines, of.last, f"{of.title} of {name}")) for of in curves],
            }
            for name, curves in panels.items()
        ]
    drawn["parts"] = [{"id": to, "title": title} for key, to, title in DETAILS if drawn[key]]
    return drawn


def cloud_list(found: Content, pictures: Pictures) -> list[Cloud]:
    """Every 3D view of the page in the order of its number."""
    clouds = [pictures.masking.patches, *pictures.masking.masks] if pictures.masking else []
    clouds += pictures.tokens.clouds if pictures.tokens else []
    return clouds + [cloud for of in found.segmentations for shape in of.shapes for cloud in shape.clouds]


def segmented_at(found: Content, pictures: Pictures) -> list[int]:
    """The number of the first 3D view of each part segmentation."""
    sizes = [3 * len(of.shapes) for of in found.segmentations]
    total = len(cloud_list(found, pictures))
    return [total - sum(sizes[place:]) for place in range(len(sizes))]


def views(found: Content, pictures: Pictures) -> Markup:
    """The clouds of the 3D views as JSON: whole numbers in -1000..1000, and a palette."""
    clouds = [_view(cloud) for cloud in cloud_list(found, pictures)]
    return Markup(json.dumps(clouds, separators=(",", ":")).replace("<", "\\u003c"))


def _view(cloud: Cloud) -> dict[str, Any]:
    palette = sorted(set(cloud.colours))
    index = {name: place for place, name in enumerate(palette)}
    return {
        "points": np.round(cloud.points * 1000).astype(int).ravel().tolist(),
        "colour": [index[name] for name in cloud.colours],
        "palette": palette,
    }


def not_run(params: Params) -> dict[str, list[str]]:
    """What params.yaml defines and this study leaves out."""
    chosen = params.chosen
    return {
        "runs": [name for name in params.runs if name not in chosen.run_names()],
        "evals": [name for name in params.evals if name not in chosen.eval_names()],
        "studies": [name for name in params.studies if name != params.study],
    }
