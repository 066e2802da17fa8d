"""The JSON schema for editors: it is today's, it takes what the program takes, and it marks what an editor can see."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from jepa3d import project

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return project.schema()


def test_the_committed_schema_is_todays(schema: dict[str, Any]):
    stored = json.loads((ROOT / "params.schema.json").read_text(encoding="utf-8"))
    assert stored == schema, "write it anew: jepa3d schema > params.schema.json"
    jsonschema.Draft7Validator.check_schema(schema)
    first = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=params.schema.json"


@pytest.mark.parametrize("name", ["params.yaml", "tests/data/small_study.yaml"])
def test_the_projects_own_files_are_valid(schema: dict[str, Any], name: str):
    jsonschema.validate(yaml.safe_load((ROOT / name).read_text(encoding="utf-8")), schema, jsonschema.Draft7Validator)


def mistakes(schema: dict[str, Any], tree: dict[str, Any]) -> list[str]:
    found = jsonschema.Draft7Validator(schema).iter_errors(tree)
    return [".".join(map(str, error.absolute_path)) for error in found]


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("runs.jepa.fit", lambda p: p["runs"]["jepa"]["fit"].update(lrr=1)),
        ("runs.jepa.fit.steps", lambda p: p["runs"]["jepa"]["fit"].update(steps="many")),
        ("runs.jepa.objective", lambda p: p["runs"]["jepa"]["objective"].update(maks={})),
        ("runs.jepa.objective", lambda p: p["runs"]["jepa"]["objective"].update(reads="random_init")),
        ("runs.jepa.objective.kind", lambda p: p["runs"]["jepa"]["objective"].update(kind="scratch")),
        ("datasets.toys", lambda p: p["datasets"]["toys"].update(trian=5)),
        ("models.tiny", lambda p: p["models"]["tiny"].update(widht=5)),
        ("evals.knn.task", lambda p: p["evals"]["knn"]["task"].update(gird=5)),
        ("execution", lambda p: p["execution"].update(lanes=5)),
        ("", lambda p: p.update(run={})),
    ],
)
def test_a_mistake_is_marked_where_it_is(
    schema: dict[str, Any], tiny: dict[str, Any], where: str, change: Callable[[dict[str, Any]], None]
):
    assert mistakes(schema, tiny) == []
    change(tiny)
    assert mistakes(schema, tiny) == [where]


def test_what_saves_writing_is_valid_too(schema: dict[str, Any], tiny: dict[str, Any]):
    tiny["extends"] = "params.yaml"
    tiny["tasks"] = {"near": {"kind": "knn"}, "nearer": {"base": "near", "k": [1]}}
    tiny["models"]["wide"] = {"base": "tiny", "width": 48}
    tiny["runs"]["more"] = {"base": "jepa", "sweep": {"objective.mask.blocks": [1, 2], "fit": {"short": {"steps": 1}}}}
    tiny["runs"]["second"] = {"base": "jepa", "objective": {"kind": "point_bert", "reads": "more_blocks1_short"}}
    tiny["evals"]["all"] = {"task": ["near", "nearer"], "dataset": {"t": "toys"}, "name": "{task}_on_{dataset}"}
    tiny["evals"]["one"] = {"task": {"base": "near", "k": [3]}, "dataset": "toys"}
    tiny["execution"] |= {"loggers": ["tensorboard", {"kind": "wandb"}], "runs": {"jepa": {"log_every": 1}}}
    assert mistakes(schema, tiny) == []
