"""A small study with every method and every evaluation: its numbers are those that are stored, bit for bit.

A change that is not meant to change a number is held to this. One that is meant to writes the stored numbers anew:
`python tests/test_same_numbers.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from jepa3d import project
from jepa3d.layout import Layout
from jepa3d.report import numbers, study
from jepa3d.stages.convert import convert, overlap
from jepa3d.stages.download import download
from jepa3d.stages.embed import embed
from jepa3d.stages.evaluate import evaluate
from jepa3d.stages.patchify import patchify
from jepa3d.stages.pretrain import pretrain

DATA = Path(__file__).parent / "data"
STORED = DATA / "small_study.json"
OTHER_MACHINE = 0.15  # other instructions have other roundings: a few of 60 test shapes may change sides


def machine() -> str:
    """What decides the roundings: torch and the processor's instructions."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    flags = re.search(r"^flags\s*:(.*)$", cpu, re.MULTILINE)
    digest = hashlib.sha256((flags[1] if flags else "").encode()).hexdigest()[:8]
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, flags {digest}"


def made(results: Path) -> dict[str, Any]:
    """The metrics of the whole study, by the stages themselves."""
    params, layout = project.load(DATA / "small_study.yaml"), Layout(results)
    download(params, layout, "toys")
    convert(params, layout, "toys")
    overlap(params, layout, "toys", "toys")
    patchify(params, layout, "flat", "toys")
    for run, seed in params.chosen.trainings():
        pretrain(params, layout, run, seed)
    for run, seed in dict.fromkeys((cell.run, cell.seed) for cell in params.chosen.cells()):
        embed(params, layout, run, "toys", seed)
    for run, name, seed in params.chosen.cells():
        evaluate(params, layout, run, name, seed)
    found: dict[str, Any] = json.loads(json.dumps(numbers.metrics(study.read(params, layout))))
    return found


def values(metrics: Any, path: str = "") -> dict[str, float]:
    """Every number of the nested metrics by its path."""
    if isinstance(metrics, dict):
        return {key: value for name, inner in metrics.items() for key, value in values(inner, f"{path}/{name}").items()}
    if isinstance(metrics, list):
        return {key: value for n, inner in enumerate(metrics) for key, value in values(inner, f"{path}/{n}").items()}
    return {path: metrics}


@pytest.mark.slow
def test_a_small_study_has_the_stored_numbers(tmp_path: Path):
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    ours, before = values(made(tmp_path)), values(stored["metrics"])
    assert ours.keys() == before.keys()
    if stored["machine"] == machine():
        assert {key: value for key, value in ours.items() if value != before[key]} == {}
    else:
        shares = [key for key in before if re.search(r"/(accuracy|instance_miou)/mean$", key)]
        assert len(shares) > 20
        assert {key: ours[key] for key in shares if abs(ours[key] - before[key]) > OTHER_MACHINE} == {}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = {"machine": machine(), "metrics": made(Path(folder))}
    STORED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit()
