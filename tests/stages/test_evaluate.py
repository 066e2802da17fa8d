"""The stage from a features file to the finding on disk."""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jaxtyping
import numpy as np
import pytest
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from jepa3d import plugins, project, tasks
from jepa3d.encoders import transformer
from jepa3d.layout import Layout
from jepa3d.params import FrozenModel, Params
from jepa3d.params.load import evaluation
from jepa3d.params.models import EvalFacts
from jepa3d.params.validation import plugin_config
from jepa3d.problem import Problem
from jepa3d.results import finding, store
from jepa3d.results.finding import Metric, share
from jepa3d.stages.evaluate import evaluate
from jepa3d.stages.patchify import patchify
from jepa3d.stages.pretrain import pretrain
from jepa3d.tasks import Encoded, Result, few_shot_finetune, knn

TASKS = {
    "probe": {"kind": "linear_probe", "grid": [0.1]},
    "svms": {"kind": "svm"},
    "near": {"kind": "knn", "k": [3, 1]},
    "shots": {"kind": "few_shot", "way": 2, "shot": 5, "folds": 3},
}


def params_with(entries: dict) -> Params:
    run = {"data": ["toys"], "patches": "flat", "model": "small", "objective": {"kind": "jepa"}, "fit": {"steps": 1}}
    params = Params.model_validate_json(
        json.dumps(
            {
                "study": "demo",
                "studies": {"demo": {"runs": ["jepa"], "evals": list(entries), "seeds": [0]}},
                "datasets": {"toys": {"kind": "folder"}},
                "patches": {"flat": {}, "dense": {"points": 2048}},
                "models": {},
                "runs": {"jepa": run},
                "evals": {name: {"dataset": "toys", "task": task} for name, task in entries.items()},
            }
        )
    )
    evals = {name: evaluation(tasks, name, entry, "params.yaml") for name, entry in params.evals.items()}
    models = {"small": transformer.Config(width=96, depth=2, heads=4)}
    return params.model_copy(update={"evals": evals, "models": models})


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
    store.write_h5(
        path, arrays, store.stamp("embed", {}), classes=["cube", "cone", "ball"], pool="max_mean", kind="transformer"
    )
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
    assert found["provenance"]["settings"]["task"].items() >= TASKS[name].items()
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
    accuracy = found["metrics"]["accuracy"]
    assert accuracy["value"] == pytest.approx(np.mean(found["predicted"] == data["label"][~train]))
    assert (accuracy["unit"], accuracy["higher_is_better"], accuracy["shapes"]) == ("share", True, 15)
    assert accuracy["chance"] == pytest.approx(1 / 3)


def test_the_ema_encoder_is_evaluated_beside_the_context_encoder(layout: Layout):
    features(layout.features("jepa", 0, "toys"))
    evaluate(params_with(TASKS), layout, "jepa", "near", 0)
    found = finding.read(layout.evaluation("jepa", 0, "near"), "")
    twin = found.metrics["accuracy_ema"]
    assert found.main.value > 0.9
    assert twin.value < 0.7  # the file's target features are noise
    assert (twin.of, twin.encoder, twin.unit) == ("accuracy", "target", "share")
    assert found.variant("accuracy", encoder="target") == "accuracy_ema"
    own = {name for name, metric in found.metrics.items() if metric.encoder == "context"}
    assert {metric.of for metric in found.metrics.values() if metric.encoder == "target"} == own
    assert set(found.metrics) - own == {f"{name}_ema" for name in own} | {"majority"}  # no encoder has a part in it


def test_a_run_without_an_ema_encoder_has_no_such_metrics(layout: Layout):
    features(layout.features("jepa", 0, "toys"), target=False)
    evaluate(params_with(TASKS), layout, "jepa", "near", 0)
    metrics = store.read_json(layout.evaluation("jepa", 0, "near"))["metrics"]
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
    assert plugin_config(tasks, task, "entry", "params.yaml").k == (3, 1)


