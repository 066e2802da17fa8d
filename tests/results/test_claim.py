"""Two commands for one output: the second is refused and names the first; what a killed one leaves holds nobody up."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jepa3d.problem import Problem
from jepa3d.results import claim
from jepa3d.results.claim import claimed

HOLD = """
import sys
from pathlib import Path
from jepa3d.results.claim import claimed
with claimed(Path(sys.argv[1]), "jepa3d pretrain a 0"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the claim `tmp_path/a.lock`, until its input ends."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "a.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_the_second_is_refused_and_told_who_is_at_work(other: subprocess.Popen[bytes], tmp_path: Path):
    with pytest.raises(Problem, match="is being done already") as caught, claimed(tmp_path / "a.lock", "it"):
        pass
    assert f"process {other.pid} on {socket.gethostname()} since " in caught.value.why
    other.communicate()  # the first comes to its end
    assert not (tmp_path / "a.lock").exists()
    with claimed(tmp_path / "a.lock", "it"):
        pass


def test_one_that_has_patience_waits_for_the_end_of_the_first(other: subprocess.Popen[bytes], tmp_path: Path):
    threading.Timer(0.3, other.kill).start()
    with claimed(tmp_path / "a.lock", "it", patience=60):
        assert json.loads((tmp_path / "a.lock").read_text())["pid"] == os.getpid()
    assert other.poll() is not None


def test_a_killed_owner_holds_nobody_up(other: subprocess.Popen[bytes], tmp_path: Path):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / "a.lock").exists()
    with claimed(tmp_path / "a.lock", "it"):
        assert json.loads((tmp_path / "a.lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_the_owner_is_looked_for(
    other: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(Problem, match="is being done already"), claimed(tmp_path / "a.lock", "it"):
        pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    with claimed(tmp_path / "a.lock", "it"):
        pass


def test_an_owner_on_another_machine_counts_while_it_gives_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The lock of another node may not be seen here, as on Lustre with `localflock`."""
    path = tmp_path / "a.lock"

    def left(silent: float, life: int = 0) -> None:
        owner = {"pid": 1, "start": "1:1", "host": "elsewhere", "job": ["7", life], "since": "then"}
        path.write_text(json.dumps(owner))
        os.utime(path, (time.time() - silent,) * 2)

    left(silent=60)
    with pytest.raises(Problem, match="is being done already"), claimed(path, "it"):
        pass
    left(silent=300)
    with claimed(path, "it"):
        pass
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    left(silent=1)
    with pytest.raises(Problem), claimed(path, "it"):  # a second line of `srun` in one job
        pass
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with claimed(path, "it"):  # the same job, which was queued again after its node was lost
        pass


def test_an_owner_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claim, "PULSE", 0.01)
    with claimed(tmp_path / "a.lock", "it"):
        os.utime(tmp_path / "a.lock", (0, 0))
        end = time.monotonic() + 20
        while (tmp_path / "a.lock").stat().st_mtime == 0:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_a_claim_that_says_nothing_readable_is_taken(tmp_path: Path):
    (tmp_path / "a.lock").write_bytes(b"\xff[1, 2")
    with claimed(tmp_path / "a.lock", "it"):
        pass


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(Problem, match="cannot be written"), claimed(tmp_path / "file" / "a.lock", "it"):
        pass
