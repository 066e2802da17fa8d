"""How sure a number is: intervals, paired differences of two runs, corrected p. Pure functions of values and seed.

Two things vary: what was trained (seeds) and what it is tested on (test shapes; where several test clouds are of one
object, the objects). Both enter every interval. Literature: Davison and Hinkley, Bootstrap Methods and their
Application, 1997 (cluster resampling, section 3.8); Holm, A simple sequentially rejective multiple test procedure,
1979.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from jepa3d.ops.score import mean_std
from jepa3d.seeds import derive

BLOCK = 1 << 22  # random numbers held at once
FEW = 128  # distinct values up to which it is counted how often each is drawn
LEVEL = 0.05  # a difference is told from none where its corrected p is below


class Interval(NamedTuple):
    """A mean over `n` seeds and the interval that holds the true one with 95 % confidence."""

    mean: float
    low: float
    high: float
    n: int


class Difference(NamedTuple):
    """How far two runs are apart, paired by seed and by test shape, with its 95 % interval.

    `p` is of the test that no difference is there, over seeds and objects alike; None with a single seed, whose spread
    is unknown. `p_shapes` is of the sign-flip test over the objects alone: it takes the trained encoders as they are
    and says nothing about another training; None where there are no scores of single shapes.
    """

    mean: float
    low: float
    high: float
    p: float | None
    p_shapes: float | None
    seeds: int
    shapes: int
    objects: int  # that the shapes are of; as many as shapes where each is an object of its own


class Scores(NamedTuple):
    """A difference of two runs as it was measured."""

    by_seed: Float[np.ndarray, "s"]
    by_shape: Float[np.ndarray, "n"]  # of each test shape, mean over the seeds; empty where a task has no such number
    objects: Shaped[np.ndarray, "n"] | None = None  # which object each test shape is of


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


def paired_difference(of: Scores, seed: int, draws: int = 10_000, against: float = 0.0) -> Difference:
    """`a` against `b`, pair by pair. `against`: the difference that p asks about.

    Raises ValueError where seeds and shapes disagree about their mean, as a pairing of other shapes would."""
    moved, count = _moved(of, seed, draws), len(of.by_shape)
    p_shapes = None
    if count:
        sums, _ = _by_object(of.by_shape, of.objects)
        count = len(sums)
        p_shapes = paired_p(sums, np.zeros(count), seed, draws)
    return _difference(of.by_seed, moved, against)._replace(p_shapes=p_shapes, shapes=len(of.by_shape), objects=count)


def difference_of_differences(
    first: Scores, second: Scores, seed: int, against: float = 0.0, draws: int = 10_000
) -> Difference:
    """By how much one difference is larger than another, of the same seeds and of other test shapes."""
    by_seed = first.by_seed - second.by_seed
    here, there = (
        _deviations(*_hashable(of.by_shape, of.objects), (), seed + number, draws)
        for number, of in enumerate((first, second))
    )
    moved = here - there + _deviations((), (), tuple(map(float, by_seed)), seed + 2, draws)
    counts = [len(of.by_shape) for of in (first, second)]
    objects = [len(_by_object(of.by_shape, of.objects)[0]) for of in (first, second)]
    return _difference(by_seed, moved, against)._replace(shapes=sum(counts), objects=sum(objects))


def _moved(of: Scores, seed: int, draws: int) -> Float[np.ndarray, "draws"]:
    mean, _ = mean_std(of.by_seed)
    if len(of.by_shape) and abs(float(np.mean(of.by_shape)) - mean) > 1e-4:  # single scores are stored rounded
        raise ValueError(f"the mean over the seeds is {mean:.6g}, over the shapes {np.mean(of.by_shape):.6g}")
    return _deviations(*_hashable(of.by_shape, of.objects), tuple(map(float, of.by_seed)), seed, draws)


def _difference(by_seed: Float[np.ndarray, "s"], moved: Float[np.ndarray, "draws"], against: float) -> Difference:
    mean, _ = mean_std(by_seed)
    low, high = np.quantile(moved, [0.025, 0.975])
    p = None
    if len(by_seed) > 1:
        as_large = (np.abs(moved) >= abs(mean - against) * (1 - 1e-12)).sum()
        p = float(as_large + 1) / (len(moved) + 1)
    return Difference(mean, mean + float(low), mean + float(high), p, None, len(by_seed), 0, 0)


def holm(values: Sequence[float]) -> list[float]:
    """Holm's corrected p, in the order given: the chance of any false finding among them stays below each.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none falls below one before it, none exceeds 1.
    """
    found, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        found[place] = least
    return found


def hierarchical_interval(
    by_shape: Float[np.ndarray, "n"],
    by_seed: Float[np.ndarray, "s"],
    seed: int,
    draws: int = 10_000,
    objects: Shaped[np.ndarray, "n"] | None = None,
) -> Interval:
    """The 95 % interval of a mean that varies with the test shapes and with the seeds, by a two-level bootstrap.

    `by_shape`: the mean over the seeds for each test shape (share of seeds that were right, mean IoU); empty where a
    task has no number per shape. `by_seed`: the score of each seed. `objects`: which object each test shape is of.
    Each draw adds two deviations: that of a resample of the objects, with replacement and with all their shapes, and
    that of the seeds. Two or three seeds resampled with replacement never leave their own range, so the seeds' level
    is the parametric bootstrap: Student's t with their mean and sample standard deviation, exact for normal seeds.
    What depends on both seed and shape is counted in either level, so the interval is never too narrow for it. A
    single seed has no known spread: then the interval is that of the shapes alone, and whoever reads it has to know.
    """
    values = tuple(map(float, by_seed))
    mean, _ = mean_std(values)
    low, high = np.quantile(_deviations(*_hashable(by_shape, objects), values, seed, draws), [0.025, 0.975])
    return Interval(mean, mean + float(low), mean + float(high), len(values))


def _hashable(
    by_shape: Float[np.ndarray, "n"], objects: Shaped[np.ndarray, "n"] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Sums and sizes of the objects."""
    sums, sizes = _by_object(by_shape, objects)
    return tuple(map(float, sums)), tuple(map(float, sizes))


