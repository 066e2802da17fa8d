"""trace prints the chain of one number, back to the raw files, and says where it is broken."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jepa3d.layout import Layout
from jepa3d.params import Params
from jepa3d.problem import Problem
from jepa3d.results import records, store
from jepa3d.results.trace import trace

SPEC = importlib.util.spec_from_file_location("hollow", Path(__file__).parents[1] / "dvc" / "hollow.py")
assert SPEC is not None
assert SPEC.loader is not None
hollow = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(hollow)


@pytest.fixture
def made(params: Params, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setattr(hollow, "LARGE", 0)
    hollow.make_all(params, layout)
    return layout


@pytest.fixture
def said(made: Layout, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """said("jepa", "knn") -> exit code and page."""

    def _said(run: str, evaluation: str) -> tuple[int, str]:
        code = trace(made.metrics, run, evaluation)
        return code, capsys.readouterr().out

    return _said


def test_every_file_from_the_table_to_the_raw_data_is_named_with_its_hash_and_its_command(
    said: Callable[..., tuple[int, str]], made: Layout
):
    code, page = said("jepa", "knn")
    assert code == 0
    chain = {
        made.metrics: "jepa3d report",
        made.evaluation("jepa", 0, "knn"): "jepa3d evaluate jepa knn --seed 0",
        made.evaluation("jepa", 1, "knn"): "jepa3d evaluate jepa knn --seed 1",
        made.features("jepa", 1, "toys"): "jepa3d embed jepa toys --seed 1",
        made.encoder("jepa", 0): "jepa3d pretrain jepa --seed 0",
        made.patches("flat", "toys"): "jepa3d patchify flat toys",
        made.canonical("toys"): "jepa3d convert toys",
        made.source("toys"): "jepa3d download toys",
    }
    for path, command in chain.items():
        assert f"{path}\n" in page
        assert store.sha256(path) in page
        assert f"again     {command}\n" in page
    assert "pretrain/random_init" not in page
    assert "evals/jepa/seed0/linear.json" not in page


def test_settings_versions_seeds_duration_and_machine_are_said_once(said: Callable[..., tuple[int, str]]):
    _, page = said("jepa", "knn")
    assert '"lr": 0.001' in page
    assert "settings  seed: 1" in page
    assert page.count("cores of") == 1
    assert page.count("  code  ") == 1
    assert "numpy" in page
    assert "s after the start of" in page
    assert page.count(" (above)") >= 4  # the second seed's canonical file and patches, and what shares them


def test_the_cost_of_a_training_and_the_hashes_of_raw_files_are_said(
    said: Callable[..., tuple[int, str]], made: Layout, params: Params
):
    store.write_jsonl(made.curve("jepa", 0), [{"step": 20, "cost": {"seconds": 3.5, "device": "cpu"}}])
    store.write_json(made.source("toys"), {"kind": "folder", "how": "in place", "root": "/data/chairs",
                                           "lists": {"train.txt": {"bytes": 3, "sha256": "ab12"}}})  # fmt: skip
    _, page = said("jepa", "knn")
    assert "trained   20 steps; seconds 3.5, device cpu" in page
    assert "folder, in place, /data/chairs" in page
    assert "train.txt  sha256 ab12" in page


def test_a_link_that_does_not_hold_is_marked_and_is_the_exit_code(said: Callable[..., tuple[int, str]], made: Layout):
    made.encoder("jepa", 0).write_bytes(b"another")
    made.features("jepa", 1, "toys").unlink()
    code, page = said("jepa", "knn")
    assert code == 1
    assert page.count("BAD") == 2
    assert "when it was made" in page
    assert "is not there; it had sha256" in page


@pytest.mark.parametrize(("names", "words"), [(("jeppa", "knn"), "did you mean 'jepa'"), (("jepa", "kn"), "'knn'")])
def test_an_unknown_name_is_a_problem(made: Layout, names: tuple[str, str], words: str):
    with pytest.raises(Problem) as caught:
        trace(made.metrics, *names)
    assert words in str(caught.value)


def test_the_whole_is_made_again_from_the_commit_it_was_made_from(
    said: Callable[..., tuple[int, str]], made: Layout, monkeypatch: pytest.MonkeyPatch, params: Params
):
    surroundings: dict[str, Any] = {**records.circumstances(), "git": {"commit": "0123456789abcdef", "changes": "77"}}
    monkeypatch.setattr(records, "circumstances", lambda: surroundings)
    hollow.make(params, made, "report")
    _, page = said("jepa", "knn")
    assert "git checkout 0123456789ab && snakemake --cores all --forceall all" in page
    assert "the code had changes that are in no commit" in page
