"""Two Snakemakes in one folder, and what a killed one left behind: the guard of `snakemake --profile slurm`.

Snakemake's own lock outlives a Snakemake that was killed, and then the same command is refused. The lock here is the
kernel's (flock): it dies with the process that holds it. Whoever gets it may cancel the ordinary jobs that the one
before left in Slurm's queue: they would be submitted twice otherwise. Pretraining is not among them; its launcher
finds its running job again.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from jepa3d.launch import environment
from jepa3d.problem import Problem

PATIENCE = 120.0  # seconds that cancelled jobs have to leave the queue
_held: list[IO[str]] = []  # open until the process ends


def claim(folder: Path) -> None:
    """Be the only Snakemake in this folder until this process ends. Raises a Problem that names the other one."""
    path = folder / ".snakemake" / "cluster.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise Problem(
            f"{folder}: another Snakemake works here",
            f"{holder} holds {path}",
            "wait for it, end it, or work in another clone",
        ) from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {os.uname().nodename}")
    file.flush()
    _held.append(file)


def cancel_leftover(folder: Path, prefix: str) -> list[str]:
    """Cancel this user's jobs that were submitted from `folder` under names with `prefix`; return their numbers."""
    found = leftover(folder, prefix)
    if found:
        print(f"cancelling {len(found)} jobs of a Snakemake that was killed: {', '.join(found)}", file=sys.stderr)
        _slurm("scancel", *found)
        end = time.monotonic() + PATIENCE
        while leftover(folder, prefix):
            if time.monotonic() > end:
                raise Problem(
                    f"{folder}: jobs of a Snakemake that was killed do not end",
                    f"still in the queue: {', '.join(leftover(folder, prefix))}",
                    "look at them with squeue, and give the same command again when they are gone",
                )
            time.sleep(1)
    return found


def leftover(folder: Path, prefix: str) -> list[str]:
    """The numbers of the jobs in the queue that were submitted from `folder` under names with `prefix`."""
    rows = _slurm("squeue", "--noheader", f"--user={os.geteuid()}", "--format=%A|%j|%Z").splitlines()
    parts = (row.split("|", 2) for row in rows)
    return [number for number, name, at in parts if name.startswith(f"{prefix}_") and Path(at) == folder.resolve()]


def _slurm(*command: str) -> str:
    try:
        done = subprocess.run(
            command, env=environment.cleaned(), capture_output=True, text=True, check=True, timeout=PATIENCE
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip()
        raise Problem(
            f"{command[0]} does not work", said, "give the command on a machine where Slurm's commands work"
        ) from None
    return done.stdout
