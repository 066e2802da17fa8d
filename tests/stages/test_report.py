"""report: what the page says, what metrics.json holds, and what happens when a file is missing.

The study is forged: two runs, two evaluations, two seeds, with numbers chosen so that they can be checked by hand.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jepa3d import layout as layouts
from jepa3d import pretrained, project
from jepa3d.encoders import build
from jepa3d.layout import Layout
from jepa3d.ops.geometry import farthest_point_sample, gather, knn
from jepa3d.params import Params
from jepa3d.problem import Problem
from jepa3d.report import numbers, pictures, shapes, study
from jepa3d.results import finding as findings
from jepa3d.results import store
from jepa3d.results.finding import (
    PREDICTED,
    ClassScore,
    Corruption,
    Curve,
    Details,
    Example,
    Finding,
    Folds,
    Look,
    Metric,
    share,
)
from jepa3d.seeds import derive
from jepa3d.stages import report as stage

PARAMS = """
study: forged
studies:
  forged: {about: A forged study., runs: [jepa, plain], evals: [probe, near], seeds: [0, 1]}
  larger: {runs: [jepa, plain, unseen], evals: [probe], seeds: [0]}
datasets:
  toys: {kind: procedural}
patches:
  tiny: {points: 64, levels: [{num: 8, size: 8}]}
models:
  tiny: {width: 12, depth: 1, heads: 3, tokenizer: {widths: [8, 8, 8]}}
  plain: {kind: handcrafted}
runs:
  jepa:
    about: the method <under> test
    data: toys
    patches: tiny
    model: tiny
    objective: {kind: jepa}
    fit: {steps: 40}
  plain: {base: jepa, about: features without learning, model: plain, objective: {kind: random_init}, fit: {steps: 0}}
  unseen: {base: jepa}
evals:
  probe: {dataset: toys, task: {kind: linear_probe}}
  near: {dataset: toys, task: {kind: knn}}
