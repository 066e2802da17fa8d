"""What a task is given, looked at before any work: labels that can be learned, features that are finite."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from jepa3d.problem import Problem
from jepa3d.results import opened, store
from jepa3d.tasks import Encoded, Features


class Labels(NamedTuple):
    """What a canonical file says of its shapes, for tasks that train the encoder on."""

    label: NDArray[np.int64]  # [n]
    split: NDArray[np.str_]  # [n]
    id: NDArray[np.str_]  # [n]
    classes: tuple[str, ...]
    source: str

    @property
    def class_count(self) -> int:
        """How many classes a classifier has to tell apart."""
        return max(len(self.classes), int(self.label.max(initial=-1)) + 1)


def labels_of(given: Encoded) -> Labels:
    with opened.canonical(given.canonical) as file:
        classes = tuple(store.attributes(file)["classes"])
        label, split, ids = file["label"][:].astype(np.int64), opened.splits(file["split"]), store.text(file["id"])
    return Labels(label, split, ids, classes, str(given.canonical))


def check_labels(labels: Labels) -> None:
    """A Problem for labels that no training can use, a class of the test split that is missing from train included."""
    train, test = (labels.label[labels.split == split] for split in ("train", "test"))
    _check_splits(labels.source, train, test)
    absent = np.setdiff1d(test, train)
    if len(absent):
        name = labels.classes[absent[0]] if absent[0] < len(labels.classes) else absent[0]
        raise Problem(
            f"{labels.source}: class '{name}' is missing from the train split",
            f"{int((test == absent[0]).sum())} test shapes are of it, and nothing could learn it",
            "evaluate on a data set whose train split has every class",
        )


def check(given: Features) -> None:
    """A Problem for features or labels that no classifier can use; what and how many are named."""
    _check_splits(given.source, given.y_train, given.y_test)
    for split, x in (("train", given.x_train), ("test", given.x_test)):
        bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if len(bad):
            raise Problem(
                f"{given.source}: the features of {len(bad)} of {len(x)} {split} shapes are not finite",
                f"the first is {split} shape {bad[0]}; its encoder's weights or its points are damaged",
                "look at the run's curve for the step where the loss went astray, and train it again",
            )


def _check_splits(source: str, train: Int[np.ndarray, "n"], test: Int[np.ndarray, "m"]) -> None:
    """Both splits have shapes, all of them labels, and train has two classes at least."""
    for split, y in (("train", train), ("test", test)):
        if len(y) == 0:
            raise Problem(
                f"{source}: no {split} shapes",
                "an evaluation trains on the train split and is scored on the test split",
                "choose a data set that has both",
            )
        if unlabelled := int((y < 0).sum()):
            raise Problem(
                f"{source}: {unlabelled} of {len(y)} {split} shapes have no label",
                "this evaluation compares predictions with labels",
                "evaluate on a labelled data set",
            )
    if len(np.unique(train)) < 2:
        raise Problem(
            f"{source}: a single class in the train split",
            "a classifier needs two classes at least",
            "evaluate on a data set with more classes",
        )
