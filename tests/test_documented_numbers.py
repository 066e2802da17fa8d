"""The tables of README.md and docs/ are those of the committed numbers, written by `docs/tables.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PAGE = """before
<!-- table
study: small
rows: {a: ours, a ema: "ours, EMA", b: theirs, chance: guess}
columns: {probe accuracy: probe, probe accuracy_k1: 1-NN, tuned accuracy: tuned}
-->
| whatever stood here |
<!-- end of table -->
after
"""
FILLED = """|  | probe | 1-NN | tuned |
| --- | --- | --- | --- |
| ours | **80.0 ± 1.0** | 70.0 | 60.0 (one seed) |
| ours, EMA | 79.0 ± 2.0 |  |  |
| theirs | 75.0 |  |  |
| guess | 5.0 | 5.0 |  |
"""


def spread(mean: float, std: float, n: int) -> dict[str, Any]:
    return {"mean": mean, "std": std, "n": n}


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Callable[[str], ModuleType]) -> ModuleType:
    """docs/tables.py in a folder with one page and one finished study."""
    module = script("docs/tables.py")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "PAGES", [tmp_path / "README.md"])
    (tmp_path / "README.md").write_text(PAGE)
    report = tmp_path / "results" / "studies" / "small"
    (report / "plots").mkdir(parents=True)
    metrics = {
        "a": {
            "probe": {"accuracy": spread(0.8, 0.01, 3), "accuracy_k1": spread(0.7, 0.0, 3),
                      "accuracy_ema": spread(0.79, 0.02, 3), "majority": spread(0.05, 0.0, 3)},
            "tuned": {"accuracy": spread(0.6, 0.0, 1)},
        },
        "b": {"probe": {"accuracy": spread(0.75, 0.0, 3)}},
    }  # fmt: skip
    (report / "metrics.json").write_text(json.dumps(metrics))
    paired(report / "plots" / "paired.csv", "0.01")
    return module


def paired(path: Path, p: str) -> None:
    path.write_text(f"evaluation,a,b,difference,p_corrected\nprobe,a,b,0.05,{p}\nprobe,a,c,0.1,\ntuned,a,b,0.1,\n")


def test_the_pages_are_what_the_command_would_write(script: Callable[[str], ModuleType]):
    assert script("docs/tables.py").main(["--check"]) == 0, "python docs/tables.py"


def test_a_table_is_filled_with_the_numbers_of_a_kept_study(tables: ModuleType, tmp_path: Path):
    assert tables.main(["--keep", "small"]) == 0
    page = (tmp_path / "README.md").read_text()
    assert FILLED in page
    assert page.startswith("before\n<!-- table\nstudy: small")
    assert page.endswith("<!-- end of table -->\nafter\n")
    assert tables.main(["--check"]) == 0


def test_nothing_is_bold_where_the_paired_test_does_not_decide(tables: ModuleType, tmp_path: Path):
    paired(tmp_path / "results" / "studies" / "small" / "plots" / "paired.csv", "0.051")
    tables.main(["--keep", "small"])
    assert "**" not in (tmp_path / "README.md").read_text()


def test_a_number_that_was_typed_by_hand_is_found(tables: ModuleType, tmp_path: Path):
    tables.main(["--keep", "small"])
    page = tmp_path / "README.md"
    page.write_text(page.read_text().replace("75.0", "74.0"))
    assert tables.main(["--check"]) == 1
    assert "74.0" in page.read_text()  # --check only says so


def test_other_words_are_explained(tables: ModuleType):
    assert tables.main(["--keeep"]) == 2
