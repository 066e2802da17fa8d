"""Linear probe: logistic regression on frozen features, its regularisation chosen inside the train split."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from jepa3d.ops import score
from jepa3d.ops.standardise import standardise
from jepa3d.params import FrozenModel
from jepa3d.results.finding import PREDICTED, Metric, share
from jepa3d.tasks import Features, Needs, Result
from jepa3d.tasks._shared.given import check
from jepa3d.tasks._shared.probe import choose_c, logistic_fits

NEEDS: Needs = "features"


class Config(FrozenModel):
    """`grid`: the inverse regularisations C that are tried, on the `validation` part of the train split."""

    kind: Literal["linear_probe"] = "linear_probe"
    grid: tuple[PositiveFloat, ...] = Field(
        default=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0), min_length=1
    )
    validation: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    max_iter: Annotated[int, Field(ge=1)] = 1000


def protocol(config: Config) -> str:
    """One line for the report."""
    grid = ", ".join(f"{c:g}" for c in config.grid)
    return (
        f"logistic regression on frozen, standardised features; C from {{{grid}}} by likelihood on a stratified "
        f"{config.validation:.0%} of the train split, then fitted on all of it; the test split is scored once"
    )


def evaluate(given: Features, config: Config, seed: int) -> Result:
    """Accuracy and balanced accuracy (mean over classes), beside chance; `chosen_c` is log10 of C."""
    check(given)
    c = choose_c(given.x_train, given.y_train, config.grid, config.validation, config.max_iter, seed)
    x_train, x_test = standardise(given.x_train, given.x_test)
    [probe] = logistic_fits(x_train, given.y_train, [c], config.max_iter)
    predicted = probe.predict(x_test).astype(np.int64)
    converged = int(probe.n_iter_[0]) < config.max_iter
    accuracy, guess = score.accuracy(given.y_test, predicted), score.majority(given.y_train, given.y_test)
    metrics = {
        "accuracy": share(accuracy, chance=guess, shapes=len(predicted), per_shape=PREDICTED),
        "balanced_accuracy": share(score.mean_class_accuracy(given.y_test, predicted)),
        "majority": share(guess, encoder="none"),
        "train_accuracy": share(score.accuracy(given.y_train, probe.predict(x_train))),
        "chosen_c": Metric(math.log10(c), "log10"),
    }
    notes = [] if converged else [f"the fit stopped at max_iter {config.max_iter} before it had converged"]
    if len(config.grid) > 1 and c in (min(config.grid), max(config.grid)):
        notes.append(f"the chosen C {c:g} is at the edge of the grid")
    return Result(metrics, predicted, tuple(notes))
