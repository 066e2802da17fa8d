"""Divisions of a train split: a share of its labels, a held-out part, folds. Nothing but labels and seed enters."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray

from jepa3d.seeds import derive


def some_of_each(labels: Int[np.ndarray, "n"], fraction: float, seed: int) -> Bool[np.ndarray, "n"]:
    """Of each class `fraction` of its shapes, rounded, and at least one; a smaller fraction's are among a greater's."""
    order = _shuffled_by_class(labels, derive(seed, "labels"))
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        chosen[own[: max(1, round(fraction * len(own)))]] = True
    return chosen


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
