"""Jobs as their queue sees them: is it waiting, running or gone, and why did it end. Slurm's, and this machine's own.

Both have the same four functions: `find` a job by its name, `look` at it, say how it `ended`, and `cancel` it. Slurm is
asked by squeue and scontrol, which every site has; sacct is asked when those have forgotten the job, and may be absent.
torchrun would start the ranks of this machine, but it ends with the command that started it and cannot be found again.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from jepa3d.launch import environment
from jepa3d.problem import Problem
from jepa3d.results.claim import identity

Phase = Literal["waiting", "running", "ended"]
ASK = 60.0  # seconds that a question to the scheduler may take
KILL_WAIT = 40.0  # seconds between the signal that ends a local job and the one that kills it

ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL"}
ENDED |= {"DEADLINE", "REVOKED"}
HOPELESS = {  # reasons of a waiting job that no waiting changes, and what to change
    "PartitionTimeLimit": "lower 'minutes': the partition allows less",
    "PartitionNodeLimit": "lower 'nodes': the partition has or allows fewer",
    "PartitionInactive": "choose another 'partition'",
    "BadConstraints": "no node is like that: check 'constraint', 'gpu_type', 'memory_gb' and 'cpus_per_rank'",
    "InvalidAccount": "check 'account'",
    "InvalidQOS": "check 'qos'",
    "AccountNotAllowed": "check 'account' and 'partition'",
    "AssocMaxWallDurationPerJobLimit": "lower 'minutes': the account allows less",
    "QOSMaxWallDurationPerJobLimit": "lower 'minutes': the qos allows less",
    "QOSMaxNodePerJobLimit": "lower 'nodes': the qos allows fewer",
    "AssocMaxNodePerJobLimit": "lower 'nodes': the account allows fewer",
    "DependencyNeverSatisfied": "take the dependency out of 'options'",
    "launch_failed_requeued_held": "a node could not start it: ask the site, or exclude the node under 'options'",
}


class Unreachable(Exception):
    """The scheduler did not answer: nothing is known about the job just now."""


class Look(NamedTuple):
    phase: Phase
    state: str  # the scheduler's own word
    reason: str = ""  # why it waits
    where: str = ""  # the nodes it is on


class End(NamedTuple):
    state: str
    code: int = 0  # the exit code
    signal: int = 0  # the signal that ended it
    reason: str = ""


class Queue(Protocol):
    def find(self, name: str, folder: Path) -> str | None: ...
    def look(self, job: str) -> Look: ...
    def ended(self, job: str) -> End: ...
    def cancel(self, job: str) -> None: ...


class Slurm:
    """A job is its number. A question that is not answered raises Unreachable."""

    def find(self, name: str, folder: Path) -> str | None:
        """The job of this user in the queue under a name, if there is one."""
        said = _ask("squeue", "--noheader", f"--user={os.geteuid()}", f"--name={name}", "--format=%A")
        return said.split()[0] if said.split() else None

    def look(self, job: str) -> Look:
        try:
            said = _ask("squeue", "--noheader", f"--jobs={job}", "--states=all", "--format=%T|%r|%N")
        except Unreachable as error:
            if "Invalid job id" not in str(error):
                raise
            said = ""
        if not said.strip():
            return self._remembered(job)
        state, reason, where = said.strip().splitlines()[0].split("|", 2)
        return _look(state, reason, where)

    def _remembered(self, job: str) -> Look:
        """A look at a job that squeue does not list: it has ended unless scontrol knows better."""
        try:
            said = self.settings(job)
        except Unreachable as error:
            if "Invalid job id" not in str(error):
                raise
            return Look("ended", "FORGOTTEN")
        return _look(said["JobState"], said.get("Reason", ""), said.get("NodeList", ""))

    def settings(self, job: str) -> dict[str, str]:
        """What the controller has on record of a job, under scontrol's names: Partition, TimeLimit, JobState..."""
        return dict(re.findall(r"(\w+)=(\S*)", _ask("scontrol", "--oneliner", "show", "job", job)))

    def ended(self, job: str) -> End:
        """How a job ended, by scontrol as long as it remembers, then by sacct where the site has it."""
        with contextlib.suppress(Unreachable):
            said = self.settings(job)
            return _end(said["JobState"], said.get("ExitCode", "0:0"), said.get("Reason", ""))
        with contextlib.suppress(Unreachable, IndexError, ValueError):
            said_rows = _ask("sacct", "-n", "-P", "-X", "-j", job, "-o", "State,ExitCode,Reason").splitlines()
            return _end(*said_rows[-1].split("|"))
        return End("FORGOTTEN")

    def cancel(self, job: str) -> None:
        with contextlib.suppress(Unreachable):  # it may have ended meanwhile
            _ask("scancel", job)

    def check_taken(self, job: str, asked: dict[str, str]) -> None:
        """Compare what was asked for with what the controller has on record; a job that differs is cancelled.

        `asked` has scontrol's names: {"Partition": "gpu", "TimeLimit": "04:00:00", ...}. Raises a Problem.
        """
        try:
            taken = self.settings(job)
        except Unreachable:  # nothing is known; a job that never starts is explained while it waits
            return
        differ = {key: value for key, value in asked.items() if key in taken and not _same(key, value, taken[key])}
        if differ:
            self.cancel(job)
            raise Problem(
                f"job {job} is not what was asked for, and is cancelled",
                "; ".join(f"{key} is {taken[key]}, asked was {value}" for key, value in differ.items()),
                "a default or a plugin of the site changes it: write in the cluster file what the site makes of it",
            )


