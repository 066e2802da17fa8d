"""k-NN: the vote of the nearest train shapes in feature space. Nothing is trained, nothing is chosen."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from jepa3d.ops import score
from jepa3d.ops.standardise import standardise
from jepa3d.params import FrozenModel
from jepa3d.problem import Problem
from jepa3d.results.finding import PREDICTED, share
from jepa3d.tasks import Features, Needs, Result
from jepa3d.tasks._shared.given import check

NEEDS: Needs = "features"


class Config(FrozenModel):
    """The first `k` is the headline. `standardise`: with the mean and deviation of the train split.

    `temperature`: a vote weighs exp(cosine / temperature), the customary form (Wu et al. 2018; .07); null: votes
    are equal.
    """

    kind: Literal["knn"] = "knn"
    k: tuple[PositiveInt, ...] = Field(default=(20, 1, 5), min_length=1)
    metric: Literal["cosine", "euclidean"] = "cosine"
    standardise: bool = True
    temperature: PositiveFloat | None = 0.07

    @model_validator(mode="after")
    def _weights(self) -> Self:
        if self.metric == "euclidean" and self.temperature is not None:
            raise ValueError("a temperature weighs cosines: with metric euclidean, write temperature: null")
        return self


def protocol(config: Config) -> str:
    """One line for the report."""
    features = "standardised" if config.standardise else "raw"
    votes = f"votes weighed by exp(cosine / {config.temperature:g})" if config.temperature else "equal votes"
    return f"k-NN, k = {', '.join(map(str, config.k))}, {config.metric} distance on frozen {features} features, {votes}"


def evaluate(given: Features, config: Config, seed: int) -> Result:
    """Accuracy of each k; `accuracy` and the predictions are those of the first. No randomness: `seed` is not used."""
    check(given)
    if max(config.k) > len(given.y_train):
        raise Problem(
            f"{given.source}: k = {max(config.k)} neighbours, but {len(given.y_train)} train shapes",
            "each test shape asks its k nearest train shapes",
            "leave the larger k out of the task's 'k'",
        )
    x_train, x_test = standardise(given.x_train, given.x_test) if config.standardise else (given.x_train, given.x_test)
    distances, found = neighbours(x_train, x_test, max(config.k), config.metric)
    labels = given.y_train[found]
    weights = np.exp(-distances / config.temperature) if config.temperature else np.ones_like(distances)
    predicted = {k: vote(labels[:, :k], weights[:, :k]) for k in config.k}
    accuracies = {k: score.accuracy(given.y_test, found) for k, found in predicted.items()}
    first, guess = config.k[0], score.majority(given.y_train, given.y_test)
    metrics = {
        "accuracy": share(accuracies[first], chance=guess, shapes=len(given.y_test), per_shape=PREDICTED),
        **{
            f"accuracy_k{k}": share(value, chance=guess, shapes=len(given.y_test))
            for k, value in sorted(accuracies.items())
        },
        "balanced_accuracy": share(score.mean_class_accuracy(given.y_test, predicted[first])),
        "majority": share(guess, encoder="none"),
    }
    return Result(metrics, predicted[first])


def neighbours(
    train: Float[np.ndarray, "n F"], test: Float[np.ndarray, "m F"], k: int, metric: str
) -> tuple[Float[np.ndarray, "m k"], Int[np.ndarray, "m k"]]:
    """Distances (cosine: 1 - cosine) and indices of the k nearest of `train` for each of `test`, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(train)
    found: tuple[NDArray[np.float64], NDArray[np.int64]] = search.kneighbors(test)
    return found


def vote(labels: Int[np.ndarray, "m k"], weights: Float[np.ndarray, "m k"]) -> Int[np.ndarray, "m"]:
    """The label of the greatest weight in each row; of equal ones, the one that comes first (the nearest)."""
    same = labels[:, :, None] == labels[:, None, :]
    total = (same * weights[:, None, :]).sum(axis=2)
    winner: NDArray[np.int64] = np.take_along_axis(labels, total.argmax(axis=1)[:, None], axis=1)[:, 0]
    return winner
