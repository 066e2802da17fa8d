"""The page: what the template index.html.j2 is filled with. It loads nothing from anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup

from jepa3d import __version__
from jepa3d.params import Params
from jepa3d.report import document, ledger, numbers, results, seen, tables
from jepa3d.report.card import Card
from jepa3d.report.content import Content
from jepa3d.report.details import Curves
from jepa3d.report.grid import Grid, grid
from jepa3d.report.pictures import Cloud, Line, Panel, class_look, colour, confusion, svg
from jepa3d.report.shapes import BLOCKS, CONTEXT, Masking, TokenColours
from jepa3d.report.study import Study, codes, fingerprint
from jepa3d.report.terms import terms_grid
from jepa3d.results import store

MOST_ASIDE = 20  # damaged shapes that are listed


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
    environment.globals |= {"svg": svg, "class_look": class_look, "most_lines": most_lines}
    style, script = (Markup(loader.get_source(environment, name)[0]) for name in ("style.css", "view.js"))
    return environment.get_template("index.html.j2").render(
        style=style,
        script=script,
        study=study,
        params=params,
        found=found,
        version=__version__,
        code=store.code_hash(),
        codes=codes(study),
        fingerprint=fingerprint(study),
        ragged=any(len(study.seeds_of(run, name)) < len(study.seeds) for run in study.runs for name in study.evals),
        headline=ledger.headline(found.ledger),
        ledger=ledger.ledger_grid(found.ledger),
        not_run_claims=ledger.not_run_grid(found.ledger),
        result_grids=[results.result_grid(params, group) for group in found.groups],
        chosen=results.chosen_epochs(study),
        paired=results.paired_grid(found.paired, study),
        others={name: results.other_metrics(study, name) for name in study.evals},
        comparisons=results.comparisons(params, study),
        alone=[name for name in study.evals if not tables.benchmarks(params, name)],
        document=[(table, document.document_grid(table)) for table in found.tables],
        anything=any(table.run for table in found.tables),
        ablations=[(ablation, document.ablation_grid(ablation)) for ablation in found.ablations],
        near=document.near_grid(found.near),
        card=model_card,
        pictures=pictures,
        views=Views(),
        overlap=seen.overlap_grid(study),
        copies=grid(["test shape", "train shape", "distance / that of halves"], seen.first_copies(study), "  n"),
        data={name: audited(audit) for name, audit in study.audits.items()},
        most_aside=MOST_ASIDE,
        blocks=BLOCKS,
        context_colour=CONTEXT,
        colour=colour,
        confusion=confused(study),
        not_run=not_run(params),
        costs=results.cost_grid(study),
        terms=terms_grid(study.terms),
    )


def most_lines(charts: Sequence[Curves]) -> list[Line]:
    """The lines of the chart that has most of them: their legend serves all charts of a run."""
    return max(([line for line in of.lines if isinstance(line, Line)] for of in charts), key=len, default=[])


def judged(study: Study) -> tuple[str, str] | None:
    """The evaluation and the run of the confusion matrix: the first with predictions, and its best run."""
    for name in study.evals:
        if all(found.predicted is not None for run in study.runs_of(name) for found in study.of(run, name)):
            return name, next(run for run, cell in numbers.column(study, name).items() if cell.best)
    return None


class Confused(NamedTuple):
    """The confusion matrix of the first evaluation with predictions, of its best run, over all seeds."""

    name: str
    run: str
    worst: list[tuple[int, str, str]]  # number, true class, predicted class
    total: int
    panel: Panel


def confused(study: Study) -> Confused | None:
    if not (chosen := judged(study)):
        return None
    name, run = chosen
    outcomes = study.of(run, name)
    counts, names = numbers.confusion(outcomes), outcomes[0].classes
    wrong = counts - np.diag(np.diag(counts))
    worst = [(int(wrong[i, j]), names[i], names[j]) for i, j in np.argwhere(wrong > 0)]
    panel = confusion(f"{run} on {name}, all seeds", counts, names)
    return Confused(name, run, sorted(worst, key=lambda entry: -entry[0])[:3], int(counts.sum()), panel)


class Audited(NamedTuple):
    aside: Grid  # the first damaged shapes and why they were set aside
    classes: Grid  # how many shapes of each


def audited(audit: Mapping[str, Any]) -> Audited:
    aside = [[shape["id"], shape["why"]] for shape in audit["set_aside"][:MOST_ASIDE]]
    classes = [[name, str(of["train"]), str(of["test"])] for name, of in audit["classes"].items()]
    return Audited(grid(["shape", "set aside because"], aside), grid(["class", "train", "test"], classes, " n"))


class Views:
    """The 3D views of the page: each cloud that is shown gets a number, and at the end all are written as JSON."""

    def __init__(self) -> None:
        self.shown: list[Cloud] = []

    def number(self, cloud: Cloud) -> int:
        self.shown.append(cloud)
        return len(self.shown) - 1

    def json(self) -> Markup:
        """Whole numbers in -1000..1000, and a palette for each cloud."""
        text = json.dumps([_view(cloud) for cloud in self.shown], separators=(",", ":"))
        return Markup(text.replace("<", "\\u003c"))


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
