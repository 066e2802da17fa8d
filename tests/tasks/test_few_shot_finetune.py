"""Few-shot by fine-tuning: the folds of the frozen protocol, each a training of its own, and their mean and spread."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from jepa3d.ops import episodes
from jepa3d.problem import Problem
from jepa3d.tasks import Encoded, Features, Metric, Result, few_shot
from jepa3d.tasks import few_shot_finetune as task
from jepa3d.tasks._shared.given import labels_of
from jepa3d.train import loop

Give = Callable[..., Encoded]
pytestmark = pytest.mark.usefixtures("unchecked")


def settings(**changes: Any) -> task.Config:
    tree = {
        "way": 2,
        "shot": 4,
        "queries": 5,
        "folds": 3,
        "hidden": [],
        "encoder_lr_scale": 1.0,
        "fit": {"steps": 12, "batch": 8, "lr": 5e-3},
    }
    return task.Config.model_validate_json(json.dumps(tree | changes))


def test_the_folds_are_those_of_the_frozen_protocol_shape_for_shape(give: Give, monkeypatch: pytest.MonkeyPatch):
    labels = labels_of(give())
    train, test = labels.split == "train", labels.split == "test"
    features = Features(
        np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), labels.label[train],
        np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32), labels.label[test], labels.classes,
    )  # fmt: skip
    seen = []
    drawn = episodes.folds
    monkeypatch.setattr(episodes, "folds", lambda *given: seen.append(drawn(*given)) or seen[-1])
    few_shot.evaluate(features, few_shot.Config(way=2, shot=4, queries=5, folds=3), seed=7)
    for one, two in zip(seen[0], task.draws(labels, settings(), seed=7), strict=True):
        assert one.support.tolist() == two.support.tolist()
        assert one.query.tolist() == two.query.tolist()


def test_a_fold_trains_on_its_shots_and_is_scored_on_its_queries(give: Give, monkeypatch: pytest.MonkeyPatch):
    given = give()
    labels = labels_of(given)
    fold = task.draws(labels, settings(), seed=7)[1]
    trained: list[loop.Training] = []
    run = loop.run
    monkeypatch.setattr(loop, "run", lambda training: (trained.append(training), run(training)))
    task.fold(given, settings(), 7, 1)
    [training] = trained
    shots = np.sort(np.flatnonzero(labels.split == "train")[fold.support])
    classes = np.unique(labels.label[shots])
    assert training.stream.source.arrays.label.tolist() == np.searchsorted(classes, labels.label[shots]).tolist()
    assert training.schedule.total == 12
    assert training.watch is None
    assert training.objective.net.head[-1].out_features == 2


def test_boxes_are_told_apart_from_four_shots(give: Give):
    found = task.evaluate(give(), settings(shot=8), seed=0)
    assert found.values["accuracy"] > 0.75
    assert found.values["majority"] == 0.5


def test_folds_and_gather_are_the_whole_evaluation(give: Give):
    given, short = give(), settings(folds=2, fit={"steps": 3, "batch": 8})
    whole = task.evaluate(given, short, seed=0)
    last, first = (
        task.fold(given._replace(state=given.state / "apart" / str(number)), short, 0, number) for number in (1, 0)
    )
    assert task.gather([first, last], short) == whole
    assert task.folds(short) == 2


def test_the_spread_is_the_sample_standard_deviation_over_the_folds():
    results = [Result({"accuracy": Metric(one), "queries": Metric(20.0)}) for one in (0.5, 0.7, 0.9)]
    found = task.gather(results, settings(queries=20))
    assert found.values == {
        "accuracy": pytest.approx(0.7),
        "accuracy_std": pytest.approx(0.2),
        "majority": 0.5,
        "queries": 20.0,
    }
    assert list(found.details.folds.scores["accuracy"]) == [0.5, 0.7, 0.9]


def test_fewer_queries_than_asked_for_are_said():
    result = Result({"accuracy": Metric(0.5), "queries": Metric(7.0)})
    assert task.gather([result], settings(folds=1, queries=20)).notes == (
        "7.0 queries a class on average: some have fewer than 20 test shapes",
    )


def test_stored_folds_are_used(give: Give):
    """One fold of two classes, the third class in neither split's fold 0."""
    label = np.array([0] * 4 + [1] * 4 + [0] * 4 + [2] * 4 + [0] * 5 + [1] * 5 + [0] * 5 + [2] * 5)
    split = ["train"] * 16 + ["test"] * 20
    ids = [f"2way_4shot/{fold}/train/{n:04d}" for fold in range(2) for n in range(8)]
    ids += [f"2way_4shot/{fold}/test/{n:04d}" for fold in range(2) for n in range(10)]
    given = give(train=16, test=20, label=label, split=split, id=ids)
    one, two = task.draws(labels_of(given), settings(folds=2), seed=0)
    assert one.support.tolist() == list(range(8))
    assert two.query.tolist() == list(range(10, 20))
    found = task.fold(given, settings(folds=2), 0, 1)
    assert found.details.folds.classes == (("cube", "plate"),)


def test_more_shots_than_shapes_are_a_problem_before_any_training(give: Give, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop, "run", lambda training: pytest.fail("a training was started"))
    with pytest.raises(Problem, match=r"50-shot, but class 'plate' has \d+ train shapes"):
        task.fold(give(), settings(shot=50), 0, 0)


def test_the_protocol_says_that_nothing_is_chosen():
    line = task.protocol(settings())
    for words in ("2-way 4-shot, 3 folds", "12 steps of batch 8", "nothing is chosen", "sample standard deviation"):
        assert words in line
