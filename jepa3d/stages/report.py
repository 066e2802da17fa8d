"""report: every evaluation of the chosen study -> results/studies/<study>/: metrics.json, index.html, plots/.

The chosen study's also lies in results/metrics.json, results/report/ and results/plots/.
"""

from __future__ import annotations

from jepa3d.graph import Graph
from jepa3d.layout import Layout
from jepa3d.params import Params
from jepa3d.report import card, ledger, numbers, page, pictures, shapes, sources, text
from jepa3d.report import study as studies
from jepa3d.report.content import Content, content
from jepa3d.report.grid import csv_file
from jepa3d.report.page import Pictures
from jepa3d.report.pictures import Cloud
from jepa3d.report.sources import Rows
from jepa3d.report.study import Study
from jepa3d.results import store

PLOTS = (
    "results.csv", "results.png", "results.svg", "curves.png", "confusion.png", "predictions.csv", "map.png",
    "overview.png", "masks.png", "tokens.png", "tables.md", "tables.csv", "claims.csv", "paired.csv", "terms.csv",
    "sweeps.png", "folds.png", "robustness.png", "tuning.png", "parts.png", "scores.csv", "curves.csv",
)  # fmt: skip


def report(params: Params, layout: Layout) -> None:
    """Write the report of the chosen study and print its tables. A missing file is a Problem that names the command
    that makes it."""
    study = studies.read(params, layout)
    job = Graph(params, layout).job("report", params.study)
    stamp = store.stamp(job.verb, job.settings, job.reads, store.recorded)  # much of it is large
    found = content(params, study)
    drawn = draw_shapes(params, layout)
    files = plots(found, drawn)
    model_card = card.card(found, layout)
    rendered = page.render(found, drawn, model_card)
    for place in (layout.study(params.study), layout.chosen):
        place.plots.mkdir(parents=True, exist_ok=True)
        for stale in set(PLOTS) - set(files):
            (place.plots / stale).unlink(missing_ok=True)
        for name, data in files.items():
            store.write_bytes(place.plots / name, data, stamp)
        words = card.file(model_card) if model_card else "# No trained encoder in this study\n"
        store.write_text(place.card, words, stamp)
        store.write_text(place.page, rendered, stamp)
        store.write_json(place.metrics, numbers.metrics(study), stamp)
    text.show(found, layout.report)


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


def plots(found: Content, drawn: Pictures) -> dict[str, bytes]:
    """results/plots/: the page's pictures and tables as files. What the study does not have is not written."""
    study = found.study
    files = {"results.csv": csv_file(results_csv(study)), "tables.md": text.markdown_file(found).encode()}
    files |= {"tables.csv": csv_file(text.csv_rows(found.tables))}
    files |= {"scores.csv": csv_file(sources.scores(study)), "curves.csv": csv_file(sources.curves(study))}
    files |= {"claims.csv": csv_file(ledger.csv_rows(found.ledger))}
    if study.terms:
        files["terms.csv"] = csv_file(terms_csv(study))
    if found.paired:
        files["paired.csv"] = csv_file(paired_csv(found))
    charts = [column.panel for group in found.groups for column in group.columns]
    files |= {"results.png": pictures.file(charts, 2), "results.svg": pictures.file(charts, 2, "svg")}
    if found.sweeps:
        files["sweeps.png"] = pictures.file([of.panel for of in found.sweeps], 3, legend=True)
    if confused := page.confused(study):
        files |= {"confusion.png": pictures.file([confused.panel], 1)}
        files |= {"predictions.csv": csv_file(predictions_csv(study, confused.name, confused.run))}
    if found.maps:
        files["map.png"] = pictures.file([of.panel for of in found.maps], 3, legend=len(found.maps[0].names) <= 60)
    for name, charts_of, title in (
        ("curves.png", found.curves, ""),
        ("folds.png", found.folds, ""),
        ("robustness.png", found.robustness, "severity; accuracy in %, mean over the seeds"),
        ("tuning.png", found.tunings, "epoch or step; score in %"),
    ):
        panels = [of.panel for each in charts_of.values() for of in each]
        if panels:
            files[name] = pictures.file(panels, 4, legend=name != "folds.png", title=title)
    return files | cloud_pictures(found, drawn)


