"""Robustness: the frozen linear probe, fitted on clean shapes, scored on corrupted ones (`jepa3d.ops.corruptions`).

The probe is that of `linear_probe`: the same features, the same choice of C inside the train split. Only the test
shapes are corrupted, and their patches are made anew from the corrupted clouds by FPS and KNN, as a user's would be.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, PositiveFloat, PositiveInt

from jepa3d.ops import score
from jepa3d.ops.standardise import standardise
from jepa3d.params import FrozenModel
from jepa3d.problem import Problem
from jepa3d.results import finding
from jepa3d.results.finding import PREDICTED, Details, Metric, share
from jepa3d.seeds import derive
from jepa3d.tasks import Encoded, Features, Needs, Result
from jepa3d.tasks._shared.given import check, check_labels, labels_of
from jepa3d.tasks._shared.probe import choose_c, logistic_fits

NEEDS: Needs = "encoder"
BATCH = 64
Case = tuple[str, int]  # a corruption and its severity
Corruption = Literal["rotation", "jitter", "dropout", "occlusion", "clutter"]
CORRUPTIONS: tuple[Corruption, ...] = ("rotation", "jitter", "dropout", "occlusion", "clutter")


class Config(FrozenModel):
    """`shapes`: how many test shapes are corrupted, drawn evenly over the classes with the seed; null: all of them.

    `grid`, `validation` and `max_iter` are those of the linear probe.
    """

    kind: Literal["robustness"] = "robustness"
    corruptions: tuple[Corruption, ...] = Field(default=CORRUPTIONS, min_length=1)
    shapes: PositiveInt | None = None
    grid: tuple[PositiveFloat, ...] = Field(
        default=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0), min_length=1
    )
    validation: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    max_iter: Annotated[int, Field(ge=1)] = 1000


def protocol(config: Config) -> str:
    """One line for the report."""
    from jepa3d.ops.corruptions import LEVELS, UNITS

    told = "; ".join(
        f"{kind} {', '.join(f'{level:g}' for level in LEVELS[kind][1:])} ({UNITS[kind]})" for kind in config.corruptions
    )
    shapes = "all test shapes" if config.shapes is None else f"{config.shapes} test shapes, evenly over the classes"
    return (
        f"linear probe of the frozen encoder, C chosen inside the clean train split; {shapes} under {told}; no point "
        "is drawn twice, patches are made anew from what is there; accuracy_corrupted is the mean over all of these"
    )


def evaluate(given: Encoded, config: Config, seed: int) -> Result:
    """`accuracy_corrupted` over all corruptions and severities, `accuracy` of the same shapes clean, and each of them.

    Predictions are those on the clean shapes, where all test shapes are used.
    """
    from jepa3d.ops.corruptions import SEVERITIES

    labels = labels_of(given)
    check_labels(labels)
    train, test = (np.flatnonzero(labels.split == split) for split in ("train", "test"))
    chosen = test[subset(labels.label[test], config.shapes, seed)]
    y_train, y_test = labels.label[train], labels.label[chosen]
    cases: list[Case] = [(kind, severity) for kind in config.corruptions for severity in SEVERITIES[1:]]
    _check_points(given, cases)
    clean, features = _features(given, train, chosen, cases, seed)
    check(Features(clean[0], y_train, clean[1], y_test, labels.classes, str(given.encoder)))

    c = choose_c(clean[0], y_train, config.grid, config.validation, config.max_iter, seed)
    x_train, x_test, *corrupted = standardise(*clean, *features)
    [probe] = logistic_fits(x_train, y_train, [c], config.max_iter)
    predicted = probe.predict(x_test).astype(np.int64)
    accuracy = score.accuracy(y_test, predicted)
    found = {case: score.accuracy(y_test, probe.predict(x)) for case, x in zip(cases, corrupted, strict=True)}
    guess, whole = score.majority(y_train, y_test), len(chosen) == len(test)
    mean, clean_too = float(np.mean(list(found.values()))), PREDICTED if whole else None
    metrics = {
        "accuracy_corrupted": share(mean, chance=guess, shapes=len(chosen)),
        "accuracy": share(accuracy, chance=guess, shapes=len(chosen), per_shape=clean_too),
    }
    details = Details(corruptions=[_corruption(kind, accuracy, found) for kind in config.corruptions])
    for one in details.corruptions:
        metrics[one.kind] = share(float(np.mean(one.scores[1:])), chance=guess, shapes=len(chosen))
        metrics |= {
            f"{one.kind}_{severity}": share(value, chance=guess, shapes=len(chosen))
            for severity, value in enumerate(one.scores[1:], 1)
        }
    metrics |= {"majority": share(guess, encoder="none"), "chosen_c": Metric(math.log10(c), "log10")}
    notes = [] if int(probe.n_iter_[0]) < config.max_iter else ["the fit stopped before it had converged"]
    return Result(metrics, predicted if whole else None, tuple(notes), details)


def _corruption(kind: Corruption, clean: float, found: dict[Case, float]) -> finding.Corruption:
    """Accuracy against severity, clean first, and what the severities mean."""
    from jepa3d.ops.corruptions import LEVELS, SEVERITIES, UNITS

    scores = [clean, *(found[kind, severity] for severity in SEVERITIES[1:])]
    return finding.Corruption(kind=kind, unit=UNITS[kind], levels=LEVELS[kind], scores=scores)


def subset(labels: Int[np.ndarray, "n"], count: int | None, seed: int) -> Int[np.ndarray, "_"]:
    """`count` shapes, of each class as equal a number as it has; in the data set's order. None: all of them."""
    if count is None or count >= len(labels):
        return np.arange(len(labels))
    random = np.random.default_rng(derive(seed, "robustness", "shapes")).permutation(len(labels))
    turn = np.empty(len(labels), np.int64)  # the first of each class, then the second of each ...
    for label in np.unique(labels):
        own = random[labels[random] == label]
        turn[own] = np.arange(len(own))
    return np.sort(random[np.argsort(turn[random], kind="stable")][:count])


