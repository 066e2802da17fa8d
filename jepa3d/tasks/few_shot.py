"""Few-shot classification: w classes, n shots each, on frozen features, over folds that every run shares.

The published columns of that name fine-tune the whole network and take the best test epoch of each fold; this is the
frozen, nothing-chosen form, and is not comparable with them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int
from pydantic import Field, PositiveFloat, PositiveInt

from jepa3d.config import FrozenModel
from jepa3d.ops import score
from jepa3d.problem import Problem
from jepa3d.seeds import derive
from jepa3d.tasks import Features, Result, check, standardise

NEEDS = "features"


class Config(FrozenModel):
    """`way` classes, `shot` train shapes of each, at most `queries` test shapes of each, `folds` times."""

    kind: Literal["few_shot"] = "few_shot"
    way: Annotated[int, Field(ge=2)] = 5
    shot: PositiveInt = 10
    queries: PositiveInt = 20
    folds: PositiveInt = 10
    c: PositiveFloat = 1.0  # of the logistic regression: fixed, for there is nothing to choose it on


class Fold(NamedTuple):
    """One problem: indices into the train split and into the test split."""

    support: Int[np.ndarray, "way*shot"]
    query: Int[np.ndarray, "q"]


def protocol(config: Config) -> str:
    """One line for the report."""
    return (
        f"{config.way}-way {config.shot}-shot, {config.folds} folds, shots from the train split, up to "
        f"{config.queries} queries a class from the test split; frozen features standardised over the train split; "
        f"logistic regression (C = {config.c:g}) and 1-NN (cosine); mean and sample standard deviation over the folds"
    )


def evaluate(given: Features, config: Config, seed: int) -> Result:
    """`linear` and `knn` (1-NN): mean accuracy over the folds, and `_std`, the sample standard deviation."""
    check(given)
    problems = folds(given.y_train, given.y_test, config, seed, given.classes, given.source)
    x_train, x_test = standardise(given.x_train, given.x_test)
    found: dict[str, list[float]] = {"linear": [], "knn": []}
    for fold in problems:
        x, y = x_train[fold.support], given.y_train[fold.support]
        query, truth = x_test[fold.query], given.y_test[fold.query]
        for name, model in _classifiers(config).items():
            found[name].append(score.accuracy(truth, model.fit(x, y).predict(query)))
    metrics = {}
    for name, values in found.items():
        metrics[name], metrics[f"{name}_std"] = score.mean_std(values)
    metrics["majority"] = 1 / config.way
    metrics["queries"] = float(np.mean([len(fold.query) for fold in problems])) / config.way
    fewer = metrics["queries"] < config.queries
    note = f"{metrics['queries']:.1f} queries a class on average: some have fewer than {config.queries} test shapes"
    return Result(metrics, None, (note,) * fewer)


def folds(
    train: Int[np.ndarray, "n"],
    test: Int[np.ndarray, "m"],
    config: Config,
    seed: int,
    names: tuple[str, ...] = (),
    source: str = "features",
) -> list[Fold]:
    """The folds, from the labels alone: two runs that are evaluated with one seed get the same ones."""
    classes = _eligible(train, test, config, names, source)
    drawn = []
    for number in range(config.folds):
        random = np.random.default_rng(derive(seed, "few_shot", number))
        support, query = [], []
        for label in random.choice(classes, config.way, replace=False):
            support.append(random.permutation(np.flatnonzero(train == label))[: config.shot])
            query.append(random.permutation(np.flatnonzero(test == label))[: config.queries])
        drawn.append(Fold(np.concatenate(support), np.concatenate(query)))
    return drawn


def _eligible(
    train: Int[np.ndarray, "n"], test: Int[np.ndarray, "m"], config: Config, names: tuple[str, ...], source: str
) -> Int[np.ndarray, "c"]:
    """The classes of the train split, all of which must have the shots and a query."""

    def called(label: int) -> str:
        return f"'{names[label]}'" if label < len(names) else str(label)

    classes, sizes = np.unique(train, return_counts=True)
    if config.way > len(classes):
        raise Problem(
            f"{source}: {config.way}-way, but {len(classes)} classes",
            "each fold draws its classes without repetition",
            f"set the task's way to at most {len(classes)}",
        )
    if sizes.min() < config.shot:
        raise Problem(
            f"{source}: {config.shot}-shot, but class {called(classes[sizes.argmin()])} has {sizes.min()} train shapes",
            "each fold draws its shots without repetition",
            f"set the task's shot to at most {sizes.min()}",
        )
    absent = np.setdiff1d(classes, test)
    if len(absent):
        raise Problem(
            f"{source}: class {called(absent[0])} has no test shape to query",
            "the queries come from the test split",
            "evaluate on a data set whose test split has every class",
        )
    return classes


def _classifiers(config: Config) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    return {
        "linear": LogisticRegression(C=config.c, max_iter=1000),
        "knn": KNeighborsClassifier(1, metric="cosine", algorithm="brute"),
    }