def cloud_pictures(found: Content, drawn: Pictures) -> dict[str, bytes]:
    clouds: dict[str, list[Cloud]] = {}
    if drawn.masking:
        clouds["masks.png"] = [drawn.masking.patches, *drawn.masking.masks]
    if drawn.tokens:
        clouds["tokens.png"] = [*drawn.tokens.clouds]
    if drawn.masking and drawn.tokens and drawn.masking.run == drawn.tokens.run:  # of the same shape
        first = [drawn.masking.patches, drawn.masking.masks[0], drawn.tokens.clouds[0]]
        titles = (f"a shape in {drawn.masking.num} patches", "its context and its target blocks", "patch features")
        clouds["overview.png"] = [of._replace(title=title) for of, title in zip(first, titles, strict=True)]
    for of in found.segmentations:
        for shape in of.shapes:
            own = [cloud._replace(title=f"{shape.title}: {cloud.title}") for cloud in shape.clouds]
            clouds.setdefault("parts.png", []).extend(own)
    across, keys = {"parts.png": 3}, dict[str, dict[str, str]]()
    if drawn.masking:
        blocks = {f"target block {number + 1}": shade for number, shade in enumerate(shapes.BLOCKS)}
        keys["masks.png"] = keys["overview.png"] = {"context": shapes.CONTEXT} | dict(
            [*blocks.items()][: drawn.masking.blocks]
        )
    return {
        name: pictures.file([pictures.cloud(one) for one in of], across.get(name, 4), key=keys.get(name, {}))
        for name, of in clouds.items()
    }


def paired_csv(found: Content) -> Rows:
    """The best run of every evaluation against the others, on the same seeds and test shapes."""
    rows = [["evaluation", "a", "b", "difference", "low", "high", "p_corrected", "p", "p_over_shapes", "seeds",
             "shapes", "objects"]]  # fmt: skip
    for name, pairs in found.paired.items():
        for pair in pairs:
            of = pair.difference
            ends = [f"{end:.6g}" if of.seeds > 1 else "" for end in (of.low, of.high)]
            tests = ["" if p is None else f"{p:.4g}" for p in (pair.corrected, of.p, of.p_shapes)]
            counts = [str(of.seeds), str(of.shapes), str(of.objects)]
            rows.append([name, pair.a, pair.b, f"{of.mean:.6g}", *ends, *tests, *counts])
    return rows


def terms_csv(study: Study) -> Rows:
    """On which terms the runs were trained: a row for each."""
    rows = [["run", "parameters_trained", "parameters_of_encoder", "gflop_a_shape", "seconds_a_step", "shapes_seen",
             "pflop"]]  # fmt: skip
    for run, of in study.terms.items():
        values = [of.trained, of.encoder, of.gflop, of.seconds, of.shapes, of.pflop]
        rows.append([run, *("" if value is None else f"{value:.10g}" for value in values)])
    return rows


def results_csv(study: Study) -> Rows:
    """One row per run, evaluation and metric; the headline's with its 95 % interval."""
    rows = [["run", "evaluation", "metric", "mean", "std", "n", "low", "high", *(f"seed{s}" for s in study.seeds)]]
    for run, of_run in numbers.metrics(study).items():
        for name, metrics in of_run.items():
            for key, found in metrics.items():
                of = dict(zip(study.seeds_of(run, name), found["values"], strict=True))
                cells = [found["mean"], found["std"], found["n"], found.get("low"), found.get("high")]
                cells += [of.get(seed) for seed in study.seeds]
                rows.append([run, name, key, *("" if value is None else f"{value:.6g}" for value in cells)])
    return rows


def predictions_csv(study: Study, name: str, run: str) -> Rows:
    """Every test prediction by class name: `dvc plots` draws its own confusion matrix from it."""
    rows = [["seed", "id", "truth", "predicted"]]
    for seed, found in study.outcomes[run][name].items():
        for shape, truth, predicted in zip(found.ids, found.truth, found.predicted or (), strict=True):
            rows.append([str(seed), shape, found.classes[truth], found.classes[predicted]])
    return rows