def test_tasks_that_train_on_get_the_encoder_and_the_data(layout: Layout, monkeypatch: pytest.MonkeyPatch):
    handed: list[Encoded] = []

    class Config(FrozenModel):
        kind: str

    def train_on(given: Encoded, settings: Config, seed: int) -> Result:
        handed.append(given)
        return Result({"accuracy": share(0.5)}, np.array([1, 0]))

    fake = ModuleType("fake")
    fake.__dict__.update(NEEDS="encoder", Config=Config, protocol=lambda settings: "made up", evaluate=train_on)
    monkeypatch.setattr(plugins, "find", lambda package, kind: plugins.fulfilled(tasks.Plugin, fake))
    monkeypatch.setattr(plugins, "check", lambda package, kind, where="": None)
    labels = {"label": np.array([0, 1, 1]), "split": ["test", "train", "test"], "id": ["a", "b", "c"]}
    labels["points"] = np.zeros((3, 4, 3), np.float32)
    for path in (layout.canonical("toys"), layout.patches("dense", "toys"), layout.encoder("jepa", 1)):
        store.write_h5(path, labels, store.stamp("made up", {}), classes=["cube", "cone"], parts=[])
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


def test_a_result_that_contradicts_itself_is_a_problem_of_its_evaluation(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
):
    """It says that it is the mean of its predictions, and is not; and another does not say which way is better."""
    features(layout.features("jepa", 0, "toys"))
    for metric, why in ((share(1.0, per_shape="predicted"), "is not the mean 0.3"), (Metric(0.5), "higher is better")):
        result = Result({"accuracy": metric}, np.zeros(15, np.int64))
        monkeypatch.setattr(knn, "evaluate", lambda *given, result=result: result)
        with pytest.raises(Problem, match="its result contradicts itself") as caught:
            evaluate(params_with(TASKS), layout, "jepa", "near", 0)
        assert caught.value.what == "tasks/knn.py: its result contradicts itself"
        assert why in caught.value.why
    assert not layout.evaluation("jepa", 0, "near").exists()


# --- evaluations that train

TUNE = {"hidden": [], "vote": 0, "validation": 0.2, "fit": {"epochs": 4, "batch": 8, "lr": 5e-3}}
FOLDS = {"way": 2, "shot": 3, "folds": 2, "hidden": [], "fit": {"steps": 2, "batch": 4}}


@pytest.fixture
def trained(tiny: dict, write: Callable[[Any], Path], layout: Layout, toys: Path) -> Iterator[Params]:
    """A study with a scratch encoder, whose evaluations train on."""
    jaxtyping.config.update("jaxtyping_disable", True)  # signatures are checked elsewhere; here it would take long
    tiny["execution"]["evals"] = {"tuned": {"checkpoint_every": 5}}
    tiny["evals"]["tuned"] = {"dataset": "toys", "task": {"kind": "finetune", **TUNE}}
    tiny["evals"]["folds"] = {"dataset": "toys", "task": {"kind": "few_shot_finetune", **FOLDS}}
    params = project.load(write(tiny))
    patchify(params, layout, "flat", "toys")
    pretrain(params, layout, "random_init", 0)
    yield params
    jaxtyping.config.update("jaxtyping_disable", False)


def test_a_fine_tuning_is_a_finding_with_its_curve_and_leaves_no_state(trained: Params, layout: Layout):
    evaluate(trained, layout, "random_init", "tuned", 0)
    found = store.read_json(layout.evaluation("random_init", 0, "tuned"))
    assert found["headline"] == "accuracy"
    assert [look["epoch"] for look in found["details"]["curve"]["looks"]] == [1, 2, 3, 4]
    assert np.mean(np.array(found["predicted"]) == found["truth"]) == found["metrics"]["accuracy"]["value"]
    assert "ON TEST" in found["protocol"]
    assert not layout.evaluation_state("random_init", 0, "tuned").exists()


