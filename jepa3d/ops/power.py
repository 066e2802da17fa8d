"""How many seeds a comparison needs: the power of a paired test of two runs. Pure functions; points of percent.

The difference of two runs over n seeds has two variances: 2 s^2 / n of the trainings, which more seeds reduce, and that
of the test shapes, which they do not. On the same test shapes, and for a statement about these alone, the second is
zero and the test is Student's paired one (exact); else its degrees of freedom are those of Welch and Satterthwaite.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
from scipy.stats import chi2, norm
from scipy.stats import t as student

GRID = (np.arange(2000) + 0.5) / 2000  # quantiles at which the measured variance of the trainings is looked at


def power(difference: float, seeds: int, training_std: float, sampling_std: float = 0.0, level: float = 0.05) -> float:
    """The chance that a two-sided test at `level` finds a true `difference`.

    `training_std`: of one run's score from seed to seed; `sampling_std`: of the difference, because the test shapes
    are a sample. Nothing can be found with a single seed.
    """
    if seeds < 2:
        return 0.0
    freedom = seeds - 1
    training = 2 * training_std**2 / seeds
    measured = training * chi2.ppf(GRID, freedom) / freedom
    total = measured + sampling_std**2
    least = student.ppf(1 - level / 2, total**2 / (measured**2 / freedom)) * np.sqrt(total)
    true = math.sqrt(training + sampling_std**2)
    return float(np.mean(norm.cdf((difference - least) / true) + norm.cdf((-difference - least) / true)))


def seeds_needed(
    difference: float, training_std: float, sampling_std: float = 0.0, wanted: float = 0.8, most: int = 100
) -> int | None:
    """The fewest seeds with which a true difference is found with the chance `wanted`; None: not with `most`."""
    counts = range(2, most + 1)
    place = bisect_left(counts, wanted, key=lambda seeds: power(difference, seeds, training_std, sampling_std))
    return counts[place] if place < len(counts) else None


def disagreement_std(share: float, shapes: int, objects: int | None = None, alike: float = 0.5) -> float:
    """The standard deviation of the difference of two accuracies, in points, because the test shapes are a sample.

    `share`: of the test shapes that one of the two has right and the other wrong. See `design_effect` for the rest.
    """
    return 100 * math.sqrt(share * design_effect(shapes, objects, alike) / shapes)


def design_effect(shapes: int, objects: int | None, alike: float) -> float:
    """By how much the variance of a mean over test shapes grows because several are of one object.

    1 + (m - 1) rho for m shapes of each object (Kish, Survey Sampling, 1965); `alike`: rho, the correlation within
    an object: 0 where its shapes have nothing in common, 1 where they are right or wrong together.
    """
    return 1 + (shapes / objects - 1) * alike if objects else 1.0