"""
CLASSES = ["box", "cone", "torus"]
RIGHT = {("jepa", 0): 10, ("jepa", 1): 8, ("plain", 0): 5, ("plain", 1): 5}  # of 12 test shapes
TRUTH = np.arange(12) % 3


@pytest.fixture(scope="module")
def forged(tmp_path_factory) -> tuple[Params, Layout]:
    """A finished study on the disk, and its report."""
    folder = tmp_path_factory.mktemp("forged")
    params, layout = forge(folder)
    stage.report(params, layout)
    return params, layout


def forge(folder: Path, text: str = PARAMS) -> tuple[Params, Layout]:
    (folder / "params.yaml").write_text(text)
    params, layout = project.load(folder / "params.yaml"), Layout(folder / "results")
    forge_shapes(layout)
    for (run, seed), right in RIGHT.items():
        store.write_text(layout.curve(run, seed), curve_text(seed) if run == "jepa" else "")
        forge_features(layout, run, seed)
        forge_encoder(params, layout, run, seed)
        for name in params.chosen.evals:
            findings.write(layout.evaluation(run, seed, name), finding(run, seed, name, right))
    return params, layout


def finding(run: str, seed: int, name: str, right: int, **changes: Any) -> Finding:
    predicted = np.where(np.arange(12) < right, TRUTH, (TRUTH + 1) % 3)
    metrics = {
        "accuracy": share(right / 12, chance=1 / 3, shapes=12, per_shape=PREDICTED, chosen="honest"),
        "balanced_accuracy": share(0.5),
        "majority": share(1 / 3, encoder="none"),
    }
    if run == "jepa":
        metrics["accuracy_ema"] = share(right / 12, of="accuracy", chosen="honest", encoder="target")
    fields = {
        "provenance": {"verb": "evaluate", "code": "c0de", "settings": {}, "inputs": {}},
        "run": run, "seed": seed, "eval": name, "dataset": "toys", "task": {"kind": "linear_probe"},
        "protocol": f"the forged protocol of {name}", "headline": "accuracy", "notes": ["forged by hand"],
        "metrics": metrics, "details": Details(), "predicted": tuple(predicted.tolist()), "truth": TRUTH.tolist(),
        "ids": [f"shape{n}" for n in range(12)], "classes": CLASSES,
    }  # fmt: skip
    return Finding(**{"format": 2, **fields, **changes})


def forge_shapes(layout: Layout) -> None:
    random = np.random.default_rng(derive(0, "forged"))
    points = torch.from_numpy(random.normal(size=(18, 80, 3)).astype(np.float32))
    chosen = points[:, :64]
    centre = farthest_point_sample(chosen, 8)
    neighbour = knn(chosen, gather(chosen, centre), 8)
    label, split = np.arange(18) % 3, np.array(["train"] * 6 + ["test"] * 12)
    arrays = {"points": points.numpy(), "label": label, "split": split, "id": [f"shape{n}" for n in range(18)]}
    store.write_h5(layout.canonical("toys"), arrays, {}, classes=CLASSES, parts=[])
    point = np.broadcast_to(np.arange(64, dtype=np.uint16), (18, 64))
    cached = {
        "point": point,
        "centre": centre.numpy().astype(np.uint16),
        "neighbour": neighbour.numpy().astype(np.uint16),
    }
    store.write_h5(layout.patches("tiny", "toys"), cached, {})
    pair = {"test": "shape7", "train": "shape2", "ratio": 1.02}
    found = {"test": 12, "train": 6, "exact": 0, "near": 1, "ratio": 1.25, "copies": [pair]}
    store.write_json(layout.overlap("toys", "toys"), found)
    counts = {name: {"train": 2, "test": 4} for name in CLASSES}
    store.write_json(
        layout.audit("toys"),
        {
            "dataset": "toys", "shapes": 18, "points": 80, "splits": {"train": 6, "test": 12}, "classes": counts,
            "unlabelled": 0, "bounds": {"low": [-1.0] * 3, "high": [1.0] * 3},
            "set_aside": [{"id": "broken7", "why": "has NaN"}], "split_from": "folders", "provenance": {},
        },
    )  # fmt: skip


def forge_features(layout: Layout, run: str, seed: int) -> None:
    random = np.random.default_rng(derive(seed, "features", run))
    label, split = np.arange(18) % 3, np.array(["train"] * 6 + ["test"] * 12)
    features = random.normal(size=(18, 5)).astype(np.float32) + label[:, None].astype(np.float32)
    arrays = {"context": features, "label": label, "split": split, "id": [f"shape{n}" for n in range(18)]}
    store.write_h5(layout.features(run, seed, "toys"), arrays, {}, classes=CLASSES, pool="max_mean", kind="transformer")


def forge_encoder(params: Params, layout: Layout, run: str, seed: int) -> None:
    torch.manual_seed(derive(seed, "weights"))
    model, scheme = params.model(params.runs[run].model), params.patches["tiny"]
    pretrained.save(layout.encoder(run, seed), {"context": build(model)}, scheme, {})


def curve_text(seed: int) -> str:
    rows = [{"step": step, "loss": 2.0 / step + seed, "lr": 1e-3, "seconds": 0.1 * step} for step in (10, 20, 30, 40)]
    rows[1] |= {"knn": 0.4, "knn_target": 0.5, "odd_number": 7}
    return "".join(json.dumps(row) + "\n" for row in [*rows, {"step": 40, "loss": 0.125}])


def text_of(forged: tuple[Params, Layout]) -> str:
    return forged[1].report.read_text(encoding="utf-8")


def test_metrics_are_nested_run_evaluation_metric(forged):
    metrics = json.loads(forged[1].metrics.read_text())
    assert list(metrics) == ["jepa", "plain"]
    assert list(metrics["jepa"]) == ["probe", "near"]
    assert list(metrics["plain"]["probe"]) == ["accuracy", "balanced_accuracy", "majority"]
    assert set(metrics["jepa"]["near"]["accuracy_ema"]) == {"mean", "std", "n", "values"}
    assert set(metrics["jepa"]["near"]["accuracy"]) == {"mean", "std", "n", "values", "low", "high"}


def test_mean_and_sample_std_are_those_worked_by_hand(forged):
    """10/12 and 8/12: mean 9/12, deviations ±1/12, sample variance 2/144, std = sqrt(2)/12."""
    found = json.loads(forged[1].metrics.read_text())["jepa"]["probe"]["accuracy"]
    assert found["values"] == [10 / 12, 8 / 12]
    assert found["n"] == 2
    assert found["mean"] == pytest.approx(0.75)
    assert found["std"] == pytest.approx(2**0.5 / 12)


def test_one_seed_has_no_spread():
    assert numbers.spread([0.5]) == (0.5, 0.0, 1, (0.5,))


def test_the_page_has_every_run_and_every_protocol(forged):
    text = text_of(forged)
    for run in ("jepa", "plain"):
        assert f'<div class="run"><span class="value">{run}</span>' in text
    for name in ("probe", "near"):
        assert f"the forged protocol of {name}" in text
    assert "75.0 ± 11.8</span>" in text  # jepa's mean and std: 100 sqrt(2) / 12
    assert "features without learning" in text
    assert "forged by hand" in text


def test_text_from_params_is_escaped(forged):
    assert "the method &lt;under&gt; test" in text_of(forged)
    assert "<under>" not in text_of(forged)


def test_a_metric_that_nobody_here_knows_is_shown_by_what_it_says_of_itself(tmp_path, monkeypatch):
    """Some task's headline is an error in radii: the lowest is the best, chance is .9, and nothing is percent."""
    monkeypatch.setattr(stage, "plots", lambda found, pictures: {})  # the page is what counts here
    params, layout = forge(tmp_path)
    for run, error in (("jepa", 0.25), ("plain", 0.75)):
        for seed in (0, 1):
            metrics = {"error": Metric(error + seed / 1000, "radii", False, 0.9), "epoch": Metric(7, "epochs")}
            found = finding(run, seed, "near", 3, headline="error", metrics=metrics, predicted=None)
            findings.write(layout.evaluation(run, seed, "near"), found)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        stage.report(params, layout)
    text = text_of((params, layout))
    assert "error, radii" in text
    jepa, plain = (
        next(row for row in text.split("<tr>") if f">{run}</span><small>" in row) for run in ("jepa", "plain")
    )
    assert re.search(r'<div class="best"><span class="value"[^>]*>0.2505 ± 0.0007071</span>', jepa)
    assert re.search(r'<div><span class="value"[^>]*>0.7505 ± 0.0007071</span>', plain)
    chance = next(row for row in text.split("<tr") if "what a guess scores" in row)
    assert re.findall(r'<span class="value">([^<]*)</span>', chance) == ["chance", "33.3", "0.9"]
    assert "<b>jepa</b> has the lowest mean, 0.2505" in text
    assert re.search(r"epoch, epochs</span>.*?>7 ± 0</span>", text)
    assert "0.2505 ± 0.0007071" in printed.getvalue()
    assert json.loads(layout.metrics.read_text())["jepa"]["near"]["error"]["mean"] == pytest.approx(0.2505)


