"""Evaluations: one file each, found by its name.

The contract of `tasks/<kind>.py` (everything at the top must import without torch and scikit-learn, which are
imported inside the functions: the Snakefile reads the Configs):

    NEEDS = "features" | "encoder"
    class Config(FrozenModel)                                    its `task:` entry in params.yaml; has `kind`
    def protocol(config) -> str                                  one line: what was done, as the report prints it
    def evaluate(given, config, seed: int) -> Result             `given`: Features or Encoded, as NEEDS says

A task with NEEDS = "encoder" that consists of trainings of their own may let a cluster run them at once:

    def parts(config) -> int                                     how many there are
    def part(given, config, seed: int, number: int) -> Result    one of them, a job of its own
    def gather(results, config) -> Result                        the finding, from the parts in their order

Nothing is chosen on the test split. Where a protocol of the peers does choose on it (`accuracy_community` of a
fine-tuning), the metric's name and the protocol's line say so, and nothing else depends on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from jepa3d import config
from jepa3d.problem import Problem
from jepa3d.seeds import derive


class Features(NamedTuple):
    """Frozen features of one data set, for tasks with NEEDS = "features"."""

    x_train: NDArray[np.float32]  # [n, F]
    y_train: NDArray[np.int64]  # [n]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    classes: tuple[str, ...]
    source: str = "features"  # the file they are from, for messages
    pool: str = "max_mean"  # how tokens were pooled: "max_mean" is concat(max, mean), F = 2D


class Encoded(NamedTuple):
    """A pretrained encoder and a labelled data set, for tasks with NEEDS = "encoder" (fine-tuning, segmentation).

    `predicted` of their Result, where there is one label per shape, is in the canonical file's order of test shapes.
    """

    encoder: Path  # encoder.safetensors of the run and seed
    canonical: Path  # the evaluation's data set: points, label, part, split, id
    patches: Path  # its patch indices
    scheme: config.Scheme  # of `patches`: the evaluation's own, else the run's
    model: config.Model  # the run's architecture
    run: config.Run  # the run's whole entry
    state: Path  # a folder for resume state; the stage removes it when the finding is written
    fingerprint: str = ""  # of the evaluation's settings, seed and inputs: a state of another one is never resumed


class Result(NamedTuple):
    """What an evaluation found: numbers for the tables, and the test predictions where there is one per shape."""

    metrics: dict[str, float]  # fractions in 0..1 for accuracies; the first one is the headline
    predicted: NDArray[np.int64] | None = None  # [n_test]
    notes: tuple[str, ...] = ()  # what a reader of the numbers must know, such as a metric that could not be had
    details: dict[str, Any] | None = None  # plain JSON for pictures: a training's curve, the folds' accuracies


def check(given: Features) -> None:
    """A Problem for features or labels that no classifier can use; what and how many are named."""
    sides = (("train", given.x_train, given.y_train), ("test", given.x_test, given.y_test))
    for split, x, y in sides:
        if len(y) == 0:
            raise Problem(
                f"{given.source}: no {split} shapes",
                "an evaluation trains on the train split and is scored on the test split",
                "choose a data set that has both",
            )
        if unlabelled := int((y < 0).sum()):
            raise Problem(
                f"{given.source}: {unlabelled} of {len(y)} {split} shapes have no label",
                "this evaluation compares predictions with labels",
                "evaluate on a labelled data set",
            )
        bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if len(bad):
            raise Problem(
                f"{given.source}: the features of {len(bad)} of {len(y)} {split} shapes are not finite",
                f"the first is {split} shape {bad[0]}; its encoder's weights or its points are damaged",
                "look at the run's curve for the step where the loss went astray, and train it again",
            )
    if len(np.unique(given.y_train)) < 2:
        raise Problem(
            f"{given.source}: a single class in the train split",
            "a classifier needs two classes at least",
            "evaluate on a data set with more classes",
        )


def holdout(labels: Int[np.ndarray, "n"], fraction: float, seed: int) -> Bool[np.ndarray, "n"]:
    """The validation part of a train split: of each class, `fraction` of its shapes, rounded down or up.

    A class of one shape may fall on either side. Nothing but the labels and the seed enters.
    """
    place = np.empty(len(labels))
    place[_shuffled_by_class(labels, derive(seed, "holdout"))] = np.arange(len(labels))
    chosen: NDArray[np.bool_] = np.floor((place + 1) * fraction) > np.floor(place * fraction)
    return chosen


def stratified_folds(labels: Int[np.ndarray, "n"], folds: int, seed: int) -> Int[np.ndarray, "n"]:
    """The fold of each shape, for cross-validation: sizes differ by at most one, overall and within each class."""
    fold = np.empty(len(labels), dtype=np.int64)
    fold[_shuffled_by_class(labels, derive(seed, "folds"))] = np.arange(len(labels)) % folds
    return fold


def _shuffled_by_class(labels: Int[np.ndarray, "n"], seed: int) -> Int[np.ndarray, "n"]:
    """An order of the shapes: class after class, random within each."""
    order = np.random.default_rng(seed).permutation(len(labels))
    ordered: NDArray[np.int64] = order[np.argsort(labels[order], kind="stable")]
    return ordered


def standardise(
    train: Float[np.ndarray, "n F"], *others: Float[np.ndarray, "_ F"]
) -> tuple[Float[np.ndarray, "_ F"], ...]:
    """Every feature to mean 0 and standard deviation 1 on `train`, in float64; `others` with the same numbers."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.astype(np.float64))
    return tuple(scaler.transform(x.astype(np.float64)) for x in (train, *others))
