"""Folders as people of this field have them, each built after a public report: read right, or refused by name.

They lie beside the real data: `JEPA3D_REAL_DATA/../cases/files` has the folders, and in expected.json class and split
of each shape. What each shape becomes is read from the canonical file and the audit alone, as a user would.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jepa3d.datasets import folder
from jepa3d.layout import Layout
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.stages.convert import convert

REAL = os.environ.get("JEPA3D_REAL_DATA")
CASES = Path(REAL).parent / "cases" / "files" if REAL else None
EXPECTED: dict[str, Any] = {}
if CASES and (CASES / "expected.json").is_file():
    EXPECTED = json.loads((CASES / "expected.json").read_text(encoding="utf-8"))["layouts"]


def check_refusal(problem: Problem, want: str, root: Path) -> None:
    assert want != "read", str(problem)
    assert str(root) in problem.what
    assert problem.why
    assert problem.mend


@pytest.mark.skipif(not EXPECTED, reason="no cases/files beside JEPA3D_REAL_DATA")
@pytest.mark.parametrize("name", sorted(EXPECTED) or ["none"])
def test_a_layout_of_the_field_is_read_right_or_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CASES is not None
    monkeypatch.setenv("JEPA3D_THREADS", "1")
    root, want = CASES / "layouts" / name, EXPECTED[name]
    layout = Layout(tmp_path / "results")
    store.write_json(layout.source("data"), {"how": "in place"})
    config = folder.Config(root=str(root), points=64)
    try:
        convert(SimpleNamespace(dataset=lambda name: config), layout, "data")  # type: ignore[arg-type]
    except Problem as problem:
        check_refusal(problem, want["want"], root)
        return
    with store.open_h5(layout.canonical("data")) as file:
        classes = store.attributes(file)["classes"]
        rows = zip(store.text(file["id"]), file["label"][:], store.text(file["split"]), strict=True)
        found = {id: (classes[label] if label >= 0 else None, split) for id, label, split in rows}
    aside = {entry["id"] for entry in store.read_json(layout.audit("data"))["set_aside"]}
    for id, (of_class, split) in want["shapes"].items():
        assert (id in found) != (id in aside)
        if id in found:
            assert want["want"] != "refuse"
            assert of_class in (None, found[id][0])
            assert split in (None, found[id][1])
        else:
            assert want["want"] != "read"
