"""What our interval says about a published number. Pure functions; see docs/verdicts.md for what they lead to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from jepa3d.ops.statistics import Interval

Z = 1.959964  # of a normal distribution, 95 % lies within ± Z standard deviations

Word = Literal["reproduced", "above", "below", "inconclusive", "not run"]


class Verdict(NamedTuple):
    """What our interval says about a published number. `low`..`high`: the values it would call the same."""

    word: Word
    low: float
    high: float
    why: str  # one sentence for the reader


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
