"""benchmarks/audit.py: every metric of a small study, computed again with numpy and scikit-learn alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.slow
def test_every_metric_of_a_small_study_is_what_scikit_learn_says(tmp_path: Path, script: Callable[[str], ModuleType]):
    script("tests/test_same_numbers.py").made(tmp_path)
    module = script("benchmarks/audit.py")
    rows = list(module.audit(tmp_path))
    wrong = {(name, metric): (stored, again) for name, metric, stored, again in rows
             if again is not None and abs(stored - again) > module.TOLERANCE}  # fmt: skip
    assert wrong == {}
    frozen = [row for row in rows if row[0].split("/")[-1] in ("linear", "knn", "few_shot", "svm")]
    assert len(frozen) > 150
    assert {metric for _, metric, _, again in frozen if again is None} <= {"chosen_c", "chosen_c_ema"}
    path = next((tmp_path / "evals").glob("jepa/seed0/linear.json"))
    finding = json.loads(path.read_text(encoding="utf-8"))
    finding["metrics"]["accuracy"]["value"] += 0.01  # it can fail
    path.write_text(json.dumps(finding), encoding="utf-8")
    assert any(again is not None and abs(stored - again) > 0.005 for _, _, stored, again in module.audit(tmp_path))
