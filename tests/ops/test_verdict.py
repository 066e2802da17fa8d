"""Verdicts worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies

from jepa3d.ops.statistics import Interval
from jepa3d.ops.verdict import verdict

OURS = Interval(86.0, 85.0, 87.0, 3)  # half-width 1


@pytest.mark.parametrize(
    ("published", "spread", "rivals", "word"),
    [
        (86.8, 0.0, {"random_init": 77.2}, "reproduced"),  # 85 to 87 holds it
        (87.1, 0.0, {"random_init": 77.2}, "below"),
        (84.9, 0.0, {"random_init": 77.2}, "above"),
        (87.1, 0.5, {"random_init": 77.2}, "reproduced"),  # 1^2 + .98^2 = 1.4^2: 84.6 to 87.4
        (86.8, 0.0, {"M = 1": 84.6, "M = 2": 85.7}, "inconclusive"),  # 85.7 lies inside as well
        (86.8, 0.25, {}, "inconclusive"),  # half-width 1.11 > 2 * .49
        (86.8, 0.4, {}, "reproduced"),  # half-width 1.27 < 2 * .78
    ],
)
def test_verdicts_worked_by_hand(published: float, spread: float, rivals: dict[str, float], word: str):
    assert verdict(OURS, published, spread, rivals).word == word


def test_the_verdict_names_the_rival_that_it_cannot_tell_apart():
    found = verdict(OURS, 86.8, 0.0, {"M = 1": 84.6, "M = 2": 85.7})
    assert found.why == "85.0 to 87.0 holds it, but M = 2 (85.7) as well."


def test_a_single_seed_counts_the_spread_twice():
    """h^2 = 1 + 2 * (1.96 * .5)^2 = 2.92: 86 ± 1.71."""
    found = verdict(OURS._replace(n=1), 87.6, 0.5, {"random_init": 77.2})
    assert [found.low, found.high] == pytest.approx([84.29, 87.71], abs=0.005)
    assert found.word == "reproduced"
    assert verdict(OURS, 87.6, 0.5, {"random_init": 77.2}).word == "below"


def test_nothing_of_ours_is_not_run():
    assert verdict(None, 86.8, 0.6).word == "not run"


@given(
    mean=strategies.floats(50, 99), half=strategies.floats(0, 10), published=strategies.floats(50, 99),
    spread=strategies.floats(0, 3), rival=strategies.floats(50, 99),
)  # fmt: skip
def test_the_words_exclude_each_other_and_agree_with_the_interval(mean, half, published, spread, rival):
    found = verdict(Interval(mean, mean - half, mean + half, 3), published, spread, {"rival": rival})
    assert (found.word == "below") == (published > found.high)
    assert (found.word == "above") == (published < found.low)
    assert (found.word == "reproduced") <= (not found.low <= rival <= found.high)
    wider = verdict(Interval(mean, mean - half - 1, mean + half + 1, 3), published, spread, {"rival": rival})
    assert not (found.word == "inconclusive" and wider.word in ("above", "below", "reproduced"))
