"""report: every evaluation of the chosen study -> results/metrics.json, results/report/index.html, results/plots/."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from jepa3d import config, store
from jepa3d.layout import Layout
from jepa3d.report import figures, numbers, page, results, shapes, training
from jepa3d.report import study as studies
from jepa3d.report.page import Pictures
from jepa3d.report.study import Study

PLOTS = (
    "results.csv", "results.png", "results.svg", "curves.png", "confusion.png", "predictions.csv", "map.png",
    "masks.png", "tokens.png",
)  # fmt: skip


def report(params: config.Params, layout: Layout) -> None:
    """Write the report of the chosen study. A missing file is a Problem that names the command that makes it."""
    study = studies.read(params, layout)
    store.stamp("report", config.slice_of(params.chosen), files_of(params, layout))
    pictures = draw_shapes(params, layout)
    drawn = plots(study, pictures)
    text = page.render(params, study, pictures)
    layout.plots.mkdir(parents=True, exist_ok=True)
    for stale in set(PLOTS) - set(drawn):
        (layout.plots / stale).unlink(missing_ok=True)
    for name, data in drawn.items():
        store.write_bytes(layout.plots / name, data)
    store.write_text(layout.report, text)
    store.write_json(layout.metrics, numbers.metrics(study))


def files_of(params: config.Params, layout: Layout) -> list[Path]:
    """The files of the study whose numbers the report shows."""
    cells, on_features = params.chosen.cells(), {cell for cell in params.chosen.cells() if _on_features(params, cell)}
    files = [layout.evaluation(cell.run, cell.seed, cell.evaluation) for cell in cells]
    files += [layout.features(cell.run, cell.seed, params.evals[cell.evaluation].dataset) for cell in on_features]
    files += [layout.curve(run, seed) for run, seed in params.chosen.trainings()]
    files += [layout.audit(data) for run in params.chosen.run_names() for data in params.runs[run].data]
    return sorted(set(files))


def _on_features(params: config.Params, cell: config.Cell) -> bool:
    return params.needs(cell.evaluation) == "features"


def draw_shapes(params: config.Params, layout: Layout) -> Pictures:
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
        "" if tokens else "No run of this study has patch features: hand-made features describe whole shapes.",
    )


def plots(study: Study, pictures: Pictures) -> dict[str, bytes]:
    """results/plots/: the page's pictures as files. A picture that the study does not have is not written."""
    dots = {name: results.result_dots(study, name) for name in study.evals}
    units = {name: results.axis_title(study, name) for name in study.evals}
    drawn = {"results.csv": results_csv(study)}
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
    if planes := page.planes(study):
        drawn["map.png"] = figures.encoded(
            figures.maps(
                {run: found.points for run, found in planes.items()},
                {run: found.label for run, found in planes.items()},
                page.map_names(study),
            )
        )
    if pictures.masking:
        clouds = [pictures.masking.patches, *pictures.masking.masks]
        drawn["masks.png"] = figures.encoded(figures.clouds(clouds))
    if pictures.tokens:
        drawn["tokens.png"] = figures.encoded(figures.clouds(pictures.tokens.clouds))
    return drawn


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
