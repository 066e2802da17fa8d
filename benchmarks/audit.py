"""Recompute every metric of a finished study with numpy and scikit-learn alone: python benchmarks/audit.py

It reads the features, labels and findings below results/ and says where a number is another one. Of jepa3d it uses
only which shapes were drawn: the held-out part of the linear probe, the folds of few-shot. What a task that trains an
encoder found is recomputed from its predictions, its looks, its folds, or its scores shape by shape.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.svm import SVC, LinearSVC

from jepa3d.ops import episodes
from jepa3d.seeds import derive
from jepa3d.tasks._shared.splits import holdout

TOLERANCE = 1e-9
Numbers = dict[str, float]


class Data(NamedTuple):
    """Features and labels of both splits."""

    x: np.ndarray  # [n, F], train
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    id: np.ndarray
    id_test: np.ndarray


def read(path: Path) -> dict[str, Data]:
    """A features file: encoder ("context", "target") -> data."""
    with h5py.File(path) as file:
        split, label, ids = file["split"].asstr()[:], file["label"][:], file["id"].asstr()[:]
        train, test = split == "train", split == "test"
        return {
            which: Data(x[train], label[train], x[test], label[test], ids[train], ids[test])
            for which in ("context", "target")
            if which in file and (x := file[which][:].astype(np.float64)) is not None
        }


def scaled(x: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Mean 0, deviation 1 on `x`; none is divided by less than a hundredth of the median; rounding alone becomes 0."""
    mean, deviation = x.mean(0), x.std(0)
    still = deviation <= np.finfo(np.float32).eps * np.abs(x).max(0)
    floor = 0.01 * np.median(deviation[~still]) if (~still).any() else 1.0
    return [np.where(still, 0.0, (one - mean) / np.maximum(deviation, floor)) for one in (x, *others)]


def of_predictions(truth: np.ndarray, predicted: np.ndarray) -> Numbers:
    return {
        "accuracy": accuracy_score(truth, predicted),
        "balanced_accuracy": balanced_accuracy_score(truth, predicted),
    }


def majority(data: Data) -> float:
    values, counts = np.unique(data.y, return_counts=True)
    return float((data.y_test == values[counts.argmax()]).mean())


def linear_probe(data: Data, task: dict[str, Any], seed: int, stored: Numbers) -> Numbers:
    held = holdout(data.y, task["validation"], seed)
    held &= np.isin(data.y, data.y[~held])
    x, x_held = scaled(data.x[~held], data.x[held])
    losses = []
    for c in sorted(task["grid"]):
        probe = LogisticRegression(C=c, max_iter=task["max_iter"]).fit(x, data.y[~held])
        column = np.searchsorted(probe.classes_, data.y[held])
        losses.append(-probe.predict_log_proba(x_held)[np.arange(len(column)), column].mean())
    chosen = sorted(task["grid"])[int(np.argmin(losses))]
    x, x_test = scaled(data.x, data.x_test)
    probe = LogisticRegression(C=chosen, max_iter=task["max_iter"]).fit(x, data.y)
    return {
        **of_predictions(data.y_test, probe.predict(x_test)),
        "majority": majority(data),
        "train_accuracy": float(probe.score(x, data.y)),
        "chosen_c": math.log10(chosen),
    }


def knn(data: Data, task: dict[str, Any], seed: int, stored: Numbers) -> Numbers:
    x, x_test = scaled(data.x, data.x_test) if task["standardise"] else (data.x, data.x_test)
    if task["metric"] == "cosine":
        x, x_test = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (x, x_test))
        distance = 1 - x_test @ x.T
    else:
        distance = np.linalg.norm(x_test[:, None] - x[None], axis=2)
    nearest = distance.argsort(1, kind="stable")
    found: Numbers = {"majority": majority(data)}
    for k in task["k"]:
        near = nearest[:, :k]
        of = np.take_along_axis(distance, near, 1)
        weight = np.exp(-of / task["temperature"]) if task["temperature"] else np.ones_like(of)
        predicted = []
        for labels, weights in zip(data.y[near], weight, strict=True):
            votes = {label: weights[labels == label].sum() for label in labels}  # in the order of nearness
            predicted.append(max(votes, key=lambda label: votes[label]))
        found[f"accuracy_k{k}"] = accuracy_score(data.y_test, predicted)
        if k == task["k"][0]:
            found |= of_predictions(data.y_test, np.array(predicted))
    return found


def few_shot(data: Data, task: dict[str, Any], seed: int, stored: Numbers) -> Numbers:
    config = episodes.Episodes(**{key: task[key] for key in ("way", "shot", "queries", "folds")})
    drawn = episodes.folds(data.y, data.y_test, config, seed, train_ids=data.id, test_ids=data.id_test)
    x, x_test = scaled(data.x, data.x_test)
    linear, nearest = [], []
    for fold in drawn:
        known, asked, truth = x[fold.support], x_test[fold.query], data.y_test[fold.query]
        linear.append(
            LogisticRegression(C=task["c"], max_iter=1000).fit(known, data.y[fold.support]).score(asked, truth)
        )
        unit, other = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (known, asked))
        nearest.append(accuracy_score(truth, data.y[fold.support][(other @ unit.T).argmax(1)]))
    return {
        "linear": float(np.mean(linear)),
        "linear_std": float(np.std(linear, ddof=1)),
        "knn": float(np.mean(nearest)),
        "knn_std": float(np.std(nearest, ddof=1)),
        "majority": 1 / task["way"],
        "queries": float(np.mean([len(fold.query) for fold in drawn])) / task["way"],
    }


