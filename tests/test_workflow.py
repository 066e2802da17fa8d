"""The graph: seven verbs of one name everywhere, a dry run without torch, a tiny study from nothing to tables."""

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

from jepa3d.layout import Layout
from jepa3d.results import store

REPOSITORY = Path(__file__).parent.parent
RULES = REPOSITORY / "workflow" / "rules"
VERBS = ["download", "convert", "patchify", "pretrain", "embed", "evaluate", "report"]


def rules_in(path: Path) -> list[str]:
    return re.findall(r"^(?:rule|checkpoint) (\w+):", path.read_text(), re.MULTILINE)


# --- the seven verbs


def test_the_verbs_are_the_same_words_as_stage_rule_file_and_subcommand():
    from jepa3d.cli import app

    stages = {path.stem for path in (REPOSITORY / "jepa3d" / "stages").glob("*.py")} - {"__init__"}
    files = {path.stem for path in RULES.glob("*.smk")} - {"common"}
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert stages == files == set(VERBS)
    assert commands[:7] == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_rule_file_has_its_rule_and_one_that_asks_for_all_of_it(verb: str):
    others = {
        "convert": ["convert_overlap"],
        "patchify": ["patchify_shard"],
        "evaluate": ["evaluate_launched", "evaluate_fold", "evaluate_encoder"],
    }.get(verb, [])
    assert rules_in(RULES / f"{verb}.smk") == [*others, verb, f"all_{verb}"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_rule_is_one_command_that_can_be_run_by_hand(verb: str):
    text = (RULES / f"{verb}.smk").read_text()
    commands = re.findall(r'shell:\s*"([^"]*)"', text)
    assert len(commands) == len(rules_in(RULES / f"{verb}.smk")) - 1
    for command in commands:
        assert re.fullmatch(
            r"\{JEPA3D\} --log \{log:q\} (--study \{STUDY\} |--threads \{threads\} )?" + verb + r"( .*)?", command
        )
    assert text.startswith("# in: ")
    assert "\n# out: " in text


def test_stages_do_not_import_each_other():
    for path in (REPOSITORY / "jepa3d" / "stages").glob("*.py"):
        assert "jepa3d.stages" not in path.read_text(), path.name


# --- the graph


def snakemake(
    folder: Path, *arguments: str, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime"] if "IMPORTS" in environment else [sys.executable]
    command += ["-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(folder), *arguments]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=found, check=False)
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done


def jobs(dry: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Jobs by rule of a dry run, without the target itself."""
    table = re.findall(r"^(\w+) +(\d+)$", (dry.stdout + dry.stderr), re.MULTILINE)
    return {rule: int(count) for rule, count in table if rule not in ("all", "total")}


def test_a_dry_run_knows_every_job_and_imports_no_torch(tiny: dict[str, Any], write: Callable[[Any], Path]):
    tiny["evals"]["folds"] = {"dataset": "toys", "task": {"kind": "few_shot_finetune", "way": 2, "folds": 3}}
    tiny["studies"]["tiny"]["also"] = [{"runs": "jepa", "evals": "folds", "seeds": [0]}]
    tiny["runs"]["first"] = {"base": "jepa", "init": None}  # in no study: trained for the run that begins with it
    tiny["runs"]["random_init"]["init"] = None
    tiny["runs"]["jepa"]["init"] = "first"
    dry = snakemake(write(tiny).parent, "-n", "--quiet", "rules", IMPORTS="shown")
    assert jobs(dry) == {
        "download": 1, "convert": 1, "convert_overlap": 1, "patchify": 1, "pretrain": 6, "embed": 4,
        "evaluate_fold": 3, "evaluate": 9, "report": 1,
    }  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in dry.stderr.splitlines() if line.startswith("import time:")}
    assert "jepa3d.params" in imported
    assert not imported & {"torch", "sklearn", "numba", "trimesh", "matplotlib"}


def of_three_kinds(tiny: dict[str, Any]) -> None:
    """Evaluations of frozen features, of an encoder that is trained on, and of several short trainings."""
    tiny["evals"]["tuned"] = {"dataset": "toys", "task": {"kind": "finetune"}}
    tiny["evals"]["folds"] = {"dataset": "toys", "task": {"kind": "few_shot_finetune", "way": 2, "folds": 3}}
    tiny["studies"]["tiny"] = {"runs": "jepa", "evals": ["linear", "tuned", "folds"], "seeds": [0]}


@pytest.mark.slow
def test_where_a_cluster_file_is_named_trainings_that_ranks_can_share_are_submitted(
    tiny: dict[str, Any], write: Callable[[Any], Path]
):
    """Not frozen features, nor folds, which are jobs of their own."""
    of_three_kinds(tiny)
    dry = snakemake(write(tiny).parent, "-n", "--printshellcmds", "--config", "tuning=place.yaml")
    found = {rule: count for rule, count in jobs(dry).items() if rule.startswith("evaluate")}
    assert found == {"evaluate_launched": 1, "evaluate_fold": 3, "evaluate": 2}
    submitted = re.findall(r"-m jepa3d .* evaluate jepa (.*) --cluster place.yaml", dry.stdout + dry.stderr)
    assert set(submitted) == {"tuned --seed 0"}


@pytest.mark.slow
def test_every_job_that_runs_an_encoder_asks_for_a_gpu_and_a_day_and_the_others_do_not(
    tiny: dict[str, Any], write: Callable[[Any], Path]
):
    """As `snakemake --profile slurm` has it; `--config gpus=0` for a cluster without GPUs."""
    of_three_kinds(tiny)
    dry = snakemake(write(tiny).parent, "-n", "--config", "gpus=1", "cluster=place.yaml")
    asked = dict(re.findall(r"rule (\w+):.*?resources: ([^\n]*)", dry.stdout + dry.stderr, re.DOTALL))
    with_gpu = {rule for rule, resources in asked.items() if "gpu=1" in resources}
    assert with_gpu == {"embed", "evaluate_fold", "evaluate_encoder"}
    assert {"convert", "patchify", "evaluate", "report"} <= set(asked)
    assert "runtime=1440" in asked["evaluate_encoder"]
    profile = yaml.safe_load((REPOSITORY / "slurm" / "config.v8+.yaml").read_text())
    assert "gpus=1" in profile["config"]
    assert "evaluate_encoder" not in str(profile["groups"])  # a group asks for the GPUs of all its jobs


def test_a_mistake_in_params_is_three_lines_before_any_job(tiny: dict[str, Any], write: Callable[[Any], Path]):
    tiny["runs"]["jepa"]["fit"]["stepz"] = 3
    done = snakemake(write(tiny).parent, "-n", check=False)
    assert done.returncode != 0
    assert "runs.jepa.fit.stepz: unknown key" in done.stdout + done.stderr
    assert "did you mean 'steps'?" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_tiny_study_from_nothing_to_tables(tiny: dict[str, Any], write: Callable[[Any], Path]):
    tiny["datasets"]["toys"] |= {"train": 120, "test": 60}
    folder, layout = write(tiny).parent, Layout(write(tiny).parent / "results")
    snakemake(folder, "--cores", "2", "all")

    metrics = store.read_json(layout.metrics)
    assert set(metrics) == {"jepa", "random_init"}
    for of_run in metrics.values():
        assert set(of_run) == {"linear", "knn"}
        for of_eval in of_run.values():
            for place, found in enumerate(of_eval.values()):
                interval = set() if place else {"low", "high"}  # of the headline, which is the first
                assert set(found) == {"mean", "std", "n", "values"} | interval
                assert found["n"] == len(found["values"]) == 2
                assert found["mean"] == pytest.approx(sum(found["values"]) / 2)
    assert "accuracy" in metrics["jepa"]["linear"]
    page = layout.report.read_text()
    assert len(page) > 10_000
    assert any(layout.plots.iterdir())

    again = snakemake(folder, "--cores", "2", "all")
    assert "Nothing to be done" in again.stdout + again.stderr
    finished = {path: path.stat().st_mtime_ns for path in layout.results.rglob("*") if path.is_file()}

    tiny["runs"]["random_init"] = {**tiny["runs"]["random_init"], "about": "other words"}
    write(tiny)
    words = jobs(snakemake(folder, "-n", "--quiet", "rules"))
    assert not words.keys() & {"download", "convert", "patchify", "pretrain", "embed", "evaluate"}

    tiny["runs"]["random_init"].pop("base")
    tiny["runs"]["random_init"] = {**tiny["runs"]["jepa"], **tiny["runs"]["random_init"]}  # so that it does not inherit
    tiny["runs"]["random_init"]["fit"] = {**tiny["runs"]["jepa"]["fit"], "steps": 0}
    tiny["runs"]["jepa"]["objective"] = {**tiny["runs"]["jepa"]["objective"], "mask": {"blocks": 2}}
    write(tiny)
    dry = snakemake(folder, "-n")
    assert jobs(dry) == {"pretrain": 2, "embed": 2, "evaluate": 4, "report": 1}
    rerun = re.findall(r"jepa3d .* (?:pretrain|embed|evaluate) (\w+)|wildcards: .*run=(\w+)", dry.stdout + dry.stderr)
    assert rerun
    assert {name for pair in rerun for name in pair if name} == {"jepa"}
    assert all(path.stat().st_mtime_ns == moment for path, moment in finished.items())

    shutil.rmtree(layout.results / "features")
    (layout.results / "canonical" / "toys.h5").write_bytes(b"damaged")
    broken = snakemake(folder, "--cores", "1", "all", check=False)
    assert broken.returncode != 0
    said = broken.stdout + broken.stderr
    assert "Traceback" not in said, json.dumps(said[-3000:])
