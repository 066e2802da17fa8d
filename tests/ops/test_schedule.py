"""Schedules: closed forms at the places that can be worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa3d.ops.schedule import cosine, warmup_cosine


def test_a_cosine_goes_from_start_to_end_through_the_middle():
    assert cosine(0.0, 0.996, 1.0) == 0.996
    assert cosine(0.5, 0.996, 1.0) == pytest.approx(0.998)
    assert cosine(1.0, 0.996, 1.0) == 1.0
    assert cosine(1 / 3, 0.0, 1.0) == pytest.approx(0.25)  # (1 - cos 60 degrees) / 2


def test_progress_beyond_the_ends_stays_at_the_ends():
    assert cosine(-1.0, 3.0, 4.0) == 3.0
    assert cosine(2.0, 3.0, 4.0) == 4.0


def test_the_learning_rate_rises_linearly_then_falls_along_a_cosine():
    rates = [warmup_cosine(step, 110, 2.0, warmup=10, final=1.0) for step in range(111)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10] == 2.0  # the peak follows the warm-up at once
    assert rates[60] == pytest.approx(1.5)  # half of the 100 steps after it
    assert rates[110] == 1.0


def test_without_warm_up_the_first_step_has_the_peak():
    assert warmup_cosine(0, 100, 5.0) == 5.0
    assert warmup_cosine(100, 100, 5.0) == 0.0


def test_a_warm_up_as_long_as_the_training_never_divides_by_zero():
    assert warmup_cosine(9, 10, 1.0, warmup=10) == 1.0


@given(st.integers(0, 999), st.integers(0, 999))
def test_the_rate_is_positive_and_never_above_the_peak(step: int, warmup: int):
    assert 0 < warmup_cosine(step, 1000, 0.3, warmup) <= 0.3
