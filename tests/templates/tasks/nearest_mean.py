"""The class whose mean feature is nearest."""

from __future__ import annotations

from typing import Literal

import numpy as np

from jepa3d.ops import score
from jepa3d.params import FrozenModel
from jepa3d.results.finding import PREDICTED, share
from jepa3d.tasks import Features, Needs, Result
from jepa3d.tasks._shared.given import check

NEEDS: Needs = "features"


class Config(FrozenModel):
    kind: Literal["nearest_mean"] = "nearest_mean"


def protocol(config: Config) -> str:
    return "the class whose mean train feature is nearest to the test feature, Euclidean, on frozen features"


def evaluate(given: Features, config: Config, seed: int) -> Result:
    check(given)
    labels = np.unique(given.y_train)
    means = np.stack([given.x_train[given.y_train == label].mean(0) for label in labels])
    predicted = labels[np.linalg.norm(given.x_test[:, None] - means, axis=2).argmin(1)]
    accuracy = score.accuracy(given.y_test, predicted)
    return Result({"accuracy": share(accuracy, shapes=len(predicted), per_shape=PREDICTED)}, predicted)
