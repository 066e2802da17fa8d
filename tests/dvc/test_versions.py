"""Two engines, one truth: after either the other has nothing to do, and both redo the same after a change."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jepa3d import project
from jepa3d.layout import Layout
from jepa3d.params import Params
from jepa3d.results import provenance

pytestmark = pytest.mark.dvc
Clone = Callable[..., Any]


# --- the round trip


@pytest.mark.parametrize("cache", ["copy", "hardlink", "symlink"])
def test_pull_leaves_nothing_to_do_and_one_change_redoes_what_depends_on_it(clone: Clone, cache: str):
    """DVC replaces links by copies before a stage and links again after it, with new times each time."""
    here = clone(cache)
    assert "nothing to do" in here.versions("pull")
    here.assert_nothing_to_do()
    here.change(lambda p: p["models"]["wide"].update(depth=2))
    expected = here.would_run()
    assert expected == [
        "embed other toys --seed 0", "evaluate other knn --seed 0", "pretrain other --seed 0", "report"
    ]  # fmt: skip
    here.dvc("repro")
    assert here.has_run() == expected
    here.assert_nothing_to_do()
    assert here.corrupt() == []
    assert provenance.findings(provenance.read(Layout(here.folder / "results"))) == []


def test_what_snakemake_made_again_is_recorded_and_what_it_did_not_is_not(clone: Clone):
    here = clone()
    here.versions("pull")
    here.change(lambda p: p["evals"]["knn"]["task"].update(k=[3]))
    refused = here.run("python", "workflow/versions.py", "record", check=False)
    assert "results/metrics.json: is not there, or not made with today's params.yaml" in refused
    assert "Traceback" not in refused
    here.snakemake("all")
    assert here.has_run() == ["evaluate jepa knn --seed 0", "evaluate other knn --seed 0", "report"]
    here.versions("record")
    here.assert_nothing_to_do()


def test_an_earlier_commit_comes_back_without_a_computation(clone: Clone):
    here = clone()
    here.versions("pull")
    here.change(lambda p: p["studies"]["tiny"].update(runs=["other"]))
    here.snakemake("all")
    here.versions("record")
    here.commit("one run")
    here.has_run()
    here.run("git", "checkout", "--quiet", "HEAD~1")
    here.versions("pull")
    here.assert_nothing_to_do()
    assert here.has_run() == []


CHANGES: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("study", lambda p: p.update(study="small")),
    ("studies: a seed", lambda p: p["studies"]["tiny"].update(seeds=[0, 1])),
    ("studies: words", lambda p: p["studies"]["tiny"].update(about="other words")),
    ("datasets", lambda p: p["datasets"]["toys"].update(seed=1)),
    ("patches", lambda p: p["patches"]["flat"].update(sample="fps")),
    ("models", lambda p: p["models"]["tiny"].update(depth=2)),
    ("models: an unused one", lambda p: p["models"].update(unused={"width": 24})),
    ("runs", lambda p: p["runs"]["other"].update(augment={"rotate": "upright"})),
    ("runs: words", lambda p: p["runs"]["jepa"].update(about="other words")),
    ("runs: another's", lambda p: p["runs"].update(third={"base": "jepa"})),
    ("evals", lambda p: p["evals"]["knn"]["task"].update(k=[3])),
    ("tasks: an unused one", lambda p: p["tasks"].update(near={"kind": "knn"})),
    ("execution", lambda p: p.update(execution={"checkpoint_every": 3, "runs": {"jepa": {"memory_gb": 0.5}}})),
    ("runs: a monitor's data", lambda p: p["runs"]["other"].update(monitor={"probe": "watched"})),
    ("datasets: shards", lambda p: p["datasets"]["toys"].update(shards=2)),
]


def test_any_change_of_any_section_selects_the_same_jobs_in_both_engines(clone: Clone):
    """A stage runs what its records call stale and what is missing; so DVC must start the stages of all that Snakemake
    would make, and the records must call stale what Snakemake does."""
    here = clone()
    here.versions("pull")
    layout, original = Layout(here.folder / "results"), here.params
    assert {name.split(":")[0] for name, _ in CHANGES} == set(Params.model_fields) - {"source", "extends"}
    for name, change in CHANGES:
        here.change(change)
        wanted = set(here.would_run())
        params = project.load(here.folder / "params.yaml")
        files = provenance.read(layout)
        stale = {command(path) for path in provenance.judge(params, files).stale}
        made = {command(path) for path in files.digests}
        asked = {line for line in wanted if line in made}
        assert stale & made == asked, name
        started = set(json.loads(here.dvc("status", "--json")))
        for verb in {line.split()[0] for line in wanted}:
            before = ["download", "convert", "patchify", "pretrain", "embed", "evaluate", "report"]
            earlier = before[: before.index(verb)]
            assert verb in started or any(line.split()[0] in earlier for line in wanted), f"{name}: {verb}"
        here.change(lambda p: (p.clear(), p.update(original)))


def command(path: Path) -> str:
    from jepa3d.layout import made_by

    return made_by(path).removeprefix("jepa3d ").replace("--study tiny report", "report")


def test_dvc_goes_first_and_snakemake_has_nothing_to_do(plant: Clone):
    here = plant()
    here.dvc("repro")
    assert len(here.has_run()) == 11
    here.assert_nothing_to_do()
    here.change(lambda p: p["models"].update(unused={"width": 24}))
    here.dvc("repro")
    assert here.has_run() == [], "a stage that has nothing to do does nothing, and upsets nothing after it"
    here.assert_nothing_to_do()


# --- comparison


def test_an_experiment_from_the_queue_redoes_one_run_and_can_be_compared(clone: Clone):
    here = clone()
    here.versions("pull")
    here.dvc("exp", "run", "--queue", "--name", "two", "-S", "runs.jepa.objective.mask.blocks=2")
    here.dvc("exp", "run", "--run-all")
    trained = [line for line in here.has_run() if line.startswith("pretrain")]
    assert trained == ["pretrain jepa --seed 0", "pretrain other --seed 0"], "other is based on jepa"
    assert "Success" in here.dvc("queue", "status")
    shown = here.dvc("exp", "show", "--csv")
    assert "runs.jepa.objective.mask.blocks" in shown
    assert "two" in shown
    assert "runs.jepa.objective.mask.blocks  4" in " ".join(here.dvc("params", "diff", "HEAD", "two").split("\n"))
    changed = here.dvc("metrics", "diff", "HEAD", "two")
    assert "jepa.knn.accuracy.mean" in changed
    plots = here.dvc("plots", "diff", "HEAD", "two", "--out", "drawn")
    assert "drawn" in plots
    page = (here.folder / "drawn" / "index.html").read_text()
    for title in ("Scores", "Training curves", "Confusion matrix"):
        assert title in page
    here.assert_nothing_to_do()


# --- killed at any moment


@pytest.mark.parametrize("everything", [False, True])
def test_a_killed_repro_is_mended_by_the_next(clone: Clone, everything: bool):
    here = clone()
    here.versions("pull")
    here.change(lambda p: p["models"]["wide"].update(depth=2))
    repro = here.start("dvc", "repro", HOLLOW_SECONDS="3")
    here.wait_for_a_job("pretrain")
    time.sleep(random.Random(everything).uniform(0, 2))
    here.kill(repro, everything)
    here.dvc("repro")
    assert set(here.has_run()) == {
        "embed other toys --seed 0", "evaluate other knn --seed 0", "pretrain other --seed 0", "report"
    }  # fmt: skip
    here.assert_nothing_to_do()
    assert here.corrupt() == []


def test_a_killed_snakemake_holds_up_no_other_and_the_same_command_goes_on(clone: Clone):
    here = clone()
    here.versions("pull")
    here.change(lambda p: p["models"]["wide"].update(depth=2))
    first = here.start("snakemake", "--cores", "2", "all", HOLLOW_SECONDS="5")
    here.wait_for_a_job("pretrain")
    assert "another Snakemake works here" in here.run("snakemake", "--cores", "2", "all", check=False)
    here.kill(first, everything=True)
    here.snakemake("all")
    assert "Nothing to be done" in here.run("snakemake", "-n", "all")


def test_a_killed_pull_and_a_killed_push_are_mended_by_the_next(clone: Clone, tmp_path: Path):
    here = clone()
    for moment in (0.6, 1.2, 2.5, 4.5):
        process = here.start("python", "workflow/versions.py", "pull")
        time.sleep(moment)
        here.kill(process, everything=True)
    here.versions("pull")
    here.assert_nothing_to_do()
    here.dvc("remote", "add", "--local", "--default", "--force", "second", str(tmp_path / "second"))
    for moment in (0.7, 1.0, 1.3):
        process = here.start("dvc", "push")
        time.sleep(moment)
        here.kill(process, everything=True)
    pushed = here.versions("push")
    again = clone("copy")
    again.dvc("remote", "add", "--local", "--default", "--force", "second", str(tmp_path / "second"))
    pulled = again.run("python", "workflow/versions.py", "pull", check=False)
    assert "everything is here and current" in pulled, f"the push said\n{pushed}\nand the pull\n{pulled}"
    again.assert_nothing_to_do()


KILLED_WHEN_HALF_COUNTED = """
import os, signal, sys
from dvc.cli import main
import dvc_data.index.collect
of = sys.modules["dvc_data.index.collect"]
collect, done = of._collect_from_index, []