def test_an_older_evaluation_is_refused_with_its_command(tmp_path):
    params, layout = forge(tmp_path)
    path = layout.evaluation("plain", 1, "near")
    data = store.read_json(path)
    data["metrics"] = {name: metric["value"] for name, metric in data["metrics"].items()}
    del data["format"]
    path.write_text(json.dumps(data))
    with pytest.raises(Problem) as found:
        stage.report(params, layout)
    assert "remove it and run: jepa3d evaluate plain near --seed 1" in found.value.mend
    assert str(path) in found.value.what


def test_the_page_loads_nothing_from_anywhere(forged):
    text = text_of(forged)
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^\s"'>)]+)""", text)
    assert [link for link in links if not link.startswith("#")] == []
    assert "@import" not in text
    assert not re.search(r"https?://", text)
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|import)\s*\(", text)


def test_the_page_says_what_was_not_run_and_what_cannot_be_compared(forged):
    text = text_of(forged)
    assert "<b>Runs:</b> unseen." in text
    assert "<b>Other studies:</b> larger." in text
    assert "Not comparable with any publication:</b> probe, near" in text
    assert "broken7" in text


def test_on_public_data_ours_stand_among_the_published_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "plots", lambda found, pictures: {})  # the page is what counts here
    params, layout = forge(tmp_path, PARAMS.replace("kind: procedural", "kind: modelnet40"))
    stage.report(params, layout)
    text = layout.report.read_text(encoding="utf-8")
    assert "Not comparable with any publication:</b> near." in text  # nobody reports k-NN
    table = re.search(r"Theirs:</b> ModelNet40, linear SVM.*?</table>", text, re.DOTALL)[0]
    assert "C tuned on test" in table
    methods = re.findall(r'<tr[^>]*><td><div><span class="value">([^<]*)</span>', table)
    assert methods[:3] == ["plain", "jepa", "Point-BERT"]  # 41.7, 75.0, 87.4
    assert methods[-1] == "Point-JEPA"


