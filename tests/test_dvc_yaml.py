"""dvc.yaml and the Snakefile describe the same work: neither can be changed alone.

What the Snakefile says is read from dry runs of studies that use all that the graph knows: which rules there are, what
each reads, writes and takes from params.yaml. It is what the graph says, so the graph is asked what a change changes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jepa3d import graph, project
from jepa3d.layout import Layout
from jepa3d.params import Params, slice_of
from jepa3d.problem import Problem

ROOT = Path(__file__).parent.parent
VERBS = ["download", "convert", "patchify", "pretrain", "embed", "evaluate", "report"]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
RULES = {verb: (ROOT / "workflow" / "rules" / f"{verb}.smk").read_text() for verb in VERBS}


def outs(verb: str) -> dict[str, dict[str, Any]]:
    """Path and options of everything that a stage writes."""
    entries = [*STAGES[verb]["outs"], *STAGES[verb].get("metrics", [])]
    return {path: options for entry in entries for path, options in entry.items()}


def everything() -> dict[str, Any]:
    """A study with all that the graph knows: a probe of its own, shards, folds, own patches, features and encoders."""
    run = {"data": "toys", "patches": "flat", "model": "tiny", "objective": {"kind": "jepa"}, "fit": {"steps": 1},
           "monitor": {"probe": "watched"}}  # fmt: skip
    return {
        "study": "all",
        "studies": {"all": {"runs": ["jepa"], "evals": ["knn", "tuned", "folds", "crossed"], "seeds": [0]},
                    "other": {"runs": ["other"], "evals": ["far"], "seeds": [0, 1]}},
        "datasets": {name: {"kind": "procedural", "points": 128} for name in ("toys", "more", "spare", "watched")}
        | {"large": {"kind": "procedural", "points": 128, "shards": 2}},
        "patches": {name: {"points": 128, "levels": [{"num": num, "size": 8}]}
                    for name, num in (("flat", 16), ("finer", 32))},
        "models": {"tiny": {"width": 24, "depth": 1, "heads": 2}},
        "tasks": {"near": {"kind": "knn"}},
        "runs": {"jepa": run, "other": {"base": "jepa", "data": ["more", "large"]}},
        "evals": {"knn": {"dataset": "toys", "task": {"kind": "knn"}},
                  "tuned": {"dataset": "toys", "patches": "finer", "task": {"kind": "finetune"}},
                  "folds": {"dataset": "toys", "task": {"kind": "few_shot_finetune", "way": 2, "folds": 2}},
                  "crossed": {"dataset": ["more"], "task": ["near"]},
                  "far": {"dataset": "large", "task": {"kind": "knn"}}},
    }  # fmt: skip


def loaded(data: dict[str, Any], folder: Path) -> Params:
    (folder / "params.yaml").write_text(yaml.safe_dump(data))
    return project.load(folder / "params.yaml")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    loaded(everything(), folder)
    return folder / "params.yaml"


@pytest.fixture(scope="module")
def dry(study: Path, dry_run: Callable[..., Any]) -> dict[str, list[Any]]:
    """Every job of either study."""
    return {name: dry_run(study, "--config", f"study={name}") for name in ("all", "other")}


@pytest.fixture(scope="module")
def jobs(dry: dict[str, list[Any]]) -> list[Any]:
    return [job for jobs in dry.values() for job in jobs]


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


def test_every_file_that_a_rule_writes_is_an_output_of_its_stage_and_of_no_other(jobs: list[Any]):
    for job in jobs:
        if job.rule == "all":
            continue
        for path in job.output:
            folder_of(path, [path for path in outs(stage_of(job.rule)) if "records" not in path])
    declared = [path for verb in VERBS for path in outs(verb)]
    assert len(set(declared)) == len(declared)


def test_every_output_of_a_stage_is_written_by_one_of_its_rules(jobs: list[Any]):
    written = defaultdict(set)
    for job in jobs:
        for path in job.output if job.rule != "all" else ():
            written[stage_of(job.rule)].add(folder_of(path, list(outs(stage_of(job.rule)))))
    for verb in VERBS:
        assert written[verb] == {path for path in outs(verb) if "records" not in path}, verb


def test_a_stage_depends_on_what_its_rules_read_and_on_nothing_else(jobs: list[Any]):
    produced = [path for verb in VERBS for path in outs(verb)]
    read = defaultdict(set)
    for job in jobs:
        for path in job.input if job.rule != "all" else ():
            if (folder := folder_of(path, produced)) not in outs(stage_of(job.rule)):
                read[stage_of(job.rule)].add(folder)
    for verb in VERBS:
        assert set(STAGES[verb].get("deps", [])) == read[verb], verb


# --- the graph


def described(params: Params) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Every job of the chosen study by the graph: rule-like name -> what it reads, writes and depends on."""
    return {
        (job.verb, *job.names): (
            sorted(map(str, job.reads)),
            sorted(map(str, job.writes)),
            json.loads(json.dumps(job.settings)),
        )
        for job in graph.Graph(params, Layout(Path("results"))).jobs()
    }


