"""pretrain: what it writes, what it may see, and what it refuses. Resume and kill are in test_fit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jepa3d import load_encoder, project
from jepa3d.layout import Layout
from jepa3d.params import Params, slice_of
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.stages import pretrain as stage
from jepa3d.stages.patchify import patchify
from jepa3d.train import batches, loop

Load = Callable[[dict[str, Any]], Params]


@pytest.fixture
def ready(layout: Layout, toys: Path, params: Params) -> Path:
    patchify(params, layout, "flat", "toys")
    return toys


@pytest.fixture
def load(write: Callable[[Any], Path]) -> Load:
    return lambda tree: project.load(write(tree))


def state(path: Path, which: str = "context") -> dict[str, torch.Tensor]:
    return load_encoder(path, which).module.state_dict()


def test_it_writes_an_encoder_its_configuration_and_its_curve(params: Params, layout: Layout, ready: Path):
    stage.pretrain(params, layout, "jepa", 0)
    loaded = load_encoder(layout.encoder("jepa", 0))
    assert loaded.metadata["which"] == ["context", "target"]
    assert loaded.metadata["model"] == slice_of(params.models["tiny"])
    written = store.read_json(layout.run_config("jepa", 0))
    assert written["run"]["fit"]["steps"] == 20
    assert written["seed"] == 0
    assert set(written["provenance"]["inputs"]) == {str(ready), str(layout.patches("flat", "toys"))}
    rows = store.read_jsonl(layout.curve("jepa", 0))
    assert [row["step"] for row in rows if "loss" in row] == [5, 10, 15, 20]
    watched = next(row for row in rows if "rank" in row)
    assert {"rank", "rank_target", "cosine", "feature_std", "knn", "knn_target", "student_teacher"} <= set(watched)
    assert rows[-1]["cost"]["seconds"] > 0
    assert not layout.state("jepa", 0).exists()


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    tiny: dict[str, Any], load: Load, layout: Layout, ready: Path
):
    tiny["runs"]["jepa"]["fit"]["steps"] = 5
    params = load(tiny)
    stage.pretrain(params, layout, "jepa", 0)
    first = layout.encoder("jepa", 0).read_bytes()
    stage.pretrain(params, layout, "jepa", 0)
    assert layout.encoder("jepa", 0).read_bytes() == first
    stage.pretrain(params, layout, "jepa", 1)
    one, other = state(layout.encoder("jepa", 0)), state(layout.encoder("jepa", 1))
    assert not torch.equal(one["norm.weight"], other["norm.weight"])


def test_the_random_baseline_is_the_encoder_that_training_starts_from(
    tiny: dict[str, Any], load: Load, layout: Layout, ready: Path
):
    tiny["runs"]["start"] = {"base": "jepa", "fit": {"steps": 0}}
    params = load(tiny)
    stage.pretrain(params, layout, "start", 0)
    stage.pretrain(params, layout, "random_init", 0)
    one, other = state(layout.encoder("start", 0)), state(layout.encoder("random_init", 0))
    assert all(torch.equal(one[name], other[name]) for name in one if "running" not in name and "tracked" not in name)
    assert not torch.equal(one["tokenizer.point_norm.running_mean"], other["tokenizer.point_norm.running_mean"])
    assert other["tokenizer.point_norm.num_batches_tracked"] == 4  # 32 clouds in batches of 8


def test_only_the_train_split_is_seen(tiny: dict[str, Any], load: Load, layout: Layout, ready: Path):
    """The test shapes are replaced by NaN and labels that do not exist: nothing changes."""
    tiny["runs"]["jepa"]["fit"]["steps"] = 10
    params = load(tiny)
    stage.pretrain(params, layout, "jepa", 0)
    expected, curve = state(layout.encoder("jepa", 0)), store.read_jsonl(layout.curve("jepa", 0))
    with store.open_h5(ready) as file:
        points, label, split = file["points"][:], file["label"][:], store.text(file["split"])
    points[split == "test"], label[split == "test"] = np.nan, -1
    arrays = {"points": points, "label": label, "split": split, "id": [str(i) for i in range(80)]}
    store.write_h5(ready, arrays, store.stamp("convert", {}), classes=["cube", "rod", "plate"], parts=[])
    stage.pretrain(params, layout, "jepa", 0)
    after = state(layout.encoder("jepa", 0))
    assert all(torch.equal(expected[name], after[name]) for name in expected)
    again = store.read_jsonl(layout.curve("jepa", 0))
    assert [row.get("knn") for row in again] == [row.get("knn") for row in curve]


def test_the_monitor_looks_at_a_fixed_draw_of_the_train_split(params: Params, layout: Layout, ready: Path):
    watch = stage.watched(layout, params.runs["jepa"], 0, torch.device("cpu"))
    again = stage.watched(layout, params.runs["jepa"], 0, torch.device("cpu"))
    shown = torch.cat([batch.points for batch in watch.batches])
    assert torch.equal(shown, torch.cat([batch.points for batch in again.batches]))
    assert len(shown) == 32
    with store.open_h5(ready) as file:
        train = file["points"][:][store.text(file["split"]) == "train"]
    of_train = {cloud.tobytes() for cloud in train}
    assert all(cloud.numpy().tobytes() in of_train for cloud in shown)


def test_a_probe_of_its_own_is_what_the_monitor_looks_at(
    tiny: dict[str, Any], load: Load, layout: Layout, ready: Path, write_canonical: Callable[..., Path]
):
    tiny["datasets"]["probe"] = {"kind": "procedural"}
    tiny["runs"]["jepa"]["monitor"]["probe"] = "probe"
    params = load(tiny)
    write_canonical(layout.canonical("probe"), train=9, test=3, label=np.arange(12) % 2)
    patchify(params, layout, "flat", "probe")
    watch = stage.watched(layout, params.runs["jepa"], 0, torch.device("cpu"))
    assert sum(len(batch) for batch in watch.batches) == 9


def test_several_data_sets_are_trained_on_together_and_have_no_common_labels(
    tiny: dict[str, Any], load: Load, layout: Layout, ready: Path, write_canonical: Callable[..., Path]
):
    tiny["datasets"]["more"] = {"kind": "procedural"}
    tiny["runs"]["jepa"]["data"] = ["toys", "more"]
    params = load(tiny)
    write_canonical(layout.canonical("more"), train=0, test=5)
    patchify(params, layout, "flat", "more")
    entry = params.runs["jepa"]
    assert [len(subset.rows) for subset in stage.subsets(layout, entry)] == [60]  # nothing to train on in `more`
    assert stage.label_count(layout, entry) == 0
    assert stage.label_count(layout, entry.model_copy(update={"data": ("toys",)})) == 3
    stage.pretrain(params, layout, "jepa", 0)
    assert len(store.read_json(layout.run_config("jepa", 0))["provenance"]["inputs"]) == 4


def test_streamed_from_disk_it_trains_as_well(tiny: dict[str, Any], load: Load, layout: Layout, ready: Path):
    tiny["runs"]["jepa"]["fit"]["stream"] = True
    params = load(tiny)
    stage.pretrain(params, layout, "jepa", 0)
    assert layout.encoder("jepa", 0).exists()


def test_live_patches_train_as_well(tiny: dict[str, Any], load: Load, layout: Layout, ready: Path):
    tiny["patches"]["flat"]["live"] = True
    tiny["runs"]["jepa"]["fit"]["steps"] = 2
    stage.pretrain(load(tiny), layout, "jepa", 0)
    assert layout.encoder("jepa", 0).exists()


def test_data_without_a_train_split_is_a_problem(params: Params, layout: Layout, write_canonical: Callable[..., Path]):
    write_canonical(layout.canonical("toys"), train=0, test=5)
    patchify(params, layout, "flat", "toys")
    with pytest.raises(Problem, match="toys: no shapes to train on"):
        stage.pretrain(params, layout, "jepa", 0)


def test_a_single_train_shape_is_a_problem(params: Params, layout: Layout, write_canonical: Callable[..., Path]):
    write_canonical(layout.canonical("toys"), train=1, test=5)
    patchify(params, layout, "flat", "toys")
    with pytest.raises(Problem, match="too few for the collapse monitor"):
        stage.pretrain(params, layout, "jepa", 0)


def test_missing_inputs_name_the_commands_that_make_them(
    params: Params, layout: Layout, request: pytest.FixtureRequest
):
    with pytest.raises(Problem) as caught:
        stage.pretrain(params, layout, "jepa", 0)
    assert "jepa3d convert toys" in caught.value.mend
    request.getfixturevalue("toys")
    with pytest.raises(Problem) as caught:
        stage.pretrain(params, layout, "jepa", 0)
    assert "jepa3d patchify flat toys" in caught.value.mend


def test_labels_are_needed_for_supervised_training_only(tiny: dict[str, Any], load: Load, layout: Layout, ready: Path):
    tiny["runs"]["supervised"] = {"base": "jepa", "objective": {"kind": "supervised"}, "fit": {"steps": 3}}
    params = load(tiny)
    stage.pretrain(params, layout, "supervised", 0)
    assert load_encoder(layout.encoder("supervised", 0)).metadata["which"] == ["context"]
    with store.open_h5(ready) as file:
        arrays = {name: file[name][:] for name in ("points", "id", "split")}
    label = np.full(80, -1, np.int64)
    text = {name: [word.decode() for word in arrays[name]] for name in ("id", "split")}
    shapes = {"points": arrays["points"], "label": label} | text
    store.write_h5(ready, shapes, store.stamp("convert", {}), classes=[], parts=[])
    with pytest.raises(Problem, match="needs labelled data"):
        stage.pretrain(params, layout, "supervised", 0)
    stage.pretrain(params, layout, "jepa", 0)
    assert "knn" not in next(row for row in store.read_jsonl(layout.curve("jepa", 0)) if "rank" in row)


def test_a_baseline_that_is_told_to_train_is_a_problem(tiny: dict[str, Any], load: Load, layout: Layout, ready: Path):
    tiny["runs"]["random_init"]["fit"]["steps"] = 5
    with pytest.raises(Problem, match="'random_init' is a baseline"):
        stage.pretrain(load(tiny), layout, "random_init", 0)


def stopped_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next training of this process stops after a step, as by a signal."""
    forward, calls = loop._accumulate, []

    def stop(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGTERM)
            monkeypatch.setattr(loop, "_accumulate", forward)
        return forward(*given)

    monkeypatch.setattr(loop, "_accumulate", stop)


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint_every": 2},  # as the launcher advises where a life of a job is too short
        {"log_every": 3},
        {"monitor_every": 4},
        {"memory_gb": 0.5},
        {"compile": "off"},
        {"loggers": []},
        {"runs": {"jepa": {"checkpoint_every": 3}}},
    ],
)
def test_a_stopped_training_whose_execution_is_changed_goes_on_to_the_same_bits(
    tiny: dict[str, Any],
    load: Load,
    layout: Layout,
    ready: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
):
    stage.pretrain(load(tiny), layout, "jepa", 0)
    undisturbed = layout.encoder("jepa", 0).read_bytes()
    stopped_at(9, monkeypatch)
    with pytest.raises(loop.Stopped):
        stage.pretrain(load(tiny), layout, "jepa", 0)
    tiny["execution"] |= change
    stage.pretrain(load(tiny), layout, "jepa", 0)
    assert "resumed at step 9" in capsys.readouterr().err
    assert layout.encoder("jepa", 0).read_bytes() == undisturbed


