"""The file of an evaluation: what is written is read again, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jepa3d.problem import Problem
from jepa3d.results import finding, store
from jepa3d.results.finding import PREDICTED, Curve, Details, Finding, Folds, Look, Metric, PerShape, share

AGAIN = "jepa3d evaluate jepa probe --seed 0"


def found(**changes: Any) -> Finding:
    """Three of four test shapes right."""
    values: dict[str, Any] = {
        "format": finding.FORMAT, "provenance": {"code": "c0de"}, "run": "jepa", "seed": 0, "eval": "probe",
        "dataset": "toys", "task": {"kind": "linear_probe"}, "protocol": "forged", "headline": "accuracy",
        "metrics": {"accuracy": share(0.75, chance=0.5, shapes=4, per_shape=PREDICTED)}
        | {"chosen_c": Metric(-3, "log10")},
        "notes": ("a note",), "details": Details(), "predicted": (0, 1, 1, 1), "truth": (0, 1, 1, 0),
        "ids": ("a", "b", "c", "d"), "classes": ("x", "y"),
    }  # fmt: skip
    return Finding(**(values | changes))


def test_what_is_written_is_read_again(tmp_path: Path):
    curve = Curve(metric="accuracy", looks=(Look(step=3, held_out=0.1 + 0.2, test=0.75),), chosen={"honest": 3})
    one = found(details=Details(curve=curve, folds=Folds(scores={"accuracy": (0.5, 1.0)})))
    finding.write(tmp_path / "probe.json", one)
    again = finding.read(tmp_path / "probe.json", AGAIN)
    assert again.model_dump(mode="json") == one.model_dump(mode="json")
    assert again.details.curve.looks[0].held_out == 0.1 + 0.2  # to the last bit


def test_a_metric_lists_in_its_file_what_is_known_of_it_and_no_more(tmp_path: Path):
    finding.write(tmp_path / "probe.json", found())
    written = json.loads((tmp_path / "probe.json").read_text())["metrics"]
    assert written["chosen_c"] == {"value": -3.0, "unit": "log10"}
    assert written["accuracy"]["higher_is_better"] is True


def edited(tmp_path: Path, edit: Callable[[dict[str, Any]], Any]) -> Problem:
    """The Problem of a file that was changed after it was written."""
    path = tmp_path / "probe.json"
    finding.write(path, found())
    data = store.read_json(path)
    edit(data)
    path.write_text(json.dumps(data))
    with pytest.raises(Problem) as caught:
        finding.read(path, AGAIN)
    assert str(path) in caught.value.what
    assert caught.value.mend == f"remove it and run: {AGAIN}"
    return caught.value


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda data: data.pop("format"), "an older version"),
        (lambda data: data.update(format=1), "its format is 1, not 2"),
        (lambda data: data.pop("protocol"), "protocol: Field required"),
        (lambda data: data.update(remark="mine"), "remark: Extra inputs are not permitted"),
        (lambda data: data["metrics"].update(accuracy=0.9), "metrics.accuracy"),
        (lambda data: data["metrics"]["accuracy"].update(value="0.75"), "metrics.accuracy.value"),
        (lambda data: data["metrics"]["accuracy"].update(value=75), "a share is in 0..1, not 75"),
        (lambda data: data["metrics"]["accuracy"].update(value=0.9), "0.9 is not the mean 0.75 of its 4 values"),
        (lambda data: data["metrics"]["accuracy"].pop("higher_is_better"), "does not say whether higher is better"),
        (lambda data: data["metrics"]["chosen_c"].update(of="c"), "there is no 'c' that it could be a variant of"),
        (lambda data: data.update(headline="error"), "the headline 'error' is none of its metrics"),
        (lambda data: data["predicted"].pop(), "differ in number"),
        (lambda data: data.update(details={"folds": {"scores": {"knn": [1.0]}}}), "there is no metric 'knn'"),
        (lambda data: data.update(predicted=None), "the values that it is the mean of are not there"),
    ],
)
def test_an_older_or_edited_file_is_refused_with_the_command_that_makes_it_again(
    tmp_path: Path, edit: Callable[[dict[str, Any]], Any], why: str
):
    assert why in edited(tmp_path, edit).why


def test_a_damaged_file_is_refused(tmp_path: Path):
    (tmp_path / "probe.json").write_text('{"format": 2,')
    with pytest.raises(Problem):
        finding.read(tmp_path / "probe.json", AGAIN)


def test_scores_are_those_that_the_metric_is_said_to_be_the_mean_of():
    per_shape = PerShape(ids=("p", "q"), classes=("x", "y"), scores={"iou": (0.5, 0.7)})
    metrics = {
        "miou": share(0.6, per_shape="iou"),
        "accuracy": share(0.75, per_shape=PREDICTED),
        "balanced": share(0.75),  # the same number by chance
    }
    one = found(metrics=metrics, headline="miou", details=Details(per_shape=per_shape))
    assert one.scores("miou").tolist() == [0.5, 0.7]
    assert one.scored_ids("miou") == ("p", "q")
    assert one.scores("accuracy").tolist() == [1, 1, 1, 0]
    assert one.scored_ids("accuracy") == ("a", "b", "c", "d")
    assert one.scores("balanced") is None


def test_a_variant_is_found_by_what_it_is_and_not_by_its_name():
    metrics = {
        "accuracy": share(0.75, chosen="honest"),
        "accuracy_last": share(0.5),  # of something else, for all that is said
        "elsewhere": share(0.5, of="accuracy", chosen="last"),
        "twin": share(0.25, of="accuracy", chosen="honest", encoder="target"),
    }
    one = found(metrics=metrics)
    assert one.variant("accuracy", chosen="last") == "elsewhere"
    assert one.variant("accuracy", encoder="target") == "twin"
    assert one.variant("accuracy", chosen="vote") is None
