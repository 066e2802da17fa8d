"""The guard of the Slurm profile: one Snakemake a folder, and nothing of a killed one in the queue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jepa3d.launch import leftover
from jepa3d.problem import Problem

HOLD = "import sys; from pathlib import Path; from jepa3d.launch import leftover; leftover.claim(Path(sys.argv[1])); "


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A queue of jobs, one a line: 'number|name|folder'. `squeue` shows it and `scancel` takes lines away."""
    path, tools = tmp_path / "queue", tmp_path / "tools"
    path.touch()
    tools.mkdir()
    scripts = {"squeue": f"cat {path}", "scancel": f'for job; do sed -i "/^$job|/d" {path}; done'}
    for name, script in scripts.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return path


def test_a_second_snakemake_in_a_folder_is_a_problem_that_names_the_first(tmp_path: Path):
    command = [sys.executable, "-c", HOLD + "print('held', flush=True); sys.stdin.read()", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(Problem, match="another Snakemake works here") as caught:
            leftover.claim(tmp_path)
        assert f"process {other.pid} on" in caught.value.why
        other.send_signal(signal.SIGKILL)
    leftover.claim(tmp_path)  # a killed one holds nothing
    leftover._held.pop().close()


def test_jobs_of_a_killed_snakemake_are_cancelled_and_no_others(queue: Path, tmp_path: Path):
    elsewhere = "9|jepa3d_0f|/somewhere/else\n"
    others = f"{elsewhere}8|jepa3d-jepa-seed0-1a2b|{tmp_path}\n7|mine|{tmp_path}\n"  # a pretraining, and a stranger
    queue.write_text(f"5|jepa3d_1a-2b|{tmp_path}\n{others}6|jepa3d_1a-2b|{tmp_path}\n")
    assert leftover.cancel_leftover(tmp_path, "jepa3d") == ["5", "6"]
    assert queue.read_text() == others
    assert leftover.cancel_leftover(tmp_path, "jepa3d") == []


def test_jobs_that_do_not_end_are_a_problem(queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leftover, "PATIENCE", 0.5)
    (tmp_path / "tools" / "scancel").write_text("#!/bin/sh\n")
    queue.write_text(f"5|jepa3d_1a|{tmp_path}\n")
    with pytest.raises(Problem, match="do not end") as caught:
        leftover.cancel_leftover(tmp_path, "jepa3d")
    assert "5" in caught.value.why


def test_a_queue_that_cannot_be_asked_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Problem, match="squeue does not work"):
        leftover.leftover(tmp_path, "jepa3d")
