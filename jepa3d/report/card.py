"""The model card: what the study's encoder is, and how far its numbers can be trusted. On the page and as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jepa3d import __version__
from jepa3d.layout import Layout
from jepa3d.params import Params, Run
from jepa3d.report import seen
from jepa3d.report.content import Content
from jepa3d.report.grid import Grid, grid, markdown
from jepa3d.report.pictures import Line
from jepa3d.report.shapes import token_run
from jepa3d.report.study import Study, codes, fingerprint
from jepa3d.results import store

POOLED = {"sum": "max plus mean", "cls": "the [CLS] token beside all", "cls_max": "the [CLS] token and max"}


class Card(NamedTuple):
    run: str
    sections: list[tuple[str, list[str]]]  # heading, sentences
    numbers: Grid


def card(found: Content, layout: Layout) -> Card | None:
    """The card of the run whose patch features are drawn; None where the study has nothing but plain features."""
    params, study = found.params, found.study
    run = token_run(params)
    if run is None:
        return None
    entry = params.runs[run]
    seeds = tuple(study.trainings[run])
    parameters = count(layout.encoder(run, seeds[0]))
    sections = [
        ("What it is", what(params, entry, parameters)),
        ("Training data", [data(params, study, name) for name in entry.data]),
        ("Training", training(params, study, run, entry)),
        ("Use", use(params, entry)),
        ("Limits", limits(found, run)),
        ("Agreement with published numbers", agreement(found, run)),
        ("Where it comes from", origin(study, run, seeds)),
    ]
    return Card(run, sections, scores(found, run))


def file(found: Card) -> str:
    parts = [f"# Model card: {found.run}"]
    for heading, sentences in found.sections:
        parts += [f"## {heading}", *sentences]
        if heading == "Use":
            parts += ["## What was measured", markdown(found.numbers)]
    return "\n\n".join(parts) + "\n"


def count(encoder: Path) -> int:
    """Trained numbers and BatchNorm's running ones of the context encoder."""
    tensors, _ = store.read_tensors(encoder)
    return sum(tensor.numel() for name, tensor in tensors.items() if name.startswith("context."))


def what(params: Params, entry: Run, parameters: int) -> list[str]:
    model, scheme = params.model(entry.model), params.patches[entry.patches]
    levels = ", then ".join(f"{level.num} patches of {level.size}" for level in scheme.levels)
    labels = "used" if entry.objective.kind == "supervised" else "not seen"
    return [
        f"An encoder of single 3D objects given as point clouds: {entry.about or entry.objective.kind}.",
        f"{scheme.points} points, {levels}; {model.about}; {parameters:,} parameters. A shape's feature: "
        f"{POOLED.get(model.pooled, model.pooled.replace('_', ' and '))} of its patch tokens.",
        f"Objective '{entry.objective.kind}'; labels were {labels} in pretraining.",
    ]


def data(params: Params, study: Study, name: str) -> str:
    audit = study.audits[name]
    aside = len(audit["set_aside"])
    return (
        f"The train split of {name} (kind {params.dataset(name).kind}): {audit['splits']['train']:,} of "
        f"{audit['shapes']:,} shapes of {audit['points']} points, {len(audit['classes'])} classes; {aside} damaged "
        f"ones were set aside. {seen.of_run(study, name)}"
    )


def training(params: Params, study: Study, run: str, entry: Run) -> list[str]:
    fit = entry.fit
    length = f"{fit.steps:,} steps" if fit.steps is not None else f"{fit.epochs} epochs"
    seeds = study.trainings[run]
    said = [
        f"{length} of batch {fit.batch}, AdamW, learning rate {fit.lr:g}, weight decay {fit.weight_decay:g}; "
        f"{len(seeds)} seed{'s' * (len(seeds) > 1)}."
    ]
    costs = [of.cost for of in seeds.values() if "seconds" in of.cost]
    if costs:
        seconds = np.mean([cost["seconds"] for cost in costs])
        devices = ", ".join(sorted({str(cost.get("device", "?")) for cost in costs}))
        threads = ", ".join(sorted({str(cost.get("threads", "?")) for cost in costs}))
        said.append(
            f"One seed took {seconds / 60:.1f} minutes on {devices} with {threads} "
            f"thread{'s' * (threads != '1')}, mean of {len(costs)}."
        )
    return said


def use(params: Params, entry: Run) -> list[str]:
    turns = {
        "none": "It saw shapes in their stored orientation only (y is up): turn yours likewise.",
        "upright": "It saw shapes turned about the vertical axis (y) only: yours must be upright.",
        "so3": "It saw shapes in every orientation.",
    }[entry.augment.rotate]
    points = params.patches[entry.patches].points
    return [
        "Meant for frozen features, few-shot use and fine-tuning on single objects: classes, retrieval, parts.",
        f"Clouds are centred and scaled into the unit sphere; at least {points} points. {turns}",
        "Not meant for whole scenes, for clouds with many objects, or where absolute size matters.",
    ]


def scores(found: Content, run: str) -> Grid:
    rows = [
        [
            column.name,
            f"{column.text(run)} (n = {column.cells[run].context.n})",
            column.interval(run),
            column.chance,
            column.unit,
            column.protocol,
        ]
        for group in found.groups
        for column in group.columns
        if run in column.cells
    ]
    return grid(["evaluation", "mean", "95 % interval", "chance", "unit", "protocol"], rows, " nnn  ", "prose")


def limits(found: Content, run: str) -> list[str]:
    """What the study itself says against the encoder: better runs, few seeds, corruptions."""
    said = []
    columns = [column for group in found.groups for column in group.columns if run in column.cells]
    ahead = [column for column in columns if run in column.behind]
    if ahead:
        worse = ", ".join(f"{column.best} on {column.name}" for column in ahead)
        said.append(f"Other runs of this study are clearly better: {worse}.")
    few = [column.name for column in columns if column.cells[run].context.n < 3]
    if few:
        said.append(f"Fewer than three seeds, so the spread is a guess: {', '.join(few)}.")
    for name, curves in found.robustness.items():
        lines = {of.title: line.y for of in curves for line in of.lines if isinstance(line, Line) and line.label == run}
        if lines:
            worst = max(lines, key=lambda kind: lines[kind][0] - lines[kind][-1])
            said.append(
                f"Corruption hurts: under the strongest {worst}, {name} falls from {lines[worst][0]:.1f} to "
                f"{lines[worst][-1]:.1f} %."
            )
    return [*said, "Every number holds for its data set and its protocol, and for nothing else."]


def agreement(found: Content, run: str) -> list[str]:
    said = [
        f"{section.title}, {ours.title}: {ours.text}; {word} ({sources}). {why}"
        for table in found.tables
        for section in table.sections
        for row in section.rows
        for ours in row.ours
        if ours.run == run
        for word, sources, why in ours.words
    ]
    return said or ["None of its numbers can be compared with a published one: data, network or training differ."]


def origin(study: Study, run: str, seeds: tuple[int, ...]) -> list[str]:
    written: dict[str, Any] = codes(study)
    versions = ", ".join(f"{name} ({number} evaluations)" for name, number in written.items())
    weights = ", ".join(f"pretrain/{run}/seed{seed}/encoder.safetensors" for seed in seeds)
    return [
        f"jepa3d {__version__}; code {versions}; results {fingerprint(study)}.",
        f"Weights: {weights}. Each file names its settings, its code and the hash of every input.",
    ]
