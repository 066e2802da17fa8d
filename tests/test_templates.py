"""What CONTRIBUTING.md promises: a data set, an objective, an encoder, an evaluation, a logger: one file, one entry."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from jepa3d import plugins

ROOT = Path(__file__).parent.parent
TEMPLATES = Path(__file__).parent / "templates"
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ENTRIES: dict[str, dict[str, Any]] = yaml.safe_load("".join(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)))
FILES = sorted(path.relative_to(TEMPLATES) for path in TEMPLATES.glob("*/*.py"))
SECTION = {
    "datasets": "datasets",
    "objectives": "runs",
    "encoders": "models",
    "tasks": "evals",
    "loggers": "execution",
}

Params = dict[str, Any]
# Which rows of the study use the new entry: that is a choice, not a part of the change.
CHOOSE: dict[str, Callable[[Params, str], None]] = {
    "datasets": lambda params, name: (
        params["runs"]["trained"].update(data=name),
        params["evals"]["near"].update(dataset=name),
    ),
    "runs": lambda params, name: params["studies"]["made"].update(runs=name),
    "models": lambda params, name: params["runs"]["trained"].update(model=name, patches="pyramid"),
    "evals": lambda params, name: params["studies"]["made"].update(evals=name),
}
VERBS = """
import sys
from jepa3d import project
from jepa3d.__main__ import main

params = project.load("params.yaml")
data = sorted({name for run in params.runs.values() for name in run.data} | {e.dataset for e in params.evals.values()})
calls = [[verb, name] for verb in ("download", "convert") for name in data]
pairs = {(params.evals[c.evaluation].dataset, d) for c in params.chosen.cells() for d in params.runs[c.run].data}
pairs |= {(params.evals[c.evaluation].dataset,) * 2 for c in params.chosen.cells()}
calls += [["convert", dataset, "--overlap", source] for dataset, source in sorted(pairs)]
schemes = sorted({run.patches for run in params.runs.values()})
calls += [["patchify", scheme, name] for scheme in schemes for name in data]
calls += [["pretrain", run, "--seed", str(seed)] for run, seed in params.chosen.trainings()]
calls += [["embed", c.run, params.evals[c.evaluation].dataset, "--seed", str(c.seed)] for c in params.chosen.cells()]
calls += [["evaluate", c.run, c.evaluation, "--seed", str(c.seed)] for c in params.chosen.cells()]
for call in [*calls, ["report"]]:
    sys.argv = ["jepa3d", *call]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


def copy_of_the_house(folder: Path) -> None:
    """The package, the workflow and the tests, to be added to."""
    for name in ("jepa3d", "tests", "workflow"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("templates", "results"))
    for name in ("Snakefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, env=environment, timeout=540
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def add(folder: Path, file: Path, params: Params, choose: bool = True) -> str:
    """One file and one entry; the entry's name."""
    shutil.copy(TEMPLATES / file, folder / "jepa3d" / file)
    section = SECTION[file.parts[0]]
    [name] = [name for name, entry in ENTRIES[section].items() if f"'{file.stem}'" in str(entry)]
    params.setdefault(section, {})[name] = ENTRIES[section][name]
    if choose and section in CHOOSE:
        CHOOSE[section](params, name)
    return name


def passed(output: str) -> int:
    """How many tests pytest says were good."""
    return sum(int(number) for number in re.findall(r"(\d+) passed", output))


def raw_files(folder: Path) -> None:
    code = "from pathlib import Path; from jepa3d.datasets import csv_folders; csv_folders.forge(Path('raw/mine'))"
    run(folder, "-c", code)


def test_there_is_a_template_of_every_kind_of_plugin_and_the_page_names_each():
    assert {file.parts[0] for file in FILES} == set(SECTION)
    for file in FILES:
        assert f"`tests/templates/{file}`" in PAGE
        assert not (ROOT / "jepa3d" / file).exists()


def test_the_pages_code_is_the_templates():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    sources = [(TEMPLATES / file).read_text(encoding="utf-8") for file in FILES]
    assert blocks
    for block in blocks:
        assert any(block in source for source in sources)


def test_the_page_says_what_each_contract_asks_for():
    from jepa3d import datasets, encoders, loggers, objectives, tasks

    for package in (datasets, encoders, loggers, objectives, tasks):
        name = package.__name__.rpartition(".")[2]
        [row] = [line for line in PAGE.splitlines() if line.startswith("| a") and f"`jepa3d/{name}/<kind>.py`" in line]
        assert set(re.findall(r"`(\w+)`", row.split("|")[3])) == package.Plugin.__abstractmethods__
        assert plugins.members(package.Plugin)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=str)
def test_one_file_and_one_entry_go_through_every_verb_and_every_contract(file: Path, tmp_path: Path):
    copy_of_the_house(tmp_path)
    params = yaml.safe_load((TEMPLATES / "params.yaml").read_text(encoding="utf-8"))
    add(tmp_path, file, params)
    if file.parts[0] == "datasets":
        raw_files(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    run(tmp_path, "-c", VERBS)
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text(encoding="utf-8"))
    [accuracy] = [e["accuracy"]["mean"] for evals in metrics.values() for e in evals.values()]
    assert 0 <= accuracy <= 1
    assert (tmp_path / "results" / "report" / "index.html").stat().st_size > 10_000
    if file.parts[0] == "loggers":
        [curve] = (tmp_path / "results").rglob("curve.csv")
        assert "6,loss," in curve.read_text(encoding="utf-8")
    contracts = [path for path in (f"tests/{file.parts[0]}/test_contract.py",) if (tmp_path / path).exists()]
    ran = run(tmp_path, "-m", "pytest", "-n0", "-k", file.stem, "tests/test_plugins.py", *contracts)
    assert passed(ran) > (3 if contracts else 1)


@pytest.mark.slow
def test_all_of_them_at_once_go_through_snakemake(tmp_path: Path):
    copy_of_the_house(tmp_path)
    params = yaml.safe_load((TEMPLATES / "params.yaml").read_text(encoding="utf-8"))
    names = {file.parts[0]: add(tmp_path, file, params, choose=False) for file in FILES}
    raw_files(tmp_path)
    pyramid = {"base": "trained", "model": names["encoders"], "patches": "pyramid", "data": names["datasets"]}
    params["runs"]["coarse"] = pyramid
    params["studies"]["made"].update(runs=["coarse", names["objectives"]], evals=[names["tasks"]])
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    run(tmp_path, "-m", "snakemake", "--cores", "2", "all")
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics) == {"coarse", names["objectives"]}
    again = run(tmp_path, "-m", "snakemake", "--cores", "2", "all")
    assert "Nothing to be done" in again
    assert passed(run(tmp_path, "-m", "pytest", "-n0", "tests/test_contracts.py")) == 2  # as mypy reads them