def test_document_and_abstract_stand_in_columns_of_their_own(forged):
    section = re.search(r">ScanObjectNN PB_T50_RS<.*?</tbody>", text_of(forged), re.DOTALL)[0]
    rows = [re.sub(r"<[^>]*>", " ", row).split() for row in section.split("<tr")]
    document = next(row for row in rows if "document" in row)
    paper = next(row for row in rows if "paper" in row)
    assert document[-7:] == ["86.8", "–", "–", "–", "–", "not", "run"]
    assert paper[-7:] == ["–", "88.65", "–", "–", "–", "not", "run"]


def test_a_resumed_curve_counts_each_step_once_and_keeps_the_last(forged):
    rows = study.training(forged[1], "jepa", 0).rows
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    assert rows[-1]["loss"] == 0.125


def test_the_lines_of_one_step_are_one_row(tmp_path):
    """The loop writes a line, the monitor another one at the same step; the last loss is the last one written."""
    lines = [{"step": 5, "loss": 3.0}, {"step": 10, "loss": 2.0, "lr": 0.1}, {"step": 10, "knn": 0.7}]
    for line in lines:
        store.append_jsonl(Layout(tmp_path).curve("jepa", 0), line)
    rows = study.training(Layout(tmp_path), "jepa", 0).rows
    assert rows == [{"step": 5, "loss": 3.0}, {"step": 10, "loss": 2.0, "lr": 0.1, "knn": 0.7}]


def test_what_a_training_cost_is_no_step_of_it(tmp_path):
    layout = Layout(tmp_path)
    store.write_text(layout.curve("jepa", 0), '{"step": 9, "loss": 2.5}\n{"step": 9, "cost": {"seconds": 60.0}}\n')
    found = study.training(layout, "jepa", 0)
    assert found.rows == [{"step": 9, "loss": 2.5}]
    assert found.cost == {"seconds": 60.0}


def test_every_curve_is_drawn_unknown_ones_too_and_an_empty_one_says_so(forged):
    text = text_of(forged)
    assert 'aria-label="jepa: odd number"' in text
    assert 'aria-label="jepa: Online k-NN"' in text
    assert "knn target" not in text  # the EMA twin is a dashed line in the same chart
    assert "seed 1, EMA: ends at 0.5" in text
    assert "nothing was trained: no curve" in text


def test_every_declared_plot_exists(forged):
    found = {path.name for path in forged[1].plots.iterdir()}
    assert found == set(stage.PLOTS) - {
        "folds.png", "robustness.png", "tuning.png", "parts.png", "sweeps.png"
    }  # not in this study  # fmt: skip
    assert all((forged[1].plots / name).stat().st_size > 100 for name in found)


RAGGED = (
    PARAMS.replace(
        "seeds: [0, 1]}\n  larger",
        "seeds: [0, 1], also: [{runs: jepa, evals: [tuned, folds, robust, parts], seeds: [1]}]}\n  larger",
    )
    + """
  tuned: {dataset: toys, task: {kind: finetune}}
  folds: {dataset: toys, task: {kind: few_shot, way: 2, shot: 1}}
  robust: {dataset: toys, task: {kind: robustness}}
  parts: {dataset: toys, task: {kind: part_seg}}
"""
)
LID = Example(id="box7", category="box", iou=0.5, parts={0: "lid"}, points=[(0, 0, 0), (1, 0, 0)], truth=[0, 0],
              predicted=[0, 1])  # fmt: skip
LOOK = Look(epoch=1, step=2, held_out=0.5, test=0.4)
DETAILS = {
    "tuned": Details(curve=Curve(metric="accuracy", looks=[LOOK], chosen={"honest": 2})),
    "folds": Details(folds=Folds(scores={"accuracy": [0.6, 0.7333334]})),
    "robust": Details(corruptions=[Corruption(kind="jitter", unit="radii", levels=[0, 0.01], scores=[0.9, 0.4])]),
    "parts": Details(examples=[LID], per_class={"box": ClassScore(miou=0.5, shapes=4, parts={})}),
}


