"""Features on one scale: mean 0 and standard deviation 1 on some shapes, with a floor. Every probe uses this."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

FLOOR = 0.01  # of the median feature's deviation
ROUNDING = float(np.finfo(np.float32).eps)  # of a float32, as a fraction of its value


def standardise(
    train: Float[np.ndarray, "n F"], *others: Float[np.ndarray, "_ F"]
) -> tuple[Float[np.ndarray, "_ F"], ...]:
    """`train` with every feature at mean 0 and standard deviation 1, in float64; `others` with the same numbers.

    A feature that varies little is not stretched without limit: else a corruption, or a shape of another kind, would
    decide by it alone. The least deviation that is divided by is `FLOOR` of the median feature's. A feature that does
    not vary beyond the rounding of float32 (the largest radius of clouds in the unit sphere) is 0 everywhere.
    """
    known = train.astype(np.float64)
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    varies = deviation > ROUNDING * np.abs(known).max(axis=0)
    factor = np.zeros_like(deviation)
    if varies.any():
        factor[varies] = 1.0 / np.maximum(deviation[varies], FLOOR * np.median(deviation[varies]))
    scaled: tuple[NDArray[np.float64], ...] = tuple((x.astype(np.float64) - mean) * factor for x in (known, *others))
    return scaled
