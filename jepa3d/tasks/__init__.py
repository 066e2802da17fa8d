"""Evaluations: one file each, found by its name.

The contract of `tasks/<kind>.py` (everything at the top must import without torch and scikit-learn, which are
imported inside the functions: the Snakefile reads the Configs):

    NEEDS = "features" | "encoder"
    class Config(FrozenModel)                                    its `task:` entry in params.yaml; has `kind`
    def evaluate(given: Features, config, seed: int) -> Result

The test split is scored once, at the end; nothing is chosen on it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Features(NamedTuple):
    """Frozen features of one data set, for tasks with NEEDS = "features"."""

    x_train: NDArray[np.float32]  # [n, F]
    y_train: NDArray[np.int64]  # [n]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    classes: tuple[str, ...]


class Result(NamedTuple):
    """What an evaluation found: numbers for the tables, and the test predictions where there is one per shape."""

    metrics: dict[str, float]  # fractions in 0..1 for accuracies; the first one is the headline
    predicted: NDArray[np.int64] | None = None  # [n_test]