@pytest.fixture(scope="module")
def ragged(tmp_path_factory) -> tuple[Layout, str]:
    """A study with dearer evaluations of one run and one seed, its report, and what was printed."""
    params, layout = forge(tmp_path_factory.mktemp("ragged"), RAGGED)
    for name, details in DETAILS.items():
        last = share(0.5, of="accuracy", chosen="last")
        metrics = finding("jepa", 1, name, 8).metrics
        metrics |= {"accuracy_last": last, "accuracy_community": replace(last, value=0.7, chosen="community")}
        found = finding("jepa", 1, name, 8, metrics=metrics, details=details)
        findings.write(layout.evaluation("jepa", 1, name), found)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        stage.report(params, layout)
    return layout, printed.getvalue()


def test_what_the_jobs_took_is_said_where_it_was_measured(tmp_path, monkeypatch):
    """Two of the four pretrainings were measured, 3 and 5 seconds; nothing else was."""
    monkeypatch.setattr(stage, "plots", lambda found, pictures: {})  # the page is what counts here
    params, layout = forge(tmp_path)
    for seed, seconds in ((0, 3.0), (1, 5.0)):
        row = f"s\tmax_rss\tcpu_time\n{seconds}\t{250 * (seed + 1)}\t{2 * seconds}\n"
        store.write_text(layout.benchmark("pretrain", "jepa", str(seed)), row)
    stage.report(params, layout)
    section = re.search(r'<section id="costs">.*?</section>', text_of((params, layout)), re.DOTALL)[0]
    texts = re.findall(r'<span class="value">([^<]*)</span>', section)
    assert texts[-6:] == ["pretrain", "2 of 4", "8", "4.0", "16", "0.50"]
    assert texts[:-6] == ["verb", "jobs", "seconds in all", "seconds a job", "CPU seconds", "most memory, GB"]


def test_the_page_begins_with_the_claims(forged):
    """`plain` is handcrafted features: two seeds, 10 and 8 of 12 right against 5 and 5, decide nothing."""
    text = text_of(forged)
    assert re.findall(r'<section id="(\w+)"', text)[:2] == ["claims", "results"]
    section = re.search(r'<section id="claims">.*?</section>', text, re.DOTALL)[0]
    assert "Not decided: Pretraining without labels beats handcrafted features." in section
    assert "jepa − plain on probe: +33.3 points" in section
    rows = (forged[1].plots / "claims.csv").read_text().splitlines()
    assert rows[2].startswith("handcrafted,not decided,probe,jepa,plain,33.33,")


def test_test_shapes_that_a_training_saw_are_said(forged):
    said = "1 of 12 test shapes are in the train split of toys, too"
    assert text_of(forged).count(said) == 2  # beside the protocol of each evaluation
    assert 'toys: shape7</span></div></td><td><div><span class="value">toys: shape2' in text_of(forged)
    assert said in (forged[1].plots / "tables.md").read_text(encoding="utf-8")
    assert "holds copies or near copies of: 1 of 12 of toys." in forged[1].card.read_text(encoding="utf-8")


def test_without_any_measurement_there_is_no_table_of_costs(forged):
    assert 'id="costs"' not in text_of(forged)


def test_every_3d_view_has_its_cloud(ragged):
    text = ragged[0].report.read_text(encoding="utf-8")
    numbers = [int(number) for number in re.findall(r'<canvas data-cloud="(\d+)"', text)]
    clouds = json.loads(re.search(r'id="clouds">(.*?)</script>', text)[1])
    assert numbers == list(range(len(clouds)))
    assert len(clouds) == 3 + 4 + 3  # truth, prediction and mistakes of a shape; patches and masks; a shape a class
    assert clouds[0]["colour"] == [0, 0]
    assert clouds[0]["palette"] == ["#3b6fd4"]  # the first is the true parts


def test_what_is_no_part_of_the_study_is_a_dash_with_a_footnote(ragged):
    text = ragged[0].report.read_text(encoding="utf-8")
    plain = next(row for row in text.split("<tr>") if ">plain</span><small>" in row)
    assert plain.count('<div class="gap"><span class="value">–</span>') == len(DETAILS)
    assert "– : not part of this study." in text
    metrics = json.loads(ragged[0].metrics.read_text())
    assert list(metrics["plain"]) == ["probe", "near"]
    assert metrics["jepa"]["tuned"]["accuracy"]["n"] == 1