def some(*args, **options):
    if len(done) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(collect(*args, **options))

of._collect_from_index = some
main(sys.argv[1:])
"""


def test_a_list_of_files_that_a_killed_command_left_incomplete_is_not_believed(clone: Clone, tmp_path: Path):
    """DVC writes its list of what to transfer output by output, and takes it for whole as soon as it is there."""
    here = clone()
    killed = here.start("python", "-c", KILLED_WHEN_HALF_COUNTED, "pull")
    assert killed.wait() == -signal.SIGKILL
    assert "everything is here and current" in here.versions("pull")
    here.assert_nothing_to_do()
    second = ("remote", "add", "--local", "--default", "--force", "second", str(tmp_path / "second"))
    here.dvc(*second)
    killed = here.start("python", "-c", KILLED_WHEN_HALF_COUNTED, "push")
    assert killed.wait() == -signal.SIGKILL
    here.versions("push")
    again = clone("copy")
    again.dvc(*second)
    assert "everything is here and current" in again.versions("pull")
    again.assert_nothing_to_do()


# --- what is kept


def test_gc_keeps_what_a_commit_or_an_experiment_needs(clone: Clone):
    here = clone()
    here.versions("pull")
    here.change(lambda p: p["evals"]["knn"]["task"].update(k=[3]))
    here.snakemake("all")
    here.versions("record")
    here.commit("k = 3")
    here.change(lambda p: p["evals"]["knn"]["task"].update(k=[5]))
    here.snakemake("all")
    here.versions("record")  # in no commit
    kept = len(list((here.folder / ".dvc/cache/files/md5").glob("??/*")))
    here.run("git", "checkout", "--quiet", "--", ".")
    here.dvc("gc", "--all-commits", "--all-experiments", "--force")
    assert len(list((here.folder / ".dvc/cache/files/md5").glob("??/*"))) < kept
    for commit in ("main", "main~1"):
        here.run("git", "checkout", "--quiet", commit)
        here.dvc("checkout", "--force")
        assert "up to date" in here.dvc("status")


# --- the real command


def test_the_real_command_stamps_what_the_records_are_judged_by(plant: Clone):
    """The graph says what a verb would stamp: here it is held against what the verbs do stamp."""
    here = plant("small", real=True)
    here.snakemake("all")
    files = provenance.read(Layout(here.folder / "results"))
    judged = provenance.judge(project.load(here.folder / "params.yaml"), files)
    assert judged.stale == []
    assert {path.parts[-1] for path in judged.current} >= {"metrics.json", "scores.csv", "curves.csv", "model_card.md"}
    assert provenance.findings(files) == []
    here.versions("record")
    here.assert_nothing_to_do()
    page = here.run("jepa3d", "trace", "results/metrics.json", "jepa", "knn")
    assert "trained   20 steps" in page