def svm(data: Data, task: dict[str, Any], seed: int, stored: Numbers) -> Numbers:
    """`cv` with the C that was chosen."""
    half = data.x.shape[1] // 2
    added = [one[:, :half] + one[:, half : 2 * half] for one in (data.x, data.x_test)]
    plain, order = (data.x, data.x_test), derive(seed, "svm") % 2**32
    ways: dict[str, tuple[Any, Any]] = {
        "m2ae": (SVC(kernel="linear", C=0.012), added),
        "m2ae_scan": (SVC(kernel="linear", C=0.042), added),
        "pointjepa": (SVC(kernel="linear", C=0.012), plain),
        "recon": (LinearSVC(C=0.075, dual=True, random_state=order), plain),
        "default": (LinearSVC(C=1.0, dual=True, random_state=order), plain),
    }
    if "chosen_c" in stored:
        ways["cv"] = (SVC(kernel="linear", C=10 ** stored["chosen_c"]), scaled(data.x, data.x_test))
    found: Numbers = {"majority": majority(data)}
    for preset in task["presets"]:
        if f"accuracy_{preset}" in stored:
            model, (x, x_test) = ways[preset]
            if isinstance(model, LinearSVC):
                x, x_test = x.astype(np.float32), x_test.astype(np.float32)
            predicted = model.fit(x, data.y).predict(x_test)
            found[f"accuracy_{preset}"] = accuracy_score(data.y_test, predicted)
            if preset == ("cv" if "cv" in ways else task["presets"][0]):
                found |= of_predictions(data.y_test, predicted)
    return found


FROM_FEATURES: dict[str, Callable[[Data, dict[str, Any], int, Numbers], Numbers]] = {
    "linear_probe": linear_probe,
    "knn": knn,
    "few_shot": few_shot,
    "svm": svm,
}


def from_details(finding: dict[str, Any]) -> Numbers:
    """What follows from a finding's predictions, looks, folds, corruptions and scores shape by shape."""
    found: Numbers = {}
    details, kind, truth = finding["details"], finding["task"]["kind"], np.array(finding["truth"])
    if finding["predicted"] is not None:
        found |= of_predictions(truth, np.array(finding["predicted"]))
    if curve := details.get("curve"):
        at = {look["step"]: look["test"] for look in curve["looks"]}
        first = "honest" if "honest" in curve["chosen"] else "last"
        found[curve["metric"]] = at[curve["chosen"][first]]
        found[f"{curve['metric']}_community"] = max(at.values())
        if first == "honest":
            found[f"{curve['metric']}_last"] = at[max(at)]
    if kind == "few_shot_finetune":
        scores = details["folds"]["scores"]["accuracy"]
        found |= {"accuracy": float(np.mean(scores)), "accuracy_std": float(np.std(scores, ddof=1))}
    if corruptions := details.get("corruptions"):
        for one in corruptions:
            found[one["kind"]] = float(np.mean(one["scores"][1:]))
            found |= {f"{one['kind']}_{level}": score for level, score in enumerate(one["scores"][1:], 1)}
        found["accuracy_corrupted"] = float(np.mean([found[one["kind"]] for one in corruptions]))
    if classes := details.get("per_class"):
        found["class_miou"] = float(np.mean([one["miou"] for one in classes.values()]))
        shapes = [one["shapes"] for one in classes.values()]
        found["instance_miou"] = float(np.average([one["miou"] for one in classes.values()], weights=shapes))
    return found


def recomputed(path: Path, results: Path) -> tuple[dict[str, float], Numbers]:
    """The stored metrics of a finding, and those that were computed again."""
    finding = json.loads(path.read_text(encoding="utf-8"))
    stored = {name: metric["value"] for name, metric in finding["metrics"].items()}
    task, seed = finding["task"], finding["seed"]
    again = FROM_FEATURES.get(task["kind"])
    if again is None:
        return stored, from_details(finding)
    file = results / "features" / finding["run"] / f"seed{seed}" / f"{finding['dataset']}.h5"
    found: Numbers = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for which, data in read(file).items():
            end = "" if which == "context" else "_ema"
            own = {
                key.removesuffix("_ema"): value for key, value in stored.items() if key.endswith("_ema") == bool(end)
            }
            of = again(data, task, seed, own)
            found |= {f"{name}{end}": value for name, value in of.items() if f"{name}{end}" in stored}
    return stored, found


def audit(results: Path) -> Iterator[tuple[str, str, float, float | None]]:
    """Every metric of every finding: the finding, the metric, its stored value, and the one computed again, if any."""
    for path in sorted((results / "evals").glob("*/seed*/*.json")):
        stored, found = recomputed(path, results)
        name = str(path.relative_to(results / "evals").with_suffix(""))
        for metric, value in stored.items():
            yield name, metric, value, found.get(metric)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"))
    rows = list(audit(parser.parse_args().results))
    wrong = [row for row in rows if row[3] is not None and abs(row[2] - row[3]) > TOLERANCE]
    for name, metric, stored, again in wrong:
        print(f"{name} {metric}: {stored:.6f} is stored, {again:.6f} is computed again")
    done = sum(row[3] is not None for row in rows)
    left = sorted({metric for _, metric, _, again in rows if again is None})
    print(f"{done} of {len(rows)} metrics computed again, {len(wrong)} differ; left: {', '.join(left) or 'none'}")
    return int(bool(wrong) or not done)


if __name__ == "__main__":
    sys.exit(main())
