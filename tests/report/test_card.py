"""Sentences of the model card."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from jepa3d.params import Fit, Params
from jepa3d.report import card
from jepa3d.report.study import Training


@pytest.mark.parametrize(
    ("threads", "said"),
    [([1], "3.0 minutes on cpu with 1 thread,"), ([2], "with 2 threads,"), ([1, 2], "with 1, 2 threads, mean of 2.")],
)
def test_what_a_seed_cost_is_said_with_its_threads(threads: list[int], said: str):
    trainings = {seed: Training([], {"seconds": 180, "threads": n, "device": "cpu"}) for seed, n in enumerate(threads)}
    study: Any = SimpleNamespace(trainings={"jepa": trainings})
    run: Any = SimpleNamespace(fit=Fit(steps=1500, batch=32, lr=1e-3))
    first, second = card.training(cast(Params, None), study, "jepa", run)
    assert first == (
        "1,500 steps of batch 32, AdamW, learning rate 0.001, weight decay 0.05; "
        + ("1 seed." if len(threads) == 1 else "2 seeds.")
    )
    assert said in second
