"""What every evaluation that is found promises, on tiny features or a tiny encoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
from pydantic import ValidationError

from jepa3d import plugins, tasks
from jepa3d.params import FrozenModel, slice_of
from jepa3d.problem import Problem
from jepa3d.tasks import Encoded, Features, Result

SHORT = {"fit": {"steps": 2, "batch": 8}}
SMALLER: dict[str, dict[str, Any]] = {  # than the defaults, so that the tests are quick
    "few_shot": {"way": 2, "shot": 4, "queries": 4, "folds": 2},
    "few_shot_finetune": {"way": 2, "shot": 4, "queries": 4, "folds": 2, **SHORT},
    "finetune": {"vote": 1, **SHORT},
    "part_seg": {"looks": 1, **SHORT},
    "robustness": {"corruptions": ["jitter"], "grid": [1.0]},
    "svm": {"presets": ["cv"], "grid": [0.01]},
}


class Asked(NamedTuple):
    plugin: tasks.Plugin[Any, Any]
    config: FrozenModel
    given: Features | Encoded

    def evaluate(self, seed: int = 3) -> Result:
        return self.plugin.evaluate(self.given, self.config, seed)


def features() -> Features:
    random = np.random.default_rng(0)
    means = 2 * random.normal(size=(3, 8))
    y_train, y_test = np.arange(60) % 3, np.arange(24) % 3
    x_train, x_test = ((means[y] + random.normal(size=(len(y), 8))).astype(np.float32) for y in (y_train, y_test))
    return Features(x_train, y_train, x_test, y_test, ("cube", "rod", "plate"))


@pytest.fixture(params=plugins.known(tasks))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def config(kind: str) -> FrozenModel:
    made: FrozenModel = plugins.find(tasks, kind).Config.model_validate_json(
        json.dumps({"kind": kind, **SMALLER.get(kind, {})}), strict=True
    )
    return made


@pytest.fixture
def ask(kind: str, config: FrozenModel, give: Callable[..., Encoded]) -> Callable[..., Asked]:
    """ask(**changes of the data) -> the evaluation, with what it needs."""

    def _ask(label: Any = None) -> Asked:
        plugin = plugins.find(tasks, kind)
        if plugin.NEEDS == "features":
            found = features()
            return Asked(plugin, config, found if label is None else found._replace(y_train=label(found.y_train)))
        labels = np.arange(80) % 3
        halves = (np.arange(128) % 2 + 2 * labels[:, None]).astype(np.int16)
        encoded = give(part=halves, label=labels if label is None else label(labels))
        with h5py.File(encoded.canonical, "r+") as file:
            file.attrs["parts"] = json.dumps([f"part {number}" for number in range(6)])
        return Asked(plugin, config, encoded)

    return _ask


def test_its_entry_is_frozen_and_the_same_after_a_way_through_json(kind: str, config: FrozenModel):
    assert config.kind == kind  # type: ignore[attr-defined]
    with pytest.raises(ValidationError, match="frozen"):
        config.kind = "another"  # type: ignore[attr-defined]
    assert type(config).model_validate_json(json.dumps(slice_of(config)), strict=True) == config


def test_its_protocol_is_one_line(kind: str, config: FrozenModel):
    line = plugins.find(tasks, kind).protocol(config)
    assert len(line) > 20
    assert "\n" not in line


def test_its_metrics_are_finite_the_first_says_what_it_is_and_the_same_seed_gives_the_same(ask: Callable[..., Asked]):
    result, again = ask().evaluate(), ask().evaluate()
    assert result.values
    assert all(np.isfinite(value) for value in result.values.values())
    assert result.values == again.values
    first = next(iter(result.metrics.values()))
    assert first.unit
    assert first.higher_is_better is not None
    assert (result.predicted is None) == (again.predicted is None)
    if result.predicted is not None:
        assert result.predicted.tolist() == again.predicted.tolist()  # type: ignore[union-attr]


def test_data_without_labels_are_a_problem_that_says_what_to_do(kind: str, ask: Callable[..., Asked]):
    asked = ask(label=lambda labels: np.full_like(labels, -1))
    with pytest.raises(Problem) as caught:
        asked.evaluate()
    assert caught.value.mend


def test_an_evaluation_of_several_jobs_is_what_is_gathered_from_them(ask: Callable[..., Asked]):
    asked = ask()
    count = asked.plugin.folds(asked.config)
    if not count:
        pytest.skip("it is one job")
    assert isinstance(asked.given, Encoded)
    apart = [asked.given._replace(state=asked.given.state / f"apart{number}") for number in range(count)]
    results = [asked.plugin.fold(given, asked.config, 3, number) for number, given in enumerate(apart)]
    assert asked.plugin.gather(results, asked.config).values == asked.evaluate().values


def test_an_encoder_that_it_cannot_evaluate_is_refused_in_words(kind: str, config: FrozenModel, params: Any):
    why = plugins.find(tasks, kind).unfit(config, params.models["tiny"])
    assert why is None