def test_fewer_seeds_are_said_beside_the_number(ragged):
    text = ragged[0].report.read_text(encoding="utf-8")
    jepa = next(row for row in text.split("<tr>") if ">jepa</span><small>" in row)
    assert jepa.count("(n = 1)") == len(DETAILS)
    assert (jepa.count('"best"'), jepa.count('"tied"')) == (0, 2)  # two seeds do not decide, one is not marked


def test_a_study_with_everything_has_every_plot(ragged):
    assert {path.name for path in ragged[0].plots.iterdir()} == set(stage.PLOTS) - {"sweeps.png"}  # one run masks


@pytest.mark.slow
def test_runs_that_differ_in_the_number_of_blocks_alone_are_one_picture(tmp_path, monkeypatch):
    swept = PARAMS.replace("[jepa, plain]", "[m, plain]", 1).replace("[0, 1]}", "[0]}", 1)
    swept = swept.replace("evals:\n", "  m: {base: jepa, sweep: {objective.mask.blocks: [1, 2, 3]}}\nevals:\n", 1)
    right = {("m_blocks1", 0): 4, ("m_blocks2", 0): 8, ("m_blocks3", 0): 6, ("plain", 0): 5}
    monkeypatch.setitem(globals(), "RIGHT", right)
    params, layout = forge(tmp_path, swept)
    stage.report(params, layout)
    assert (layout.plots / "sweeps.png").stat().st_size > 100
    text = text_of((params, layout))
    assert "Number of target blocks M" in text
    assert re.search(r"blocks as in Algorithm 2, 2: 66.67 \[", text)
    assert "Masking ratio r</h3>" not in text


def test_the_honest_choice_of_the_epoch_comes_first_and_the_peers_is_marked(ragged):
    text = ragged[0].report.read_text(encoding="utf-8")
    section = text[text.index("several ways to choose its epoch") :]
    head = re.search(r"<thead>.*?</thead>", section, re.DOTALL)[0]
    assert re.findall(r'"value">([a-z ]+)<', head) == ["tuned", "honest", "last epoch", "best epoch"]
    assert '<div class="suspect"><span class="value">best epoch</span><small>chosen on the test split' in head


def test_the_terminal_shows_the_studys_tables_in_80_columns_and_where_the_report_is(ragged):
    layout, printed = ragged[0], ragged[1]
    assert "66.7 (n = 1)" in printed  # 8 of 12
    assert "not run" not in printed.split("On toys")[1]  # what has no line of this study is in the report alone
    assert "have no line of this study" in printed
    tables = [line for line in printed.splitlines() if line.startswith(("│", "┃"))]
    assert tables
    assert max(map(len, tables)) <= 80
    assert printed.splitlines()[-1] == f"report: {layout.report}"


def test_the_tables_are_files_too(ragged):
    text = (ragged[0].plots / "tables.md").read_text(encoding="utf-8")
    assert "| plain | 41.7 ± 0.0 | 41.7 ± 0.0 | – | – | – | – |" in text
    assert "| 3D-JEPA, as the document has it | 86.8 | – | – | – | – | not run |" in text
    assert "the forged protocol of parts" in text


def test_the_model_card_says_what_the_encoder_is_and_what_speaks_against_it(ragged):
    text = ragged[0].card.read_text(encoding="utf-8")
    assert text.startswith("# Model card: jepa\n")
    assert "64 points, 8 patches of 8" in text
    assert "The train split of toys (kind procedural): 6 of 18 shapes of 80 points, 3 classes; 1 damaged" in text
    assert "Fewer than three seeds, so the spread is a guess" in text
    assert "under the strongest jitter, robust falls from 90.0 to 40.0 %" in text
    assert "None of its numbers can be compared with a published one" in text


def test_predictions_are_listed_by_name_for_dvc_plots(forged):
    lines = (forged[1].plots / "predictions.csv").read_text().splitlines()
    assert lines[:2] == ["seed,id,truth,predicted", "0,shape0,box,box"]
    assert len(lines) == 1 + 2 * 12
    assert sum(line.split(",")[2] == line.split(",")[3] for line in lines[1:]) == 10 + 8