def done_by_snakemake(jobs: list[Any]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The same by a dry run."""
    found = {}
    for job in jobs:
        if job.rule != "all":
            names = job.wildcards.values() or [Path(job.output[0]).parent.name]  # a report's study
            key = (stage_of(job.rule), *names)
            found[key] = (sorted(job.input), sorted(job.output), job.params["settings"])
    return found


@pytest.mark.parametrize("name", ["all", "other"])
def test_every_job_of_snakemake_reads_writes_and_depends_on_what_the_graph_says(
    name: str, study: Path, dry: dict[str, list[Any]]
):
    found = done_by_snakemake(dry[name])
    assert found == described(project.load(study, name))
    assert ("pretrain", {"all": "jepa", "other": "other"}[name], "0") in found
    assert ("convert", "watched") in found, "a monitor's data set, which no evaluation reads"


@pytest.mark.slow
@pytest.mark.parametrize("name", yaml.safe_load((ROOT / "params.yaml").read_text())["studies"])
def test_every_job_of_every_study_of_params_yaml_is_as_the_graph_says(name: str, dry_run: Callable[..., Any]):
    found = done_by_snakemake(dry_run(ROOT / "params.yaml", "--config", f"study={name}"))
    assert found == described(project.load(ROOT / "params.yaml", name))


@pytest.mark.slow
def test_what_asks_for_all_of_a_verb_makes_the_data_that_only_a_monitor_looks_at(
    study: Path, dry_run: Callable[..., Any]
):
    """`dvc repro` does one verb after the other, and each may run the rules of its own alone."""
    asked = dry_run(study, "all_patchify")
    assert "results/patches/flat/watched.h5" in [path for job in asked for path in job.output]


def test_a_job_comes_after_those_whose_files_it_reads(study: Path):
    for name in ("all", "other"):
        made: set[Path] = set()
        for job in graph.Graph(project.load(study, name), Layout(Path("results"))).jobs():
            assert set(job.reads) <= made
            made |= set(job.writes)


def test_every_job_has_a_command_with_its_names(study: Path):
    found = [job.command for job in graph.Graph(project.load(study), Layout(Path("results"))).jobs()]
    assert len(set(found)) == len(found)
    for command in ("jepa3d download watched", "jepa3d patchify flat toys", "jepa3d pretrain jepa --seed 0",
                    "jepa3d embed jepa toys --seed 0", "jepa3d evaluate jepa folds --seed 0 --fold 1",
                    "jepa3d --study all report"):  # fmt: skip
        assert command in found


# --- parameters: what changes with them, in both engines

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
        lambda p: p["runs"]["jepa"].update(data=["toys", "spare"]),
        lambda p: p["runs"]["jepa"].update(patches="finer"),
        lambda p: p["runs"]["jepa"]["fit"].update(steps=2),
        lambda p: p["runs"]["jepa"]["monitor"].update(probe="spare"),
    ],
    "evals": [
        lambda p: p["evals"]["knn"].update(dataset="spare"),
        lambda p: p["evals"]["tuned"].update(patches="flat"),
        lambda p: p["evals"]["knn"]["task"].update(kind="finetune"),
        lambda p: p["evals"]["knn"]["task"].update(k=[3]),
        lambda p: p["evals"]["folds"]["task"].update(folds=3),
    ],
}


def changed(before: Params, after: Params) -> set[str]:
    """The verbs of which a job is new, is gone, or is another one than it was."""
    jobs, others = described(before), described(after)
    return {key[0] for key in jobs.keys() | others.keys() if jobs.get(key) != others.get(key)}


@pytest.mark.parametrize("section", SECTIONS)
def test_a_stage_names_every_section_that_can_change_its_jobs(section: str, tmp_path: Path):
    before, verbs = loaded(everything(), tmp_path), set()
    for change in CHANGES[section]:
        data = everything()
        change(data)
        verbs |= changed(before, loaded(data, tmp_path))
    named = {verb for verb in VERBS if section in STAGES[verb]["params"]}
    shown = {"report"} if section in ("datasets", "patches", "models", "tasks", "runs", "evals") else set()
    assert verbs <= named, f"dvc.yaml does not know that '{section}' changes {sorted(verbs - named)}"
    assert named - verbs <= shown, f"'{section}' changes nothing in {sorted(named - verbs)}"


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every number, word and switch of nested mappings and lists, with its path."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from leaves(inner, (*path, key))
    if not isinstance(value, dict | list):
        yield path, value


def others_than(value: Any) -> list[Any]:
    """Values that a parameter may have instead; those that are not valid there are refused."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value * 2, value / 2, value + 1]
    words = "other toys more flat finer linear sinusoidal mean single fps upright cross"
    return [2, 0.5, *words.split()]


@pytest.mark.slow
def test_a_change_of_any_parameter_starts_the_stages_whose_jobs_it_changes(tmp_path: Path):
    """Of the files' numbers, words and switches, defaults included, each by itself."""
    base = loaded(everything(), tmp_path)
    whole = slice_of(base) | {"runs": {"jepa": slice_of(base.runs["jepa"]), "other": slice_of(base.runs["other"])}}
    whole["evals"] = {name: slice_of(entry) for name, entry in base.evals.items()}
    whole["datasets"] = {name: slice_of(entry) for name, entry in base.datasets.items()}
    del whole["source"], whole["extends"], whole["execution"]
    tried: dict[str, int] = dict.fromkeys(SECTIONS, 0)
    before = loaded(whole, tmp_path)
    for path, value in leaves(whole):
        for other in others_than(value):
            data = yaml.safe_load(yaml.safe_dump(whole))
            at = data
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = other
            try:
                after = loaded(data, tmp_path)
            except Problem:
                continue
            verbs = changed(before, after)
            assert verbs <= {verb for verb in VERBS if path[0] in STAGES[verb]["params"]}, path
            tried[path[0]] += 1
            break
    assert sum(tried.values()) > 120, tried
    assert min(tried.values()) > 0, tried


def test_every_section_of_params_is_known_to_dvc():
    assert {name for verb in VERBS for name in STAGES[verb]["params"]} == set(SECTIONS)
    assert set(Params.model_fields) - {"source", "extends", "execution"} == set(SECTIONS)


def test_how_trainings_are_carried_out_changes_no_job(tmp_path: Path):
    before, data = loaded(everything(), tmp_path), everything()
    values = {"checkpoint_every": 7, "log_every": 3, "monitor_every": 5, "memory_gb": 0.5, "compile": "off"}
    data["execution"] = {**values, "runs": {"jepa": values}, "evals": {"tuned": values}}
    assert changed(before, loaded(data, tmp_path)) == set()


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