def _by_object(
    by_shape: Float[np.ndarray, "n"], objects: Shaped[np.ndarray, "n"] | None
) -> tuple[Float[np.ndarray, "c"], Float[np.ndarray, "c"]]:
    """For each object the sum over its shapes, and their number."""
    values = np.asarray(by_shape, np.float64)
    if objects is None:
        return values, np.ones(len(values))
    _, place = np.unique(objects, return_inverse=True)
    return np.bincount(place, values), np.bincount(place).astype(np.float64)


@lru_cache(maxsize=4096)  # the report's tables, pictures and files ask for the same cells
def _deviations(
    sums: tuple[float, ...], sizes: tuple[float, ...], by_seed: tuple[float, ...], seed: int, draws: int
) -> Float[np.ndarray, "draws"]:
    """How far the mean may lie from the one that was measured: draws of both levels together."""
    random = np.random.default_rng(derive(seed, "hierarchical"))
    moved = np.zeros(draws)
    if sums:
        pairs, counts = np.unique(np.stack([sums, sizes], 1), axis=0, return_counts=True)
        pairs[:, 0] -= pairs[:, 1] * (pairs[:, 0] @ counts / (pairs[:, 1] @ counts))
        moved += resampled_means(pairs, counts, draws, random)
    std = mean_std(by_seed)[1] if len(by_seed) > 1 else 0.0
    if std > 0:
        moved += std / math.sqrt(len(by_seed)) * random.standard_t(len(by_seed) - 1, draws)
    moved.setflags(write=False)  # it is shared
    return moved


def resampled_means(
    pairs: Float[np.ndarray, "k 2"], counts: Int[np.ndarray, "k"], draws: int, random: np.random.Generator
) -> Float[np.ndarray, "draws"]:
    """Means of `draws` resamples, with replacement, of a sample that has `counts[i]` times the object `pairs[i]`.

    An object is (sum of its shapes' values, number of its shapes); the mean is over shapes. Where there are few
    distinct ones, how often each is drawn is multinomial: the same distribution as drawing object by object, in a time
    that grows with the number of distinct ones only (four, for right or wrong with three seeds).
    """
    total = int(counts.sum())
    means = np.empty(draws)
    rows = max(1, BLOCK // (len(pairs) if len(pairs) <= FEW else total))
    every = np.repeat(pairs, counts, axis=0)
    for start in range(0, draws, rows):
        now = min(rows, draws - start)
        if len(pairs) <= FEW:
            drawn = random.multinomial(total, counts / total, now)
            sums, sizes = (drawn @ np.ascontiguousarray(column) for column in pairs.T)
        else:
            picked = random.integers(0, total, (now, total), np.int32)
            sums, sizes = (column[picked].sum(1) for column in every.T)
        means[start : start + now] = sums / sizes
    return means


def binomial_std(share: float, shapes: int) -> float:
    """The standard deviation of a share because the test set is a sample of `shapes` shapes."""
    return math.sqrt(share * (1 - share) / shapes)
