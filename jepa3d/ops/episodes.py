"""Few-shot episodes: which shapes are the shots and which the queries of each fold; from labels and ids alone."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from jepa3d.params import FrozenModel
from jepa3d.problem import Problem
from jepa3d.seeds import derive

STORED = re.compile(r"\d+way_\d+shot/(\d+)/(?:train|test)/\d+")  # the ids of a data set of kind `fewshot`


class Episodes(FrozenModel):
    """`way` classes, `shot` train shapes of each, at most `queries` test shapes of each, `folds` times."""

    way: Annotated[int, Field(ge=2)] = 5
    shot: PositiveInt = 10
    queries: PositiveInt = 20
    folds: PositiveInt = 10


class Fold(NamedTuple):
    """One problem: indices into the train split and into the test split."""

    support: Int[np.ndarray, "way*shot"]
    query: Int[np.ndarray, "q"]


def words(config: Episodes) -> str:
    """What a protocol says of its folds."""
    return (
        f"{config.way}-way {config.shot}-shot, {config.folds} folds (those that the data set stores, else drawn), "
        f"shots from the train split, up to {config.queries} queries a class from the test split"
    )


def folds(
    train: Int[np.ndarray, "n"],
    test: Int[np.ndarray, "m"],
    config: Episodes,
    seed: int,
    names: tuple[str, ...] = (),
    source: str = "features",
    train_ids: NDArray[np.str_] | None = None,
    test_ids: NDArray[np.str_] | None = None,
) -> list[Fold]:
    """The folds that the ids name, else drawn from the labels: two runs that are evaluated with one seed get the same.

    Stored folds depend on no seed.
    """
    stored = _stored(train_ids), _stored(test_ids)
    if stored[0] is not None and stored[1] is not None:
        return _published(train, test, stored[0], stored[1], config, source)
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


def _stored(ids: NDArray[np.str_] | None) -> NDArray[np.int64] | None:
    """The fold of each shape where every id names one (`5way_10shot/3/train/0007`: fold 3)."""
    found = [STORED.fullmatch(str(id)) for id in ids] if ids is not None else []
    return np.array([int(match[1]) for match in found if match]) if found and all(found) else None


def _published(
    train: Int[np.ndarray, "n"],
    test: Int[np.ndarray, "m"],
    train_fold: Int[np.ndarray, "n"],
    test_fold: Int[np.ndarray, "m"],
    config: Episodes,
    source: str,
) -> list[Fold]:
    """The folds that a data set of kind `fewshot` stores, which must be those that the task asks for."""
    numbers = np.unique(train_fold)
    if len(numbers) < config.folds:
        raise Problem(
            f"{source}: {config.folds} folds, but the data set stores {len(numbers)}",
            "its folds are published ones, none is drawn beside them",
            f"set the task's folds to {len(numbers)}, or the data set's fold to null",
        )
    found = []
    for number in numbers[: config.folds]:
        support, query = np.flatnonzero(train_fold == number), np.flatnonzero(test_fold == number)
        classes, shots = np.unique(train[support], return_counts=True)
        if len(classes) != config.way or (shots != config.shot).any():
            there = f"{len(classes)}-way {'/'.join(map(str, np.unique(shots)))}-shot"
            raise Problem(
                f"{source}: fold {number} is {there}, the task {config.way}-way {config.shot}-shot",
                "a data set of few-shot folds has the setting it was made with, less what was damaged",
                "give the task the data set's way and shot; its audit says what was set aside",
            )
        if len(strange := np.setdiff1d(test[query], classes)) or not len(query):
            raise Problem(
                f"{source}: fold {number} has {'queries of class ' + str(strange[0]) if len(query) else 'no queries'}",
                "its queries must be of the classes of its shots",
                "get the file again",
            )
        found.append(Fold(support, query))
    return found


def _eligible(
    train: Int[np.ndarray, "n"], test: Int[np.ndarray, "m"], config: Episodes, names: tuple[str, ...], source: str
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