def test_the_second_report_is_byte_identical(forged):
    params, layout = forged
    files = [layout.metrics, layout.report, *sorted(layout.plots.iterdir())]
    before = [path.read_bytes() for path in files]
    stage.report(params, layout)
    assert [path.read_bytes() for path in files] == before


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        (lambda layout: layout.evaluation("plain", 1, "near"), "jepa3d evaluate plain near --seed 1"),
        (lambda layout: layout.curve("jepa", 1), "jepa3d pretrain jepa --seed 1"),
        (lambda layout: layout.features("plain", 0, "toys"), "jepa3d embed plain toys --seed 0"),
        (lambda layout: layout.encoder("jepa", 0), "jepa3d pretrain jepa --seed 0"),
        (lambda layout: layout.audit("toys"), "jepa3d convert toys"),
        (lambda layout: layout.overlap("toys", "toys"), "jepa3d convert toys --overlap toys"),
        (lambda layout: layout.patches("tiny", "toys"), "jepa3d patchify tiny toys"),
    ],
)
def test_a_missing_file_is_named_with_the_command_that_makes_it(forged, missing, command):
    params, layout = forged
    path = missing(layout)
    hidden = path.rename(path.with_suffix(".hidden"))
    try:
        with pytest.raises(Problem) as found:
            stage.report(params, layout)
    finally:
        hidden.rename(path)
    assert str(path) in found.value.what
    assert command in found.value.mend


def test_one_shape_of_each_class_is_drawn_from_the_test_split():
    label = np.array([0, 1, 1, 0, 2, 1])
    split = np.array(["train", "train", "test", "test", "test", "test"])
    assert shapes.one_of_each(label, split) == [3, 2, 4]


def test_masks_are_those_of_algorithm_2(forged):
    """8 patches, 4 blocks, ratio .6: floor(8 * .6 / 4) = 1 patch a block, and seeds are never targets already."""
    params, layout = forged
    found = shapes.masked(params, shapes.sample(params, layout, "toys", "jepa"), "jepa")
    assert found.counts == ((4, 4),) * 3
    assert set(found.masks[0].colours) == {shapes.CONTEXT, *shapes.BLOCKS[:4]}


def test_principal_components_of_a_line_hold_everything():
    line = np.outer(np.arange(5.0), [3.0, 0.0, 4.0])
    projected, share = shapes.principal(line, 2)
    assert share == pytest.approx(1.0)
    assert projected[:, 0].tolist() == pytest.approx([-10, -5, 0, 5, 10])


def test_values_at_a_centre_are_that_centres_own():
    centres = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    values = np.array([[1.0], [2.0], [3.0]])
    assert shapes.interpolate(centres, centres, values)[:, 0].tolist() == pytest.approx([1, 2, 3], abs=1e-6)


def test_a_long_line_is_averaged_in_equal_bins():
    thin = pictures.thinned(pictures.Line("a", range(1000), [1.0, 3.0] * 500), most=100)
    assert len(thin.x) == 100
    assert set(thin.y) == {2.0}


@pytest.mark.slow
def test_reports_of_several_studies_lie_beside_each_other_and_the_chosen_one_where_it_is_looked_for(tmp_path: Path):
    text = PARAMS.replace("  larger:", "  smaller: {runs: [jepa], evals: [probe], seeds: [0]}\n  larger:")
    params, layout = forge(tmp_path, text)
    with contextlib.redirect_stdout(io.StringIO()):
        stage.report(params, layout)
        first = contents(layout.study("forged"))
        stage.report(params.choosing("smaller"), layout)
    assert contents(layout.study("forged")) == first, "the report of another study does not touch it"
    assert contents(layout.chosen) == contents(layout.study("smaller"))
    assert set(store.read_json(layout.metrics)["jepa"]) == {"probe"}
    with contextlib.redirect_stdout(io.StringIO()):
        stage.report(params, layout)
    assert contents(layout.chosen) == contents(layout.study("forged")) == first


def contents(place: layouts.Report) -> list[bytes]:
    """The files of a report, and the names of its pictures."""
    pictures = sorted(place.plots.iterdir())
    names = [path.name.encode() for path in pictures]
    return [path.read_bytes() for path in (place.metrics, place.page, place.card, *pictures)] + names
