"""What Slurm's commands say, and what is made of it; and this machine's own processes as jobs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jepa3d.launch import environment, queues
from jepa3d.launch.queues import End, Local, Look, Slurm
from jepa3d.problem import Problem

Tools = Callable[..., None]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """tools(squeue="echo ..."): commands of these names, and no others, are on the PATH."""

    def _tools(**scripts: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return _tools


@pytest.mark.parametrize(
    ("said", "look"),
    [
        ("RUNNING|None|n[1-2]", Look("running", "RUNNING", "", "n[1-2]")),
        ("PENDING|Resources|", Look("waiting", "PENDING", "Resources", "")),
        ("PENDING|BeginTime|", Look("waiting", "PENDING", "BeginTime", "")),
        ("COMPLETING|None|n1", Look("running", "COMPLETING", "", "n1")),
        ("OUT_OF_MEMORY|OutOfMemory|n1", Look("ended", "OUT_OF_MEMORY")),
        ("COMPLETED|None|n1", Look("ended", "COMPLETED")),
        ("", Look("ended", "FORGOTTEN")),
    ],
)
def test_a_state_is_waiting_running_or_ended(tools: Tools, said: str, look: Look):
    tools(squeue=f"echo '{said}'", scontrol="echo 'Invalid job id specified' >&2; exit 1")
    assert Slurm().look("7") == look


def test_a_job_that_slurm_has_forgotten_has_ended(tools: Tools):
    unknown = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
    tools(squeue=unknown, scontrol=unknown)
    assert Slurm().look("7") == Look("ended", "FORGOTTEN")


def test_a_controller_that_does_not_answer_says_nothing_about_the_job(tools: Tools):
    tools(squeue="echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(queues.Unreachable, match="Unable to contact"):
        Slurm().look("7")


def test_a_machine_without_slurm_is_a_problem(tools: Tools):
    tools()
    with pytest.raises(Problem, match="there is no 'squeue' on this machine"):
        Slurm().look("7")


def test_a_job_is_found_by_its_name(tools: Tools, tmp_path: Path):
    tools(squeue=f'echo "$@" > {tmp_path}/asked; echo 12')
    assert Slurm().find("jepa3d-a-seed0", tmp_path) == "12"
    assert "--name=jepa3d-a-seed0" in (tmp_path / "asked").read_text()
    tools(squeue="true")
    assert Slurm().find("jepa3d-a-seed0", tmp_path) is None


def test_how_a_job_ended_is_asked_of_scontrol_then_of_sacct(tools: Tools):
    tools(scontrol="echo 'JobId=7 JobName=x JobState=TIMEOUT Reason=TimeLimit ExitCode=0:15'")
    assert Slurm().ended("7") == End("TIMEOUT", 0, 15, "TimeLimit")
    tools(scontrol="exit 1", sacct="echo 'CANCELLED by 1000|1:0|None'")
    assert Slurm().ended("7") == End("CANCELLED", 1, 0, "")
    tools(scontrol="exit 1", sacct="exit 1")
    assert Slurm().ended("7") == End("FORGOTTEN")


def test_without_accounting_there_is_no_sacct(tools: Tools, tmp_path: Path):
    tools(scontrol="exit 1")
    (tmp_path / "bin" / "sacct").unlink(missing_ok=True)
    assert Slurm().ended("7") == End("FORGOTTEN")


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (End("OUT_OF_MEMORY", 0, 125), ("OUT_OF_MEMORY", "raise 'memory_gb'")),
        (End("CANCELLED", 0, 15), ("CANCELLED", "goes on from the last checkpoint")),
        (End("TIMEOUT"), ("TIMEOUT", "raise 'minutes'")),
        (End("NODE_FAIL"), ("NODE_FAIL", "exclude the node")),
        (End("PREEMPTED"), ("PREEMPTED", "requeue: true")),
        (End("FAILED", 137), ("SIGKILL", "memory")),
        (End("FAILED", 0, 9), ("SIGKILL", "memory")),
        (End("FAILED", 3), ("exit code 3", "the same command")),
        (End("FORGOTTEN"), ("FORGOTTEN", "the same command")),
    ],
)
def test_an_end_is_explained_with_what_to_change(end: End, words: tuple[str, ...]):
    problem = str(queues.explain("7", end, Path("7_0_log.err")))
    assert "7_0_log.err" in problem
    for word in words:
        assert word in problem


def test_a_process_is_known_by_its_number_and_its_start():
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    name = queues.identity(child.pid)
    assert name is not None
    assert Local().look(name) == Look("running", "RUNNING")
    assert Local().look(f"{child.pid}:1").phase == "ended"  # another process that has the number now
    Local().cancel(name)
    assert Local().look(name).phase == "ended"  # though nobody has waited for it yet
    assert child.wait() == -15
    assert queues.identity(child.pid) is None


def test_a_controller_is_found_by_its_folder(tmp_path: Path):
    code = "import sys; sys.stdout.write('.'); sys.stdout.flush(); input()"
    words = [sys.executable, "-c", code, "submitit.local._local", str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read(1)
        assert Local().find("any", tmp_path) == queues.identity(child.pid)
        assert Local().find("any", tmp_path / "other") is None
        child.kill()


def test_the_scheduler_is_given_time(tools: Tools, monkeypatch: pytest.MonkeyPatch):
    tools(squeue=f"{sys.executable} -c 'import time; time.sleep(5)'")
    monkeypatch.setattr(queues, "ASK", 0.2)
    begin = time.monotonic()
    with pytest.raises(queues.Unreachable, match="no answer"):
        Slurm().look(str(os.getpid()))
    assert time.monotonic() - begin < 4


HOSTILE = {
    "SQUEUE_PARTITION": "urgent",
    "SQUEUE_USERS": "nobody",
    "SBATCH_PARTITION": "urgent",
    "SLURM_JOB_ID": "12",
    "SRUN_CPUS_PER_TASK": "3",
    "PMI_RANK": "0",
}
SITE = {"SLURM_CONF": "/site/slurm.conf", "SLURM_CLUSTERS": "east"}


def test_what_the_shell_says_about_jobs_does_not_reach_the_scheduler(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for key, value in (HOSTILE | SITE).items():
        monkeypatch.setenv(key, value)
    tools(squeue=f"export -p > {tmp_path}/seen; echo 'RUNNING|None|n1'")
    assert Slurm().look("7").phase == "running"
    seen = (tmp_path / "seen").read_text()
    assert not [key for key in HOSTILE if key in seen]
    assert all(f"{key}='{value}'" in seen or f'{key}="{value}"' in seen for key, value in SITE.items())

    assert environment.cleaned({"A": "1", "SBATCH_A": "2", "SLURM_CONF": "3"}) == {"A": "1", "SLURM_CONF": "3"}
    environment.clean()  # in this process, for what Snakemake submits
    assert not set(HOSTILE) & set(os.environ)
    assert set(SITE) <= set(os.environ)
    assert "SBATCH_PARTITION=urgent of this shell does not count; use 'partition'" in capsys.readouterr().err


def test_a_job_that_squeue_does_not_list_has_ended_only_if_scontrol_agrees(tools: Tools):
    tools(squeue="true", scontrol="echo 'JobId=7 JobState=RUNNING Reason=None NodeList=n2'")
    assert Slurm().look("7") == Look("running", "RUNNING", "", "n2")
    tools(squeue="true", scontrol="echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert Slurm().look("7") == Look("ended", "FORGOTTEN")
    tools(squeue="true", scontrol="echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(queues.Unreachable):
        Slurm().look("7")


def test_a_job_that_is_not_what_was_asked_for_is_cancelled(tools: Tools, tmp_path: Path):
    tools(
        scontrol="echo 'JobId=7 Partition=urgent TimeLimit=10-00:00:00 Requeue=1'",
        scancel=f'echo "$@" > {tmp_path}/cancelled',
    )
    Slurm().check_taken("7", {"Partition": "main,urgent", "TimeLimit": "240:00:00", "QOS": "high"})
    assert not (tmp_path / "cancelled").exists()
    with pytest.raises(Problem, match="not what was asked for") as caught:
        Slurm().check_taken("7", {"Partition": "main", "TimeLimit": "00:20:00", "Requeue": "1"})
    assert "Partition is urgent, asked was main; TimeLimit is 10-00:00:00, asked was 00:20:00" in caught.value.why
    assert (tmp_path / "cancelled").read_text().strip() == "7"


@pytest.mark.parametrize("partition", ["main", "urgent", "main,urgent"])
def test_one_of_several_partitions_and_an_account_in_lower_case_are_what_was_asked_for(
    tools: Tools, tmp_path: Path, partition: str
):
    tools(
        scontrol=f"echo 'JobId=7 Partition={partition} Account=my_project'",
        scancel=f'echo "$@" > {tmp_path}/cancelled',
    )
    Slurm().check_taken("7", {"Partition": "main,urgent", "Account": "My_Project"})
    assert not (tmp_path / "cancelled").exists()
    with pytest.raises(Problem, match="not what was asked for"):
        Slurm().check_taken("7", {"Partition": "other", "Account": "My_Project"})


@pytest.mark.parametrize(
    ("limit", "minutes"), [("00:20:00", 20), ("1-02:00:30", 1560.5), ("UNLIMITED", float("inf")), ("45:00", 45)]
)
def test_time_limits_are_minutes(limit: str, minutes: float):
    assert queues.minutes(limit) == minutes
