"""docs/architecture.md is drawn from the code, and is of today's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def draw(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("docs/draw.py")


def test_the_page_is_what_make_docs_would_write(draw: ModuleType):
    assert draw.PAGE.read_text(encoding="utf-8") == draw.drawn(), "make docs"


def test_every_kind_of_edge_is_drawn(draw: ModuleType):
    found = draw.edges(draw.every_job())
    assert found["patchify_shard", "patchify"] == ["patches/{scheme}/{dataset}.shards/{shard}.h5"]
    assert found["evaluate_fold", "evaluate"] == ["evals/{run}/seed{seed}/{evaluation}.folds/{fold}.json"]
    assert ("embed", "evaluate") in found
    assert ("pretrain", "evaluate") in found


def test_every_floor_of_the_linter_is_drawn_from_the_top(draw: ModuleType):
    floors = draw.layers()
    assert (floors[0], floors[-1].split(" : ")[-1]) == ("__main__", "problem")
    page = draw.drawn()
    assert all(f'["{floor}"]' in page for floor in floors)
