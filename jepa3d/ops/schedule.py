"""Schedules as pure functions of progress: a resumed run rewinds nothing."""

from __future__ import annotations

import math


def cosine(progress: float, start: float, end: float) -> float:
    """From `start` at progress 0 to `end` at 1 along half a cosine: the EMA momentum of section 4.3."""
    progress = min(max(progress, 0.0), 1.0)
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


def line(progress: float, start: float, end: float) -> float:
    """From `start` at progress 0 to `end` at 1 along a straight line."""
    return start + (end - start) * min(max(progress, 0.0), 1.0)


def warmup_cosine(step: int, total: int, peak: float, warmup: int = 0, final: float = 0.0) -> float:
    """The learning rate of section 7: linear over the first `warmup` steps, then a cosine from `peak` to `final`.

    Step 0 of a warm-up already moves (peak / warmup); the last step is just above `final`.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return cosine((step - warmup) / max(1, total - warmup), peak, final)