def test_a_training_that_draws_its_points_anew_goes_on_to_the_same_bits_and_is_monitored_on_fixed_ones(
    tiny: dict[str, Any], load: Load, layout: Layout, toys: Path, monkeypatch: pytest.MonkeyPatch
):
    tiny["patches"]["drawn"] = {"points": 64, "sample": "resample", "live": True, "levels": [{"num": 16, "size": 8}]}
    tiny["runs"]["jepa"]["patches"] = "drawn"
    params = load(tiny)
    patchify(params, layout, "drawn", "toys")
    seen: list[np.ndarray[Any, Any]] = []
    at = batches.Stream.at

    def noted(stream: batches.Stream, step: int) -> list[batches.Batch]:
        given = at(stream, step)
        seen.extend(batch.points.numpy() for batch in given)
        return given

    monkeypatch.setattr(batches.Stream, "at", noted)
    stage.pretrain(params, layout, "jepa", 0)
    undisturbed, drawn = layout.encoder("jepa", 0).read_bytes(), seen.copy()
    curve = [row.get("rank") for row in store.read_jsonl(layout.curve("jepa", 0))]
    assert len({cloud.tobytes() for points in drawn for cloud in points}) == 20 * 8
    stopped_at(9, monkeypatch)
    seen.clear()
    with pytest.raises(loop.Stopped):
        stage.pretrain(params, layout, "jepa", 0)
    stage.pretrain(params, layout, "jepa", 0)
    assert [points.tobytes() for points in seen] == [points.tobytes() for points in drawn]
    assert layout.encoder("jepa", 0).read_bytes() == undisturbed
    assert [row.get("rank") for row in store.read_jsonl(layout.curve("jepa", 0))] == curve
    watch = stage.watched(layout, params.runs["jepa"], 0, torch.device("cpu"))
    with store.open_h5(toys) as file:
        first = {cloud.tobytes() for cloud in file["points"][:, :64]}
    assert all(cloud.numpy().tobytes() in first for batch in watch.batches for cloud in batch.points)


