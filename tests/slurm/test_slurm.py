"""On a real Slurm that the tests start themselves: the study, a second call, and what clusters do to a training."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from faults import FAULTS, orphans
from private_slurm import Slurm
from studies import STEPS, Command, Study

from jepa3d.results import store

pytestmark = pytest.mark.slurm


def test_the_study_runs_to_the_end_and_then_there_is_nothing_to_do(study: Study):
    """`snakemake --profile slurm all` from a fresh clone; what trains does so on two nodes with two ranks each.

    In a shell whose variables ask Slurm for something else; nothing of that reaches a job.
    """
    first = study.snakemake("all", "--config", "cluster=slurm/cluster.yaml", "tuning=slurm/cluster.yaml")
    first.succeed()
    assert "jepa finetune seed 0: job" in first.said
    assert "(slurm), 4 ranks on 2 nodes" in first.said
    metrics = store.read_json(study.layout.metrics)
    assert metrics["jepa"]["linear"]["accuracy"]["n"] == metrics["jepa"]["finetune"]["accuracy"]["n"] == 1
    cost = store.read_jsonl(study.layout.curve("jepa", 0))[-1]["cost"]
    assert cost["ranks"] == 4
    # convert, near copies, patchify, pretrain, embed, two evaluations together, fine-tuning, report
    submitted = study.slurm.jobs()
    assert list(submitted.values()) == ["COMPLETED"] * 8
    shown = (study.slurm.run("scontrol", "-o", "show", "job", str(number)) for number in submitted)
    records = [dict(word.partition("=")[::2] for word in text.split()) for text in shown]
    assert {record["Partition"] for record in records} == {"main"}
    assert all(record["TimeLimit"] != "00:01:00" and record["JobName"] != "mine" for record in records)
    assert "SBATCH_PARTITION=urgent of this shell does not count" in first.said
    assert not orphans(study)

    again = study.snakemake("all")  # where the fine-tuning would be an ordinary job: what is there, is as good
    again.succeed()
    assert "Nothing to be done" in again.said
    assert study.slurm.jobs() == submitted


def test_faults_of_all_kinds_change_no_bit_of_the_weights(study: Study):
    """One training, six faults: a launcher killed, USR2, a requeue, a rank killed, Snakemake killed, a cancellation."""
    if not study.layout.encoder("jepa", 0).exists():
        study.snakemake("all_pretrain").succeed()
    undisturbed = study.weights()
    study.forget_training()
    before = len(study.submitted())
    command = study.pretrain()
    for number, name in enumerate(("launcher killed", "USR2", "requeue", "rank killed"), 1):
        study.wait_for_step(number * STEPS // 8, command)
        command = FAULTS[name].strike(study, command, study.pretrain)
    assert len(study.lives) == 4
    study.wait_for_step(STEPS * 5 // 8, command)

    def after_the_cancellation() -> Command:
        assert "CANCELLED" in command.said
        assert not orphans(study)
        return study.snakemake("all_pretrain")

    command = FAULTS["scancel"].strike(study, command, after_the_cancellation)
    study.wait_for_step(STEPS * 6 // 8, command)
    command = FAULTS["snakemake killed for good"].strike(study, command, lambda: study.snakemake("all_pretrain"))
    command.succeed()
    assert f"resumed at step {STEPS}" in command.said  # nothing was trained again
    assert study.weights() == undisturbed
    assert not orphans(study)
    submitted = [name for name in study.submitted()[before:] if name.startswith("jepa3d-")]
    assert len(submitted) == 4  # again after the killed rank, after the cancellation, and to publish the results


def test_what_would_go_wrong_is_refused_before_any_job(slurm: Slurm, tmp_path: Path):
    """A --config that forgets how pretraining is submitted, and a second Snakemake in one folder."""
    study, before = Study.clone(tmp_path / "clone", slurm), slurm.jobs()
    forgetful = study.snakemake("all", "--config", "gpus=0")
    assert forgetful.wait() != 0
    assert "add 'cluster=slurm/cluster.yaml'" in forgetful.said

    lock = study.folder / ".snakemake" / "cluster.lock"
    with lock.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        second = study.snakemake("all")
        assert second.wait() != 0
    assert "another Snakemake works here" in second.said
    assert "Traceback" not in forgetful.said + second.said
    assert slurm.jobs() == before
