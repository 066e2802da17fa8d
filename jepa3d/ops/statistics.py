"""How sure a number is: intervals, paired tests and verdicts. Pure functions of values and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from jepa3d.ops.score import mean_std
from jepa3d.seeds import derive

BLOCK = 1 << 22  # random numbers held at once
Z = 1.959964  # of a normal distribution, 95 % lies within ± Z standard deviations

Word = Literal["reproduced", "above", "below", "inconclusive", "not run"]


class Interval(NamedTuple):
    """A mean over `n` seeds and the interval that holds the true one with 95 % confidence."""

    mean: float
    low: float
    high: float
    n: int


class Verdict(NamedTuple):
    """What our interval says about a published number. `low`..`high`: the values it would call the same."""

    word: Word
    low: float
    high: float
    why: str  # one sentence for the reader


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
    sums = np.zeros(draws)
    for size, count in zip(*np.unique(np.abs(difference), return_counts=True), strict=True):
        sums += size * (2 * random.binomial(count, 0.5, draws) - count)  # the signs of equal differences, all at once
    as_large = int((np.abs(sums) >= observed).sum())
    return (as_large + 1) / (draws + 1)  # the observed pattern is one of them


def paired_difference(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"], seed: int) -> dict[str, float]:
    """`a` against `b`, pair by pair: the mean difference, its sample std, 95 % bootstrap interval, sign-flip p."""
    difference: NDArray[np.float64] = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    mean, std = mean_std(difference)
    low, high = bootstrap_interval(difference, seed)
    return {"mean": mean, "std": std, "low": low, "high": high, "p": paired_p(a, b, seed)}


def hierarchical_interval(
    by_shape: Float[np.ndarray, "n"], by_seed: Float[np.ndarray, "s"], seed: int, draws: int = 10_000
) -> Interval:
    """The 95 % interval of a mean that varies with the test shapes and with the seeds, by a two-level bootstrap.

    `by_shape`: the mean over the seeds for each test shape (share of seeds that were right, mean IoU); empty where a
    task has no number per shape. `by_seed`: the score of each seed. Each draw adds two deviations: that of a resample
    of the shapes, with replacement, and that of the seeds. Two or three seeds resampled with replacement never leave
    their own range, so the seeds' level is the parametric bootstrap: Student's t with their mean and sample standard
    deviation, exact for normal seeds. A single seed has no known spread: then the interval is that of the shapes
    alone, and whoever reads it has to know.
    """
    return _two_level(tuple(map(float, by_shape)), tuple(map(float, by_seed)), seed, draws)


@lru_cache(maxsize=4096)  # the report's tables, pictures and files ask for the same cells
def _two_level(by_shape: tuple[float, ...], by_seed: tuple[float, ...], seed: int, draws: int) -> Interval:
    random = np.random.default_rng(derive(seed, "hierarchical"))
    mean, std = mean_std(by_seed)
    moved = np.zeros(draws)
    if len(by_shape):
        values, counts = np.unique(by_shape, return_counts=True)
        centred = values - values @ counts / len(by_shape)
        moved += resampled_means(centred, counts, draws, random)
    if len(by_seed) > 1 and std > 0:
        moved += std / math.sqrt(len(by_seed)) * random.standard_t(len(by_seed) - 1, draws)
    low, high = np.quantile(moved, [0.025, 0.975])
    return Interval(mean, mean + float(low), mean + float(high), len(by_seed))


def resampled_means(
    values: Float[np.ndarray, "k"], counts: Int[np.ndarray, "k"], draws: int, random: np.random.Generator
) -> Float[np.ndarray, "draws"]:
    """Means of `draws` resamples, with replacement, of a sample that has `counts[i]` times `values[i]`.

    How often each distinct value is drawn is multinomial: the same distribution as drawing shape by shape, in a time
    that grows with the number of distinct values only (four, for right or wrong with three seeds).
    """
    total = int(counts.sum())
    means = np.empty(draws)
    rows = max(1, BLOCK // len(values))
    for start in range(0, draws, rows):
        drawn = random.multinomial(total, counts / total, min(rows, draws - start))
        means[start : start + len(drawn)] = drawn @ values / total
    return means


def binomial_std(share: float, shapes: int) -> float:
    """The standard deviation of a share because the test set is a sample of `shapes` shapes."""
    return math.sqrt(share * (1 - share) / shapes)


def verdict(
    ours: Interval | None, published: float, spread: float, rivals: Mapping[str, float] | None = None
) -> Verdict:
    """Does our number agree with a published one? All in one unit.

    `spread` is the standard deviation that the published number would show if its authors did it again. Our interval
    is widened by it: each half-width h becomes sqrt(h^2 + (Z spread)^2); with a single seed of ours, whose own spread
    is unknown, by twice that variance. Then

    - `above` or `below`: the published number lies outside the widened interval;
    - `reproduced`: it lies inside, and the interval is narrow enough to say something: none of the `rivals` (numbers
      that the published one claims to differ from, such as the same network without pretraining) lies inside as well;
      where there are no rivals, the widened interval is no wider than twice what the published spread alone makes it;
    - `inconclusive`: it lies inside, but so does a rival, or the interval is too wide;
    - `not run`: there is nothing of ours.
    """
    if ours is None:
        return Verdict("not run", math.nan, math.nan, "No evaluation of this study measures it.")
    extra = (Z * spread) ** 2 * (2 if ours.n == 1 else 1)
    low = ours.mean - math.sqrt((ours.mean - ours.low) ** 2 + extra)
    high = ours.mean + math.sqrt((ours.high - ours.mean) ** 2 + extra)
    within = f"{low:.1f} to {high:.1f}"
    if published > high:
        return Verdict("below", low, high, f"{published:g} lies above all that agrees with ours, {within}.")
    if published < low:
        return Verdict("above", low, high, f"{published:g} lies below all that agrees with ours, {within}.")
    if rivals:
        inside = [f"{name} ({value:g})" for name, value in rivals.items() if low <= value <= high]
        if inside:
            return Verdict("inconclusive", low, high, f"{within} holds it, but {' and '.join(inside)} as well.")
        return Verdict("reproduced", low, high, f"{within} holds it, and not {' nor '.join(rivals)}.")
    if high - low > 4 * Z * spread:
        return Verdict("inconclusive", low, high, f"{within} holds it, but is too wide to say something.")
    return Verdict("reproduced", low, high, f"{within} holds it.")
