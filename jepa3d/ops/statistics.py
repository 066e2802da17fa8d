"""How sure a number is: intervals and paired tests over shapes, folds or seeds. Pure functions of values and seed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from jepa3d.ops.score import mean_std
from jepa3d.seeds import derive

BLOCK = 1 << 22  # random numbers held at once


def bootstrap_interval(
    values: Float[np.ndarray, "n"], seed: int, draws: int = 10_000, level: float = 0.95
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of `values`, resampled with replacement.

    `values`: one number a shape (right 1, wrong 0: the interval of an accuracy), a fold or a seed.
    """
    values = np.asarray(values, dtype=np.float64)
    random = np.random.default_rng(derive(seed, "bootstrap"))
    means = []
    rows = max(1, BLOCK // len(values))
    for start in range(0, draws, rows):
        picked = random.integers(0, len(values), (min(rows, draws - start), len(values)))
        means.append(values[picked].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_p(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"], seed: int, draws: int = 10_000) -> float:
    """Two-sided p of the sign-flip test: could `a - b`, pair by pair, as well have had the other signs?

    Pairs are shapes (right or wrong under two methods), folds, or seeds. Pairs without a difference say nothing and
    are passed over. Up to 2^12 sign patterns are all tried (exact, so n seeds cannot give less than 2^(1-n));
    beyond that, `draws` random ones.
    """
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    difference = difference[difference != 0]
    n = len(difference)
    observed = abs(difference.sum()) * (1 - 1e-12)  # sums in another order may differ in the last digit
    if n <= 12:
        patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float(np.mean(np.abs((2 * patterns - 1) @ difference) >= observed))
    random = np.random.default_rng(derive(seed, "paired"))
    as_large = 0
    rows = max(1, BLOCK // n)
    for start in range(0, draws, rows):
        signs = 2 * random.integers(0, 2, (min(rows, draws - start), n)) - 1
        as_large += int((np.abs(signs @ difference) >= observed).sum())
    return (as_large + 1) / (draws + 1)  # the observed pattern is one of them


def paired_difference(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"], seed: int) -> dict[str, float]:
    """`a` against `b`, pair by pair: the mean difference, its sample std, 95 % bootstrap interval, sign-flip p."""
    difference: NDArray[np.float64] = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    mean, std = mean_std(difference)
    low, high = bootstrap_interval(difference, seed)
    return {"mean": mean, "std": std, "low": low, "high": high, "p": paired_p(a, b, seed)}
