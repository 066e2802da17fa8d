"""The stage from a features file to the finding on disk."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from jepa3d import config, plugins, store
from jepa3d.layout import Layout
from jepa3d.problem import Problem
from jepa3d.stages.evaluate import evaluate
from jepa3d.tasks import Encoded, Result

TASKS = {
    "probe": {"kind": "linear_probe", "grid": [0.1]},
    "svms": {"kind": "svm"},
    "near": {"kind": "knn", "k": [3, 1]},
    "shots": {"kind": "few_shot", "way": 2, "shot": 5, "folds": 3},
}


def params_with(tasks: dict) -> config.Params:
    run = {"data": ["toys"], "patches": "flat", "model": "small", "objective": {"kind": "jepa"}, "fit": {"steps": 1}}
    return config.Params.model_validate_json(
        json.dumps(
            {
                "study": "demo",
                "studies": {"demo": {"runs": ["jepa"], "evals": list(tasks), "seeds": [0]}},
                "datasets": {"toys": {"kind": "folder"}},
                "patches": {"flat": {}, "dense": {"points": 2048}},
                "models": {"small": {"width": 96, "depth": 2, "heads": 4}},
                "runs": {"jepa": run},
                "evals": {name: {"dataset": "toys", "task": task} for name, task in tasks.items()},
            }
        )
    )


def features(path: Path, target: bool = True, **changes) -> dict:
    """A features file of three classes; the test shapes stand between the train shapes."""
    random = np.random.default_rng(0)
    label = np.arange(60) % 3
    context = (random.normal(size=(3, 6))[label] + 0.3 * random.normal(size=(60, 6))).astype(np.float32)
    arrays = {
        "context": context,
        "label": label.astype(np.int64),
        "split": ["test" if i % 4 == 0 else "train" for i in range(60)],
        "id": [f"toy-{i}" for i in range(60)],
    }
    if target:
        arrays["target"] = random.normal(size=(60, 6)).astype(np.float32)
    arrays |= changes
    store.write_h5(path, arrays, store.stamp("embed", {}), classes=["cube", "cone", "ball"], pool="max_mean")
    return arrays


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "results")


@pytest.mark.parametrize("name", TASKS)
def test_a_finding_is_complete(layout: Layout, name: str):
    path = layout.features("jepa", 2, "toys")
    features(path)
    evaluate(params_with(TASKS), layout, "jepa", name, 2)
    found = store.read_json(layout.evaluation("jepa", 2, name))
    assert (found["run"], found["seed"], found["eval"], found["dataset"]) == ("jepa", 2, name, "toys")
    assert found["provenance"]["verb"] == "evaluate"
    assert found["provenance"]["inputs"] == {str(path): store.sha256(path)}
    assert found["provenance"]["settings"]["task"] == TASKS[name]
    assert found["task"]["kind"] == TASKS[name]["kind"]
    assert found["headline"] == next(iter(found["metrics"]))
    assert found["ids"] == [f"toy-{i}" for i in range(0, 60, 4)]
    assert found["truth"] == [i % 3 for i in range(0, 60, 4)]
    assert found["classes"] == ["cube", "cone", "ball"]
    assert found["predicted"] is None if name == "shots" else len(found["predicted"]) == 15


def test_the_finding_is_what_scikit_learn_says_directly(layout: Layout):
    data = features(layout.features("jepa", 0, "toys"))
    evaluate(params_with(TASKS), layout, "jepa", "probe", 0)
    found = store.read_json(layout.evaluation("jepa", 0, "probe"))
    train = np.array(data["split"]) == "train"
    scaler = StandardScaler().fit(data["context"][train])
    probe = LogisticRegression(C=0.1).fit(scaler.transform(data["context"][train]), data["label"][train])
    assert found["predicted"] == probe.predict(scaler.transform(data["context"][~train])).tolist()
    assert found["metrics"]["accuracy"] == pytest.approx(np.mean(found["predicted"] == data["label"][~train]))


def test_the_ema_encoder_is_evaluated_beside_the_context_encoder(layout: Layout):
    features(layout.features("jepa", 0, "toys"))
    evaluate(params_with(TASKS), layout, "jepa", "near", 0)
    metrics = store.read_json(layout.evaluation("jepa", 0, "near"))["metrics"]
    assert metrics["accuracy"] > 0.9
    assert metrics["accuracy_ema"] < 0.7  # the file's target features are noise
    assert {key.removesuffix("_ema") for key in metrics if key.endswith("_ema")} == {
        key for key in metrics if not key.endswith("_ema")
    }


def test_a_run_without_an_ema_encoder_has_no_such_metrics(layout: Layout):
    features(layout.features("mae", 0, "toys"), target=False)
    evaluate(params_with(TASKS), layout, "mae", "near", 0)
    metrics = store.read_json(layout.evaluation("mae", 0, "near"))["metrics"]
    assert "accuracy" in metrics
    assert not [key for key in metrics if key.endswith("_ema")]


def test_two_evaluations_write_the_same_bytes(layout: Layout):
    features(layout.features("jepa", 0, "toys"))
    path = layout.evaluation("jepa", 0, "svms")
    evaluate(params_with(TASKS), layout, "jepa", "svms", 0)
    first = path.read_bytes()
    evaluate(params_with(TASKS), layout, "jepa", "svms", 0)
    assert path.read_bytes() == first


def test_a_problem_names_the_features_file_and_leaves_no_finding(layout: Layout):
    path = layout.features("jepa", 0, "toys")
    features(path, context=np.full((60, 6), np.inf, np.float32))
    with pytest.raises(Problem) as caught:
        evaluate(params_with(TASKS), layout, "jepa", "probe", 0)
    assert caught.value.what.startswith(str(path))
    assert not layout.evaluation("jepa", 0, "probe").exists()


def test_features_that_are_not_there_are_a_problem(layout: Layout):
    with pytest.raises(Problem, match="no such file"):
        evaluate(params_with(TASKS), layout, "jepa", "probe", 0)


def test_an_unknown_evaluation_is_a_problem(layout: Layout):
    with pytest.raises(Problem, match="did you mean 'probe'"):
        evaluate(params_with(TASKS), layout, "jepa", "prob", 0)


def test_the_settings_pass_through_params_yaml(tmp_path: Path):
    entry = {"dataset": "toys", "task": TASKS["near"]}
    text = yaml.safe_dump({"evals": {"near": entry}})
    task = yaml.safe_load(text)["evals"]["near"]["task"]
    assert config.plugin_config("tasks", task).k == (3, 1)


def test_tasks_that_train_on_get_the_encoder_and_the_data(layout: Layout, monkeypatch: pytest.MonkeyPatch):
    handed: list[Encoded] = []

    class Config(config.FrozenModel):
        kind: str

    def train_on(given: Encoded, settings: Config, seed: int) -> Result:
        handed.append(given)
        return Result({"accuracy": 0.5}, np.array([1, 0]))

    fake = SimpleNamespace(NEEDS="encoder", Config=Config, protocol=lambda settings: "made up", evaluate=train_on)
    monkeypatch.setattr(plugins, "find", lambda package, kind: fake)
    monkeypatch.setattr(plugins, "check", lambda package, kind, where="": None)
    labels = {"label": np.array([0, 1, 1]), "split": ["test", "train", "test"], "id": ["a", "b", "c"]}
    for path in (layout.canonical("toys"), layout.patches("dense", "toys"), layout.encoder("jepa", 1)):
        store.write_h5(path, labels, store.stamp("made up", {}), classes=["cube", "cone"])
    params = params_with({"tuned": {"kind": "finetune"}})
    dense = params.evals["tuned"].model_copy(update={"patches": "dense"})
    params = params.model_copy(update={"evals": {"tuned": dense}})

    evaluate(params, layout, "jepa", "tuned", 1)

    assert handed[0].encoder == layout.encoder("jepa", 1)
    assert handed[0].patches == layout.patches("dense", "toys")
    assert handed[0].scheme.points == 2048
    assert handed[0].model.width == 96
    found = store.read_json(layout.evaluation("jepa", 1, "tuned"))
    assert (found["ids"], found["truth"], found["predicted"]) == (["a", "c"], [0, 1], [1, 0])
    assert len(found["provenance"]["inputs"]) == 3
