"""docs/verdicts.md and docs/claims.md are written by `make docs` from code and data, and are of today's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from jepa3d.report import claims, ledger
from jepa3d.report.grid import csv_file
from jepa3d.report.published import DOCUMENT

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def judge(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("docs/judge.py")


def test_the_pages_are_what_make_docs_would_write(judge: ModuleType):
    pages = judge.drawn()
    assert {path.name for path in pages} == {"verdicts.md", "claims.md", "README.md", "results.md"}
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, "make docs"


def test_the_table_of_steps_says_what_the_report_would(judge: ModuleType):
    """Three seeds of s.d. .3: ± .745 by Student's t, with .588 of the published number in squares ± .949, so 86.8 lies
    inside from 85.851 on, and Point-MAE's 85.2 outside from 86.149 on."""
    row = judge.claimed("pb_t50_rs", DOCUMENT)
    words = {mean: judge.word(row, mean, 3) for mean in (85.84, 85.86, 86.14, 86.16, 87.74, 87.76)}
    assert list(words.values()) == ["below", *["inconclusive"] * 2, *["reproduced"] * 2, "above"]


def test_every_number_of_ours_has_a_line(judge: ModuleType):
    assert len(judge.ranges().splitlines()) == 2 + len(judge.ours()) >= 9


ROWS = [
    ["pretraining", "supported", "linear", "jepa", "random_init", "23.6", "20", "27", "0", "0.01", "0", "3", "9", "1"],
    ["handcrafted", "not decided", "linear", "jepa", "plain", "2.2", "", "", "0", "", "", "1", "9", "1"],
    ["handcrafted", "not decided", "knn", "jepa", "plain", "1.4", "", "", "0", "", "", "1", "9", "0"],
    ["labels", "not run", *[""] * 12],
]  # fmt: skip


@pytest.fixture
def kept(judge: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the ledger of one finished study."""
    monkeypatch.setattr(judge, "ROOT", tmp_path)
    path = tmp_path / "docs" / "results" / "small" / "claims.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(csv_file([ledger.COLUMNS, *ROWS]))
    return path


def test_every_claim_has_a_section_and_its_committed_evidence(judge: ModuleType, kept: Path):
    found = judge.ledger()
    assert all(f"## {claim.title}" in found for claim in claims.CLAIMS)
    assert "| Pretraining without labels beats handcrafted features | this project's demo | not decided |" in found
    said = "jepa − random_init on linear: +23.6 points (95 %: +20.0 to +27.0, p = 0.01; 3 seeds, 9 test shapes)"
    assert f"- found by `study: small`: {said}" in found
    assert "jepa − plain on knn: +1.4 points with one seed, which decides nothing; shown, does not decide" in found
    kept.unlink()
    assert "study: small" not in judge.ledger()


def test_readme_says_of_each_tested_claim_what_was_found(judge: ModuleType, kept: Path):
    page = "before\n<!-- claims of small -->\nwhatever\n<!-- end of claims -->\nafter"
    found = judge.filled(page).splitlines()
    assert found[2].startswith("- **supported**: Pretraining without labels beats random weights. jepa − random_init")
    assert found[3].startswith("- **not decided**: Pretraining without labels beats handcrafted features. jepa")
    assert found[4:] == ["<!-- end of claims -->", "after"]
    assert judge.filled(judge.filled(page)) == judge.filled(page)
    kept.unlink()
    assert "whatever" not in judge.filled(page)