def test_a_state_of_other_settings_is_set_aside_and_goes_on_when_it_is_put_back(
    tiny: dict[str, Any],
    load: Load,
    layout: Layout,
    ready: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    before, state = load(tiny), layout.state("jepa", 0)
    stage.pretrain(before, layout, "jepa", 0)
    undisturbed = layout.encoder("jepa", 0).read_bytes()
    stopped_at(9, monkeypatch)
    with pytest.raises(loop.Stopped):
        stage.pretrain(before, layout, "jepa", 0)
    kept = {path.name: path.read_bytes() for path in state.iterdir()}
    evaluation = layout.evaluation_state("jepa", 0, "knn") / "step000000001.pt"
    evaluation.parent.mkdir(parents=True)
    evaluation.write_bytes(b"of an evaluation")
    tiny["runs"]["jepa"]["fit"]["lr"] = 0.002
    stage.pretrain(load(tiny), layout, "jepa", 0)
    assert f"what was there is kept as {state / 'aside-1'}" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (state / "aside-1").iterdir()} == kept
    assert evaluation.read_bytes() == b"of an evaluation"
    assert sorted(path.name for path in state.iterdir()) == ["aside-1", "evals"]
    for path in (state / "aside-1").iterdir():
        path.rename(state / path.name)
    (state / "aside-1").rmdir()
    stage.pretrain(before, layout, "jepa", 0)
    assert "resumed at step 9" in capsys.readouterr().err
    assert layout.encoder("jepa", 0).read_bytes() == undisturbed


def test_other_settings_do_not_resume_the_state_of_these(
    tiny: dict[str, Any], load: Load, layout: Layout, ready: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(training: loop.Training) -> None:
        raise loop.Stopped(1, 15)

    seen = []
    monkeypatch.setattr(loop, "run", lambda training: (seen.append(training.job.fingerprint), stop(training)))
    for change in ({}, {"about": "other words"}, {"objective": {"kind": "jepa", "loss": "cosine"}}):
        tiny["runs"]["jepa"] |= change
        with pytest.raises(loop.Stopped):
            stage.pretrain(load(tiny), layout, "jepa", 0)
    assert seen[0] == seen[1] != seen[2]
    with pytest.raises(loop.Stopped):
        stage.pretrain(load(tiny), layout, "jepa", 1)
    assert seen[3] != seen[2]