def _features(
    given: Encoded, train: Int[np.ndarray, "n"], test: Int[np.ndarray, "m"], cases: list[Case], seed: int
) -> tuple[list[Float[np.ndarray, "_ F"]], list[Float[np.ndarray, "m F"]]]:
    """Features of the clean train and test shapes, from the cached patches, and of the test shapes in each case."""
    import torch

    from jepa3d import pretrained
    from jepa3d.nets.patches import patchify
    from jepa3d.ops.corruptions import corrupt
    from jepa3d.ops.draws import shape_keys
    from jepa3d.progress import track
    from jepa3d.train.batches import Subset, open_shapes, to_device

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = pretrained.load(given.encoder).to(device)

    @torch.no_grad()
    def embed(rows: Int[np.ndarray, "n"], kind: str = "", severity: int = 0) -> Float[np.ndarray, "n F"]:
        source = open_shapes([Subset(given.canonical, given.patches, rows)], given.execution.memory)
        pieces = []
        for index in np.array_split(np.arange(len(rows)), -(-len(rows) // BATCH)):
            numbers = torch.from_numpy(rows[index])
            keys = shape_keys(derive(seed, "robustness"), torch.zeros_like(numbers), numbers).to(device)
            batch = to_device(source.rows(index), device, keys)
            patches = (
                patchify(corrupt(batch.points, keys, kind, severity), *given.scheme.levels) if kind else batch.patches()
            )
            pieces.append(loaded.pooled(patches).float().cpu().numpy())
        return np.concatenate(pieces)

    clean = [embed(train), embed(test)]
    return clean, [embed(test, *case) for case in track(cases, len(cases), "corrupted shapes")]


def _check_points(given: Encoded, cases: list[Case]) -> None:
    """A Problem where a corruption leaves too few points for the patches."""
    from jepa3d.ops.corruptions import LEVELS

    level, points = given.scheme.levels[0], given.scheme.points
    for kind, severity in cases:
        left = points - round(LEVELS[kind][severity] * points) if kind in ("dropout", "occlusion") else points
        if left < max(level.num, level.size):
            raise Problem(
                f"{given.patches}: {kind} at severity {severity} leaves {left} of {points} points",
                f"the scheme takes {level.num} patches of {level.size} points, and no point twice",
                f"leave '{kind}' out of the task's corruptions, or use a scheme with more points",
            )
