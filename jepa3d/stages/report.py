"""report: every evaluation of the chosen study -> results/metrics.json, results/report/index.html, results/plots/."""

from __future__ import annotations

import csv
import io

from jepa3d.layout import Layout
from jepa3d.params import Params, slice_of
from jepa3d.report import card, figures, maps, numbers, page, results, shapes, sources, terminal, text, training
from jepa3d.report import study as studies
from jepa3d.report.content import Content, content
from jepa3d.report.page import Pictures
from jepa3d.report.study import Study
from jepa3d.results import store

PLOTS = (
    "results.csv", "results.png", "results.svg", "curves.png", "confusion.png", "predictions.csv", "map.png",
    "masks.png", "tokens.png", "tables.md", "tables.csv", "paired.csv", "folds.png", "robustness.png", "tuning.png",
    "parts.png", "scores.csv", "curves.csv",
)  # fmt: skip


def report(params: Params, layout: Layout) -> None:
    """Write the report of the chosen study and print its tables. A missing file is a Problem that names the command
    that makes it."""
    study = studies.read(params, layout)
    store.stamp("report", slice_of(params.chosen), sources.files_of(params, layout))  # for the records
    found = content(params, study)
    pictures = draw_shapes(params, layout)
    drawn = plots(found, pictures)
    model_card = card.card(found, layout)
    rendered = page.render(found, pictures, model_card)
    layout.plots.mkdir(parents=True, exist_ok=True)
    for stale in set(PLOTS) - set(drawn):
        (layout.plots / stale).unlink(missing_ok=True)
    for name, data in drawn.items():
        store.write_bytes(layout.plots / name, data)
    store.write_text(layout.card, card.markdown(model_card) if model_card else "# No trained encoder in this study\n")
    store.write_text(layout.report, rendered)
    store.write_json(layout.metrics, numbers.metrics(study))
    terminal.show(found)


def draw_shapes(params: Params, layout: Layout) -> Pictures:
    """The pictures of patches, masks and patch features, with the reason where there is none to draw."""
    masking = tokens = None
    if run := shapes.masking_run(params):
        dataset = studies.pictured_dataset(params, run)
        masking = shapes.masked(params, shapes.sample(params, layout, dataset, run), run)
    if run := shapes.token_run(params):
        seed = studies.first_seed(params, run)
        sample = shapes.sample(params, layout, studies.pictured_dataset(params, run), run)
        tokens = shapes.token_colours(sample, layout.encoder(run, seed), run, seed)
    return Pictures(
        masking,
        tokens,
        "" if masking else "No run of this study masks blocks of patches.",
        "" if tokens else "No run of this study has patch features: handcrafted features describe whole shapes.",
    )


def plots(found: Content, pictures: Pictures) -> dict[str, bytes]:
    """results/plots/: the page's pictures and tables as files. What the study does not have is not written."""
    study = found.study
    dots = {name: results.result_dots(study, name) for name in study.evals}
    units = {name: results.axis_title(study, name) for name in study.evals}
    drawn = {"results.csv": results_csv(study), "tables.md": text.markdown(found).encode()}
    drawn |= {"tables.csv": _csv(text.csv_rows(found.tables))}
    drawn |= {"scores.csv": _csv(sources.scores(study)), "curves.csv": _csv(sources.curves(study))}
    if found.paired:
        drawn["paired.csv"] = paired_csv(found)
    chart = figures.results(dots, units)
    drawn |= {"results.png": figures.encoded(chart), "results.svg": figures.encoded(chart, "svg")}
    if lines := training.curve_lines(study):
        titles = {key: title for key, (title, _) in training.MONITORS.items()}
        drawn["curves.png"] = figures.encoded(figures.curves(lines, titles))
    if chosen := page.judged(study):
        name, run = chosen
        outcomes = study.of(run, name)
        picture = figures.confusion(numbers.confusion(outcomes), outcomes[0].classes, f"{run} on {name}, all seeds")
        drawn |= {"confusion.png": figures.encoded(picture), "predictions.csv": predictions_csv(study, name, run)}
    if planes := maps.planes(study):
        drawn["map.png"] = figures.encoded(
            figures.maps(
                {run: plane.points for run, plane in planes.items()},
                {run: plane.label for run, plane in planes.items()},
                maps.map_names(study),
            )
        )
    return drawn | cloud_pictures(found, pictures) | detail_pictures(found)