def _same(key: str, asked: str, taken: str) -> bool:
    if key == "TimeLimit":
        return minutes(asked) == minutes(taken)
    if key == "Partition":  # all that were asked for while it waits, then the one that it is in
        return set(taken.split(",")) <= set(asked.split(","))
    return asked.lower() == taken.lower()  # Slurm writes the names of accounts in lower case


def minutes(limit: str) -> float:
    """Slurm's [DAYS-]HOURS:MINUTES:SECONDS in minutes; UNLIMITED is infinite."""
    if limit == "UNLIMITED":
        return float("inf")
    days, _, rest = limit.rpartition("-")
    hours, mins, seconds = ([0, 0, 0] + [int(part) for part in rest.split(":")])[-3:]
    return 1440 * int(days or 0) + 60 * hours + mins + seconds / 60


def _look(state: str, reason: str, where: str) -> Look:
    if state in ENDED:
        return Look("ended", state)
    waits = state in ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")
    return Look("waiting" if waits else "running", state, "" if reason == "None" else reason, where)


def _end(state: str, code: str, reason: str) -> End:
    number, _, by = code.partition(":")
    return End(state.split()[0], int(number), int(by or 0), "" if reason == "None" else reason)


def _ask(*command: str) -> str:
    """What one of Slurm's commands says. Raises a Problem when there is none, Unreachable when it does not answer."""
    try:
        done = subprocess.run(command, env=environment.cleaned(), capture_output=True, text=True, timeout=ASK)
    except FileNotFoundError:
        if command[0] == "sacct":
            raise Unreachable("no sacct") from None
        raise no_slurm(command[0]) from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{command[0]} gave no answer in {ASK:.0f} s") from None
    if done.returncode:
        raise Unreachable(done.stderr.strip() or f"{command[0]} ended with {done.returncode}")
    return done.stdout


def no_slurm(tool: str) -> Problem:
    return Problem(
        f"--launch slurm: there is no '{tool}' on this machine",
        "Slurm's commands submit and watch the job",
        "give the command on a login node of the cluster, or use --launch local or here",
    )


@dataclass(frozen=True)
class Local:
    """A job is 'PID:START of its first process', both as /proc has them: numbers come again, pairs do not."""

    def find(self, name: str, folder: Path) -> str | None:
        """The controller that works in a folder, which is a word of its command line."""
        wanted = os.fsencode(str(folder))
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"submitit.local._local" in words and wanted in words:
                    return identity(int(entry.name))
        return None

    def look(self, job: str) -> Look:
        return Look("running", "RUNNING") if identity(int(job.split(":")[0])) == job else Look("ended", "ENDED")

    def ended(self, job: str) -> End:
        return End("ENDED")

    def cancel(self, job: str) -> None:
        """Ask every process of the job to end, and kill those that have not in 40 seconds."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.look(job).phase == "ended":
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(os.getpgid(int(job.split(":")[0])), number)
            end = time.monotonic() + KILL_WAIT
            while self.look(job).phase != "ended" and time.monotonic() < end:
                time.sleep(0.1)


QUEUES: dict[str, Queue] = {"slurm": Slurm(), "local": Local()}

ADVICE = {
    "CANCELLED": "the same command goes on from the last checkpoint",
    "TIMEOUT": "raise 'minutes', or set 'requeue: true'; the same command goes on from the last checkpoint",
    "OUT_OF_MEMORY": "raise 'memory_gb' in the cluster file, or lower execution.memory_gb or fit.batch",
    "NODE_FAIL": "the same command goes on from the last checkpoint; if it comes again, exclude the node in 'options'",
    "PREEMPTED": "set 'requeue: true', or choose a 'qos' or 'partition' that is not preempted; "
    "the same command goes on from the last checkpoint",
    "BOOT_FAIL": "the node did not start: give the same command again",
    "DEADLINE": "it could not have ended by its deadline: change it under 'options'",
}


def explain(job: str, end: End, log: Path) -> Problem:
    """A Problem about a job that ended without a word of its own: what happened, by the queue, and what to change."""
    state = end.state.rstrip("+")
    killed = end.signal or (end.code - 128 if end.code > 128 else 0)
    if state in ADVICE:
        why, mend = f"Slurm says {state}" + (f" ({end.reason})" if end.reason else ""), ADVICE[state]
    elif killed == signal.SIGKILL:
        why = "it was killed (SIGKILL), as the system does when memory runs out"
        mend = "raise 'memory_gb' if so; the same command goes on from the last checkpoint"
    else:
        why = f"its state is {state}, exit code {end.code}" + (f", {end.reason}" if end.reason else "")
        mend = "the same command goes on from the last checkpoint"
    return Problem(f"job {job} ended before the training was complete", f"{why}; its log: {log}", mend)
