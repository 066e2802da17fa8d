"""Few-shot classification: w classes, n shots each, on frozen features, over folds that every run shares.

On a data set of kind `fewshot` the folds are the published ones that it stores; on any other they are drawn.

The published columns of that name fine-tune the whole network and take the best test epoch of each fold; this is the
frozen, nothing-chosen form, and is not comparable with them.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import PositiveFloat

from jepa3d.ops import episodes, score
from jepa3d.ops.episodes import Episodes
from jepa3d.ops.standardise import standardise
from jepa3d.results.finding import SHARE, Details, Folds, Metric, share
from jepa3d.tasks import Features, Needs, Result
from jepa3d.tasks._shared.given import check

NEEDS: Needs = "features"


class Config(Episodes):
    kind: Literal["few_shot"] = "few_shot"
    c: PositiveFloat = 1.0  # of the logistic regression: fixed, for there is nothing to choose it on


def few_labels(config: Config) -> bool:
    return True


def protocol(config: Config) -> str:
    """One line for the report."""
    return (
        f"{episodes.words(config)}; frozen features standardised over the train split; "
        f"logistic regression (C = {config.c:g}) and 1-NN (cosine); mean and sample standard deviation over the folds"
    )


def evaluate(given: Features, config: Config, seed: int) -> Result:
    """`linear` and `knn` (1-NN): mean accuracy over the folds, and `_std`, the sample standard deviation."""
    check(given)
    problems = episodes.folds(
        given.y_train, given.y_test, config, seed, given.classes, given.source, given.id_train, given.id_test
    )
    x_train, x_test = standardise(given.x_train, given.x_test)
    found: dict[str, list[float]] = {"linear": [], "knn": []}
    for fold in problems:
        x, y = x_train[fold.support], given.y_train[fold.support]
        query, truth = x_test[fold.query], given.y_test[fold.query]
        for name, model in _classifiers(config).items():
            found[name].append(score.accuracy(truth, model.fit(x, y).predict(query)))
    guess = 1 / config.way
    metrics: dict[str, Metric] = {}
    for name, values in found.items():
        mean, std = score.mean_std(values)
        metrics |= {name: share(mean, chance=guess), f"{name}_std": Metric(std, SHARE, of=name)}
    queries = float(np.mean([len(fold.query) for fold in problems])) / config.way
    metrics |= {
        "majority": share(guess, encoder="none"),
        "queries": Metric(queries, "shapes a class", encoder="none"),
    }
    note = f"{queries:.1f} queries a class on average: some have fewer than {config.queries} test shapes"
    return Result(metrics, None, (note,) * (queries < config.queries), Details(folds=Folds(scores=found)))


def _classifiers(config: Config) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    return {
        "linear": LogisticRegression(C=config.c, max_iter=1000),
        "knn": KNeighborsClassifier(1, metric="cosine", algorithm="brute"),
    }
