"""Evaluations: one file each, found by its name.

The contract of `tasks/<kind>.py` (everything at the top must import without torch and scikit-learn, which are
imported inside the functions: the Snakefile reads the Configs):

    NEEDS = "features" | "encoder"
    class Config(FrozenModel)                                    its `task:` entry in params.yaml; has `kind`
    def protocol(config) -> str                                  one line: what was done, as the report prints it
    def evaluate(given, config, seed: int) -> Result             `given`: Features or Encoded, as NEEDS says
    def unfit(config, model: Model) -> str | None                may be left out: why an encoder cannot be evaluated so

A task with NEEDS = "encoder" that consists of trainings of their own may let a cluster run them at once:

    def parts(config) -> int                                     how many there are
    def part(given, config, seed: int, number: int) -> Result    one of them, a job of its own
    def gather(results, config) -> Result                        the finding, from the parts in their order

One that trains in one go may be given to several ranks: each calls `evaluate` with the ranks that it works with as
`given.world`, and what the first returns counts.

Nothing is chosen on the test split. Where a protocol of the peers does choose on it (`accuracy_community` of a
fine-tuning), the metric's name and the protocol's line say so, and nothing else depends on it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from jepa3d.params import Augment, Model, Run, Scheme, Tune
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.seeds import derive

if TYPE_CHECKING:
    from jepa3d.train.distributed import World


class Features(NamedTuple):
    """Frozen features of one data set, for tasks with NEEDS = "features"."""

    x_train: NDArray[np.float32]  # [n, F]
    y_train: NDArray[np.int64]  # [n]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    classes: tuple[str, ...]
    source: str = "features"  # the file they are from, for messages
    pool: str = "max_mean"  # how tokens were pooled: "max_mean" is concat(max, mean), F = 2D
    id_train: NDArray[np.str_] | None = None  # [n]
    id_test: NDArray[np.str_] | None = None


class Encoded(NamedTuple):
    """A pretrained encoder and a labelled data set, for tasks with NEEDS = "encoder" (fine-tuning, segmentation).

    `predicted` of their Result, where there is one label per shape, is in the canonical file's order of test shapes.
    """

    encoder: Path  # encoder.safetensors of the run and seed
    canonical: Path  # the evaluation's data set: points, label, part, split, id
    patches: Path  # its patch indices
    scheme: Scheme  # of `patches`: the evaluation's own, else the run's
    model: Model  # the run's architecture
    run: Run  # the run's whole entry
    state: Path  # a folder for resume state; the stage removes it when the finding is written
    fingerprint: str = ""  # of the evaluation's settings, seed and inputs: a state of another one is never resumed
    world: World | None = None  # the ranks that share the work; None: there is only this one


class Result(NamedTuple):
    """What an evaluation found: numbers for the tables, and the test predictions where there is one per shape."""

    metrics: dict[str, float]  # fractions in 0..1 for accuracies; the first one is the headline
    predicted: NDArray[np.int64] | None = None  # [n_test]
    notes: tuple[str, ...] = ()  # what a reader of the numbers must know, such as a metric that could not be had
    details: dict[str, Any] | None = None  # plain JSON for pictures: a training's curve, the folds' accuracies


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
    with store.open_h5(given.canonical) as file:
        classes = tuple(store.attributes(file)["classes"])
        label, split, ids = file["label"][:].astype(np.int64), store.text(file["split"]), store.text(file["id"])
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


def standardise(
    train: Float[np.ndarray, "n F"], *others: Float[np.ndarray, "_ F"]
) -> tuple[Float[np.ndarray, "_ F"], ...]:
    """Every feature to mean 0 and standard deviation 1 on `train`, in float64; `others` with the same numbers."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.astype(np.float64))
    return tuple(scaler.transform(x.astype(np.float64)) for x in (train, *others))


def cannot_be_tuned(settings: Tune, model: Model) -> str | None:
    """Why an encoder cannot be trained on with a head of its own; None: it can."""
    if not model.layers:
        return "its features are computed, not learned; fine-tuning needs weights"
    if settings.pool not in model.pools:
        return f"it cannot pool by {settings.pool}, but by {', '.join(model.pools)}"
    return None


def tuned_by(settings: Tune) -> str:
    """How an encoder was trained on, for a protocol's line."""
    fit, encoder = settings.fit, "EMA encoder" if settings.which == "target" else "encoder"
    layers = "-".join(map(str, settings.hidden))
    decay = f", layer decay {settings.layer_decay:g}" if settings.layer_decay < 1.0 else ""
    length = f"{fit.steps} steps" if fit.steps is not None else f"{fit.epochs} epochs"
    warmup = f"{fit.warmup_steps} steps" if fit.warmup_steps else f"{fit.warmup_epochs or 0:g} epochs"
    return (
        f"{encoder}, head on {settings.pool} of the patch tokens ({layers + '-' if layers else 'linear, '}classes"
        f"{f', dropout {settings.dropout:g}' if layers else ''}); AdamW {fit.lr:g}, pretrained parameters at "
        f"{settings.encoder_lr_scale:g} of it{decay}, weight decay {fit.weight_decay:g}, {length} of batch "
        f"{fit.batch}, warm-up {warmup}, cosine, clip {fit.clip or 'none'}; drop path {settings.drop_path:g}, label "
        f"smoothing {settings.smoothing:g}; augmentation: {augmented_by(settings.augment)}"
    )


def augmented_by(augment: Augment) -> str:
    """An augmentation in words, for a protocol's line."""
    said = []
    if augment.scale is not None:
        said.append(f"scale {augment.scale[0]:g} to {augment.scale[1]:g}{' per axis' * augment.scale_per_axis}")
    if augment.rotate != "none":
        said.append({"upright": "rotation about y", "so3": "any rotation"}[augment.rotate])
    if augment.shift:
        said.append(f"shift {augment.shift:g}")
    if augment.jitter is not None:
        said.append(f"jitter {augment.jitter.std:g}")
    return ", ".join(said) or "none"


def choose_c(
    x: Float[np.ndarray, "n F"],
    y: Int[np.ndarray, "n"],
    grid: Sequence[float],
    validation: float,
    max_iter: int,
    seed: int,
) -> float:
    """The logistic regression's C with the greatest likelihood of a held-out part; of equals, the smallest.

    Likelihood and not accuracy: on a hundred held-out shapes, accuracy picks C almost by chance.
    """
    grid = sorted(grid)
    held = holdout(y, validation, seed)
    held &= np.isin(y, y[~held])  # a class with no shape left to fit has no likelihood
    if len(grid) == 1 or not held.any() or len(np.unique(y[~held])) < 2:
        return grid[len(grid) // 2]
    fit, held_x = standardise(x[~held], x[held])
    losses = []
    for probe in logistic_fits(fit, y[~held], grid, max_iter):
        right = np.searchsorted(probe.classes_, y[held])
        losses.append(-probe.predict_log_proba(held_x)[np.arange(len(right)), right].mean())
    return grid[int(np.argmin(losses))]


def logistic_fits(
    x: Float[np.ndarray, "n F"], y: Int[np.ndarray, "n"], grid: Sequence[float], max_iter: int
) -> Iterator[Any]:
    """The fitted probe for each C of an increasing grid; each starts where the last ended, which is many times faster.

    It is one object that is refitted: use it before asking for the next.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    probe = LogisticRegression(solver="lbfgs", max_iter=max_iter, warm_start=True)
    for c in grid:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.set_params(C=c).fit(x, y)
        yield probe
