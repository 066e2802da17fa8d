"""The same inputs give the same bytes, at any time and in any process: every verb is run twice."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jepa3d import cli, project
from jepa3d.graph import Graph
from jepa3d.layout import Layout

# what was measured while it was made: seconds and memory
MEASURED = ("curve.jsonl", "terms.csv", "tables.md", "index.html", "model_card.md")


def hashes(results: Path) -> dict[str, str]:
    """Of every output; records and logs say when it was made."""
    found = {}
    for folder, _, names in os.walk(results):
        path = Path(folder).relative_to(results)
        if path.parts[:1] not in ((".state",), ("records",), ("logs",), ("tensorboard",), (".claims",)):
            for name in names:
                found[str(path / name)] = hashlib.sha256((results / path / name).read_bytes()).hexdigest()
    return found


@pytest.mark.slow
def test_every_verb_writes_the_same_bytes_again(
    tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JEPA3D_THREADS", "1")
    tiny["datasets"]["toys"]["shards"] = 2
    tiny["evals"]["tuned"] = {"dataset": "toys", "task": {"kind": "finetune", "fit": {"steps": 4, "batch": 8}}}
    tiny["studies"]["tiny"]["evals"].append("tuned")
    params = write(tiny)
    jobs = Graph(project.load(params), layout).jobs()
    made = []
    for _ in range(2):
        for job in jobs:
            cli.run([f"--params={params}", f"--results={layout.results}", *job.command.split()[1:]])
        for ending in ("pt", "onnx"):
            encoder = layout.encoder("jepa", 0)
            command = [
                sys.executable,
                "-m",
                "jepa3d",
                "export",
                f"--encoder={encoder}",
            ]  # shapes unchecked, as for users
            subprocess.run([*command, f"--output={layout.results / 'encoder'}.{ending}"], check=True)
        made.append(hashes(layout.results))
        shutil.rmtree(layout.results)
        time.sleep(1.1)  # HDF5 knows times by the second
    differ = [name for name, digest in made[0].items() if made[1].get(name) != digest]
    assert set(made[0]) == set(made[1])
    assert len(made[0]) > 30
    assert [name for name in differ if Path(name).name not in MEASURED] == []