def cloud_pictures(found: Content, pictures: Pictures) -> dict[str, bytes]:
    drawn = {}
    if pictures.masking:
        clouds = [pictures.masking.patches, *pictures.masking.masks]
        drawn["masks.png"] = figures.encoded(figures.clouds(clouds))
    if pictures.tokens:
        drawn["tokens.png"] = figures.encoded(figures.clouds(pictures.tokens.clouds))
    parts = [
        cloud._replace(title=f"{shape.title}: {cloud.title}")
        for of in found.segmentations
        for shape in of.shapes
        for cloud in shape.clouds
    ]
    if parts:
        drawn["parts.png"] = figures.encoded(figures.clouds(parts, across=3))
    return drawn


def detail_pictures(found: Content) -> dict[str, bytes]:
    """What evaluations say beyond numbers."""
    drawn = {}
    if found.folds:
        rows = {f"{of.name}: {of.metric}": of.rows for of in found.folds}
        units = dict.fromkeys(rows, "accuracy of each fold, %")
        drawn["folds.png"] = figures.encoded(figures.results(rows, units))
    for name, curves, title in (
        ("robustness.png", found.robustness, "severity; accuracy in %, mean over the seeds"),
        ("tuning.png", found.tunings, "epoch or step; score in %"),
    ):
        panels = [(f"{of}: {one.title}", one) for of, each in curves.items() for one in each]
        if panels:
            drawn[name] = figures.encoded(figures.lines(panels, min(5, len(panels)), title))
    return drawn


def paired_csv(found: Content) -> bytes:
    """The best run of every evaluation against the others, on the same test shapes."""
    rows = [["evaluation", "a", "b", "difference", "half_interval", "p_over_shapes", "seeds", "shapes"]]
    for of in found.paired:
        for pair in of["pairs"]:
            half = f"{pair.half:.6g}" if pair.seeds > 1 else ""
            cells = [f"{pair.difference:.6g}", half, f"{pair.p:.4g}", str(pair.seeds), str(pair.shapes)]
            rows.append([of["name"], pair.a, pair.b, *cells])
    return _csv(rows)


def results_csv(study: Study) -> bytes:
    """One row per run, evaluation and metric; the headline's with its 95 % interval."""
    rows = [["run", "evaluation", "metric", "mean", "std", "n", "low", "high", *(f"seed{s}" for s in study.seeds)]]
    for run, of_run in numbers.metrics(study).items():
        for name, metrics in of_run.items():
            for key, found in metrics.items():
                of = dict(zip(study.seeds_of(run, name), found["values"], strict=True))
                cells = [found["mean"], found["std"], found["n"], found.get("low"), found.get("high")]
                cells += [of.get(seed) for seed in study.seeds]
                rows.append([run, name, key, *("" if value is None else f"{value:.6g}" for value in cells)])
    return _csv(rows)


def predictions_csv(study: Study, name: str, run: str) -> bytes:
    """Every test prediction by class name: `dvc plots` draws its own confusion matrix from it."""
    rows = [["seed", "id", "truth", "predicted"]]
    for seed, found in study.outcomes[run][name].items():
        assert found.predicted is not None  # `judged` chose it for that
        for shape, truth, predicted in zip(found.ids, found.truth, found.predicted, strict=True):
            rows.append([str(seed), shape, found.classes[truth], found.classes[predicted]])
    return _csv(rows)


def _csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