def test_the_trainings_of_evaluations_have_folders_of_their_own_for_loggers(trained: Params, layout: Layout):
    for name in ("tuned", "folds"):
        evaluate(trained, layout, "random_init", name, 0)
    folders = {path.parent for path in (layout.results / "tensorboard").rglob("events.out.*")}
    seed = layout.results / "tensorboard" / "random_init" / "seed0"
    assert folders == {seed / "tuned", seed / "folds" / "fold0", seed / "folds" / "fold1"}


def test_killed_at_random_moments_a_fine_tuning_ends_in_the_same_bytes(trained: Params, layout: Layout):
    importlib.import_module("torch._dynamo")  # once, here: the first step of every child would
    path, state = layout.evaluation("random_init", 0, "tuned"), layout.evaluation_state("random_init", 0, "tuned")
    assert os.waitpid(in_child(lambda: evaluate(trained, layout, "random_init", "tuned", 0)), 0)[1] == 0
    undisturbed = path.read_bytes()
    path.unlink()

    def newest() -> str:
        return max((checkpoint.name for checkpoint in state.glob("step*.pt")), default="")

    moments, status, kills = random.Random(0), -1, 0
    while status != 0:
        before, child = newest(), in_child(lambda: evaluate(trained, layout, "random_init", "tuned", 0))
        while newest() <= before and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(0.002)
        if kills < 4:
            time.sleep(moments.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        kills += status != 0
    assert kills >= 3
    assert path.read_bytes() == undisturbed
    assert not state.exists()


@pytest.mark.parametrize("change", [{"checkpoint_every": 2}, {"log_every": 3, "memory_gb": 0.5, "compile": "off"}])
def test_a_stopped_fine_tuning_whose_execution_is_changed_goes_on_to_the_same_finding(
    trained: Params, layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: dict
):
    from jepa3d.train import loop

    path = layout.evaluation("random_init", 0, "tuned")
    evaluate(trained, layout, "random_init", "tuned", 0)
    undisturbed = path.read_bytes()
    forward, calls = loop._accumulate, []

    def stop(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(*given)

    monkeypatch.setattr(loop, "_accumulate", stop)
    with pytest.raises(loop.Stopped):
        evaluate(trained, layout, "random_init", "tuned", 0)
    execution = trained.execution.model_copy(update={**change, "evals": {}})
    evaluate(trained.model_copy(update={"execution": execution}), layout, "random_init", "tuned", 0)
    assert "resumed at step 9" in capsys.readouterr().err
    assert path.read_bytes() == undisturbed


def in_child(work: Callable[[], None]) -> int:
    """Do the work in a process of its own; its exit code is 0 when it ended well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks where there are threads
        child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def test_folds_that_were_jobs_and_the_call_by_hand_find_the_same(trained: Params, layout: Layout):
    path = layout.evaluation("random_init", 0, "folds")
    evaluate(trained, layout, "random_init", "folds", 0)
    by_hand = path.read_bytes()
    shutil.rmtree(layout.fold("random_init", 0, "folds", 0).parent)
    for number in (1, 0):
        evaluate(trained, layout, "random_init", "folds", 0, fold=number)
        fold = store.read_json(layout.fold("random_init", 0, "folds", number))
        assert (fold["fold"], fold["seed"]) == (number, 0)
        assert not (layout.evaluation_state("random_init", 0, "folds") / f"fold{number}").exists()
    evaluate(trained, layout, "random_init", "folds", 0)
    assert path.read_bytes() == by_hand
    found = store.read_json(path)
    accuracies = found["details"]["folds"]["scores"]["accuracy"]
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(accuracies))
    assert found["predicted"] is None


def test_folds_that_are_there_are_not_computed_again_unless_they_are_of_other_settings(
    trained: Params, layout: Layout, monkeypatch: pytest.MonkeyPatch
):
    evaluate(trained, layout, "random_init", "folds", 0)
    computed = []
    monkeypatch.setattr(
        few_shot_finetune,
        "fold",
        lambda given, settings, seed, number: (
            computed.append(number) or Result({"accuracy": share(0.5), "queries": Metric(1.0)})
        ),
    )
    evaluate(trained, layout, "random_init", "folds", 0)
    assert computed == []
    layout.fold("random_init", 0, "folds", 1).write_text("damaged")
    evaluate(trained, layout, "random_init", "folds", 0)
    assert computed == [1]
    entry = trained.evals["folds"]
    other = entry.settled(
        entry.settings.model_copy(update={"dropout": 0.25}), EvalFacts("encoder", entry.folds, entry.few_labels)
    )
    trained = trained.model_copy(update={"evals": {**trained.evals, "folds": other}})
    evaluate(trained, layout, "random_init", "folds", 0)
    assert computed == [1, 0, 1]


def test_folds_of_two_versions_of_the_code_are_said_to_be(trained: Params, layout: Layout):
    path = layout.fold("random_init", 0, "folds", 1)
    evaluate(trained, layout, "random_init", "folds", 0)
    fold = store.read_json(path)
    fold["provenance"]["code"] = "0123456789abcdef"
    store.write_json(path, fold, fold["provenance"])
    evaluate(trained, layout, "random_init", "folds", 0)
    notes = store.read_json(layout.evaluation("random_init", 0, "folds"))["notes"]
    assert any("2 versions of the code" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "fold", "says"),
    [
        ("folds", 2, r"(?s)evals.folds: has no fold 2.*0 to 1"),
        ("tuned", 0, r"(?s)evals.tuned: has no fold 0.*in one go"),
    ],
)
def test_a_fold_that_there_is_not_is_a_problem(trained: Params, layout: Layout, name: str, fold: int, says: str):
    with pytest.raises(Problem, match=says):
        evaluate(trained, layout, "random_init", name, 0, fold=fold)


def test_a_run_without_weights_to_train_on_is_a_problem(
    trained: Params, layout: Layout, tiny: dict, write: Callable[[Any], Path]
):
    tiny["models"]["hand"] = {"kind": "handcrafted"}
    tiny["runs"]["hand"] = {"base": "random_init", "model": "hand"}
    params = project.load(write(tiny))
    pretrain(params, layout, "hand", 0)
    with pytest.raises(Problem, match=r"(?s)run 'hand' cannot be evaluated so.*computed, not learned"):
        evaluate(params, layout, "hand", "tuned", 0)
    assert not layout.evaluation("hand", 0, "tuned").exists()


def test_few_shot_takes_the_folds_that_the_features_file_names(layout: Layout):
    ids = [f"2way_5shot/{i // 15}/{'test' if i % 15 >= 10 else 'train'}/{i % 15:04d}" for i in range(30)]
    split = ["test" if i % 15 >= 10 else "train" for i in range(30)]
    label = np.array([0, 1] * 5 + [0, 1, 0, 1, 0] + [1, 2] * 5 + [1, 2, 1, 2, 1])
    x = (np.eye(3)[label] + 0.01).astype(np.float32)
    features(layout.features("jepa", 0, "toys"), target=False, context=x, label=label, split=split, id=ids)
    task = {"kind": "few_shot", "way": 2, "shot": 5, "folds": 2}
    evaluate(params_with({"stored": task}), layout, "jepa", "stored", 0)
    metrics = store.read_json(layout.evaluation("jepa", 0, "stored"))["metrics"]
    assert metrics["linear"]["value"] == 1.0
    assert metrics["queries"]["value"] == 2.5
    with pytest.raises(Problem, match="10 folds, but the data set stores 2"):
        evaluate(params_with({"stored": task | {"folds": 10}}), layout, "jepa", "stored", 0)
