"""dvc.yaml and the Snakefile describe the same work: neither can be changed alone.

What the Snakefile says is read from a dry run of a study that uses every section: which rules there are, what each
reads and writes. What a rule takes from params.yaml is found by changing one section after another.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from jepa3d import project
from jepa3d.params import Params, run_slice, slice_of

ROOT = Path(__file__).parent.parent
VERBS = ["download", "convert", "patchify", "pretrain", "embed", "evaluate", "report"]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
RULES = {verb: (ROOT / "workflow" / "rules" / f"{verb}.smk").read_text() for verb in VERBS}


class Job(NamedTuple):
    """What a dry run says of one job."""

    rule: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def outs(verb: str) -> dict[str, dict[str, Any]]:
    """Path and options of everything that a stage writes."""
    entries = [*STAGES[verb]["outs"], *STAGES[verb].get("metrics", [])]
    return {path: options for entry in entries for path, options in entry.items()}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    """Every job of a study with a run on two data sets and evaluations of both needs."""
    study = {
        "study": "all",
        "studies": {"all": {"runs": ["jepa"], "evals": ["knn", "tuned"], "seeds": [0]}},
        "datasets": {"toys": {"kind": "procedural", "points": 128}},
        "patches": {"flat": {"points": 128, "levels": [{"num": 16, "size": 8}]}},
        "models": {"tiny": {"width": 24, "depth": 1, "heads": 2}},
        "runs": {"jepa": {"data": "toys", "patches": "flat", "model": "tiny", "objective": {"kind": "jepa"},
                          "fit": {"steps": 1}}},
        "evals": {"knn": {"dataset": "toys", "task": {"kind": "knn"}},
                  "tuned": {"dataset": "toys", "task": {"kind": "finetune"}}},
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("dry")
    (folder / "params.yaml").write_text(yaml.safe_dump(study))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run([*command, "-n", "all"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = []
    for block in re.split(r"\n\s*\n|^(?=\[)", done.stdout + done.stderr, flags=re.MULTILINE):
        if rule := re.search(r"^(?:local)?(?:rule|checkpoint) (\w+):", block, re.MULTILINE):
            lists = [re.search(rf"^ +{key}: (.*)$", block, re.MULTILINE) for key in ("input", "output")]
            inputs, outputs = (tuple(match[1].split(", ")) if match else () for match in lists)
            found.append(Job(rule[1], inputs, outputs))
    assert found, done.stdout + done.stderr
    return found


def stage_of(rule: str) -> str:
    """The verb in whose file a rule stands."""
    return next(verb for verb in VERBS if re.search(rf"^(?:rule|checkpoint) {rule}:", RULES[verb], re.MULTILINE))


def folder_of(path: str, folders: list[str]) -> str:
    """The declared path that covers a file."""
    covers = [folder for folder in folders if path == folder or path.startswith(folder + "/")]
    assert len(covers) == 1, f"{path} is in {covers or 'nothing'} that dvc.yaml names"
    return covers[0]


# --- stages and rules


def test_there_is_one_stage_for_each_verb_in_their_order():
    assert list(STAGES) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_a_stage_may_run_the_rules_of_its_verb_and_asks_for_all_of_it(verb: str):
    rules = re.findall(r"^(?:rule|checkpoint) (\w+):", RULES[verb], re.MULTILINE)
    program, script, command, *named = STAGES[verb]["cmd"].split()
    assert [program, script, command] == ["python", "workflow/versions.py", "stage"]
    assert sorted(named) == sorted(rules)
    assert named[-1] == f"all_{verb}"


@pytest.mark.parametrize("verb", VERBS)
def test_what_a_stage_writes_stays_there_while_it_runs(verb: str):
    """DVC removes outputs that are not persistent before it runs a stage: no training would ever be up to date."""
    assert all(options["persist"] is True for options in outs(verb).values())
    assert f"results/records/{verb}" in outs(verb)


def test_metrics_and_pictures_are_gits_and_all_else_is_in_dvcs_cache():
    uncached = {path for verb in VERBS for path, options in outs(verb).items() if options.get("cache") is False}
    assert uncached == {"results/metrics.json", "results/plots"}
    ignored = (ROOT / "results" / ".gitignore").read_text().splitlines()
    assert {"*", "!metrics.json", "!plots/", "!plots/**"} <= set(ignored)


# --- files


def test_every_file_that_a_rule_writes_is_an_output_of_its_stage_and_of_no_other(jobs: list[Job]):
    for job in jobs:
        if job.rule == "all":
            continue
        for path in job.outputs:
            folder_of(path, [path for path in outs(stage_of(job.rule)) if "records" not in path])
    declared = [path for verb in VERBS for path in outs(verb)]
    assert len(set(declared)) == len(declared)


def test_every_output_of_a_stage_is_written_by_one_of_its_rules(jobs: list[Job]):
    written = defaultdict(set)
    for job in jobs:
        for path in job.outputs if job.rule != "all" else ():
            written[stage_of(job.rule)].add(folder_of(path, list(outs(stage_of(job.rule)))))
    for verb in VERBS:
        assert written[verb] == {path for path in outs(verb) if "records" not in path}, verb


def test_a_stage_depends_on_what_its_rules_read_and_on_nothing_else(jobs: list[Job]):
    produced = [path for verb in VERBS for path in outs(verb)]
    read = defaultdict(set)
    for job in jobs:
        for path in job.inputs if job.rule != "all" else ():
            if (folder := folder_of(path, produced)) not in outs(stage_of(job.rule)):
                read[stage_of(job.rule)].add(folder)
    for verb in VERBS:
        assert set(STAGES[verb].get("deps", [])) == read[verb], verb


# --- parameters: sections of params.yaml whose change can change a stage's jobs

SECTIONS = ("study", "studies", "datasets", "patches", "models", "tasks", "runs", "evals")
CHANGES: dict[str, list[Callable[[dict[str, Any]], None]]] = {
    "study": [lambda p: p.update(study="other")],
    "studies": [
        lambda p: p["studies"]["all"].update(seeds=[1]),
        lambda p: p["studies"]["all"].update(evals=["far"]),
        lambda p: p["studies"]["all"].update(about="words"),
    ],
    "datasets": [lambda p: p["datasets"]["toys"].update(seed=7), lambda p: p["datasets"]["toys"].update(shards=3)],
    "patches": [lambda p: p["patches"]["flat"].update(live=True)],
    "models": [lambda p: p["models"]["tiny"].update(width=48)],
    "tasks": [lambda p: p["tasks"]["near"].update(k=[3]), lambda p: p["tasks"].update(near={"kind": "finetune"})],
    "runs": [
        lambda p: p["runs"]["jepa"].update(sweep={"fit.lr": [0.1, 0.2]}),
        lambda p: p["runs"]["jepa"].update(data=["toys", "more"]),
        lambda p: p["runs"]["jepa"].update(patches="finer"),
        lambda p: p["runs"]["jepa"]["fit"].update(steps=2),
    ],
    "evals": [
        lambda p: p["evals"]["knn"].update(dataset="more"),
        lambda p: p["evals"]["tuned"].update(patches="finer"),
        lambda p: p["evals"]["knn"]["task"].update(kind="finetune"),
        lambda p: p["evals"]["knn"]["task"].update(k=[3]),
    ],
}


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """slices(params) -> verb -> everything that its jobs take from params.yaml: their files, wildcards and `params:`.

    The functions of the rule files are called as Snakemake calls them; only the syntax around them is left out.
    """
    folder = tmp_path_factory.mktemp("slices")

    def _slices(data: dict[str, Any]) -> dict[str, Any]:
        path = folder / "params.yaml"
        path.write_text(yaml.safe_dump(data))
        params = project.load(path)
        return {verb: json.loads(json.dumps(taken(params, verb))) for verb in VERBS}

    return _slices


def taken(params: Params, verb: str) -> Any:
    """What the Snakefile derives from params.yaml for one verb: its targets, inputs and `params:`."""
    space = rule_functions(params)
    study, layout = params.chosen, space["LAYOUT"]
    jobs: dict[str, Any] = {
        "download": lambda: {d: space["entry"]("datasets", d) for d in space["study_datasets"]()},
        "convert": lambda: {d: space["entry"]("datasets", d) for d in space["study_datasets"]()},
        "patchify": lambda: [
            [scheme, data, params.dataset(data).shards, space["entry"]("patches", scheme)]
            for scheme, data in space["study_patches"]()
        ],
        "pretrain": lambda: [
            [run, seed, [str(p) for p in space["run_inputs"](Names(run=run))], space["run_slice"](Names(run=run))]
            for run, seed in study.trainings()
        ],
        "embed": lambda: [
            [str(path), str(space["patches_of_run"](Names(run=run, dataset="x")))]
            for path in space["study_features"]()
            for run in study.run_names()
        ],
        "evaluate": lambda: [
            [cell, space["entry"]("evals", cell.evaluation), params.evaluation(cell.evaluation).needs,
             params.evals[cell.evaluation].patches or params.runs[cell.run].patches]
            for cell in study.cells()
        ],
        "report": lambda: [
            slice_of(study),
            [str(path) for path in (*space["study_evaluations"](), *space["study_features"]())],
            [str(layout.patches(*pair)) for pair in space["study_patches"]()],
        ],
    }  # fmt: skip
    return jobs[verb]()


class Names:
    """Wildcards."""

    def __init__(self, **names: str) -> None:
        self.__dict__.update(names)


def rule_functions(params: Params) -> dict[str, Any]:
    """The functions of common.smk, which is Python but for its first block."""
    from jepa3d.layout import Layout

    text = (ROOT / "workflow" / "rules" / "common.smk").read_text()
    text = re.sub(r"^wildcard_constraints:\n(?: +.*\n)+", "", text, flags=re.MULTILINE)
    space: dict[str, Any] = {"PARAMS": params, "STUDY": params.chosen, "LAYOUT": Layout(Path("results")),
                             "slice_of": slice_of, "slice_of_run": run_slice,
                             "PARAMS_FILE": "", "RESULTS": "", "CLUSTER": "",
                             "Path": Path}  # fmt: skip
    exec(compile(text, "common.smk", "exec"), space)
    return space


@pytest.mark.parametrize("section", SECTIONS)
def test_a_stage_names_every_section_that_can_change_its_jobs(
    section: str, slices: Callable[[dict[str, Any]], dict[str, Any]]
):
    def base() -> dict[str, Any]:
        data: dict[str, Any] = {
            "study": "all",
            "studies": {"all": {"runs": ["jepa"], "evals": ["knn", "tuned"], "seeds": [0]},
                        "other": {"runs": ["other"], "evals": ["far"], "seeds": [0, 1]}},
            "datasets": {"toys": {"kind": "procedural", "points": 128}, "more": {"kind": "procedural", "points": 128}},
            "patches": {name: {"points": 128, "levels": [{"num": num, "size": 8}]}
                        for name, num in (("flat", 16), ("finer", 32))},
            "models": {"tiny": {"width": 24, "depth": 1, "heads": 2}},
            "tasks": {"near": {"kind": "knn"}},
            "runs": {"jepa": {"data": "toys", "patches": "flat", "model": "tiny", "objective": {"kind": "jepa"},
                              "fit": {"steps": 1}}, "other": {"base": "jepa", "data": "more"}},
            "evals": {"knn": {"dataset": "toys", "task": {"kind": "knn"}},
                      "tuned": {"dataset": "toys", "task": {"kind": "finetune"}},
                      "crossed": {"dataset": ["more"], "task": ["near"]},
                      "far": {"dataset": "more", "task": {"kind": "knn"}}},
        }  # fmt: skip
        if section == "tasks":
            data["studies"]["all"]["evals"].append("crossed")
        return data

    before = slices(base())
    changed = set()
    for change in CHANGES[section]:
        data = base()
        change(data)
        after = slices(data)
        changed |= {verb for verb in VERBS if after[verb] != before[verb]}
    named = {verb for verb in VERBS if section in STAGES[verb]["params"]}
    shown = {"report"} if section in ("datasets", "patches", "models", "tasks", "runs", "evals") else set()
    assert changed <= named, f"dvc.yaml does not know that '{section}' changes {sorted(changed - named)}"
    assert named - changed <= shown, f"'{section}' changes nothing in {sorted(named - changed)}"


def test_every_section_of_params_is_known_to_dvc():
    assert {name for verb in VERBS for name in STAGES[verb]["params"]} == set(SECTIONS)
    assert set(Params.model_fields) - {"source", "extends", "execution"} == set(SECTIONS)


# --- params.yaml and DVC


def test_dvc_can_change_a_number_of_params_yaml_and_nothing_else_changes(tmp_path: Path):
    """`dvc exp run -S` writes the whole file again: ${...} and 1e-4 would not live through it."""
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    before = yaml.safe_load(path.read_text())
    apply_overrides(path, ["runs.jepa.objective.mask.blocks=2"])
    before["runs"]["jepa"]["objective"]["mask"]["blocks"] = 2
    assert yaml.safe_load(path.read_text()) == before
    assert project.load(path).runs["jepa"].objective.options()["mask"]["blocks"] == 2


def test_a_params_yaml_over_another_is_refused_by_dvcs_stages(tmp_path: Path):
    (tmp_path / "ours.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / "params.yaml").write_text("extends: ours.yaml\n")
    command = [sys.executable, str(ROOT / "workflow" / "versions.py"), "stage", "convert", "all_convert"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "params.yaml: extends ours.yaml, whose changes DVC would not see" in done.stderr


def test_nothing_leaves_the_machine_and_no_remote_is_set():
    text = (ROOT / ".dvc" / "config").read_text()
    assert "analytics = false" in text
    assert "check_update = false" in text
    assert not re.search(r"^\s*(remote|url)", text, re.MULTILINE)
